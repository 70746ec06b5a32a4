//! The service is down: what was read once is read again, also after a restart.

use feedgate_simulator::{Fault, FaultKind, Matcher, Simulator, Times};

use crate::support::{NPM, NUGET, OTHER_PAT, Scene, contoso};

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
            assert_eq!(response.status, 502, "{pat:?} {path}");
            assert_eq!(response.json()["code"], "upstream_unavailable");
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
    assert_eq!((response.status, response.header("content-type")), (502, Some("application/problem+json")));
    scene.simulator.accept_connections().await.unwrap();
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_service_closed_meanwhile_is_not_seen() {
    let scene = scene().await;
    scene.get(&format!("{NPM}/left-pad")).await;
    scene.simulator.reset_connections().await;
    assert_eq!(scene.get(&format!("{NPM}/large")).await.status, 200);
}
