//! What a web page may make a browser do, where somebody needs to show nothing to be let in: the browser is at an address
//! that is trusted, and the page is not.
//!
//! Two things are looked at. What changes anything must not come from a page of another origin. And where whoever is on
//! the gate's own machine is let in, `Host` must be a name that nobody else can have pointed there: a page whose own
//! name is suddenly that of this machine (DNS rebinding) may read what it gets.

use std::net::IpAddr;

use http::{HeaderMap, header, uri::Authority};

/// Ends of names that no stranger can register (RFC 6761, and `.internal`), and of the service's own hosts, which DNS may
/// point at the gate.
const NOBODY_ELSES: [&str; 6] = [
    ".localhost",
    ".test",
    ".internal",
    ".dev.azure.com",
    ".pkgs.visualstudio.com",
    ".feeds.visualstudio.com",
];

/// Whether a browser sent a request for a page of another origin. Programs send neither header.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let own = |origin: &str| origin.split_once("://").map(|(_, authority)| authority) == text("host");
    !origin.to_str().is_ok_and(own)
}

/// Whether `Host` is an address or localhost. HTTP/2 has none: there the name is that of a certificate.
pub fn names_address(headers: &HeaderMap) -> bool {
    host(headers).is_none_or(|host| host.is_ok_and(|host| is_address(&host)))
}

/// Whether `Host` cannot be a stranger's name: an address, a name without a dot or of those that nobody can register, or
/// `own`.
pub(super) fn names_gate(headers: &HeaderMap, own: Option<&str>) -> bool {
    let is_own = |host: &str| {
        let bare = host.trim_end_matches('.');
        !bare.contains('.') || NOBODY_ELSES.iter().any(|end| bare.ends_with(end)) || own == Some(bare)
    };
    host(headers).is_none_or(|host| host.is_ok_and(|host| is_address(&host) || is_own(&host)))
}

/// Host in lower case, without its port and brackets; an error where it is none.
fn host(headers: &HeaderMap) -> Option<Result<String, http::uri::InvalidUri>> {
    let authority = Authority::try_from(headers.get(header::HOST)?.as_bytes());
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Some(authority.map(|authority| bare(authority.host())))
}

fn is_address(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{names_address, names_gate};

    #[test]
    fn a_name_that_a_stranger_can_have_is_not_the_gates() {
        for (host, address, gate) in [
            ("127.0.0.1:4873", true, true),
            ("[::1]:4873", true, true),
            ("LOCALHOST", true, true),
            ("feedgate:4873", false, true),
            ("gate.test", false, true),
            ("pkgs.dev.azure.com", false, true),
            ("contoso.pkgs.visualstudio.com", false, true),
            ("packages.contoso.com:4873", false, true),
            ("rebound.example.com:4873", false, false),
            ("127.0.0.1.example.com", false, false),
            ("localhost.example.com.", false, false),
            ("evil.com:80:80", false, false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(names_address(&headers), address, "{host}");
            assert_eq!(names_gate(&headers, Some("packages.contoso.com")), gate, "{host}");
        }
        assert!(names_address(&HeaderMap::new()) && names_gate(&HeaderMap::new(), None));
    }
}
