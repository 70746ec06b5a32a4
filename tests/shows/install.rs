//! One real, cold `npm ci` with a lockfile that names no addresses: two API requests per package, a document and a
//! tarball.

use std::{path::Path, time::Duration};

use feedgate_simulator::{
    Feed, Listener, NpmPackage, NpmVersion, Organisation, Simulator, Strain, Throttle,
    clients::{Npm, Outcome, Project, Registry},
};
use serde_json::{Map, Value, json};

use super::{Figures, Nginx, Pulled, RATE, RETRY_AFTER, burst::Front, service};
use crate::support::{PAT, Scene, readers};

/// Where `tests/real/fetch` leaves its packages.
const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/real-packages");
/// Those of the real project's roots that are installed; with their trees some 600 packages.
const ROOTS: [&str; 12] = [
    "@babel/core",
    "@babel/preset-env",
    "@babel/preset-react",
    "babel-loader",
    "css-loader",
    "eslint",
    "express",
    "jest",
    "react-dom",
    "typescript",
    "webpack",
    "webpack-cli",
];
/// Dependencies of each made-up package.
const FAN: usize = 6;

/// What npm made of it.
pub struct Install {
    /// For npm and for the service; an install that failed is one refusal.
    pub figures: Figures,
    /// Packages installed.
    pub packages: usize,
    /// All of npm's own words.
    pub outcome: Outcome,
}

pub(super) struct Content {
    pub(super) manifest: String,
    pub(super) feed: Feed,
}

/// Installs real packages if they were fetched and no number of made-up ones is asked for. `None` if the front is
/// not installed. The service's limit is a quota of 300 requests per 5 s.
pub async fn install(front: Front, made_up: Option<usize>) -> Option<Install> {
    let content = match made_up {
        Some(packages) => invent(packages),
        None => real().unwrap_or_else(|| invent(600)),
    };
    let organisation = readers(Organisation::new("contoso").feed(content.feed));
    let project = locked(organisation.clone(), &content.manifest).await;
    let simulator = service(organisation).await;
    let quota = Throttle::window(5 * RATE, Duration::from_secs(5)).on(Listener::Pkgs);
    if front != Front::Unlimited {
        simulator.throttle(quota.retry_after(RETRY_AFTER));
    }
    let run = async |base: &str| npm(base, &project).await;
    let (outcome, requests) = match front {
        Front::Gate => {
            let scene = Scene::with(simulator, "");
            let outcome = run(scene.url("").trim_end_matches('/')).await;
            let asked = scene.metric(&["feedgate_requests_total"]).await;
            let strain = Strain::of(&scene.simulator.requests());
            return Some(Install::new(outcome, strain, asked, count(&project.installed())));
        }
        Front::Nginx => {
            let nginx = Nginx::start(&simulator).await?;
            (run(nginx.url()).await, simulator.requests())
        }
        Front::Nothing | Front::Unlimited => (run(&simulator.pkgs_url()).await, simulator.requests()),
    };
    let strain = Strain::of(&requests);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let asked = (strain.requests - strain.refused.len()) as f64;
    Some(Install::new(outcome, strain, asked, count(&project.installed())))
}

pub(super) async fn npm(base: &str, project: &Project) -> Outcome {
    let npm = Npm::find().expect("npm is on the path");
    let url = format!("{base}/{}/", crate::support::NPM);
    npm.install(project, &Registry::with_token(url, "any", PAT)).await.unwrap()
}

/// The project with a lockfile from which the addresses are gone, as those that teams share between registries are.
pub(super) async fn locked(organisation: Organisation, manifest: &str) -> Project {
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    let project = Project::npm(manifest).unwrap();
    let outcome = npm(&simulator.pkgs_url(), &project).await;
    assert!(outcome.success, "{}", outcome.output());
    let text = std::fs::read_to_string(project.dir().join("package-lock.json")).unwrap();
    let mut lock: Value = serde_json::from_str(&text).unwrap();
    for package in lock["packages"].as_object_mut().unwrap().values_mut().filter_map(Value::as_object_mut) {
        package.remove("resolved");
    }
    Project::npm(manifest).unwrap().with_file("package-lock.json", lock.to_string()).unwrap().frozen()
}

/// The real packages, if they were fetched.
fn real() -> Option<Content> {
    let text = std::fs::read_to_string(Path::new(REAL).join("project.json")).ok()?;
    let whole: Value = serde_json::from_str(&text).ok()?;
    let all =
        ["dependencies", "devDependencies"].into_iter().filter_map(|kind| whole[kind].as_object()).flatten();
    let wanted = all.filter(|(name, _)| ROOTS.contains(&name.as_str()));
    let roots: Map<_, _> = wanted.map(|(name, range)| (name.clone(), range.clone())).collect();
    Some(Content {
        manifest: manifest(&roots),
        feed: Feed::new("main").npm_folder(Path::new(REAL).join("packages")),
    })
}

/// A tree of small packages.
pub(super) fn invent(packages: usize) -> Content {
    let feed = (0..packages).fold(Feed::new("main"), |feed, number| {
        let next = (number * FAN + 1..=number * FAN + FAN).filter(|next| *next < packages);
        let version = next.fold(NpmVersion::new().size(3_000), |version, next| {
            version.dependency(&super::name(next), "^1.0.0")
        });
        feed.npm(NpmPackage::new(&super::name(number)).version("1.0.0", version))
    });
    Content { manifest: manifest(&Map::from_iter([(super::name(0), json!("^1.0.0"))])), feed }
}

fn manifest(dependencies: &Map<String, Value>) -> String {
    json!({ "name": "app", "version": "1.0.0", "private": true, "dependencies": dependencies }).to_string()
}

/// Packages that npm says it has put there.
pub(super) fn count(installed: &Path) -> usize {
    let lock = std::fs::read_to_string(installed.join(".package-lock.json")).unwrap_or_default();
    let lock: Value = serde_json::from_str(&lock).unwrap_or_default();
    lock["packages"].as_object().map_or(0, Map::len)
}

// === impl Install ===

impl Install {
    /// The shortest time is that of what npm `asked`, at the service's rate: a gate that makes less of it may gain.
    fn new(outcome: Outcome, strain: Strain, asked: f64, packages: usize) -> Self {
        let failed = usize::from(!outcome.success);
        let seconds = outcome.seconds;
        let pulled = Pulled { asked: 1, served: 1 - failed, refused: failed, seconds, ..Pulled::default() };
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let ideal = asked / RATE as f64;
        Self { figures: Figures { pulled, strain, ideal }, packages, outcome }
    }
}
