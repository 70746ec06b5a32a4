//! What is pinned stays in the store, whatever comes and goes, and over a restart.

use std::path::Path;

use feedgate::cli::client::{AdminAddress, Client, Refused};
use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{NPM, Scene, readers, until};

/// Packages that turn a store over that takes 256 MiB, and their size.
const MANY: usize = 34;
const SIZE: usize = 8_000_000;

async fn scene() -> Scene {
    let version = |size| NpmVersion::new().size(size);
    let mut feed = Feed::new("main")
        .npm(NpmPackage::new("left-pad").version("1.3.0", version(4_000)).version("1.2.0", version(4_000)))
        .npm(NpmPackage::new("@scope/wide").version("2.0.0", version(300_000)));
    for number in 0..MANY {
        feed = feed.npm(NpmPackage::new(&name(number)).version("1.0.0", version(SIZE)));
    }
    let organisation = readers(Organisation::new("contoso").feed(feed));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    Scene::with(simulator, "store.capacity = \"256MiB\"\nstore.hot_capacity = \"0B\"\n")
}

fn name(number: usize) -> String {
    format!("many-{number}")
}

fn file(name: &str, version: &str) -> String {
    let bare = name.rsplit('/').next().unwrap();
    format!("{NPM}/{name}/-/{bare}-{version}.tgz")
}

/// Fetches the packages, and sees them stored.
async fn fill(scene: &Scene) {
    for path in [
        format!("{NPM}/left-pad"),
        file("left-pad", "1.3.0"),
        file("left-pad", "1.2.0"),
        file("@scope/wide", "2.0.0"),
    ] {
        assert_eq!(scene.get(&path).await.status, 200, "{path}");
    }
    until(async || objects(scene, "").await.iter().filter(|one| !one["bytes"].is_null()).count() >= 4).await;
}

async fn turn_over(scene: &Scene) {
    for number in 0..MANY {
        assert_eq!(scene.get(&file(&name(number), "1.0.0")).await.status, 200, "{number}");
    }
}

fn admin(scene: &Scene) -> Client {
    Client::new(AdminAddress::Tcp(scene.gate().admin_address().to_string()), None)
}

async fn objects(scene: &Scene, query: &str) -> Vec<Value> {
    let found = admin(scene).get(&format!("/admin/v1/objects?limit=1000{query}")).await.unwrap();
    found["objects"].as_array().unwrap().clone()
}

