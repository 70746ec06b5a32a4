//! Packages of realistic sizes, and how they get into a store.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes from a distribution")]

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use bytes::Bytes;
use feedgate::{
    blob::{BlobKind, BlobStore, Digests, DiskStore},
    ident::StorageId,
};
use futures::{StreamExt, TryStreamExt, stream};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::Failure;

const MIB: u64 = 1024 * 1024;
/// Median length and spread of packages: e^(µ + σ²/2) is the mean.
const MEDIAN: f64 = 32_000.0;
const SIGMA: f64 = 2.22;
/// The longest.
pub const LONGEST: u64 = 50 * MIB;

/// A blob that is to be stored.
#[derive(Clone, Copy)]
pub struct Planned {
    pub id: StorageId,
    pub length: u64,
}

/// Bytes that do not compress, of which blobs are made.
pub struct Material(Bytes);

// === impl Material ===

impl Material {
    pub fn new() -> Self {
        let mut block = vec![0; 4 << 20];
        StdRng::seed_from_u64(0).fill_bytes(&mut block);
        Self(block.into())
    }

    /// Stores all of `blobs`, durably; MB/s.
    pub async fn fill(&self, store: &DiskStore, blobs: &[Planned], writers: usize) -> Result<f64, Failure> {
        let start = Instant::now();
        let stored = stream::iter(blobs).map(|blob| self.store(store, *blob)).buffer_unordered(writers);
        let lengths: Vec<u64> = stored.try_collect().await?;
        Ok(rate(lengths.iter().sum(), start.elapsed()))
    }

    async fn store(&self, store: &DiskStore, blob: Planned) -> Result<u64, Failure> {
        let mut writer = store.begin(BlobKind::Package, Some(blob.length)).await?;
        let mut left = blob.length;
        while left > 0 {
            let at = usize::try_from(blob.length * 7 + left)? % (self.0.len() - 65_536);
            let part = self.0.slice(at..at + usize::try_from(left.min(65_536))?);
            left -= part.len() as u64;
            writer.write(part).await?;
        }
        writer.commit(blob.id, Digests::default()).await?;
        Ok(blob.length)
    }
}

/// Blobs of realistic sizes: log-normal, at most [`LONGEST`].
pub fn plan(seed: u64, count: usize) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut planned = || {
        let mut hash = [0; 32];
        random.fill_bytes(&mut hash);
        let (radius, angle): (f64, f64) = (random.random_range(f64::EPSILON..1.0), random.random());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        let length = (MEDIAN * (SIGMA * normal).exp()).round() as u64;
        Planned { id: StorageId::of_file(hash), length: length.clamp(100, LONGEST) }
    };
    (0..count).map(|_| planned()).collect()
}

/// Blobs of realistic sizes up to `longest`, as many as it takes to make `total` bytes.
pub fn plan_bytes(seed: u64, longest: u64, total: u64) -> Vec<Planned> {
    let blobs = plan(seed, 200_000).into_iter();
    let cut = blobs.map(|blob| Planned { length: blob.length.min(longest), ..blob });
    cut.scan(0, |sum, blob| {
        *sum += blob.length;
        (*sum <= total).then_some(blob)
    })
    .collect()
}

/// MB/s.
pub fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// Bytes that the file system has given to everything below `root`.
pub fn disk(root: &Path) -> io::Result<u64> {
    let (mut bytes, mut pending) = (0, vec![root.to_owned()]);
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => bytes += metadata.blocks() * 512,
                // Gone between the two calls: the database cleans up by itself.
                Err(_) => {}
            }
        }
    }
    Ok(bytes)
}
