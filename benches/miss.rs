//! What does a miss cost, beside a download without the gate? And what do many clients at once cost?
//!
//! `cargo bench --bench miss` prints the tables; `cargo bench --bench miss -- cold` one of `cold`, `waiters`, `fill`,
//! `install`, `slow`, `idle`. The gate is a process of its own with its default settings; the service is simulated in
//! this process, which also holds the clients. Rounds alternate. Needs 1 GB of memory and of disk, 20,000 open files
//! per process for `idle`, and about two minutes.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must end the bench loudly")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[allow(dead_code, reason = "it serves several programs")]
mod measure;
#[allow(dead_code, reason = "it serves several programs")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{
    env,
    io::{self, Read as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use feedgate_simulator::{
    Feed, Listener, NpmPackage, NpmVersion, Organisation, Pace, Simulator,
    client::{self, Connection, Url},
};
use futures::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    sync::Barrier,
    time::{Instant, sleep},
};

use measure::{Gate, median, ms, processor, say};
use support::{NPM, PAT, readers};

const MB: usize = 1_000_000;
/// Downloads of each size and pace, once direct and once through the gate.
const COLD_ROUNDS: usize = 31;
const WAITERS: usize = 100;
/// Rounds of the comparison of processor time.
const FILL_ROUNDS: usize = 5;
const FILL_PACKAGES: usize = 20;
const FILL_SIZE: usize = 20 * MB;
/// Packages of an install, and how many are asked for at once.
const INSTALL: usize = 700;
const INSTALL_AT_ONCE: usize = 16;
const SLOW_READERS: usize = 2_000;
const SLOW_SIZE: usize = 5 * MB;
/// One slow reader in so many reads its blob to the end.
const READ_ON: usize = 10;
const IDLE: usize = 10_000;

#[tokio::main]
async fn main() -> io::Result<()> {
    // Run by `cargo test --benches`: nothing to measure in an unoptimised build.
    if cfg!(debug_assertions) {
        return Ok(());
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, folder, urls @ ..] = &arguments[..]
        && let Some(synced) =
            [("receive", false), ("receive-synced", true)].iter().find(|one| one.0 == command)
    {
        return receive(folder.as_ref(), urls, synced.1);
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| *one == name);
    if is_wanted("cold") {
        cold().await?;
    }
    if is_wanted("waiters") {
        waiters().await?;
    }
    if is_wanted("fill") {
        fill().await?;
    }
    if is_wanted("install") {
        install().await?;
    }
    if is_wanted("slow") {
        slow().await?;
    }
    if is_wanted("idle") {
        idle().await?;
    }
    Ok(())
}

// --- the scenes

/// One download after the other, direct and through the gate in turn, each over a kept connection.
async fn cold() -> io::Result<()> {
    say(&format!(
        "\n{COLD_ROUNDS} cold downloads of a blob, direct / through the gate, medians\n\n\
         | blob, speed of the service | first byte ms | added | MB/s | ratio |\n|---|---|---|---|---|"
    ))?;
    let latency = Pace::latency(Duration::from_millis(20)).exact();
    for (name, size, pace) in [
        ("1 MB, 20 ms and 10 MB/s", MB, latency.bandwidth(10 * MB as u64)),
        ("10 MB, 20 ms and 100 MB/s", 10 * MB, latency.bandwidth(100 * MB as u64)),
        ("50 KB, unlimited", 50_000, Pace::default()),
        ("10 MB, unlimited", 10 * MB, Pace::default()),
        ("30 MB, unlimited", 30 * MB, Pace::default()),
    ] {
        let scene = Scene::new(COLD_ROUNDS + 1, size).await;
        scene.simulator.set_pace(Listener::Blob, pace);
        let direct = format!("{}/{NPM}", scene.simulator.pkgs_url());
        let (mut kept, mut through) = (Kept::default(), Kept::default());
        let mut figures: [Vec<f64>; 4] = Default::default();
        for number in 0..=COLD_ROUNDS {
            let one = kept.download(&format!("{direct}/{}", tarball(number))).await?;
            let other = through.download(&scene.gate.url(&format!("{NPM}/{}", tarball(number)))).await?;
            assert!(one.length == other.length && one.length >= size, "a body is not whole");
            // The first round opens connections and learns who may read.
            if number > 0 {
                for (values, value) in
                    figures.iter_mut().zip([one.first, other.first, one.whole, other.whole])
                {
                    values.push(ms(value));
                }
            }
        }
        let [first, first_through, whole, whole_through] = figures.map(|mut values| median(&mut values));
        let speed = |time: f64| size as f64 / 1e3 / time;
        say(&format!(
            "| {name} | {first:.2} / {first_through:.2} | {:.2} | {:.0} / {:.0} | {:.2} |",
            first_through - first,
            speed(whole),
            speed(whole_through),
            whole / whole_through,
        ))?;
    }
    Ok(())
}

