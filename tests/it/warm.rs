//! Warm-ups, drills and archives by the command line, and what real clients then install without the service.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Output,
};

use feedgate::{
    app::Gate,
    blob::{BlobStore as _, DiskStore},
    cache::{DocumentCache, PackageIndex},
    clock::Clock,
    config::Config,
    disk::{Database, DatabaseSettings, StoreDirectory},
};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator,
    clients::{Client, Outcome, Project, Registry, tree},
};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{FORBIDDEN_PAT, NPM, OTHER_PAT, PAT, Scene, config, readers, until};

const MANIFEST: &str =
    r#"{"name":"app","version":"1.0.0","private":true,"dependencies":{"one":"^1.0.0","@made/two":"^2.0.0"}}"#;

async fn simulator() -> Simulator {
    let npm = |name: &str, version: &str, of: NpmVersion| NpmPackage::new(name).version(version, of);
    let nuget = |id: &str| NugetPackage::new(id).version("1.0.0", NugetVersion::new().size(9_000));
    let feed = Feed::new("main")
        .npm(npm("one", "1.0.0", NpmVersion::new().size(5_000).dependency("three", "^3.0.0")))
        .npm(npm("@made/two", "2.0.0", NpmVersion::new().size(300_000)))
        .npm(npm("three", "3.1.0", NpmVersion::new().size(20_000)))
        .npm(npm("never-locked", "1.0.0", NpmVersion::new()))
        .nuget(nuget("Contoso.One"))
        .nuget(nuget("Contoso.Two"));
    let organisation = readers(Organisation::new("contoso").feed(feed));
    Simulator::builder().organisation(organisation).start().await.unwrap()
}

fn project(client: &Client) -> Project {
    if client.is_nuget() {
        Project::nuget([("Contoso.One", "1.0.0"), ("Contoso.Two", "1.0.0")]).unwrap()
    } else {
        Project::npm(MANIFEST).unwrap()
    }
}

fn lockfile(client: &Client) -> &'static str {
    match client {
        Client::Npm(_) => "package-lock.json",
        Client::Pnpm(_) => "pnpm-lock.yaml",
        Client::YarnClassic(_) | Client::YarnBerry(_) => "yarn.lock",
        Client::Nuget(_) => "packages.config",
    }
}

fn registry(gate: &Gate, client: &Client) -> Registry {
    let route = if client.is_nuget() { "nuget/v3/index.json" } else { "npm/registry/" };
    Registry::with_token(format!("http://{}/contoso/_packaging/main/{route}", gate.address()), "any", PAT)
}

/// Another gate before the same service.
fn gate(simulator: &Simulator, folder: &Path) -> Gate {
    Gate::start(Config::parse(&config(simulator, folder, ""), &BTreeMap::new()).unwrap().config).unwrap()
}

/// A project as its developer has left it: locked, with URLs of the gate `to`.
async fn locked(client: &Client, simulator: &Simulator, to: &Gate) -> Project {
    let folder = tempfile::tempdir().unwrap();
    let maker = gate(simulator, folder.path());
    let project = project(client);
    let outcome = client.install(&project, &registry(&maker, client)).await.unwrap();
    assert!(outcome.success, "{}", outcome.output());
    moved(client, &project, &maker.address().to_string(), to)
}

/// A checkout of `project` whose lockfile names another gate.
fn moved(client: &Client, project: &Project, from: &str, to: &Gate) -> Project {
    let text = std::fs::read_to_string(project.dir().join(lockfile(client))).unwrap();
    let to = to.address().to_string();
    let text = text.replace(from, &to).replace(&from.replace(':', "%3A"), &to.replace(':', "%3A"));
    project.checkout().unwrap().with_file(lockfile(client), text).unwrap().frozen()
}

async fn install(client: &Client, project: &Project, gate: &Gate) -> (Outcome, BTreeMap<PathBuf, String>) {
    let project = project.checkout().unwrap();
    let outcome = client.install(&project, &registry(gate, client)).await.unwrap();
    let installed = tree(&project.installed()).unwrap_or_default();
    (outcome, installed)
}

async fn feedgate(gate: &Gate, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
    command.args(arguments).args(["--json", "--admin", &format!("http://{}", gate.admin_address())]);
    let credential = ("CREDENTIAL", format!("any:{PAT}"));
    command.env_clear().envs([credential]).kill_on_drop(true).output().await.unwrap()
}

