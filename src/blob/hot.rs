//! Whole blobs in memory, in front of the disk; the only file of `blob` that names moka.
//!
//! Small ones come in when they are opened. Larger ones must be asked for again and again before: reading one whole keeps
//! its first reader waiting, and a restore that opens each once or twice is to read none of them whole.
//!
//! moka decides what stays (by frequency and recency); this says what may come in and counts bytes. A blob
//! here is always on disk too, so losing it costs a read and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use ahash::RandomState;
use async_trait::async_trait;
use bytes::Bytes;
use moka::{notification::RemovalCause, sync::Cache};
use parking_lot::{Mutex, MutexGuard};

use super::{BlobError, BlobStat, Holding, ReadAt};
use crate::ident::StorageId;

/// Bytes that an entry takes beside the blob's own: key, stat, moka's bookkeeping.
const ENTRY_OVERHEAD: u64 = 400;
/// The open with which a larger blob comes in; so does each one that many later, if it had to go meanwhile.
const FAVOURITE: u32 = 4;
/// A larger blob takes at most this part of the memory.
const PART: u64 = 8;
/// Larger blobs whose opens are counted, those that were opened lately and often.
const COUNTED: u64 = 4096;

/// The tier.
pub(super) struct HotTier {
    cache: Cache<StorageId, Arc<HotBlob>, RandomState>,
    largest: u64,
    /// Opens of larger blobs.
    opens: Cache<StorageId, Arc<AtomicU32>>,
    largest_favourite: u64,
    /// Held while a larger blob is read: one at a time, so that what they take beside the capacity is bounded.
    reading: Mutex<()>,
    evictions: Arc<AtomicU64>,
}

/// A whole blob.
pub(super) struct HotBlob {
    stat: BlobStat,
    bytes: Bytes,
    noted: AtomicU64,
}

// === impl HotTier ===

impl HotTier {
    /// Takes up to `capacity` bytes of blobs of up to `largest` bytes each.
    pub(super) fn new(capacity: u64, largest: u64) -> Self {
        let weight = |_: &StorageId, blob: &Arc<HotBlob>| {
            u32::try_from(blob.stat.length.saturating_add(ENTRY_OVERHEAD)).unwrap_or(u32::MAX)
        };
        let evictions = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&evictions);
        let count = move |_: Arc<StorageId>, _: Arc<HotBlob>, cause: RemovalCause| {
            if cause == RemovalCause::Size {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        let cache = Cache::builder().max_capacity(capacity).weigher(weight).eviction_listener(count);
        let cache = cache.build_with_hasher(RandomState::new());
        Self {
            cache,
            largest: if capacity == 0 { 0 } else { largest },
            opens: Cache::new(COUNTED),
            largest_favourite: capacity / PART,
            reading: Mutex::default(),
            evictions,
        }
    }

    /// What is here, roughly: moka counts behind.
    pub(super) fn holding(&self) -> Holding {
        Holding { blobs: self.cache.entry_count(), bytes: self.cache.weighted_size() }
    }

    /// Blobs that had to go for others, or were not let in.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Whether a blob of this length may come in.
    pub(super) fn takes(&self, length: u64) -> bool {
        length <= self.largest && self.largest > 0
    }

    /// Counts an open of a blob that is too large to come in with its first. If it is to come in with this one, the
    /// guard is to be held while it is read.
    pub(super) fn favours(&self, id: &StorageId, length: u64) -> Option<MutexGuard<'_, ()>> {
        if length > self.largest_favourite {
            return None;
        }
        let opens = self.opens.get_with(*id, Arc::default).fetch_add(1, Ordering::Relaxed) + 1;
        if opens.is_multiple_of(FAVOURITE) { self.reading.try_lock() } else { None }
    }

    pub(super) fn get(&self, id: &StorageId) -> Option<Arc<HotBlob>> {
        self.cache.get(id)
    }

    pub(super) fn insert(&self, id: StorageId, blob: Arc<HotBlob>) {
        self.cache.insert(id, blob);
    }

    pub(super) fn remove(&self, id: &StorageId) {
        self.cache.invalidate(id);
    }
}

// === impl HotBlob ===

impl HotBlob {
    /// `used` is its last use as written down on disk, in milliseconds since 1970.
    pub(super) fn new(stat: BlobStat, bytes: Bytes, used: u64) -> Self {
        Self { stat, bytes, noted: AtomicU64::new(used) }
    }

    pub(super) fn stat(&self) -> &BlobStat {
        &self.stat
    }

