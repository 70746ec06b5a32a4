//! The disk store when its process is killed, and when the system refuses to write.
//!
//! Both need a process of their own, so this program runs itself again as the victim. `--rounds N` kills N
//! times instead of a few: `cargo test --test crash -- --rounds 50`.

use std::{
    collections::HashSet,
    env,
    error::Error,
    io::{self, Write},
    path::Path,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use feedgate::{
    blob::{BlobError, BlobKind, BlobStore, Digests, DiskStore, VsoHasher},
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, DatabaseSettings, StoreDirectory},
    ident::StorageId,
};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, timeout_at},
};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Kills in an ordinary run of the tests.
const ROUNDS: u64 = 4;
/// Names as the test runners want them listed.
const TESTS: [&str; 2] = ["killed_stores_keep_what_they_acknowledged", "refused_writes_leave_nothing_torn"];
/// Blobs up to this size live in the database.
const SPILL: u64 = 64 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = say(format!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Outcome {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["victim", root, seed] => write_until_killed(root.as_ref(), seed.parse()?).await,
        ["limited", root] => write_until_refused(root.as_ref()).await,
        ["--rounds", rounds] => kill_rounds(rounds.parse()?).await,
        _ if arguments.contains(&"--list") => {
            let none = arguments.contains(&"--ignored");
            TESTS.iter().filter(|_| !none).try_for_each(|name| say(format!("{name}: test")))
        }
        _ => {
            let chosen =
                |name| !TESTS.iter().any(|test| arguments.contains(test)) || arguments.contains(&name);
            if chosen(TESTS[0]) {
                kill_rounds(ROUNDS).await?;
            }
            if chosen(TESTS[1]) {
                refused_writes().await?;
            }
            Ok(())
        }
    }
}

// --- the victims

/// Stores blobs from several tasks, and removes some, until killed. Says `+ id` when a blob was acknowledged
/// and `- id` before one is removed.
async fn write_until_killed(root: &Path, seed: u64) -> Outcome {
    let store = Arc::new(open(root).await?);
    let tasks = (0..4).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed * 4 + task);
            loop {
                let id = store_random(&store, &mut random).await?;
                say(format!("+ {id}"))?;
                if random.random_ratio(1, 5) {
                    say(format!("- {id}"))?;
                    store.remove(&id).await?;
                }
                if random.random_ratio(1, 10) {
                    store.maintain().await?;
                }
            }
            #[expect(unreachable_code, reason = "gives the task its type")]
            Outcome::Ok(())
        })
    });
    for outcome in futures::future::join_all(tasks).await {
        outcome??;
    }
    Ok(())
}