/// The keys of what is pinned and stored.
async fn pinned(scene: &Scene) -> Vec<String> {
    let objects = objects(scene, "").await;
    let pinned = objects.iter().filter(|one| one["pinned"] == true && !one["bytes"].is_null());
    pinned.map(|one| one["key"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

async fn send(scene: &Scene, path: &str, order: Value) -> Result<Value, u16> {
    let answer = admin(scene).send(Method::POST, &format!("/admin/v1/{path}"), &order).await;
    answer.map_err(|error| error.downcast_ref::<Refused>().unwrap().status.as_u16())
}

async fn run(scene: &Scene, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(crate::process::PROGRAM);
    command.args(arguments).args(["--admin", &format!("http://{}", scene.gate().admin_address())]);
    let output = command.env_clear().output().await.unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_holds_against_all_that_comes_over_a_restart_and_until_it_is_taken_back() {
    let mut scene = scene().await;
    fill(&scene).await;
    let told =
        send(&scene, "pin", json!({ "package": "left-pad@1.3.0", "feed": "contoso/main" })).await.unwrap();
    assert_eq!(
        (&told["objects"], &told["missing"]),
        (&json!(2), &json!([])),
        "the version and the packument: {told}"
    );
    let before = pinned(&scene).await;
    assert_eq!(before, ["left-pad-1.3.0.tgz", "left-pad"]);
    assert_eq!(scene.metric(&["feedgate_store_pinned_blobs "]).await.to_bits(), 2_f64.to_bits());
    let stats = admin(&scene).get("/admin/v1/stats").await.unwrap();
    assert_eq!(stats["store"]["pinned"]["blobs"], 2);
    scene.restart();
    turn_over(&scene).await;
    assert!(scene.metric(&["feedgate_tier_evictions_total"]).await >= 3.0);
    assert_eq!(pinned(&scene).await, before);
    scene.simulator.refuse_connections().await.unwrap();
    let answer = scene.get(&file("left-pad", "1.3.0")).await;
    assert_eq!((answer.status, answer.header("x-cache")), (200, Some("HIT")));
    for path in [file("left-pad", "1.2.0"), file("@scope/wide", "2.0.0")] {
        assert_ne!(scene.get(&path).await.status, 200, "{path}: nothing kept it");
    }
    scene.simulator.accept_connections().await.unwrap();
    assert_eq!(send(&scene, "unpin", json!({ "package": "left-pad" })).await.unwrap()["objects"], 2);
    assert_eq!(pinned(&scene).await, Vec::<String>::new());
    assert_eq!(scene.metric(&["feedgate_store_pinned_blobs "]).await.to_bits(), 0);
}

/// A lockfile of npm's that names two packages that are stored and one that is not.
fn lockfile(folder: &Path, scene: &Scene) -> String {
    let mut packages = serde_json::Map::new();
    packages.insert(String::new(), json!({ "name": "app", "version": "1.0.0" }));
    for (name, version) in [("left-pad", "1.3.0"), ("@scope/wide", "2.0.0"), ("many-0", "1.0.0")] {
        let (bytes, digests) = scene.simulator.npm_file("contoso/main", name, version);
        assert!(!bytes.is_empty());
        let resolved = scene.url(&file(name, version));
        let one = json!({ "version": version, "resolved": resolved, "integrity": digests.integrity });
        packages.insert(format!("node_modules/{name}"), one);
    }
    let path = folder.join("package-lock.json");
    let lock = json!({ "name": "app", "version": "1.0.0", "lockfileVersion": 3, "packages": packages });
    std::fs::write(&path, lock.to_string()).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_pins_what_a_lockfile_needs_and_names_what_is_not_there() {
    let (scene, folder) = (scene().await, tempfile::tempdir().unwrap());
    fill(&scene).await;
    let lockfile = lockfile(folder.path(), &scene);
    let (code, text) = run(&scene, &["pin", "--lockfile", &lockfile]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("pinned 2 objects\nnot stored: many-0"), "{text}");
    assert!(text.contains("pinned are 2 blobs, ") && text.ends_with("of at most 192.0 MiB\n"), "{text}");
    let (code, text) = run(&scene, &["pin"]).await;
    assert!(code == Some(0) && text.contains("left-pad-1.3.0.tgz") && text.contains("  yes  "), "{text}");
    let (_, text) = run(&scene, &["ls", "left-pad"]).await;
    assert_eq!(text.matches("  yes  ").count(), 1, "{text}");
    let (code, text) = run(&scene, &["unpin", "--lockfile", &lockfile]).await;
    assert!(code == Some(0) && text.starts_with("unpinned 2 objects\npinned are 0 blobs"), "{text}");
    assert!(run(&scene, &["pin"]).await.1.starts_with("nothing is pinned\n"));
    assert_eq!(run(&scene, &["unpin", "--all"]).await.0, Some(0));
    assert_eq!(run(&scene, &["unpin"]).await.0, Some(2), "it must be said what");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_named_is_the_only_one_that_is_meant() {
    let scene = scene().await;
    fill(&scene).await;
    let (here, elsewhere) =
        (scene.url(&format!("{NPM}/")), scene.url("contoso/_packaging/other@Local/npm/registry/"));
    let (_, text) = run(&scene, &["pin", "left-pad@1.3.0", "--registry", &elsewhere]).await;
    assert!(text.starts_with("pinned 0 objects\n"), "{text}");
    let (_, text) = run(&scene, &["pin", "left-pad@1.3.0", "--registry", &here]).await;
    assert!(text.starts_with("pinned 2 objects\n"), "{text}");
    let (_, text) = run(&scene, &["unpin", "left-pad", "--registry", &elsewhere]).await;
    assert!(text.starts_with("unpinned 0 objects\n"), "{text}");
    let (_, text) = run(&scene, &["unpin", "left-pad", "--registry", &here]).await;
    assert!(text.starts_with("unpinned 2 objects\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_three_quarters_are_refused_and_a_purge_leaves_the_pin() {
    let scene = scene().await;
    fill(&scene).await;
    turn_over(&scene).await;
    let error =
        admin(&scene).send(Method::POST, "/admin/v1/pin", &json!({ "package": "many-*" })).await.unwrap_err();
    let refused: &Refused = error.downcast_ref().unwrap();
    assert_eq!((refused.status.as_u16(), refused.code.as_str()), (507, "pins"));
    assert!(refused.detail.contains("more than 201326592, three quarters of `store.capacity`"), "{refused}");
    assert_eq!(pinned(&scene).await, Vec::<String>::new());
    // A package is served before it is stored.
    until(async || objects(&scene, "&package=many-33").await.iter().any(|one| !one["bytes"].is_null())).await;
    assert_eq!(send(&scene, "pin", json!({ "package": "many-33" })).await.unwrap()["objects"], 1);
    send(&scene, "purge", json!({ "package": "many-33" })).await.unwrap();
    assert_eq!(pinned(&scene).await, Vec::<String>::new());
    assert_eq!(scene.get(&file("many-33", "1.0.0")).await.status, 200);
    until(async || pinned(&scene).await == ["many-33-1.0.0.tgz"]).await;
    for order in [json!({}), json!({ "all": true }), json!({ "needs": [], "package": "a" })] {
        assert_eq!(send(&scene, "pin", order).await, Err(400));
    }
}
