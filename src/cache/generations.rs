//! Generations: what a write through the gate has made old.
//!
//! Every write raises counters, every fetch notes their sum before it begins, and what was fetched is good for as long
//! as the sum is the same. So a fetch that began before a write cannot put the old answer back, whoever stores it
//! and whenever, and a write touches no stored object: thousands of searches of a feed are dropped by one counter.
//!
//! There are two kinds of writes. One that takes something away (a delete, an unpublish) makes what was stored
//! unusable. One that only adds or changes (a publish, a deprecation) makes it *outdated*: the service is asked
//! before the next answer, and only when it cannot answer the stored copy stands in as any stale one does.
//!
//! Counters are slots of a fixed table, found by hash. Two scopes in one slot cost a fetch too many, never a stale
//! answer. The table is kept on disk, so that a restart does not make old entries good again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    disk::{Database, Tree, TreeName, off_thread},
    ident::{FeedRef, Name},
    route::{Effect, Subject},
};

/// Slots of the table; each is a row of 10 bytes on disk once it was used.
const SLOTS: usize = 1 << 16;

/// When something was fetched, counted in writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Generation {
    /// Writes that took something away.
    pub removals: u64,
    /// Writes that added or changed something.
    pub changes: u64,
}

/// Which counters tell of one thing's generation; the same for ever.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    removals: [Option<u16>; 4],
    changes: [Option<u16>; 4],
}

/// The table of counters.
pub struct Generations {
    slots: Arc<[AtomicU64]>,
    database: Database,
    tree: Tree,
}

/// The two kinds of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Removal,
    Change,
}

