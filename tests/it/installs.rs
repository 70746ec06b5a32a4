//! Real clients through the gate: the tree of a direct install, each package downloaded once, and again without the
//! service. Once with packages that the simulator makes, once with those of `tests/real/fetch` where they are there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation,
    Simulator, Times,
    clients::{Client, Project, Registry, tree},
};
use futures::future::join_all;

use crate::support::{PAT, Scene, readers};

/// Where `tests/real/fetch` leaves its packages.
const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/real-packages");
/// Packages of the made-up project, and NuGet packages.
const PACKAGES: usize = 40;

/// Those of the real project's roots that the test installs; with their trees more than 300 packages.
const ROOTS: [&str; 7] = ["express", "react", "react-dom", "typescript", "webpack", "eslint", "jest"];

/// What the npm family installs.
#[derive(Clone)]
pub struct Content {
    manifest: String,
    feed: Feed,
}

/// The real packages, if they were fetched.
fn real() -> Option<Content> {
    let text = std::fs::read_to_string(Path::new(REAL).join("project.json")).ok()?;
    let whole: serde_json::Value = serde_json::from_str(&text).ok()?;
    let all =
        ["dependencies", "devDependencies"].into_iter().filter_map(|kind| whole[kind].as_object()).flatten();
    let wanted = all.filter(|(name, _)| ROOTS.contains(&name.as_str()));
    let roots: serde_json::Map<_, _> = wanted.map(|(name, range)| (name.clone(), range.clone())).collect();
    let manifest =
        serde_json::json!({ "name": "real", "version": "1.0.0", "private": true, "dependencies": roots });
    let feed = Feed::new("main").npm_folder(Path::new(REAL).join("packages"));
    Some(Content { manifest: manifest.to_string(), feed })
}

/// A project of packages that the simulator makes.
pub fn made_up() -> Content {
    let mut feed = Feed::new("main");
    for number in 0..PACKAGES {
        let next = [number * 2 + 1, number * 2 + 2].into_iter().filter(|next| *next < PACKAGES);
        let scoped =
            |number: usize| if number % 3 == 1 { format!("@made/p{number}") } else { format!("p{number}") };
        let version = next.fold(NpmVersion::new().size(3_000 + number * 9_000), |version, next| {
            version.dependency(&scoped(next), "^1.0.0")
        });
        feed = feed.npm(NpmPackage::new(&scoped(number)).version("1.0.0", version));
    }
    let manifest = r#"{"name":"made-up","version":"1.0.0","private":true,"dependencies":{"p0":"^1.0.0"}}"#;
    Content { manifest: manifest.to_owned(), feed }
}

/// The organisation that has the content, in the feed `main`.
pub fn organisation(content: &Content) -> Organisation {
    let mut feed = content.feed.clone();
    for number in 0..PACKAGES {
        let nuget = NugetVersion::new().size(2_000 + number * 5_000);
        feed = feed.nuget(NugetPackage::new(&format!("Contoso.Part{number}")).version("1.0.0", nuget));
    }
    readers(Organisation::new("contoso").feed(feed))
}

fn project(client: &Client, content: &Content) -> Project {
    if client.is_nuget() {
        let ids: Vec<_> = (0..PACKAGES).map(|number| format!("Contoso.Part{number}")).collect();
        return Project::nuget(ids.iter().map(|id| (id.as_str(), "1.0.0"))).unwrap();
    }
    Project::npm(&content.manifest).unwrap()
}

async fn install(client: &Client, content: &Content, base: &str, round: &str) -> BTreeMap<PathBuf, String> {
    install_from(client, content, &format!("{base}/contoso/_packaging/main"), round).await
}

/// Installs from the feed at `feed`, and says what came of it.
pub async fn install_from(
    client: &Client,
    content: &Content,
    feed: &str,
    round: &str,
) -> BTreeMap<PathBuf, String> {
    let route = if client.is_nuget() { "nuget/v3/index.json" } else { "npm/registry/" };
    let registry = Registry::with_token(format!("{feed}/{route}"), "any", PAT);
    let project = project(client, content);
    let outcome = client.install(&project, &registry).await.unwrap();
    assert!(outcome.success, "{} ({round}):\n{}\n{}", client.name(), outcome.stdout, outcome.stderr);
    eprintln!("{round:<19} {:<13} {:>6.1} s", client.name(), outcome.seconds);
    tree(&project.installed()).unwrap()
}

async fn change(scene: &mut Scene, round: &str) {
    match round {
        "restarted" => scene.restart(),
        "restarted, refusing" => {
            scene.restart();
            scene.simulator.refuse_connections().await.unwrap();
        }
        "refusing" => scene.simulator.refuse_connections().await.unwrap(),
        "hanging" => {
            scene.simulator.accept_connections().await.unwrap();
            scene.simulator.fault(Fault::new(Matcher::any(), FaultKind::Hang, Times::Always));
        }
        _ => {}
    }
}

/// What each client installs, all at once.
async fn install_by_all(
    clients: &[Client],
    content: &Content,
    base: &str,
    round: &str,
) -> BTreeMap<&'static str, BTreeMap<PathBuf, String>> {
    let runs =
        clients.iter().map(async |client| (client.name(), install(client, content, base, round).await));
    join_all(runs).await.into_iter().collect()
}

async fn check(content: Content, rounds: &[&str]) {
    let simulator = Simulator::builder().organisation(organisation(&content)).start().await.unwrap();
    let mut scene = Scene::with(simulator, "");
    let clients = Client::found();
    assert!(clients.iter().any(|client| matches!(client, Client::Npm(_))), "npm is not on the path");
    let direct = install_by_all(&clients, &content, &scene.simulator.pkgs_url(), "direct").await;
    let distinct = scene.simulator.blob_downloads().len();
    eprintln!("{distinct} packages");
    scene.simulator.clear_log();
    for round in rounds {
        change(&mut scene, round).await;
        let base = format!("http://{}", scene.gate().address());
        for (name, tree) in install_by_all(&clients, &content, &base, round).await {
            assert_eq!(direct.get(name), Some(&tree), "{name}, {round}");
        }
        // All clients at once, and still each package once.
        let downloads = scene.simulator.blob_downloads();
        assert!(downloads.values().all(|times| *times == 1), "{round}: {downloads:?}");
        assert_eq!(downloads.len(), distinct, "{round}");
    }
    assert_eq!(scene.simulator.violations(), []);
    assert_eq!(scene.metric(&["feedgate_leaked_urls_total"]).await.to_bits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_installs_cold_warm_after_a_restart_and_without_the_service() {
    check(made_up(), &["cold", "warm", "restarted", "refusing", "hanging"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_installs_a_real_project_cold_and_after_a_restart_without_the_service() {
    // Without the fetched packages this is the other test once more, shorter.
    check(real().unwrap_or_else(made_up), &["cold", "restarted, refusing"]).await;
}
