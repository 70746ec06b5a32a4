//! URLs as far as the test client needs them.

use std::io;

/// An `http` or `https` URL, taken apart but not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// `host[:port]`, as written.
    pub authority: String,
    /// Path and query, `/` if there is none.
    pub target: String,
}

// === impl Url ===

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// When the scheme is another.
    pub fn parse(url: &str) -> io::Result<Self> {
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a URL: {url}"))),
        };
        let at = rest.find('/').unwrap_or(rest.len());
        let target = if at == rest.len() { "/".to_owned() } else { rest[at..].to_owned() };
        Ok(Self { tls, authority: rest[..at].to_owned(), target })
    }

    /// The host without the port.
    pub fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host)
    }

    /// The port, or the scheme's own.
    pub fn port(&self) -> u16 {
        let own = self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        own.unwrap_or(if self.tls { 443 } else { 80 })
    }
}
