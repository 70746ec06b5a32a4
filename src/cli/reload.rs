//! SIGHUP: the configuration is read again. What can change in a running gate does: the log's level and the modes of feeds.
//! All else that differs is named and takes effect at the next start. Files that the configuration names (certificates,
//! tokens, credentials) are watched by their own parts and need no signal.
//!
//! A configuration that does not hold changes nothing.

use std::{collections::BTreeMap, fmt};

use super::Context;
use crate::{
    app::{Gate, Reloads},
    clock::Clock,
    config::{Config, ConfigError, Loaded, LogLevel, Setting},
    handler::Modes,
};

/// Sets the level of the log.
pub(super) type SetLevel = Box<dyn Fn(LogLevel) -> anyhow::Result<()>>;

/// What a gate runs with, and how that is changed.
pub(super) struct Reload {
    config: Config,
    settings: BTreeMap<String, String>,
    modes: Modes,
    set_level: SetLevel,
    reloads: Reloads,
}

/// What reading the configuration again came to: keys by whether they are in force.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    applied: Vec<String>,
    waiting: Vec<String>,
}

// === impl Reload ===

impl Reload {
    /// Of a gate that began with `loaded`.
    pub(super) fn new(loaded: &Loaded, gate: &Gate, set_level: SetLevel) -> Self {
        let (modes, reloads) = (gate.modes().clone(), gate.reloads().clone());
        Self { config: loaded.config.clone(), settings: keyed(&loaded.settings), modes, set_level, reloads }
    }

    /// Reads the configuration again and applies what can be applied.
    pub(super) fn reload(&mut self, context: &Context) {
        match context.load() {
            Ok(loaded) => self.apply(loaded),
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &ConfigError) {
        self.reloads.invalid();
        for problem in error.to_string().lines() {
            tracing::error!(problem, "the configuration does not hold; the one before stays in force");
        }
    }

    fn apply(&mut self, loaded: Loaded) {
        let settings = keyed(&loaded.settings);
        let Difference { applied, waiting } = Difference::of(&self.settings, &settings);
        if let Err(error) = (self.set_level)(loaded.config.log.level) {
            tracing::error!(%error, "the log's level stays as it was");
        }
        // Modes that were switched at run time stay, unless the configuration says something new.
        if loaded.config.outage.mode != self.config.outage.mode {
            self.modes.set_default(loaded.config.outage.mode);
        }
        if loaded.config.feeds != self.config.feeds {
            for gone in self.config.feeds.iter().filter(|feed| !loaded.config.feeds.contains(feed)) {
                self.modes.set_feed(gone.name.clone(), None);
            }
            for feed in &loaded.config.feeds {
                self.modes.set_feed(feed.name.clone(), feed.mode);
            }
        }
        (self.config, self.settings) = (loaded.config, settings);
        self.reloads.applied(Clock::system().now());
        if !waiting.is_empty() {
            tracing::warn!(keys = %List(&waiting), "changed keys that take effect at the next start");
        }
        tracing::info!(applied = %List(&applied), "the configuration was read again");
    }
}

// === impl Difference ===

impl Difference {
    fn of(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Self {
        let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
        let changed = keys.filter(|key| before.get(*key) != after.get(*key)).cloned();
        let (applied, waiting) = changed.partition(|key| is_live(key));
        Self { applied, waiting }
    }
}

/// Whether a key takes effect at once.
fn is_live(key: &str) -> bool {
    matches!(key, "log.level" | "outage.mode") || (key.starts_with("feed[") && !key.ends_with(".access"))
}

/// Keys in a line of the log.
struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("nothing") } else { f.write_str(&self.0.join(", ")) }
    }
}

fn keyed(settings: &[Setting]) -> BTreeMap<String, String> {
    settings.iter().map(|one| (format!("{}.{}", one.table, one.key), one.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Difference, keyed};
    use crate::config::Config;

    #[test]
    fn what_differs_is_told_by_key_and_by_whether_it_is_in_force() {
        let read = |text: &str| keyed(&Config::parse(text, &BTreeMap::new()).unwrap().settings);
        let before = read("[log]\nlevel = \"info\"\n[[feed]]\nname = \"a/b\"\nmode = \"strict\"\n");
        let after =
            read("[log]\nlevel = \"debug\"\n[outage]\nmode = \"offline\"\n[store]\ncapacity = \"30GiB\"\n");
        let difference = Difference::of(&before, &after);
        assert!(difference.applied.contains(&"log.level".to_owned()), "{difference:?}");
        assert!(difference.applied.contains(&"outage.mode".to_owned()), "{difference:?}");
        assert!(difference.applied.contains(&"feed[0].mode".to_owned()), "{difference:?}");
        assert_eq!(difference.waiting, ["feed[0].access", "store.capacity"]);
        assert_eq!(Difference::of(&before, &before), Difference::default());
    }
}
