//! Changes made past the gate are seen by polling, and documents are fresh for longer meanwhile.

use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope,
    Simulator, Times,
};
use serde_json::{Value, json};

use crate::support::{DEADLINE, NPM, NUGET, PAT, Scene, readers, until};

/// Documents are stale at once, unless changes are followed.
const STALE: &str = "[metadata]\npackument.fresh = \"0ms\"\npackument.stale_while_revalidate = \"0ms\"\n\
                     version_list.fresh = \"0ms\"\nversion_list.stale_while_revalidate = \"0ms\"\n";
const FEED: &str = "contoso/main";

fn poll(more: &str) -> String {
    format!("{STALE}[[changes]]\nfeed = \"{FEED}\"\ninterval = \"100ms\"\n{more}\n")
}

async fn simulator() -> Simulator {
    let version = |salt: &str| NpmVersion::new().size(4_000).salt(salt);
    let npm =
        |name: &str| NpmPackage::new(name).version("1.0.0", version("1")).version("1.1.0", version("2"));
    let nuget = NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new().size(9_000));
    let feed = Feed::new("main").public().npm(npm("left-pad")).npm(npm("@scope/wide")).nuget(nuget);
    let organisation = readers(Organisation::new("contoso").feed(feed));
    Simulator::builder().organisation(organisation).start().await.unwrap()
}

/// A gate that polls with a credential from a file, which the test may change.
async fn scene(more: &str) -> (Scene, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pat");
    std::fs::write(&file, format!("{PAT}\n")).unwrap();
    let credential = format!("credential_file = \"{}\"\n{more}", file.display());
    let scene = Scene::with(simulator().await, &poll(&credential));
    polled(&scene, "began", 1).await;
    (scene, folder)
}

/// Polls that ended so.
async fn polls(scene: &Scene, outcome: &str) -> f64 {
    scene
        .metric(&["feedgate_changes_polls_total", "feed=\"contoso/main\"", &format!("outcome=\"{outcome}\"")])
        .await
}

/// Waits until so many more polls ended so than had at the call.
async fn more_polls(scene: &Scene, outcome: &str, count: u32) {
    let before = polls(scene, outcome).await;
    until(|| async { polls(scene, outcome).await >= before + f64::from(count) }).await;
}

/// Waits until so many polls ended so.
async fn polled(scene: &Scene, outcome: &str, count: u32) {
    until(|| async { polls(scene, outcome).await >= f64::from(count) }).await;
}

async fn state(scene: &Scene, path: &str) -> String {
    let response = scene.get(path).await;
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    response.header("x-cache").unwrap().to_owned()
}