    /// Whether a use at `now` is to be written down, being `granularity` or more after the last one that was.
    pub(super) fn is_due(&self, now: u64, granularity: Duration) -> bool {
        let granularity = u64::try_from(granularity.as_millis()).unwrap_or(u64::MAX);
        let noted = self.noted.load(Ordering::Relaxed);
        let due = now > noted && now - noted >= granularity;
        due && self.noted.compare_exchange(noted, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[async_trait]
impl ReadAt for HotBlob {
    /// Not cut to pieces: the bytes are in memory anyway.
    async fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, BlobError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if start >= self.bytes.len() || max == 0 {
            return Err(BlobError::OutOfRange { offset, length: max });
        }
        let end = start.saturating_add(max).min(self.bytes.len());
        Ok(self.bytes.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::{Holding, HotBlob, HotTier};
    use crate::{
        blob::{BlobKind, BlobStat, Digests, ReadAt},
        ident::StorageId,
    };

    fn blob(length: usize) -> Arc<HotBlob> {
        let stat = BlobStat {
            length: u64::try_from(length).unwrap(),
            kind: BlobKind::Package,
            digests: Digests::default(),
        };
        Arc::new(HotBlob::new(stat, Bytes::from(vec![7; length]), 1_000))
    }

    #[test]
    fn memory_stays_within_the_capacity() {
        let tier = HotTier::new(100_000, 20_000);
        for number in 0..50 {
            tier.insert(StorageId::of_file([number; 32]), blob(20_000));
        }
        tier.cache.run_pending_tasks();
        assert!(tier.cache.weighted_size() <= 100_000);
        let Holding { blobs, bytes } = tier.holding();
        assert!(blobs > 0 && bytes >= blobs * 20_000);
        assert_eq!(tier.evictions(), 50 - blobs);
        assert!(tier.takes(20_000) && !tier.takes(20_001));
        assert!(!HotTier::new(0, 20_000).takes(0), "switched off");
    }

    #[test]
    fn one_full_restore_does_not_flush_what_is_in_use() {
        // Large enough that chance evens out: moka keys its hashes at random, and with a weigher it keeps counters of
        // use for a quarter of the entries only (0.12.16 multiplies by the part of the capacity that is filled, where
        // it would have to divide), so that some of what is restored passes for something that is in use.
        let tier = HotTier::new(10_000_000, 20_000);
        let id = |number: u16| {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&number.to_be_bytes());
            StorageId::of_file(hash)
        };
        // As the store does: what is not here is read from disk, and offered.
        let open = |number: u16| {
            let hit = tier.get(&id(number)).is_some();
            if !hit {
                tier.insert(id(number), blob(20_000));
            }
            tier.cache.run_pending_tasks();
            hit
        };
        let use_all = || (0..300_u16).filter(|number| open(*number)).count();
        for _ in 0..10 {
            use_all();
        }
        // Each part is twice the capacity, and would flush all of a cache that goes by the last use.
        for part in 0..20 {
            let from = 1_000 + part * 1_000;
            let restored = (from..from + 1_000).filter(|number| open(*number)).count();
            let kept = use_all();
            assert!(restored == 0 && kept >= 150, "{kept} of 300 are left after part {part} of a restore");
        }
    }

    #[test]
    fn a_larger_blob_comes_in_once_it_is_opened_again_and_again() {
        let tier = HotTier::new(80_000, 1_000);
        let [one, other] = [1, 2].map(|byte| StorageId::of_file([byte; 32]));
        let come =
            |id: &StorageId, length| (0..8).map(|_| tier.favours(id, length).is_some()).collect::<Vec<_>>();
        let fourth = [false, false, false, true, false, false, false, true];
        assert_eq!(come(&one, 10_000), fourth);
        assert_eq!(come(&one, 10_001), [false; 8], "more than an eighth of the memory");
        let first = (0..4).find_map(|_| tier.favours(&one, 10_000)).unwrap();
        assert_eq!(come(&other, 10_000), [false; 8], "another one is being read");
        drop(first);
        assert_eq!(come(&other, 10_000), fourth);
        assert!(HotTier::new(0, 0).favours(&one, 1).is_none(), "switched off");
    }

    #[test]
    fn a_use_is_due_once_per_granularity() {
        let blob = blob(1);
        let granularity = Duration::from_millis(100);
        assert!(!blob.is_due(1_099, granularity));
        assert!(blob.is_due(1_100, granularity));
        assert!(!blob.is_due(1_100, granularity));
        assert!(!blob.is_due(900, granularity), "a clock that went back");
    }

    #[tokio::test]
    async fn reads_inside_the_blob_only() {
        let blob = blob(10);
        assert_eq!(blob.read_at(4, 100).await.unwrap().len(), 6);
        assert_eq!(blob.read_at(4, 2).await.unwrap().len(), 2);
        for (offset, max) in [(10, 1), (u64::MAX, 1), (0, 0)] {
            assert!(blob.read_at(offset, max).await.is_err(), "{offset} {max}");
        }
    }
}
