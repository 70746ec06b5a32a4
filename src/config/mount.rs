//! `[[mount]]`: any HTTP origin below a path of the gate, cached by that origin's own headers.

use std::{collections::BTreeMap, time::Duration};

use toml::Table;

use super::{
    audit::RegistryUrl,
    keys::{Findings, Keys},
    organisation::GateCredential,
    text_enum::text_enum,
    upstream::{Base, Scheme, is_segment},
};
use crate::ident::Name;

/// The name of the tables.
const TABLE: &str = "mount";

/// An origin and where clients find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What the paths of the mount begin with; starts and ends with `/`. The first mount that matches is meant, and
    /// none of it reaches a feed: a mount at `/` leaves no room for any.
    pub path: String,
    /// Where its paths begin at the origin. The configuration names it, so it may be any host, also without TLS.
    pub upstream: Base,
    /// How long every response that may be stored is fresh, whatever the origin says; `None`: as it says.
    pub ttl: Option<Duration>,
    /// Whom it lets in.
    pub access: Admission,
    /// The gate's own credential for the origin.
    pub credential: Option<GateCredential>,
}

/// Whom a mount lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Whoever reaches the gate.
    Open,
    /// Holders of a gate token with the first segment of the mount's path among its scopes, where an organisation
    /// would stand; and callers from `access.networks`.
    Gateway(Name),
}

text_enum! {
    /// How `access` is written.
    pub enum AccessText {
        /// [`Admission::Open`].
        Open = "open",
        /// [`Admission::Gateway`].
        Gateway = "gateway",
    }
}

// === impl Mount ===

impl Mount {
    pub(super) fn read_all(
        root: &mut Table,
        findings: &mut Findings,
        environment: &BTreeMap<String, String>,
    ) -> Vec<Self> {
        let read = |keys: Keys<'_>| Self::read(keys, environment);
        Keys::each_once(root, TABLE, findings, ("path", |one| &one.path), read)
    }

    fn read(mut keys: Keys<'_>, environment: &BTreeMap<String, String>) -> Option<Self> {
        let path = keys.required("path", mount_path);
        let upstream =
            keys.required("upstream", |text| text.parse::<RegistryUrl>().map_err(ToString::to_string));
        let ttl = keys.span("ttl", Duration::ZERO, Duration::ZERO);
        let access = keys.parsed("access", AccessText::Open);
        let credential = GateCredential::read(&mut keys, environment);
        let access = match access {
            AccessText::Open => Some(Admission::Open),
            AccessText::Gateway => path.as_deref().and_then(|path| Admission::gateway(path, &mut keys)),
        };
        let upstream = upstream.map(|url| url.base().clone());
        if let (Some(base), true) = (&upstream, credential.is_some())
            && base.origin.scheme == Scheme::Http
            && !is_loopback(&base.origin.host)
        {
            let rule = "must be https:// for an origin that gets a credential".to_owned();
            keys.problem("upstream", format!("\"{}{}\"", base.origin, base.prefix), rule);
        }
        keys.finish();
        let ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
        Some(Self { path: path?, upstream: upstream?, ttl, access: access?, credential })
    }

    /// Whether nothing that a caller shows of itself is for the origin.
    pub fn is_asked_by_gate(&self) -> bool {
        self.credential.is_some() || self.access != Admission::Open
    }
}

// === impl Admission ===

impl Admission {
    pub(super) const OPEN: &str = "open";

