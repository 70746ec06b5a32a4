//! Values that must never be shown: their `Debug` and `Display` cannot leak.

use std::fmt;

/// A value that prints as `***`. Reading it is a visible act: [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

/// A URL whose query carries a signature (a SAS, facts §3.5). Prints without its query.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl(http::Uri);

// === impl Secret ===

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself; for the place that must send or hash it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl SignedUrl ===

impl SignedUrl {
    /// Wraps an absolute URL.
    pub fn new(url: http::Uri) -> Self {
        Self(url)
    }

    /// The URL with its signature; only for the request line to the blob host.
    pub fn reveal(&self) -> &http::Uri {
        &self.0
    }

    /// Host and port, which may be shown.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", http::uri::Authority::as_str)
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or("-");
        write!(f, "{scheme}://{}{}?***", self.authority(), self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, SignedUrl};

    #[test]
    fn neither_secrets_nor_signatures_print() {
        let secret = Secret::new("pat".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        let url = SignedUrl::new("https://shard.blob/b-1/x.blob?sig=abc".parse().unwrap());
        assert_eq!(format!("{url} {url:?}").matches("sig").count(), 0);
        assert_eq!(url.to_string(), "https://shard.blob/b-1/x.blob?***");
    }
}
