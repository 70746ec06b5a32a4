//! Where the service is, and where it may send the gate.
//!
//! A `Location` is untrusted: it leads to an allow-listed blob host, to one of the configured hosts of the
//! service (then it becomes a [`Target`] below the same organisation, so that the gate never asks a host
//! that the configuration does not name), to a sign-in page, or nowhere (SSRF, facts §3.5).

use http::Uri;

use super::{Service, Target, UpstreamError};
use crate::{
    config::{
        Server,
        upstream::{Base, HostPattern, Origin, Scheme, Upstream, UrlTemplate},
    },
    ident::{Name, StorageId},
    redact::SignedUrl,
};

/// Hosts that ask for a sign-in (facts §6); with a leading dot, every host below.
const SIGN_IN_HOSTS: [&str; 5] = [
    ".vssps.visualstudio.com",
    "vssps.dev.azure.com",
    "login.microsoftonline.com",
    "login.windows.net",
    "login.live.com",
];
/// What the path of a sign-in page contains, on any host (facts §6).
const SIGN_IN_PATH: &str = "_signin";
/// The collection that old URLs name and that may be left out (facts §2).
const DEFAULT_COLLECTION: &str = "/defaultcollection/";

/// Where a redirect to a blob host leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobLocation {
    /// The signed URL: short-lived, to be used at once and never kept.
    pub url: SignedUrl,
    /// The content's identity, known before the download if the path has the usual form (facts §3.5).
    pub storage_id: Option<StorageId>,
}

/// Where a redirect leads.
#[derive(Debug, Clone)]
pub enum Onward {
    /// To the bytes.
    Blob(BlobLocation),
    /// To another route of the same organisation.
    Service(Target),
    /// To a sign-in page: the credential was not accepted.
    SignIn,
}

/// The hosts of the service.
#[derive(Debug, Clone)]
pub struct Sites {
    pkgs: UrlTemplate,
    feeds: UrlTemplate,
    /// Other spellings of the service's hosts, which may stand in a `Location`.
    aliases: Vec<(Service, UrlTemplate)>,
    servers: Vec<Server>,
    blob_hosts: Vec<HostPattern>,
}

// === impl Sites ===

impl Sites {
    /// The hosts that the settings name.
    pub fn new(settings: &Upstream) -> Self {
        let aliases = vec![
            (Service::Pkgs, UrlTemplate::of_path("pkgs.dev.azure.com")),
            (Service::Pkgs, UrlTemplate::of_host("pkgs.visualstudio.com")),
            (Service::Feeds, UrlTemplate::of_path("feeds.dev.azure.com")),
            (Service::Feeds, UrlTemplate::of_host("feeds.visualstudio.com")),
        ];
        Self {
            pkgs: settings.pkgs.clone(),
            feeds: settings.feeds.clone(),
            aliases,
            servers: settings.servers.clone(),
            blob_hosts: settings.blob_hosts.clone(),
        }
    }

    /// The server of one's own of which `org` is a collection: it is both of the service's hosts.
    pub fn server(&self, org: &Name) -> Option<&Server> {
        self.servers.iter().find(|server| server.collection == *org)
    }

    /// Where the routes of `org` on `service` begin.
    pub fn base(&self, service: Service, org: &Name) -> Result<Base, UpstreamError> {
        if let Some(server) = self.server(org) {
            return Ok(server.url.base().clone());
        }
        let template = match service {
            Service::Pkgs => &self.pkgs,
            Service::Feeds => &self.feeds,
        };
        template.render(org).map_err(|e| UpstreamError::Request(e.to_string()))
    }

    /// Host and request-target of a download, if its host is on the allow-list.
    pub fn blob(&self, url: &SignedUrl) -> Result<(Origin, String), UpstreamError> {
        let (origin, path) = place(url.reveal())?;
        if self.is_blob_host(&origin) { Ok((origin, path)) } else { Err(refused(&origin)) }
    }

    /// Where `location`, received from `from`, leads.
    pub fn onward(&self, from: &Target, location: &str) -> Result<Onward, UpstreamError> {
        let bad = |_| UpstreamError::Redirect("location is not a URL".into());
        let uri: Uri = self.absolute(from, location)?.parse().map_err(bad)?;
        let (origin, path) = place(&uri)?;
        let (blob_host, storage_id) = (self.is_blob_host(&origin), storage_id(uri.path()));
        // The usual form of a blob first; then what is told by its path, because in a test set-up one host
        // may be everything; any other path on a blob host last.
        if !(blob_host && storage_id.is_some()) {
            if is_sign_in(&origin, uri.path()) {
                return Ok(Onward::SignIn);
            }
            if let Some(target) = self.own(from, &origin, &path) {
                return Ok(Onward::Service(target));
            }
        }
        if !blob_host {
            return Err(refused(&origin));
        }
        Ok(Onward::Blob(BlobLocation { url: SignedUrl::new(uri), storage_id }))
    }

