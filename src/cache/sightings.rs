//! When the gate first saw each version, kept on disk: the age of a version where the document lies or tells none.
//!
//! The versions that are there when a package is seen for the first time are taken for as old as the document says, since
//! a gate that was just set up has seen nothing. A version that appears later is no older than its appearance, whatever
//! the document says of it. Kept only for packages under a guard that asks for an age.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::disk::{Database, Tree, TreeName, off_thread};

/// Packages (feed without view, protocol, name) → what was seen of them.
pub struct Sightings {
    tree: Tree,
}

/// What was seen of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// By version.
    versions: BTreeMap<String, Sighting>,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sighting {
    /// When it appeared; none for what was there at first.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none", default)]
    seen: Option<u64>,
    /// Since when it is there as the document tells.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none", default)]
    told: Option<u64>,
}

// === impl Sightings ===

impl Sightings {
    /// Over what `database` keeps.
    pub fn new(database: &Database) -> Self {
        Self { tree: database.tree(TreeName::Sighting) }
    }

    /// What was seen of a package; an unreadable record is none.
    pub fn get(&self, key: &str) -> Option<Seen> {
        let stored = self.tree.get(key.as_bytes()).ok().flatten()?;
        serde_json::from_slice(&stored).ok()
    }

    /// Notes the versions that a document names.
    pub async fn see(&self, key: &str, versions: &[(String, Option<SystemTime>)], now: SystemTime) {
        let before = self.get(key);
        let seen = Seen::after(before.as_ref(), versions, now);
        if before.as_ref() == Some(&seen) {
            return;
        }
        let Ok(value) = serde_json::to_vec(&seen) else { return };
        let (tree, owned) = (self.tree.clone(), key.to_owned());
        let write = off_thread("write sightings", move || tree.insert(owned.as_bytes(), &value)).await;
        if let Err(error) = write.and_then(|written| written) {
            tracing::warn!(%error, key, "first sight of versions not stored");
        }
    }
}

// === impl Seen ===

impl Seen {
    /// Since when `version` counts as released; `None` if it was never seen.
    pub fn released(&self, version: &str, now: SystemTime) -> Option<SystemTime> {
        self.versions.get(version).map(|sighting| sighting.released(now))
    }

    fn after(before: Option<&Self>, versions: &[(String, Option<SystemTime>)], now: SystemTime) -> Self {
        let mut seen = before.cloned().unwrap_or_default();
        for (version, told) in versions {
            let first = Sighting { seen: before.map(|_| millis(now)), told: None };
            let sighting = seen.versions.entry(version.clone()).or_insert(first);
            // A document without times takes nothing back.
            sighting.told = told.map(millis).or(sighting.told);
        }
        seen
    }
}

// === impl Sighting ===

impl Sighting {
    fn released(self, now: SystemTime) -> SystemTime {
        // What is to come has not happened: it counts from now.
        let told = self.told.map_or(UNIX_EPOCH, time).min(now);
        told.max(self.seen.map_or(UNIX_EPOCH, time))
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Seen, Sightings};
    use crate::disk::{Database, DatabaseSettings, StoreDirectory};

    #[test]
    fn what_appears_later_is_no_older_than_that() {
        let at = |days: u64| UNIX_EPOCH + Duration::from_secs(days * 86_400);
        let row = |version: &str, told: Option<u64>| (version.to_owned(), told.map(at));
        let first = Seen::after(None, &[row("1", Some(10)), row("2", None), row("3", Some(500))], at(100));
        let released = |seen: &Seen, version| seen.released(version, at(200));
        assert_eq!(released(&first, "1"), Some(at(10)));
        assert_eq!(released(&first, "2"), Some(at(0)), "nothing is known against it");
        assert_eq!(released(&first, "3"), Some(at(200)), "from the future");
        assert_eq!(released(&first, "4"), None);
        let later = Seen::after(Some(&first), &[row("1", None), row("4", Some(10)), row("5", None)], at(150));
        assert_eq!(released(&later, "1"), Some(at(10)));
        assert_eq!(released(&later, "4"), Some(at(150)), "it was not there before");
        assert_eq!(released(&later, "5"), Some(at(150)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sightings_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
            Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap().database
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        {
            let sightings = Sightings::new(&open());
            sightings.see("f\nnpm\na", &[("1".to_owned(), None)], now).await;
            sightings.see("f\nnpm\na", &[("2".to_owned(), None)], now).await;
        }
        let seen = Sightings::new(&open()).get("f\nnpm\na").unwrap();
        assert_eq!((seen.released("1", now), seen.released("2", now)), (Some(UNIX_EPOCH), Some(now)));
    }
}