/// Stores blobs until the limit on file sizes, set by whoever started this, makes writes fail: first to a
/// large file, then in the database.
async fn write_until_refused(root: &Path) -> Outcome {
    let store = open(root).await?;
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..10 {
        say(format!("+ {}", store_random(&store, &mut random).await?))?;
    }
    let large = store_bytes(&store, random_bytes(&mut random, 100 << 20)).await;
    let refused = matches!(large, Err(BlobError::Io { .. }));
    check(refused, || format!("a file over the limit: {large:?}"))?;
    loop {
        match store_bytes(&store, random_bytes(&mut random, 60_000)).await {
            Ok(id) => say(format!("+ {id}"))?,
            Err(BlobError::Io { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    say("refused")
}

async fn store_random(store: &DiskStore, random: &mut StdRng) -> Result<StorageId, BlobError> {
    let magnitude = random.random_range(8..21);
    let length = random.random_range(1..1_usize << magnitude);
    store_bytes(store, random_bytes(random, length)).await
}

async fn store_bytes(store: &DiskStore, bytes: Bytes) -> Result<StorageId, BlobError> {
    let length = u64::try_from(bytes.len()).ok();
    let id = vso_id(&bytes);
    let mut writer = store.begin(BlobKind::Package, length.filter(|length| length % 2 == 0)).await?;
    for start in (0..bytes.len()).step_by(50_000) {
        writer.write(bytes.slice(start..bytes.len().min(start + 50_000))).await?;
    }
    writer.commit(id, Digests::default()).await?;
    Ok(id)
}

// --- the tests

/// Kills a writing process at random moments and checks everything that is in the store after each.
async fn kill_rounds(rounds: u64) -> Outcome {
    let root = tempfile::tempdir()?;
    let (mut acknowledged, mut removed) = (HashSet::new(), HashSet::new());
    for seed in 0..rounds {
        let delay = Duration::from_millis(StdRng::seed_from_u64(seed).random_range(1..400));
        let seed = seed.to_string();
        for line in kill_after(&["victim", &path(root.path()), &seed], delay).await? {
            match line.split_at_checked(2) {
                Some(("+ ", id)) => acknowledged.insert(id.to_owned()),
                Some(("- ", id)) => removed.insert(id.to_owned()),
                _ => return Err(format!("the victim said {line:?}").into()),
            };
        }
        let kept: HashSet<_> = acknowledged.difference(&removed).cloned().collect();
        let found = check_store(root.path(), &kept).await?;
        say(format!("kill {seed}: {} acknowledged and kept, {found} stored, all whole", kept.len()))?;
    }
    check(acknowledged.len() > 10, || "the victims hardly wrote anything".to_owned())
}

/// Runs a victim under a limit on the size of its files, which makes the system refuse writes.
async fn refused_writes() -> Outcome {
    let root = tempfile::tempdir()?;
    let limited = r#"trap "" XFSZ; ulimit -f 49152; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(env::current_exe()?).args(["limited", &path(root.path())]);
    let output = command.stderr(Stdio::inherit()).output().await?;
    let said = String::from_utf8(output.stdout)?;
    check(said.ends_with("refused\n"), || format!("the victim said {said}"))?;
    let kept: HashSet<_> = said.lines().filter_map(|line| line.strip_prefix("+ ")).map(Into::into).collect();
    let found = check_store(root.path(), &kept).await?;
    say(format!("refused: {} acknowledged, {found} stored, all whole", kept.len()))
}

/// Opens the store: every blob in it must be whole, and all of `kept` must be there. How many there are.
async fn check_store(root: &Path, kept: &HashSet<String>) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let store = open(root).await?;
    let listed = store.list(None, usize::MAX).await?;
    let mut missing = kept.clone();
    for (id, stat) in &listed {
        let blob = store.open(id).await?.ok_or_else(|| format!("{id} is listed and gone"))?;
        let mut bytes = Vec::new();
        while u64::try_from(bytes.len())? < stat.length {
            bytes.extend_from_slice(&blob.bytes.read_at(u64::try_from(bytes.len())?, usize::MAX).await?);
        }
        check(vso_id(&bytes) == *id, || format!("{id} has other bytes"))?;
        missing.remove(&id.to_string());
    }
    check(missing.is_empty(), || format!("acknowledged and lost: {missing:?}"))?;
    check(store.counts().damaged == 0, || format!("{:?}", store.counts()))?;
    check(root.join("partial").read_dir()?.next().is_none(), || "a partial file is left".to_owned())?;
    Ok(listed.len())
}

/// Runs this program with `arguments` and kills it `delay` after its first line; all its lines.
async fn kill_after(
    arguments: &[&str],
    delay: Duration,
) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let mut victim = Command::new(env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = BufReader::new(victim.stdout.take().ok_or("no output")?);
    let (mut lines, mut said) = (output.lines(), Vec::new());
    said.extend(lines.next_line().await?);
    let deadline = Instant::now() + delay;
    while let Ok(line) = timeout_at(deadline, lines.next_line()).await {
        said.push(line?.ok_or("the victim ended by itself")?);
    }
    victim.start_kill()?;
    victim.wait().await?;
    while let Some(line) = lines.next_line().await? {
        said.push(line);
    }
    Ok(said)
}

// --- shared

async fn open(root: &Path) -> Result<DiskStore, Box<dyn Error + Send + Sync>> {
    let settings = StoreSettings {
        spill: SPILL,
        free_reserve: 0,
        touch_granularity: Duration::ZERO,
        ..StoreSettings::new(root, 8 << 30)
    };
    let database = DatabaseSettings { page_cache: settings.page_cache, free_reserve: settings.free_reserve };
    let opened = Database::open(StoreDirectory::open(root)?, &database)?;
    check(opened.moved_aside.is_none(), || "the database could not be read".to_owned())?;
    let store = DiskStore::open(opened.database, settings, Clock::system()).await?;
    store.take_stock().await?;
    Ok(store)
}

fn vso_id(bytes: &[u8]) -> StorageId {
    let mut hasher = VsoHasher::new();
    hasher.update(bytes);
    hasher.finish()
}

fn random_bytes(random: &mut StdRng, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes.into()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

/// Writes a line at once, so that it is out when the process is killed.
fn say(line: impl AsRef<str>) -> Outcome {
    let mut output = io::stdout().lock();
    output.write_all(format!("{}\n", line.as_ref()).as_bytes())?;
    Ok(output.flush()?)
}