    /// A location is a reference, "relative to the target URI" (RFC 9110 §10.2.2); resolved as RFC 3986 §5.2 has it.
    fn absolute(&self, from: &Target, location: &str) -> Result<String, UpstreamError> {
        let end = location.find(['/', '?', '#']).unwrap_or(location.len());
        if location.is_empty() || location[..end].contains(':') {
            return Ok(location.to_owned());
        }
        let (origin, asked) = match from {
            Target::Service { service, org, path } => {
                let Base { origin, prefix } = self.base(*service, org)?;
                (origin, prefix + path)
            }
            Target::Blob(url) => self.blob(url)?,
        };
        if location.starts_with("//") {
            return Ok(format!("{}:{location}", origin.scheme.as_str()));
        }
        let asked = asked.split('?').next().unwrap_or_default();
        let path = match location.as_bytes()[0] {
            b'/' => location.to_owned(),
            b'?' | b'#' => format!("{asked}{location}"),
            _ => format!("{}/{location}", asked.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Ok(format!("{origin}{}", without_dots(&path)))
    }

    fn own(&self, from: &Target, origin: &Origin, path: &str) -> Option<Target> {
        let Target::Service { org, service: asked, .. } = from else { return None };
        if let Some(server) = self.server(org) {
            let path = server.url.below(origin, path)?.to_owned();
            return Some(Target::Service { service: *asked, org: org.clone(), path });
        }
        let configured = [(Service::Pkgs, &self.pkgs), (Service::Feeds, &self.feeds)];
        let aliases = self.aliases.iter().map(|(service, template)| (*service, template));
        let (service, path) = configured
            .into_iter()
            .chain(aliases)
            .find_map(|(service, template)| Some((service, template.below(org, origin, path)?)))?;
        Some(Target::Service { service, org: org.clone(), path: without_collection(path).to_owned() })
    }

    fn is_blob_host(&self, origin: &Origin) -> bool {
        self.blob_hosts.iter().any(|pattern| pattern.matches(origin))
    }
}

/// Origin and request-target of an absolute URL.
fn place(uri: &Uri) -> Result<(Origin, String), UpstreamError> {
    let bad = |what: &str| UpstreamError::Redirect(format!("location {what}"));
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(bad("has no http or https scheme")),
    };
    let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("has a user name"));
    }
    let port = uri.port_u16().unwrap_or(scheme.default_port());
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok((Origin { scheme, host: authority.host().to_lowercase(), port }, path))
}

fn refused(origin: &Origin) -> UpstreamError {
    UpstreamError::Redirect(format!("{origin} is not a host that downloads may come from"))
}

fn is_sign_in(origin: &Origin, path: &str) -> bool {
    let host = origin.host.as_str();
    let of = |name: &str| if name.starts_with('.') { host.ends_with(name) } else { host == name };
    SIGN_IN_HOSTS.into_iter().any(of) || path.to_ascii_lowercase().contains(SIGN_IN_PATH)
}

/// RFC 3986 §5.2.4.
fn without_dots(reference: &str) -> String {
    let (path, rest) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let folder = if path.ends_with("/.") || path.ends_with("/..") { "/" } else { "" };
    format!("/{}{folder}{rest}", kept.join("/"))
}

fn without_collection(path: &str) -> &str {
    let length = DEFAULT_COLLECTION.len();
    match path.split_at_checked(length) {
        Some((start, _)) if start.eq_ignore_ascii_case(DEFAULT_COLLECTION) => &path[length - 1..],
        _ => path,
    }
}

