//! One tree of the database: an ordered map from bytes to bytes.
//!
//! Values come out as [`Bytes`] that share the database's buffer. sled's batches are left out: one batch
//! puts a process-wide lock in front of every later call, and the log's order is all the atomicity we need
//! (a crash keeps a prefix of the writes, so the record that is written last is a commit point).

use std::{
    io,
    ops::RangeBounds,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use super::{DiskError, SpaceGuard};

/// The trees there are. sled reads all of a tree's ancestors for every tree, so they stay few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeName {
    /// Storage id → record of a blob.
    Blob,
    /// Storage id ‖ be32 → a piece of a small blob.
    Chunk,
    /// Last use ‖ storage id → nothing; the eviction order.
    Recency,
    /// Canonical package key → storage id.
    Package,
    /// Metadata key → persisted entry.
    Metadata,
    /// Keyed hash of a credential and a feed → verdict.
    Verdict,
    /// Feeds as they are spelled → their identity.
    Name,
    /// Slot → how many writes.
    Generation,
    /// Feed → how far its changes were read.
    Change,
    /// What is stored, added up.
    Totals,
}

/// One tree; cheap to clone.
#[derive(Clone)]
pub struct Tree {
    tree: sled::Tree,
    space: Arc<SpaceGuard>,
}

/// A key and its value.
pub type Entry = (Bytes, Bytes);

/// Entries in key order. Entries that are written or removed meanwhile may be seen or not.
pub struct Entries(sled::Iter);

// === impl TreeName ===

impl TreeName {
    pub(super) const ALL: [Self; 10] = [
        Self::Blob,
        Self::Chunk,
        Self::Recency,
        Self::Package,
        Self::Metadata,
        Self::Verdict,
        Self::Name,
        Self::Generation,
        Self::Change,
        Self::Totals,
    ];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Chunk => "chunk",
            Self::Recency => "recency",
            Self::Package => "package",
            Self::Metadata => "metadata",
            Self::Verdict => "verdict",
            Self::Name => "name",
            Self::Generation => "generation",
            Self::Change => "change",
            Self::Totals => "totals",
        }
    }
}

// === impl Tree ===

impl Tree {
    pub(super) fn new(tree: sled::Tree, space: Arc<SpaceGuard>) -> Self {
        Self { tree, space }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        guarded("read tree", || self.tree.get(key)).map(|value| value.map(shared))
    }

    /// Whether there is a value for `key`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, DiskError> {
        guarded("read tree", || self.tree.contains_key(key))
    }

    /// Writes a value; not durable before [`super::Database::flush`]. Refused when the disk is nearly full.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        let length = u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        self.space.admit(length).map_err(DiskError::during("write tree"))?;
        guarded("write tree", || self.tree.insert(key, value)).map(drop)
    }

    /// Removes a value; whether there was one.
    pub fn remove(&self, key: &[u8]) -> Result<bool, DiskError> {
        guarded("remove from tree", || self.tree.remove(key)).map(|old| old.is_some())
    }

    /// All entries whose key begins with `prefix`.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Entries {
        Entries(self.tree.scan_prefix(prefix))
    }

    /// All entries whose key is in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Entries {
        Entries(self.tree.range(range))
    }

    /// All entries.
    pub fn entries(&self) -> Entries {
        Entries(self.tree.iter())
    }
}

// === impl Entries ===

impl Iterator for Entries {
    type Item = Result<Entry, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = guarded("scan tree", || self.0.next().transpose());
        next.map(|entry| entry.map(|(key, value)| (shared(key), shared(value)))).transpose()
    }
}

/// Runs one call of sled's, which may panic where it finds its own pages damaged.
pub(super) fn guarded<T>(
    action: &'static str,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, DiskError> {
    let fail = |source| DiskError { action, source };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| fail(error.into())),
        Err(_) => Err(fail(io::Error::other("the database panicked"))),
    }
}

fn shared(value: sled::IVec) -> Bytes {
    Bytes::from_owner(value)
}
