//! `[[mount]]`: any HTTP origin below a path of the gate, cached by that origin's own headers.

use std::time::Duration;

use toml::Table;

use super::{
    audit::RegistryUrl,
    keys::{Findings, Keys, Problem},
    upstream::{Base, is_segment},
};

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
}

// === impl Mount ===

impl Mount {
    pub(super) fn read_all(root: &mut Table, findings: &mut Findings) -> Vec<Self> {
        let mounts = Keys::each(root, TABLE, findings, Self::read);
        for (index, mount) in mounts.iter().enumerate() {
            if mounts[..index].iter().any(|other| other.path == mount.path) {
                let (key, value) = (format!("{TABLE}[{index}].path"), mount.path.clone());
                findings.problems.push(Problem { key, value, rule: "is the path of two mounts".into() });
            }
        }
        mounts
    }

    fn read(mut keys: Keys<'_>) -> Option<Self> {
        let path = keys.required("path", mount_path);
        let upstream =
            keys.required("upstream", |text| text.parse::<RegistryUrl>().map_err(ToString::to_string));
        let ttl = keys.span("ttl", Duration::ZERO, Duration::ZERO);
        keys.finish();
        let ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
        Some(Self { path: path?, upstream: upstream?.base().clone(), ttl })
    }
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
        match Config::parse(text, &BTreeMap::new()) {
            Ok(loaded) => Ok(loaded.config.mounts),
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
                let Mount { path, upstream, ttl } = mount;
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
            "is the path of two mounts",
            "`mount[3].ttl`",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 7, "{problems:#?}");
    }
}
