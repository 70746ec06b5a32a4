//! `[upstream]`: where the service is, which hosts its downloads may come from, and how long to wait for it.
//!
//! Plain validated values: a [`UrlTemplate`] always yields a URL that can be asked, and a [`HostPattern`]
//! never matches more than hosts below a fixed domain, so the parts that use them do not check again.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{egress::Proxy, server::Server};
use crate::ident::Name;

/// What stands for the organisation in a template.
const ORG: &str = "{org}";
/// Longest label of a host name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;
/// Characters of a path segment that are sent as they are (RFC 3986 §2.3, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Settings of the way to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Protocol routes and package REST. Default `https://pkgs.dev.azure.com/{org}` (facts §2).
    pub pkgs: UrlTemplate,
    /// Feed management REST. Default `https://feeds.dev.azure.com/{org}` (facts §2).
    pub feeds: UrlTemplate,
    /// `[[server]]`: collections of servers of one's own, each in the place of an organisation. Default: none.
    pub servers: Vec<Server>,
    /// Hosts that a download may be redirected to. Default: the service's two blob domains (facts §3.5).
    pub blob_hosts: Vec<HostPattern>,
    /// Networks with special addresses (private, loopback, link-local, …) that names may resolve to. Default: none.
    pub private_networks: Vec<IpNet>,
    /// The HTTP proxy that connections go out through. Default: none.
    pub proxy: Option<Proxy>,
    /// PEM file with the authorities to trust instead of the system's; for a test service or a proxy that
    /// terminates TLS.
    pub ca_file: Option<PathBuf>,
    /// Longest time for resolving, connecting and the TLS handshake together. Default 10 s: a lost SYN is
    /// repeated after 1, 3 and 7 s, so three losses are survived and a dead host is known before a client
    /// gives up.
    pub connect_timeout: Duration,
    /// Longest time from the request to the head of the response. Default 90 s: the service delays requests
    /// by up to 30 s and has taken 32 s for one document (facts §3.1, §7.1), and `nuget` gives up after 100 s.
    pub first_byte_timeout: Duration,
    /// Longest time between two reads of a body. Default 30 s, the service's own longest delay (facts §7.1).
    pub idle_timeout: Duration,
    /// Bytes a second below which a body that keeps coming uses up `idle_timeout`. Default 1 KiB: what comes more slowly
    /// is no line of any kind, and would hold its permit and all who wait for hours.
    pub min_rate: u64,
    /// Longest time from the head of a document to its end. Default 2 min: the largest packument known (39.7 MB,
    /// facts §3.1) over a line of 3 Mbit/s. What comes before the head has limits of its own, and packages may
    /// take as long as they move.
    pub document_timeout: Duration,
    /// Most idle connections that are kept for later. Default 128: the usual number in flight to the API
    /// hosts plus a few for each blob shard that is in use.
    pub keepalive_connections: usize,
    /// Largest document (decoded) that is taken, in bytes. Default 128 MiB: three times the largest
    /// packument known (39.7 MB, facts §3.1).
    pub max_document_size: u64,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text; for a test service.
    Http,
    /// TLS.
    Https,
}

/// Scheme, host and port: what a connection is made to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Scheme.
    pub scheme: Scheme,
    /// Host name or IPv4 address, lower case.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Where the routes of one organisation begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Host to connect to.
    pub origin: Origin,
    /// What stands before every path: empty, or starts with `/` and does not end with one.
    pub prefix: String,
}

/// The URL of a host of the service with `{org}` in it, as one label of the host or one segment of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    origin: Origin,
    prefix: String,
}

