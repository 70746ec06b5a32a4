//! `[outage]`: what a bad day of the service costs, and what is done about it.

use std::time::Duration;

use super::{changes::FeedName, keys::Keys, text_enum::text_enum};

const SECOND: Duration = Duration::from_secs(1);

/// `[outage]`: what is done while the service does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// What is done for feeds that have no mode of their own.
    pub mode: Mode,
    /// Longest wait for the service before the stored copy is served. The service delays single requests by seconds
    /// on good days too (facts §7.1); three are as long as an install's own pauses.
    pub patience: Duration,
    /// How long stored copies are served without asking again, after the service was asked who may read a feed and
    /// gave no word, refused for load, or was slower than `patience` for several documents.
    pub cooldown: Duration,
    /// Failures in a row after which a host counts as dead; silence, resets and 5xx count once for each thing asked.
    /// Three: a request makes two tries on its own, so one request alone never decides.
    pub failures: usize,
    /// How long a dead host is left alone at first; doubled for each time that it still is. Short, so that
    /// `hold` sees the second look.
    pub open: Duration,
    /// The longest that it is left alone (a quarter more by jitter): what an install at most goes on failing after the
    /// service is back. Ten seconds are as long as npm itself waits before it asks again (facts §7.4).
    pub longest_open: Duration,
    /// How long after a host's death requests for it wait for its return before they are told. A front end that
    /// restarts is back by then, and a build that fails still fails within seconds.
    pub hold: Duration,
}

/// A feed with a mode of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedMode {
    /// Which feed, by names or GUIDs.
    pub name: FeedName,
    /// What is done for it.
    pub mode: Mode,
}

text_enum! {
    /// Whether the service is asked, and whether stored copies stand in for its answers.
    pub enum Mode {
        /// The service is asked; what is stored stands in when it does not answer.
        Fallback = "fallback",
        /// The service is not asked.
        Offline = "offline",
        /// The service is asked; an error of it is an error.
        Strict = "strict",
    }
}

// === impl Outage ===

impl Default for Outage {
    fn default() -> Self {
        Self {
            mode: Mode::Fallback,
            patience: 3 * SECOND,
            cooldown: 5 * SECOND,
            failures: 3,
            open: SECOND,
            longest_open: 10 * SECOND,
            hold: 2 * SECOND,
        }
    }
}

impl Outage {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let (default, least) = (Self::default(), Duration::from_millis(1));
        let section = Self {
            mode: keys.parsed("mode", default.mode),
            patience: keys.span("patience", default.patience, least),
            cooldown: keys.span("cooldown", default.cooldown, Duration::ZERO),
            failures: keys.count("failures", default.failures, 1..=1_000_000),
            open: keys.span("open", default.open, least),
            longest_open: keys.span("longest_open", default.longest_open, least),
            hold: keys.span("hold", default.hold, Duration::ZERO),
        };
        keys.finish();
        section
    }
}

// === impl Mode ===

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Fallback, Self::Offline, Self::Strict];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Mode;
    use crate::config::{Config, ConfigError};

    #[test]
    fn modes_are_set_for_all_and_for_single_feeds() {
        let text = "[outage]\nmode = \"strict\"\n[[feed]]\nname = \"Contoso/web/main\"\nmode = \"offline\"\n";
        let config = Config::parse(text, &BTreeMap::new()).unwrap().config;
        assert_eq!((config.outage.mode, config.feeds.len()), (Mode::Strict, 1));
        assert_eq!(
            (config.feeds[0].name.to_string().as_str(), config.feeds[0].mode),
            ("Contoso/web/main", Some(Mode::Offline))
        );
    }

    #[test]
    fn every_mistake_is_reported() {
        let text = "[outage]\nmode = \"off\"\nfailures = 0\nopen = \"0s\"\n\
                    [[feed]]\nname = \"main\"\nmode = \"strict\"\n\
                    [[feed]]\nname = \"a/b\"\nmode = \"maybe\"\n\
                    [[feed]]\nname = \"a/c\"\nmode = \"strict\"\n[[feed]]\nname = \"A/C\"\nmode = \"offline\"\n\
                    [[feed]]\nmode = \"offline\"\nsince = \"now\"\n";
        let Err(ConfigError::Invalid(problems)) = Config::parse(text, &BTreeMap::new()) else {
            panic!("valid")
        };
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        for part in [
            "`outage.mode` must be one of fallback, offline, strict",
            "`outage.failures`",
            "`outage.open`",
            "`feed[0].name` must be `organisation/feed`",
            "`feed[1].mode` must be one of",
            "is there twice",
            "`feed[4].name` must be given",
            "`feed[4].since` is not a known key",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 8, "{problems:#?}");
    }
}
