//! Where should blobs live? Memory, disk and speed of the disk store for several spill sizes.
//!
//! `cargo bench --bench spill` prints the tables that the default spill size was chosen by. Each row is a fresh
//! process, so that memory is its own. About 1 GB of packages of realistic sizes (log-normal, median 32 KB,
//! mean about 350 KB, at most 50 MiB), incompressible, from a fixed seed. The hot tier is off. Reading is
//! cold for the store (it was opened anew) and warm for the system's page cache. Needs 4 GB of disk below the
//! system's directory for temporary files, and a few minutes.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "measure/blobs.rs"]
mod blobs;

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use feedgate::{
    blob::{BlobStore, DiskStore},
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, DatabaseSettings, StoreDirectory},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::time::Instant;

use blobs::{LONGEST, Material, Planned, disk, plan, plan_bytes, rate};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SPILL_SIZES: [(&str, u64); 6] = [
    ("all files", 0),
    ("16 KiB", 16 * KIB),
    ("64 KiB", 64 * KIB),
    ("256 KiB", 256 * KIB),
    ("1 MiB", MIB),
    ("all sled", 64 * MIB),
];
/// Blobs in a fill; about 1 GB.
const BLOBS: usize = 3_000;
/// Writers at once in the second fill and under churn.
const WRITERS: usize = 8;
/// Budget under churn; four times as much is written.
const CHURN_CAPACITY: u64 = 512 * MIB;
/// Records in the measurement of opening a store.
const RECORDS: usize = 100_000;

