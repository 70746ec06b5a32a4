//! What every [`BlobStore`] must do, as tests that any back-end's own tests call.
//!
//! [`conformance`] walks through the promises of the traits one by one, each on a fresh store;
//! [`conformance_model`] runs random operations against the store and a map, side by side. Both want stores with
//! room for everything: eviction, restarts and damage are the back-end's own tests.

use std::{collections::HashMap, future::Future, sync::Arc};

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{BlobError, BlobKind, BlobStat, BlobStore, BlobWriter, Digests, ReadAt};
use crate::ident::StorageId;

/// Around a sled chunk, and from there to sizes that some stores keep elsewhere.
const LENGTHS: [usize; 9] = [1, 2, 16_383, 16_384, 16_385, 65_536, 300_001, 1_048_577, 3_000_000];
/// Sizes in which blobs are written and read: odd ones, so that borders never line up.
const SLICES: [usize; 4] = [1, 999, 16_384, 70_001];

/// Checks everything that the traits promise. `make` makes a fresh, empty store for each part.
pub(crate) async fn conformance<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn BlobStore>>,
{
    missing_blobs_are_none(&*make().await).await;
    committed_blobs_read_back_in_any_slices(&*make().await).await;
    kinds_and_digests_are_kept(&*make().await).await;
    dropped_writers_leave_nothing(&*make().await).await;
    committing_twice_keeps_one(&*make().await).await;
    written_bytes_are_readable_before_and_after_commit(&*make().await).await;
    an_empty_blob_is_a_blob(&*make().await).await;
    removed_blobs_are_gone(&*make().await).await;
    reads_outside_the_blob_are_errors(&*make().await).await;
    concurrent_fills_of_one_id_all_succeed(make().await).await;
    an_open_blob_outlives_its_removal_or_errors(&*make().await).await;
}

/// Runs `cases` random histories against the store and a map. Starts its own runtime: call from a plain test.
pub(crate) fn conformance_model<F, Fut>(make: F, cases: u32)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn BlobStore>>,
{
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let history = prop::collection::vec(step(), 1..40);
    let outcome = TestRunner::new(config).run(&history, |steps| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async { run_history(&*make().await, &steps).await });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A file id that differs with `name`. Stores don't check bytes against ids: fills do.
pub(crate) fn id_of(name: u8) -> StorageId {
    StorageId::of_file([name; 32])
}

/// `length` bytes without a short period, so that a chunk in the wrong place shows.
pub(crate) fn pattern(length: usize) -> Bytes {
    let mut state = 0x2545_F491_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Writes and commits a blob in one go.
pub(crate) async fn store_blob(store: &dyn BlobStore, id: StorageId, bytes: &[u8]) {
    let mut writer = store.begin(BlobKind::Package, Some(bytes.len() as u64)).await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.commit(id, Digests::default()).await.unwrap();
}

/// Reads `length` bytes from `offset` in steps of at most `max`.
pub(crate) async fn read_range(
    bytes: &dyn ReadAt,
    offset: u64,
    length: usize,
    max: usize,
) -> Result<Vec<u8>, BlobError> {
    let mut read = Vec::with_capacity(length);
    while read.len() < length {
        let wanted = max.min(length - read.len());
        let part = bytes.read_at(offset + read.len() as u64, wanted).await?;
        assert!(!part.is_empty() && part.len() <= wanted, "{} of at most {wanted} bytes", part.len());
        read.extend_from_slice(&part);
    }
    Ok(read)
}

async fn write_sliced(writer: &mut dyn BlobWriter, bytes: &Bytes, size: usize) {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        writer.write(rest.split_to(size.min(rest.len()))).await.unwrap();
    }
}

async fn assert_absent(store: &dyn BlobStore, id: StorageId) {
    assert_eq!(store.stat(&id).await.unwrap(), None);
    assert!(store.open(&id).await.unwrap().is_none());
}

async fn missing_blobs_are_none(store: &dyn BlobStore) {
    assert_absent(store, id_of(1)).await;
    assert!(!store.remove(&id_of(1)).await.unwrap());
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.payload), (0, 0));
}

async fn committed_blobs_read_back_in_any_slices(store: &dyn BlobStore) {
    let (mut name, mut payload) = (0, 0);
    for length in LENGTHS {
        let bytes = pattern(length);
        for slice in SLICES.into_iter().filter(|slice| length / slice < 20_000) {
            let announced = (name % 2 == 0).then_some(length as u64);
            let mut writer = store.begin(BlobKind::Package, announced).await.unwrap();
            write_sliced(&mut *writer, &bytes, slice).await;
            writer.commit(id_of(name), Digests::default()).await.unwrap();
            check_content(store, id_of(name), &bytes, slice).await;
            (name, payload) = (name + 1, payload + length as u64);
        }
    }
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.payload), (u64::from(name), payload));
    store.flush().await.unwrap();
}

