//! Immutable bytes, addressed by [`StorageId`]: the store that survives restarts, and fills in progress.
//!
//! A *blob* is the bytes of one package file or of one persisted document. It exists for readers only after
//! [`BlobWriter::commit`]; a writer that is dropped leaves nothing behind. What a blob *means* (which feed,
//! which package, who may read it) is not known here: see `handler` and `access`.

#[cfg(test)]
pub(crate) mod conformance;
mod departed;
mod digest;
mod disk_store;
mod eviction;
pub mod fill;
mod hot;
mod memory_store;
mod pages;
pub mod record;
mod vso_hash;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use digest::{Expected, Hashing, Mismatch, published_digests};
pub use disk_store::{
    DiskStore, EvictionReason, Health, Holding, Lookups, Pace, Quarantined, StoreCounts, Weight,
};
pub use memory_store::MemoryStore;
pub use vso_hash::VsoHasher;

use crate::ident::StorageId;

/// What a blob is kept for; a label of metrics and of the store's figures, not part of its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// A package file (`.tgz`, `.nupkg`).
    Package,
    /// The body of a persisted metadata document.
    Document,
}

/// Digests of a blob beside its storage id, where they were computed while it was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// SHA-1, as in npm's `dist.shasum`.
    pub sha1: Option<[u8; 20]>,
    /// SHA-512, as in npm's `dist.integrity`.
    pub sha512: Option<[u8; 64]>,
}

/// What the store knows of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobStat {
    /// Length in bytes.
    pub length: u64,
    /// What it is kept for.
    pub kind: BlobKind,
    /// Digests beside the id.
    pub digests: Digests,
}

/// What a store holds, for metrics and for the disk budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs stored.
    pub blobs: u64,
    /// Their lengths added up, in bytes.
    pub payload: u64,
    /// Bytes that the store takes on disk.
    pub disk: u64,
    /// The budget for `disk`, in bytes.
    pub capacity: u64,
}

/// Why the store could not do what was asked. Never fails a request: the caller goes on as after a miss.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The disk, or sled on it, refused.
    #[error("blob store {action}: {source}")]
    Io {
        /// What was being done, e.g. `write chunk`.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A stored blob is incomplete or unreadable; it was removed.
    #[error("blob {id} is damaged: {reason}")]
    Damaged {
        /// Which blob.
        id: StorageId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A read past the end, or of bytes that a fill has not written yet.
    #[error("read of {offset}+{length} is outside the blob")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: usize,
    },
    /// The blob is larger than the whole disk budget.
    #[error("blob of {length} bytes does not fit the budget of {capacity}")]
    TooLarge {
        /// Its length in bytes.
        length: u64,
        /// The disk budget in bytes.
        capacity: u64,
    },
}

/// Random access to the bytes of a blob.
#[async_trait]
pub trait ReadAt: Send + Sync {
    /// At least one and at most `max` bytes from `offset`, which must lie inside the blob.
    async fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, BlobError>;
}

/// Where a blob's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// In memory.
    Memory,
    /// In the database, in chunks.
    Database,
    /// In a file of its own.
    File,
}

impl Tier {
    /// Every tier, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Database, Self::File];

    /// The label of metrics and of the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Database => "database",
            Self::File => "file",
        }
    }
}

/// An open blob. Stays readable when the blob is evicted meanwhile, or fails with an error; never short.
#[derive(Clone)]
pub struct Blob {
    /// Its id.
    pub id: StorageId,
    /// What the store knows of it.
    pub stat: BlobStat,
    /// Where its bytes lie.
    pub tier: Tier,
    /// Its bytes.
    pub bytes: Arc<dyn ReadAt>,
}

/// A store of blobs. Every back-end passes the suite in `blob/conformance.rs`.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Looks a blob up without counting that as use.
    async fn stat(&self, id: &StorageId) -> Result<Option<BlobStat>, BlobError>;

    /// Opens a blob; counts as use for the eviction order.
    async fn open(&self, id: &StorageId) -> Result<Option<Blob>, BlobError>;

    /// Opens a blob that is in memory, without waiting; counts as use when there is one.
    fn open_in_memory(&self, _id: &StorageId) -> Option<Blob> {
        None
    }

    /// Starts a blob. `length` is its length in bytes when known; it decides where the bytes go.
    async fn begin(&self, kind: BlobKind, length: Option<u64>) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// Removes a blob; whether there was one.
    async fn remove(&self, id: &StorageId) -> Result<bool, BlobError>;

    /// Makes sure that what was committed before this call survives a kill of the process.
    async fn flush(&self) -> Result<(), BlobError>;

    /// Figures for metrics.
    fn usage(&self) -> Usage;
}

/// A blob being written. Dropped without [`BlobWriter::commit`], it never existed.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Reads what was written so far; stays valid after `commit` and while readers hold it.
    fn written(&self) -> Arc<dyn ReadAt>;

    /// Makes the blob visible under `id`, durable against a kill of the process when this returns.
    /// Committing an id that exists already is success and keeps the older copy.
    async fn commit(self: Box<Self>, id: StorageId, digests: Digests) -> Result<(), BlobError>;
}
