//! What listings say of packages' content: it spares questions, and never wins against the bytes.

use feedgate::app::Gate;
use serde_json::{Value, json};

use crate::scripted::{Act, Reply, Seen, Service, answer, ask, config, get, json as page, start, vso};

const FIRST: &[u8] = b"the bytes of the first package";
const OTHER: &[u8] = b"the bytes of another package";
const LISTING: &str = "/contoso/_apis/packaging/Feeds/main/packages?includeAllVersions=true";
const AUTHORIZATION: &str = "Authorization: Basic YW55OnNlY3JldA==\r\n";

struct Stage {
    service: Service,
    gate: Gate,
    _folder: tempfile::TempDir,
}

// === impl Stage ===

impl Stage {
    /// A service that redirects for every tarball to the bytes of `content`, and answers listings with `listing`.
    async fn new(content: &'static [u8], listing: Value) -> Self {
        let service = Service::start(|_| Act::Silence).await;
        let url = service.blob_url(content);
        service.play(move |seen: &Seen| {
            if seen.path().contains(".blob") {
                answer("200 OK", "", content)
            } else if seen.path().contains("/-/a-") {
                answer("303 See Other", &format!("Location: {url}\r\n"), "")
            } else if seen.path().to_ascii_lowercase().contains("/packages") {
                page(&listing.to_string())
            } else if seen.line.starts_with("DELETE") {
                answer("200 OK", "", "")
            } else {
                page(r#"{"version":"3.0.0","resources":[]}"#)
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let gate = start(config(service.address, folder.path())).await;
        Self { service, gate, _folder: folder }
    }

    async fn get(&self, path: &str) -> Reply {
        get(self.gate.address(), path, AUTHORIZATION).await
    }

    async fn contradictions(&self) -> String {
        let text = get(self.gate.admin_address(), "/metrics", "").await.text();
        let line = text.lines().find(|line| line.contains("integrity_failures_total{stage=\"listing\"}"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    }
}

fn tarball(feed: &str, version: &str) -> String {
    format!("/contoso/_packaging/{feed}/npm/registry/a/-/a-{version}.tgz")
}

fn listing(version: &str, content: &[u8]) -> Value {
    let versions = json!([{ "id": "x", "version": version, "storageId": vso(content) }]);
    json!({ "count": 1, "value": [{ "name": "a", "normalizedName": "a", "protocolType": "Npm", "versions": versions }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_bytes_are_here_needs_no_question_once_a_listing_named_them() {
    let stage = Stage::new(FIRST, listing("2.0.0", FIRST)).await;
    assert_eq!(stage.get(&tarball("main", "1.0.0")).await.body, FIRST);
    assert_eq!(stage.get(LISTING).await.status, 200);
    let reply = stage.get(&tarball("main", "2.0.0")).await;
    assert_eq!((reply.body.as_slice(), reply.header("x-cache")), (FIRST, Some("HIT")));
    assert_eq!(stage.service.asked("a-2.0.0.tgz").len(), 0);
    // A view may lack the version, so it is asked about.
    assert_eq!(stage.get(&tarball("main@release", "2.0.0")).await.status, 200);
    assert_eq!(stage.service.asked("a-2.0.0.tgz").len(), 1);
    assert_eq!(stage.contradictions().await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_feed_gets_nothing_by_a_listing() {
    let stage = Stage::new(FIRST, listing("2.0.0", FIRST)).await;
    stage.get(&tarball("main", "1.0.0")).await;
    stage.get(LISTING).await;
    stage.service.play(|_| answer("403 Forbidden", "", "no"));
    let other =
        get(stage.gate.address(), &tarball("main", "2.0.0"), "Authorization: Basic b3RoZXI6eA==\r\n").await;
    assert_eq!(other.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_listing_and_the_service_name_different_content_the_service_wins_and_it_is_counted() {
    let stage = Stage::new(FIRST, listing("2.0.0", OTHER)).await;
    assert_eq!(stage.get(LISTING).await.status, 200);
    let reply = stage.get(&tarball("main", "2.0.0")).await;
    assert_eq!(reply.body, FIRST);
    // The second answer is from the store, so the first is concluded.
    while stage.get(&tarball("main", "2.0.0")).await.header("age").is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.contradictions().await, "1");
    let asked = stage.service.asked("a-2.0.0.tgz").len();
    assert_eq!(stage.get(&tarball("main", "2.0.0")).await.body, FIRST);
    assert_eq!(
        (stage.service.asked("a-2.0.0.tgz").len(), stage.contradictions().await.as_str()),
        (asked, "1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_voids_what_a_listing_said() {
    let stage = Stage::new(FIRST, listing("2.0.0", FIRST)).await;
    stage.get(&tarball("main", "1.0.0")).await;
    stage.get(LISTING).await;
    let path = "/contoso/_apis/packaging/feeds/main/npm/a/versions/2.0.0?api-version=7.1-preview.1";
    let delete =
        format!("DELETE {path} HTTP/1.1\r\nHost: gate.test\r\n{AUTHORIZATION}Content-Length: 0\r\n\r\n");
    assert_eq!(ask(stage.gate.address(), &delete).await.status, 200);
    assert_eq!(stage.get(&tarball("main", "2.0.0")).await.status, 200);
    assert_eq!(stage.service.asked("a-2.0.0.tgz").len(), 1);
}