/// Why a text is not a [`UrlTemplate`], or why it has no URL for an organisation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlTemplateError {
    /// Not `http://` or `https://`.
    #[error("URL must start with `https://` or `http://`")]
    Scheme,
    /// `{org}` is missing, doubled, or only a part of a label or segment.
    #[error("URL must contain `{{org}}` exactly once, as a whole label of the host or segment of the path")]
    Org,
    /// The host is not a name or an IPv4 address.
    #[error("host `{0}` is not a host name or an IPv4 address")]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("port `{0}` is not a number from 1 to 65535")]
    Port(String),
    /// The path has something that cannot be sent, a query or a fragment.
    #[error("path `{0}` has a character that is not allowed, a query or a fragment")]
    Path(String),
    /// A server's URL ends at its host.
    #[error("URL must end with the path of a collection, such as `/tfs/DefaultCollection`")]
    Collection,
    /// The organisation's name cannot be a label of a host name.
    #[error("organisation `{0}` cannot be a part of a host name")]
    Label(String),
}

/// Which hosts a download may come from: a host name with `*` for any letters, digits and hyphens, a scheme
/// and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// Why a text is not a [`HostPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostPatternError {
    /// A port without a scheme: it would be unclear whether TLS is meant.
    #[error("`{0}` names a port, so it needs its scheme too, such as `https://{0}`")]
    SchemeMissing(String),
    /// Something stands after the host and port.
    #[error("`{0}` must be a host, without a path")]
    Path(String),
    /// The host has a character that no host name has.
    #[error("host `{0}` has a character other than letters, digits, `-`, `.` and `*`")]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("port `{0}` is not a number from 1 to 65535")]
    Port(String),
    /// A wildcard in the domain itself.
    #[error("`{0}` is too wide: the last two labels must not have a `*`")]
    Wide(String),
}

// === impl Upstream ===

impl Default for Upstream {
    fn default() -> Self {
        Self {
            pkgs: UrlTemplate::of_path("pkgs.dev.azure.com"),
            feeds: UrlTemplate::of_path("feeds.dev.azure.com"),
            servers: Vec::new(),
            blob_hosts: vec![
                HostPattern::over_tls("*vsblobprod*.vsblob.vsassets.io"),
                HostPattern::over_tls("*vsblobprod*.blob.core.windows.net"),
            ],
            private_networks: Vec::new(),
            proxy: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(90),
            idle_timeout: Duration::from_secs(30),
            min_rate: 1 << 10,
            document_timeout: Duration::from_secs(120),
            keepalive_connections: 128,
            max_document_size: 128 << 20,
        }
    }
}

// === impl Scheme ===

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Splits `scheme://rest`; schemes are compared without case (RFC 3986 §3.1).
    pub fn split(url: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        if scheme.eq_ignore_ascii_case("https") {
            Some((Self::Https, rest))
        } else {
            scheme.eq_ignore_ascii_case("http").then_some((Self::Http, rest))
        }
    }
}

// === impl Origin ===

