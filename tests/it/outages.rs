//! The service is down: what was read once is read again, also after a restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NpmPackage, NpmVersion, Organisation, Simulator, Times,
};
use tokio::time::Instant;

use crate::support::{NPM, NUGET, OTHER_PAT, Scene, contoso, readers, until};

const STALE: &str = "metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n\
    metadata.version_list = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n\
    access.verdict_ttl = \"0ms\"\noutage.patience = \"200ms\"\n";

fn paths() -> [String; 5] {
    [
        format!("{NPM}/left-pad"),
        format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"),
        format!("{NPM}/large/-/large-1.0.0.tgz"),
        format!("{NUGET}/flat2/contoso.utility/index.json"),
        format!("{NUGET}/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"),
    ]
}

async fn scene() -> Scene {
    Scene::with(Simulator::builder().organisation(contoso()).start().await.unwrap(), STALE)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_read_again_while_the_service_refuses_or_hangs_also_after_a_restart() {
    let mut scene = scene().await;
    for path in &paths() {
        assert_eq!(scene.get(path).await.status, 200, "{path}");
    }
    for restart in [false, true] {
        if restart {
            scene.restart();
        }
        scene.simulator.refuse_connections().await.unwrap();
        for path in &paths() {
            assert_eq!(scene.get(path).await.status, 200, "refusing, restart {restart}: {path}");
        }
        scene.simulator.accept_connections().await.unwrap();
        scene.simulator.fault(Fault::new(Matcher::any(), FaultKind::Hang, Times::Always));
        for path in &paths() {
            assert_eq!(scene.get(path).await.status, 200, "hanging, restart {restart}: {path}");
        }
        scene.simulator.clear_faults();
    }
    assert_eq!(scene.downloads().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whom_the_service_never_let_in_gets_nothing_while_it_is_down() {
    let scene = scene().await;
    for path in &paths() {
        scene.get(path).await;
    }
    scene.simulator.refuse_connections().await.unwrap();
    for path in &paths() {
        for pat in [Some(OTHER_PAT), Some("wrong")] {
            let response = scene.get_as(pat, path, &[]).await;
            // The first one finds out.
            let told = [(502, Some("upstream_unavailable")), (424, Some("upstream_down"))];
            assert!(told.contains(&(response.status, response.json()["code"].as_str())), "{pat:?} {path}");
        }
        // NuGet asks without its credential first; only a 401 makes it show one.
        let anonymous = scene.get_as(None, path, &[]).await;
        assert_eq!((anonymous.status, anonymous.header_all("www-authenticate").len()), (401, 3), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stored_and_nobody_there_is_a_problem_that_says_so() {
    let scene = scene().await;
    scene.simulator.refuse_connections().await.unwrap();
    let response = scene.get(&format!("{NPM}/left-pad")).await;
    assert_eq!((response.status, response.header("content-type")), (424, Some("application/problem+json")));
    assert_eq!(response.json()["detail"], "the package service is down, and there is no stored copy");
    let start = Instant::now();
    assert_eq!(scene.get(&format!("{NPM}/large")).await.status, 424);
    assert!(start.elapsed() < Duration::from_millis(500), "told at once: {:?}", start.elapsed());
    assert!(scene.metric(&["feedgate_breaker_state", "pkgs"]).await > 0.5);
    scene.simulator.accept_connections().await.unwrap();
    until(|| async { scene.get(&format!("{NPM}/left-pad")).await.status == 200 }).await;
    until(|| async { scene.get(&format!("{NPM}/large")).await.status == 200 }).await;
    assert!(scene.metric(&["feedgate_breaker_state", "pkgs"]).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_service_closed_meanwhile_is_not_seen() {
    let scene = scene().await;
    scene.get(&format!("{NPM}/left-pad")).await;
    scene.simulator.reset_connections().await;
    assert_eq!(scene.get(&format!("{NPM}/large")).await.status, 200);
}

/// Packages of the service that comes and goes.
const PACKAGES: usize = 1500;
/// How often it goes.
const OUTAGES: u32 = 3;
/// How long it is there, and gone.
const UP_OR_DOWN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_service_costs_a_warm_client_one_wait_and_not_one_for_each_document() {
    let scene = scene_of(PACKAGES, "metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n\
         outage.patience = \"500ms\"\n").await;
    for number in 0..60 {
        assert_eq!(scene.get(&format!("{NPM}/p{number}")).await.status, 200);
    }
    scene.simulator.fault(Fault::new(Matcher::any(), FaultKind::Hang, Times::Always));
    let start = Instant::now();
    let reads = (0..60).map(|number| {
        let scene = &scene;
        async move { scene.get(&format!("{NPM}/p{number}")).await }
    });
    // As a client with 15 connections asks.
    let answers: Vec<_> =
        futures::StreamExt::collect(futures::StreamExt::buffer_unordered(futures::stream::iter(reads), 15))
            .await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.header("age").is_some()));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_comes_and_goes_costs_no_hanging_request_and_no_wrong_answer() {
    let extra = "outage.longest_open = \"1s\"\nretry.deadline = \"5s\"\n";
    let scene = Arc::new(scene_of(PACKAGES, extra).await);
    let warm = scene.get(&format!("{NPM}/p0")).await.body;
    let end = Instant::now() + UP_OR_DOWN * 2 * OUTAGES;
    let workers: Vec<_> =
        (0..4).map(|worker| tokio::spawn(work(Arc::clone(&scene), worker, warm.clone(), end))).collect();
    for _ in 0..OUTAGES {
        tokio::time::sleep(UP_OR_DOWN).await;
        scene.simulator.refuse_connections().await.unwrap();
        tokio::time::sleep(UP_OR_DOWN).await;
        scene.simulator.accept_connections().await.unwrap();
    }
    let mut counts = [0; 3];
    for worker in workers {
        for (sum, count) in counts.iter_mut().zip(worker.await.unwrap()) {
            *sum += count;
        }
    }
    // The last breaker closes when somebody asks.
    let asked = AtomicUsize::new(PACKAGES - 1);
    until(|| async {
        scene.get(&tarball(asked.fetch_sub(1, Ordering::Relaxed))).await;
        scene.metric(&["feedgate_breaker_state"]).await < 0.5
    })
    .await;
    let began = async |state: &str| {
        scene.metric(&["feedgate_breaker_transitions_total", &format!("to=\"{state}\"")]).await
    };
    let (opened, half, closed) = (began("open").await, began("half_open").await, began("closed").await);
    eprintln!(
        "{OUTAGES} outages: {counts:?} answers of 200, 424, 502; opened {opened}, half {half}, closed {closed}"
    );
    assert!(counts[0] > 100 && counts[1] > 0, "{counts:?}");
    // Each outage ends with a closed breaker, of the packaging host and perhaps of the blob host too.
    assert!(closed >= f64::from(OUTAGES) && closed <= f64::from(2 * OUTAGES), "{closed}");
    assert!((half - opened).abs() < 0.5, "every opening is followed by one look: {opened} {half}");
}

fn tarball(number: usize) -> String {
    format!("{NPM}/p{number}/-/p{number}-1.0.0.tgz")
}

/// Reads what is stored and what is not until `end`; counts answers of 200, 424 and 502 to the second.
async fn work(scene: Arc<Scene>, worker: usize, warm: bytes::Bytes, end: Instant) -> [usize; 3] {
    let mut counts = [0; 3];
    let mut number = worker;
    while Instant::now() < end {
        number += 4;
        let cold = 1 + number % (PACKAGES - 1);
        let start = Instant::now();
        let package = scene.get(&tarball(cold)).await;
        let stored = scene.get(&format!("{NPM}/p0")).await;
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        assert_eq!((stored.status, &stored.body), (200, &warm));
        match package.status {
            200 => {
                let file = scene.simulator.npm_file("contoso/main", &format!("p{cold}"), "1.0.0").0;
                assert_eq!(package.body, file);
                counts[0] += 1;
            }
            424 => counts[1] += 1,
            502 => counts[2] += 1,
            other => panic!("status {other}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    counts
}

async fn scene_of(packages: usize, extra: &str) -> Scene {
    let version = || NpmVersion::new().size(3_000);
    let feed = (0..packages).fold(Feed::new("main"), |feed, number| {
        feed.npm(NpmPackage::new(&format!("p{number}")).version("1.0.0", version()))
    });
    let organisation = readers(Organisation::new("contoso").feed(feed));
    Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), extra)
}
