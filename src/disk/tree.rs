//! One tree of the database: an ordered map from bytes to bytes.
//!
//! Values come out as [`Bytes`] that share the database's buffer. sled's batches are left out: one batch
//! puts a process-wide lock in front of every later call, and the log's order is all the atomicity we need
//! (a crash keeps a prefix of the writes, so the record that is written last is a commit point).
//!
//! Every value is *sealed*: four bytes behind it are the CRC-32 of key and value. sled checks its own pages when it reads
//! them, but not what a page says once it was read wrongly or written wrongly. A value that does not have its seal is
//! damaged: it is removed, counted, kept aside, and missing for whoever asked.

use std::{
    io,
    ops::RangeBounds,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use super::{DiskError, SpaceGuard, damage::Damage, keys::Keys, watch};

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
    /// Package → when its versions were first seen.
    Sighting,
    /// What is stored, added up.
    Totals,
    /// URL at a mount's origin ‖ mount ‖ selecting fields → a response without its body.
    Response,
    /// Package or metadata key → since when it is pinned.
    Pin,
}

/// One tree; cheap to clone.
#[derive(Clone)]
pub struct Tree {
    sled: sled::Tree,
    space: Arc<SpaceGuard>,
    damage: Arc<Damage>,
    /// Of a tree that is asked on the way of a cold request.
    keys: Option<Arc<Keys>>,
}

/// Length of the seal behind a value, in bytes.
const SEAL: usize = 4;

/// A key and its value.
pub type Entry = (Bytes, Bytes);

/// Entries in key order. Entries that are written or removed meanwhile may be seen or not; damaged ones are not.
pub struct Entries {
    entries: sled::Iter,
    tree: Tree,
}

// === impl TreeName ===

impl TreeName {
    pub(super) const ALL: [Self; 13] = [
        Self::Blob,
        Self::Chunk,
        Self::Recency,
        Self::Package,
        Self::Metadata,
        Self::Verdict,
        Self::Name,
        Self::Generation,
        Self::Change,
        Self::Sighting,
        Self::Totals,
        Self::Response,
        Self::Pin,
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
            Self::Sighting => "sighting",
            Self::Totals => "totals",
            Self::Response => "response",
            Self::Pin => "pin",
        }
    }
}

// === impl Tree ===

impl Tree {
    /// `damage` counts and keeps, for all trees, the values that were damaged.
    pub(super) fn new(name: TreeName, sled: sled::Tree, space: Arc<SpaceGuard>, damage: Arc<Damage>) -> Self {
        let keys = matches!(name, TreeName::Blob | TreeName::Package | TreeName::Metadata);
        Self { sled, space, damage, keys: keys.then(Arc::default) }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        let value = guarded("read tree", || self.sled.get(key))?;
        value.map_or(Ok(None), |value| self.unsealed(key, value))
    }

    /// Whether there is a value for `key`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, DiskError> {
        guarded("read tree", || self.sled.contains_key(key))
    }

    /// Whether there is certainly no value for `key`. Does not block; says no where only a look would tell.
    pub fn lacks(&self, key: &[u8]) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.lack(key))
    }

    /// Learns which keys there are, for [`Tree::lacks`].
    pub(super) fn survey(&self) -> Result<(), DiskError> {
        let Some(keys) = &self.keys else { return Ok(()) };
        for key in self.sled.iter().keys() {
            keys.add(&guarded("scan tree", || key)?);
        }
        keys.surveyed();
        Ok(())
    }

    /// Writes a value; not durable before [`super::Database::flush`]. Refused when the disk is nearly full.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        let value = sealed(key, value);
        let length = u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        self.space.admit(length).map_err(DiskError::during("write tree"))?;
        if let Some(keys) = &self.keys {
            keys.add(key);
        }
        guarded("write tree", || self.sled.insert(key, value)).map(drop)
    }

    /// Removes a value; whether there was one.
    pub fn remove(&self, key: &[u8]) -> Result<bool, DiskError> {
        guarded("remove from tree", || self.sled.remove(key)).map(|old| old.is_some())
    }

    /// All entries whose key begins with `prefix`.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Entries {
        Entries { entries: self.sled.scan_prefix(prefix), tree: self.clone() }
    }

    /// All entries whose key is in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Entries {
        Entries { entries: self.sled.range(range), tree: self.clone() }
    }

    /// All entries.
    pub fn entries(&self) -> Entries {
        Entries { entries: self.sled.iter(), tree: self.clone() }
    }

    /// Reads every value; the keys of those that were damaged and are removed.
    pub(super) fn sweep(&self) -> Result<Vec<Bytes>, DiskError> {
        let mut removed = Vec::new();
        for entry in &self.sled {
            let (key, value) = guarded("scan tree", || entry.clone())?;
            if unsealed(&key, &value).is_none() && self.unsealed(&key, value)?.is_none() {
                removed.push(Bytes::from_owner(key));
            }
        }
        Ok(removed)
    }

    /// Seals the values of a database that was written before values were sealed. Values that are sealed already, by a
    /// call that was cut off, stay as they are.
    pub(super) fn seal_all(&self) -> Result<(), DiskError> {
        for entry in &self.sled {
            let (key, value) = guarded("scan tree", || entry.clone())?;
            if unsealed(&key, &value).is_none() {
                guarded("write tree", || self.sled.insert(&key, sealed(&key, &value)))?;
            }
        }
        Ok(())
    }

    /// The value in what is stored; a damaged one is removed, unless another is there meanwhile.
    fn unsealed(&self, key: &[u8], stored: sled::IVec) -> Result<Option<Bytes>, DiskError> {
        if let Some(length) = unsealed(key, &stored) {
            return Ok(Some(Bytes::from_owner(stored).slice(..length)));
        }
        let nothing: Option<sled::IVec> = None;
        let swapped =
            guarded("remove from tree", || self.sled.compare_and_swap(key, Some(&stored), nothing))?;
        if swapped.is_ok() {
            self.damage.note(&String::from_utf8_lossy(&self.sled.name()), key, &stored, &self.space);
        }
        Ok(None)
    }
}

// === impl Entries ===

impl Iterator for Entries {
    type Item = Result<Entry, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, value) = match guarded("scan tree", || self.entries.next().transpose()).transpose()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            if let Some(value) = self.tree.unsealed(&key, value).transpose() {
                return Some(value.map(|value| (Bytes::from_owner(key), value)));
            }
        }
    }
}

/// Runs one call of sled's that may wait for the disk.
pub(super) fn guarded<T>(
    action: &'static str,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, DiskError> {
    watch::blocks(action);
    caught(action, call)
}

/// Runs one call of sled's, which may panic where it finds its own pages damaged.
pub(super) fn caught<T>(
    action: &'static str,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, DiskError> {
    let fail = |source| DiskError { action, source };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| fail(error.into())),
        Err(_) => Err(fail(io::Error::other("the database panicked"))),
    }
}

fn seal(key: &[u8], value: &[u8]) -> [u8; SEAL] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_be_bytes()
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(value.len() + SEAL);
    stored.extend_from_slice(value);
    stored.extend_from_slice(&seal(key, value));
    stored
}

/// The length of the value in what is stored; `None` when it does not have its seal.
fn unsealed(key: &[u8], stored: &[u8]) -> Option<usize> {
    let (value, own) = stored.split_last_chunk::<SEAL>()?;
    (seal(key, value) == *own).then_some(value.len())
}
