//! NuGet's package REST (facts §5.2): every operation of the service's documents.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Feed, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token};
use serde_json::{Value, json};

async fn start() -> Simulator {
    let client = NugetPackage::new("Feed.Client")
        .version("0.1.1", NugetVersion::new())
        .version("0.1.4", NugetVersion::new().size(5_000));
    let feeds = [Feed::new("main").nuget(client.clone()), Feed::new("site").project("web").nuget(client)];
    let contoso = feeds.into_iter().fold(Organisation::new("contoso"), Organisation::feed);
    let contoso = contoso
        .token(Token::pat("alice-pat").label("alice"))
        .token(Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite));
    Simulator::builder().seed(7).organisation(contoso).start().await.unwrap()
}

async fn send_as(pat: &str, simulator: &Simulator, method: &str, path: &str, body: &Value) -> Response {
    let url = format!("{}/contoso/_apis/packaging/feeds/main/nuget/{path}", simulator.pkgs_url());
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let bob = client::basic("any", pat);
    client::send(method, &url, &[("Authorization", &bob)], text.as_bytes()).await.unwrap()
}

/// Sends as bob, who may write.
async fn send(simulator: &Simulator, method: &str, path: &str, body: &Value) -> Response {
    send_as("bob-pat", simulator, method, path, body).await
}

/// The versions that the flat container lists to alice.
async fn flat(simulator: &Simulator, feed: &str) -> Value {
    let url =
        format!("{}/contoso/_packaging/{feed}/nuget/v3/flat2/feed.client/index.json", simulator.pkgs_url());
    let response = client::get(&url, &[("Authorization", &client::basic("any", "alice-pat"))]).await.unwrap();
    if response.status == 200 { response.json()["versions"].clone() } else { json!(response.status) }
}

fn package(listed: bool) -> Value {
    json!({ "id": "Feed.Client", "name": "Feed.Client", "version": "0.1.4", "listed": listed, "deletedDate": null })
}

#[tokio::test]
async fn package_info_is_found_by_every_name_of_a_version() {
    let simulator = start().await;
    let guid = simulator.nuget_guid("contoso/main", "feed.client").to_string();
    let version = simulator.nuget_version_guid("contoso/main", "Feed.Client", "0.1.4").to_string();
    let names = ["Feed.Client", "feed.client", guid.as_str()];
    for name in names {
        for number in ["0.1.4", "0.1.4.0", "0.01.4", version.as_str()] {
            let path = format!("packages/{name}/versions/{number}/?api-version=3.0-preview.1");
            let response = send_as("alice-pat", &simulator, "GET", &path, &Value::Null).await;
            assert_eq!((response.status, response.json()), (200, package(true)), "{path}");
        }
    }
    let later = send(&simulator, "GET", "packages/Feed.Client/versions/0.1.4", &Value::Null).await.json();
    assert_eq!(later["sourceChain"], json!([]));
}

#[tokio::test]
async fn a_version_is_unlisted_and_listed_again() {
    let simulator = start().await;
    for listed in [false, true] {
        let path = "packages/feed.client/versions/0.1.4?api-version=3.0-preview.1";
        let response = send(&simulator, "PATCH", path, &json!({ "listed": listed })).await;
        assert_eq!((response.status, response.json()), (200, package(listed)));
        assert_eq!(flat(&simulator, "main").await, json!(["0.1.1", "0.1.4"]), "unlisted is not deleted");
        let url = format!(
            "{}/contoso/_packaging/main/nuget/v3/registrations2/feed.client/0.1.4.json",
            simulator.pkgs_url()
        );
        let leaf = client::get(&url, &[("Authorization", &client::basic("", "alice-pat"))]).await.unwrap();
        assert_eq!(leaf.json()["listed"], listed);
    }
}

#[tokio::test]
async fn a_deleted_version_is_hidden_reserved_and_restorable() {
    let simulator = start().await;
    let (nupkg, _) = simulator.nuget_file("contoso/main", "Feed.Client", "0.1.4");
    let path = "packages/Feed.Client/versions/0.1.4";
    let response =
        send(&simulator, "DELETE", &format!("{path}?api-version=3.0-preview.1"), &Value::Null).await;
    let date = response.json()["deletedDate"].as_str().unwrap().to_owned();
    assert_eq!(date.split_once('.').unwrap().1.len(), "0000000Z".len(), "{date}");
    assert_eq!(flat(&simulator, "main").await, json!(["0.1.1"]));
    assert_eq!(send(&simulator, "GET", path, &Value::Null).await.status, 404);
    assert_eq!(send(&simulator, "GET", &format!("{path}/content"), &Value::Null).await.status, 404);
    let told = send(&simulator, "GET", &format!("{path}?showDeleted=true"), &Value::Null).await;
    assert_eq!(told.json()["deletedDate"], date);
    let push = format!("{}/contoso/_packaging/main/nuget/v2/", simulator.pkgs_url());
    let bob = client::basic("any", "bob-pat");
    let pushed = client::send("PUT", &push, &[("Authorization", &bob)], &nupkg).await.unwrap();
    assert_eq!(pushed.status, 409, "the number stays taken");
    let bin = format!("RecycleBin/{path}");
    let state = json!({ "name": "Feed.Client", "version": "0.1.4", "deletedDate": date });
    assert_eq!(send(&simulator, "GET", &bin, &Value::Null).await.json(), state);
    assert_eq!(send(&simulator, "PATCH", &bin, &json!({ "deleted": false })).await.status, 200);
    assert_eq!(flat(&simulator, "main").await, json!(["0.1.1", "0.1.4"]));
}

