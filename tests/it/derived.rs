//! What the service lacks and the gate makes of the packument, and what clients may want of the cache.

use feedgate_simulator::{Fault, FaultKind, Matcher, Simulator, Times};

use crate::support::{FORBIDDEN_PAT, NPM, NUGET, OTHER_PAT, PAT, Scene, contoso};

/// Asks of the service for the packument of left-pad.
fn packuments(scene: &Scene) -> usize {
    scene.simulator.count(|request| request.path.ends_with("/left-pad"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_and_the_tags_come_from_the_packument_that_is_stored() {
    let scene = Scene::new().await;
    let whole = scene.get(&format!("{NPM}/left-pad")).await.json();
    let manifest = scene.get(&format!("{NPM}/left-pad/1.3.0")).await;
    assert_eq!((manifest.status, manifest.header("x-cache")), (200, Some("HIT")), "{}", manifest.text());
    assert_eq!(manifest.json(), whole["versions"]["1.3.0"]);
    let gate = format!("http://{}/{NPM}/left-pad/-/left-pad-1.3.0.tgz", scene.gate().address());
    assert_eq!(manifest.json()["dist"]["tarball"], gate);
    assert_eq!(scene.get(&format!("{NPM}/left-pad/latest")).await.json(), manifest.json());
    let tags = scene.get(&format!("{NPM}/-/package/left-pad/dist-tags")).await;
    assert_eq!(tags.json(), whole["dist-tags"]);
    assert_eq!(scene.get(&format!("{NPM}/-/package/left-pad/dist-tags/latest")).await.json(), "1.3.0");
    assert_eq!(packuments(&scene), 1);
    let scoped = scene.get(&format!("{NPM}/@scope%2fwide/2.0.0")).await;
    assert_eq!((scoped.header("x-cache"), &scoped.json()["version"]), (Some("MISS"), &"2.0.0".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_has_a_tag_a_head_and_an_encoding_like_any_document() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad/1.3.0");
    let get = scene.get(&path).await;
    let tag = get.header("etag").unwrap();
    assert_ne!(Some(tag), scene.get(&format!("{NPM}/left-pad")).await.header("etag"));
    let unchanged = scene.get_with(&path, &[("If-None-Match", tag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let head = scene.send_as("HEAD", Some(PAT), &path, &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")));
    let packed = scene.get_with(&path, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(packed.decoded().unwrap(), get.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_a_404_that_names_it() {
    let scene = Scene::new().await;
    for (path, error) in [
        ("left-pad/9.9.9", Some("version not found: 9.9.9")),
        ("left-pad/beta", Some("version not found: beta")),
        ("-/package/left-pad/dist-tags/beta", Some("dist-tag not found: beta")),
        ("nothing/1.0.0", None),
        ("-/package/nothing/dist-tags", None),
    ] {
        let response = scene.get(&format!("{NPM}/{path}")).await;
        assert_eq!(response.status, 404, "{path}");
        if let Some(error) = error {
            assert_eq!(response.json()["error"], error);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_for_those_who_may_read_the_feed() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad/1.3.0");
    scene.get(&path).await;
    for (pat, status) in
        [(None, 401), (Some(FORBIDDEN_PAT), 403), (Some("wrong"), 401), (Some(OTHER_PAT), 200)]
    {
        assert_eq!(scene.get_as(pat, &path, &[]).await.status, status, "{pat:?}");
    }
    scene.simulator.refuse_connections().await.unwrap();
    assert_eq!(scene.get(&path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_tells_nothing_and_whoami_tells_only_those_who_are_let_in() {
    let scene = Scene::new().await;
    for feed in ["main", "no-such-feed"] {
        let pong = scene.get_as(None, &format!("contoso/_packaging/{feed}/npm/registry/-/ping"), &[]).await;
        assert_eq!((pong.status, pong.text()), (200, "{}".to_owned()));
    }
    assert_eq!(scene.simulator.requests().len(), 0);
    let path = format!("{NPM}/-/whoami");
    assert_eq!(scene.get(&path).await.json()["username"], "any");
    let anonymous = scene.get_as(None, &path, &[]).await;
    assert_eq!((anonymous.status, anonymous.header_all("www-authenticate").len()), (401, 3));
    for (pat, status) in [("wrong", 401), (FORBIDDEN_PAT, 403)] {
        assert_eq!(scene.get_as(Some(pat), &path, &[]).await.status, status);
    }
    assert_eq!(scene.get("contoso/_packaging/no-such-feed/npm/registry/-/whoami").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_it_has_a_fresh_copy_checked_and_the_tag_still_holds() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    let tag = scene.get(&path).await.header("etag").unwrap().to_owned();
    for (number, wish) in
        [("Cache-Control", "no-cache"), ("Cache-Control", "max-age=0"), ("Pragma", "no-cache")]
            .into_iter()
            .enumerate()
    {
        let response = scene.get_with(&path, &[wish, ("If-None-Match", &tag)]).await;
        assert_eq!((response.status, packuments(&scene)), (304, number + 2), "{wish:?}");
        assert_eq!(response.header("cache-status"), Some("feedgate; fwd=request; stored"));
    }
    for wish in [("Cache-Control", "no-store"), ("Cache-Control", "max-age=60")] {
        assert_eq!(scene.get_with(&path, &[wish]).await.header("x-cache"), Some("HIT"));
    }
    assert_eq!(packuments(&scene), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn wanting_it_again_and_again_costs_the_service_little() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    scene.get(&path).await;
    let started = tokio::time::Instant::now();
    let mut answered = 0;
    for _ in 0..200 {
        let response = scene.get_with(&path, &[("Cache-Control", "no-cache")]).await;
        answered += usize::from(response.status == 200);
    }
    let most = 11 + usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert_eq!(answered, 200);
    assert!((11..=most).contains(&packuments(&scene)), "{} of {most}", packuments(&scene));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_want_it_at_the_same_time_share_one_question() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    scene.get(&path).await;
    let first_byte_delay = std::time::Duration::from_millis(300);
    let slow = FaultKind::Slow { bytes_per_second: 1 << 30, first_byte_delay };
    scene.simulator.fault(Fault::new(Matcher::path_contains("left-pad"), slow, Times::Always));
    let asks = (0..40).map(|_| scene.get_with(&path, &[("Cache-Control", "no-cache")]));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(packuments(&scene), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_checked_is_served_all_the_same() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    scene.get(&path).await;
    scene.simulator.refuse_connections().await.unwrap();
    let response = scene.get_with(&path, &[("Cache-Control", "no-cache")]).await;
    assert_eq!((response.status, response.header("x-cache")), (200, Some("STALE")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_asks_the_service_nothing_at_all() {
    let scene = Scene::new().await;
    let only = [("Cache-Control", "only-if-cached")];
    let paths = [
        format!("{NPM}/left-pad"),
        format!("{NPM}/left-pad/1.3.0"),
        format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"),
        format!("{NUGET}/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"),
    ];
    for path in &paths {
        let response = scene.get_with(path, &only).await;
        assert_eq!((response.status, &response.json()["code"]), (504, &"only_if_cached".into()), "{path}");
    }
    assert_eq!(scene.simulator.requests().len(), 0);
    for path in &paths {
        assert_eq!(scene.get(path).await.status, 200, "{path}");
    }
    let asked = scene.simulator.requests().len();
    for path in &paths {
        assert_eq!(scene.get_with(path, &only).await.status, 200, "{path}");
        // Whether this caller may read the feed would have to be asked.
        assert_eq!(scene.get_as(Some(OTHER_PAT), path, &only).await.status, 504, "{path}");
        let both = [("Cache-Control", "only-if-cached, no-cache")];
        let response = scene.get_with(path, &both).await;
        let immutable = path.contains("/-/") || path.contains("/flat2/");
        assert_eq!(response.status, if immutable { 200 } else { 504 }, "{path}");
    }
    assert_eq!(scene.simulator.requests().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_does_not_stretch_a_permission_that_lapsed() {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let scene = Scene::with(simulator, "access.verdict_ttl = \"0ms\"\n");
    let path = format!("{NPM}/left-pad");
    assert_eq!(scene.get(&path).await.status, 200);
    assert_eq!(scene.get_with(&path, &[("Cache-Control", "only-if-cached")]).await.status, 504);
}
