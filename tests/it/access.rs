//! Who gets what is stored: the service's word decides.

use std::time::Duration;

use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NpmPackage, NpmVersion, Organisation, Simulator, Times,
};

use crate::support::{EXPIRED_PAT, FORBIDDEN_PAT, NPM, NUGET, OTHER_PAT, Scene, contoso, readers, until};

const TARBALL: &str = "left-pad/-/left-pad-1.3.0.tgz";

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_the_right_get_401_or_403_and_no_byte_of_what_is_stored() {
    let scene = Scene::new().await;
    let paths = [format!("{NPM}/left-pad"), format!("{NPM}/{TARBALL}"), format!("{NUGET}/index.json")];
    let mut tags = Vec::new();
    for path in &paths {
        scene.get(path).await;
        tags.push(scene.get(path).await.header("etag").unwrap().to_owned());
    }
    for (pat, status) in
        [(None, 401), (Some("wrong"), 401), (Some(EXPIRED_PAT), 401), (Some(FORBIDDEN_PAT), 403)]
    {
        for (path, tag) in paths.iter().zip(&tags) {
            let direct = scene.get_as(pat, path, &[]).await;
            assert_eq!(direct.status, status, "{pat:?} {path}");
            assert!(!direct.text().contains("left-pad"), "{}", direct.text());
            let conditional =
                scene.get_as(pat, path, &[("If-None-Match", tag), ("Range", "bytes=0-9")]).await;
            assert_eq!(conditional.status, status, "{pat:?} {path}");
            let head = scene.send_as("HEAD", pat, path, &[]).await;
            assert_eq!((head.status, head.header("etag")), (status, None), "{pat:?} {path}");
        }
    }
    assert_eq!(scene.downloads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_has_each_challenge_on_its_own_line_and_what_credential_providers_look_for() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        let response = scene.get_as(None, &format!("{NUGET}/index.json"), &[]).await;
        assert_eq!(response.status, 401);
        assert_eq!(response.header_all("www-authenticate").len(), 3);
        assert!(response.header("x-vss-resourcetenant").is_some());
        assert!(response.header("x-vss-authorizationendpoint").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_questions_before_the_credential_cost_the_service_one_request() {
    let scene = Scene::new().await;
    for _ in 0..20 {
        for path in ["flat2/contoso.utility/index.json", "registrations2/contoso.utility/index.json"] {
            assert_eq!(scene.get_as(None, &format!("{NUGET}/{path}"), &[]).await.status, 401);
        }
    }
    assert_eq!(scene.simulator.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_reader_costs_one_small_question_and_no_download() {
    let scene = Scene::new().await;
    let paths = [format!("{NPM}/left-pad"), format!("{NPM}/{TARBALL}")];
    for path in &paths {
        scene.get(path).await;
    }
    scene.simulator.clear_log();
    for _ in 0..5 {
        for path in &paths {
            let response = scene.get_as(Some(OTHER_PAT), path, &[]).await;
            assert_eq!((response.status, response.header("x-cache")), (200, Some("HIT")));
        }
    }
    let asked: Vec<_> = scene.simulator.requests().iter().map(|request| request.path.clone()).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_while_the_service_is_asked_about_a_caller_is_not_asked_for_again() {
    let version = NpmVersion::new().size(4_000);
    let feed = Feed::new("main").public().npm(NpmPackage::new("left-pad").version("1.3.0", version));
    let organisation = readers(Organisation::new("contoso").feed(feed));
    let scene = Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), "");
    let tarball = format!("{NPM}/{TARBALL}");
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
    let strangers_question = Matcher::custom(|request| request.header("authorization").is_none());
    let slow = FaultKind::Slow { bytes_per_second: 1 << 30, first_byte_delay: Duration::from_secs(1) };
    scene.simulator.fault(Fault::new(strangers_question.and(Matcher::pkgs()), slow, Times::Once));
    scene.simulator.clear_log();
    let stranger = scene.get_as(None, &tarball, &[]);
    let reader = async {
        until(async || !scene.simulator.requests().is_empty()).await;
        scene.get(&tarball).await
    };
    let (stranger, reader) = tokio::join!(stranger, reader);
    assert_eq!((reader.header("x-cache"), stranger.header("x-cache")), (Some("MISS"), Some("HIT")));
    assert_eq!((stranger.status, stranger.body), (200, reader.body));
    let asked =
        scene.simulator.requests().into_iter().filter(|request| request.path.contains("left-pad-1.3.0"));
    assert_eq!(asked.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_was_taken_away_ends_with_the_verdict() {
    let simulator = feedgate_simulator::Simulator::builder()
        .organisation(crate::support::contoso())
        .start()
        .await
        .unwrap();
    let scene = Scene::with(simulator, "access.verdict_ttl = \"0ms\"\naccess.denied_ttl = \"0ms\"\n");
    let path = format!("{NPM}/{TARBALL}");
    assert_eq!(scene.get(&path).await.status, 200);
    scene.simulator.set_scope("reader", feedgate_simulator::Scope::ReadForbidden);
    assert_eq!(scene.get(&path).await.status, 403);
    scene.simulator.set_scope("reader", feedgate_simulator::Scope::Read);
    assert_eq!(scene.get(&path).await.status, 200);
    assert_eq!(scene.downloads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_the_feed_is_none_to_its_view_and_the_other_way_round() {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    // What a view is promoted to is seen at once.
    let scene = Scene::with(simulator, "metadata.negative_ttl = \"0s\"\n");
    let path = format!("{NPM}/{TARBALL}");
    assert_eq!(scene.get(&path).await.status, 200);
    // Not promoted to the view: the service says 404, although the bytes are stored.
    let view = path.replace("/main/", "/main@release/");
    assert_eq!(scene.get(&view).await.status, 404);
    scene.simulator.promote_npm("contoso/main", "left-pad", "1.3.0", "release");
    assert_eq!(scene.get(&view).await.status, 200);
    assert_eq!(scene.downloads().await, 1);
}
