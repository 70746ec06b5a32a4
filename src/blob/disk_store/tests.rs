//! What the disk store promises beyond the shared suite: restarts, the eviction order, the budget, damage.
//!
//! Kills and write errors from the system need a process of their own: see `tests/crash.rs`.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use tempfile::TempDir;

use super::{BlobError, BlobKind, BlobStore, DiskStore, EvictionReason, Holding, Lookups, StoreCounts};
use crate::{
    blob::{
        Digests, Tier,
        conformance::{conformance, conformance_model, id_of, pattern, read_range, store_blob},
        record::Record,
    },
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, DatabaseSettings, StoreDirectory, TreeName},
    ident::StorageId,
};

const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
/// Longer than the spill size of these tests, and than what the hot tier takes.
pub(super) const LARGE: usize = 300_000;
/// Stays in the database.
pub(super) const SMALL: usize = 40_000;

/// A place for one store after the other, and the time there.
pub(super) struct Place {
    pub(super) root: TempDir,
    clock: Clock,
    pub(super) settings: StoreSettings,
}

impl Place {
    pub(super) fn new(capacity: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            page_cache: 8 * MIB,
            hot_capacity: 0,
            touch_granularity: Duration::from_millis(1),
            free_reserve: 0,
            ..StoreSettings::new(root.path(), capacity)
        };
        let clock = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        Self { root, clock, settings }
    }

    pub(super) async fn open(&self) -> DiskStore {
        let store = self.open_uncounted().await;
        store.take_stock().await.unwrap();
        store
    }

    pub(super) async fn open_uncounted(&self) -> DiskStore {
        let settings = DatabaseSettings {
            page_cache: self.settings.page_cache,
            free_reserve: self.settings.free_reserve,
        };
        let directory = StoreDirectory::open(self.root.path()).unwrap();
        let opened = Database::open(directory, &settings).unwrap();
        DiskStore::open(opened.database, self.settings.clone(), self.clock.clone()).await.unwrap()
    }

    /// Stores `bytes` as blob `name`, a millisecond after whatever came before.
    pub(super) async fn store(&self, store: &DiskStore, name: u8, bytes: &[u8]) {
        self.clock.advance(Duration::from_millis(1));
        store_blob(store, id_of(name), bytes).await;
    }

    /// Uses blob `name`, likewise; whether it is there.
    pub(super) async fn touch(&self, store: &DiskStore, name: u8) -> bool {
        self.clock.advance(Duration::from_millis(1));
        store.open(&id_of(name)).await.unwrap().is_some()
    }

    pub(super) fn file(&self, name: u8) -> std::path::PathBuf {
        let hex = id_of(name).to_string();
        self.root.path().join("blobs").join(&hex[..2]).join(hex)
    }

    pub(super) fn count_files(&self, folder: &str) -> usize {
        count_files(&self.root.path().join(folder))
    }
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
}

pub(super) async fn names(store: &DiskStore) -> Vec<u8> {
    store.list(None, usize::MAX).await.unwrap().iter().map(|(id, _)| id.as_bytes()[0]).collect()
}

pub(super) async fn read(store: &DiskStore, name: u8) -> Result<Vec<u8>, BlobError> {
    let blob = store.open(&id_of(name)).await?.expect("stored");
    let length = usize::try_from(blob.stat.length).unwrap();
    read_range(&*blob.bytes, 0, length, 1 << 20).await
}

impl super::vault::Vault {
    /// Removes the one blob whose turn it is.
    pub(super) fn evict_one(self: &Arc<Self>) -> Result<(), BlobError> {
        let totals = self.budget.totals();
        self.evict_step(1, totals.charge + totals.reserved).map(drop)
    }
}

// --- the shared suite

