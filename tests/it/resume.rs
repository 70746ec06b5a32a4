//! Breaks on the way from the service that no client is to see.

use std::time::Duration;

use feedgate_simulator::{
    Fault, FaultKind, Feed, Listener, Logged, Matcher, NpmPackage, NpmVersion, Organisation, Simulator, Times,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::support::{NPM, Scene, readers};

/// Bytes of the package whose download breaks.
const SIZE: usize = 40_000_000;
const HUGE: &str = "contoso/_packaging/main/npm/registry/huge/-/huge-1.0.0.tgz";
/// Silence is a break soon, so that a stall does not take the test half a minute.
const SHORT_IDLE: &str = "upstream.idle_timeout = \"500ms\"\n";

async fn scene(extra: &str) -> Scene {
    let package = NpmPackage::new("huge").version("1.0.0", NpmVersion::new().size(SIZE));
    let small = NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4_000));
    let feed = Feed::new("main").npm(package).npm(small);
    let organisation = readers(Organisation::new("contoso").feed(feed));
    Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), extra)
}

fn is_blob(logged: &Logged) -> bool {
    logged.listener == Listener::Blob
}

/// A counter, as text.
async fn count(scene: &Scene, parts: &[&str]) -> String {
    scene.metric(parts).await.to_string()
}

/// Sizes of the pieces between `cuts` random places, in order.
fn pieces(seed: u64, cuts: usize) -> Vec<usize> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut places: Vec<usize> = (0..cuts).map(|_| chance.random_range(1..SIZE)).collect();
    places.sort_unstable();
    places.iter().scan(0, |last, place| Some(*place - std::mem::replace(last, *place))).collect()
}

