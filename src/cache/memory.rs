//! The memory tier of documents: entries and ready representations, in moka.
//!
//! moka bounds the memory only; freshness is ours (`freshness`), so that tests can move the clock.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ahash::RandomState;
use moka::{notification::RemovalCause, sync::Cache};

use super::Entry;
use crate::{
    document::representation::{Encoding, Form, Representation},
    route::Format,
};

/// Memory for entries (a few hundred bytes each), in bytes.
const ENTRY_MEMORY: u64 = 32 << 20;
/// What an entry costs beside its key, in bytes.
const ENTRY_OVERHEAD: usize = 256;

/// Which bytes of which document, for whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepresentationKey {
    /// SHA-256 of the document as the service sent it.
    pub digest: [u8; 32],
    /// Full or abbreviated.
    pub form: Form,
    /// Identity or gzip.
    pub encoding: Encoding,
    /// The gate's URL as this client knows it; it stands in the body.
    pub base: Arc<str>,
    /// The spelling of the feed in the document's URLs and the client's own, where they differ.
    pub respelling: Option<Respelling>,
    /// How the document is read: the same bytes may have come as another kind.
    pub format: Format,
    /// The service's `Content-Type`, where it is kept; else empty.
    pub content_type: Arc<str>,
    /// The rules by which versions were left out ([`crate::guard::Policy::stamp`]).
    pub guard: Option<u64>,
}

/// One spelling of a feed for another: `{org}[/{project}]/_packaging/{feed}[@{view}]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Respelling {
    /// As in the document.
    pub from: Arc<str>,
    /// As the client asked.
    pub to: Arc<str>,
}

/// What one of the two tiers holds, and how often it was of use since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierUse {
    /// Objects, roughly: moka counts behind.
    pub objects: u64,
    /// The memory that they are charged, in bytes.
    pub bytes: u64,
    /// The budget for it, in bytes.
    pub capacity: u64,
    /// Objects found.
    pub hits: u64,
    /// Objects looked for in vain.
    pub misses: u64,
    /// Objects that had to go for others, or were not let in.
    pub evictions: u64,
}

/// What is counted of a tier.
#[derive(Debug, Default)]
struct Tally {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Clone)]
pub(super) struct Memory {
    entries: Cache<Arc<str>, Arc<Entry>, RandomState>,
    representations: Cache<RepresentationKey, Arc<Representation>, RandomState>,
    entry_tally: Arc<Tally>,
    representation_tally: Arc<Tally>,
    capacity: u64,
}

// === impl Tally ===

impl Tally {
    /// Counts one look that found something, or did not.
    fn looked<T>(&self, found: Option<T>) -> Option<T> {
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Counts one that found something; who did not looks again.
    fn found<T>(&self, found: Option<T>) -> Option<T> {
        found.inspect(|_| {
            self.hits.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn removed(&self, cause: RemovalCause) {
        if cause == RemovalCause::Size {
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn with(&self, objects: u64, bytes: u64, capacity: u64) -> TierUse {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (hits, misses, evictions) = (load(&self.hits), load(&self.misses), load(&self.evictions));
        TierUse { objects, bytes, capacity, hits, misses, evictions }
    }
}

// === impl Memory ===

impl Memory {
    /// `capacity` bytes for representations.
    pub(super) fn new(capacity: u64) -> Self {
        let (entry_tally, representation_tally) = (Arc::<Tally>::default(), Arc::<Tally>::default());
        let (counted, also_counted) = (Arc::clone(&entry_tally), Arc::clone(&representation_tally));
        let entries =
            Cache::builder().max_capacity(ENTRY_MEMORY).weigher(|key: &Arc<str>, entry: &Arc<Entry>| {
                weight(key.len() + ENTRY_OVERHEAD + entry.memory())
            });
        let representations = Cache::builder().max_capacity(capacity).weigher(
            |_: &RepresentationKey, it: &Arc<Representation>| weight(it.body.len() + ENTRY_OVERHEAD),
        );
        let entries = entries.eviction_listener(move |_, _, cause| counted.removed(cause));
        let representations =
            representations.eviction_listener(move |_, _, cause| also_counted.removed(cause));
        Self {
            entries: entries.build_with_hasher(RandomState::new()),
            representations: representations.build_with_hasher(RandomState::new()),
            entry_tally,
            representation_tally,
            capacity,
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        self.entry_tally.looked(self.entries.get(key))
    }

    pub(super) fn entry_if_there(&self, key: &str) -> Option<Arc<Entry>> {
        self.entry_tally.found(self.entries.get(key))
    }

    pub(super) fn insert_entry(&self, key: &str, entry: Arc<Entry>) {
        self.entries.insert(key.into(), entry);
    }

    pub(super) fn remove_entry(&self, key: &str) {
        self.entries.invalidate(key);
    }

    pub(super) fn representation(&self, key: &RepresentationKey) -> Option<Arc<Representation>> {
        self.representation_tally.looked(self.representations.get(key))
    }

    pub(super) fn representation_if_there(&self, key: &RepresentationKey) -> Option<Arc<Representation>> {
        self.representation_tally.found(self.representations.get(key))
    }

    pub(super) fn insert_representation(&self, key: RepresentationKey, it: Arc<Representation>) {
        self.representations.insert(key, it);
    }

    /// Entries.
    pub(super) fn entry_use(&self) -> TierUse {
        self.entry_tally.with(self.entries.entry_count(), self.entries.weighted_size(), ENTRY_MEMORY)
    }

    /// Representations.
    pub(super) fn representation_use(&self) -> TierUse {
        let (count, bytes) = (self.representations.entry_count(), self.representations.weighted_size());
        self.representation_tally.with(count, bytes, self.capacity)
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
