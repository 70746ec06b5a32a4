//! Throughput of the VSO hash beside a bare SHA-256, which is its floor, and beside npm's SHA-512.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use feedgate::blob::VsoHasher;
use sha2::{Digest, Sha256, Sha512, digest::Output};

/// How a download arrives.
const SLICE: usize = 64 * 1024;

fn vso_hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash");
    // The median package, and one that spans blocks.
    for length in [32 * 1024, 16 * 1024 * 1024] {
        let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::new("vso", length), &bytes, |bencher, bytes| {
            bencher.iter(|| {
                let mut hasher = VsoHasher::new();
                bytes.chunks(SLICE).for_each(|slice| hasher.update(slice));
                hasher.finish()
            });
        });
        group.bench_with_input(BenchmarkId::new("sha256", length), &bytes, |bencher, bytes| {
            bencher.iter(|| digest::<Sha256>(bytes));
        });
        group.bench_with_input(BenchmarkId::new("sha512", length), &bytes, |bencher, bytes| {
            bencher.iter(|| digest::<Sha512>(bytes));
        });
    }
    group.finish();
}

fn digest<D: Digest>(bytes: &[u8]) -> Output<D> {
    let mut hasher = D::new();
    bytes.chunks(SLICE).for_each(|slice| hasher.update(slice));
    hasher.finalize()
}

criterion_group!(benches, vso_hash);
criterion_main!(benches);
