//! When the gate first saw each version, kept on disk: the age of a version where the document lies or tells none.
//!
//! The versions that are there when a package is seen for the first time are taken for as old as the document says, since
//! a gate that was just set up has seen nothing. A version that appears later is no older than its appearance, whatever
//! the document says of it. Kept only for packages under a guard that asks for an age.

//!
//! A version is a record of its own, so that a new one is one small write however many there are. What is asked for stays
//! in memory for a while: with 5,000 versions it takes the disk some milliseconds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use moka::sync::Cache;
use parking_lot::Mutex;

use crate::disk::{Database, DiskError, Tree, TreeName, off_thread};

/// Memory for what was seen, in bytes.
const MEMORY: u64 = 16 << 20;
/// What a package, and one of its versions, take beside their names, in bytes.
const OVERHEAD: usize = 96;
/// The value that says that a package was seen; its versions are below its key.
const SEEN: &[u8] = b"1";
/// The time that is none.
const NONE: u64 = u64::MAX;

/// Packages (feed without view, protocol, name) → what was seen of them.
#[derive(Clone)]
pub struct Sightings {
    tree: Tree,
    memory: Cache<String, Arc<Seen>>,
    /// What is seen at once of one package is added up one after the other.
    adding: Arc<Mutex<()>>,
}

/// What was seen of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// By version.
    versions: BTreeMap<String, Sighting>,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sighting {
    /// When it appeared; none for what was there at first.
    seen: Option<u64>,
    /// Since when it is there as the document tells.
    told: Option<u64>,
}

// === impl Sightings ===

impl Sightings {
    /// Over what `database` keeps.
    pub fn new(database: &Database) -> Self {
        let memory = Cache::builder().max_capacity(MEMORY).weigher(weight).build();
        Self { tree: database.tree(TreeName::Sighting), memory, adding: Arc::default() }
    }

    /// What was seen of a package; what cannot be read was not.
    pub async fn get(&self, key: &str) -> Option<Arc<Seen>> {
        if let Some(seen) = self.memory.get(key) {
            return Some(seen);
        }
        let (this, owned) = (self.clone(), key.to_owned());
        let read = off_thread("read sightings", move || {
            let _adding = this.adding.lock();
            this.known(&owned)
        });
        read.await.and_then(|read| read).unwrap_or_else(|error| {
            tracing::warn!(%error, key, "first sight of versions not read");
            None
        })
    }

    /// Notes the versions that a document names.
    pub async fn see(&self, key: &str, versions: Vec<(String, Option<SystemTime>)>, now: SystemTime) {
        let (this, owned) = (self.clone(), key.to_owned());
        let add = off_thread("write sightings", move || this.add(&owned, &versions, now));
        if let Err(error) = add.await.and_then(|added| added) {
            tracing::warn!(%error, key, "first sight of versions not stored");
        }
    }

    fn add(
        &self,
        key: &str,
        versions: &[(String, Option<SystemTime>)],
        now: SystemTime,
    ) -> Result<(), DiskError> {
        let _adding = self.adding.lock();
        let before = self.known(key)?;
        let new = Seen::changes(before.as_deref(), versions, now);
        if new.is_empty() && before.is_some() {
            return Ok(());
        }
        // Known for this run, also if the disk is full.
        let mut seen = before.as_deref().cloned().unwrap_or_default();
        seen.versions.extend(new.iter().map(|(version, sighting)| ((*version).to_owned(), *sighting)));
        self.memory.insert(key.to_owned(), Arc::new(seen));
        for (version, sighting) in new {
            self.tree.insert(format!("{key}\n{version}").as_bytes(), &sighting.encode())?;
        }
        // The package last: without this it was not seen yet.
        if before.is_none() { self.tree.insert(key.as_bytes(), SEEN) } else { Ok(()) }
    }

    /// What was seen of a package, in memory from now on. Blocking.
    fn known(&self, key: &str) -> Result<Option<Arc<Seen>>, DiskError> {
        if let Some(seen) = self.memory.get(key) {
            return Ok(Some(seen));
        }
        if self.tree.get(key.as_bytes())?.is_none() {
            return Ok(None);
        }
        let prefix = format!("{key}\n");
        let mut seen = Seen::default();
        for entry in self.tree.scan_prefix(prefix.as_bytes()) {
            let (stored, value) = entry?;
            let version = std::str::from_utf8(&stored[prefix.len()..]).ok();
            if let (Some(version), Some(sighting)) = (version, Sighting::decode(&value)) {
                seen.versions.insert(version.to_owned(), sighting);
            }
        }
        let seen = Arc::new(seen);
        self.memory.insert(key.to_owned(), Arc::clone(&seen));
        Ok(Some(seen))
    }
}