/// Many clients for one blob that nobody has yet.
async fn waiters() -> io::Result<()> {
    let size = 30 * MB;
    say(&format!(
        "\n{WAITERS} clients at once for one uncached blob of 30 MB at 10 MB/s\n\n\
         | round | downloads | first byte ms: first client / last | spread | all done s | memory MB: before / highest |\n|---|---|---|---|---|---|"
    ))?;
    let scene = Scene::new(5, size).await;
    scene.simulator.set_pace(Listener::Blob, Pace::default().bandwidth(10 * MB as u64));
    scene.gate_knows_the_caller().await?;
    for round in 0..5 {
        let before = scene.gate.memory().0;
        scene.simulator.clear_log();
        let (url, barrier) =
            (scene.gate.url(&format!("{NPM}/{}", tarball(round))), Arc::new(Barrier::new(WAITERS)));
        let begun = Instant::now();
        let clients = (0..WAITERS).map(|_| {
            let (url, barrier) = (url.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let mut kept = Kept::open(&url).await.unwrap();
                barrier.wait().await;
                let start = begun.elapsed();
                let download = kept.download(&url).await.unwrap();
                (start + download.first, download.length)
            })
        });
        let mut firsts: Vec<f64> = Vec::new();
        for client in join_all(clients).await {
            let (first, length) = client?;
            assert!(length >= size, "a body is not whole");
            firsts.push(ms(first));
        }
        firsts.sort_by(f64::total_cmp);
        let (first, last) = (firsts[0], firsts[WAITERS - 1]);
        let downloads: usize = scene.simulator.blob_downloads().values().sum();
        let (seconds, (_, highest)) = (begun.elapsed().as_secs_f64(), scene.gate.memory());
        say(&format!(
            "| {round} | {downloads} | {first:.1} / {last:.1} | {:.1} | {seconds:.2} | {before:.0} / {highest:.0} |",
            last - first
        ))?;
    }
    Ok(())
}

/// Processor time of fills, beside that of a program which only receives, hashes and writes.
async fn fill() -> io::Result<()> {
    let bytes = FILL_PACKAGES * FILL_SIZE;
    say(&format!(
        "\n{FILL_PACKAGES} fills of 20 MB each, and the same bytes received, hashed (SHA-256 once) and written to files by a\n\
         loop without anything else, which leaves them to the system or waits until they are on disk as the gate does;\n\
         ms of processor time per 100 MB\n\n\
         | round | loop | loop, on disk | gate, client included | gate, client leaves at once | its ratio | on disk |\n|---|---|---|---|---|---|---|"
    ))?;
    let per = |time: Duration| ms(time) / (bytes as f64 / 1e8);
    let (mut ratios, mut ratios_on_disk) = (Vec::new(), Vec::new());
    for round in 0..FILL_ROUNDS {
        let scene = Scene::new(FILL_PACKAGES, FILL_SIZE).await;
        let plain = bare(&scene, "receive").await?;
        let synced = bare(&scene, "receive-synced").await?;
        let served = scene.fill_all(false).await?;
        let second = Scene::new(FILL_PACKAGES, FILL_SIZE).await;
        let unserved = second.fill_all(true).await?;
        let [ratio, on_disk] = [plain, synced].map(|bare| unserved.as_secs_f64() / bare.as_secs_f64());
        say(&format!(
            "| {round} | {:.0} | {:.0} | {:.0} | {:.0} | {ratio:.2} | {on_disk:.2} |",
            per(plain),
            per(synced),
            per(served),
            per(unserved)
        ))?;
        ratios.push(ratio);
        ratios_on_disk.push(on_disk);
    }
    say(&format!("median ratio {:.2}, on disk {:.2}", median(&mut ratios), median(&mut ratios_on_disk)))
}

