//! npm's writing routes: publication of large files, and what the builder can switch on.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::common::{contoso, get, start};

/// A request of bob, who may write.
async fn send(method: &str, url: &str, body: &[u8]) -> Response {
    send_as("bob-pat", method, url, body).await
}

async fn send_as(pat: &str, method: &str, url: &str, body: &[u8]) -> Response {
    client::send(method, url, &[("Authorization", &client::basic("any", pat))], body).await.unwrap()
}

async fn extended() -> Simulator {
    contoso().npm_extensions(true).start().await.unwrap()
}

/// The document as a client asks for it before it changes it.
async fn document(url: &str) -> Value {
    get(&format!("{url}?write=true")).await.json()
}

fn versions(document: &Value) -> Vec<&str> {
    document["versions"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn sixty_megabytes_are_published_and_logged() {
    let package = NpmPackage::new("big").version("1.0.0", NpmVersion::new().size(60_000_000));
    let source = Organisation::new("a").feed(Feed::new("f").npm(package));
    let source = Simulator::builder().organisation(source).start().await.unwrap();
    let (tarball, digests) = source.npm_file("a/f", "big", "1.0.0");
    let simulator = start().await;
    let url = simulator.npm_url("contoso/main") + "big";
    let body = json!({
        "name": "big",
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": { "name": "big", "version": "1.0.0" } },
        "_attachments": { "big-1.0.0.tgz": { "data": STANDARD.encode(&tarball), "length": tarball.len() } },
    })
    .to_string();
    assert_eq!(send("PUT", &url, body.as_bytes()).await.status, 200);
    assert_eq!(simulator.requests()[0].body_length, body.len() as u64);
    let packument = get(&url).await.json();
    assert_eq!(packument["versions"]["1.0.0"]["dist"]["shasum"], digests.sha1);
}

#[tokio::test]
async fn the_service_itself_has_none_of_these_routes() {
    let simulator = start().await;
    let base = simulator.npm_url("contoso/main");
    let rows = [
        ("GET", "-/package/left-pad/dist-tags", 404),
        ("PUT", "-/package/left-pad/dist-tags/next", 404),
        ("DELETE", "left-pad/-rev/1-0", 404),
        ("PUT", "left-pad/-rev/1-0", 404),
        ("DELETE", "left-pad/-/left-pad-1.3.0.tgz/-rev/1-0", 404),
        ("DELETE", "left-pad", 405),
        ("POST", "-/npm/v1/security/advisories/bulk", 404),
        ("POST", "-/npm/v1/security/audits/quick", 404),
        ("POST", "-/npm/v1/security/audits", 404),
        ("GET", "-/ping", 404),
        ("GET", "-/whoami", 404),
        ("GET", "-/v1/search?text=left", 404),
        ("GET", "-/all", 404),
        ("GET", "left-pad/1.3.0", 404),
    ];
    for extensions in [false, true] {
        let simulator = contoso().npm_extensions(extensions).start().await.unwrap();
        let base = simulator.npm_url("contoso/main");
        for (method, path, expected) in rows.iter().filter(|(_, path, _)| !extensions || is_missing(path)) {
            assert_eq!(
                send(method, &format!("{base}{path}"), b"{}").await.status,
                *expected,
                "{method} {path}"
            );
        }
    }
    assert_eq!(document(&format!("{base}left-pad")).await.get("_rev"), None);
}

/// Whether the route is missing whatever the builder says.
fn is_missing(path: &str) -> bool {
    ["-/ping", "-/whoami", "-/v1", "-/all", "-/npm", "left-pad/1.3.0"].iter().any(|own| path.starts_with(own))
}

#[tokio::test]
async fn a_changed_document_deprecates_versions_and_ends_it() {
    let simulator = extended().await;
    let url = simulator.npm_url("contoso/main") + "left-pad";
    for message in ["use String.padStart", ""] {
        let mut changed = document(&url).await;
        changed["versions"]["1.2.0"]["deprecated"] = json!(message);
        let before = changed["_rev"].clone();
        let response = send("PUT", &url, changed.to_string().as_bytes()).await;
        assert_eq!(response.status, 201, "{}", response.text());
        let after = document(&url).await;
        let expected = (!message.is_empty()).then(|| json!(message));
        assert_eq!(after["versions"]["1.2.0"].get("deprecated"), expected.as_ref());
        assert_eq!(after["versions"]["2.0.0-rc.1"]["deprecated"], "too early");
        assert_eq!(after["dist-tags"], json!({ "latest": "1.3.0" }));
        assert_ne!(after["_rev"], before);
        assert_eq!(after["_rev"], response.json()["rev"]);
        assert_eq!(send("PUT", &url, changed.to_string().as_bytes()).await.status, 409, "it is stale now");
    }
}

#[tokio::test]
async fn one_version_is_unpublished_in_three_steps() {
    let simulator = extended().await;
    let base = simulator.npm_url("contoso/main");
    let url = format!("{base}left-pad");
    let mut changed = document(&url).await;
    changed["versions"].as_object_mut().unwrap().remove("1.3.0");
    changed["dist-tags"]["latest"] = json!("2.0.0-rc.1");
    let revision = changed["_rev"].as_str().unwrap();
    let response = send("PUT", &format!("{url}/-rev/{revision}"), changed.to_string().as_bytes()).await;
    assert_eq!(response.status, 201, "{}", response.text());
    let after = document(&url).await;
    assert_eq!(versions(&after), ["1.2.0", "2.0.0-rc.1"]);
    assert_eq!(after["dist-tags"]["latest"], "2.0.0-rc.1");
    let file = format!("{url}/-/left-pad-1.3.0.tgz");
    assert_eq!(get(&file).await.status, 404);
    let revision = after["_rev"].as_str().unwrap();
    assert_eq!(send("DELETE", &format!("{file}/-rev/1-0"), b"").await.status, 409);
    assert_eq!(send("DELETE", &format!("{file}/-rev/{revision}"), b"").await.status, 200);
    assert_eq!(versions(&document(&url).await), ["1.2.0", "2.0.0-rc.1"]);
}

#[tokio::test]
async fn a_whole_package_is_unpublished_by_its_revision() {
    let simulator = extended().await;
    let url = simulator.npm_url("contoso/main") + "@contoso%2fui";
    let revision = document(&url).await["_rev"].as_str().unwrap().to_owned();
    let rows = [
        ("bob-pat", "1-0".to_owned(), 409),
        ("alice-pat", revision.clone(), 403),
        ("wrong", revision.clone(), 401),
        ("bob-pat", revision.clone(), 200),
        ("bob-pat", revision, 404),
    ];
    for (pat, revision, expected) in rows {
        let response = send_as(pat, "DELETE", &format!("{url}/-rev/{revision}"), b"").await;
        assert_eq!(response.status, expected, "{pat} {revision}");
    }
    assert_eq!(get(&url).await.status, 404);
}

#[tokio::test]
async fn dist_tags_are_read_set_and_removed() {
    let simulator = extended().await;
    let url = simulator.npm_url("contoso/main") + "-/package/left-pad/dist-tags";
    assert_eq!(get(&url).await.json(), json!({ "latest": "1.3.0" }));
    let rows = [
        ("bob-pat", "PUT", "next", "\"2.0.0-rc.1\"", 201),
        ("bob-pat", "PUT", "next", "\"9.9.9\"", 404),
        ("bob-pat", "PUT", "next", "not JSON", 400),
        ("alice-pat", "PUT", "latest", "\"1.2.0\"", 403),
        ("bob-pat", "PUT", "old", "\"1.2.0\"", 201),
        ("bob-pat", "DELETE", "old", "", 200),
        ("bob-pat", "DELETE", "old", "", 404),
        ("bob-pat", "DELETE", "latest", "", 400),
        ("bob-pat", "POST", "next", "\"1.2.0\"", 405),
    ];
    for (pat, method, tag, body, expected) in rows {
        let response = send_as(pat, method, &format!("{url}/{tag}"), body.as_bytes()).await;
        assert_eq!(response.status, expected, "{pat} {method} {tag} {body}");
    }
    assert_eq!(get(&url).await.json(), json!({ "latest": "1.3.0", "next": "2.0.0-rc.1" }));
    assert_eq!(get(&url.replace("left-pad", "nothing")).await.status, 404);
    let scoped = url.replace("left-pad", "@contoso%2fui");
    assert_eq!(get(&scoped).await.json(), json!({ "latest": "0.1.0" }));
}

#[tokio::test]
async fn audits_answer_with_registered_advisories() {
    let simulator = contoso().audit(true).start().await.unwrap();
    simulator.advise("left-pad", ">=1.0.0 <1.3.0", "pads the wrong side");
    let base = simulator.npm_url("contoso/main") + "-/npm/v1/security/";
    let post = async |path: &str, question: Value, gzip: bool| {
        let credential = client::basic("any", "alice-pat");
        let mut headers = vec![("Authorization", credential.as_str())];
        let mut body = question.to_string().into_bytes();
        if gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body).unwrap();
            body = encoder.finish().unwrap();
            headers.push(("Content-Encoding", "gzip"));
        }
        client::send("POST", &format!("{base}{path}"), &headers, &body).await.unwrap()
    };
    for gzip in [false, true] {
        let question = json!({ "left-pad": ["1.2.0"], "@contoso/ui": ["0.1.0"] });
        let answer = post("advisories/bulk", question, gzip).await.json();
        assert_eq!(answer["left-pad"][0]["title"], "pads the wrong side", "{answer}");
        assert_eq!(answer["left-pad"][0]["vulnerable_versions"], ">=1.0.0 <1.3.0");
        assert_eq!(answer.as_object().unwrap().len(), 1);
        assert_eq!(post("advisories/bulk", json!({ "left-pad": ["1.3.0"] }), gzip).await.json(), json!({}));
    }
    for path in ["audits/quick", "audits"] {
        let tree = json!({ "dependencies": { "left-pad": { "version": "1.2.0" } } });
        let report = post(path, tree, false).await.json();
        assert_eq!(report["metadata"]["vulnerabilities"]["high"], 1, "{path}: {report}");
    }
    assert_eq!(post("advisories/bulk", json!([1]), false).await.status, 400);
    assert_eq!(get(&format!("{base}advisories/bulk")).await.status, 405);
}
