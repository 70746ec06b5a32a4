//! `upstream.proxy`: the HTTP proxy that the gate's connections go out through.
//!
//! Only what the file says counts: `HTTPS_PROXY` and its kin are not read, so that no variable of a shell can send a
//! credential another way.

use std::{collections::BTreeMap, fmt, str::FromStr};

use ipnet::IpNet;

use super::{
    Credential,
    keys::Keys,
    upstream::{Origin, Scheme, is_label, parse_port, split_port},
};

/// The proxy, and who is reached without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// `user:password` for it; `None`: it asks for none.
    pub credential: Option<Credential>,
    /// Hosts that are connected to directly.
    pub exempt: Vec<Exempt>,
}

/// `http://host:port` of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl(Origin);

/// Hosts that are connected to without the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exempt {
    /// `example.com`: the host, and all below it.
    Domain(String),
    /// `.example.com`: all below it.
    Below(String),
    /// Addresses, of hosts that are written as one.
    Network(IpNet),
}

// === impl Proxy ===

impl Proxy {
    /// Reads the keys of it in `[upstream]`.
    pub(super) fn read(keys: &mut Keys<'_>, environment: &BTreeMap<String, String>) -> Option<Self> {
        let url: Option<ProxyUrl> = keys.optional("proxy", None);
        let names = ["proxy_credential_env", "proxy_credential_file"];
        let credential = Credential::read_keys(keys, names, environment);
        let exempt = keys.list("no_proxy", Vec::new());
        Some(Self { url: url?, credential, exempt })
    }

    /// Whether connections to `host` go through it.
    pub fn takes(&self, host: &str) -> bool {
        !self.exempt.iter().any(|exempt| exempt.covers(host))
    }
}

// === impl ProxyUrl ===

impl ProxyUrl {
    /// Host and port.
    pub fn origin(&self) -> &Origin {
        &self.0
    }
}

impl FromStr for ProxyUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be http://, a host and perhaps a port; the credential goes into `proxy_credential_env` or `_file`";
        let Some((Scheme::Http, rest)) = Scheme::split(text) else { return Err(RULE) };
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest));
        let host = host.to_lowercase();
        let port = parse_port(port, Scheme::Http).map_err(|_| RULE)?;
        if host.split('.').all(is_label) {
            Ok(Self(Origin { scheme: Scheme::Http, host, port }))
        } else {
            Err(RULE)
        }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Exempt ===

impl Exempt {
    fn covers(&self, host: &str) -> bool {
        let below = |domain: &str| host.strip_suffix(domain).is_some_and(|start| start.ends_with('.'));
        match self {
            Self::Domain(domain) => host == domain || below(domain),
            Self::Below(domain) => below(domain),
            Self::Network(network) => {
                host.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address))
            }
        }
    }
}

impl FromStr for Exempt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let text = text.to_lowercase();
        let (below, domain) = text.strip_prefix('.').map_or((false, text.as_str()), |domain| (true, domain));
        if !domain.split('.').all(is_label) {
            return Err("must be a host, a domain with a dot before it, an address or a network");
        }
        let domain = domain.to_owned();
        Ok(if below { Self::Below(domain) } else { Self::Domain(domain) })
    }
}

impl fmt::Display for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => f.write_str(domain),
            Self::Below(domain) => write!(f, ".{domain}"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError};

    fn proxy(text: &str) -> Result<Option<Proxy>, String> {
        let environment = BTreeMap::from([("PROXY".to_owned(), "user:planted".to_owned())]);
        match Config::parse(&format!("[upstream]\n{text}"), &environment) {
            Ok(loaded) => {
                assert!(!loaded.settings.to_toml().contains("planted"));
                assert!(!format!("{:?}", loaded.config).contains("planted"));
                Ok(loaded.config.upstream.proxy)
            }
            Err(ConfigError::Invalid(problems)) => {
                Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_proxy_has_a_url_a_credential_and_hosts_that_it_is_not_for() {
        assert_eq!(proxy(""), Ok(None));
        let read = proxy(
            "proxy = \"http://Proxy.corp:3128/\"\nproxy_credential_env = \"PROXY\"\n\
             no_proxy = [\"tfs.corp\", \".Lab.corp\", \"10.0.0.0/8\", \"127.0.0.1\"]\n",
        );
        let proxy = read.unwrap().unwrap();
        assert_eq!(
            (proxy.url.to_string().as_str(), proxy.credential.is_some()),
            ("http://proxy.corp:3128", true)
        );
        let rows = [
            ("pkgs.dev.azure.com", true),
            ("tfs.corp", false),
            ("a.tfs.corp", false),
            ("mytfs.corp", true),
            ("lab.corp", true),
            ("a.lab.corp", false),
            ("10.1.2.3", false),
            ("127.0.0.1", false),
            ("127.0.0.2", true),
        ];
        for (host, expected) in rows {
            assert_eq!(proxy.takes(host), expected, "{host}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "proxy.corp:3128",
            "https://proxy.corp",
            "http://u:secret@proxy.corp:1",
            "http://p/x",
            "http://p:0",
        ] {
            let problem = proxy(&format!("proxy = \"{url}\"\n")).unwrap_err();
            assert!(problem.starts_with("`upstream.proxy` must be http://"), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        let problem = proxy("proxy_credential_env = \"NONE\"\nno_proxy = [\"*\", \"a b\"]\n").unwrap_err();
        assert_eq!(problem.matches("`upstream.").count(), 3, "{problem}");
    }
}