async fn check_content(store: &dyn BlobStore, id: StorageId, bytes: &Bytes, slice: usize) {
    let stat = store.stat(&id).await.unwrap().expect("committed");
    assert_eq!(stat.length, bytes.len() as u64);
    let blob = store.open(&id).await.unwrap().expect("committed");
    assert_eq!((blob.id, &blob.stat), (id, &stat));
    let middle = bytes.len() / 3;
    for start in [0, middle, bytes.len() - 1] {
        let read = read_range(&*blob.bytes, start as u64, bytes.len() - start, slice).await.unwrap();
        assert!(read == bytes[start..], "{} bytes from {start} in steps of {slice} differ", bytes.len());
    }
}

async fn kinds_and_digests_are_kept(store: &dyn BlobStore) {
    let every = Digests { sha1: Some([1; 20]), sha512: Some([2; 64]) };
    let rows = [
        (BlobKind::Package, every),
        (BlobKind::Document, Digests::default()),
        (BlobKind::Document, Digests { sha1: None, ..every }),
        (BlobKind::Package, Digests { sha512: None, ..every }),
    ];
    for (name, (kind, digests)) in (0..).zip(rows) {
        let mut writer = store.begin(kind, Some(3)).await.unwrap();
        writer.write(Bytes::from_static(b"abc")).await.unwrap();
        writer.commit(id_of(name), digests).await.unwrap();
        let stat = store.stat(&id_of(name)).await.unwrap();
        assert_eq!(stat, Some(BlobStat { length: 3, kind, digests }));
    }
}

async fn dropped_writers_leave_nothing(store: &dyn BlobStore) {
    for (name, length) in (1..).zip([0, 10, 100_000, 3_000_000]) {
        let mut writer = store.begin(BlobKind::Package, Some(length as u64)).await.unwrap();
        write_sliced(&mut *writer, &pattern(length), 65_536).await;
        drop(writer);
        assert_absent(store, id_of(name)).await;
    }
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.payload), (0, 0));
}

async fn committing_twice_keeps_one(store: &dyn BlobStore) {
    for (name, length) in (1..).zip([10, 400_000]) {
        let bytes = pattern(length);
        store_blob(store, id_of(name), &bytes).await;
        let opened = store.open(&id_of(name)).await.unwrap().unwrap();
        store_blob(store, id_of(name), &bytes).await;
        let read = read_range(&*opened.bytes, 0, length, 65_536).await.unwrap();
        assert!(read == bytes, "the older copy stays readable");
        check_content(store, id_of(name), &bytes, 65_536).await;
    }
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.payload), (2, 400_010));
}

async fn written_bytes_are_readable_before_and_after_commit(store: &dyn BlobStore) {
    for (name, length) in (1..).zip([50_000, 2_000_000]) {
        let bytes = pattern(length);
        let mut writer = store.begin(BlobKind::Package, Some(length as u64)).await.unwrap();
        let written = writer.written();
        let first = bytes.slice(..length / 2);
        write_sliced(&mut *writer, &first, 7_777).await;
        let read = read_range(&*written, 0, first.len(), 10_000).await.unwrap();
        assert!(read == first, "written bytes are readable at once");
        let early = written.read_at(first.len() as u64, 1).await;
        assert!(early.is_err(), "bytes not written yet are an error");
        assert_absent(store, id_of(name)).await;

        write_sliced(&mut *writer, &bytes.slice(length / 2..), 100_000).await;
        let late = writer.written();
        writer.commit(id_of(name), Digests::default()).await.unwrap();
        for reader in [written, late] {
            let read = read_range(&*reader, 17, length - 17, 65_536).await.unwrap();
            assert!(read == bytes[17..], "readers of a fill go on after its commit");
        }
    }
}

async fn an_empty_blob_is_a_blob(store: &dyn BlobStore) {
    for (name, length) in (1..).zip([Some(0), None]) {
        let mut writer = store.begin(BlobKind::Document, length).await.unwrap();
        writer.write(Bytes::new()).await.unwrap();
        writer.commit(id_of(name), Digests::default()).await.unwrap();
        let blob = store.open(&id_of(name)).await.unwrap().unwrap();
        assert_eq!(blob.stat.length, 0);
        assert!(blob.bytes.read_at(0, 1).await.is_err());
    }
    assert_eq!(store.usage().blobs, 2);
}

async fn removed_blobs_are_gone(store: &dyn BlobStore) {
    for length in [10, 400_000] {
        let bytes = pattern(length);
        store_blob(store, id_of(1), &bytes).await;
        assert!(store.remove(&id_of(1)).await.unwrap());
        assert_absent(store, id_of(1)).await;
        assert!(!store.remove(&id_of(1)).await.unwrap());
        let usage = store.usage();
        assert_eq!((usage.blobs, usage.payload), (0, 0));
        store_blob(store, id_of(1), &bytes).await;
        check_content(store, id_of(1), &bytes, 65_536).await;
        assert!(store.remove(&id_of(1)).await.unwrap());
    }
}