/// One break after each piece, of all kinds in turn.
fn breaks(seed: u64, cuts: usize) -> Vec<FaultKind> {
    let kinds = [FaultKind::ResetAfterBody, FaultKind::Truncated, FaultKind::StallAfterBody];
    pieces(seed, cuts).into_iter().zip(kinds.iter().cycle()).map(|(piece, kind)| kind(piece)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_package_that_breaks_at_five_random_places_is_delivered_whole() {
    for seed in [1, 2, 3] {
        let scene = scene(SHORT_IDLE).await;
        let (whole, digests) = scene.simulator.npm_file("contoso/main", "huge", "1.0.0");
        for kind in breaks(seed, 5) {
            scene.simulator.fault(Fault::new(Matcher::blob(), kind, Times::Once));
        }
        let response = scene.get(HUGE).await;
        assert_eq!((response.status, response.complete), (200, true), "seed {seed}");
        assert!(response.body == whole, "seed {seed}");
        assert_eq!(response.header("etag"), Some(format!("\"{}\"", digests.storage_id).as_str()));
        let requests = scene.simulator.requests();
        let sent: u64 =
            requests.iter().filter(|logged| is_blob(logged)).map(|logged| logged.bytes_sent).sum();
        let length = whole.len() as u64;
        let count_of_requests = requests.iter().filter(|logged| is_blob(logged)).count();
        let permille = sent * 1000 / length;
        eprintln!(
            "seed {seed}: {length} bytes in {count_of_requests} requests, {sent} sent: {permille}/1000"
        );
        assert!(sent * 10 <= length * 13, "{sent} of {length}");
        assert_eq!(count(&scene, &["feedgate_upstream_resumed_downloads_total"]).await, "1");
        assert_eq!(count(&scene, &["feedgate_upstream_resumptions_total", "same_url"]).await, "5");
        assert_eq!(scene.simulator.violations(), []);
        // It passed its check as a whole, so it is stored.
        scene.simulator.refuse_connections().await.unwrap();
        assert!(scene.get(HUGE).await.body == whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_url_that_expires_on_the_way_leads_to_a_new_redirect() {
    let scene = scene("").await;
    let (whole, _) = scene.simulator.npm_file("contoso/main", "huge", "1.0.0");
    scene.simulator.fault(Fault::new(Matcher::blob(), FaultKind::Truncated(SIZE / 2), Times::Once));
    let refused = FaultKind::status(403);
    scene.simulator.fault(Fault::new(Matcher::blob(), refused, Times::Once));
    let response = scene.get(HUGE).await;
    assert_eq!((response.status, response.complete), (200, true));
    assert!(response.body == whole);
    let requests = scene.simulator.requests();
    let statuses: Vec<_> =
        requests.iter().filter(|logged| is_blob(logged)).map(|logged| logged.status).collect();
    assert_eq!(statuses, [200, 403, 206]);
    let redirects = requests.iter().filter(|logged| logged.status == 303).count();
    assert_eq!(redirects, 2, "the first one, and one for the new URL");
    let urls: Vec<_> = requests.iter().filter(|logged| is_blob(logged)).map(|logged| &logged.query).collect();
    assert!(urls[0] == urls[1] && urls[1] != urls[2]);
    assert_eq!(count(&scene, &["feedgate_upstream_resumptions_total", "new_url"]).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_changed_after_a_break_are_never_taken_for_the_package() {
    let scene = scene("").await;
    scene.simulator.fault(Fault::new(Matcher::blob(), FaultKind::Truncated(SIZE / 2), Times::Once));
    scene.simulator.fault(Fault::new(Matcher::blob(), FaultKind::Corrupted, Times::Always));
    let spoilt = scene.get(HUGE).await;
    assert!(!spoilt.complete || spoilt.status >= 400, "{} {}", spoilt.status, spoilt.body.len());
    scene.simulator.clear_faults();
    let (whole, _) = scene.simulator.npm_file("contoso/main", "huge", "1.0.0");
    assert!(scene.get(HUGE).await.body == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_answer_to_a_packument_is_not_seen_by_the_client() {
    let rows = [
        (FaultKind::ResetBeforeHead, "broken"),
        (FaultKind::NotHttp, "broken"),
        (FaultKind::ResetAfterHead, "broken"),
        (FaultKind::Truncated(100), "broken"),
        (FaultKind::ChunkedTruncated(100), "broken"),
        (FaultKind::StallAfterBody(100), "stalled"),
        (FaultKind::status(500), "server_error"),
        (FaultKind::status(502), "server_error"),
        (FaultKind::status_with(429, "Retry-After", "1"), "refusal"),
        (FaultKind::status_with(503, "Retry-After", "1"), "refusal"),
    ];
    for (kind, reason) in rows {
        let scene = scene(SHORT_IDLE).await;
        let packument = Matcher::path_contains("/left-pad");
        scene.simulator.fault(Fault::new(packument, kind.clone(), Times::Once));
        let response = scene.get(&format!("{NPM}/left-pad")).await;
        assert_eq!((response.status, response.complete), (200, true), "{kind:?}: {}", response.text());
        assert_eq!(response.json()["name"], "left-pad", "{kind:?}");
        let asked = scene.simulator.count(|logged| logged.path.contains("/left-pad"));
        // A reset of a kept connection is mended at once and counted as such.
        let retries = "feedgate_upstream_retries_total";
        let all = count(&scene, &[retries]).await;
        let own = count(&scene, &[retries, &format!("\"{reason}\"")]).await;
        let kept = count(&scene, &[retries, "kept_connection"]).await;
        assert_eq!((asked, all.as_str()), (2, "1"), "{kind:?}");
        assert!(own == "1" || (kept == "1" && kind == FaultKind::ResetBeforeHead), "{kind:?}: {own} {kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cycles_all_its_connections_fails_nobody() {
    let scene = scene("").await;
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
    for path in ["left-pad/-/left-pad-1.3.0.tgz", "huge"] {
        scene.simulator.reset_connections().await;
        let response = scene.get(&format!("{NPM}/{path}")).await;
        assert_eq!((response.status, response.complete), (200, true), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_always_fails_is_told_of_soon() {
    let scene = scene("").await;
    scene.simulator.fault(Fault::new(
        Matcher::path_contains("/left-pad"),
        FaultKind::status(500),
        Times::Always,
    ));
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 500);
    assert_eq!(scene.simulator.count(|logged| logged.path.contains("/left-pad")), 3);
    let limited = FaultKind::status_with(429, "Retry-After", "3600");
    scene.simulator.clear_faults();
    scene.simulator.fault(Fault::new(Matcher::path_contains("/left-pad"), limited, Times::Always));
    let refused = scene.get(&format!("{NPM}/left-pad")).await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
    assert_eq!(scene.simulator.count(|logged| logged.path.contains("/left-pad")), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_trickles_is_asked_for_again_and_given_up_soon() {
    let trickle = FaultKind::Slow { bytes_per_second: 100, first_byte_delay: Duration::ZERO };
    for path in ["left-pad", "huge/-/huge-1.0.0.tgz"] {
        let scene = scene(SHORT_IDLE).await;
        let matcher = if path == "left-pad" { Matcher::path_contains("/left-pad") } else { Matcher::blob() };
        let get = async || scene.get(&format!("{NPM}/{path}")).await;
        scene.simulator.fault(Fault::new(matcher.clone(), trickle.clone(), Times::Always));
        let start = tokio::time::Instant::now();
        let late = get().await;
        assert!(late.status == 504 || !late.complete, "{path}: {} {}", late.status, late.complete);
        assert!(start.elapsed() < Duration::from_secs(15), "{path}: {:?}", start.elapsed());
        scene.simulator.clear_faults();
        scene.simulator.fault(Fault::new(matcher, trickle.clone(), Times::Once));
        let whole = get().await;
        assert_eq!((whole.status, whole.complete), (200, true), "{path}: {}", whole.body.len());
        for class in ["api", "blob"] {
            assert_eq!(count(&scene, &["feedgate_throttle_in_flight{", class, "gate"]).await, "0", "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_trickles_ends_at_its_limit() {
    let scene = scene("upstream.document_timeout = \"300ms\"\n").await;
    let trickle = FaultKind::Slow { bytes_per_second: 100, first_byte_delay: Duration::ZERO };
    scene.simulator.fault(Fault::new(Matcher::path_contains("/left-pad"), trickle, Times::Always));
    let late = scene.get(&format!("{NPM}/left-pad")).await;
    assert_eq!((late.status, late.complete), (504, true), "{}", late.text());
    assert_eq!(late.json()["code"], "upstream_timeout");
}
