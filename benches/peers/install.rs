//! Installs by clients that have nothing yet, everything being warm in the front, and the service slow.
//!
//! The tree is a real one where `tests/real/fetch` has brought it. Its packuments are as large as real ones: each package
//! has earlier versions, with all that the service tells of a version.
//!
//! Clients work in memory where the system has a place for that (the fronts do not): ext4 looks for a long time for numbers
//! of files that were not deleted just now, so that `npm ci` beside the removal of the project before it spent 15 s in the
//! system instead of 2. In each round the fronts have their turns in another order, since an install is slower after one
//! that used much memory.

use std::{collections::BTreeSet, path::Path, time::Duration};

use feedgate_simulator::{
    Feed, Listener, NpmPackage, NpmVersion, Pace, Simulator,
    clients::{Npm, Outcome, Pnpm, Project, Registry},
};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Map, Value, json};

use crate::{
    Failure,
    content::{self, FEED, PAT},
    fronts::{Front, Kind},
    median, process, say, setting,
};

const API: Duration = Duration::from_millis(250);
const BLOBS: Duration = Duration::from_millis(150);
const KINDS: [Kind; 3] = [Kind::Gate, Kind::Nginx, Kind::Verdaccio];
/// How many times as many rounds pnpm has, which takes half a second.
const QUICK: usize = 5;
/// Where `tests/real/fetch` leaves its packages.
const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/real-packages");
/// Those that are installed; with their trees some 600 packages.
const ROOTS: [&str; 8] = [
    "@babel/core",
    "@babel/preset-env",
    "babel-loader",
    "css-loader",
    "eslint",
    "express",
    "jest",
    "webpack",
];
/// Packages of the made-up tree, and dependencies of each.
const MADE_UP: usize = 600;
const FAN: usize = 6;

/// What a client is told to do.
#[derive(Clone, Copy)]
struct Task {
    name: &'static str,
    pnpm: bool,
    frozen: bool,
}

const TASKS: [Task; 4] = [
    Task { name: "npm ci", pnpm: false, frozen: true },
    Task { name: "pnpm install --frozen-lockfile", pnpm: true, frozen: true },
    Task { name: "npm install, no lockfile", pnpm: false, frozen: false },
    Task { name: "pnpm install, no lockfile", pnpm: true, frozen: false },
];

/// Runs all tasks and prints a table.
pub async fn table() -> Result<(), Failure> {
    let (manifest, feed) = real().unwrap_or_else(made_up);
    let simulator = Simulator::builder().organisation(content::organisation(feed.public())).start().await?;
    let rounds = setting("PEERS_ROUNDS", 5);
    let wanted = setting("PEERS_CASE", String::new());
    say(&format!(
        "\ninstalls; the service takes {API:?} and {BLOBS:?}; medians of {rounds} rounds, of {} with pnpm\n",
        rounds * QUICK
    ))?;
    say(
        "| client | front | s | client's CPU s | server's | requests to the service | RSS MB | it ÷ gate, s |",
    )?;
    say("|---|---|---|---|---|---|---|---|")?;
    for task in TASKS.iter().filter(|task| task.name.contains(&wanted)) {
        set_paces(&simulator, Duration::ZERO, Duration::ZERO);
        let project = task.project(&manifest, &simulator).await?;
        task.rows(&project, &simulator, rounds).await?;
    }
    Ok(())
}

fn set_paces(simulator: &Simulator, api: Duration, blobs: Duration) {
    simulator.set_pace(Listener::Pkgs, Pace::latency(api));
    simulator.set_pace(Listener::Blob, Pace::latency(blobs));
}

// === impl Task ===

impl Task {
    /// The project as it is checked out, with the lockfile that this client makes of it.
    async fn project(&self, manifest: &str, simulator: &Simulator) -> Result<Project, Failure> {
        let project = Project::npm(manifest)?;
        if !self.frozen {
            return Ok(project);
        }
        self.install(&project, &Registry::anonymous(simulator.npm_url(FEED))).await?;
        let lock = |name: &str| std::fs::read_to_string(project.dir().join(name));
        let locked = if self.pnpm {
            Project::npm(manifest)?.with_file("pnpm-lock.yaml", lock("pnpm-lock.yaml")?)?
        } else {
            // Without the addresses, as lockfiles that teams share between registries are.
            let mut lock: Value = serde_json::from_str(&lock("package-lock.json")?)?;
            let packages = lock["packages"].as_object_mut().ok_or("a lockfile without packages")?;
            packages.values_mut().filter_map(Value::as_object_mut).for_each(|it| drop(it.remove("resolved")));
            Project::npm(manifest)?.with_file("package-lock.json", lock.to_string())?
        };
        Ok(locked.frozen())
    }

