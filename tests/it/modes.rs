//! Modes of feeds, and what real clients make of a service that is known to be dead.

use std::time::Duration;

use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator,
    client::{self, Response},
    clients::{Client, Npm, Outcome, Project, Registry},
};
use tokio::time::Instant;

use crate::support::{NPM, PAT, Scene, readers};

const SETUP: &str = "deploy/setup --clients has been run";
/// Packages of the project.
const PACKAGES: usize = 30;
/// What a client that shows anything of an answer shows.
const DOWN: &str = "the package service is down";

async fn scene(extra: &str) -> Scene {
    let mut feed = Feed::new("main");
    for number in 0..PACKAGES {
        let version = NpmVersion::new().size(3_000);
        feed = feed
            .npm(NpmPackage::new(&format!("p{number}")).version("1.0.0", version))
            .nuget(NugetPackage::new(&format!("Contoso.Part{number}")).version("1.0.0", NugetVersion::new()));
    }
    let other = Feed::new("other").npm(NpmPackage::new("p0").version("1.0.0", NpmVersion::new()));
    let organisation = readers(Organisation::new("contoso").feed(feed).feed(other));
    Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), extra)
}

fn manifest() -> String {
    let dependencies: serde_json::Map<_, _> =
        (0..PACKAGES).map(|number| (format!("p{number}"), "1.0.0".into())).collect();
    serde_json::json!({ "name": "a", "version": "1.0.0", "dependencies": dependencies }).to_string()
}

fn project(client: &Client) -> Project {
    if client.is_nuget() {
        let ids: Vec<_> = (0..PACKAGES).map(|number| format!("Contoso.Part{number}")).collect();
        return Project::nuget(ids.iter().map(|id| (id.as_str(), "1.0.0"))).unwrap();
    }
    Project::npm(&manifest()).unwrap()
}

fn registry(scene: &Scene, client: &Client) -> Registry {
    let route = if client.is_nuget() { "nuget/v3/index.json" } else { "npm/registry/" };
    let url = scene.url(&format!("contoso/_packaging/main/{route}"));
    Registry::with_token(url, "any", PAT).retrying()
}

async fn mode(scene: &Scene, method: &str, body: &str) -> Response {
    let url = format!("http://{}/admin/v1/mode", scene.gate().admin_address());
    client::send(method, &url, &[], body.as_bytes()).await.unwrap()
}

fn failed(outcome: &Outcome, name: &str) {
    eprintln!("{name}: failed after {:.1} s", outcome.seconds);
    assert!(!outcome.success, "{name}: {outcome:?}");
    assert!(outcome.seconds < 10.0, "{name}: {outcome:?}");
    let (output, why) = (outcome.output(), ["pnpm"].contains(&name));
    // pnpm shows the standard name of the status only.
    let shown = output.contains(DOWN) || (why && output.contains("424"));
    assert!(shown, "{name}: {output}");
}

