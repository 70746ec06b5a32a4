//! Fills against a memory store, and against one that fails on demand.

use std::{future::poll_fn, pin::pin, task::Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::*;
use crate::blob::{
    Blob, BlobError, BlobStat, MemoryStore, ReadAt, Usage, VsoHasher,
    conformance::{pattern, read_range},
};

const MIB: usize = 1024 * 1024;

/// When a [`FlakyStore`] fails.
#[derive(Debug, Clone)]
enum Fails {
    Never,
    AtBegin,
    /// Has room once this tells.
    SlowBegin(Arc<Notify>),
    /// As a full disk does: this many bytes go in.
    After(u64),
    AtCommit,
    /// Commits wait for this, then succeed.
    SlowCommit(Arc<Notify>),
}

struct FlakyStore {
    inner: MemoryStore,
    fails: Fails,
}

struct FlakyWriter {
    inner: Box<dyn BlobWriter>,
    fails: Fails,
    taken: u64,
}

fn disk_full() -> BlobError {
    BlobError::Io { action: "write chunk", source: std::io::ErrorKind::StorageFull.into() }
}

#[async_trait]
impl BlobStore for FlakyStore {
    async fn stat(&self, id: &StorageId) -> Result<Option<BlobStat>, BlobError> {
        self.inner.stat(id).await
    }

    async fn open(&self, id: &StorageId) -> Result<Option<Blob>, BlobError> {
        self.inner.open(id).await
    }

    async fn begin(&self, kind: BlobKind, length: Option<u64>) -> Result<Box<dyn BlobWriter>, BlobError> {
        match &self.fails {
            Fails::AtBegin => return Err(disk_full()),
            Fails::SlowBegin(go) => go.notified().await,
            _ => {}
        }
        let inner = self.inner.begin(kind, length).await?;
        Ok(Box::new(FlakyWriter { inner, fails: self.fails.clone(), taken: 0 }))
    }

    async fn remove(&self, id: &StorageId) -> Result<bool, BlobError> {
        self.inner.remove(id).await
    }

    async fn flush(&self) -> Result<(), BlobError> {
        self.inner.flush().await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

#[async_trait]
impl BlobWriter for FlakyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.taken += bytes.len() as u64;
        match self.fails {
            Fails::After(limit) if self.taken > limit => Err(disk_full()),
            _ => self.inner.write(bytes).await,
        }
    }

    fn written(&self) -> Arc<dyn ReadAt> {
        self.inner.written()
    }

    async fn commit(self: Box<Self>, id: StorageId, digests: Digests) -> Result<(), BlobError> {
        match &self.fails {
            Fails::AtCommit => return Err(disk_full()),
            Fails::SlowCommit(go) => go.notified().await,
            _ => {}
        }
        self.inner.commit(id, digests).await
    }
}

fn store(fails: Fails) -> FlakyStore {
    FlakyStore { inner: MemoryStore::new(u64::MAX), fails }
}

fn id(bytes: &[u8]) -> StorageId {
    let mut hasher = VsoHasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// What a download of `bytes` promises: id and length.
fn promise(bytes: &[u8]) -> Expected {
    Expected { storage_id: Some(id(bytes)), length: Some(bytes.len() as u64), ..Expected::default() }
}

fn promise_without_length(bytes: &[u8]) -> Expected {
    Expected { length: None, ..promise(bytes) }
}

async fn start(store: &dyn BlobStore, expected: Expected) -> (FillWriter, Arc<Fill>) {
    Fill::start(store, BlobKind::Package, expected).await
}

async fn push_in_slices(writer: &mut FillWriter, bytes: &Bytes, size: usize) -> Result<(), FillError> {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        writer.push(rest.split_to(size.min(rest.len()))).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads from `offset` to the end; what it got, and how it ended.
async fn drain(mut reader: FillReader, offset: usize, step: usize) -> (Vec<u8>, Result<(), FillError>) {
    let mut read = Vec::new();
    loop {
        match reader.read_at((offset + read.len()) as u64, step).await {
            Ok(bytes) if bytes.is_empty() => return (read, Ok(())),
            Ok(bytes) => {
                assert!(bytes.len() <= step);
                assert!(reader.fill().buffered() <= WINDOW + PIECE, "{}", reader.fill().buffered());
                read.extend_from_slice(&bytes);
            }
            Err(error) => return (read, Err(error)),
        }
        tokio::task::yield_now().await;
    }
}

fn follow(fill: &Arc<Fill>, step: usize) -> JoinHandle<(Vec<u8>, Result<(), FillError>)> {
    tokio::spawn(drain(fill.reader(0).unwrap(), 0, step))
}

async fn assert_whole(reader: JoinHandle<(Vec<u8>, Result<(), FillError>)>, bytes: &[u8]) {
    let (read, end) = reader.await.unwrap();
    assert_eq!(end, Ok(()));
    assert!(read == bytes, "{} of {} bytes, or others", read.len(), bytes.len());
}

/// Polls a future once; whether it is still pending.
async fn is_pending<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    let mut future = future;
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn followers_from_before_during_and_after_get_the_same_bytes() {
    for length in [1, 100_000, 300_000, 5 * MIB + 3] {
        let (store, bytes) = (store(Fails::Never), pattern(length));
        let (mut writer, fill) = start(&store, promise(&bytes)).await;
        let before = follow(&fill, 50_000);
        push_in_slices(&mut writer, &bytes.slice(..length / 2), 30_000).await.unwrap();
        let during = follow(&fill, 70_000);
        push_in_slices(&mut writer, &bytes.slice(length / 2..), 90_001).await.unwrap();
        let finished = writer.finish().await.unwrap();
        let after = follow(&fill, 16_384);
        for reader in [before, during, after] {
            assert_whole(reader, &bytes).await;
        }
        assert_eq!((finished.id, finished.length, finished.stored), (id(&bytes), length as u64, true));
        assert_eq!(fill.finished().await, Ok(finished));
        let blob = store.open(&finished.id).await.unwrap().unwrap();
        assert!(read_range(&*blob.bytes, 0, length, MIB).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_late_follower_reads_the_beginning_from_the_store() {
    let (store, bytes) = (store(Fails::Never), pattern(6 * MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    writer.push(bytes.slice(..5 * MIB)).await.unwrap();
    assert_eq!((fill.buffered(), fill.released()), (WINDOW, 5 * MIB as u64));
    let mut reader = fill.reader(0).unwrap();
    for offset in [0, 2 * MIB, 3 * MIB - 1, 3 * MIB, 5 * MIB - 1] {
        let read = reader.read_at(offset as u64, 1000).await.unwrap();
        assert!(!read.is_empty() && read == bytes[offset..offset + read.len()], "at {offset}");
    }
    writer.push(bytes.slice(5 * MIB..)).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(fill.buffered() as u64, SHORT, "what a stored fill keeps in memory");
    assert_whole(follow(&fill, PIECE), &bytes).await;
}

#[tokio::test]
async fn a_wrong_last_byte_reaches_nobody() {
    for length in [1, 200_000, 300_000, 3 * MIB] {
        let (store, bytes) = (store(Fails::Never), pattern(length));
        let mut wrong = bytes.to_vec();
        wrong[length - 1] ^= 1;
        let (mut writer, fill) = start(&store, promise(&bytes)).await;
        let readers = [follow(&fill, 1000), follow(&fill, PIECE)];
        push_in_slices(&mut writer, &Bytes::from(wrong), 40_000).await.unwrap();
        let error = writer.finish().await.unwrap_err();
        assert_eq!(error.as_str(), "storage_id");
        for reader in readers {
            let (read, end) = reader.await.unwrap();
            assert_eq!(end, Err(error.clone()));
            assert!(read.len() < length);
            assert!(length as u64 > SHORT || read.is_empty(), "short fills release nothing");
        }
        assert_eq!(fill.reader(0).err(), Some(error.clone()));
        assert_eq!((fill.finished().await, fill.buffered()), (Err(error), 0));
        assert_eq!(store.usage().blobs, 0);
    }
}

#[tokio::test]
async fn too_many_bytes_are_refused_before_they_are_released() {
    let (store, bytes) = (store(Fails::Never), pattern(MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let reader = follow(&fill, PIECE);
    writer.push(bytes.slice(1..)).await.unwrap();
    let error = writer.push(bytes.slice(..2)).await.unwrap_err();
    assert_eq!(error, Mismatch::Length { expected: MIB as u64, got: MIB as u64 + 1 }.into());
    assert_eq!(reader.await.unwrap().1, Err(error.clone()));
    assert_eq!(writer.push(bytes.slice(..1)).await, Err(error.clone()), "the error stays");
    assert_eq!(writer.finish().await, Err(error));
    assert_eq!(store.usage().blobs, 0);
}

#[tokio::test]
async fn too_few_bytes_fail_at_the_end() {
    let (store, bytes) = (store(Fails::Never), pattern(MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let reader = follow(&fill, PIECE);
    writer.push(bytes.slice(1..)).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert_eq!(error, Mismatch::Length { expected: MIB as u64, got: MIB as u64 - 1 }.into());
    assert_eq!(reader.await.unwrap().1, Err(error));
}

#[tokio::test]
async fn the_end_of_the_writer_wakes_everybody_who_waits() {
    let (store, bytes) = (store(Fails::Never), pattern(MIB));
    let broken = || FillError::Upstream("connection reset".to_owned());
    let rows: [(fn(FillWriter), FillError); 2] = [
        (drop, FillError::Abandoned),
        (|writer| writer.fail(FillError::Upstream("connection reset".to_owned())), broken()),
    ];
    for (ending, error) in rows {
        let (mut writer, fill) = start(&store, promise(&bytes)).await;
        let readers: Vec<_> = (0..50).map(|_| follow(&fill, PIECE)).collect();
        writer.push(bytes.slice(..MIB / 2)).await.unwrap();
        let outcome = tokio::spawn({
            let fill = fill.clone();
            async move { (fill.finished().await.err(), fill.verified().await.err()) }
        });
        ending(writer);
        for (_, end) in join_all(readers).await.into_iter().map(Result::unwrap) {
            assert_eq!(end, Err(error.clone()));
        }
        assert_eq!(outcome.await.unwrap(), (Some(error.clone()), Some(error)));
        assert!(!fill.joinable());
    }
}

#[tokio::test]
async fn short_fills_and_those_of_unknown_length_release_nothing_before_their_checks() {
    let short = pattern(usize::try_from(SHORT).unwrap());
    let long = pattern(5 * MIB);
    let rows = [
        (&short, promise(&short)),
        (&short, promise_without_length(&short)),
        (&long, promise_without_length(&long)),
    ];
    for (bytes, expected) in rows {
        let store = store(Fails::Never);
        let (mut writer, fill) = start(&store, expected).await;
        writer.push(bytes.clone()).await.unwrap();
        assert_eq!(fill.released(), 0);
        assert!(is_pending(pin!(fill.wait_for_head())).await);
        let reader = follow(&fill, PIECE);
        writer.finish().await.unwrap();
        assert_eq!(fill.wait_for_head().await, Ok(Some(bytes.len() as u64)));
        assert_eq!(fill.released(), bytes.len() as u64);
        assert_whole(reader, bytes).await;
    }
}

#[tokio::test]
async fn a_long_fill_has_a_head_as_soon_as_it_has_a_byte() {
    let (store, bytes) = (store(Fails::Never), pattern(MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    assert!(is_pending(pin!(fill.wait_for_head())).await);
    writer.push(bytes.slice(..1)).await.unwrap();
    assert_eq!(fill.wait_for_head().await, Ok(Some(MIB as u64)));
    assert!(is_pending(pin!(fill.verified())).await);
    writer.push(bytes.slice(1..)).await.unwrap();
    assert_eq!(fill.released(), MIB as u64 - 1, "the last byte is held back");
}

#[tokio::test]
async fn an_empty_blob_ends_at_once() {
    for expected in [promise(b""), promise_without_length(b"")] {
        let store = store(Fails::Never);
        let (writer, fill) = start(&store, expected).await;
        let reader = follow(&fill, PIECE);
        assert_eq!(writer.finish().await.unwrap().length, 0);
        assert_eq!(fill.wait_for_head().await, Ok(Some(0)));
        assert_whole(reader, b"").await;
        assert_eq!(store.usage().blobs, 1);
    }
}

#[tokio::test]
async fn readers_get_the_end_before_a_slow_commit_is_through() {
    let (go, bytes) = (Arc::new(Notify::new()), pattern(MIB));
    let store = store(Fails::SlowCommit(go.clone()));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let reader = follow(&fill, PIECE);
    writer.push(bytes.clone()).await.unwrap();
    let finish = tokio::spawn(writer.finish());
    assert_whole(reader, &bytes).await;
    assert_eq!(fill.verified().await, Ok(MIB as u64));
    assert!(is_pending(pin!(fill.finished())).await);
    go.notify_one();
    assert!(finish.await.unwrap().unwrap().stored);
}

#[tokio::test]
async fn readers_get_bytes_before_a_slow_store_has_made_room() {
    let go = Arc::new(Notify::new());
    let store: Arc<dyn BlobStore> = Arc::new(store(Fails::SlowBegin(Arc::clone(&go))));
    let bytes = pattern(MIB);
    let (mut writer, fill) = Fill::unstored(promise(&bytes));
    writer.begin_behind(Arc::clone(&store), BlobKind::Package);
    let mut reader = fill.reader(0).unwrap();
    {
        let mut push = pin!(writer.push(bytes.slice(..PIECE)));
        assert!(is_pending(push.as_mut()).await);
        assert_eq!(reader.read_at(0, PIECE).await.unwrap(), bytes[..PIECE]);
        go.notify_one();
        push.await.unwrap();
    }
    push_in_slices(&mut writer, &bytes.slice(PIECE..), PIECE).await.unwrap();
    assert!(writer.finish().await.unwrap().stored);
    assert_eq!(drain(reader, 0, MIB).await.0, bytes);
    let empty = Bytes::new();
    let (mut writer, _) = Fill::unstored(promise(&empty));
    writer.begin_behind(Arc::clone(&store), BlobKind::Package);
    go.notify_one();
    assert!(writer.finish().await.unwrap().stored);
    assert!(store.stat(&id(&empty)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_finish_that_is_cancelled_during_commit_leaves_right_bytes_unstored() {
    let bytes = pattern(MIB);
    let store = store(Fails::SlowCommit(Arc::default()));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    writer.push(bytes.clone()).await.unwrap();
    let reader = fill.reader(0).unwrap();
    {
        let finish = pin!(writer.finish());
        assert!(is_pending(finish).await);
    }
    assert!(!fill.finished().await.unwrap().stored);
    assert_eq!(drain(reader, 0, PIECE).await, (bytes.to_vec(), Ok(())));
}

#[tokio::test]
async fn a_push_that_is_cancelled_fails_the_fill() {
    let (store, bytes) = (store(Fails::Never), pattern(MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    {
        let push = pin!(writer.push(bytes.clone()));
        assert!(is_pending(push).await);
    }
    assert_eq!(writer.push(bytes).await, Err(FillError::Abandoned));
    assert_eq!(fill.finished().await, Err(FillError::Abandoned));
}

#[tokio::test]
async fn a_failing_store_costs_fast_and_slow_readers_nothing() {
    let bytes = pattern(8 * MIB + 5);
    for fails in [Fails::AtBegin, Fails::After(0), Fails::After(MIB as u64), Fails::After(5 * MIB as u64)] {
        let store = store(fails.clone());
        let (mut writer, fill) = start(&store, promise(&bytes)).await;
        let readers = [follow(&fill, PIECE), follow(&fill, 3_000), follow(&fill, 40_000)];
        push_in_slices(&mut writer, &bytes, 100_000).await.unwrap();
        let finished = writer.finish().await.unwrap();
        for reader in readers {
            assert_whole(reader, &bytes).await;
        }
        assert_eq!((finished.id, finished.stored), (id(&bytes), false), "{fails:?}");
        assert!(!fill.joinable(), "the bytes in the middle are gone");
        assert_eq!(fill.reader(0).err(), Some(FillError::Gone { offset: 0 }));
        assert!(fill.reader(bytes.len() as u64 - 1).is_ok());
        assert_eq!(store.usage().blobs, 0);
    }
}

#[tokio::test]
async fn a_failing_commit_costs_only_the_copy() {
    let (store, bytes) = (store(Fails::AtCommit), pattern(4 * MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let reader = follow(&fill, PIECE);
    writer.push(bytes.clone()).await.unwrap();
    assert!(!writer.finish().await.unwrap().stored);
    assert_whole(reader, &bytes).await;
}

#[tokio::test]
async fn an_unstored_fill_waits_for_its_slowest_reader() {
    let (store, bytes) = (store(Fails::AtBegin), pattern(4 * MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let mut slow = fill.reader(0).unwrap();
    let pushing = tokio::spawn(async move {
        writer.push(bytes).await?;
        writer.finish().await
    });
    // The window is full when the piece that is too many has arrived; it stays so while the reader rests.
    let mut state = fill.state.subscribe();
    state.wait_for(|state| state.buffered() == WINDOW + PIECE).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!(fill.buffered(), WINDOW + PIECE);
    }
    assert!(fill.joinable());
    assert_eq!(slow.read_at(0, PIECE).await.unwrap().len(), PIECE);
    state.wait_for(|state| state.released() == (WINDOW + 2 * PIECE) as u64).await.unwrap();
    assert!(!fill.joinable());
    let (read, end) = drain(slow, PIECE, PIECE).await;
    assert_eq!((read.len(), end), (4 * MIB - PIECE, Ok(())));
    assert!(!pushing.await.unwrap().unwrap().stored);
}

#[tokio::test(start_paused = true)]
async fn an_unstored_fill_whose_last_reader_leaves_ends_early() {
    let (store, bytes) = (store(Fails::After(MIB as u64)), pattern(8 * MIB));
    for leaves_late in [false, true] {
        let (mut writer, fill) = start(&store, promise(&bytes)).await;
        let reader = fill.reader(0).unwrap();
        let before = tokio::time::Instant::now();
        let pushing = async { writer.push(bytes.clone()).await };
        let leaving = async {
            let mut state = fill.state.subscribe();
            let late = |state: &State| !leaves_late || state.buffered() > WINDOW;
            state.wait_for(late).await.unwrap();
            drop(reader);
        };
        let (pushed, ()) = futures::future::join(pushing, leaving).await;
        assert_eq!(pushed, Err(FillError::Unwanted));
        assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits for a reader that is gone");
        assert_eq!(fill.finished().await, Err(FillError::Unwanted));
        assert!(fill.buffered() == 0 && fill.leftover.lock().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unstored_fill_waits_for_its_first_reader_but_not_for_ever() {
    let (store, bytes) = (store(Fails::AtBegin), pattern(4 * MIB));
    for comes in [true, false] {
        let (mut writer, fill) = start(&store, promise(&bytes)).await;
        let before = tokio::time::Instant::now();
        let coming = async {
            let mut state = fill.state.subscribe();
            state.wait_for(|state| state.buffered() > WINDOW).await.unwrap();
            if comes { Some(drain(fill.reader(0).unwrap(), 0, PIECE).await) } else { None }
        };
        let pushing = async {
            writer.push(bytes.clone()).await?;
            writer.finish().await.map(|finished| finished.stored)
        };
        let (pushed, read) = futures::future::join(pushing, coming).await;
        assert_eq!(pushed, if comes { Ok(false) } else { Err(FillError::Unwanted) });
        assert_eq!(read, comes.then(|| (bytes.to_vec(), Ok(()))));
        assert_eq!(before.elapsed(), if comes { Duration::ZERO } else { STALL });
    }
}

#[tokio::test(start_paused = true)]
async fn an_unstored_fill_goes_on_without_a_reader_that_has_stalled() {
    let (store, bytes) = (store(Fails::AtBegin), pattern(8 * MIB));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let mut stalled = fill.reader(0).unwrap();
    let follower = follow(&fill, PIECE);
    let before = tokio::time::Instant::now();
    writer.push(bytes.clone()).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(before.elapsed().as_secs(), STALL.as_secs(), "one wait, then none");
    assert_eq!(stalled.read_at(0, 1).await, Err(FillError::Gone { offset: 0 }));
    assert_whole(follower, &bytes).await;
}

#[tokio::test]
async fn an_unstored_fill_of_unknown_length_releases_all_but_its_newest_piece() {
    for right in [true, false] {
        let (store, bytes) = (store(Fails::After(MIB as u64)), pattern(6 * MIB));
        let promised = if right { bytes.clone() } else { pattern(1) };
        let (mut writer, fill) = start(&store, promise_without_length(&promised)).await;
        let reader = follow(&fill, PIECE);
        push_in_slices(&mut writer, &bytes, 300_000).await.unwrap();
        assert_eq!(fill.wait_for_head().await, Ok(None));
        assert!(fill.released() < bytes.len() as u64);
        let finished = writer.finish().await;
        assert_eq!(finished.is_ok(), right);
        let (read, end) = reader.await.unwrap();
        assert_eq!((read.len() == bytes.len(), end.is_ok()), (right, right));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_readers_cost_no_more_memory_than_one() {
    let bytes = pattern(MIB - 7).repeat(50);
    let bytes = Bytes::from(bytes);
    let store = store(Fails::Never);
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let readers = (0..200).map(|number| {
        let (mut reader, bytes) = (fill.reader(0).unwrap(), bytes.clone());
        // Each starts somewhere else, so that they are never all at the same place.
        let mut offset = bytes.len() / 200 * number;
        tokio::spawn(async move {
            loop {
                let read = reader.read_at(offset as u64, PIECE).await.unwrap();
                assert!(reader.fill().buffered() <= WINDOW + PIECE);
                let head = read.len().min(64);
                assert!(read[..head] == bytes[offset..offset + head]);
                offset += read.len();
                if read.is_empty() {
                    return offset;
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    push_in_slices(&mut writer, &bytes, PIECE).await.unwrap();
    assert!(writer.finish().await.unwrap().stored);
    for end in join_all(readers).await {
        assert_eq!(end.unwrap(), bytes.len());
    }
}

#[tokio::test]
async fn ranges_anywhere_are_what_they_are_in_the_whole() {
    let (store, bytes) = (store(Fails::Never), pattern(3 * MIB + 11));
    let (mut writer, fill) = start(&store, promise(&bytes)).await;
    let half = bytes.len() / 2;
    push_in_slices(&mut writer, &bytes.slice(..half), 10_007).await.unwrap();
    check_ranges(&fill, &bytes.slice(..half)).await;
    push_in_slices(&mut writer, &bytes.slice(half..), 10_007).await.unwrap();
    writer.finish().await.unwrap();
    check_ranges(&fill, &bytes).await;
    let mut past = fill.reader(0).unwrap();
    for offset in [bytes.len() as u64, bytes.len() as u64 + 1, u64::MAX] {
        assert!(past.read_at(offset, 1).await.unwrap().is_empty(), "{offset}");
    }
}

async fn check_ranges(fill: &Arc<Fill>, bytes: &Bytes) {
    for start in (0..bytes.len()).step_by(99_991).chain([bytes.len() - 1]) {
        let mut reader = fill.reader(start as u64).unwrap();
        let read = reader.read_at(start as u64, 20_000).await.unwrap();
        assert!(!read.is_empty() && read.len() <= 20_000);
        assert!(read == bytes[start..start + read.len()], "at {start}");
    }
}

/// A fill as it may happen: its length, how it is pushed, when the store fails, whether the bytes are right.
#[derive(Debug, Clone)]
struct Course {
    length: usize,
    announced: bool,
    slice: usize,
    stored: Option<u64>,
    right: bool,
    steps: Vec<usize>,
}

fn course() -> impl Strategy<Value = Course> {
    let length = prop_oneof![0..1000_usize, 200_000..300_000_usize, 2 * MIB - 70_000..5 * MIB];
    let stored = prop::option::weighted(0.6, 0..4 * MIB as u64);
    let steps = prop::collection::vec(10_000..200_000_usize, 1..5);
    (length, any::<bool>(), 5_000..400_000_usize, stored, any::<bool>(), steps).prop_map(
        |(length, announced, slice, stored, right, steps)| Course {
            length,
            announced,
            slice,
            stored,
            right,
            steps,
        },
    )
}

async fn run(course: &Course) {
    let bytes = pattern(course.length);
    let promised = if course.right { promise(&bytes) } else { promise(b"something else") };
    let length = course.announced.then_some(course.length as u64);
    let store = store(course.stored.map_or(Fails::Never, Fails::After));
    let (mut writer, fill) = start(&store, Expected { length, ..promised }).await;
    let readers: Vec<_> = course.steps.iter().map(|step| follow(&fill, *step)).collect();
    push_in_slices(&mut writer, &bytes, course.slice).await.unwrap();
    let finished = writer.finish().await;
    assert_eq!(finished.is_ok(), course.right, "{finished:?}");
    for reader in readers {
        let (read, end) = reader.await.unwrap();
        assert_eq!(end, finished.clone().map(|_| ()));
        assert!(if course.right { read == bytes } else { read.len() < bytes.len().max(1) });
    }
    let fits = course.stored.is_none_or(|limit| limit >= course.length as u64);
    assert_eq!(finished.is_ok_and(|finished| finished.stored), course.right && fits);
    assert_eq!(store.usage().blobs, u64::from(course.right && fits));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_readers_get_all_right_bytes_or_an_error(course in course()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(&course));
    }
}
