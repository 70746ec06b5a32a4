//! Does the gate stay what it is as its store grows?
//!
//! `cargo bench --bench scale` prints two tables in small: 20,000 documents and packages, and a store of 1 GiB.
//! `cargo bench --bench scale -- entries 1000000` and `-- blobs 12` (GiB) are the sizes that the README tells of. A store
//! is filled through the library, then a gate of its own process works on it; the service is simulated in this one.
//! Needs as much disk as the store is to have, below the system's directory for temporary files.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must end the bench loudly")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[allow(dead_code, reason = "it serves several programs")]
mod measure;
#[allow(dead_code, reason = "it serves several programs")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{env, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use feedgate::{
    blob::{BlobStore, DiskStore},
    cache::{DocumentCache, PackageEntry, PackageIndex},
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, DatabaseSettings, StoreDirectory, TreeName},
    ident::StorageId,
};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, Organisation, Simulator,
    client::{self, Connection, Url},
};
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use measure::{
    Failure, Gate,
    blobs::{LONGEST, Material, Planned, disk, plan_bytes, rate},
    median, memory, ms, say,
};
use support::{NPM, PAT, readers};

const GIB: u64 = 1 << 30;
/// The store that the larger one is compared with.
const FEW: usize = 1_000;
/// Names that are asked for, from all over the store, each once in a round.
const ASKED: usize = 500;
const ROUNDS: usize = 7;
/// How often it is looked whether a gate still computes, and what it may take in between while it does not.
const LOOK: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_millis(10);
/// Writers at once.
const WRITERS: usize = 8;
const INDEX_WRITERS: usize = 256;
/// Blobs that are read for the latency of a hit.
const READS: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // Run by `cargo test --benches`: nothing to measure in an unoptimised build.
        _ if cfg!(debug_assertions) => Ok(()),
        ["entries", count] => entries(count.parse()?).await,
        ["blobs", gib] => blobs(gib.parse::<u64>()? * GIB).await,
        _ => {
            entries(20_000).await?;
            blobs(GIB).await
        }
    }
}

// --- entries

/// Documents and packages in the index, half of each: start and hits beside those of a small store.
async fn entries(count: usize) -> Result<(), Failure> {
    let feed = Feed::new("main").npm(NpmPackage::new("p0").version("1.0.0", NpmVersion::new().size(2_000)));
    let organisation = readers(Organisation::new("contoso").feed(feed));
    let simulator = Simulator::builder().organisation(organisation).start().await?;
    say(&format!(
        "\nstores with documents and packages in equal parts; one client asks for {ASKED} of each, right after the start, \
         and, once the gate has counted what there is, {ROUNDS} times more, in turn\n\n\
         | entries | filled s | disk MB | start ms: closed / killed | counted after s | RSS MB | first package p50 / p99 µs, document | package again, document |\n\
         |---|---|---|---|---|---|---|---|"
    ))?;
    let mut stores = Vec::new();
    for entries in [FEW, count] {
        let folder = tempfile::tempdir()?;
        let begun = Instant::now();
        multiply(&simulator, folder.path(), entries).await?;
        let filled = begun.elapsed().as_secs_f64();
        let (gate, closed) = started(&simulator, folder.path()).await?;
        gate.kill().await;
        let (gate, killed) = started(&simulator, folder.path()).await?;
        let (starts, rested, rounds) = ([closed, killed], Duration::ZERO, Vec::new());
        stores.push(Grown { entries, filled, folder, gate, starts, rested, rounds });
    }
    for store in &mut stores {
        store.ask().await?;
    }
    for store in &mut stores {
        store.rest().await;
    }
    for _ in 0..ROUNDS {
        for store in &mut stores {
            store.ask().await?;
        }
    }
    table(&stores)
}

fn table(stores: &[Grown]) -> Result<(), Failure> {
    let mut p99 = Vec::new();
    for store in stores {
        let first = store.rounds[0];
        let again = std::array::from_fn(|at| {
            median(&mut store.rounds[1..].iter().map(|round| round[at]).collect::<Vec<_>>())
        });
        p99.push(again);
        let row = |[package, package99, document, document99]: [f64; 4]| {
            format!("{package:.0} / {package99:.0}, {document:.0} / {document99:.0}")
        };
        say(&format!(
            "| {} | {:.0} | {:.0} | {:.0} / {:.0} | {:.1} | {:.0} | {} | {} |",
            store.entries,
            store.filled,
            disk(store.folder.path())? as f64 / 1e6,
            ms(store.starts[0]),
            ms(store.starts[1]),
            store.rested.as_secs_f64(),
            store.gate.memory().0,
            row(first),
            row(again),
        ))?;
    }
    say(&format!(
        "p99 again, over that of the small store: package {:.2}, document {:.2}",
        p99[1][1] / p99[0][1],
        p99[1][3] / p99[0][3]
    ))?;
    Ok(())
}

