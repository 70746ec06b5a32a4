//! A blob in memory costs no more than looking it up; one on disk is read at the speed of the page cache, in few pieces, and
//! one that the system has forgotten at about that of the disk.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must end the bench loudly")]

use std::{fs, io, path::Path, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use feedgate::{
    blob::{BlobError, BlobKind, BlobStore, Digests, DiskStore},
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, DatabaseSettings, StoreDirectory},
    ident::StorageId,
};
use rustix::fs::Advice;
use tokio::{runtime::Runtime, time::sleep};

/// What is read for one write to a client.
const READ: usize = 256 << 10;
/// Length, and the settings that put a blob of this length into one tier.
const CASES: [(&str, usize, u64, u64); 5] = [
    // Name, length, largest blob in memory, largest blob in the database.
    ("memory, 50 KB", 50_000, 256 << 10, 64 << 10),
    ("database, 50 KB", 50_000, 0, 64 << 10),
    ("file, 50 KB", 50_000, 0, 0),
    ("memory, 5.8 MB", 5_800_000, 8 << 20, 64 << 10),
    ("file, 5.8 MB", 5_800_000, 0, 64 << 10),
];

/// Length of a blob that is read from the disk.
const FORGOTTEN: usize = 58_000_000;
/// What a client takes for a piece, with 1 Gbit/s.
const TAKES: Duration = Duration::from_millis(2);

type Failure = Box<dyn std::error::Error>;

fn hit(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("blob hit");
    for (name, length, hot, spill) in CASES {
        let (store, id, _folder) = runtime.block_on(store(length, hot, spill)).unwrap();
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| runtime.block_on(read(&store, &id)));
        });
    }
    let (store, id, folder) = runtime.block_on(store(FORGOTTEN, 0, 0)).unwrap();
    group.throughput(Throughput::Bytes(FORGOTTEN as u64)).sample_size(10);
    for (name, pause) in [("file, 58 MB, not cached", None), ("the same, slow client", Some(TAKES))] {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(
                || forget(folder.path()),
                |_| runtime.block_on(read_slowly(&store, &id, pause)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Lets the system forget what it has of a folder's files.
fn forget(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let file = fs::File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

async fn read_slowly(store: &DiskStore, id: &StorageId, pause: Option<Duration>) -> Result<u64, BlobError> {
    let Some(blob) = store.open(id).await? else { return Ok(0) };
    let mut offset = 0;
    while offset < blob.stat.length {
        offset += blob.bytes.read_at(offset, READ).await?.len() as u64;
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
    Ok(offset)
}

/// A store with one blob, opened once so that it is where it belongs.
async fn store(
    length: usize,
    hot: u64,
    spill: u64,
) -> Result<(DiskStore, StorageId, tempfile::TempDir), Failure> {
    let folder = tempfile::tempdir()?;
    let settings = StoreSettings {
        hot_capacity: hot * 4,
        hot_largest: hot,
        spill,
        ..StoreSettings::new(folder.path(), 1 << 30)
    };
    let database = DatabaseSettings { page_cache: settings.page_cache, free_reserve: 0 };
    let opened = Database::open(StoreDirectory::open(folder.path())?, &database)?;
    let store = DiskStore::open(opened.database, settings, Clock::system()).await?;
    let id = StorageId::of_file([7; 32]);
    let mut writer = store.begin(BlobKind::Package, Some(length as u64)).await?;
    writer.write(Bytes::from(vec![7; length])).await?;
    writer.commit(id, Digests::default()).await?;
    read(&store, &id).await?;
    Ok((store, id, folder))
}

async fn read(store: &DiskStore, id: &StorageId) -> Result<u64, BlobError> {
    read_slowly(store, id, None).await
}

criterion_group!(benches, hit);
criterion_main!(benches);