async fn conforms(spill: u64, hot_capacity: u64) {
    let places = parking_lot::Mutex::new(Vec::new());
    let make = || async {
        let mut place = Place::new(1024 * MIB);
        (place.settings.spill, place.settings.hot_capacity) = (spill, hot_capacity);
        let store = place.open().await;
        places.lock().push(place);
        Arc::new(store) as Arc<dyn BlobStore>
    };
    conformance(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_chunks_and_files() {
    conforms(64 * KIB, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_everything_in_files() {
    conforms(0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_everything_in_chunks_and_a_hot_tier() {
    conforms(64 * MIB, 8 * MIB).await;
}

#[test]
fn behaves_like_a_map() {
    let places = parking_lot::Mutex::new(Vec::new());
    let make = || async {
        let mut place = Place::new(1024 * MIB);
        place.settings.hot_capacity = MIB;
        let store = place.open().await;
        places.lock().push(place);
        Arc::new(store) as Arc<dyn BlobStore>
    };
    conformance_model(make, 12);
}

// --- figures

#[tokio::test]
async fn reads_are_counted_by_tier() {
    let mut place = Place::new(256 * MIB);
    (place.settings.hot_capacity, place.settings.hot_largest) = (8 * MIB, SMALL as u64);
    let store = place.open().await;
    place.store(&store, 1, &pattern(SMALL)).await;
    place.store(&store, 2, &pattern(LARGE)).await;
    drop(store);

    let store = place.open().await;
    for (name, there) in [(1, true), (1, true), (2, true), (3, false)] {
        assert_eq!(place.touch(&store, name).await, there, "{name}");
    }
    assert_eq!(store.lookups(), Lookups { hits: [1, 1, 1], memory_misses: 3, disk_misses: 1 });
    let [_, database, file] = store.holdings();
    assert_eq!(database, Holding { blobs: 1, bytes: SMALL as u64 });
    assert_eq!(file, Holding { blobs: 1, bytes: LARGE as u64 });
    store.remove(&id_of(2)).await.unwrap();
    assert_eq!(store.holdings()[2], Holding::default());
    assert!(store.free_space().unwrap() > 0);
}

#[tokio::test]
async fn a_large_blob_that_is_much_in_use_is_read_from_memory() {
    let mut place = Place::new(256 * MIB);
    (place.settings.hot_capacity, place.settings.hot_largest) = (8 * MIB, SMALL as u64);
    let store = place.open().await;
    place.store(&store, 1, &pattern(LARGE)).await;
    let mut tiers = Vec::new();
    for _ in 0..5 {
        let blob = store.open(&id_of(1)).await.unwrap().unwrap();
        assert_eq!(read_range(&*blob.bytes, 0, LARGE, LARGE).await.unwrap(), pattern(LARGE));
        tiers.push(blob.tier);
    }
    assert_eq!(tiers, [Tier::File, Tier::File, Tier::File, Tier::Memory, Tier::Memory]);
    store.remove(&id_of(1)).await.unwrap();
    assert!(store.open(&id_of(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn blobs_that_come_back_soon_after_their_eviction_are_counted() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    for (name, length) in [(1, SMALL), (2, LARGE), (3, SMALL)] {
        place.store(&store, name, &pattern(length)).await;
        store.vault.evict_one().unwrap();
    }
    place.store(&store, 2, &pattern(LARGE)).await;
    place.store(&store, 4, &pattern(SMALL)).await;
    place.clock.advance(Duration::from_secs(25 * 3600));
    place.store(&store, 1, &pattern(SMALL)).await;
    let counts = store.counts();
    assert_eq!((counts.returned_blobs, counts.returned_bytes), (1, LARGE as u64));
}

// --- restarts

#[tokio::test]
async fn a_restart_keeps_blobs_and_figures() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    for (name, length) in [(1, SMALL), (2, LARGE), (3, 0)] {
        place.store(&store, name, &pattern(length)).await;
    }
    let before = store.usage();
    store.close().await.unwrap();
    drop(store);

    let store = place.open().await;
    assert_eq!(names(&store).await, [1, 2, 3]);
    assert_eq!(read(&store, 1).await.unwrap(), pattern(SMALL));
    assert_eq!(read(&store, 2).await.unwrap(), pattern(LARGE));
    let after = store.usage();
    assert_eq!((after.blobs, after.payload), (3, (SMALL + LARGE) as u64));
    assert_eq!((before.blobs, before.payload), (after.blobs, after.payload));
    assert_eq!(store.counts(), StoreCounts::default());
    let page = store.list(Some(id_of(1)), 1).await.unwrap();
    assert_eq!(
        page.iter().map(|(id, stat)| (*id, stat.length)).collect::<Vec<_>>(),
        [(id_of(2), LARGE as u64)]
    );
}

// --- eviction

/// After these, the order is 2 1 4 5 3, oldest first.
async fn store_and_use(place: &Place, store: &DiskStore, length: usize) {
    for name in 1..=5 {
        place.store(store, name, &pattern(length)).await;
    }
    for name in [1, 4, 5, 3] {
        assert!(place.touch(store, name).await);
    }
}

async fn check_order(spill: u64, hot_capacity: u64) {
    let mut place = Place::new(256 * MIB);
    (place.settings.spill, place.settings.hot_capacity) = (spill, hot_capacity);
    place.settings.hot_largest = MIB;
    let store = place.open().await;
    store_and_use(&place, &store, LARGE).await;
    for survivors in [&[1, 3, 4, 5][..], &[3, 4, 5], &[3, 5]] {
        store.vault.evict_one().unwrap();
        assert_eq!(names(&store).await, survivors, "before the restart");
    }
    place.store(&store, 6, &pattern(LARGE)).await;
    assert!(place.touch(&store, 5).await);
    store.close().await.unwrap();
    drop(store);

    let store = place.open().await;
    for survivors in [&[5, 6][..], &[5], &[]] {
        store.vault.evict_one().unwrap();
        assert_eq!(names(&store).await, survivors, "after the restart");
    }
    let evicted = store.counts().evicted_blobs;
    assert_eq!(evicted.iter().flatten().sum::<u64>(), 3);
    let place_of_all = if spill < LARGE as u64 { Tier::File } else { Tier::Database };
    assert_eq!(evicted[place_of_all as usize][EvictionReason::Room as usize], 3);
    assert_eq!(store.counts().evicted_bytes, 3 * LARGE as u64);
    assert_eq!((store.usage().blobs, store.vault.budget.totals().charge), (0, 0));
    assert_eq!(place.count_files("blobs"), 0);
    assert_eq!(store.vault.recency.entries().count(), 0);
}

#[tokio::test]
async fn the_least_recently_used_leaves_first_from_files() {
    check_order(0, 0).await;
}

#[tokio::test]
async fn the_least_recently_used_leaves_first_from_chunks() {
    check_order(4 * MIB, 0).await;
}

#[tokio::test]
async fn a_hit_in_memory_counts_as_use_on_disk() {
    check_order(4 * MIB, 32 * MIB).await;
}

#[tokio::test]
async fn uses_are_written_down_once_per_granularity() {
    let mut place = Place::new(256 * MIB);
    place.settings.touch_granularity = Duration::from_secs(60);
    let store = place.open().await;
    place.store(&store, 1, &pattern(SMALL)).await;
    let used =
        || Record::decode(&store.vault.records.get(id_of(1).as_bytes()).unwrap().unwrap()).unwrap().used;
    let stored = used();
    for (seconds, expected) in [(59, 0), (30, 89_000), (59, 89_000), (2, 150_000)] {
        place.clock.advance(Duration::from_millis(seconds * 1000 - 1));
        assert!(place.touch(&store, 1).await);
        store.maintain().await.unwrap();
        assert_eq!(used() - stored, expected);
    }
    assert_eq!(store.vault.recency.entries().count(), 1);
}

/// Writes twice the capacity in blobs of `lengths`, using some of them again and again.
async fn check_churn(capacity: u64, lengths: &[usize]) {
    let place = Place::new(capacity);
    let store = place.open().await;
    let mut written = 0;
    for (number, length) in (0_u32..).zip(lengths.iter().cycle()) {
        place.clock.advance(Duration::from_millis(1));
        store_blob(&store, numbered(number), &pattern(*length)).await;
        store.open(&numbered(number / 50 * 10)).await.unwrap();
        written += *length as u64;
        let usage = store.usage();
        assert!(usage.disk <= usage.capacity, "{usage:?} after {number}");
        if written > 2 * usage.capacity {
            break;
        }
    }
    let (usage, counts) = (store.usage(), store.counts());
    assert!(usage.payload > usage.capacity / 2, "{usage:?}");
    assert_eq!(usage.payload + counts.evicted_bytes, written);
    drop(store);

    let store = place.open().await;
    assert_eq!((store.usage().blobs, store.usage().payload), (usage.blobs, usage.payload));
    store.maintain().await.unwrap();
    assert!(store.usage().disk <= usage.capacity);
}

fn numbered(number: u32) -> StorageId {
    let mut hash = [0; 32];
    // Mixed, for real ids are in no order.
    hash[..4].copy_from_slice(&number.wrapping_mul(0x9E37_79B1).to_be_bytes());
    StorageId::of_file(hash)
}

#[tokio::test]
async fn the_disk_stays_within_the_budget_under_churn() {
    check_churn(24 * MIB, &[SMALL, LARGE, SMALL, SMALL]).await;
}

#[tokio::test]
async fn the_disk_stays_within_the_budget_under_churn_of_small_blobs_only() {
    check_churn(24 * MIB, &[SMALL, 16_000, SMALL]).await;
}

#[tokio::test]
async fn a_blob_that_can_never_fit_is_too_large() {
    let place = Place::new(48 * MIB);
    let store = place.open().await;
    place.store(&store, 1, &pattern(SMALL)).await;
    let error = store.begin(BlobKind::Package, Some(48 * MIB)).await.err().unwrap();
    assert!(matches!(error, BlobError::TooLarge { length: 50_331_648, capacity: 50_331_648 }), "{error}");

    let mut writer = store.begin(BlobKind::Package, None).await.unwrap();
    let part = Bytes::from(vec![1; 1 << 20]);
    let mut refused = None;
    for _ in 0..60 {
        refused = refused.or(writer.write(part.clone()).await.err());
    }
    assert!(matches!(refused, Some(BlobError::TooLarge { .. })), "{refused:?}");
    drop(writer);
    assert_eq!(store.vault.budget.totals().reserved, 0);
}

#[tokio::test]
async fn what_is_being_written_counts_and_its_room_comes_back() {
    let place = Place::new(48 * MIB);
    let store = place.open().await;
    let mut writers = Vec::new();
    for _ in 0..4 {
        writers.push(store.begin(BlobKind::Package, Some(10 * MIB)).await.unwrap());
    }
    let error = store.begin(BlobKind::Package, Some(10 * MIB)).await.err().unwrap();
    assert!(matches!(error, BlobError::TooLarge { .. }), "{error}");
    writers.pop();
    store.begin(BlobKind::Package, Some(10 * MIB)).await.unwrap();
    drop(writers);
    assert_eq!(store.vault.budget.totals().reserved, 0);
}

#[tokio::test]
async fn a_reader_of_an_evicted_blob_gets_all_of_it_or_an_error() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    place.store(&store, 1, &pattern(LARGE)).await;
    place.store(&store, 2, &pattern(SMALL)).await;
    let file = store.open(&id_of(1)).await.unwrap().unwrap();
    let chunks = store.open(&id_of(2)).await.unwrap().unwrap();
    let first = chunks.bytes.read_at(0, 20_000).await.unwrap();
    assert_eq!(first, pattern(SMALL)[..20_000]);
    store.vault.evict_one().unwrap();
    store.vault.evict_one().unwrap();

    assert_eq!(read_range(&*file.bytes, 0, LARGE, 1 << 20).await.unwrap(), pattern(LARGE));
    let error = chunks.bytes.read_at(20_000, 20_000).await.unwrap_err();
    assert!(matches!(error, BlobError::Damaged { .. }), "{error}");
    assert_eq!(store.counts().damaged, 0, "evicted is not damaged");
}

// --- damage and refusals

#[tokio::test]
async fn no_byte_is_read_that_was_not_stored() {
    use std::os::unix::fs::FileExt as _;

    let place = Place::new(256 * MIB);
    let store = place.open().await;
    // Five pages.
    for (name, at) in [(1, 0), (2, 65_536), (3, 299_999), (4, 170_000)] {
        place.store(&store, name, &pattern(LARGE)).await;
        let file = fs::OpenOptions::new().write(true).read(true).open(place.file(name)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let blob = store.open(&id_of(name)).await.unwrap().unwrap();
        let page = at / 65_536 * 65_536;
        if page > 0 {
            let before = usize::try_from(page).unwrap();
            let read = read_range(&*blob.bytes, 0, before, 1 << 20).await.unwrap();
            assert_eq!(read, pattern(LARGE)[..before], "{name}");
        }
        let error = blob.bytes.read_at(page + 7, 10).await.unwrap_err();
        assert!(matches!(error, BlobError::Damaged { .. }), "{name}: {error}");
        assert!(!place.touch(&store, name).await, "{name}");
    }
    assert_eq!((store.counts().damaged, store.usage().blobs), (4, 0));
}

#[tokio::test]
async fn a_damaged_blob_is_an_error_once_and_then_a_miss() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    let chunks = store.vault.database.tree(TreeName::Chunk);
    for name in [1, 2, 3, 7] {
        place.store(&store, name, &pattern(SMALL)).await;
    }
    for name in [4, 5, 6] {
        place.store(&store, name, &pattern(LARGE)).await;
    }
    let keys: Vec<_> = chunks.entries().map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys.len(), 4 * 3);
    chunks.remove(&keys[1]).unwrap();
    chunks.insert(&keys[3 + 2], b"short").unwrap();
    fs::remove_file(place.file(4)).unwrap();
    fs::OpenOptions::new().write(true).open(place.file(5)).unwrap().set_len(10).unwrap();
    let open = store.open(&id_of(6)).await.unwrap().unwrap();
    fs::OpenOptions::new().write(true).open(place.file(6)).unwrap().set_len(10).unwrap();

    for name in [1, 2, 4, 5] {
        let error = read(&store, name).await.unwrap_err();
        assert!(matches!(error, BlobError::Damaged { id, .. } if id == id_of(name)), "{name}: {error}");
    }
    assert!(matches!(open.bytes.read_at(0, 100).await, Err(BlobError::Damaged { .. })));
    store.vault.records.insert(id_of(3).as_bytes(), &[99]).unwrap();
    for name in 1..=6 {
        assert!(!place.touch(&store, name).await, "{name}");
    }
    assert_eq!(names(&store).await, [7]);
    assert_eq!(store.counts().damaged, 6);
    assert_eq!(chunks.entries().count(), 2 * 3, "those of blob 7, and those of 3, whose record was lost");
    drop((chunks, open, store));

    let store = place.open().await;
    assert_eq!((store.counts().orphans, store.usage().blobs), (1, 1));
    place.store(&store, 1, &pattern(SMALL)).await;
    assert_eq!(read(&store, 1).await.unwrap(), pattern(SMALL));
    assert_eq!(store.vault.database.tree(TreeName::Chunk).entries().count(), 2 * 3);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_leaves_nothing_torn_and_passes() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    place.store(&store, 1, &pattern(SMALL)).await;
    let space = store.vault.database.space();
    for length in [SMALL, LARGE, 20 * LARGE] {
        let mut writer = store.begin(BlobKind::Package, Some(length as u64)).await.unwrap();
        writer.write(pattern(length / 2)).await.unwrap();
        space.set_reserve(u64::MAX);
        let written = writer.write(pattern(length / 2)).await;
        let error = match written {
            Ok(()) => writer.commit(id_of(2), Digests::default()).await.unwrap_err(),
            Err(error) => error,
        };
        let BlobError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(&store).await, [1]);
        assert_eq!(read(&store, 1).await.unwrap(), pattern(SMALL), "what is there stays readable");
        space.set_reserve(0);
    }
    assert_eq!(store.counts().write_errors, 3);
    assert_eq!(store.vault.budget.totals().reserved, 0);
    place.store(&store, 2, &pattern(LARGE)).await;
    drop(store);
    assert_eq!(place.count_files("blobs"), 1);
    let store = place.open().await;
    assert_eq!(names(&store).await, [1, 2]);
    assert_eq!(store.counts(), StoreCounts::default(), "nothing was left to clear");
}

#[tokio::test]
async fn a_dropped_writer_frees_the_space_of_its_file() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    let mut writer = store.begin(BlobKind::Document, None).await.unwrap();
    writer.write(pattern(4 * LARGE)).await.unwrap();
    assert_eq!(place.count_files("partial"), 1);
    let written = writer.written();
    // Outside a runtime the file is removed at once, inside one on a blocking thread.
    std::thread::spawn(move || drop(writer)).join().unwrap();
    assert_eq!(place.count_files("partial"), 0);
    assert_eq!(read_range(&*written, 0, 4 * LARGE, 1 << 20).await.unwrap(), pattern(4 * LARGE));
}