/// Memory after a cold and a warm run of an install.
async fn install() -> io::Result<()> {
    say(&format!(
        "\n{INSTALL} packages with their documents, {INSTALL_AT_ONCE} at once\n\n| run | s | memory MB | highest |\n|---|---|---|---|"
    ))?;
    let feed = (0..INSTALL).fold(Feed::new("main"), |feed, number| {
        // Sizes as in a real tree: a few large ones, most of them small.
        let size = 3_000 + (number * 7_919 % 97) * 700 + if number % 50 == 0 { 2 * MB } else { 0 };
        feed.npm(
            NpmPackage::new(&name(number))
                .versions(30, &NpmVersion::new().size(2_000))
                .version("99.0.0", NpmVersion::new().size(size)),
        )
    });
    let simulator =
        Simulator::builder().organisation(readers(Organisation::new("contoso").feed(feed))).start().await?;
    let scene = Scene::of(simulator, "").await;
    for run in ["before", "cold", "warm", "warm again"] {
        let begun = Instant::now();
        if run != "before" {
            let next = Arc::new(AtomicUsize::new(0));
            let clients = (0..INSTALL_AT_ONCE).map(|_| {
                let (next, base) = (Arc::clone(&next), scene.gate.url(NPM));
                tokio::spawn(async move {
                    let mut kept = Kept::default();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= INSTALL {
                            return;
                        }
                        let name = name(number);
                        kept.download(&format!("{base}/{name}")).await.unwrap();
                        kept.download(&format!("{base}/{name}/-/{name}-99.0.0.tgz")).await.unwrap();
                    }
                })
            });
            join_all(clients).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        let (now, highest) = scene.gate.memory();
        say(&format!("| {run} | {:.1} | {now:.0} | {highest:.0} |", begun.elapsed().as_secs_f64()))?;
    }
    Ok(())
}

/// Many clients that take a blob slowly, while it arrives and once it is stored.
async fn slow() -> io::Result<()> {
    say(&format!(
        "\n{SLOW_READERS} clients that read 5 MB slowly (a receive buffer of 16 KiB, a read of 16 KiB every 100 ms for 3 s; one in ten then reads the rest)\n\n\
         | blob | memory MB: before / slow / highest | KB per client | whole bodies |\n|---|---|---|---|"
    ))?;
    let scene = Scene::new(1, SLOW_SIZE).await;
    scene.gate_knows_the_caller().await?;
    for name in ["arriving", "stored", "stored, again"] {
        let before = scene.gate.memory().0;
        let barrier = Arc::new(Barrier::new(SLOW_READERS + 1));
        let clients: Vec<_> = (0..SLOW_READERS)
            .map(|client| {
                let (url, barrier) = (scene.gate.url(&format!("{NPM}/{}", tarball(0))), Arc::clone(&barrier));
                let patient = client % READ_ON == 0;
                tokio::spawn(async move { read_slowly(&url, &barrier, patient).await.unwrap() })
            })
            .collect();
        barrier.wait().await;
        let slow = scene.gate.memory().0;
        barrier.wait().await;
        let mut whole = 0;
        for client in clients {
            whole += usize::from(client.await? >= SLOW_SIZE);
        }
        say(&format!(
            "| {name} | {before:.0} / {slow:.0} / {:.0} | {:.0} | {whole} |",
            scene.gate.memory().1,
            (slow - before) * 1e3 / SLOW_READERS as f64
        ))?;
    }
    Ok(())
}

