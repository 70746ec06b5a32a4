//! What the store counts about itself; registered as metrics elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the store was opened; read with [`Counters::snapshot`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    evicted_blobs: AtomicU64,
    evicted_bytes: AtomicU64,
    damaged: AtomicU64,
    orphans: AtomicU64,
    write_errors: AtomicU64,
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Blobs removed to stay within the budget.
    pub evicted_blobs: u64,
    /// Their lengths added up, in bytes.
    pub evicted_bytes: u64,
    /// Blobs found incomplete or with an unreadable record, and removed.
    pub damaged: u64,
    /// Files and chunks without a record, and records without a file, left by a crash and removed.
    pub orphans: u64,
    /// Blobs that could not be written.
    pub write_errors: u64,
}

// === impl Counters ===

impl Counters {
    pub(super) fn evicted(&self, length: u64) {
        self.evicted_blobs.fetch_add(1, Ordering::Relaxed);
        self.evicted_bytes.fetch_add(length, Ordering::Relaxed);
    }

    pub(super) fn damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn orphan(&self) {
        self.orphans.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write_error(&self) {
        self.write_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> StoreCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounts {
            evicted_blobs: load(&self.evicted_blobs),
            evicted_bytes: load(&self.evicted_bytes),
            damaged: load(&self.damaged),
            orphans: load(&self.orphans),
            write_errors: load(&self.write_errors),
        }
    }
}
