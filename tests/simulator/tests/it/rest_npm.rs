//! npm's package REST (facts §5.2, §5.3): every operation of the service's documents, in every spelling of theirs.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{NpmVersion, Simulator};
use serde_json::{Value, json};

use super::common::{contoso, get, start};

/// Sends to the REST of `contoso/main` as bob, who may write.
async fn send(simulator: &Simulator, method: &str, path: &str, body: &Value) -> Response {
    send_as("bob-pat", simulator, method, path, body).await
}

async fn send_as(pat: &str, simulator: &Simulator, method: &str, path: &str, body: &Value) -> Response {
    let url = format!("{}/contoso/_apis/packaging/feeds/main/npm/{path}", simulator.pkgs_url());
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("Authorization", client::basic("any", pat)), ("Content-Type", "application/json".into())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    client::send(method, &url, &headers, text.as_bytes()).await.unwrap()
}

/// Status of a packument and of a tarball of it, as alice sees them.
async fn seen(simulator: &Simulator, name: &str, version: &str) -> (u16, bool, u16) {
    let base = simulator.npm_url("contoso/main");
    let packument = get(&format!("{base}{name}")).await;
    let shown = packument.status == 200 && packument.json()["versions"].get(version).is_some();
    let file = name.rsplit('/').next().unwrap();
    let tarball = get(&format!("{base}{name}/-/{file}-{version}.tgz")).await;
    (packument.status, shown, tarball.status)
}

fn package(name: &str, version: &str, message: &Value) -> Value {
    json!({ "id": name, "name": name, "version": version, "unpublishedDate": null, "deprecateMessage": message })
}

#[tokio::test]
async fn package_info_has_exactly_the_fields_of_the_documents() {
    let simulator = start().await;
    let guid = simulator.npm_guid("contoso/main", "left-pad");
    let version = simulator.npm_version_guid("contoso/main", "left-pad", "1.3.0");
    let left_pad = package("left-pad", "1.3.0", &Value::Null);
    let ui = package("@contoso/ui", "0.1.0", &Value::Null);
    let rows = [
        ("left-pad/versions/1.3.0?api-version=3.0-preview.1".to_owned(), left_pad.clone()),
        ("left-pad/versions/1.3.0/?api-version=3.0-preview".to_owned(), left_pad.clone()),
        (format!("{guid}/versions/{version}?api-version=3.0-preview.1"), left_pad.clone()),
        (format!("left-pad/versions/{version}?api-version=3.0-preview.1"), left_pad),
        ("@contoso/ui/versions/0.1.0/?api-version=3.0-preview".to_owned(), ui.clone()),
        ("@contoso%2fui/versions/0.1.0?api-version=3.0-preview".to_owned(), ui),
        (
            "left-pad/versions/2.0.0-rc.1?api-version=3.0-preview".to_owned(),
            package("left-pad", "2.0.0-rc.1", &json!("too early")),
        ),
    ];
    for (path, expected) in rows {
        let response = send(&simulator, "GET", &path, &Value::Null).await;
        assert_eq!((response.status, response.json()), (200, expected), "{path}");
        assert!(response.header("content-type").unwrap().contains("api-version=3.0-preview"), "{path}");
    }
}

#[tokio::test]
async fn later_generations_add_absolute_links_in_guid_form() {
    let simulator = start().await;
    let response =
        send(&simulator, "GET", "left-pad/versions/1.3.0?api-version=7.1-preview.1", &Value::Null).await;
    let feed = simulator.feed_guid("contoso/main");
    let links = &response.json()["_links"];
    let pkgs = format!("{}/contoso/_apis/Packaging/Feeds/{feed}", simulator.pkgs_url());
    assert_eq!(links["self"]["href"], format!("{pkgs}/npm/left-pad/versions/1.3.0"));
    assert_eq!(
        links["feed"]["href"],
        format!("{}/contoso/_apis/Packaging/Feeds/{feed}", simulator.feeds_url())
    );
}

