//! The change log: what every kind of change leaves in it, and how it is read.

use feedgate_simulator::client;
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
};
use serde_json::{Value, json};

async fn start() -> Simulator {
    let left_pad =
        NpmPackage::new("left-pad").version("1.2.0", NpmVersion::new()).version("1.3.0", NpmVersion::new());
    let later = NpmPackage::new("later").version("1.0.0", NpmVersion::new().unsaved());
    let utility = NugetPackage::new("Contoso.Utility").version("1.0", NugetVersion::new());
    let main = Feed::new("main").npm(left_pad).npm(later).nuget(utility);
    let contoso = Organisation::new("contoso")
        .feed(main)
        .feed(Feed::new("quiet"))
        .token(Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite));
    Simulator::builder().seed(7).organisation(contoso).start().await.unwrap()
}

async fn feeds(simulator: &Simulator, method: &str, path: &str, body: &str) -> Value {
    let url = format!("{}/contoso/_apis/packaging/{path}", simulator.feeds_url());
    let bob = client::basic("any", "bob-pat");
    let response = client::send(method, &url, &[("Authorization", &bob)], body.as_bytes()).await.unwrap();
    assert!(matches!(response.status, 200 | 201 | 204), "{path}: {}", response.text());
    if response.body.is_empty() { Value::Null } else { response.json() }
}