/// Connections that were used once and are kept.
async fn idle() -> io::Result<()> {
    // All of them come from one address.
    let limits = "limits.connections = 20000\nlimits.connections_per_address = 20000\n";
    let scene = Scene::with(1, 5_000, limits).await;
    scene.gate_knows_the_caller().await?;
    let url = scene.gate.url(&format!("{NPM}/{}", tarball(0)));
    let before = scene.gate.memory().0;
    let mut kept = Vec::new();
    for _ in 0..IDLE {
        let mut one = Kept::open(&url).await?;
        one.download(&url).await?;
        kept.push(one);
    }
    let (after, _) = scene.gate.memory();
    say(&format!(
        "\n{IDLE} connections kept after one request each: {before:.0} MB before, {after:.0} MB with them, {:.1} KB each",
        (after - before) * 1e3 / IDLE as f64
    ))
}

// --- what they are made of

/// A service with packages, and a gate in front of it.
struct Scene {
    simulator: Simulator,
    gate: Gate,
    _folder: tempfile::TempDir,
}

/// A client with a connection that it keeps to each host.
#[derive(Default)]
struct Kept {
    connections: Vec<(String, Connection)>,
}

struct Download {
    /// From the request to the first byte of the body.
    first: Duration,
    /// To the last.
    whole: Duration,
    length: usize,
}

// === impl Scene ===

impl Scene {
    async fn new(packages: usize, size: usize) -> Self {
        Self::with(packages, size, "").await
    }

    /// With `extra` in the gate's configuration.
    async fn with(packages: usize, size: usize, extra: &str) -> Self {
        let feed = (0..packages).fold(Feed::new("main"), |feed, number| {
            feed.npm(NpmPackage::new(&name(number)).version("1.0.0", NpmVersion::new().size(size)))
        });
        let organisation = readers(Organisation::new("contoso").feed(feed));
        let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
        // Made now: the simulator makes a package when it is first asked for.
        for number in 0..packages {
            simulator.npm_file("contoso/main", &name(number), "1.0.0");
        }
        Self::of(simulator, extra).await
    }

    async fn of(simulator: Simulator, extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::start(&simulator, folder.path(), extra).await;
        Self { simulator, gate, _folder: folder }
    }

    /// Lets the gate ask whether the caller may read, so that it is not part of what is measured.
    async fn gate_knows_the_caller(&self) -> io::Result<()> {
        Kept::default().download(&self.gate.url(&format!("{NPM}/{}", name(0)))).await.map(drop)
    }

    /// Fills all packages one after the other; the gate's processor time. `leaving` clients are gone once the body begins.
    async fn fill_all(&self, leaving: bool) -> io::Result<Duration> {
        self.gate_knows_the_caller().await?;
        let before = self.gate.processor();
        for number in 0.. {
            let url = self.gate.url(&format!("{NPM}/{}", tarball(number)));
            if number == FILL_PACKAGES {
                break;
            }
            let mut kept = Kept::open(&url).await?;
            if leaving {
                kept.begin(&url).await?;
                drop(kept);
                while self.simulator.in_flight() > 0 {
                    sleep(Duration::from_millis(2)).await;
                }
            } else {
                kept.download(&url).await?;
            }
        }
        sleep(Duration::from_millis(200)).await;
        Ok(self.gate.processor().saturating_sub(before))
    }
}

/// Receives, hashes and writes the packages of `scene` in a process of its own, this program, asked to; its processor time.
async fn bare(scene: &Scene, way: &str) -> io::Result<Duration> {
    let mut urls = Vec::new();
    for number in 0..FILL_PACKAGES {
        let url = format!("{}/{NPM}/{}", scene.simulator.pkgs_url(), tarball(number));
        let answer = client::get(&url, &[("Authorization", &client::basic("any", PAT))]).await?;
        urls.push(answer.header("location").expect("a redirect").to_owned());
    }
    let folder = tempfile::tempdir()?;
    let mut command = tokio::process::Command::new(env::current_exe()?);
    let output = command.arg(way).arg(folder.path()).args(urls).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().parse();
    Ok(Duration::from_millis(printed.unwrap_or_else(|_| panic!("{output:?}"))))
}

