//! Who gets a turn when more is asked than the service may be: those who still wait, and each client in turn.

use std::time::Duration;

use feedgate_simulator::{
    Fault, FaultKind, Feed, Listener, Matcher, NpmPackage, NpmVersion, Organisation, Pace, Simulator, Times,
    client::{self, Connection, Url},
};

use crate::support::{NPM, OTHER_PAT, PAT, Scene, readers, until};

/// One request at a time: what is asked meanwhile queues.
const NARROW: &str = "[throttle]\napi_in_flight = 1\nidentity_in_flight = 1\n";
/// Documents that the large restore asks for.
const MANY: usize = 60;

/// A gate with a narrow throttle whose feed anybody may read, and which knows so.
async fn scene() -> Scene {
    let mut feed = Feed::new("main").npm(package("small")).npm(package("left")).npm(package("first"));
    for number in 0..MANY {
        feed = feed.npm(package(&format!("package-{number}")));
    }
    let organisation = readers(Organisation::new("contoso").feed(feed.public()));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    let scene = Scene::with(simulator, NARROW);
    assert_eq!(scene.get_as(None, &path("first"), &[]).await.status, 200);
    assert_eq!(scene.get(&path("first")).await.status, 200);
    scene
}

fn package(name: &str) -> NpmPackage {
    NpmPackage::new(name).version("1.0.0", NpmVersion::new())
}

fn path(name: &str) -> String {
    format!("{NPM}/{name}")
}

fn asked(scene: &Scene, name: &str) -> usize {
    let end = format!("/{name}");
    scene.simulator.count(|request| request.path.ends_with(&end))
}

async fn queued(scene: &Scene, priority: &str) -> usize {
    counted(scene, &["feedgate_throttle_queue_length", "host_class=\"api\"", priority]).await
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of requests")]
async fn counted(scene: &Scene, parts: &[&str]) -> usize {
    scene.metric(parts).await as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_place_in_the_queue() {
    let scene = scene().await;
    scene.simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_secs(5)));
    let busy = path("package-1");
    let leaving = async {
        until(|| async { asked(&scene, "package-1") == 1 }).await;
        scene.simulator.set_pace(Listener::Pkgs, Pace::default());
        for (name, priority) in
            [(path("left"), "document"), (format!("{NPM}/left/-/left-1.0.0.tgz"), "package")]
        {
            let url = Url::parse(&scene.url(&name)).unwrap();
            let mut connection = Connection::open(&url, None).await.unwrap();
            let credential = client::basic("any", PAT);
            connection.send_request("GET", &url, &[("Authorization", &credential)], b"").await.unwrap();
            until(|| async { queued(&scene, priority).await == 1 }).await;
            drop(connection);
            until(|| async { queued(&scene, priority).await == 0 }).await;
        }
    };
    let (busy, ()) = tokio::join!(scene.get(&busy), leaving);
    assert_eq!(busy.status, 200);
    let left = scene.simulator.count(|request| request.path.contains("/left"));
    assert_eq!(left, 0, "{:?}", scene.simulator.requests());
    assert_eq!(counted(&scene, &["feedgate_throttle_shed_reasons_total", "abandoned", "api"]).await, 2);
    // Nothing of it was kept: who asks now gets it.
    assert_eq!(scene.get(&path("left")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_anonymous_requests_of_one_machine_do_not_starve_a_client_with_a_credential() {
    let scene = scene().await;
    scene.simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_millis(20)));
    let paths: Vec<_> = (0..MANY).map(|number| path(&format!("package-{number}"))).collect();
    let restore = futures::future::join_all(paths.iter().map(|path| scene.get_as(None, path, &[])));
    let small = async {
        until(|| async { queued(&scene, "document").await > 40 }).await;
        let before = scene.simulator.count(|request| request.path.contains("/package-"));
        assert_eq!(scene.get(&path("small")).await.status, 200);
        let since = scene.simulator.count(|request| request.path.contains("/package-")) - before;
        assert!(since <= 8, "{since} of the others went first");
    };
    let (restored, ()) = tokio::join!(restore, small);
    assert!(restored.iter().all(|response| response.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_fills_the_queue_does_not_lengthen_a_right_that_was_taken_away() {
    let feed = |name: &str| Feed::new(name).npm(package("first")).npm(package("busy"));
    let organisation = readers(Organisation::new("contoso").feed(feed("main")).feed(feed("other")));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    let extra = format!("access.verdict_ttl = \"0ms\"\noutage.patience = \"200ms\"\n{NARROW}");
    let scene = Scene::with(simulator, &extra);
    let other = |name: &str| path(name).replace("/main/", "/other/");
    for pat in [PAT, OTHER_PAT] {
        for path in [path("first"), other("first")] {
            assert_eq!(scene.get_as(Some(pat), &path, &[]).await.status, 200);
        }
    }
    let index = Matcher::path_contains("/main/nuget/v3/index.json");
    scene.simulator.fault(Fault::new(index, FaultKind::status(403), Times::Always));
    scene.simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_secs(3)));
    let busy = other("busy");
    let reading = async {
        until(|| async { asked(&scene, "busy") == 1 }).await;
        scene.simulator.set_pace(Listener::Pkgs, Pace::default());
        // What is stored of the feed, whose index waits behind what the caller asked of the other one.
        let main = path("first");
        let (own, elses) = tokio::join!(scene.get(&main), scene.get_as(Some(OTHER_PAT), &main, &[]));
        assert_eq!((own.status, elses.status), (403, 403));
    };
    let (busy, ()) = tokio::join!(scene.get(&busy), reading);
    assert_eq!(busy.status, 200);
}