/// The content's identity in `/b-{container}/{66 hex}.blob` (facts §3.5).
fn storage_id(path: &str) -> Option<StorageId> {
    let (container, file) = path.strip_prefix("/b-")?.split_once('/')?;
    let hex = !container.is_empty() && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    file.strip_suffix(".blob").filter(|_| hex)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";

    fn onward(location: &str) -> String {
        let org = Name::parse("contoso").unwrap();
        let from = Target::Service { service: Service::Pkgs, org, path: "/x".into() };
        match Sites::new(&Upstream::default()).onward(&from, location) {
            Ok(Onward::Blob(blob)) => format!("blob {:?}", blob.storage_id.map(|id| id.to_string())),
            Ok(Onward::Service(Target::Service { service, org, path })) => {
                format!("{service:?} {org} {path}")
            }
            Ok(Onward::SignIn) => "sign-in".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_location_leads_to_bytes_to_the_service_or_to_a_sign_in() {
        let shard = "https://k0ivsblobprodcus356.blob.core.windows.net";
        let rows = [
            (format!("{shard}/b-4712e0ed/{ID}.blob?sig=x"), format!("blob Some({ID:?})")),
            (format!("{shard}/b-4712e0ed/{}.blob", ID.to_lowercase()), format!("blob Some({ID:?})")),
            (format!("{shard}/b-4712e0ed/{ID}.blob/x?sig=x"), "blob None".into()),
            (format!("{shard}/c-4712e0ed/{ID}.blob"), "blob None".into()),
            (format!("{shard}/b-xyz/{ID}.blob"), "blob None".into()),
            (
                "https://pkgs.dev.azure.com/Contoso/_packaging/f/x?a=b".into(),
                "Pkgs contoso /_packaging/f/x?a=b".into(),
            ),
            (
                "https://contoso.pkgs.visualstudio.com/DefaultCollection/_packaging/f/x".into(),
                "Pkgs contoso /_packaging/f/x".into(),
            ),
            ("https://feeds.dev.azure.com/contoso/_apis/x".into(), "Feeds contoso /_apis/x".into()),
            ("/contoso/_packaging/f/y".into(), "Pkgs contoso /_packaging/f/y".into()),
            ("y?a=b/../c".into(), "Pkgs contoso /y?a=b/../c".into()),
            ("./d/../y/.".into(), "Pkgs contoso /y/".into()),
            ("../../contoso/y".into(), "Pkgs contoso /y".into()),
            ("?a=b".into(), "Pkgs contoso /x?a=b".into()),
            ("//pkgs.dev.azure.com/contoso/y".into(), "Pkgs contoso /y".into()),
            ("https://app.vssps.visualstudio.com/x".into(), "sign-in".into()),
            ("https://spsprodweu1.vssps.visualstudio.com/_signin?realm=x".into(), "sign-in".into()),
            ("https://login.microsoftonline.com/common".into(), "sign-in".into()),
            ("https://pkgs.dev.azure.com/contoso/_SignIn".into(), "sign-in".into()),
        ];
        for (location, expected) in rows {
            assert_eq!(onward(&location), expected, "{location}");
        }
    }

    #[test]
    fn a_location_elsewhere_is_refused_without_its_query() {
        let rows = [
            "https://evil.example/b-1/x.blob?sig=secret",
            "https://pkgs.dev.azure.com/fabrikam/_packaging/x?sig=secret",
            "https://fabrikam.pkgs.visualstudio.com/_packaging/x?sig=secret",
            "http://pkgs.dev.azure.com/contoso/x?sig=secret",
            "http://k0ivsblobprodcus356.blob.core.windows.net/x?sig=secret",
            "https://k0ivsblobprodcus356.blob.core.windows.net@evil.example/x?sig=secret",
            "https://pkgs.dev.azure.com:8443/contoso/x?sig=secret",
            "ftp://pkgs.dev.azure.com/contoso/x?sig=secret",
            "//evil.example/contoso/x?sig=secret",
            "../fabrikam/x?sig=secret",
            "../contoso/../fabrikam/x?sig=secret",
            "/contoso/../fabrikam/x?sig=secret",
            "evil.example:443/x?sig=secret",
            "javascript:x?sig=secret",
            "https://169.254.169.254/metadata?sig=secret",
            "https://notvssps.visualstudio.com.evil.example/?sig=secret",
            "",
        ];
        for location in rows {
            let text = onward(location);
            assert!(text.starts_with("Err(Redirect("), "{location}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_server_is_both_hosts_and_redirects_within_its_collection_only() {
        let url = "https://tfs.example.com/tfs/DefaultCollection";
        let collection = Name::parse("DefaultCollection").unwrap();
        let server = Server { collection, url: url.parse().unwrap() };
        let sites = Sites::new(&Upstream { servers: vec![server], ..Upstream::default() });
        let org = Name::parse("defaultcollection").unwrap();
        for service in [Service::Pkgs, Service::Feeds] {
            let base = sites.base(service, &org).unwrap();
            assert_eq!(format!("{}{}", base.origin, base.prefix), url);
        }
        let from = Target::Service { service: Service::Feeds, org, path: "/x".into() };
        let onward = |location: &str| match sites.onward(&from, location) {
            Ok(Onward::Service(Target::Service { service, path, .. })) => format!("{service:?} {path}"),
            other => format!("{other:?}"),
        };
        assert_eq!(onward(&format!("{url}/_packaging/f")), "Feeds /_packaging/f");
        assert_eq!(onward("/TFS/DefaultCollection/DefaultCollection/y"), "Feeds /DefaultCollection/y");
        for location in [
            "https://tfs.example.com/tfs/Other/x",
            "http://tfs.example.com/tfs/DefaultCollection/x",
            "https://pkgs.dev.azure.com/DefaultCollection/x",
        ] {
            assert!(onward(location).starts_with("Err(Redirect("), "{location}");
        }
    }

    #[test]
    fn a_blob_hosts_redirect_never_gets_the_credential() {
        let sites = Sites::new(&Upstream::default());
        let from: Uri = "https://avsblobprod1.vsblob.vsassets.io/x".parse().unwrap();
        let from = Target::Blob(SignedUrl::new(from));
        let there = sites.onward(&from, "https://pkgs.dev.azure.com/contoso/x");
        assert!(matches!(there, Err(UpstreamError::Redirect(_))), "{there:?}");
        assert!(matches!(sites.onward(&from, "/y?sig=z"), Ok(Onward::Blob(_))));
    }
}