#[tokio::test]
async fn content_is_redirected_to_the_flat_container_in_guid_form() {
    let simulator = start().await;
    let (feed, site) = (simulator.feed_guid("contoso/main"), simulator.feed_guid("contoso/web/site"));
    let project = simulator.project_guid("contoso/web/site").unwrap();
    let rows = [
        ("/contoso/_apis/packaging/feeds/main", format!("/contoso/_packaging/{feed}")),
        (
            "/contoso/DefaultCollection/_apis/packaging/Feeds/main",
            format!("/contoso/DefaultCollection/_packaging/{feed}"),
        ),
        ("/contoso/web/_apis/packaging/feeds/site", format!("/contoso/{project}/_packaging/{site}")),
    ];
    let alice = client::basic("any", "alice-pat");
    for (prefix, expected) in rows {
        let url = format!(
            "{}{prefix}/nuget/packages/Feed.Client/versions/0.1.4/content?api-version=3.0-preview",
            simulator.pkgs_url()
        );
        let response = client::get(&url, &[("Authorization", &alice)]).await.unwrap();
        let flat = format!(
            "{}{expected}/nuget/v3/flat2/feed.client/0.1.4/feed.client.0.1.4.nupkg",
            simulator.pkgs_url()
        );
        assert_eq!((response.status, response.header("location")), (303, Some(flat.as_str())));
        let redirect = client::get(&flat, &[("Authorization", &alice)]).await.unwrap();
        let blob = client::get(redirect.header("location").unwrap(), &[]).await.unwrap();
        assert_eq!(blob.body, simulator.nuget_file("contoso/main", "Feed.Client", "0.1.4").0);
    }
}

#[tokio::test]
async fn releases_batches_and_upstreaming_work_as_for_npm() {
    let simulator = start().await;
    let entry = |version: &str| json!({ "id": "feed.client", "version": version });
    let body = json!({ "views": { "op": "add", "path": "/views/-", "value": "release" } });
    let path = "packages/Feed.Client/versions/0.1.1?api-version=3.0-preview";
    assert_eq!(send(&simulator, "PATCH", path, &body).await.status, 200);
    assert_eq!(flat(&simulator, "main@release").await, json!(["0.1.1"]));
    let rows = [
        (
            "packagesbatch",
            json!({ "operation": "promote", "data": { "viewId": "release" }, "packages": [entry("0.1.4")] }),
            200,
            json!(["0.1.1", "0.1.4"]),
        ),
        (
            "packagesbatch",
            json!({ "operation": "list", "data": { "listed": false }, "packages": [entry("0.1.4")] }),
            200,
            json!(["0.1.1", "0.1.4"]),
        ),
        (
            "packagesbatch",
            json!({ "operation": "delete", "packages": [entry("0.1.1"), entry("0.1.4")] }),
            200,
            json!(404),
        ),
        (
            "RecycleBin/PackagesBatch",
            json!({ "operation": "restoreToFeed", "packages": [entry("0.1.4")] }),
            200,
            json!(["0.1.4"]),
        ),
        (
            "RecycleBin/PackagesBatch",
            json!({ "operation": "permanentDelete", "packages": [entry("0.1.1")] }),
            200,
            json!(["0.1.4"]),
        ),
        (
            "packagesbatch",
            json!({ "operation": "restoreToFeed", "packages": [entry("0.1.1")] }),
            404,
            json!(["0.1.4"]),
        ),
        (
            "packagesbatch",
            json!({ "operation": "deprecate", "data": { "message": "x" }, "packages": [entry("0.1.4")] }),
            400,
            json!(["0.1.4"]),
        ),
    ];
    for (path, body, status, versions) in rows {
        assert_eq!(send(&simulator, "POST", path, &body).await.status, status, "{body}");
        assert_eq!(flat(&simulator, "main@release").await, versions, "{body}");
    }
    let body = json!({ "versionsFromExternalUpstreams": "AllowExternalVersions" });
    assert_eq!(send(&simulator, "PATCH", "packages/Feed.Client/upstreaming", &body).await.status, 200);
    assert_eq!(send(&simulator, "GET", "packages/feed.client/upstreaming", &Value::Null).await.json(), body);
}

#[tokio::test]
async fn readers_change_nothing() {
    let simulator = start().await;
    let rows = [
        ("PATCH", "packages/Feed.Client/versions/0.1.4"),
        ("DELETE", "packages/Feed.Client/versions/0.1.4"),
        ("POST", "packagesbatch"),
        ("DELETE", "RecycleBin/packages/Feed.Client/versions/0.1.4"),
    ];
    for (method, path) in rows {
        let response = send_as("alice-pat", &simulator, method, path, &json!({ "listed": false })).await;
        assert_eq!(response.status, 403, "{method} {path}");
    }
    assert_eq!(flat(&simulator, "main").await, json!(["0.1.1", "0.1.4"]));
}