#[tokio::test]
async fn a_version_is_deprecated_in_both_spellings_and_undeprecated_by_an_empty_message() {
    let simulator = start().await;
    let base = simulator.npm_url("contoso/main");
    for name in ["left-pad/versions/1.3.0", "@contoso/ui/versions/0.1.0"] {
        for tail in ["/content", "/", ""] {
            let (package, version) = name.split_once("/versions/").unwrap();
            for (message, expected) in [("use right-pad", json!("use right-pad")), ("", Value::Null)] {
                let path = format!("{name}{tail}?api-version=3.0-preview.1");
                let body = json!({ "deprecateMessage": message });
                let response = send(&simulator, "PATCH", &path, &body).await;
                assert_eq!(response.status, 200, "{path}");
                assert_eq!(response.json()["deprecateMessage"], expected, "{path}");
                let packument = get(&format!("{base}{package}")).await.json();
                let shown = packument["versions"][version].get("deprecated").cloned().unwrap_or_default();
                assert_eq!(shown, expected, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_release_is_promoted_by_a_patch_of_its_views() {
    let simulator = start().await;
    let release = simulator.view_guid("contoso/main", "release").to_string();
    let patch = |view: &str| json!({ "views": { "op": "add", "path": "/views/-", "value": view } });
    for (path, view) in
        [("left-pad/versions/1.3.0/", "release"), ("@contoso/ui/versions/0.1.0", release.as_str())]
    {
        let (name, version) = path.trim_end_matches('/').split_once("/versions/").unwrap();
        let url = format!("{}{name}", simulator.npm_url("contoso/main@release"));
        let shown = async || {
            get(&url).await.status == 200 && get(&url).await.json()["versions"].get(version).is_some()
        };
        assert!(!shown().await, "{path}");
        let response =
            send(&simulator, "PATCH", &format!("{path}?api-version=3.0-preview"), &patch(view)).await;
        assert_eq!((response.status, response.json()), (200, package(name, version, &Value::Null)), "{path}");
        assert!(shown().await, "{path}");
    }
    assert_eq!(send(&simulator, "PATCH", "left-pad/versions/1.3.0", &patch("nowhere")).await.status, 404);
}

#[tokio::test]
async fn an_unpublished_version_is_hidden_reserved_and_restorable() {
    let simulator = start().await;
    for (name, version, others) in [("left-pad", "1.3.0", 200), ("@contoso/ui", "0.1.0", 404)] {
        let path = format!("{name}/versions/{version}");
        let response =
            send(&simulator, "DELETE", &format!("{path}?api-version=3.0-preview.1"), &Value::Null).await;
        assert_eq!(response.status, 200);
        let date = response.json()["unpublishedDate"].as_str().unwrap().to_owned();
        assert_eq!(date.split_once('.').unwrap().1.len(), "0000000Z".len(), "{date}");
        assert_eq!(seen(&simulator, name, version).await, (others, false, 404));

        assert_eq!(send(&simulator, "GET", &path, &Value::Null).await.status, 404);
        let told = send(&simulator, "GET", &format!("{path}?showUnpublished=true"), &Value::Null).await;
        assert_eq!(told.json()["unpublishedDate"], date);
        assert_eq!(send(&simulator, "DELETE", &path, &Value::Null).await.status, 404);

        let bin = format!("RecycleBin/packages/{path}");
        let state = send(&simulator, "GET", &bin, &Value::Null).await.json();
        assert_eq!(state, json!({ "name": name, "version": version, "unpublishedDate": date }));
        assert_eq!(publish(&simulator, name, version).await, 403, "the number stays taken");
        assert_eq!(send(&simulator, "PATCH", &bin, &json!({ "deleted": false })).await.status, 200);
        assert_eq!(seen(&simulator, name, version).await, (200, true, 303));
        assert_eq!(send(&simulator, "GET", &bin, &Value::Null).await.status, 404);
    }
}

#[tokio::test]
async fn a_permanently_deleted_version_never_comes_back() {
    let simulator = start().await;
    let bin = "RecycleBin/packages/left-pad/versions/1.3.0";
    assert_eq!(send(&simulator, "DELETE", bin, &Value::Null).await.status, 404, "it is not in the bin");
    send(&simulator, "DELETE", "left-pad/versions/1.3.0", &Value::Null).await;
    assert_eq!(send(&simulator, "DELETE", bin, &Value::Null).await.status, 200);
    for (method, body) in
        [("GET", Value::Null), ("PATCH", json!({ "deleted": false })), ("DELETE", Value::Null)]
    {
        assert_eq!(send(&simulator, method, bin, &body).await.status, 404, "{method}");
    }
    assert_eq!(publish(&simulator, "left-pad", "1.3.0").await, 403);
    assert_eq!(seen(&simulator, "left-pad", "1.3.0").await, (200, false, 404));
}

/// Publishes as npm does; the status.
async fn publish(simulator: &Simulator, name: &str, version: &str) -> u16 {
    let document = json!({
        "name": name,
        "versions": { version: { "name": name, "version": version } },
        "_attachments": { format!("{name}-{version}.tgz"): { "data": "AAAA" } },
    });
    let url = format!("{}{name}", simulator.npm_url("contoso/main"));
    let headers = [("Authorization", &*client::basic("any", "bob-pat"))];
    client::send("PUT", &url, &headers, document.to_string().as_bytes()).await.unwrap().status
}

#[tokio::test]
async fn content_is_redirected_to_the_blob_in_every_order_of_segments() {
    let simulator = start().await;
    let rows = [
        ("packages/left-pad/versions/1.3.0/content?api-version=2.0-preview", "left-pad", "1.3.0"),
        ("packages/@contoso/ui/versions/0.1.0/content?api-version=2.0-preview", "@contoso/ui", "0.1.0"),
        ("@contoso/packages/ui/versions/0.1.0/content?api-version=2.0-preview", "@contoso/ui", "0.1.0"),
    ];
    for (path, name, version) in rows {
        let redirect = send_as("alice-pat", &simulator, "GET", path, &Value::Null).await;
        assert_eq!(redirect.status, 303, "{path}");
        let blob = client::get(redirect.header("location").unwrap(), &[]).await.unwrap();
        assert_eq!(blob.body, simulator.npm_file("contoso/main", name, version).0, "{path}");
    }
}

#[tokio::test]
async fn content_of_an_unsaved_version_is_saved_by_who_may() {
    let simulator = start().await;
    let later = feedgate_simulator::NpmPackage::new("later").version("1.0.0", NpmVersion::new().unsaved());
    simulator.add_npm("contoso/main", &later);
    let path = "packages/later/versions/1.0.0/content";
    for (pat, expected) in [("alice-pat", 403), ("bob-pat", 303), ("alice-pat", 303)] {
        assert_eq!(send_as(pat, &simulator, "GET", path, &Value::Null).await.status, expected, "{pat}");
    }
}

#[tokio::test]
async fn readme_and_upstreaming_answer() {
    let simulator = start().await;
    let readme = send(&simulator, "GET", "packages/@contoso/ui/versions/0.1.0/readme", &Value::Null).await;
    assert_eq!(readme.text(), "# @contoso/ui\n\nSimulated package @contoso/ui\n");
    for name in ["left-pad", "@contoso/ui", "not-there-yet"] {
        let path = format!("packages/{name}/upstreaming");
        for word in ["AllowExternalVersions", "Auto"] {
            let body = json!({ "versionsFromExternalUpstreams": word });
            assert_eq!(send(&simulator, "PATCH", &path, &body).await.status, 200, "{path}");
            assert_eq!(send(&simulator, "GET", &path, &Value::Null).await.json(), body, "{path}");
        }
    }
}

#[tokio::test]
async fn a_batch_changes_all_its_versions_or_none() {
    let simulator = start().await;
    let batch = |operation: &str, parameters: Value, versions: &[&str]| {
        let packages: Vec<Value> =
            versions.iter().map(|version| json!({ "id": "left-pad", "version": version })).collect();
        json!({ "operation": operation, "data": parameters, "packages": packages })
    };
    let both = ["1.2.0", "1.3.0"];
    let rows = [
        ("packagesbatch", batch("promote", json!({ "viewId": "prerelease" }), &both), 200, [true, true]),
        ("packagesbatch", batch("deprecate", json!({ "message": "old" }), &both), 200, [true, true]),
        ("packagesbatch", batch("unpublish", Value::Null, &["1.2.0", "9.9.9"]), 404, [true, true]),
        ("packagesbatch", batch("unpublish", Value::Null, &both), 200, [false, false]),
        ("packagesbatch", batch("unpublish", Value::Null, &both), 404, [false, false]),
        ("RecycleBin/PackagesBatch", batch("restoreToFeed", Value::Null, &both), 200, [true, true]),
        ("packagesBatch", batch("delete", Value::Null, &["1.2.0"]), 200, [false, true]),
        ("packagesbatch", batch("restoreToFeed", Value::Null, &["1.2.0"]), 200, [true, true]),
        ("packagesbatch", batch("permanentDelete", Value::Null, &["1.2.0"]), 200, [false, true]),
        ("RecycleBin/PackagesBatch", batch("restoreToFeed", Value::Null, &["1.2.0"]), 404, [false, true]),
        ("packagesbatch", batch("list", json!({ "listed": false }), &["1.3.0"]), 400, [false, true]),
        ("packagesbatch", batch("explode", Value::Null, &["1.3.0"]), 400, [false, true]),
    ];
    for (path, body, status, shown) in rows {
        let response = send(&simulator, "POST", path, &body).await;
        assert_eq!(response.status, status, "{body}: {}", response.text());
        let packument = get(&format!("{}left-pad", simulator.npm_url("contoso/main"))).await.json();
        let found = both.map(|version| packument["versions"].get(version).is_some());
        assert_eq!(found, shown, "{body}");
    }
    let view = get(&format!("{}left-pad", simulator.npm_url("contoso/main@prerelease"))).await.json();
    assert_eq!(view["versions"]["1.3.0"]["deprecated"], "old");
}

#[tokio::test]
async fn every_caller_gets_what_it_may() {
    let simulator = start().await;
    let rows = [
        ("GET", "left-pad/versions/1.3.0", "alice-pat", 200),
        ("GET", "left-pad/versions/1.3.0", "carol-pat", 403),
        ("GET", "left-pad/versions/1.3.0", "dave-pat", 203),
        ("PATCH", "left-pad/versions/1.3.0", "dave-pat", 401),
        ("PATCH", "left-pad/versions/1.3.0", "alice-pat", 403),
        ("DELETE", "left-pad/versions/1.3.0", "alice-pat", 403),
        ("POST", "packagesbatch", "alice-pat", 403),
        ("PATCH", "packages/left-pad/upstreaming", "alice-pat", 403),
        ("DELETE", "RecycleBin/packages/left-pad/versions/1.3.0", "alice-pat", 403),
        ("PATCH", "left-pad/versions/1.3.0", "bob-pat", 400),
        ("PUT", "left-pad/versions/1.3.0", "bob-pat", 405),
        ("GET", "left-pad/versions/9.9.9", "bob-pat", 404),
        ("GET", "left-pad/versions/latest", "bob-pat", 404),
        ("GET", "nobody/versions/1.0.0", "bob-pat", 404),
        ("GET", "left-pad", "bob-pat", 404),
    ];
    for (method, path, pat, expected) in rows {
        let response = send_as(pat, &simulator, method, path, &json!({})).await;
        assert_eq!(response.status, expected, "{method} {path} {pat}");
    }
}

#[tokio::test]
async fn a_change_without_a_version_of_the_rest_is_refused_where_that_is_set() {
    let simulator = contoso().requires_api_version(true).start().await.unwrap();
    let body = json!({ "deprecateMessage": "old" });
    let path = "left-pad/versions/1.3.0";
    assert_eq!(send(&simulator, "PATCH", path, &body).await.status, 400);
    assert_eq!(send(&simulator, "GET", path, &Value::Null).await.status, 200);
    assert_eq!(
        send(&simulator, "PATCH", &format!("{path}?api-version=3.0-preview"), &body).await.status,
        200
    );
}