/// A lockfile that was written through another gate.
async fn locked(npm: &Npm, from: &Scene, to: &Scene) -> Project {
    let project = Project::npm(&manifest()).unwrap();
    let outcome = npm.install(&project, &registry(from, &Client::Npm(npm.clone()))).await.unwrap();
    assert!(outcome.success, "{outcome:?}");
    let lock = std::fs::read_to_string(project.dir().join("package-lock.json")).unwrap();
    let lock = lock.replace(&from.gate().address().to_string(), &to.gate().address().to_string());
    Project::npm(&manifest()).unwrap().frozen().with_file("package-lock.json", lock).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_service_refuses_a_cold_npm_ci_fails_at_once_and_a_warm_one_succeeds() {
    let npm = Npm::find().expect(SETUP);
    let (warm, cold) = (scene("").await, scene("").await);
    let client = Client::Npm(npm.clone());
    let (warm_project, cold_project) = (locked(&npm, &warm, &warm).await, locked(&npm, &warm, &cold).await);
    warm.simulator.refuse_connections().await.unwrap();
    cold.simulator.refuse_connections().await.unwrap();
    let outcome = npm.install(&warm_project, &registry(&warm, &client)).await.unwrap();
    assert!(outcome.success, "{outcome:?}");
    eprintln!("warm: {:.1} s", outcome.seconds);
    failed(&npm.install(&cold_project, &registry(&cold, &client)).await.unwrap(), "npm ci");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_with_its_own_retries_fails_fast_and_says_why_while_the_service_refuses() {
    let clients = Client::found();
    assert!(!clients.is_empty(), "{SETUP}");
    for client in clients {
        let scene = scene("").await;
        scene.simulator.refuse_connections().await.unwrap();
        let outcome = client.install(&project(&client), &registry(&scene, &client)).await.unwrap();
        failed(&outcome, client.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_a_whole_install_opens_no_connection_to_the_service() {
    let npm = Npm::find().expect(SETUP);
    let polled = "access.verdict_ttl = \"0ms\"\n\
         metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"1h\", stale_if_error = \"2h\" }\n\
         [[changes]]\nfeed = \"contoso/main\"\ninterval = \"100ms\"\n";
    let scene = scene(polled).await;
    let client = Client::Npm(npm.clone());
    let install = async || npm.install(&project(&client), &registry(&scene, &client)).await.unwrap();
    assert!(install().await.success);
    let switched = mode(&scene, "PUT", r#"{"feed":null,"mode":"offline"}"#).await;
    assert_eq!((switched.status, switched.json()["mode"].as_str()), (200, Some("offline")));
    assert!(scene.metric(&["feedgate_mode{", "offline"]).await > 0.5);
    while scene.simulator.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    scene.simulator.reset_connections().await;
    let (before, asked) = (scene.simulator.accepted_connections(), scene.simulator.requests().len());
    let outcome = install().await;
    assert!(outcome.success, "{outcome:?}");
    let stale = scene.get(&format!("{NPM}/p1")).await;
    assert_eq!(
        (stale.status, stale.header("x-cache"), stale.header("age").is_some()),
        (200, Some("STALE"), true)
    );
    assert!(stale.header("cache-status").unwrap().contains("detail=offline"));
    for (method, path) in [
        ("GET", "contoso/_packaging/main/npm/registry/missing"),
        ("GET", "contoso/_packaging/main/npm/registry/p1/-/p1-9.0.0.tgz"),
        ("GET", "contoso/_packaging/other/npm/registry/p0"),
        ("GET", "contoso/_apis/packaging/anything"),
        ("OPTIONS", "contoso/_apis"),
        ("PUT", "contoso/_packaging/main/npm/registry/p1"),
        ("POST", "contoso/_packaging/main/npm/registry/-/npm/v1/security/advisories/bulk"),
    ] {
        let start = Instant::now();
        let response = scene.send_as(method, Some(PAT), path, &[]).await;
        assert_eq!(
            (response.status, response.json()["code"].as_str()),
            (424, Some("offline")),
            "{method} {path}"
        );
        assert!(start.elapsed() < Duration::from_secs(1), "{method} {path}");
    }
    assert_eq!((scene.simulator.accepted_connections(), scene.simulator.requests().len()), (before, asked));
    mode(&scene, "PUT", r#"{"mode":"fallback"}"#).await;
    assert_eq!(scene.get("contoso/_packaging/other/npm/registry/p0").await.status, 200);
    assert!(scene.simulator.requests().len() > asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_feed_is_offline_by_every_spelling_and_the_others_are_not() {
    let stale = "metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n\
         [[feed]]\nname = \"Contoso/Main\"\nmode = \"fallback\"\n";
    let scene = scene(stale).await;
    let guid = scene.simulator.feed_guid("contoso/main");
    let spellings = [NPM.to_owned(), NPM.replace("main", &guid.to_string()), NPM.replace("main", "MAIN")];
    for spelling in &spellings {
        assert_eq!(scene.get(&format!("{spelling}/p1")).await.status, 200, "{spelling}");
    }
    assert_eq!(mode(&scene, "PUT", r#"{"feed":"contoso/main","mode":"offline"}"#).await.status, 200);
    let asked = scene.simulator.requests().len();
    for spelling in &spellings {
        let response = scene.get(&format!("{spelling}/p1")).await;
        assert!(response.header("cache-status").unwrap().contains("detail=offline"), "{spelling}");
    }
    assert_eq!(scene.simulator.requests().len(), asked);
    assert_eq!(scene.get("contoso/_packaging/other/npm/registry/p0").await.status, 200);
    assert!(scene.simulator.requests().len() > asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_nothing_stale_stands_in_for_an_error() {
    let stale = "metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"1h\", stale_if_error = \"2h\" }\n\
         outage.mode = \"strict\"\naccess.verdict_ttl = \"0ms\"\n";
    let scene = scene(stale).await;
    let path = format!("{NPM}/p1");
    for _ in 0..2 {
        let response = scene.get(&path).await;
        assert_eq!((response.status, response.header("x-cache")), (200, Some("MISS")), "asked each time");
    }
    scene.simulator.refuse_connections().await.unwrap();
    let response = scene.get(&path).await;
    let told = [(502, Some("upstream_unavailable")), (424, Some("upstream_down"))];
    assert!(told.contains(&(response.status, response.json()["code"].as_str())), "{}", response.text());
    mode(&scene, "PUT", r#"{"mode":"fallback"}"#).await;
    assert_eq!(scene.get(&path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_that_is_none_is_refused_with_a_problem() {
    let scene = scene("").await;
    let refused = mode(&scene, "PUT", r#"{"mode":"away"}"#).await;
    assert_eq!((refused.status, refused.header("content-type")), (400, Some("application/problem+json")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("fallback, offline, strict"));
    assert_eq!(mode(&scene, "GET", "").await.json()["mode"], "fallback");
    assert_eq!(mode(&scene, "DELETE", "").await.status, 405);
}