async fn versions(scene: &Scene, name: &str) -> Vec<String> {
    let packument: Value = scene.get(&format!("{NPM}/{name}")).await.json();
    packument["versions"].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_elsewhere_is_seen_soon_and_only_its_package_is_asked_for_again() {
    let (scene, _folder) = scene("").await;
    let paths = [
        format!("{NPM}/left-pad"),
        format!("{NPM}/@scope%2fwide"),
        format!("{NUGET}/flat2/contoso.utility/index.json"),
    ];
    for path in &paths {
        assert_eq!(state(&scene, path).await, "MISS");
        assert_eq!(state(&scene, path).await, "HIT", "{path}");
    }
    let seen = polls(&scene, "changed").await;
    scene.simulator.add_npm(FEED, &NpmPackage::new("left-pad").version("2.0.0", NpmVersion::new()));
    until(|| async { versions(&scene, "left-pad").await.contains(&"2.0.0".to_owned()) }).await;
    assert!(polls(&scene, "changed").await > seen);
    for path in &paths {
        assert_eq!(state(&scene, path).await, "HIT", "{path}");
    }
    for (path, times) in [("/left-pad", 2), ("/@scope%2fwide", 1), ("/flat2/contoso.utility/index.json", 1)] {
        assert_eq!(scene.simulator.count(|request| request.path.ends_with(path)), times, "{path}");
    }
    assert!(scene.metric(&["feedgate_changes_total", FEED]).await >= 1.0);
    assert!(scene.metric(&["feedgate_changes_age_seconds", FEED]).await < DEADLINE.as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_elsewhere_is_not_served_any_more() {
    let (scene, _folder) = scene("").await;
    let tarball = format!("{NPM}/left-pad/-/left-pad-1.1.0.tgz");
    assert_eq!(versions(&scene, "left-pad").await.len(), 2);
    assert_eq!(scene.get(&tarball).await.status, 200);
    assert_eq!(state(&scene, &tarball).await, "HIT");
    scene.simulator.remove_npm(FEED, "left-pad", "1.1.0");
    until(|| async { scene.get(&tarball).await.status == 404 }).await;
    assert_eq!(versions(&scene, "left-pad").await, ["1.0.0"]);
    scene.simulator.list_nuget(FEED, "Contoso.Utility", "1.0.0", false);
    let index = format!("{NUGET}/registrations2-semver2/contoso.utility/index.json");
    until(|| async {
        scene.get(&index).await.json()["items"][0]["items"][0]["catalogEntry"]["listed"] == false
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_followed_with_its_feed() {
    let (scene, _folder) = scene("").await;
    let path = format!("{}/left-pad", NPM.replace("/main/", "/main@release/"));
    let found = || async { scene.get(&path).await.status };
    scene.simulator.promote_npm(FEED, "left-pad", "1.0.0", "release");
    until(|| async { found().await == 200 && state(&scene, &path).await == "HIT" }).await;
    scene.simulator.promote_npm(FEED, "left-pad", "1.1.0", "release");
    until(|| async { scene.get(&path).await.json()["versions"].as_object().unwrap().len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_that_fails_ends_the_long_freshness_and_one_that_works_again_brings_it_back() {
    let (scene, folder) = scene("").await;
    let path = format!("{NPM}/left-pad");
    scene.get(&path).await;
    assert_eq!(state(&scene, &path).await, "HIT");
    let file = folder.path().join("pat");
    std::fs::write(&file, "wrong").unwrap();
    more_polls(&scene, "denied", 1).await;
    assert_ne!(state(&scene, &path).await, "HIT");
    std::fs::remove_file(&file).unwrap();
    more_polls(&scene, "denied", 1).await;
    // What changes meanwhile is seen when it works again.
    scene.simulator.add_npm(FEED, &NpmPackage::new("@scope/wide").version("2.0.0", NpmVersion::new()));
    std::fs::write(&file, PAT).unwrap();
    more_polls(&scene, "changed", 1).await;
    scene.get(&path).await;
    assert_eq!(state(&scene, &path).await, "HIT");
    let outage = Fault::new(changes(), FaultKind::ResetBeforeHead, Times::Always);
    scene.simulator.fault(outage);
    more_polls(&scene, "failed", 1).await;
    assert_ne!(state(&scene, &path).await, "HIT");
    scene.simulator.clear_faults();
    more_polls(&scene, "unchanged", 1).await;
    scene.get(&path).await;
    assert_eq!(state(&scene, &path).await, "HIT");
}

/// The requests of polls.
fn changes() -> Matcher {
    Matcher::custom(|request| request.path.to_ascii_lowercase().contains("changes"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_gate_was_down_is_noticed_at_its_start() {
    let (mut scene, _folder) = scene("").await;
    let paths = [format!("{NPM}/left-pad"), format!("{NPM}/@scope%2fwide")];
    for path in &paths {
        scene.get(path).await;
    }
    // Its token is on disk when a poll after the last change has ended.
    more_polls(&scene, "unchanged", 2).await;
    scene.stop();
    scene.simulator.add_npm(FEED, &NpmPackage::new("left-pad").version("2.0.0", NpmVersion::new()));
    scene.simulator.clear_log();
    scene.restart();
    polled(&scene, "changed", 1).await;
    assert_eq!(polls(&scene, "began").await.to_bits(), 0);
    assert_eq!(state(&scene, &paths[1]).await, "HIT");
    assert_eq!(versions(&scene, "left-pad").await.len(), 3);
    assert_eq!(scene.simulator.count(|request| request.path.ends_with("wide")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cannot_be_read_make_the_whole_feed_old_once() {
    let (scene, _folder) = scene("").await;
    let paths = [format!("{NPM}/left-pad"), format!("{NPM}/@scope%2fwide")];
    for path in &paths {
        scene.get(path).await;
        assert_eq!(state(&scene, path).await, "HIT");
    }
    let odd = |body: &str, status: u16| {
        let own = Matcher::custom(|request| request.path.to_ascii_lowercase().ends_with("/packagechanges"));
        let json = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        let kind = FaultKind::Status { status, reason: String::new(), body: body.to_owned(), headers: json };
        Fault::new(own, kind, Times::Once)
    };
    for (round, fault) in
        [odd("{\"value\":[]}", 200), odd("{\"message\":\"no such token\"}", 400)].into_iter().enumerate()
    {
        let before = scene.simulator.count(|request| request.path.ends_with("/@scope%2fwide"));
        scene.simulator.fault(fault);
        let version = format!("3.0.{round}");
        scene.simulator.add_npm(FEED, &NpmPackage::new("left-pad").version(&version, NpmVersion::new()));
        more_polls_than(&scene, "started_over", round).await;
        for path in &paths {
            assert_ne!(state(&scene, path).await, "HIT", "{path}");
            assert_eq!(state(&scene, path).await, "HIT", "{path}");
        }
        assert_eq!(scene.simulator.count(|request| request.path.ends_with("/@scope%2fwide")), before + 1);
        assert!(versions(&scene, "left-pad").await.contains(&version));
    }
}

async fn more_polls_than(scene: &Scene, outcome: &str, count: usize) {
    polled(scene, outcome, u32::try_from(count).unwrap() + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_with_upstream_sources_keeps_its_freshness_unless_they_are_to_be_ignored() {
    for (policy, longer) in [("respect", false), ("ignore", true)] {
        let simulator = simulator().await;
        let guid = simulator.feed_guid(FEED);
        let facts = json!({ "id": guid, "name": "main", "upstreamEnabled": true, "upstreamSources": [{ "name": "npmjs" }] });
        let own = Matcher::custom(|request| request.path.to_ascii_lowercase().ends_with("/feeds/main"));
        let json = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        let kind =
            FaultKind::Status { status: 200, reason: String::new(), body: facts.to_string(), headers: json };
        simulator.fault(Fault::new(own, kind, Times::Always));
        // The feed is public: no credential is needed.
        let scene = Scene::with(simulator, &poll(&format!("upstream_sources = \"{policy}\"")));
        polled(&scene, "began", 1).await;
        let path = format!("{NPM}/left-pad");
        scene.get(&path).await;
        assert_eq!(state(&scene, &path).await == "HIT", longer, "{policy}");
        // A change is seen either way.
        scene.simulator.add_npm(FEED, &NpmPackage::new("left-pad").version("2.0.0", NpmVersion::new()));
        polled(&scene, "changed", 1).await;
        assert_eq!(versions(&scene, "left-pad").await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_are_small_and_read_the_feed_once() {
    let (scene, _folder) = scene("").await;
    more_polls(&scene, "unchanged", 5).await;
    let asked = |end: &str| {
        let end = end.to_owned();
        scene.simulator.count(move |request| request.path.to_ascii_lowercase().ends_with(&end))
    };
    assert!(asked("/feedchanges/main") >= 6);
    assert_eq!((asked("/feeds/main"), asked("/packagechanges")), (1, 0));
    scene.simulator.set_scope("reader", Scope::Expired);
    more_polls(&scene, "denied", 1).await;
}
