//! A plain reading of URLs, to hold the rewriting of whole documents against.

use std::sync::Arc;

use feedgate::document::rewrite::{PublicBase, Rewriter, ServiceHosts};

/// The gate's own URLs begin with it.
pub(crate) const GATE: &str = "http://gate:4873";

/// Host names of the service without an organisation in them.
const HOSTS: [&str; 2] = ["pkgs.dev.azure.com", "feeds.dev.azure.com"];

/// Ends of the host names of organisations.
const ORGANISATIONS: [&str; 2] = [".pkgs.visualstudio.com", ".feeds.visualstudio.com"];

/// Ends of the names of blob hosts.
const BLOBS: [&str; 2] = [".vsblob.vsassets.io", ".vsblob.visualstudio.com"];

/// The longest host with its port: no name server knows a longer one.
const LONGEST_HOST: usize = 264;

/// A rewriter from the hosted service to [`GATE`], or to the service's own host names with `subdomain`.
pub(crate) fn rewriter(subdomain: bool) -> Rewriter {
    let base = if subdomain {
        PublicBase::Subdomain { origin: "https://{org}.pkgs.visualstudio.com".to_owned() }
    } else {
        PublicBase::Path { origin: GATE.to_owned() }
    };
    let hosts = ServiceHosts::new::<&str>(&[]).expect("no template");
    Rewriter::new(Arc::new(hosts), &base).expect("a usable base")
}

/// Authority without user information, and what follows it, of an http or https URL.
fn split(url: &str) -> Option<(&str, &str)> {
    let scheme =
        |scheme: &&str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let rest = &url[["http://", "https://"].into_iter().find(scheme)?.len()..];
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    authority.bytes().all(plain).then_some(())?;
    let host = authority.rsplit('@').next().unwrap_or_default();
    (host.len() <= LONGEST_HOST).then_some((host, rest))
}

/// Whether `url` starts with a URL of the service.
pub(crate) fn is_service(url: &str) -> bool {
    let Some((authority, _)) = split(url) else { return false };
    let authority = authority.to_ascii_lowercase();
    let port = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let (host, port) = port.unwrap_or((&authority, ""));
    let host = host.strip_suffix('.').unwrap_or(host);
    let ends = |end: &&str| host.ends_with(*end);
    HOSTS.contains(&host) && matches!(port, "" | "80" | "443")
        || ORGANISATIONS.iter().chain(&BLOBS).any(ends)
        || host.ends_with(".blob.core.windows.net") && host.contains("vsblobprod")
}

/// Whether `after` is the gate's URL for the service's URL `before`.
pub(crate) fn is_mapped(before: &str, after: &str) -> bool {
    let Some((authority, rest)) = split(before) else { return false };
    let own = after.strip_prefix(GATE);
    let label = authority.split('.').next().unwrap_or_default();
    is_service(before)
        && own.is_some_and(|own| own == rest || own.strip_prefix('/') == Some(&format!("{label}{rest}")))
}
