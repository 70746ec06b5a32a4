//! `[admin]`: the operators' listener.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use super::{credential::Credential, keys::Keys};

/// `[admin]`: metrics, health and the admin API, on a listener of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// A unix socket beside it, which only its owner may open.
    pub socket: Option<PathBuf>,
    /// What callers of `/admin/v1` must know; required when `address` can be reached from other hosts.
    pub token: Option<Credential>,
}

// === impl Admin ===

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 4874)), socket: None, token: None }
    }
}

impl Admin {
    pub(super) fn read(mut keys: Keys<'_>, environment: &BTreeMap<String, String>) -> Self {
        let address = keys.parsed("address", Self::default().address);
        let socket: Option<String> = keys.optional("socket", None);
        let token = Credential::read_keys(&mut keys, ["token_env", "token_file"], environment);
        let section = Self { address, socket: socket.map(PathBuf::from), token };
        if section.token.is_none() && !section.address.ip().is_loopback() {
            let rule = "must be on loopback, or `admin.token_env` or `admin.token_file` must be given";
            keys.problem("address", format!("\"{}\"", section.address), rule.to_owned());
        }
        keys.finish();
        section
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::{Config, ConfigError};

    #[test]
    fn whoever_can_be_reached_from_elsewhere_needs_a_token() {
        let environment = BTreeMap::from([("TOKEN".to_owned(), " secret ".to_owned())]);
        let read = |text: &str| match Config::parse(&format!("[admin]\n{text}"), &environment) {
            Ok(loaded) => {
                assert!(!loaded.settings.to_toml().contains("secret"));
                String::new()
            }
            Err(ConfigError::Invalid(problems)) => {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            Err(other) => panic!("{other}"),
        };
        for (text, part) in [
            ("", ""),
            ("address = \"[::1]:1\"", ""),
            ("address = \"127.9.9.9:1\"\nsocket = \"run/admin.sock\"", ""),
            ("address = \"0.0.0.0:1\"\ntoken_env = \"TOKEN\"", ""),
            ("address = \"[::]:1\"\ntoken_file = \"t\"", ""),
            ("address = \"0.0.0.0:1\"", "`admin.address` must be on loopback"),
            ("address = \"10.0.0.1:1\"\nsocket = \"s\"", "got \"10.0.0.1:1\""),
            ("address = \"0.0.0.0:1\"\ntoken_env = \"NONE\"", "`admin.token_env` must name"),
            ("token_env = \"TOKEN\"\ntoken_file = \"t\"", "`admin.token_file` must not be given"),
        ] {
            let problems = read(text);
            assert!(problems.contains(part) && problems.is_empty() == part.is_empty(), "{text}: {problems}");
        }
    }
}
