//! Settings of the blob store and of the database under it.
//!
//! Already typed and in base units; reading them from a file, with units and error messages that name the
//! key, happens in the raw configuration.

use std::{path::PathBuf, time::Duration};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Smallest disk budget that makes sense: the database alone takes a few of its 2 MiB segments.
pub const SMALLEST_CAPACITY: u64 = 256 * MIB;
/// Largest spill size: a blob up to this size is buffered in memory while it arrives.
pub const LARGEST_SPILL: u64 = 64 * MIB;

/// How and where blobs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The store's directory; created when missing.
    pub path: PathBuf,
    /// Disk budget in bytes, for the database and the blob files together.
    pub capacity: u64,
    /// Blobs up to this many bytes live in the database, larger ones in one file each. Measured with
    /// `benches/spill.rs`: at 64 KiB most packages by count share the database's flushes, and memory and disk
    /// are still those of plain files; from 256 KiB on both grow quickly.
    pub spill: u64,
    /// The database's page cache, in bytes.
    pub page_cache: u64,
    /// Memory for whole blobs, in bytes; 0 switches the hot tier off.
    pub hot_capacity: u64,
    /// Largest blob that the hot tier takes at its first use, in bytes.
    pub hot_largest: u64,
    /// A blob's last use is written down again only when the one on disk is older than this.
    pub touch_granularity: Duration,
    /// Free bytes on the file system below which nothing more is stored. The database does not recover from
    /// a full disk before a restart, so it must not meet one.
    pub free_reserve: u64,
    /// Bytes a second at which the whole store is read again behind everything else, over and over; 0 is never. 1 MiB/s
    /// is little for any disk, and 20 GiB are through in six hours: damage is found before most of what is damaged is
    /// wanted. Readers check every byte in any case.
    pub scrub: u64,
}

/// A setting that the store cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {reason}")]
pub struct StoreSettingsError {
    /// Which setting, by its field name.
    pub key: &'static str,
    /// Its value in bytes.
    pub value: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

// === impl StoreSettings ===

impl StoreSettings {
    /// The defaults for a store below `path` with a budget of `capacity` bytes.
    pub fn new(path: impl Into<PathBuf>, capacity: u64) -> Self {
        Self {
            path: path.into(),
            capacity,
            spill: 64 * KIB,
            page_cache: 64 * MIB,
            hot_capacity: 256 * MIB,
            hot_largest: 256 * KIB,
            touch_granularity: Duration::from_secs(300),
            free_reserve: 256 * MIB,
            scrub: MIB,
        }
    }

    /// Every setting that the store cannot work with; empty when all is well.
    pub fn mistakes(&self) -> Vec<StoreSettingsError> {
        let checks = [
            (self.capacity < SMALLEST_CAPACITY, "capacity", self.capacity, "must be at least 256 MiB"),
            (self.spill > LARGEST_SPILL, "spill", self.spill, "must be at most 64 MiB"),
            (self.page_cache < MIB, "page_cache", self.page_cache, "must be at least 1 MiB"),
            (
                self.hot_capacity > 0 && self.hot_largest > self.hot_capacity,
                "hot_largest",
                self.hot_largest,
                "must not exceed hot_capacity",
            ),
        ];
        let wrong = checks.into_iter().filter(|check| check.0);
        wrong.map(|(_, key, value, reason)| StoreSettingsError { key, value, reason }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MIB, StoreSettings};

    #[test]
    fn defaults_are_accepted_and_all_mistakes_are_named() {
        let good = StoreSettings::new("store", 1024 * MIB);
        assert_eq!(good.mistakes(), []);
        let bad = StoreSettings { capacity: 1, spill: 65 * MIB, page_cache: 0, hot_capacity: 1, ..good };
        let keys: Vec<_> = bad.mistakes().iter().map(|mistake| mistake.key).collect();
        assert_eq!(keys, ["capacity", "spill", "page_cache", "hot_largest"]);
    }
}
