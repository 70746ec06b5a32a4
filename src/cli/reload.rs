//! The configuration is read again, by SIGHUP or an operator's order. What can change in a running gate does: the log's
//! level and the modes of feeds. All else that differs from what the gate began with is named and takes effect at the next
//! start. Files that the configuration names (certificates, tokens, credentials) are watched by their own parts and need no
//! reload.
//!
//! A configuration that does not hold changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use http::StatusCode;
use serde_json::{Value, json};

use super::{Context, level::Level};
use crate::{
    admin::Problem,
    app::{Gate, Reloads},
    clock::Clock,
    config::{Config, ConfigError, Loaded, Setting, Settings},
    handler::Modes,
};

/// What a gate runs with, and how that is changed.
pub(super) struct Reload {
    config: Config,
    /// With which it began; what is not live is as it is here.
    began: Settings,
    /// As they were read last.
    settings: Settings,
    modes: Modes,
    pub(super) level: Level,
    reloads: Reloads,
}

/// What reading the configuration again came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// Keys that changed and are in force.
    applied: Vec<String>,
    /// Keys that take effect at the next start.
    waiting: Vec<String>,
}

/// Keys of a configuration that differ from those of an older one, with both values.
type Changed<'a> = Vec<(String, Option<&'a Setting>, Option<&'a Setting>)>;

// === impl Reload ===

impl Reload {
    /// Of a gate that began with `loaded`.
    pub(super) fn new(loaded: Loaded, gate: &Gate, level: Level) -> Self {
        let (modes, reloads) = (gate.modes().clone(), gate.reloads().clone());
        let Loaded { config, settings } = loaded;
        Self { config, began: settings.clone(), settings, modes, level, reloads }
    }

    /// Reads the configuration again and applies what can be applied.
    ///
    /// # Errors
    /// When it does not hold. The log tells of that, too.
    pub(super) fn reload(&mut self, context: &Context) -> Result<Applied, ConfigError> {
        match context.load() {
            Ok(loaded) => Ok(self.apply(loaded)),
            Err(error) => {
                self.reloads.invalid();
                for problem in error.to_string().lines() {
                    tracing::error!(
                        problem,
                        "the configuration does not hold; the one before stays in force"
                    );
                }
                Err(error)
            }
        }
    }

    /// The configuration as it was read last, without what may be secret, and what of it is not in force yet.
    pub(super) fn shown(&self) -> Value {
        let (began, settings) = (self.began.redacted(), self.settings.redacted());
        let value = |setting: Option<&Setting>| setting.map(Setting::to_json);
        let waiting = changed(&began, &settings).into_iter().filter(|(key, ..)| !is_live(key));
        let waiting: Vec<_> = waiting
            .map(|(key, before, after)| {
                json!({ "key": key, "in_force": value(before), "configured": value(after) })
            })
            .collect();
        json!({ "settings": settings.to_json(), "waiting": waiting })
    }

    fn apply(&mut self, loaded: Loaded) -> Applied {
        let Loaded { config, settings } = loaded;
        let told = Applied::of(&self.began, &self.settings, &settings);
        if let Err(error) = self.level.configure(config.log.level) {
            tracing::error!(%error, "the log's level stays as it was");
        }
        // Modes that were switched at run time stay, unless the configuration says something new.
        if config.outage.mode != self.config.outage.mode {
            self.modes.set_default(config.outage.mode);
        }
        if config.feeds != self.config.feeds {
            for gone in self.config.feeds.iter().filter(|feed| !config.feeds.contains(feed)) {
                self.modes.set_feed(gone.name.clone(), None);
            }
            for feed in &config.feeds {
                self.modes.set_feed(feed.name.clone(), feed.mode);
            }
        }
        (self.config, self.settings) = (config, settings);
        self.reloads.applied(Clock::system().now());
        if !told.waiting.is_empty() {
            tracing::warn!(keys = %List(&told.waiting), "changed keys that take effect at the next start");
        }
        tracing::info!(applied = %List(&told.applied), "the configuration was read again");
        told
    }
}

// === impl Applied ===

impl Applied {
    /// Of `after`, read where `before` was read last, by a gate that began with `began`.
    fn of(began: &Settings, before: &Settings, after: &Settings) -> Self {
        let keys = |changed: Changed<'_>, live: bool| {
            changed.into_iter().map(|(key, ..)| key).filter(|key| is_live(key) == live).collect()
        };
        Self { applied: keys(changed(before, after), true), waiting: keys(changed(began, after), false) }
    }

    /// As the operator is told.
    pub(super) fn to_json(&self) -> Value {
        json!({ "applied": self.applied, "waiting": self.waiting })
    }
}

/// How an operator is told that the configuration does not hold.
pub(super) fn refusal(error: &ConfigError) -> Problem {
    let mistakes = error.to_string().lines().collect::<Vec<_>>().join("; ");
    let detail = format!("the configuration does not hold; the one before stays in force: {mistakes}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "config", detail)
}

fn changed<'a>(before: &'a Settings, after: &'a Settings) -> Changed<'a> {
    let keyed = |settings: &'a Settings| -> BTreeMap<String, &'a Setting> {
        settings.iter().map(|setting| (setting.path(), setting)).collect()
    };
    let (before, after) = (keyed(before), keyed(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    let both = keys.into_iter().map(|key| {
        let values = (before.get(&key).copied(), after.get(&key).copied());
        (key, values.0, values.1)
    });
    both.filter(|(_, before, after)| before != after).collect()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Applied;
    use crate::config::{Config, Settings};

    fn read(text: &str) -> Settings {
        Config::parse(text, &BTreeMap::new()).unwrap().settings
    }

    #[test]
    fn what_differs_is_told_by_key_and_by_whether_it_is_in_force() {
        let before = read("[log]\nlevel = \"info\"\n[[feed]]\nname = \"a/b\"\nmode = \"strict\"\n");
        let after =
            read("[log]\nlevel = \"debug\"\n[outage]\nmode = \"offline\"\n[store]\ncapacity = \"30GiB\"\n");
        let told = Applied::of(&before, &before, &after);
        assert_eq!(told.applied, ["feed[0].mode", "feed[0].name", "log.level", "outage.mode"]);
        assert_eq!(told.waiting, ["feed[0].access", "store.capacity"]);
        // What waits does so until the next start; what was taken over is told once.
        let again = Applied::of(&before, &after, &after);
        assert_eq!((again.applied, again.waiting), (Vec::new(), told.waiting));
        let back = Applied::of(&before, &after, &before);
        assert_eq!((back.applied, back.waiting), (told.applied, Vec::new()));
    }
}