/// What a counter counts the writes to; feeds by their key.
#[derive(Debug, Clone, Copy)]
enum Scope<'a> {
    /// Anything of the organisation.
    Organisation(&'a str),
    /// Anything in the feed.
    Feed(&'a str),
    /// Any of the feed's NuGet packages.
    Nugets(&'a str),
    /// Which packages and versions the feed has.
    Listing(&'a str),
    /// One package.
    Npm(&'a str, &'a str),
    /// One package.
    Nuget(&'a str, &'a str),
}

// === impl Generations ===

impl Generations {
    /// Reads the counters that `database` keeps.
    pub fn new(database: &Database) -> Self {
        let tree = database.tree(TreeName::Generation);
        let slots: Arc<[AtomicU64]> = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        for entry in tree.entries() {
            let Ok((key, value)) = entry else { break };
            let slot = <[u8; 2]>::try_from(&*key).ok().map(u16::from_be_bytes);
            let count = <[u8; 8]>::try_from(&*value).ok().map(u64::from_be_bytes);
            if let (Some(slot), Some(count)) = (slot, count) {
                slots[usize::from(slot)].store(count, Ordering::Relaxed);
            }
        }
        Self { slots, database: database.clone(), tree }
    }

    /// The generation of what tells of `subject` in `feed`, now.
    pub fn current(&self, feed: &FeedRef, subject: &Subject) -> Generation {
        self.read(&Counters::of(feed, subject))
    }

    /// The generation of what `counters` are of, now.
    pub fn read(&self, counters: &Counters) -> Generation {
        let count = |slot: &u16| self.slots[usize::from(*slot)].load(Ordering::SeqCst);
        let sum = |slots: &[Option<u16>]| slots.iter().flatten().map(count).fold(0, u64::wrapping_add);
        Generation { removals: sum(&counters.removals), changes: sum(&counters.changes) }
    }

    /// A write with `effect` went through: what it may have changed is old. Durable when this returns; an
    /// error of the disk is logged, and then holds for this run only.
    pub async fn raise(&self, org: &Name, effect: &Effect) {
        self.raise_all(org, std::slice::from_ref(effect)).await;
    }

    /// The same for many writes at once, for the price of one.
    pub async fn raise_all(&self, org: &Name, effects: &[Effect]) {
        let mut raised: Vec<u16> = effects.iter().flat_map(|effect| slots_of(org, effect)).collect();
        raised.sort_unstable();
        raised.dedup();
        for slot in &raised {
            self.slots[usize::from(*slot)].fetch_add(1, Ordering::SeqCst);
        }
        let (tree, database, slots) = (self.tree.clone(), self.database.clone(), Arc::clone(&self.slots));
        let write = move || {
            raised.iter().try_for_each(|slot| {
                let count = slots[usize::from(*slot)].load(Ordering::SeqCst);
                tree.insert(&slot.to_be_bytes(), &count.to_be_bytes())
            })?;
            database.flush()
        };
        if let Err(error) = off_thread("write generations", write).await.and_then(|written| written) {
            tracing::error!(%error, "a write's generation is not on disk");
        }
    }
}

// === impl Counters ===

impl Counters {
    /// Those of what tells of `subject` in `feed`.
    pub fn of(feed: &FeedRef, subject: &Subject) -> Self {
        let scopes = read_scopes(feed.org.folded(), feed.whole_key(), subject);
        let slots = |kind| scopes.map(|scope| scope.map(|scope| scope.slot(kind)));
        Self { removals: slots(Kind::Removal), changes: slots(Kind::Change) }
    }
}

/// The slots that a write raises.
fn slots_of(org: &Name, effect: &Effect) -> Vec<u16> {
    let kind = if effect.bytes { Kind::Removal } else { Kind::Change };
    let key = effect.feed.as_ref().filter(|feed| feed.is_identified()).map(FeedRef::whole_key);
    let scopes = written_scopes(org.folded(), key, &effect.subject);
    scopes.iter().flatten().map(|scope| scope.slot(kind)).collect()
}

/// What a document depends on.
fn read_scopes<'a>(org: &'a str, feed: &'a str, subject: &'a Subject) -> [Option<Scope<'a>>; 4] {
    let (organisation, whole) = (Some(Scope::Organisation(org)), Some(Scope::Feed(feed)));
    match subject {
        Subject::Fixed => [organisation, None, None, None],
        Subject::Feed => [organisation, whole, Some(Scope::Listing(feed)), None],
        Subject::Npm(name) => [organisation, whole, Some(Scope::Npm(feed, name.as_str())), None],
        Subject::Nuget(id) => {
            [organisation, whole, Some(Scope::Nugets(feed)), Some(Scope::Nuget(feed, id.as_str()))]
        }
        Subject::Nugets => [organisation, whole, Some(Scope::Nugets(feed)), None],
    }
}

/// What a write touches. A feed of which only a name is known (`None`) may have documents under its GUID, so then
/// it is the whole organisation.
fn written_scopes<'a>(org: &'a str, feed: Option<&'a str>, subject: &'a Subject) -> [Option<Scope<'a>>; 2] {
    let Some(feed) = feed else { return [Some(Scope::Organisation(org)), None] };
    let listing = Some(Scope::Listing(feed));
    match subject {
        Subject::Npm(name) => [listing, Some(Scope::Npm(feed, name.as_str()))],
        Subject::Nuget(id) => [listing, Some(Scope::Nuget(feed, id.as_str()))],
        Subject::Nugets => [listing, Some(Scope::Nugets(feed))],
        Subject::Feed | Subject::Fixed => [Some(Scope::Feed(feed)), None],
    }
}

// === impl Scope ===

impl Scope<'_> {
    /// Its slot for one kind of writes. The hash must stay the same for ever, since its values are on disk.
    fn slot(self, kind: Kind) -> u16 {
        let (letter, one, two) = match self {
            Self::Organisation(org) => (b'o', org, ""),
            Self::Feed(feed) => (b'f', feed, ""),
            Self::Nugets(feed) => (b'g', feed, ""),
            Self::Listing(feed) => (b'l', feed, ""),
            Self::Npm(feed, name) => (b'n', feed, name),
            Self::Nuget(feed, id) => (b'i', feed, id),
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[letter, if kind == Kind::Removal { b'r' } else { b'c' }]);
        hasher.update(one.as_bytes());
        hasher.update(b"\n");
        hasher.update(two.as_bytes());
        u16::try_from(hasher.finalize() & 0xffff).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Generation, Generations};
    use crate::{
        disk::{Database, DatabaseSettings, StoreDirectory},
        ident::{FeedRef, Name, NpmName, NugetId},
        route::{Effect, Subject},
    };

    const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

    fn database(folder: &std::path::Path) -> Database {
        let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
        Database::open(StoreDirectory::open(folder).unwrap(), &settings).unwrap().database
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn feed(spelling: &str) -> FeedRef {
        let (feed, view) = spelling.split_once('@').map_or((spelling, None), |(f, v)| (f, Some(v)));
        let key = format!("contoso/-/{GUID}");
        let identity = view.map_or(key.clone(), |view| format!("{key}@{view}"));
        FeedRef::new(name("contoso"), None, name(feed), view.map(name)).identified(&identity)
    }

    fn npm(text: &str) -> Subject {
        Subject::Npm(NpmName::parse(text).unwrap())
    }

    fn nuget(text: &str) -> Subject {
        Subject::Nuget(NugetId::parse(text).unwrap())
    }

    /// Which of the subjects (npm a, npm b, nuget a, listing, fixed) a write made old, as letters.
    async fn made_old(feed_written: FeedRef, subject: Subject, bytes: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let generations = Generations::new(&database(folder.path()));
        let rows = [
            ("a", npm("a")),
            ("b", npm("b")),
            ("n", nuget("a")),
            ("l", Subject::Feed),
            ("f", Subject::Fixed),
        ];
        let look = |generations: &Generations| {
            rows.clone().map(|(_, it)| generations.current(&feed("main@release"), &it))
        };
        let before = look(&generations);
        let effect = Effect { feed: Some(feed_written), subject, bytes, identity: false };
        generations.raise(&name("contoso"), &effect).await;
        let after = look(&generations);
        let changed = |(at, (letter, _)): (usize, &(&'static str, Subject))| {
            let (old, new) = (before[at], after[at]);
            assert!(bytes || old.removals == new.removals, "{letter}");
            assert!(!bytes || old.changes == new.changes, "{letter}");
            if old == new { "" } else { letter }
        };
        rows.iter().enumerate().map(changed).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_makes_old_what_it_may_have_changed_in_every_spelling_and_view() {
        let rows = [
            (npm("a"), "al"),
            (nuget("a"), "nl"),
            (Subject::Nugets, "nl"),
            (Subject::Feed, "abnl"),
            (npm("c"), "l"),
        ];
        for (subject, expected) in rows {
            for bytes in [false, true] {
                assert_eq!(made_old(feed("other-name"), subject.clone(), bytes).await, expected);
            }
        }
        let unidentified = FeedRef::new(name("contoso"), None, name("main"), None);
        assert_eq!(made_old(unidentified, npm("a"), false).await, "abnlf");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_generation_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let effect = Effect { feed: Some(feed("main")), subject: npm("a"), bytes: true, identity: false };
        let before = {
            let generations = Generations::new(&database(folder.path()));
            generations.raise(&name("contoso"), &effect).await;
            generations.current(&feed("main"), &npm("a"))
        };
        assert_ne!(before, Generation::default());
        let again = Generations::new(&database(folder.path()));
        assert_eq!(again.current(&feed("main"), &npm("a")), before);
    }
}
