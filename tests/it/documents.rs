//! Metadata through the gate: rewriting, forms, encodings, entity tags.

use feedgate_simulator::{Simulator, client::Response};
use serde_json::Value;

use crate::{
    support::{NPM, NUGET, Scene},
    writes::{WRITER, publication, writable},
};

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(members) => members.values().for_each(|value| strings(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Every absolute URL of the service in an answer would be a way past the gate.
fn assert_only_gate_urls(scene: &Scene, response: &Response) -> usize {
    let value: Value = serde_json::from_slice(&response.decoded().unwrap()).unwrap();
    let mut texts = Vec::new();
    strings(&value, &mut texts);
    let gate = format!("http://{}/", scene.gate().address());
    let service = [scene.simulator.pkgs_url(), scene.simulator.feeds_url()];
    for text in &texts {
        assert!(!service.iter().any(|url| text.starts_with(url.as_str())), "{text}");
    }
    texts.iter().filter(|text| text.starts_with(&gate)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_url_in_every_document_points_to_the_gate() {
    let scene = Scene::new().await;
    let index = scene.get(&format!("{NUGET}/index.json")).await;
    assert!(assert_only_gate_urls(&scene, &index) >= 6);
    for path in [
        format!("{NPM}/left-pad"),
        format!("{NPM}/@scope%2fwide"),
        format!("{NUGET}/registrations2-semver2/contoso.utility/index.json"),
        format!("{NUGET}/registrations2/contoso.utility/1.0.0.json"),
        format!("{NUGET}/query2/?q=contoso&skip=0&take=26&prerelease=false&semVerLevel=2.0.0"),
    ] {
        let response = scene.get(&path).await;
        assert_eq!((response.status, response.complete), (200, true), "{path}: {}", response.text());
        assert!(assert_only_gate_urls(&scene, &response) >= 1, "{path}: {}", response.text());
    }
    assert_eq!(scene.metric(&["feedgate_leaked_urls_total"]).await.to_bits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_is_a_hit_and_its_tag_gives_304() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    let miss = scene.get(&path).await;
    assert_eq!(miss.header("x-cache"), Some("MISS"));
    let asked = scene.simulator.requests().len();
    let hit = scene.get(&path).await;
    assert_eq!((hit.header("x-cache"), hit.header("age").is_some()), (Some("HIT"), true));
    assert!(hit.header("cache-status").unwrap().starts_with("feedgate; hit; ttl="));
    assert_eq!(miss.body, hit.body);
    let tag = hit.header("etag").unwrap();
    let lines = [("If-None-Match", "\"other\""), ("If-None-Match", tag)];
    assert_eq!(scene.get_with(&path, &lines).await.status, 304, "a list in two lines");
    let unchanged = scene.get_with(&path, &[("If-None-Match", tag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("etag"), Some(tag));
    assert_eq!(scene.simulator.requests().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_and_encodings_have_tags_of_their_own() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    let abbreviated = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";
    let mut tags = std::collections::BTreeSet::new();
    for accept in ["application/json", abbreviated] {
        for encoding in ["identity", "gzip"] {
            let response = scene.get_with(&path, &[("Accept", accept), ("Accept-Encoding", encoding)]).await;
            let plain: Value = serde_json::from_slice(&response.decoded().unwrap()).unwrap();
            assert_eq!(plain["name"], "left-pad");
            let is_install = response.header("content-type").unwrap().contains("install-v1");
            assert_eq!(is_install, accept == abbreviated);
            assert_eq!(response.header("vary"), Some("Accept, Accept-Encoding"));
            tags.insert((
                response.header("etag").unwrap().to_owned(),
                response.header("content-encoding").is_some(),
            ));
        }
    }
    assert!(tags.len() >= 2, "{tags:?}");
    assert_eq!(scene.simulator.count(|request| request.path.ends_with("/left-pad")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_zstd_gets_it() {
    let scene = Scene::new().await;
    let path = format!("{NUGET}/index.json");
    let plain = scene.get_with(&path, &[("Accept-Encoding", "identity")]).await;
    let packed = scene.get_with(&path, &[("Accept-Encoding", "zstd,gzip,deflate")]).await;
    assert_eq!(packed.header("content-encoding"), Some("zstd"));
    assert_eq!(zstd::stream::decode_all(&packed.body[..]).unwrap(), plain.body);
    assert_ne!(packed.header("etag"), plain.header("etag"));
    let tag = packed.header("etag").unwrap();
    for (encoding, status) in [("zstd,gzip,deflate", 304), ("gzip", 200)] {
        let again = scene.get_with(&path, &[("Accept-Encoding", encoding), ("If-None-Match", tag)]).await;
        assert_eq!(again.status, status, "{encoding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_headers_of_get_and_no_body() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad");
    let get = scene.get(&path).await;
    let head = scene.send_as("HEAD", Some(crate::support::PAT), &path, &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-length", "etag", "content-type"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(scene.simulator.count(|request| request.method == "HEAD"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_leave_their_place_are_refused_with_the_rule() {
    let scene = Scene::new().await;
    for path in ["contoso/../x", "contoso/%2e%2e/x", "contoso/a%252fb", "contoso/%ff", "contoso/a%00b"] {
        let response = scene.get(path).await;
        assert_eq!(response.status, 400, "{path}");
        let problem = response.json();
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert!(problem["code"].as_str().unwrap().starts_with("path_"), "{problem}");
        assert_eq!(problem["requestId"].as_str(), response.header("x-request-id"));
    }
    assert_eq!(scene.simulator.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_package_is_the_services_404() {
    let scene = Scene::new().await;
    let direct = {
        let url = format!("{}nothing", scene.simulator.npm_url("contoso/main"));
        let credential = feedgate_simulator::client::basic("any", crate::support::PAT);
        feedgate_simulator::client::get(&url, &[("Authorization", &credential)]).await.unwrap()
    };
    let response = scene.get(&format!("{NPM}/nothing")).await;
    assert_eq!((response.status, response.reason.is_empty()), (404, false));
    assert_eq!(response.json()["typeKey"], direct.json()["typeKey"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_asked_for_once_by_each_caller_until_it_is_there() {
    let scene = Scene::with(Simulator::builder().organisation(writable()).start().await.unwrap(), "");
    let path = format!("{NPM}/fresh");
    let asked =
        || scene.simulator.count(|request| request.method == "GET" && request.path.ends_with("/fresh"));
    for _ in 0..5 {
        assert_eq!(scene.get(&path).await.status, 404);
    }
    assert_eq!(asked(), 1);
    assert_eq!(scene.get_as(Some(crate::support::OTHER_PAT), &path, &[]).await.status, 404);
    assert_eq!(asked(), 2, "another caller may see more");
    assert_eq!(scene.get_with(&path, &[("Cache-Control", "no-cache")]).await.status, 404);
    assert_eq!(asked(), 3);
    let credential = feedgate_simulator::client::basic("any", WRITER);
    let headers = [("Authorization", credential.as_str()), ("Content-Type", "application/json")];
    let body = publication("fresh", "1.0.0");
    let published =
        feedgate_simulator::client::send("PUT", &scene.url(&path), &headers, &body).await.unwrap();
    assert_eq!(published.status, 200, "{}", published.text());
    assert_eq!(scene.get(&path).await.status, 200);
}