/// A store and the gate that works on it.
struct Grown {
    entries: usize,
    filled: f64,
    folder: tempfile::TempDir,
    gate: Gate,
    /// How long the start took after the store was closed, and after a kill.
    starts: [Duration; 2],
    /// When it had nothing more to do for itself.
    rested: Duration,
    /// p50 and p99 in µs, of packages and of documents.
    rounds: Vec<[f64; 4]>,
}

// === impl Grown ===

impl Grown {
    /// Waits until the gate computes no more.
    async fn rest(&mut self) {
        let begun = Instant::now();
        loop {
            let before = self.gate.processor();
            sleep(LOOK).await;
            if self.gate.processor() <= before + IDLE {
                break;
            }
        }
        self.rested = begun.elapsed();
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        let names = (0..ASKED).map(|number| format!("q{:07}", number * (self.entries / 2) / ASKED));
        let documents: Vec<_> = names.collect();
        let packages: Vec<_> = documents.iter().map(|name| format!("{name}/-/{name}-1.0.0.tgz")).collect();
        let (package, package99) = hits(&self.gate, &packages).await?;
        let (document, document99) = hits(&self.gate, &documents).await?;
        self.rounds.push([package, package99, document, document99]);
        Ok(())
    }
}

/// Reads `paths` one after the other; p50 and p99 in µs.
async fn hits(gate: &Gate, paths: &[String]) -> Result<(f64, f64), Failure> {
    let credential = client::basic("any", PAT);
    let base = gate.url(NPM);
    let mut connection = Connection::open(&Url::parse(&base)?, None).await?;
    let mut times = Vec::with_capacity(paths.len());
    for path in paths {
        let url = Url::parse(&format!("{base}/{path}"))?;
        let begun = Instant::now();
        let answer = connection.request("GET", &url, &[("Authorization", &credential)], b"").await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        let status = answer.header("cache-status").unwrap_or_default();
        assert!(answer.status == 200 && status.contains("hit"), "{path}: {} {status}", answer.status);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

async fn started(simulator: &Simulator, folder: &Path) -> Result<(Gate, Duration), Failure> {
    let begun = Instant::now();
    let gate = Gate::start(simulator, folder, FRESH).await;
    Ok((gate, begun.elapsed()))
}

/// Keeps documents fresh for the time of the bench.
const FRESH: &str = "store.capacity = \"40GiB\"\nmetadata.packument.fresh = \"1d\"\n";

/// Lets a gate store one package and its document, and stores both again under other names, with bytes of their own.
async fn multiply(simulator: &Simulator, folder: &Path, entries: usize) -> Result<(), Failure> {
    let gate = Gate::start(simulator, folder, FRESH).await;
    let credential = client::basic("any", PAT);
    for path in ["p0", "p0/-/p0-1.0.0.tgz"] {
        let answer =
            client::get(&gate.url(&format!("{NPM}/{path}")), &[("Authorization", &credential)]).await?;
        assert_eq!(answer.status, 200);
    }
    gate.terminate().await;

    let (database, store) = open(&folder.join("store"), 40 * GIB).await?;
    let packages = PackageIndex::new(&database);
    let documents = DocumentCache::new(&database, Arc::new(store.clone()), 0);
    let key = |tree| -> Result<String, Failure> {
        let key = database.tree(tree).entries().next().ok_or("no entry")??.0;
        Ok(String::from_utf8(key.to_vec())?)
    };
    let (package_key, document_key) = (key(TreeName::Package)?, key(TreeName::Metadata)?);
    let (package, document) = (
        packages.get(&package_key).await.ok_or("no package")?,
        documents.entry(&document_key).await.ok_or("no document")?,
    );
    let body = String::from_utf8(documents.body(&document).await.ok_or("no body")?.to_vec())?;
    let material = Material::new();
    stream::iter(0..entries / 2)
        .for_each_concurrent(INDEX_WRITERS, |number| {
            let (packages, documents, material, document, body) =
                (&packages, &documents, &material, &document, &body);
            let (store, name) = (&store, format!("q{number:07}"));
            let [package_key, document_key] =
                [&package_key, &document_key].map(|key| key.replace("p0", &name));
            async move {
                let mut hash = [0; 32];
                StdRng::seed_from_u64(number as u64).fill(&mut hash);
                let blob = Planned { id: StorageId::of_file(hash), length: 200 + number as u64 % 800 };
                material.fill(store, &[blob], 1).await.unwrap();
                packages.put(&package_key, &PackageEntry { id: blob.id, ..package }).await;
                let body = Bytes::from(body.replace("p0", &name));
                let (generation, origin) = (document.generation, document.origin.clone());
                documents.put(&document_key, body, document.fetched_at, generation, origin).await;
            }
        })
        .await;
    store.close().await?;
    Ok(())
}

// --- blobs

/// A full store, and a load that replaces all of it twice.
async fn blobs(capacity: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let (database, store) = open(folder.path(), capacity).await?;
    let material = Material::new();
    say(&format!(
        "\na store of {:.1} GiB, {WRITERS} writers, packages of realistic sizes\n\n\
         | written ÷ capacity | MB/s | highest disk ÷ capacity | disk ÷ payload | blobs | RSS MB | hit: first bytes p50 / p99 µs |\n\
         |---|---|---|---|---|---|---|",
        capacity as f64 / GIB as f64
    ))?;
    let mut last = Vec::new();
    for (turn, name) in ["0 to 1", "1 to 2", "2 to 3"].into_iter().enumerate() {
        let planned = plan_bytes(turn as u64, LONGEST, capacity);
        let (begun, mut highest, mut written) = (Instant::now(), 0, 0);
        for part in planned.chunks(200) {
            material.fill(&store, part, WRITERS).await?;
            written += part.iter().map(|blob| blob.length).sum::<u64>();
            store.maintain().await?;
            highest = highest.max(disk(folder.path())?);
        }
        let speed = rate(written, begun.elapsed());
        let usage = store.usage();
        // The newest are there for certain.
        last = planned[planned.len() * 3 / 4..].to_vec();
        let (p50, p99) = read(&store, &last).await?;
        say(&format!(
            "| {name} | {speed:.0} | {:.3} | {:.3} | {} | {:.0} | {p50:.0} / {p99:.0} |",
            highest as f64 / capacity as f64,
            disk(folder.path())? as f64 / usage.payload as f64,
            usage.blobs,
            memory("self").0,
        ))?;
    }
    store.close().await?;
    drop((store, database));
    let begun = Instant::now();
    let (_database, store) = open(folder.path(), capacity).await?;
    let opened = begun.elapsed();
    store.take_stock().await?;
    let (p50, p99) = read(&store, &last).await?;
    say(&format!(
        "opened in {:.0} ms, stock taken behind that in {:.0} ms more; first bytes then {p50:.0} / {p99:.0} µs",
        ms(opened),
        ms(begun.elapsed().saturating_sub(opened))
    ))?;
    Ok(())
}

/// Opens some of `blobs` and reads their first bytes; p50 and p99 in µs.
async fn read(store: &DiskStore, blobs: &[Planned]) -> Result<(f64, f64), Failure> {
    let mut random = StdRng::seed_from_u64(1);
    let mut times = Vec::new();
    for _ in 0..READS {
        let planned = blobs[random.random_range(0..blobs.len())];
        let begun = Instant::now();
        let blob = store.open(&planned.id).await?.ok_or("a new blob is gone")?;
        blob.bytes.read_at(0, 64 << 10).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[READS / 2], times[READS * 99 / 100]))
}

async fn open(folder: &Path, capacity: u64) -> Result<(Database, DiskStore), Failure> {
    let settings = StoreSettings::new(folder, capacity);
    let database = DatabaseSettings { page_cache: settings.page_cache, free_reserve: settings.free_reserve };
    let opened = Database::open(StoreDirectory::open(folder)?, &database)?;
    let store = DiskStore::open(opened.database.clone(), settings, Clock::system()).await?;
    Ok((opened.database, store))
}
