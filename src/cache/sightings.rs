//! When the gate first saw each version, kept on disk: the age of a version where the document lies or tells none.
//!
//! The versions that are there when all of a package is seen for the first time are taken for as old as its documents say,
//! since a gate that was just set up has seen nothing; those of which they say nothing, for as old as the first sight of
//! them. A version that appears later is no older than its appearance, whatever is said of it. Documents that name only
//! some of the versions (one page of a registration, one view of a feed) tell times and never make the rest late. Kept
//! only for packages under a guard that asks for an age.
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
/// The time that is none.
const NONE: u64 = u64::MAX;
/// The bit of a time of sight that says that the version was there at first.
const EARLY: u64 = 1 << 63;

/// Packages (feed without view, protocol, name) → what was seen of them.
#[derive(Clone)]
pub struct Sightings {
    tree: Tree,
    memory: Cache<String, Arc<Seen>>,
    /// What is seen at once of one package is added up one after the other.
    adding: Arc<Mutex<()>>,
}

/// How much of a package a document tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Some of its versions.
    Part,
    /// The times of all versions that have one, as far as the service tells.
    Times,
    /// All versions, without times.
    Versions,
    /// All versions with their times.
    Whole,
}

/// What was seen of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// By version.
    versions: BTreeMap<String, Sighting>,
    known: Knowledge,
}

