//! How much the records of responses take in the database.
//!
//! Bodies are in the blob store and go with its budget, but their records would stay, and whoever may use a mount can
//! make as many as there are URLs that its origin answers. So when all records together are larger than a bound, the
//! oldest go, down to three quarters of it; what they were of is asked anew. Records are added up as they are written;
//! replaced ones count twice until the next time that all are looked at, which the first write of each run brings.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::record;
use crate::disk::{DiskError, Tree};

/// Most bytes of all records and their keys: some 200,000 of an ordinary origin.
const MOST: u64 = 128 << 20;

/// The bound, and how far it is used up.
pub(super) struct Bound {
    most: u64,
    used: AtomicU64,
    /// Somebody looks at all records.
    looks: AtomicBool,
}

// === impl Bound ===

impl Default for Bound {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Bound {
    /// Nothing was added up yet.
    pub(super) fn new(most: u64) -> Self {
        Self { most, used: AtomicU64::new(most), looks: AtomicBool::new(false) }
    }

    /// A record of `length` bytes was written; whether the writer is to [look](Self::look) at all of them.
    pub(super) fn written(&self, length: usize) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let used = self.used.fetch_add(length, Relaxed).saturating_add(length);
        used > self.most && !self.looks.swap(true, Relaxed)
    }

    /// Looks at all records of `tree`, and makes room where that is needed. Blocking.
    pub(super) fn look(&self, tree: &Tree) -> Result<(), DiskError> {
        let left = self.sweep(tree);
        if let Ok(left) = &left {
            self.used.store(*left, Relaxed);
        }
        self.looks.store(false, Relaxed);
        left.map(drop)
    }

    /// Removes the oldest records if all are larger than the bound; how many bytes are left.
    fn sweep(&self, tree: &Tree) -> Result<u64, DiskError> {
        let mut by_time: BTreeMap<u64, u64> = BTreeMap::new();
        for entry in tree.entries() {
            let (key, value) = entry?;
            *by_time.entry(record::received(&value)).or_default() += (key.len() + value.len()) as u64;
        }
        let all: u64 = by_time.values().sum();
        if all <= self.most {
            return Ok(all);
        }
        let (mut left, mut oldest) = (0, u64::MAX);
        for (time, bytes) in by_time.into_iter().rev() {
            if left + bytes > self.most / 4 * 3 {
                break;
            }
            (left, oldest) = (left + bytes, time);
        }
        for entry in tree.entries() {
            let (key, value) = entry?;
            if record::received(&value) < oldest {
                tree.remove(&key)?;
            }
        }
        tracing::info!(left, removed = all - left, "the oldest responses of mounts made room");
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::{HeaderMap, StatusCode};

    use super::Bound;
    use crate::{
        cache::Kept,
        disk::{Database, DatabaseSettings, StoreDirectory, TreeName},
        policy::Stored,
    };

    #[test]
    fn the_oldest_records_make_room_and_unreadable_ones_first() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { page_cache: 4 << 20, free_reserve: 0 };
        let opened = Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap();
        let tree = opened.database.tree(TreeName::Response);
        let record = |second| {
            let at = UNIX_EPOCH + Duration::from_secs(second);
            let (status, headers, selecting) = (StatusCode::OK, HeaderMap::new(), Vec::new());
            let head = Stored { status, reason: None, headers, selecting, requested_at: at, received_at: at };
            Kept { head, body: None }.encode()
        };
        let size = record(0).len() + 1;
        let bound = Bound::new(u64::try_from(8 * size).unwrap());
        let mut looks = 0;
        let mut write = |key: u8, value: &[u8]| {
            tree.insert(&[key], value).unwrap();
            if bound.written(1 + value.len()) {
                looks += 1;
                bound.look(&tree).unwrap();
            }
            let keys: Vec<u8> = tree.entries().map(|entry| entry.unwrap().0[0]).collect();
            (keys, looks)
        };
        // What was there before is added up with the first one.
        assert_eq!(write(9, &vec![0; size - 1]), (vec![9], 1));
        for key in 0..7 {
            // The newest comes first.
            assert_eq!(write(key, &record(100 - u64::from(key))).1, 1);
        }
        assert_eq!(write(7, &record(93)), (vec![0, 1, 2, 3, 4, 5], 2), "six of eight are left");
        assert_eq!(write(8, &record(200)), (vec![0, 1, 2, 3, 4, 5, 8], 2));
    }
}
