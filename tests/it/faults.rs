//! Answers that are not what they should be: never stored, never complete for a client, and over with the fault.

use feedgate_simulator::{Fault, FaultKind, Matcher, Times};

use crate::support::{NPM, NUGET, Scene};

const SMALL: &str = "left-pad/-/left-pad-1.3.0.tgz";
const LARGE: &str = "large/-/large-1.0.0.tgz";

fn kinds() -> Vec<FaultKind> {
    vec![
        FaultKind::ResetBeforeHead,
        FaultKind::ResetAfterHead,
        FaultKind::ResetAfterBody(100),
        FaultKind::Truncated(100),
        FaultKind::Corrupted,
        FaultKind::WrongLength(10),
        FaultKind::WrongLength(-10),
        FaultKind::ChunkedTruncated(100),
        FaultKind::Html200,
        FaultKind::SignIn203,
        FaultKind::SignIn302,
        FaultKind::NotHttp,
        FaultKind::BadRedirect("http://127.0.0.1:1/b-0/x.blob?sig=1".to_owned()),
    ]
}

async fn check_blob(file: &str, package: &str, version: &str) {
    for kind in kinds() {
        let scene = Scene::new().await;
        let whole = scene.simulator.npm_file("contoso/main", package, version).0;
        let path = format!("{NPM}/{file}");
        scene.simulator.fault(Fault::new(Matcher::blob(), kind.clone(), Times::Always));
        let broken = scene.get(&path).await;
        let is_clean_error = broken.complete && broken.status >= 400;
        assert!(is_clean_error || !broken.complete, "{kind:?}: {} {}", broken.status, broken.body.len());
        scene.simulator.clear_faults();
        let next = scene.get(&path).await;
        assert_eq!((next.status, next.complete), (200, true), "{kind:?}: {}", next.text());
        assert_eq!(next.body, whole, "{kind:?}");
        assert_ne!(next.header("x-cache"), Some("HIT"), "{kind:?}: something was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_package_that_fails_its_check_is_a_clean_error_and_the_next_request_succeeds() {
    check_blob(SMALL, "left-pad", "1.3.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_package_that_fails_its_check_is_never_complete_and_the_next_request_succeeds() {
    check_blob(LARGE, "large", "1.0.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_download_of_a_small_package_is_not_seen_by_the_client() {
    for kind in [FaultKind::Corrupted, FaultKind::Truncated(100), FaultKind::ResetAfterHead] {
        let scene = Scene::new().await;
        scene.simulator.fault(Fault::new(Matcher::blob(), kind.clone(), Times::Once));
        let response = scene.get(&format!("{NPM}/{SMALL}")).await;
        assert_eq!((response.status, response.complete), (200, true), "{kind:?}: {}", response.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_document_is_never_stored_and_the_next_request_succeeds() {
    for kind in kinds() {
        let scene = Scene::new().await;
        let path = format!("{NPM}/large");
        scene.simulator.fault(Fault::new(Matcher::path_contains("/large"), kind.clone(), Times::Always));
        let broken = scene.get(&path).await;
        // A document whose bytes are changed inside a string can't be told from another one.
        if !matches!(kind, FaultKind::Corrupted) {
            assert!(broken.complete && broken.status >= 400, "{kind:?}: {} {}", broken.status, broken.text());
            assert!(!broken.text().contains("<html"), "{kind:?}");
        }
        scene.simulator.clear_faults();
        if matches!(kind, FaultKind::SignIn203 | FaultKind::SignIn302 | FaultKind::Html200) {
            assert_eq!(broken.status, 401, "{kind:?}");
            continue;
        }
        if !matches!(kind, FaultKind::Corrupted) {
            let next = scene.get(&path).await;
            assert_eq!((next.status, next.complete), (200, true), "{kind:?}: {}", next.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_but_whole_answers_are_taken() {
    let scene = Scene::new().await;
    scene.simulator.fault(Fault::new(Matcher::blob(), FaultKind::ChunkedWithoutLength, Times::Once));
    let whole = scene.simulator.npm_file("contoso/main", "large", "1.0.0").0;
    let response = scene.get(&format!("{NPM}/{LARGE}")).await;
    assert_eq!((response.status, response.complete, &response.body), (200, true, &whole));
    assert_eq!(response.header("content-length"), Some(whole.len().to_string().as_str()));
    scene.simulator.fault(Fault::new(Matcher::pkgs(), FaultKind::Gzip, Times::Once));
    let index = scene.get(&format!("{NUGET}/index.json")).await;
    assert_eq!((index.status, index.json()["version"].is_string()), (200, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_with_a_stored_copy_is_covered_and_without_one_is_passed_on() {
    let simulator = feedgate_simulator::Simulator::builder()
        .organisation(crate::support::contoso())
        .start()
        .await
        .unwrap();
    let stale = "metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n\
                 outage.cooldown = \"0ms\"\nretry.attempts = 1\n";
    let scene = Scene::with(simulator, stale);
    assert_eq!(scene.get(&format!("{NPM}/large")).await.status, 200);
    for status in [429, 500, 503] {
        scene.simulator.clear_faults();
        scene.simulator.fault(Fault::new(Matcher::pkgs(), FaultKind::status(status), Times::Always));
        let covered = scene.get(&format!("{NPM}/large")).await;
        assert_eq!((covered.status, covered.header("x-cache")), (200, Some("STALE")), "{status}");
        assert!(covered.header("cache-status").unwrap().contains("stale-if-error"));
        let bare = scene.get(&format!("{NPM}/left-pad")).await;
        assert_eq!((bare.status, bare.header("retry-after").is_some()), (status, true));
    }
}
