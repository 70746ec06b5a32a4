//! `[[listener]]`: more places where clients reach the gate, each with its own certificate or its own proxies in front.

use std::{fmt, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use toml::{Table, Value};

use super::{
    keys::{Findings, Keys},
    text_enum::text_enum,
};

/// The name of the tables.
const TABLE: &str = "listener";

/// A listener for clients, beside `listen.address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Its certificate; none for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// What is believed of proxies in front of it.
    pub forwarded: Forwarded,
    /// Networks of those proxies.
    pub trusted: Vec<IpNet>,
}

/// PEM files of a TLS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of the certificates that clients must show; none asks for no certificate.
    pub client_ca: Option<PathBuf>,
}

text_enum! {
    /// How a proxy in front of a listener says for whom it speaks.
    pub enum Forwarded {
        /// Not at all.
        None = "none",
        /// A PROXY header of version 1 or 2 before anything else; connections without one are closed.
        ProxyProtocol = "proxy-protocol",
        /// `X-Forwarded-For`, `-Proto` and `-Host`.
        Headers = "x-forwarded",
    }
}

// === impl Listener ===

impl Listener {
    pub(super) fn read_all(root: &mut Table, findings: &mut Findings) -> Vec<Self> {
        Keys::each(root, TABLE, findings, Self::read)
    }

    fn read(mut keys: Keys<'_>) -> Option<Self> {
        let address =
            keys.required("address", |text| text.parse().map_err(|_| "must be an address and a port".into()));
        let tls = TlsFiles::read(&mut keys);
        let forwarded = keys.parsed("forwarded", Forwarded::None);
        let trusted: Vec<IpNet> = keys.list("trusted", Vec::new());
        if (forwarded == Forwarded::None) != trusted.is_empty() {
            let shown = trusted.iter().map(|network| Value::String(network.to_string())).collect();
            let rule = "must name networks if, and only if, `forwarded` is not \"none\"".to_owned();
            keys.problem("trusted", Value::Array(shown).to_string(), rule);
        }
        keys.finish();
        Some(Self { address: address?, tls, forwarded, trusted })
    }
}

// === impl TlsFiles ===

impl TlsFiles {
    fn read(keys: &mut Keys<'_>) -> Option<Self> {
        let mut file = |key: &str| keys.optional(key, None::<FilePath>).map(|path| path.0);
        let (certificate, key, client_ca) = (file("certificate"), file("key"), file("client_ca"));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self { certificate, key, client_ca }),
            (None, None) => {
                if let Some(path) = client_ca {
                    let value = Value::String(path.display().to_string()).to_string();
                    keys.problem("client_ca", value, "needs `certificate` and `key` beside it".into());
                }
                None
            }
            (Some(_), None) => {
                keys.problem("key", "nothing".into(), "must be given beside `certificate`".into());
                None
            }
            (None, Some(_)) => {
                keys.problem("certificate", "nothing".into(), "must be given beside `key`".into());
                None
            }
        }
    }
}

/// A path that reads and writes itself like the other values.
struct FilePath(PathBuf);

impl std::str::FromStr for FilePath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Forwarded, Listener};
    use crate::config::{Config, ConfigError};

    fn listeners(text: &str) -> Result<Vec<Listener>, Vec<String>> {
        match Config::parse(text, &BTreeMap::new()) {
            Ok(loaded) => Ok(loaded.config.listeners),
            Err(ConfigError::Invalid(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_listener_has_an_address_and_perhaps_a_certificate_and_proxies() {
        let text = "[[listener]]\naddress = \"[::]:80\"\n\
                    [[listener]]\naddress = \"0.0.0.0:443\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n\
                    forwarded = \"x-forwarded\"\ntrusted = [\"10.0.0.0/8\", \"fd00::/8\"]\n";
        let found = listeners(text).unwrap();
        assert_eq!((found[0].tls.is_none(), found[0].forwarded), (true, Forwarded::None));
        assert!(found[1].tls.as_ref().is_some_and(|tls| tls.client_ca.is_none()));
        assert_eq!((found[1].forwarded, found[1].trusted.len()), (Forwarded::Headers, 2));
    }

    #[test]
    fn halves_of_settings_are_mistakes() {
        let rows = [
            ("", "`listener[0].address` must be given"),
            ("address = \"80\"\n", "`listener[0].address` must be an address"),
            ("address = \"[::]:1\"\ncertificate = \"c\"\n", "`listener[0].key` must be given"),
            ("address = \"[::]:1\"\nkey = \"c\"\n", "`listener[0].certificate` must be given"),
            ("address = \"[::]:1\"\nclient_ca = \"c\"\n", "`listener[0].client_ca` needs"),
            ("address = \"[::]:1\"\nforwarded = \"x-forwarded\"\n", "`listener[0].trusted` must name"),
            ("address = \"[::]:1\"\ntrusted = [\"10.0.0.0/8\"]\n", "`listener[0].trusted` must name"),
            ("address = \"[::]:1\"\nforwarded = \"maybe\"\n", "`listener[0].forwarded`"),
        ];
        for (text, expected) in rows {
            let problems = listeners(&format!("[[listener]]\n{text}")).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }
}
