//! Which feed a spelling means: names and GUIDs of projects, feeds and views meet here (facts §2).
//!
//! The service answers to names and GUIDs, freely mixed. What it says of a spelling is remembered for a while: a name
//! can be re-pointed, a GUID can't. Asking it is `handler`'s part. Entries are kept on disk, so that a restart during an
//! outage finds what was stored under a feed's identity: they are read at the start, and written behind the answers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ahash::RandomState;
use moka::sync::Cache;

use crate::{
    disk::{Behind, Database, TreeName},
    ident::FeedRef,
};

/// Version byte of the stored form.
const VERSION: u8 = 1;
/// Spellings that are remembered in memory; each takes some hundred bytes.
const SPELLINGS: u64 = 50_000;

/// What is known of a spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its identity, learned within the time to live.
    Identity(String),
    /// Its identity, learned longer ago: good while the service cannot be asked.
    Old(String),
    /// The service was asked a moment ago and knows no such feed.
    Nothing,
    /// Nothing: ask.
    Unknown,
}

/// The table of spellings.
pub struct Identities {
    memory: Cache<String, Learned, RandomState>,
    disk: Behind,
    ttl: Duration,
    nothing_ttl: Duration,
}

/// What the service said of a spelling, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Learned {
    at: SystemTime,
    /// `None`: there is no such feed.
    identity: Option<Arc<str>>,
}

// === impl Identities ===

impl Identities {
    /// Over what `database` keeps. Identities are believed for `ttl`, that there is no such feed for `nothing_ttl`.
    pub fn new(database: &Database, ttl: Duration, nothing_ttl: Duration) -> Self {
        let memory = Cache::builder().max_capacity(SPELLINGS).build_with_hasher(RandomState::new());
        let tree = database.tree(TreeName::Name);
        let stored = tree.entries().filter_map(Result::ok);
        let known =
            stored.filter_map(|(key, value)| Some((String::from_utf8(key.to_vec()).ok()?, decode(&value)?)));
        for (spelling, learned) in known.take(usize::try_from(SPELLINGS).unwrap_or(usize::MAX)) {
            memory.insert(spelling, learned);
        }
        Self { memory, disk: Behind::new(tree), ttl, nothing_ttl }
    }

    /// What is known of how `feed` is spelled.
    pub fn get(&self, feed: &FeedRef, now: SystemTime) -> Known {
        let Some(learned) = self.memory.get(feed.spelling()) else { return Known::Unknown };
        let age = now.duration_since(learned.at).unwrap_or_default();
        match learned.identity {
            Some(identity) if age < self.ttl => Known::Identity(identity.to_string()),
            Some(identity) => Known::Old(identity.to_string()),
            None if age < self.nothing_ttl => Known::Nothing,
            None => Known::Unknown,
        }
    }

    /// Whether memory tells that the spelling of `feed` still means what `identified` is.
    pub fn confirms(&self, feed: &FeedRef, identified: &FeedRef, now: SystemTime) -> bool {
        let Some(learned) = self.memory.get(feed.spelling()) else { return false };
        let age = now.duration_since(learned.at).unwrap_or_default();
        age < self.ttl && learned.identity.as_deref() == Some(identified.key())
    }

    /// The service says that the spelling of `feed` means `identity`.
    pub fn learn(&self, feed: &FeedRef, identity: String, now: SystemTime) {
        let learned = Learned { at: now, identity: Some(identity.into()) };
        if let Some(stored) = encode(&learned) {
            self.disk.insert(feed.spelling().as_bytes().to_vec(), stored);
        }
        self.memory.insert(feed.spelling().to_owned(), learned);
    }

    /// The service knows no feed that is spelled like `feed`.
    pub fn learn_nothing(&self, feed: &FeedRef, now: SystemTime) {
        self.memory.insert(feed.spelling().to_owned(), Learned { at: now, identity: None });
    }