/// Runs `warm` or `drill` over a project's lockfile; the exit code and the report.
async fn errand(gate: &Gate, client: &Client, project: &Project, command: &str) -> (i32, Value) {
    let file = project.dir().join(lockfile(client)).display().to_string();
    let url = registry(gate, client).url;
    let credential = ["--credential-env", "CREDENTIAL"];
    let arguments = [&[command, "--lockfile", &file, "--registry", &url], &credential[..]].concat();
    let output = feedgate(gate, &arguments).await;
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{output:?}")))
}

fn labels(report: &Value) -> Vec<&str> {
    let problems = report["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["label"].as_str().unwrap()).collect()
}

async fn check_warm_and_drill(client: &Client) {
    let mut scene = Scene::with(simulator().await, "");
    let project = locked(client, &scene.simulator, scene.gate()).await;
    let (code, report) = errand(scene.gate(), client, &project, "drill").await;
    assert_eq!((code, &report["good"]), (1, &0.into()), "{}: nothing is stored: {report}", client.name());

    scene.simulator.clear_log();
    let (code, report) = errand(scene.gate(), client, &project, "warm").await;
    assert_eq!((code, &report["good"]), (0, &report["needed"]), "{}: {report}", client.name());
    let packages = if client.is_nuget() { 2 } else { 3 };
    assert_eq!(scene.simulator.blob_downloads().len(), packages);
    let checked = match client {
        // Their lockfiles have no digest of what a registry sends.
        Client::YarnBerry(_) | Client::Nuget(_) => 0,
        Client::Npm(_) | Client::Pnpm(_) | Client::YarnClassic(_) => packages,
    };
    assert_eq!(report["checked"], checked, "{report}");
    let granted = async |priority: &str| {
        scene.metric(&["feedgate_throttle_granted_total", "api", &format!("priority=\"{priority}\"")]).await
    };
    assert!(granted("warm_up").await > 0.0);
    let urgent = granted("document").await + granted("package").await;
    assert_eq!(urgent.to_bits(), 0, "warm-ups are of the lowest class");
    let fetched = scene.metric(&["feedgate_warm_up_things_total", "fetched"]).await;
    assert_eq!(serde_json::json!(fetched), serde_json::json!(report["counts"]["fetched"].as_f64()));
    // Who was refused before is refused still.
    let path = format!("{NPM}/one/-/one-1.0.0.tgz");
    assert_eq!(scene.get_as(Some(FORBIDDEN_PAT), &path, &[]).await.status, 403);

    scene.simulator.refuse_connections().await.unwrap();
    scene.restart();
    let project = moved(client, &project, &registry_host(&project, client, &scene), scene.gate());
    let (code, report) = errand(scene.gate(), client, &project, "drill").await;
    assert_eq!((code, &report["good"]), (0, &report["needed"]), "{}: {report}", client.name());
    let (outcome, installed) = install(client, &project, scene.gate()).await;
    assert!(outcome.success, "{}: {}", client.name(), outcome.output());
    assert!(installed.len() >= packages, "{installed:?}");
}

/// The gate that a lockfile names, or any when it names none.
fn registry_host(project: &Project, client: &Client, scene: &Scene) -> String {
    let text = std::fs::read_to_string(project.dir().join(lockfile(client))).unwrap();
    let at = text.find("http://127.0.0.1:").map(|at| at + "http://".len());
    at.map_or_else(
        || scene.gate().address().to_string(),
        |at| text[at..].split('/').next().unwrap().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_installs_what_was_warmed_and_drilled_without_the_service() {
    for client in Client::found() {
        check_warm_and_drill(&client).await;
    }
}

/// Takes a package's bytes and a document out of a store whose gate has stopped.
async fn take_out(store: &Path, package: &str, document: &str) {
    let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
    let database = Database::open(StoreDirectory::open(store).unwrap(), &settings).unwrap().database;
    let mut stored = Config::default().store;
    stored.path = store.into();
    let blobs = DiskStore::open(database.clone(), stored, Clock::system()).await.unwrap();
    let packages = PackageIndex::new(&database);
    let (_, entry) = packages.scan("contoso/").find(|(key, _)| key.contains(package)).unwrap();
    assert!(blobs.remove(&entry.id).await.unwrap());
    let documents = DocumentCache::new(&database, std::sync::Arc::new(blobs.clone()), 0);
    let (key, _) = documents.scan("a:contoso/").find(|(key, _)| key.contains(document)).unwrap();
    documents.remove(&key).await;
    database.flush().unwrap();
}

async fn check_taken_out(client: &Client, package: (&str, &str), document: (&str, &str), named: [&str; 2]) {
    let mut scene = Scene::with(simulator().await, "");
    let mut project = locked(client, &scene.simulator, scene.gate()).await;
    if !client.is_nuget() {
        // As npm writes it with `omit-lockfile-registry-resolved`: it asks for the packument first.
        let file = project.dir().join(lockfile(client));
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| !line.contains("\"resolved\""));
        project = project.with_file(lockfile(client), lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    assert_eq!(errand(scene.gate(), client, &project, "warm").await.0, 0);
    scene.simulator.refuse_connections().await.unwrap();
    let (outcome, _) = install(client, &project, scene.gate()).await;
    assert!(outcome.success, "{}: {}", client.name(), outcome.output());
    scene.stop();
    take_out(&scene.store(), package.0, document.0).await;
    scene.restart();
    let (code, report) = errand(scene.gate(), client, &project, "drill").await;
    assert_eq!((code, labels(&report)), (1, named.to_vec()), "{report}");
    let (outcome, _) = install(client, &project, scene.gate()).await;
    assert!(!outcome.success, "{}", outcome.output());
    let output = outcome.output().to_lowercase();
    assert!(output.contains(package.1) || output.contains(document.1), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_names_what_was_taken_out_and_the_install_fails_on_it() {
    for client in Client::found() {
        match client {
            Client::Npm(_) => {
                let (package, document) = (("/tarball/one/", "/one"), ("/packument/three", "three"));
                check_taken_out(&client, package, document, ["one@1.0.0", "packument of three"]).await;
            }
            Client::Nuget(_) => {
                let (package, document) =
                    (("/nupkg/contoso.one/", "contoso.one"), ("/versions/contoso.two", "contoso.two"));
                check_taken_out(&client, package, document, ["contoso.one@1.0.0", "versions of contoso.two"])
                    .await;
            }
            Client::Pnpm(_) | Client::YarnClassic(_) | Client::YarnBerry(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_tells_what_is_not_there_and_what_is_not_what_was_locked() {
    let scene = Scene::with(simulator().await, "");
    let folder = tempfile::tempdir().unwrap();
    let wrong = format!("sha512-{}==", "A".repeat(86));
    let lock = format!(
        r#"{{ "lockfileVersion": 3, "packages": {{
            "node_modules/one": {{ "version": "1.0.0", "integrity": "{wrong}", "resolved": "http://gate/{NPM}/one/-/one-1.0.0.tgz" }},
            "node_modules/none": {{ "version": "1.0.0", "optional": true, "resolved": "http://gate/{NPM}/none/-/none-1.0.0.tgz" }},
            "node_modules/git": {{ "version": "1.0.0", "resolved": "git+ssh://git@example.com/git.git#1" }}
        }} }}"#
    );
    let file = folder.path().join("package-lock.json");
    std::fs::write(&file, lock).unwrap();
    let file = file.display().to_string();
    let base = ["warm", "--lockfile", &file, "--credential-env", "CREDENTIAL"];
    let output = feedgate(scene.gate(), &base).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcomes: Vec<_> =
        report["problems"].as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!((output.status.code(), outcomes), (Some(1), vec!["mismatch", "missing"]), "{report}");
    assert_eq!(report["foreign"][0]["name"], "git");
    let output = feedgate(scene.gate(), &[&base[..], &["--omit-optional"]].concat()).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["needed"], labels(&report)), (&1.into(), vec!["one@1.0.0"]));
    // Without the credential the service refuses.
    let output = feedgate(scene.gate(), &base[..3]).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["counts"]["refused"]), (Some(1), &2.into()), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enforced_drill_is_for_one_credential_and_for_a_time() {
    let scene = Scene::with(simulator().await, "");
    let stored = format!("{NPM}/one");
    assert_eq!(scene.get(&stored).await.status, 200);
    let status = async |pat, name: &str| scene.get_as(Some(pat), &format!("{NPM}/{name}"), &[]).await.status;
    let enforce = async |time: &str| {
        let output =
            feedgate(scene.gate(), &["drill", "--enforce", time, "--credential-env", "CREDENTIAL"]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    enforce("10m").await;
    scene.simulator.clear_log();
    assert_eq!(status(PAT, "one").await, 200);
    assert_eq!(status(PAT, "never-locked").await, 424);
    assert_eq!(scene.send_as("DELETE", Some(PAT), &format!("{NPM}/one/-rev/1"), &[]).await.status, 424);
    assert_eq!(scene.simulator.requests().len(), 0, "the service is not asked for this caller");
    assert_eq!(status(OTHER_PAT, "never-locked").await, 200);
    // What the others have fetched meanwhile is stored.
    assert_eq!(status(PAT, "never-locked").await, 200);
    assert_eq!(status(PAT, "three").await, 424);
    enforce("0s").await;
    assert_eq!(status(PAT, "three").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_brings_installs_to_a_gate_without_a_service() {
    let scene = Scene::with(simulator().await, "");
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = folder.path().join("closure.tar").display().to_string();
    let clients = Client::found();
    let mut projects = Vec::new();
    let mut lockfiles = Vec::new();
    for client in clients {
        let project = locked(&client, &scene.simulator, scene.gate()).await;
        assert_eq!(errand(scene.gate(), &client, &project, "warm").await.0, 0);
        lockfiles.push(project.dir().join(lockfile(&client)).display().to_string());
        projects.push((client, project));
    }
    let names: Vec<&str> = lockfiles.iter().map(String::as_str).collect();
    let export =
        [&["export", "--feed", "contoso/main", "--output", &archive, "--lockfile"], &names[..]].concat();
    let output = feedgate(scene.gate(), &export).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(feedgate(scene.gate(), &export).await.status.code(), Some(1), "the file exists");

    scene.simulator.refuse_connections().await.unwrap();
    let other = gate(&scene.simulator, store.path());
    let bytes = std::fs::read(&archive).unwrap();
    let damaged = folder.path().join("damaged.tar").display().to_string();
    for change in
        [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes[9_000] ^= 1]
    {
        let mut changed = bytes.clone();
        change(&mut changed);
        std::fs::write(&damaged, changed).unwrap();
        let output = feedgate(&other, &["import", &damaged]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("of the archive"), "{output:?}");
        let (client, project) = &projects[0];
        let (code, report) = errand(&other, client, project, "drill").await;
        assert_eq!((code, &report["good"]), (1, &0.into()), "{report}");
    }
    assert!(!store.path().join("import.tar").exists());

    let output = feedgate(&other, &["import", &archive, "--reader-env", "CREDENTIAL"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (client, project) in &projects {
        let project = moved(client, project, &registry_host(project, client, &scene), &other);
        let (code, report) = errand(&other, client, &project, "drill").await;
        assert_eq!((code, &report["good"]), (0, &report["needed"]), "{}: {report}", client.name());
        let (outcome, installed) = install(client, &project, &other).await;
        assert!(outcome.success && !installed.is_empty(), "{}: {}", client.name(), outcome.output());
    }
    tokio::task::spawn_blocking(move || other.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_feed_goes_into_an_archive() {
    let scene = Scene::with(simulator().await, "");
    for path in [format!("{NPM}/one"), format!("{NPM}/three/-/three-3.1.0.tgz")] {
        assert_eq!(scene.get(&path).await.status, 200);
    }
    // A package is served before it is stored.
    until(async || scene.metric(&["feedgate_coalescing_in_flight", "download"]).await == 0.0).await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("feed.tar").display().to_string();
    let output =
        feedgate(scene.gate(), &["export", "--whole-feed", "contoso/main", "--output", &archive]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let imported = imported(&scene, &archive).await;
    assert_eq!((&imported["packages"], &imported["documents"]), (&1.into(), &2.into()), "{imported}");
    let none = folder.path().join("none.tar").display().to_string();
    let output = feedgate(scene.gate(), &["export", "--whole-feed", "contoso/none", "--output", &none]).await;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("not stored: feed contoso/-/none"),
        "{output:?}"
    );
}

/// What a new gate says of the import of an archive.
async fn imported(scene: &Scene, archive: &str) -> Value {
    let store = tempfile::tempdir().unwrap();
    let other = gate(&scene.simulator, store.path());
    let output = feedgate(&other, &["import", archive]).await;
    tokio::task::spawn_blocking(move || other.stop()).await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_stored_of_a_package_goes_into_an_archive() {
    let scene = Scene::with(simulator().await, "");
    for path in [format!("{NPM}/one"), format!("{NPM}/one/-/one-1.0.0.tgz"), format!("{NPM}/three")] {
        assert_eq!(scene.get(&path).await.status, 200);
    }
    // A package is served before it is stored.
    until(async || scene.metric(&["feedgate_coalescing_in_flight", "download"]).await == 0.0).await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("one.tar").display().to_string();
    let export = ["export", "--feed", "contoso/main", "--output", &archive, "--package"];
    let output = feedgate(scene.gate(), &[&export[..], &["one", "none"]].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("not stored: package none"), "{output:?}");
    let elsewhere = scene.url("contoso/_packaging/other/npm/registry/");
    let other = ["export", "--registry", &elsewhere, "--output", &archive, "--package", "one"];
    let output = feedgate(scene.gate(), &other).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("not stored: package one"), "{output:?}");
    let output = feedgate(scene.gate(), &[&export[..], &["o*"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let imported = imported(&scene, &archive).await;
    // The packument, and the service index that tells the feed.
    assert_eq!((&imported["packages"], &imported["documents"]), (&1.into(), &2.into()), "{imported}");
}