/// What a program does that only receives, hashes and writes: one URL after the other on one connection.
fn receive(folder: &Path, urls: &[String], synced: bool) -> io::Result<()> {
    let begun = processor("self");
    let mut stream = std::net::TcpStream::connect(Url::parse(&urls[0])?.authority)?;
    let mut buffer = vec![0; 64 << 10];
    for (number, url) in urls.iter().enumerate() {
        let url = Url::parse(url)?;
        write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", url.target, url.authority)?;
        let (mut file, mut hash) = (std::fs::File::create(folder.join(number.to_string()))?, Sha256::new());
        let (mut filled, mut left) = (0, None);
        while left != Some(0) {
            filled += stream.read(&mut buffer[filled..])?;
            if left.is_none() {
                let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else {
                    continue;
                };
                let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                left = Some(length.parse::<usize>().unwrap());
                buffer.copy_within(end + 4..filled, 0);
                filled -= end + 4;
            }
            hash.update(&buffer[..filled]);
            file.write_all(&buffer[..filled])?;
            left = left.map(|left| left - filled);
            filled = 0;
        }
        hash.finalize();
        if synced {
            file.sync_all()?;
        }
    }
    say(&processor("self").saturating_sub(begun).as_millis().to_string())
}

/// Reads a blob slowly for a while, waits at the barrier twice, and reads the rest if `patient`; bytes that came.
async fn read_slowly(url: &str, barrier: &Barrier, patient: bool) -> io::Result<usize> {
    let url = Url::parse(url)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    let mut stream = socket.connect(url.authority.parse().map_err(io::Error::other)?).await?;
    let credential = client::basic("any", PAT);
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {credential}\r\n\r\n",
        url.target, url.authority
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut buffer, mut length) = (vec![0; 16 << 10], 0);
    for _ in 0..30 {
        length += stream.read(&mut buffer).await?;
        sleep(Duration::from_millis(100)).await;
    }
    barrier.wait().await;
    barrier.wait().await;
    // The head is counted too; it makes no body longer.
    while patient && length < SLOW_SIZE {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

// === impl Kept ===

impl Kept {
    async fn open(url: &str) -> io::Result<Self> {
        let url = Url::parse(url)?;
        let connection = Connection::open(&url, None).await?;
        Ok(Self { connections: vec![(url.authority, connection)] })
    }

    /// GETs a body, after a redirect if need be, and drops it as it comes.
    async fn download(&mut self, url: &str) -> io::Result<Download> {
        let begun = Instant::now();
        let mut location = Url::parse(url)?;
        let credential = client::basic("any", PAT);
        let mut headers: &[(&str, &str)] = &[("Authorization", &credential)];
        loop {
            let connection = self.connection(&location).await?;
            connection.send_request("GET", &location, headers, b"").await?;
            let (head, mut body) = connection.stream_response(false).await?;
            let (mut first, mut length) = (None, 0);
            while let Some(part) = body.next().await {
                first.get_or_insert_with(|| begun.elapsed());
                length += part.len();
            }
            assert!(body.complete, "a body was cut off");
            if head.status == 303 {
                let next = head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
                (location, headers) = (Url::parse(&next.expect("a location").1)?, &[]);
                continue;
            }
            assert_eq!(head.status, 200);
            return Ok(Download { first: first.unwrap_or_default(), whole: begun.elapsed(), length });
        }
    }

    /// GETs only as far as the head.
    async fn begin(&mut self, url: &str) -> io::Result<()> {
        let url = Url::parse(url)?;
        let connection = self.connection(&url).await?;
        let credential = client::basic("any", PAT);
        connection.send_request("GET", &url, &[("Authorization", &credential)], b"").await?;
        connection.stream_response(false).await.map(drop)
    }

    async fn connection(&mut self, url: &Url) -> io::Result<&mut Connection> {
        let known = self.connections.iter().position(|(authority, _)| *authority == url.authority);
        let index = if let Some(index) = known {
            index
        } else {
            self.connections.push((url.authority.clone(), Connection::open(url, None).await?));
            self.connections.len() - 1
        };
        Ok(&mut self.connections[index].1)
    }
}

fn name(number: usize) -> String {
    format!("p{number}")
}

fn tarball(number: usize) -> String {
    format!("p{number}/-/p{number}-1.0.0.tgz")
}