impl Origin {
    /// Host, and the port when it is not the scheme's own: the value of a `Host` header.
    pub fn authority(&self) -> String {
        authority(self.scheme, &self.host, self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

// === impl UrlTemplate ===

impl UrlTemplate {
    /// `https://{host}/{org}`: the form of the newer hosts (facts §2). `host` must be a valid name.
    pub(crate) fn of_path(host: &str) -> Self {
        let origin = Origin { scheme: Scheme::Https, host: host.to_owned(), port: 443 };
        Self { origin, prefix: format!("/{ORG}") }
    }

    /// `https://{org}.{domain}`: the form of the older hosts (facts §2). `domain` must be a valid name.
    pub(crate) fn of_host(domain: &str) -> Self {
        let origin = Origin { scheme: Scheme::Https, host: format!("{ORG}.{domain}"), port: 443 };
        Self { origin, prefix: String::new() }
    }

    /// Scheme of every URL that comes of this template.
    pub fn scheme(&self) -> Scheme {
        self.origin.scheme
    }

    /// Where the routes of `org` begin. Fails only if `{org}` is in the host and `org` cannot be a label.
    pub fn render(&self, org: &Name) -> Result<Base, UrlTemplateError> {
        let host = if self.origin.host.contains(ORG) {
            self.origin.host.replace(ORG, label(org)?)
        } else {
            self.origin.host.clone()
        };
        let org = utf8_percent_encode(org.as_str(), SEGMENT).to_string();
        Ok(Base { origin: Origin { host, ..self.origin.clone() }, prefix: self.prefix.replace(ORG, &org) })
    }

    /// The path below the routes of `org`, if `origin` and `path` (with query) lie there. The literal part
    /// is compared without case, as the service does (facts §2).
    pub fn below<'a>(&self, org: &Name, origin: &Origin, path: &'a str) -> Option<&'a str> {
        let base = self.render(org).ok().filter(|base| base.origin == *origin)?;
        let (start, rest) = path.split_at_checked(base.prefix.len())?;
        (start.eq_ignore_ascii_case(&base.prefix) && rest.starts_with('/')).then_some(rest)
    }
}

impl FromStr for UrlTemplate {
    type Err = UrlTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = Scheme::split(text).ok_or(UrlTemplateError::Scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority);
        let host = host.to_lowercase();
        let port = parse_port(port, scheme).map_err(|port| UrlTemplateError::Port(port.to_owned()))?;
        let prefix = path.trim_end_matches('/');
        let parts = || host.split('.').chain(prefix.split('/').skip(1));
        if text.matches(ORG).count() != 1 || parts().filter(|part| *part == ORG).count() != 1 {
            return Err(UrlTemplateError::Org);
        }
        if !host.split('.').all(|label| label == ORG || is_label(label)) {
            return Err(UrlTemplateError::Host(host));
        }
        if !prefix.split('/').skip(1).all(|segment| segment == ORG || is_segment(segment)) {
            return Err(UrlTemplateError::Path(path.to_owned()));
        }
        Ok(Self { origin: Origin { scheme, host, port }, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

// === impl HostPattern ===

impl HostPattern {
    /// A pattern over https on 443. `host` must be a valid pattern.
    fn over_tls(host: &str) -> Self {
        Self { scheme: Scheme::Https, host: host.to_owned(), port: 443 }
    }

    /// Whether a download may come from `origin`.
    pub fn matches(&self, origin: &Origin) -> bool {
        self.scheme == origin.scheme
            && self.port == origin.port
            && glob(self.host.as_bytes(), origin.host.as_bytes())
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = match Scheme::split(text) {
            Some((scheme, rest)) => (scheme, rest),
            None if text.contains(':') => return Err(HostPatternError::SchemeMissing(text.to_owned())),
            None => (Scheme::Https, text),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(HostPatternError::Path(text.to_owned()));
        }
        let (host, port) = split_port(rest);
        let host = host.to_lowercase();
        let port = parse_port(port, scheme).map_err(|port| HostPatternError::Port(port.to_owned()))?;
        if !host.split('.').all(|label| is_label(&label.replace('*', "a"))) {
            return Err(HostPatternError::Host(host));
        }
        if host.rsplit('.').take(2).any(|label| label.contains('*')) {
            return Err(HostPatternError::Wide(host));
        }
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (self.scheme, self.port) == (Scheme::Https, 443) {
            f.write_str(&self.host)
        } else {
            // The port is always written: without it a reader would have to know the scheme's own.
            write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
        }
    }
}

fn authority(scheme: Scheme, host: &str, port: u16) -> String {
    if port == scheme.default_port() { host.to_owned() } else { format!("{host}:{port}") }
}

pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

pub(super) fn parse_port(port: Option<&str>, scheme: Scheme) -> Result<u16, &str> {
    let Some(text) = port else { return Ok(scheme.default_port()) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(text)
}

fn label(org: &Name) -> Result<&str, UrlTemplateError> {
    Some(org.folded()).filter(|org| is_label(org)).ok_or_else(|| UrlTemplateError::Label(org.to_string()))
}

pub(super) fn is_label(label: &str) -> bool {
    let letters = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    letters && !label.is_empty() && label.len() <= MAX_LABEL
}

pub(super) fn is_segment(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

/// Whether `text` has the form of `pattern`; `*` stands for any characters of one label, or none.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            let label = text.iter().take_while(|byte| **byte != b'.').count();
            (0..=label).any(|taken| glob(rest, &text[taken..]))
        }
        Some((byte, rest)) => text.split_first().is_some_and(|(b, text)| b == byte && glob(rest, text)),
    }
}

#[cfg(test)]
mod tests;
