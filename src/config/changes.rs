//! `[[changes]]`: feeds whose changes are polled, so that what is stored of them may be fresh for longer.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use toml::Table;

use super::{
    credential::Credential,
    keys::{Findings, Keys},
    text_enum::text_enum,
};
use crate::ident::{FeedRef, Name};

/// The name of the tables.
const TABLE: &str = "changes";
/// Shortest interval: the question is small, but it draws on the limits of the credential's owner.
const SHORTEST: Duration = Duration::from_millis(100);

/// A feed whose changes are polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Which feed; also the label of its metrics.
    pub feed: FeedName,
    /// How often the service is asked.
    pub interval: Duration,
    /// How long packuments, lists of versions, registrations and v2 documents of the feed are fresh while that works.
    pub fresh: Duration,
    /// Whether that is so for a feed with upstream sources too.
    pub upstream_sources: UpstreamSources,
    /// With what the service is asked; `None` for a public feed.
    pub credential: Option<Credential>,
}

/// `org/feed` or `org/project/feed`, each a name or a GUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedName(FeedRef);

text_enum! {
    /// What upstream sources of a feed mean: the service does not report versions that are new there (facts §5.4).
    pub enum UpstreamSources {
        /// A feed that has some keeps its usual freshness.
        Respect = "respect",
        /// They may be seen as late as `fresh` says.
        Ignore = "ignore",
    }
}

// === impl Changes ===

impl Changes {
    pub(super) fn read_all(
        root: &mut Table,
        findings: &mut Findings,
        environment: &BTreeMap<String, String>,
    ) -> Vec<Self> {
        let read = |keys: Keys<'_>| Self::read(keys, environment);
        Keys::each_once(root, TABLE, findings, ("feed", |one| &one.feed), read)
    }

    fn read(mut keys: Keys<'_>, environment: &BTreeMap<String, String>) -> Option<Self> {
        let feed = keys.required("feed", str::parse);
        let interval = keys.span("interval", Duration::from_secs(30), SHORTEST);
        let fresh = keys.span("fresh", Duration::from_secs(3600), Duration::ZERO);
        let upstream_sources = keys.parsed("upstream_sources", UpstreamSources::Respect);
        let credential_keys = ["credential_env", "credential_file"];
        let credential = Credential::read_keys(&mut keys, credential_keys, environment);
        keys.finish();
        Some(Self { feed: feed?, interval, fresh, upstream_sources, credential })
    }
}

// === impl FeedName ===

impl FeedName {
    /// The feed as it is spelled.
    pub fn feed(&self) -> &FeedRef {
        &self.0
    }

    /// The feed that `feed` is, or of which it is a view.
    pub fn of(feed: &FeedRef) -> Self {
        let FeedRef { org, project, feed, .. } = feed;
        Self(FeedRef::new(org.clone(), project.clone(), feed.clone(), None))
    }
}

impl FromStr for FeedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = |text: &str| Name::parse(text).map_err(|error| error.to_string());
        let (org, project, feed) = match text.split('/').collect::<Vec<_>>()[..] {
            [org, feed] => (org, None, feed),
            [org, project, feed] => (org, Some(name(project)?), feed),
            _ => return Err("must be `organisation/feed` or `organisation/project/feed`".to_owned()),
        };
        Ok(Self(FeedRef::new(name(org)?, project, name(feed)?, None)))
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeedRef { org, project, feed, .. } = &self.0;
        match project {
            Some(project) => write!(f, "{org}/{project}/{feed}"),
            None => write!(f, "{org}/{feed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Changes, UpstreamSources};
    use crate::config::{Config, ConfigError, Credential};

    fn changes(text: &str) -> Result<Vec<Changes>, Vec<String>> {
        let environment = [("PAT", " secret\n"), ("EMPTY", " ")];
        let environment: BTreeMap<_, _> =
            environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        match Config::parse(text, &environment) {
            Ok(loaded) => {
                assert!(!loaded.settings.to_toml().contains("secret"));
                Ok(loaded.config.changes)
            }
            Err(ConfigError::Invalid(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_feed_needs_nothing_but_its_name() {
        let read = changes("[[changes]]\nfeed = \"Contoso/web/main\"\n").unwrap().remove(0);
        assert_eq!(
            (read.feed.to_string().as_str(), read.feed.feed().spelling()),
            ("Contoso/web/main", "contoso/web/main")
        );
        assert_eq!((read.interval.as_secs(), read.fresh.as_secs(), read.credential), (30, 3600, None));
        assert_eq!(read.upstream_sources, UpstreamSources::Respect);
        assert_eq!(changes(""), Ok(Vec::new()));
    }

    #[test]
    fn a_credential_comes_from_a_variable_or_a_file_and_never_prints() {
        let of = |line: &str| {
            changes(&format!("[[changes]]\nfeed = \"a/b\"\n{line}\n")).unwrap().remove(0).credential.unwrap()
        };
        let variable = of("credential_env = \"PAT\"");
        assert!(matches!(&variable, Credential::Variable(pat) if pat.reveal() == "secret"));
        assert!(!format!("{variable:?}").contains("secret"));
        assert_eq!(of("credential_file = \"/run/pat\""), Credential::File("/run/pat".into()));
    }

    #[test]
    fn every_mistake_is_reported_with_the_number_of_its_table() {
        let text = "[[changes]]\nfeed = \"main\"\ninterval = \"often\"\nupstream_sources = \"maybe\"\n\
                    [[changes]]\nfeed = \"a/b@view\"\ncredential_env = \"NONE\"\n\
                    [[changes]]\nfeed = \"a/b\"\ncredential_env = \"PAT\"\ncredential_file = \"x\"\n\
                    [[changes]]\nfeed = \"A/B\"\nevery = \"1s\"\n\
                    [[changes]]\ninterval = \"1ms\"\ncredential_env = \"EMPTY\"\n";
        let problems = changes(text).unwrap_err();
        for part in [
            "`changes[0].feed` must be `organisation/feed`",
            "`changes[0].interval`",
            "`changes[0].upstream_sources` must be one of respect, ignore",
            "`changes[1].feed`",
            "`changes[1].credential_env` must name",
            "`changes[2].credential_file` must not",
            "`changes[3].every` is not a known key",
            "`changes[4].feed` must be given",
            "`changes[4].interval`",
            "`changes[4].credential_env`",
            "`changes[3].feed` is there twice",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 11, "{problems:#?}");
    }
}