    async fn rows(&self, project: &Project, simulator: &Simulator, rounds: usize) -> Result<(), Failure> {
        let mut fronts = Vec::new();
        for kind in KINDS {
            let front = Front::start(kind, simulator)?;
            self.install(&project.checkout()?, &front.client()).await?;
            fronts.push(front);
        }
        set_paces(simulator, API, BLOBS);
        // The last one is no front at all.
        let mut figures = vec![<[Vec<f64>; 4]>::default(); fronts.len() + 1];
        let mut turns: Vec<usize> = (0..figures.len()).collect();
        let mut random = StdRng::seed_from_u64(1);
        let rounds = if self.pnpm { rounds * QUICK } else { rounds };
        for _ in 0..rounds {
            turns.shuffle(&mut random);
            for index in turns.iter().copied() {
                let front = fronts.get(index);
                // Without lockfile and front an install takes minutes, which no figure is compared with.
                if front.is_none() && !self.frozen && !figures[index][0].is_empty() {
                    continue;
                }
                let registry =
                    front.map_or_else(|| Registry::anonymous(simulator.npm_url(FEED)), Front::client);
                let cpu = || front.map_or(0.0, |front| front.process.cpu());
                simulator.clear_log();
                let (before, ended) = (cpu(), process::ended_cpu());
                let outcome = self.install(&project.checkout()?, &registry).await?;
                let asked = simulator.count(|_| true) as f64;
                let seen = [outcome.seconds, process::ended_cpu() - ended, cpu() - before, asked];
                figures[index].iter_mut().zip(seen).for_each(|(all, one)| all.push(one));
            }
        }
        let medians: Vec<[f64; 4]> = figures.into_iter().map(|figures| figures.map(median)).collect();
        for (index, [seconds, client, cpu, asked]) in medians.iter().enumerate() {
            let front = fronts.get(index);
            let (name, rss) =
                front.map_or(("nothing", f64::NAN), |front| (front.kind.name(), front.process.rss()));
            let ratio = seconds / medians[0][0];
            say(&format!(
                "| {} | {name} | {seconds:.2} | {client:.2} | {cpu:.2} | {asked:.0} | {rss:.0} | {ratio:.2} |",
                self.name
            ))?;
        }
        Ok(())
    }

    async fn install(&self, project: &Project, registry: &Registry) -> Result<Outcome, Failure> {
        let outcome = if self.pnpm {
            Pnpm::find().ok_or("no pnpm: deploy/setup --clients")?.install(project, registry).await?
        } else {
            Npm::find().ok_or("no npm")?.install(project, registry).await?
        };
        if outcome.success { Ok(outcome) } else { Err(outcome.output().into()) }
    }
}

impl Front {
    fn client(&self) -> Registry {
        match self.kind {
            Kind::Verdaccio => Registry::anonymous(self.registry()),
            _ => Registry::with_token(self.registry(), "any", PAT),
        }
    }
}

/// The real packages, if they were fetched.
fn real() -> Option<(String, Feed)> {
    let text = std::fs::read_to_string(Path::new(REAL).join("project.json")).ok()?;
    let whole: Value = serde_json::from_str(&text).ok()?;
    let all =
        ["dependencies", "devDependencies"].into_iter().filter_map(|kind| whole[kind].as_object()).flatten();
    let roots = all.filter(|(name, _)| ROOTS.contains(&name.as_str()));
    let roots = roots.map(|(name, range)| (name.clone(), range.clone())).collect();
    let index = std::fs::read_to_string(Path::new(REAL).join("index.json")).ok()?;
    let index: Vec<Value> = serde_json::from_str(&index).ok()?;
    let names: BTreeSet<&str> = index.iter().filter_map(|package| package["name"].as_str()).collect();
    let feed = Feed::new("main").npm_folder(Path::new(REAL).join("packages"));
    Some((manifest(&roots), names.into_iter().fold(feed, |feed, name| feed.npm(content::earlier(name)))))
}

/// A tree of small packages.
fn made_up() -> (String, Feed) {
    let name = |number: usize| format!("package-{number}");
    let feed = (0..MADE_UP).fold(Feed::new("main"), |feed, number| {
        let next = (number * FAN + 1..=number * FAN + FAN).filter(|next| *next < MADE_UP);
        let version = next
            .fold(NpmVersion::new().size(3_000), |version, next| version.dependency(&name(next), "^1.0.0"));
        feed.npm(NpmPackage::new(&name(number)).version("1.0.0", version))
    });
    (manifest(&Map::from_iter([(name(0), json!("^1.0.0"))])), feed)
}

fn manifest(dependencies: &Map<String, Value>) -> String {
    json!({ "name": "app", "version": "1.0.0", "private": true, "dependencies": dependencies }).to_string()
}
