//! Small installs beside a huge one.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Pulled, credential, limit, organisation, packument, pull, service, tarball};
use crate::support::Scene;

/// Packages of a small install.
const SMALL: usize = 20;
/// Requests in flight of an npm.
const PARALLEL: usize = 15;
/// The same of the huge one: what several build machines with one credential have.
const HUGE_PARALLEL: usize = 100;

/// What came of it.
#[derive(Debug)]
pub struct Fairness {
    /// Seconds of a small install alone, at a gate that nobody has used.
    pub alone: f64,
    /// Seconds of each small install beside the huge one.
    pub beside: Vec<f64>,
    /// What the huge one saw until the last small install was over.
    pub huge: Pulled,
    /// Requests of all of them that failed.
    pub failed: usize,
}

// === impl Fairness ===

impl Fairness {
    /// The slowest small install by the one alone; the first `skipped` are left out.
    pub fn worst(&self, skipped: usize) -> f64 {
        self.beside.iter().skip(skipped).fold(0.0_f64, |worst, seconds| worst.max(seconds / self.alone))
    }
}

/// One client pulls so many packages; others install 20 each, one after the other, beginning at these times.
pub async fn fairness(packages: usize, begins: &[Duration]) -> Fairness {
    let alone = {
        let scene = scene(SMALL, 2).await;
        small(&scene, 1, 0).await
    };
    let scene = scene(packages + begins.len() * SMALL, begins.len() + 1).await;
    let (base, start) = (scene.url("").trim_end_matches('/').to_owned(), Instant::now());
    let paths: Vec<_> = (0..packages).map(tarball).collect();
    let huge = tokio::spawn(async move { pull(&base, &paths, HUGE_PARALLEL, &credential(0)).await });
    let mut beside = Vec::new();
    for (number, begin) in begins.iter().enumerate() {
        sleep_until(start + *begin).await;
        beside.push(small(&scene, number + 1, packages + number * SMALL).await);
    }
    let huge = huge.await.unwrap();
    let failed = [&alone].into_iter().chain(&beside).chain([&huge]).map(|one| one.asked - one.served).sum();
    Fairness { alone: alone.seconds, beside: beside.iter().map(|one| one.seconds).collect(), huge, failed }
}

async fn scene(packages: usize, clients: usize) -> Scene {
    let simulator = service(organisation(packages, clients)).await;
    limit(&simulator);
    Scene::with(simulator, "")
}

/// Documents first, then what they name.
async fn small(scene: &Scene, client: usize, first: usize) -> Pulled {
    let base = scene.url("").trim_end_matches('/').to_owned();
    let numbers = first..first + SMALL;
    let documents: Vec<_> = numbers.clone().map(packument).collect();
    let tarballs: Vec<_> = numbers.map(tarball).collect();
    let documents = pull(&base, &documents, PARALLEL, &credential(client)).await;
    let mut all = pull(&base, &tarballs, PARALLEL, &credential(client)).await;
    all.seconds += documents.seconds;
    (all.asked, all.served) = (all.asked + documents.asked, all.served + documents.served);
    all
}
