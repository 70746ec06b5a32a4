//! `npm ci` while the service refuses connections, and while it takes them and says nothing: warm, with documents too
//! old to be served without asking, and cold.

use std::time::Duration;

use feedgate::clock::Clock;
use feedgate_simulator::{
    Fault, FaultKind, Matcher, Organisation, Simulator, Times,
    clients::{Npm, Outcome, Project, Registry},
};

use super::{
    install::{count, invent, locked, npm},
    service,
};
use crate::support::{NPM, PAT, Scene, readers};

/// Longer than any document is fresh, may be served while it is refreshed, or a verdict holds without asking.
const LATER: Duration = Duration::from_secs(600);
/// One first-byte timeout for all: the usual one is 90 s, which a cold client of a silent service waits for.
pub const FIRST_BYTE: Duration = Duration::from_secs(15);

/// What npm made of it, in seconds.
#[derive(Debug)]
pub struct Outage {
    /// Packages installed each time.
    pub packages: usize,
    /// Warm, the service healthy, nothing to be asked.
    pub healthy: Vec<f64>,
    /// Warm, connections refused.
    pub refusing: Vec<f64>,
    /// Warm, silence.
    pub hanging: Vec<f64>,
    /// Cold, connections refused, and silence: npm fails, with its own retries.
    pub cold: [Outcome; 2],
}

#[derive(Clone, Copy)]
enum Trouble {
    Refuses,
    Hangs,
}

/// Each `rounds` times, a fresh client every time.
pub async fn outage(packages: usize, rounds: usize) -> Outage {
    let content = invent(packages);
    let organisation = readers(Organisation::new("contoso").feed(content.feed));
    let project = locked(organisation.clone(), &content.manifest).await;
    let clock = Clock::manual(Clock::system().now());
    let scene = Scene::at(service(organisation.clone()).await, &settings(), clock.clone());
    let install = async || {
        let outcome = npm(scene.url("").trim_end_matches('/'), &project).await;
        assert!(outcome.success, "{}", outcome.output());
        outcome.seconds
    };
    install().await;
    let (mut healthy, mut refusing, mut hanging) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        healthy.push(install().await);
        for (trouble, seconds) in [(Trouble::Refuses, &mut refusing), (Trouble::Hangs, &mut hanging)] {
            clock.advance(LATER);
            begin(&scene.simulator, trouble).await;
            seconds.push(install().await);
            end(&scene.simulator).await;
            // The gate finds the service again, and all documents are fresh.
            install().await;
        }
    }
    let installed = count(&project.installed());
    let cold = [
        cold(organisation.clone(), &project, Trouble::Refuses).await,
        cold(organisation, &project, Trouble::Hangs).await,
    ];
    Outage { packages: installed, healthy, refusing, hanging, cold }
}

async fn cold(organisation: Organisation, project: &Project, trouble: Trouble) -> Outcome {
    let scene = Scene::with(service(organisation).await, &settings());
    begin(&scene.simulator, trouble).await;
    let registry = Registry::with_token(scene.url(&format!("{NPM}/")), "any", PAT).retrying();
    Npm::find().expect("npm is on the path").install(project, &registry).await.unwrap()
}

fn settings() -> String {
    format!("upstream.first_byte_timeout = \"{}s\"\n", FIRST_BYTE.as_secs())
}

async fn begin(simulator: &Simulator, trouble: Trouble) {
    match trouble {
        Trouble::Refuses => simulator.refuse_connections().await.unwrap(),
        Trouble::Hangs => simulator.fault(Fault::new(Matcher::any(), FaultKind::Hang, Times::Always)),
    }
}

async fn end(simulator: &Simulator) {
    simulator.clear_faults();
    simulator.reset_connections().await;
    simulator.accept_connections().await.unwrap();
}

// === impl Outage ===

impl Outage {
    /// The medians: healthy, refusing, hanging.
    pub fn medians(&self) -> [f64; 3] {
        [&self.healthy, &self.refusing, &self.hanging].map(|seconds| {
            let mut sorted = seconds.clone();
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        })
    }
}