async fn reads_outside_the_blob_are_errors(store: &dyn BlobStore) {
    for (name, length) in (1..).zip([10_usize, 400_000]) {
        store_blob(store, id_of(name), &pattern(length)).await;
        let bytes = store.open(&id_of(name)).await.unwrap().unwrap().bytes;
        for offset in [length as u64, length as u64 + 1, u64::MAX] {
            assert!(bytes.read_at(offset, 1).await.is_err(), "offset {offset} of {length}");
        }
        let tail = bytes.read_at(length as u64 - 1, 1000).await.unwrap();
        assert_eq!(tail.len(), 1, "a read across the end gives what is there");
    }
}

async fn concurrent_fills_of_one_id_all_succeed(store: Arc<dyn BlobStore>) {
    for (name, length) in (1..).zip([20_000, 500_000]) {
        let bytes = pattern(length);
        let fills = (0..8).map(|_| {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move {
                let mut writer = store.begin(BlobKind::Package, Some(bytes.len() as u64)).await.unwrap();
                write_sliced(&mut *writer, &bytes, 33_333).await;
                writer.commit(id_of(name), Digests::default()).await.unwrap();
            })
        });
        for fill in fills.collect::<Vec<_>>() {
            fill.await.unwrap();
        }
        check_content(&*store, id_of(name), &bytes, 70_001).await;
    }
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.payload), (2, 520_000));
}

async fn an_open_blob_outlives_its_removal_or_errors(store: &dyn BlobStore) {
    for (name, length) in (1..).zip([20_000, 2_000_000]) {
        let bytes = pattern(length);
        store_blob(store, id_of(name), &bytes).await;
        let open = store.open(&id_of(name)).await.unwrap().unwrap();
        let head = open.bytes.read_at(0, 100).await.unwrap();
        assert_eq!(head, bytes.slice(..head.len()));
        store.remove(&id_of(name)).await.unwrap();
        if let Ok(read) = read_range(&*open.bytes, 0, length, 65_536).await {
            assert!(read == bytes, "a removed blob is whole or an error");
        }
    }
}

/// One operation of a random history, on one of a few ids and lengths.
#[derive(Debug, Clone)]
enum Step {
    Store { name: u8, length: usize, slice: usize, announced: bool },
    Abandon { length: usize },
    Remove { name: u8 },
    Read { name: u8, from: prop::sample::Index, max: usize },
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0..40_000_usize, 1 => 200_000..400_000_usize];
    let (name, slice) = (0..6_u8, 500..90_000_usize);
    prop_oneof![
        4 => (name.clone(), length.clone(), slice.clone(), any::<bool>())
            .prop_map(|(name, length, slice, announced)| Step::Store { name, length, slice, announced }),
        1 => length.prop_map(|length| Step::Abandon { length }),
        2 => name.clone().prop_map(|name| Step::Remove { name }),
        6 => (name, any::<prop::sample::Index>(), slice)
            .prop_map(|(name, from, max)| Step::Read { name, from, max }),
        1 => Just(Step::Flush),
    ]
}

async fn run_history(store: &dyn BlobStore, steps: &[Step]) {
    let mut model = HashMap::new();
    for step in steps {
        run_step(store, &mut model, step).await;
        let payload: u64 = model.values().map(|bytes: &Bytes| bytes.len() as u64).sum();
        let usage = store.usage();
        assert_eq!((usage.blobs, usage.payload), (model.len() as u64, payload), "after {step:?}");
    }
}

async fn run_step(store: &dyn BlobStore, model: &mut HashMap<u8, Bytes>, step: &Step) {
    match step {
        Step::Store { name, length, slice, announced } => {
            let bytes = pattern(*length);
            let announced = announced.then_some(*length as u64);
            let mut writer = store.begin(BlobKind::Package, announced).await.unwrap();
            write_sliced(&mut *writer, &bytes, *slice).await;
            writer.commit(id_of(*name), Digests::default()).await.unwrap();
            model.entry(*name).or_insert(bytes);
        }
        Step::Abandon { length } => {
            let mut writer = store.begin(BlobKind::Document, None).await.unwrap();
            write_sliced(&mut *writer, &pattern(*length), 10_000).await;
        }
        Step::Remove { name } => {
            let removed = store.remove(&id_of(*name)).await.unwrap();
            assert_eq!(removed, model.remove(name).is_some());
        }
        Step::Read { name, from, max } => compare(store, *name, model.get(name), (*from, *max)).await,
        Step::Flush => store.flush().await.unwrap(),
    }
}

async fn compare(
    store: &dyn BlobStore,
    name: u8,
    model: Option<&Bytes>,
    (from, max): (prop::sample::Index, usize),
) {
    let Some(bytes) = model else { return assert_absent(store, id_of(name)).await };
    let blob = store.open(&id_of(name)).await.unwrap().expect("the model has it");
    assert_eq!(blob.stat.length, bytes.len() as u64);
    if bytes.is_empty() {
        return;
    }
    let from = from.index(bytes.len());
    let read = read_range(&*blob.bytes, from as u64, bytes.len() - from, max).await.unwrap();
    assert!(read == bytes[from..], "blob {name} from {from}");
}