/// How much of a package is known; kept as the value of its key, below which its versions are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Knowledge {
    #[default]
    Part,
    /// Its times, so that the next list of its versions is all that was there at first.
    Times,
    /// All of it: what is new is late.
    Whole,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sighting {
    /// When it was first seen; none in what older gates wrote of versions that were there at first.
    seen: Option<u64>,
    /// Whether it appeared when all of the package was known.
    late: bool,
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

    /// Notes the versions that a document names, which is of this extent.
    pub async fn see(
        &self,
        key: &str,
        versions: Vec<(String, Option<SystemTime>)>,
        extent: Extent,
        now: SystemTime,
    ) {
        let (this, owned) = (self.clone(), key.to_owned());
        let add = off_thread("write sightings", move || this.add(&owned, &versions, extent, now));
        if let Err(error) = add.await.and_then(|added| added) {
            tracing::warn!(%error, key, "first sight of versions not stored");
        }
    }

    fn add(
        &self,
        key: &str,
        versions: &[(String, Option<SystemTime>)],
        extent: Extent,
        now: SystemTime,
    ) -> Result<(), DiskError> {
        let _adding = self.adding.lock();
        let before = self.known(key)?.unwrap_or_default();
        let new = before.changes(versions, now);
        let known = before.known.after(extent);
        if new.is_empty() && known == before.known {
            return Ok(());
        }
        // Known for this run, also if the disk is full.
        let mut seen = Seen { known, ..(*before).clone() };
        seen.versions.extend(new.iter().map(|(version, sighting)| ((*version).to_owned(), *sighting)));
        self.memory.insert(key.to_owned(), Arc::new(seen));
        for (version, sighting) in new {
            self.tree.insert(format!("{key}\n{version}").as_bytes(), &sighting.encode())?;
        }
        // The package last: without this there may be more of it.
        if known == before.known { Ok(()) } else { self.tree.insert(key.as_bytes(), known.encode()) }
    }

    /// What was seen of a package, in memory from now on. Blocking.
    fn known(&self, key: &str) -> Result<Option<Arc<Seen>>, DiskError> {
        if let Some(seen) = self.memory.get(key) {
            return Ok(Some(seen));
        }
        let known = self.tree.get(key.as_bytes())?.map(|stored| Knowledge::decode(&stored));
        let prefix = format!("{key}\n");
        let mut seen = Seen { known: known.unwrap_or_default(), versions: BTreeMap::new() };
        for entry in self.tree.scan_prefix(prefix.as_bytes()) {
            let (stored, value) = entry?;
            let version = std::str::from_utf8(&stored[prefix.len()..]).ok();
            if let (Some(version), Some(sighting)) = (version, Sighting::decode(&value)) {
                seen.versions.insert(version.to_owned(), sighting);
            }
        }
        if seen == Seen::default() {
            return Ok(None);
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

    /// The same for a version that a document names, and of which it tells a time or none: what was never seen is seen now.
    pub fn released_as_told(&self, version: &str, told: Option<SystemTime>, now: SystemTime) -> SystemTime {
        let told = told.filter(|_| self.known < Knowledge::Whole);
        self.released(version, now).unwrap_or_else(|| told.map_or(now, |told| told.min(now)))
    }

    /// What tells one state of knowledge from another: nothing is ever taken back.
    pub fn stage(&self) -> (usize, bool, bool) {
        (self.versions.len(), self.has_times(), self.is_whole())
    }

    /// Whether the times of the versions were read.
    pub fn has_times(&self) -> bool {
        self.known >= Knowledge::Times
    }

    /// Whether all of the package was seen.
    pub fn is_whole(&self) -> bool {
        self.known == Knowledge::Whole
    }

    /// What is new in a document that names `versions`.
    fn changes<'v>(
        &self,
        versions: &'v [(String, Option<SystemTime>)],
        now: SystemTime,
    ) -> BTreeMap<&'v str, Sighting> {
        let mut new = BTreeMap::new();
        for (version, told) in versions {
            let known = new.get(version.as_str()).copied();
            let known = known.or_else(|| self.versions.get(version).copied());
            let first = Sighting { seen: Some(millis(now)), late: self.is_whole(), told: None };
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

// === impl Knowledge ===

impl Knowledge {
    /// What is known after a document of this extent.
    fn after(self, extent: Extent) -> Self {
        self.max(match extent {
            Extent::Part => Self::Part,
            Extent::Times => Self::Times,
            Extent::Versions if self == Self::Part => Self::Part,
            Extent::Versions | Extent::Whole => Self::Whole,
        })
    }

    fn encode(self) -> &'static [u8] {
        match self {
            Self::Part => b"0",
            Self::Times => b"2",
            Self::Whole => b"1",
        }
    }

    fn decode(stored: &[u8]) -> Self {
        match stored {
            b"1" => Self::Whole,
            b"2" => Self::Times,
            _ => Self::Part,
        }
    }
}

// === impl Sighting ===

impl Sighting {
    fn released(self, now: SystemTime) -> SystemTime {
        // What is to come has not happened: it counts from now.
        let told = self.told.map(|told| time(told).min(now));
        let seen = self.seen.map(time);
        let released = if self.late { told.max(seen) } else { told.or(seen) };
        released.unwrap_or(UNIX_EPOCH)
    }

    fn encode(self) -> [u8; 16] {
        let mark = if self.late { 0 } else { EARLY };
        let (seen, told) = (self.seen.map_or(NONE, |seen| seen | mark), self.told.unwrap_or(NONE));
        (u128::from(seen) << 64 | u128::from(told)).to_be_bytes()
    }

    fn decode(stored: &[u8]) -> Option<Self> {
        let (seen, told) = stored.split_first_chunk()?;
        let [seen, told] = [*seen, told.try_into().ok()?].map(u64::from_be_bytes);
        let late = seen & EARLY == 0;
        let time = |millis| (millis != NONE).then_some(millis);
        Some(Self { seen: time(seen).map(|seen| seen & !EARLY), late, told: time(told) })
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

    use super::{Extent, Sighting, Sightings};
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
            ("2", Some(at(100)), "nothing is told of it"),
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
            sightings.see("f\nnpm\nab", vec![row("9", None)], Extent::Whole, at(100)).await;
            let versions = vec![row("1", Some(10)), row("2", None), row("3", Some(500))];
            sightings.see("f\nnpm\na", versions, Extent::Whole, at(100)).await;
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
            sightings.see("f\nnpm\na", versions, Extent::Whole, at(150)).await;
        }
        let sightings = open(folder.path());
        for (version, expected, why) in later {
            assert_eq!(released(&sightings, version).await, expected, "{version}: {why}");
        }
        assert_eq!(released(&sightings, "9").await, None, "of another package");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_new_is_late_only_when_all_was_seen_before() {
        let folder = tempfile::tempdir().unwrap();
        let released = async |sightings: &Sightings, version: &str| {
            let day = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
            sightings.get("f").await.and_then(|seen| seen.released(version, at(200))).map(day)
        };
        {
            let sightings = open(folder.path());
            sightings.see("f", vec![row("1", Some(10))], Extent::Part, at(100)).await;
            // A list before the times are known, as it says nothing of them.
            sightings.see("f", vec![row("1", None), row("2", None)], Extent::Versions, at(101)).await;
            assert_eq!(released(&sightings, "2").await, Some(101));
            assert!(!sightings.get("f").await.unwrap().has_times());
            sightings.see("f", vec![row("2", Some(20)), row("3", Some(30))], Extent::Times, at(102)).await;
            assert_eq!(released(&sightings, "2").await, Some(20), "it was not late");
        }
        let sightings = open(folder.path());
        let seen = sightings.get("f").await.unwrap();
        assert!(seen.has_times() && !seen.is_whole());
        assert_eq!(seen.released_as_told("5", Some(at(50)), at(103)), at(50));
        assert_eq!(seen.released_as_told("5", None, at(103)), at(103));
        sightings.see("f", vec![row("3", None), row("4", None)], Extent::Versions, at(103)).await;
        assert!(sightings.get("f").await.unwrap().is_whole());
        sightings.see("f", vec![row("4", Some(40)), row("5", Some(50))], Extent::Part, at(104)).await;
        for (version, day) in [("1", 10), ("2", 20), ("3", 30), ("4", 40), ("5", 104)] {
            assert_eq!(released(&sightings, version).await, Some(day), "{version}");
        }
        assert_eq!(sightings.get("f").await.unwrap().released_as_told("6", Some(at(60)), at(105)), at(105));
    }

    #[test]
    fn what_older_gates_wrote_is_read_as_they_meant_it() {
        let stored = |seen: u64, told: u64| {
            let sighting =
                Sighting::decode(&(u128::from(seen) << 64 | u128::from(told)).to_be_bytes()).unwrap();
            assert_eq!(Sighting::decode(&sighting.encode()), Some(sighting));
            sighting.released(at(200))
        };
        let millis = |days: u64| days * 86_400_000;
        assert_eq!(stored(u64::MAX, u64::MAX), at(0));
        assert_eq!(stored(u64::MAX, millis(10)), at(10));
        assert_eq!(stored(millis(20), millis(10)), at(20));
        assert_eq!(stored(millis(20), u64::MAX), at(20));
    }
}
