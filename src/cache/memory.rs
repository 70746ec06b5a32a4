//! The memory tier of documents: entries and ready representations, in moka.
//!
//! moka bounds the memory only; freshness is ours (`freshness`), so that tests can move the clock.

use std::sync::Arc;

use moka::sync::Cache;

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
}

/// One spelling of a feed for another: `{org}[/{project}]/_packaging/{feed}[@{view}]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Respelling {
    /// As in the document.
    pub from: Arc<str>,
    /// As the client asked.
    pub to: Arc<str>,
}

pub(super) struct Memory {
    entries: Cache<Arc<str>, Arc<Entry>>,
    representations: Cache<RepresentationKey, Arc<Representation>>,
}

// === impl Memory ===

impl Memory {
    /// `capacity` bytes for representations.
    pub(super) fn new(capacity: u64) -> Self {
        let entries =
            Cache::builder().max_capacity(ENTRY_MEMORY).weigher(|key: &Arc<str>, entry: &Arc<Entry>| {
                weight(key.len() + ENTRY_OVERHEAD + entry.memory())
            });
        let representations = Cache::builder().max_capacity(capacity).weigher(
            |_: &RepresentationKey, it: &Arc<Representation>| weight(it.body.len() + ENTRY_OVERHEAD),
        );
        Self { entries: entries.build(), representations: representations.build() }
    }

    pub(super) fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    pub(super) fn insert_entry(&self, key: &str, entry: Arc<Entry>) {
        self.entries.insert(key.into(), entry);
    }

    pub(super) fn remove_entry(&self, key: &str) {
        self.entries.invalidate(key);
    }

    pub(super) fn representation(&self, key: &RepresentationKey) -> Option<Arc<Representation>> {
        self.representations.get(key)
    }

    pub(super) fn insert_representation(&self, key: RepresentationKey, it: Arc<Representation>) {
        self.representations.insert(key, it);
    }

    /// Representations and their bytes, roughly.
    pub(super) fn usage(&self) -> (u64, u64) {
        (self.representations.entry_count(), self.representations.weighted_size())
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