    /// Forgets every spelling of what `feed` means: it may have been renamed or be gone.
    pub fn forget(&self, feed: &FeedRef) {
        let same = self.spellings_of(feed.whole_key()).into_iter().map(|(spelling, _)| spelling);
        for spelling in same.chain([feed.spelling().to_owned()]) {
            self.memory.invalidate(&spelling);
            self.disk.remove(spelling.into_bytes());
        }
    }

    /// Writes down what is only in memory yet. Blocking.
    pub fn settle(&self) {
        self.disk.settle();
    }

    /// Every spelling of the feed with the key `whole` and of its views, with its identity.
    pub fn spellings_of(&self, whole: &str) -> Vec<(String, String)> {
        self.having(|identity| identity.split('@').next() == Some(whole))
    }

    /// Every spelling that has an identity, with it.
    pub fn all(&self) -> Vec<(String, String)> {
        self.having(|_| true)
    }

    fn having(&self, is_meant: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let known = self.memory.iter().filter_map(|(spelling, learned)| {
            let identity = learned.identity.filter(|identity| is_meant(identity))?;
            Some((spelling.to_string(), identity.to_string()))
        });
        let mut known: Vec<_> = known.collect();
        known.sort_unstable();
        known
    }
}

fn encode(learned: &Learned) -> Option<Vec<u8>> {
    let millis = learned.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut stored = vec![VERSION];
    stored.extend_from_slice(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
    stored.extend_from_slice(learned.identity.as_ref()?.as_bytes());
    Some(stored)
}

fn decode(stored: &[u8]) -> Option<Learned> {
    let (fixed, identity) = stored.split_at_checked(9)?;
    let millis = u64::from_be_bytes(fixed.get(1..)?.try_into().ok()?);
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    let identity = String::from_utf8(identity.to_vec()).ok()?;
    (fixed[0] == VERSION).then_some(Learned { at, identity: Some(identity.into()) })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Identities, Known};
    use crate::{
        disk::{Database, DatabaseSettings, StoreDirectory},
        ident::{FeedRef, Name},
    };

    fn open(folder: &std::path::Path) -> (Database, Identities) {
        let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
        let database = Database::open(StoreDirectory::open(folder).unwrap(), &settings).unwrap().database;
        let identities = Identities::new(&database, Duration::from_secs(600), Duration::from_secs(30));
        (database, identities)
    }

    fn feed(text: &str) -> FeedRef {
        FeedRef::new(Name::parse("contoso").unwrap(), None, Name::parse(text).unwrap(), None)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn an_identity_ages_and_survives_a_restart_and_a_missing_feed_is_soon_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (database, identities) = open(folder.path());
            assert_eq!(identities.get(&feed("main"), at(0)), Known::Unknown);
            identities.learn(&feed("Main"), "contoso/-/guid".to_owned(), at(0));
            identities.learn_nothing(&feed("none"), at(0));
            assert_eq!(identities.get(&feed("none"), at(29)), Known::Nothing);
            assert_eq!(identities.get(&feed("none"), at(30)), Known::Unknown);
            database.flush().unwrap();
        }
        let (_database, identities) = open(folder.path());
        assert_eq!(identities.get(&feed("main"), at(599)), Known::Identity("contoso/-/guid".to_owned()));
        assert_eq!(identities.get(&feed("main"), at(600)), Known::Old("contoso/-/guid".to_owned()));
    }

    #[test]
    fn all_spellings_of_a_feed_are_forgotten_together() {
        let folder = tempfile::tempdir().unwrap();
        let (_database, identities) = open(folder.path());
        identities.learn(&feed("main"), "contoso/-/one".to_owned(), at(0));
        identities.learn(&feed("alias"), "contoso/-/one@view".to_owned(), at(0));
        identities.learn(&feed("other"), "contoso/-/two".to_owned(), at(0));
        identities.forget(&feed("main").identified("contoso/-/one"));
        assert_eq!(identities.get(&feed("main"), at(1)), Known::Unknown);
        assert_eq!(identities.get(&feed("alias"), at(1)), Known::Unknown);
        assert_eq!(identities.get(&feed("other"), at(1)), Known::Identity("contoso/-/two".to_owned()));
    }
}