#[expect(clippy::ptr_arg, reason = "the cache wants a function of its very key")]
fn weight(key: &String, seen: &Arc<Seen>) -> u32 {
    let versions = seen.versions.keys().map(|version| version.len() + OVERHEAD).sum::<usize>();
    u32::try_from(key.len() + OVERHEAD + versions).unwrap_or(u32::MAX)
}

// === impl Seen ===

impl Seen {
    /// Since when `version` counts as released; `None` if it was never seen.
    pub fn released(&self, version: &str, now: SystemTime) -> Option<SystemTime> {
        self.versions.get(version).map(|sighting| sighting.released(now))
    }

    /// What is new in a document that names `versions`.
    fn changes<'v>(
        before: Option<&Self>,
        versions: &'v [(String, Option<SystemTime>)],
        now: SystemTime,
    ) -> BTreeMap<&'v str, Sighting> {
        let mut new = BTreeMap::new();
        for (version, told) in versions {
            let known = new.get(version.as_str()).copied();
            let known = known.or_else(|| before?.versions.get(version).copied());
            let first = Sighting { seen: before.map(|_| millis(now)), told: None };
            let old = known.unwrap_or(first);
            // A document without times takes nothing back.
            let sighting = Sighting { told: told.map(millis).or(old.told), ..old };
            if known != Some(sighting) {
                new.insert(version.as_str(), sighting);
            }
        }
        new
    }
}

// === impl Sighting ===

impl Sighting {
    fn released(self, now: SystemTime) -> SystemTime {
        // What is to come has not happened: it counts from now.
        let told = self.told.map_or(UNIX_EPOCH, time).min(now);
        told.max(self.seen.map_or(UNIX_EPOCH, time))
    }

    fn encode(self) -> [u8; 16] {
        let [seen, told] = [self.seen, self.told].map(|millis| millis.unwrap_or(NONE));
        (u128::from(seen) << 64 | u128::from(told)).to_be_bytes()
    }

    fn decode(stored: &[u8]) -> Option<Self> {
        let (seen, told) = stored.split_first_chunk()?;
        let [seen, told] = [*seen, told.try_into().ok()?].map(u64::from_be_bytes);
        let time = |millis| (millis != NONE).then_some(millis);
        Some(Self { seen: time(seen), told: time(told) })
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
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::Sightings;
    use crate::disk::{Database, DatabaseSettings, StoreDirectory};

    fn open(folder: &std::path::Path) -> Sightings {
        let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
        Sightings::new(&Database::open(StoreDirectory::open(folder).unwrap(), &settings).unwrap().database)
    }

    fn at(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(days * 86_400)
    }

    fn row(version: &str, told: Option<u64>) -> (String, Option<SystemTime>) {
        (version.to_owned(), told.map(at))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_appears_later_is_no_older_than_that_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let released = async |sightings: &Sightings, version: &str| {
            sightings.get("f\nnpm\na").await.and_then(|seen| seen.released(version, at(200)))
        };
        let first = [
            ("1", Some(at(10)), "as the document tells"),
            ("2", Some(at(0)), "nothing is known against it"),
            ("3", Some(at(200)), "from the future"),
            ("4", None, "not seen"),
        ];
        let later = [
            ("1", Some(at(10)), "a document without times takes nothing back"),
            ("4", Some(at(150)), "it was not there before"),
            ("5", Some(at(150)), "nor this"),
        ];
        {
            let sightings = open(folder.path());
            assert_eq!(released(&sightings, "1").await, None);
            // Names that begin alike are not taken for each other.
            sightings.see("f\nnpm\nab", vec![row("9", None)], at(100)).await;
            let versions = vec![row("1", Some(10)), row("2", None), row("3", Some(500))];
            sightings.see("f\nnpm\na", versions, at(100)).await;
            for (version, expected, why) in first {
                assert_eq!(released(&sightings, version).await, expected, "{version}: {why}");
            }
        }
        {
            let sightings = open(folder.path());
            for (version, expected, why) in first {
                assert_eq!(released(&sightings, version).await, expected, "{version}: {why}");
            }
            let versions = vec![row("1", None), row("4", Some(10)), row("5", None)];
            sightings.see("f\nnpm\na", versions, at(150)).await;
        }
        let sightings = open(folder.path());
        for (version, expected, why) in later {
            assert_eq!(released(&sightings, version).await, expected, "{version}: {why}");
        }
        assert_eq!(released(&sightings, "9").await, None, "of another package");
    }
}