    fn gateway(path: &str, keys: &mut Keys<'_>) -> Option<Self> {
        let place = path.split('/').find(|segment| !segment.is_empty()).map(Name::parse);
        let Some(Ok(place)) = place else {
            let rule =
                "must begin with a segment that can be the scope of a gate token, for access \"gateway\"";
            keys.problem("path", format!("\"{path}\""), rule.to_owned());
            return None;
        };
        Some(Self::Gateway(place))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn mount_path(text: &str) -> Result<String, String> {
    let inside = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let plain = text == "/" || inside.is_some_and(|inside| inside.split('/').all(is_segment));
    let rule = "must start and end with `/`, with segments of letters, digits and -._~% between";
    if plain { Ok(text.to_owned()) } else { Err(rule.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::Mount;
    use crate::config::{Config, ConfigError};

    fn mounts(text: &str) -> Result<Vec<Mount>, Vec<String>> {
        let environment = BTreeMap::from([("PAT".to_owned(), "planted".to_owned())]);
        match Config::parse(text, &environment) {
            Ok(loaded) => {
                assert!(!loaded.settings.to_toml().contains("planted"));
                Ok(loaded.config.mounts)
            }
            Err(ConfigError::Invalid(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_mount_has_a_path_and_an_origin_and_perhaps_a_lifetime() {
        let text = "[[mount]]\npath = \"/mirror/a/\"\nupstream = \"https://Host.example/base/\"\nttl = \"5m\"\n\
                    [[mount]]\npath = \"/\"\nupstream = \"http://127.0.0.1:8080\"\n";
        let read = mounts(text).unwrap();
        let seen: Vec<_> = read
            .iter()
            .map(|mount| {
                let Mount { path, upstream, ttl, .. } = mount;
                (path.as_str(), format!("{}{}", upstream.origin, upstream.prefix), *ttl)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("/mirror/a/", "https://host.example/base".to_owned(), Some(Duration::from_secs(300))),
                ("/", "http://127.0.0.1:8080".to_owned(), None),
            ]
        );
    }

    #[test]
    fn a_credential_is_not_lent_to_the_network_nor_sent_in_the_clear() {
        let mount = |path: &str, upstream: &str, more: &str| {
            format!("[[mount]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n{more}\n")
        };
        let far = |rest: &str| mounts(&format!("listen.address = \"0.0.0.0:1\"\n{rest}"));
        let (own, by_token) = ("credential_env = \"PAT\"", "credential_env = \"PAT\"\naccess = \"gateway\"");
        let origin = "https://origin.example";
        let good = [
            mounts(&mount("/m/", origin, own)),
            mounts(&mount("/m/", "http://127.0.0.1:1", own)),
            mounts(&mount("/m/", origin, by_token)),
            far(&mount("/m/", origin, "")),
            far(&format!("access.tokens = \"t\"\n{}", mount("/m/", origin, by_token))),
            far(&format!("access.open = \"{}\"\n{}", crate::config::access::OPEN, mount("/m/", origin, own))),
        ];
        for read in good {
            read.unwrap();
        }
        let bad = [
            (far(&mount("/m/", origin, own)), "`mount[0].access` must be \"gateway\""),
            (
                far(&format!("access.tokens = \"t\"\n{}", mount("/m/", origin, own))),
                "`mount[0].access` must be",
            ),
            (far(&mount("/m/", origin, by_token)), "`listen.address` must be a loopback"),
            (mounts(&mount("/m/", "http://origin.example", own)), "`mount[0].upstream` must be https://"),
            (mounts(&mount("/", origin, by_token)), "`mount[0].path` must begin with a segment"),
        ];
        for (read, expected) in bad {
            let problems = read.unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{expected}: {problems:#?}");
        }
    }

    #[test]
    fn every_mistake_is_reported_with_the_number_of_its_table() {
        let text = "[[mount]]\npath = \"/a\"\nupstream = \"ftp://x\"\n\
                    [[mount]]\npath = \"/a/../\"\nupstream = \"https://x/?y\"\nmax = 1\n\
                    [[mount]]\npath = \"/b/\"\nupstream = \"https://x\"\n\
                    [[mount]]\npath = \"/b/\"\nupstream = \"https://y\"\nttl = \"1\"\n";
        let problems = mounts(text).unwrap_err();
        for part in [
            "`mount[0].path`",
            "`mount[0].upstream`",
            "`mount[1].path`",
            "`mount[1].upstream`",
            "`mount[1].max` is not a known key",
            "is there twice",
            "`mount[3].ttl`",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 7, "{problems:#?}");
    }
}
