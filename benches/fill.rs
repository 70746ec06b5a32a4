//! What a fill costs: one download into memory, followed by no reader, one, and a build farm.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use feedgate::blob::{
    BlobKind, Expected, MemoryStore,
    fill::{Fill, FillError, FillReader, Finished, PIECE},
};
use tokio::runtime::Runtime;

const LENGTH: usize = 16 * 1024 * 1024;

fn fill(criterion: &mut Criterion) {
    let Ok(runtime) = Runtime::new() else { return };
    let bytes = Bytes::from(vec![7; LENGTH]);
    let mut group = criterion.benchmark_group("fill");
    group.sample_size(10);
    for readers in [0_u64, 1, 20, 200] {
        group.throughput(Throughput::Bytes(LENGTH as u64));
        group.bench_with_input(BenchmarkId::new("readers", readers), &readers, |bencher, readers| {
            bencher.iter(|| runtime.block_on(download(bytes.clone(), *readers)));
        });
    }
    group.finish();
}

async fn download(mut bytes: Bytes, readers: u64) -> Result<Finished, FillError> {
    let store = MemoryStore::new(u64::MAX);
    let expected = Expected { length: Some(LENGTH as u64), ..Expected::default() };
    let (mut writer, fill) = Fill::start(&store, BlobKind::Package, expected).await;
    let mut following = Vec::new();
    for _ in 0..readers {
        following.push(tokio::spawn(read_all(fill.reader(0)?)));
    }
    while !bytes.is_empty() {
        writer.push(bytes.split_to(PIECE.min(bytes.len()))).await?;
    }
    let finished = writer.finish().await?;
    for reader in following {
        assert!(matches!(reader.await, Ok(Ok(length)) if length == finished.length));
    }
    Ok(finished)
}

async fn read_all(mut reader: FillReader) -> Result<u64, FillError> {
    let mut offset = 0;
    loop {
        let bytes = reader.read_at(offset, PIECE).await?;
        if bytes.is_empty() {
            return Ok(offset);
        }
        offset += bytes.len() as u64;
    }
}

criterion_group!(benches, fill);
criterion_main!(benches);
