//! `[[guard]]` and `[[pin]]`: which packages are kept from builds, and which feeds a name may come from.

use std::{str::FromStr, time::Duration};

use toml::Table;

use super::{
    changes::FeedName,
    keys::{Findings, Keys},
    text_enum::text_enum,
};
use crate::ident::{NamePattern, Selector};

/// A set of rules for some feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The feeds, through any view; empty for all.
    pub feeds: Vec<FeedName>,
    /// The protocol.
    pub protocol: Guarded,
    /// What is refused.
    pub deny: Vec<Selector>,
    /// When not empty: all that is not refused.
    pub allow: Vec<Selector>,
    /// How old a version must be: most bad ones are found out within days.
    pub min_release_age: Duration,
    /// What may be younger.
    pub exempt: Vec<Selector>,
}

/// Names that may come from some feeds only: whoever can put a package of that name into another feed (or its upstream
/// source) must not get it into a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The names.
    pub names: Vec<NamePattern>,
    /// The feeds that have them.
    pub feeds: Vec<FeedName>,
    /// The protocol.
    pub protocol: Guarded,
}

text_enum! {
    /// Packages of which protocol.
    pub enum Guarded {
        /// Both.
        All = "all",
        /// npm's.
        Npm = "npm",
        /// NuGet's.
        Nuget = "nuget",
    }
}

// === impl Guard ===

impl Guard {
    pub(super) fn read_all(root: &mut Table, findings: &mut Findings) -> Vec<Self> {
        Keys::each(root, "guard", findings, |keys| Some(Self::read(keys)))
    }

    fn read(mut keys: Keys<'_>) -> Self {
        let section = Self {
            feeds: keys.list("feeds", Vec::new()),
            protocol: keys.parsed("protocol", Guarded::All),
            deny: keys.list("deny", Vec::new()),
            allow: keys.list("allow", Vec::new()),
            min_release_age: keys.span("min_release_age", Duration::ZERO, Duration::ZERO),
            exempt: keys.list("exempt", Vec::new()),
        };
        if section.deny.is_empty() && section.allow.is_empty() && section.min_release_age.is_zero() {
            let rule = "must be given, or `allow`, or `min_release_age`: the table refuses nothing";
            keys.problem("deny", "[]".to_owned(), rule.to_owned());
        }
        keys.finish();
        section
    }
}

// === impl Pin ===

impl Pin {
    pub(super) fn read_all(root: &mut Table, findings: &mut Findings) -> Vec<Self> {
        Keys::each(root, "pin", findings, |keys| Some(Self::read(keys)))
    }

    fn read(mut keys: Keys<'_>) -> Self {
        let section = Self {
            names: some(&mut keys, "names"),
            feeds: some(&mut keys, "feeds"),
            protocol: keys.parsed("protocol", Guarded::All),
        };
        keys.finish();
        section
    }
}

/// A list that must not be empty.
fn some<T: FromStr + std::fmt::Display>(keys: &mut Keys<'_>, key: &str) -> Vec<T>
where
    T::Err: std::fmt::Display,
{
    let list = keys.list(key, Vec::new());
    if list.is_empty() {
        keys.problem(key, "[]".to_owned(), "must name at least one".to_owned());
    }
    list
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::Guarded;
    use crate::config::{Config, ConfigError};

    #[test]
    fn guards_and_pins_are_read() {
        let text = "[[guard]]\nfeeds = [\"contoso/main\"]\nprotocol = \"npm\"\ndeny = [\"event-stream@3.3.6\"]\n\
                    min_release_age = \"3d\"\nexempt = [\"@contoso/*\"]\n\
                    [[pin]]\nnames = [\"@contoso/*\"]\nfeeds = [\"contoso/main\", \"contoso/web/next\"]\n";
        let config = Config::parse(text, &BTreeMap::new()).unwrap().config;
        let (guard, pin) = (&config.guards[0], &config.pins[0]);
        assert_eq!((guard.protocol, guard.min_release_age), (Guarded::Npm, Duration::from_secs(3 * 86_400)));
        assert_eq!((guard.deny.len(), guard.exempt.len(), pin.feeds.len()), (1, 1, 2));
    }

    #[test]
    fn every_mistake_is_reported() {
        let text = "[[guard]]\nfeeds = [\"main\"]\n[[guard]]\ndeny = [\"a@^1.0.0\", \"b\"]\nprotocol = \"pypi\"\n\
                    [[pin]]\nnames = []\n";
        let Err(ConfigError::Invalid(problems)) = Config::parse(text, &BTreeMap::new()) else {
            panic!("valid")
        };
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        for part in [
            "`guard[0].feeds` must be `organisation/feed`",
            "`guard[0].deny` must be given",
            "`guard[1].deny` must name versions as comparators",
            "`guard[1].protocol` must be one of",
            "`pin[0].names` must name at least one",
            "`pin[0].feeds` must name at least one",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 6, "{problems:#?}");
    }
}
