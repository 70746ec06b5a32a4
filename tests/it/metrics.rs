//! `/metrics` and the README's table name the same metrics, in the form that Prometheus wants.

use std::collections::{BTreeMap, BTreeSet};

use feedgate_simulator::Simulator;

use crate::support::{NPM, Scene, contoso, until};

/// Endings of names that stand for a base unit, or for a count of what the name says.
const GAUGE_ENDINGS: [&str; 4] = ["_bytes", "_seconds", "_info", "_limit"];

/// What there is only once the service said something.
const TOLD_LATER: [&str; 1] = ["feedgate_throttle_remaining"];

/// A gate that has answered something of each kind: a miss, a hit, an error of its own, a write.
async fn scene() -> Scene {
    let follow = "[[changes]]\nfeed = \"contoso/main\"\ninterval = \"100ms\"\n\
                  [[organisation]]\nname = \"fabrikam\"\n\
                  credential_command = ['/bin/echo', '{\"access_token\":\"x\",\"expires_in\":3600}']\n";
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let scene = Scene::with(simulator, follow);
    for path in ["left-pad", "left-pad", "left-pad/-/left-pad-1.3.0.tgz", "left-pad/-/left-pad-1.3.0.tgz"] {
        assert_eq!(scene.get(&format!("{NPM}/{path}")).await.status, 200, "{path}");
    }
    assert_eq!(scene.get("%2e%2e/").await.status, 400);
    scene.send_as("PUT", None, &format!("{NPM}/-/package/left-pad/dist-tags/next"), &[]).await;
    until(|| async { scene.metric(&["feedgate_credential_expiry_seconds"]).await > 0.0 }).await;
    // The age of what was told is told once the service has been asked.
    until(|| async { scene.metric(&["feedgate_requests_total"]).await >= 6.0 }).await;
    scene
}

/// The metrics of a text of `/metrics` and their types.
fn types(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    lines.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The metrics that the README's table names.
fn documented() -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let rows =
        readme.lines().filter(|line| line.starts_with("| `feedgate_") || line.starts_with("| `process_"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_names_every_metric_and_no_other() {
    let told: BTreeSet<_> = types(&scene().await.metrics().await).into_keys().collect();
    let documented = documented();
    let missing: Vec<_> = told.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the README's table: {missing:?}");
    let later = TOLD_LATER.map(ToOwned::to_owned).into();
    let told: BTreeSet<_> = told.union(&later).cloned().collect();
    let unknown: Vec<_> = documented.difference(&told).collect();
    assert!(unknown.is_empty(), "in the README's table, and not in /metrics: {unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_types_follow_the_conventions_of_prometheus() {
    let text = scene().await.metrics().await;
    let helped: BTreeSet<_> =
        text.lines().filter_map(|line| Some(line.strip_prefix("# HELP ")?.split_once(' ')?.0)).collect();
    for (name, kind) in types(&text) {
        assert!(helped.contains(name.as_str()), "{name} has no help");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(
            kind != "histogram" || GAUGE_ENDINGS.iter().any(|unit| name.ends_with(unit)),
            "{name} has no unit"
        );
        for unit in ["_ms", "_milliseconds", "_minutes", "_kib", "_mb", "_megabytes", "_percent"] {
            assert!(!name.contains(unit), "{name} is in no base unit");
        }
    }
}