struct Bench {
    root: PathBuf,
    spill: u64,
    material: Material,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["row", name, spill] => {
            spill.parse().map_err(Into::into).and_then(|spill| block_on(row(name, spill)))
        }
        ["churn", name, spill, longest] => {
            let parsed = spill.parse().and_then(|spill| Ok((spill, longest.parse()?)));
            parsed.map_err(Into::into).and_then(|(spill, longest)| block_on(churn(name, spill, longest)))
        }
        ["records"] => block_on(records()),
        // Run by `cargo test --benches`: nothing to measure in an unoptimised build.
        _ if cfg!(debug_assertions) => Ok(()),
        _ => tables(),
    };
    outcome.map_or_else(
        |error| {
            let _ = say(&format!("failed: {error}"));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn tables() -> Result<(), Failure> {
    let lengths = plan(1, BLOBS);
    let total: u64 = lengths.iter().map(|blob| blob.length).sum();
    say(&format!("{BLOBS} blobs, {} MB, mean {} KB", total / 1_000_000, total / 1000 / BLOBS as u64))?;
    say(
        "\n| spill size | write MB/s, 1 / 8 writers | read MB/s | first byte p50 / p99 µs | RSS fill / read / end MB \
         | disk ÷ payload: filled / half removed / refilled | open ms |\n|---|---|---|---|---|---|---|",
    )?;
    for (name, spill) in SPILL_SIZES {
        again(&["row", name, &spill.to_string()])?;
    }
    say(
        "\n| spill size | churn: written MB | disk ÷ budget: highest / end | payload ÷ budget | MB/s | RSS MB |\n\
         |---|---|---|---|---|---|",
    )?;
    for (name, spill) in SPILL_SIZES {
        again(&["churn", name, &spill.to_string(), &LONGEST.to_string()])?;
    }
    let longest = (64 * KIB).to_string();
    again(&["churn", "all sled, blobs ≤ 64 KiB", &(64 * MIB).to_string(), &longest])?;
    say("")?;
    again(&["records"])
}

fn again(arguments: &[&str]) -> Result<(), Failure> {
    let status = Command::new(env::current_exe()?).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{arguments:?}: {status}").into()) }
}

// --- measurements, each in its own process

/// Fill, open, read, remove half, refill, open.
async fn row(name: &str, spill: u64) -> Result<(), Failure> {
    let root = tempfile::tempdir()?;
    let bench = Bench::new(root.path(), spill);
    let (mut first, second) = (plan(1, BLOBS), plan(2, BLOBS / 2));
    let (store, _) = bench.open(u64::MAX / 8).await?;
    let alone = bench.material.fill(&store, &first, 1).await?;
    let (rss_filled, filled) = (memory()?, bench.amplification(&store)?);
    drop(store);

    let (store, _) = bench.open(u64::MAX / 8).await?;
    first.shuffle(&mut StdRng::seed_from_u64(3));
    let (read, mut first_bytes) = read_all(&store, &first).await?;
    let rss_read = memory()?;
    first_bytes.sort();

    for blob in &first[..BLOBS / 2] {
        store.remove(&blob.id).await?;
    }
    store.flush().await?;
    let halved = bench.amplification(&store)?;
    let together = bench.material.fill(&store, &second, WRITERS).await?;
    let (refilled, rss_end) = (bench.amplification(&store)?, memory()?);
    drop(store);
    let (_store, open) = bench.open(u64::MAX / 8).await?;
    let (p50, p99) = (first_bytes[BLOBS / 2].as_micros(), first_bytes[BLOBS * 99 / 100].as_micros());
    say(&format!(
        "| {name} | {alone:.0} / {together:.0} | {read:.0} | {p50} / {p99} | {rss_filled} / {rss_read} / {rss_end} \
         | {filled:.2} / {halved:.2} / {refilled:.2} | {} |",
        open.as_millis()
    ))
}

/// Writes several times the budget, blobs of up to `longest` bytes; one in five is used again and again.
async fn churn(name: &str, spill: u64, longest: u64) -> Result<(), Failure> {
    let root = tempfile::tempdir()?;
    let bench = Bench::new(root.path(), spill);
    let (store, _) = bench.open(CHURN_CAPACITY).await?;
    let blobs = plan_bytes(4, longest, 4 * CHURN_CAPACITY);
    let popular: Vec<_> = blobs.iter().step_by(5).copied().collect();
    let (mut random, mut highest, start) = (StdRng::seed_from_u64(6), 0, Instant::now());
    for (number, part) in blobs.chunks(50).enumerate() {
        bench.material.fill(&store, part, WRITERS).await?;
        for _ in part {
            store.open(&popular[random.random_range(..=number * 10)].id).await?;
        }
        store.maintain().await?;
        highest = highest.max(disk(root.path())?);
    }
    let written: u64 = blobs.iter().map(|blob| blob.length).sum();
    let speed = rate(written, start.elapsed());
    let share = |bytes: u64| bytes as f64 / CHURN_CAPACITY as f64;
    let (end, payload) = (share(disk(root.path())?), share(store.usage().payload));
    say(&format!(
        "| {name} | {} | {:.2} / {end:.2} | {payload:.2} | {speed:.0} | {} |",
        written / 1_000_000,
        share(highest),
        memory()?
    ))
}

/// Opens a store of many small blobs.
async fn records() -> Result<(), Failure> {
    let root = tempfile::tempdir()?;
    let bench = Bench::new(root.path(), 64 * KIB);
    let (store, _) = bench.open(u64::MAX / 8).await?;
    let mut blobs = plan(5, RECORDS);
    for blob in &mut blobs {
        blob.length = 200;
    }
    let start = Instant::now();
    bench.material.fill(&store, &blobs, 64).await?;
    let stored = start.elapsed();
    drop(store);
    let before = memory()?;
    let (_store, open) = bench.open(u64::MAX / 8).await?;
    let (stored, open, after) = (stored.as_secs(), open.as_millis(), memory()?);
    say(&format!(
        "{RECORDS} blobs of 200 bytes: stored in {stored} s; opened in {open} ms; RSS {before} to {after} MB"
    ))
}

async fn read_all(store: &DiskStore, blobs: &[Planned]) -> Result<(f64, Vec<Duration>), Failure> {
    let (start, mut bytes, mut first_bytes) = (Instant::now(), 0, Vec::new());
    for planned in blobs {
        let begin = Instant::now();
        let blob = store.open(&planned.id).await?.ok_or("a blob is missing")?;
        let mut offset = 0;
        while offset < planned.length {
            let part = blob.bytes.read_at(offset, usize::MAX).await?;
            if offset == 0 {
                first_bytes.push(begin.elapsed());
            }
            offset += part.len() as u64;
        }
        bytes += offset;
    }
    Ok((rate(bytes, start.elapsed()), first_bytes))
}

// === impl Bench ===

impl Bench {
    fn new(root: &Path, spill: u64) -> Self {
        Self { root: root.to_owned(), spill, material: Material::new() }
    }

    async fn open(&self, capacity: u64) -> Result<(DiskStore, Duration), Failure> {
        let settings = StoreSettings {
            spill: self.spill,
            hot_capacity: 0,
            touch_granularity: Duration::ZERO,
            ..StoreSettings::new(self.root.clone(), capacity)
        };
        let start = Instant::now();
        let database =
            DatabaseSettings { page_cache: settings.page_cache, free_reserve: settings.free_reserve };
        let opened = Database::open(StoreDirectory::open(&self.root)?, &database)?;
        let store = DiskStore::open(opened.database, settings, Clock::system()).await?;
        Ok((store, start.elapsed()))
    }

    fn amplification(&self, store: &DiskStore) -> Result<f64, Failure> {
        Ok(disk(&self.root)? as f64 / store.usage().payload as f64)
    }
}

/// This process's resident memory in MB.
fn memory() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

fn say(line: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
