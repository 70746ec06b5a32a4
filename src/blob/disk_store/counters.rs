//! What the store counts about itself; registered as metrics elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::Tier;

/// Why a blob was evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvictionReason {
    /// The store was over its budget; nobody waited.
    Budget,
    /// A new blob needed the room, and its writer waited.
    Room,
}

/// Counts since the store was opened; read with [`Counters::snapshot`] and [`Counters::lookups`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: [AtomicU64; Tier::ALL.len()],
    memory_misses: AtomicU64,
    disk_misses: AtomicU64,
    evicted_blobs: [[AtomicU64; EvictionReason::ALL.len()]; Tier::ALL.len()],
    evicted_bytes: AtomicU64,
    returned_blobs: AtomicU64,
    returned_bytes: AtomicU64,
    damaged: AtomicU64,
    orphans: AtomicU64,
    write_errors: AtomicU64,
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Blobs removed to stay within the budget, by [`Tier`] and [`EvictionReason`].
    pub evicted_blobs: [[u64; EvictionReason::ALL.len()]; Tier::ALL.len()],
    /// The lengths of all of them added up, in bytes.
    pub evicted_bytes: u64,
    /// Blobs stored again within a day after they were evicted.
    pub returned_blobs: u64,
    /// Their lengths added up, in bytes.
    pub returned_bytes: u64,
    /// Blobs found incomplete or with an unreadable record, and removed.
    pub damaged: u64,
    /// Files and chunks without a record, and records without a file, left by a crash and removed.
    pub orphans: u64,
    /// Blobs that could not be written.
    pub write_errors: u64,
}

/// How often blobs were looked for and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Blobs opened, by [`Tier`].
    pub hits: [u64; Tier::ALL.len()],
    /// Blobs that were not in memory.
    pub memory_misses: u64,
    /// Those of them that were not on disk either.
    pub disk_misses: u64,
}

// === impl EvictionReason ===

impl EvictionReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Budget, Self::Room];

    /// The label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Room => "room",
        }
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn hit(&self, tier: Tier) {
        self.hits[tier as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn missed_in_memory(&self) {
        self.memory_misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn missed_on_disk(&self) {
        self.disk_misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self, tier: Tier, reason: EvictionReason, length: u64) {
        self.evicted_blobs[tier as usize][reason as usize].fetch_add(1, Ordering::Relaxed);
        self.evicted_bytes.fetch_add(length, Ordering::Relaxed);
    }

    pub(super) fn returned(&self, length: u64) {
        self.returned_blobs.fetch_add(1, Ordering::Relaxed);
        self.returned_bytes.fetch_add(length, Ordering::Relaxed);
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
        StoreCounts {
            evicted_blobs: self.evicted_blobs.each_ref().map(|reasons| reasons.each_ref().map(load)),
            evicted_bytes: load(&self.evicted_bytes),
            returned_blobs: load(&self.returned_blobs),
            returned_bytes: load(&self.returned_bytes),
            damaged: load(&self.damaged),
            orphans: load(&self.orphans),
            write_errors: load(&self.write_errors),
        }
    }

    pub(super) fn lookups(&self) -> Lookups {
        Lookups {
            hits: self.hits.each_ref().map(load),
            memory_misses: load(&self.memory_misses),
            disk_misses: load(&self.disk_misses),
        }
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