/// `kind name version` of every change after a token, in order.
async fn after(simulator: &Simulator, token: u64) -> Vec<String> {
    let path = format!("Feeds/main/packagechanges?continuationToken={token}");
    let answer = feeds(simulator, "GET", &path, "").await;
    let changes = answer["packageChanges"].as_array().unwrap();
    assert_eq!(answer["count"], changes.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |change: &Value| {
        let own = &change["packageVersionChange"];
        let version = &own["packageVersion"];
        format!(
            "{} {} {}",
            text(&own["changeType"]),
            text(&change["package"]["name"]),
            text(&version["version"])
        )
    };
    changes.iter().map(line).collect()
}

async fn rest(simulator: &Simulator, method: &str, path: &str, body: &Value) {
    let url = format!("{}/contoso/_apis/packaging/feeds/main/{path}", simulator.pkgs_url());
    let bob = client::basic("any", "bob-pat");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let response = client::send(method, &url, &[("Authorization", &bob)], text.as_bytes()).await.unwrap();
    assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
}

#[tokio::test]
async fn the_first_look_tells_every_saved_version() {
    let simulator = start().await;
    let all = ["addOrUpdate left-pad 1.2.0", "addOrUpdate left-pad 1.3.0", "addOrUpdate Contoso.Utility 1.0"];
    assert_eq!(after(&simulator, 0).await, all);
    assert_eq!(simulator.change_token("contoso/main"), 3);
    assert_eq!(after(&simulator, 3).await, Vec::<String>::new());
}

#[tokio::test]
async fn every_change_is_told_whoever_makes_it() {
    let simulator = start().await;
    let mut token = simulator.change_token("contoso/main");
    let version = "npm/left-pad/versions/1.3.0";
    let views = json!({ "views": { "op": "add", "path": "/views/-", "value": "release" } });
    let rows = [
        ("PATCH", version, json!({ "deprecateMessage": "old" }), "addOrUpdate left-pad 1.3.0"),
        ("PATCH", version, views, "addOrUpdate left-pad 1.3.0"),
        ("DELETE", version, Value::Null, "delete left-pad 1.3.0"),
        (
            "PATCH",
            "npm/RecycleBin/packages/left-pad/versions/1.3.0",
            json!({ "deleted": false }),
            "addOrUpdate left-pad 1.3.0",
        ),
        (
            "PATCH",
            "nuget/packages/contoso.utility/versions/1.0.0",
            json!({ "listed": false }),
            "addOrUpdate Contoso.Utility 1.0",
        ),
        (
            "DELETE",
            "nuget/packages/contoso.utility/versions/1.0.0",
            Value::Null,
            "delete Contoso.Utility 1.0",
        ),
        (
            "DELETE",
            "nuget/RecycleBin/packages/contoso.utility/versions/1.0.0",
            Value::Null,
            "permanentDelete Contoso.Utility 1.0",
        ),
    ];
    for (method, path, body, expected) in rows {
        rest(&simulator, method, path, &body).await;
        assert_eq!(after(&simulator, token).await, [expected], "{method} {path}");
        token += 1;
        assert_eq!(simulator.change_token("contoso/main"), token, "{method} {path}");
    }
}

#[tokio::test]
async fn the_handle_and_the_protocols_leave_the_same_traces() {
    let simulator = start().await;
    let token = simulator.change_token("contoso/main");
    simulator.deprecate_npm("contoso/main", "left-pad", "1.2.0", Some("old"));
    simulator.deprecate_npm("contoso/main", "left-pad", "1.2.0", Some("old"));
    simulator.remove_npm("contoso/main", "left-pad", "1.3.0");
    simulator.add_npm("contoso/main", &NpmPackage::new("is-odd").version("3.0.0", NpmVersion::new()));
    simulator.list_nuget("contoso/main", "Contoso.Utility", "1.0", false);
    simulator.promote_nuget("contoso/main", "Contoso.Utility", "1.0", "release");
    let bob = client::basic("any", "bob-pat");
    let tarball = format!("{}later/-/later-1.0.0.tgz", simulator.npm_url("contoso/main"));
    assert_eq!(client::get(&tarball, &[("Authorization", &bob)]).await.unwrap().status, 303);
    let document = json!({
        "name": "fresh",
        "versions": { "1.0.0": { "name": "fresh", "version": "1.0.0" } },
        "_attachments": { "fresh-1.0.0.tgz": { "data": "AAAA" } },
    });
    let url = format!("{}fresh", simulator.npm_url("contoso/main"));
    client::send("PUT", &url, &[("Authorization", &bob)], document.to_string().as_bytes()).await.unwrap();
    let expected = [
        "addOrUpdate left-pad 1.2.0",
        "delete left-pad 1.3.0",
        "addOrUpdate is-odd 3.0.0",
        "addOrUpdate Contoso.Utility 1.0",
        "addOrUpdate later 1.0.0",
        "addOrUpdate fresh 1.0.0",
    ];
    assert_eq!(after(&simulator, token).await, expected);
    simulator.restore_npm("contoso/main", "left-pad", "1.3.0");
    assert_eq!(after(&simulator, token).await.last().unwrap(), "addOrUpdate left-pad 1.3.0");
}

#[tokio::test]
async fn batches_are_walked_to_the_end() {
    let simulator = start().await;
    simulator.deprecate_npm("contoso/main", "left-pad", "1.2.0", Some("old"));
    let (mut token, mut walked) = (0, Vec::new());
    loop {
        let path = format!("Feeds/main/packagechanges?batchSize=1&continuationToken={token}");
        let answer = feeds(&simulator, "GET", &path, "").await;
        let next = answer["nextPackageContinuationToken"].as_u64().unwrap();
        match answer["packageChanges"].as_array().unwrap().as_slice() {
            [] => {
                assert_eq!(next, token);
                break;
            }
            [change] => walked.push(change["packageVersionChange"]["continuationToken"].as_u64().unwrap()),
            _ => panic!("more than one change: {answer}"),
        }
        token = next;
    }
    assert_eq!(walked, [2, 3, 4], "the first change of 1.2.0 gave way to its second");
}

#[tokio::test]
async fn feed_changes_tell_of_feeds_and_how_far_their_packages_are() {
    let simulator = start().await;
    let names = |answer: &Value| -> Vec<String> {
        let changes = answer["feedChanges"].as_array().unwrap();
        changes.iter().map(|change| change["feed"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let answer = feeds(&simulator, "GET", "feedchanges", "").await;
    assert_eq!(names(&answer), ["main", "quiet"]);
    assert_eq!(answer["feedChanges"][0]["latestPackageContinuationToken"], 3);
    let token = answer["nextFeedContinuationToken"].as_u64().unwrap();
    simulator.deprecate_npm("contoso/main", "left-pad", "1.2.0", Some("old"));
    let one = feeds(&simulator, "GET", "feedchanges/main", "").await;
    assert_eq!(one["latestPackageContinuationToken"], 4);
    let quiet = format!("feedchanges?continuationToken={token}");
    assert_eq!(feeds(&simulator, "GET", &quiet, "").await["count"], 0);
    simulator.rename_feed("contoso/main", "Core");
    assert_eq!(names(&feeds(&simulator, "GET", &quiet, "").await), ["Core"]);
    feeds(&simulator, "DELETE", "Feeds/quiet", "").await;
    let with_deleted = feeds(&simulator, "GET", &format!("{quiet}&includeDeleted=true"), "").await;
    assert_eq!(names(&with_deleted), ["Core", "quiet"]);
    assert_eq!(with_deleted["feedChanges"][1]["changeType"], "delete");
}
