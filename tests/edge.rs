//! The gate as its clients see it on the wire, in front of a service that follows a script.
#![allow(clippy::unwrap_used, clippy::case_sensitive_file_extension_comparisons, reason = "a test")]

#[path = "edge/forward.rs"]
mod forward;
#[path = "edge/h2.rs"]
mod h2_abuse;
#[path = "edge/hostile.rs"]
mod hostile;
#[path = "edge/listeners.rs"]
mod listeners;
#[path = "edge/oddities.rs"]
mod oddities;
#[path = "edge/outgoing.rs"]
mod outgoing;
mod support;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use feedgate::{app::Gate, clock::Clock, config::Config};
use support::{Act, Client, Reply, Seen, Service, answer, ask, config, get, json, start, start_at, stop};
use tokio::sync::Notify;

const A: &str = "Authorization: Basic YTph\r\n";
const B: &str = "Authorization: Basic YTpi\r\n";
const NPM: &str = "/contoso/_packaging/main/npm/registry";
const PACKUMENT: &str = "/contoso/_packaging/main/npm/registry/left-pad";
const TARBALL: &str = "/contoso/_packaging/main/npm/registry/left-pad/-/left-pad-1.3.0.tgz";
const NUPKG: &str = "/contoso/_packaging/main/nuget/v3/flat2/a/1.0.0/a.1.0.0.nupkg";
const DOCUMENT: &str = r#"{"name":"left-pad","dist-tags":{"latest":"1.3.0"},"versions":{}}"#;
const INDEX: &str = r#"{"version":"3.0.0","resources":[]}"#;

/// A gate in front of a scripted service.
struct Scene {
    service: Service,
    gate: Gate,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self::with(script, |_| {}).await
    }

    async fn with(
        script: impl FnMut(&Seen) -> Act + Send + 'static,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let service = Service::start(script).await;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let mut config = config(service.address, folder.path());
        change(&mut config);
        let gate = start_at(config, clock.clone()).await;
        Self { service, gate, clock, folder }
    }

    async fn get(&self, path: &str, headers: &str) -> Reply {
        get(self.gate.address(), path, headers).await
    }

    async fn client(&self) -> Client {
        Client::connect(self.gate.address()).await
    }

    fn later(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(60 * minutes));
    }

    async fn end(self) {
        stop(self.gate).await;
    }
}

/// A service where everything is fine: documents, and `body` as every package, redirected to its blob.
fn fine(
    address: &Arc<std::sync::OnceLock<String>>,
    body: &'static [u8],
) -> impl FnMut(&Seen) -> Act + Send + 'static {
    let blob = address.clone();
    move |seen| match seen.path() {
        path if path.starts_with("/b-") => {
            answer("200 OK", "Content-Type: application/octet-stream\r\n", body)
        }
        path if path.ends_with(".tgz") || path.ends_with(".nupkg") => to(blob.get().unwrap()),
        path if path.ends_with("/v3/index.json") => json(INDEX),
        _ => json(DOCUMENT),
    }
}

fn to(url: &str) -> Act {
    answer("303 See Other", &format!("Location: {url}\r\n"), "")
}

fn by(seen: &Seen, caller: &str) -> bool {
    seen.header("authorization").is_some_and(|value| caller.contains(value))
}

fn publish() -> String {
    format!("PUT {PACKUMENT} HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{{}}")
}

fn unauthorized() -> Act {
    answer("401 Unauthorized", "WWW-Authenticate: Bearer\r\nWWW-Authenticate: Basic realm=\"x\"\r\n", "no")
}

// === access ===

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_refused_for_load_costs_nobody_the_permission() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    scene.service.play(|_| answer("503 Service Unavailable", "", "busy"));
    assert_eq!(scene.get(TARBALL, A).await.status, 503);
    scene.later(10);
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_asks_for_a_missing_package_at_once_is_told_404() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    let event = Arc::new(Notify::new());
    let wait = event.clone();
    scene.service.play(move |_| Act::After(wait.clone(), Box::new(answer("404 Not Found", "", "none"))));
    let address = scene.gate.address();
    let asking: Vec<_> = (0..20).map(|_| tokio::spawn(get(address, TARBALL, A))).collect();
    let rest = tokio::spawn(async move {
        loop {
            event.notify_one();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for task in asking {
        assert_eq!(task.await.unwrap().status, 404);
    }
    rest.abort();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_permission_needs_an_outage_of_that_feed_and_not_any_failure() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    scene.later(10);
    scene
        .service
        .play(|seen| if seen.path().contains("weird") { answer("500 Oops", "", "") } else { unauthorized() });
    assert_eq!(scene.get("/contoso/_apis/weird", A).await.status, 500);
    assert_eq!(scene.get(PACKUMENT, A).await.status, 401);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_permission_does_not_join_the_fetch_of_another() {
    let expiring = |config: &mut Config| {
        config.metadata.packument.stale_while_revalidate = Duration::ZERO;
        config.metadata.packument.stale_if_error = Duration::ZERO;
    };
    let scene = Scene::with(|_| json(DOCUMENT), expiring).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    scene.later(10);
    assert_eq!(scene.get(&format!("{NPM}/other"), B).await.status, 200);
    let event = Arc::new(Notify::new());
    let wait = event.clone();
    scene.service.play(move |seen| match (by(seen, A), seen.path().ends_with("index.json")) {
        (true, true) => answer("500 Oops", "", ""),
        (true, false) => unauthorized(),
        (false, _) => Act::After(wait.clone(), Box::new(json(r#"{"name":"left-pad","fresh":true}"#))),
    });
    let address = scene.gate.address();
    let other = tokio::spawn(get(address, PACKUMENT, B));
    scene
        .service
        .until(|asked| asked.iter().filter(|seen| seen.path().ends_with("left-pad")).count() == 2)
        .await;
    let lapsed = tokio::spawn(get(address, PACKUMENT, A));
    let own = |asked: &[Seen]| asked.iter().filter(|seen| seen.path().ends_with("left-pad")).count() == 3;
    // A gate that joins the two never asks for the third time, and is found out below.
    let _ = tokio::time::timeout(Duration::from_secs(1), scene.service.until(own)).await;
    event.notify_one();
    assert!(other.await.unwrap().text().contains("fresh"));
    assert_eq!(lapsed.await.unwrap().status, 401);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_reveals_nothing_to_a_caller_without_the_right() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    let etag = scene.get(PACKUMENT, A).await.header("etag").unwrap().to_owned();
    let condition = format!("If-None-Match: {etag}\r\n");
    assert_eq!(scene.get(PACKUMENT, &format!("{A}{condition}")).await.status, 304);
    scene.service.play(|_| unauthorized());
    for headers in [format!("{B}{condition}"), condition] {
        let reply = scene.get(PACKUMENT, &headers).await;
        assert_eq!((reply.status, reply.header("etag")), (401, None));
        assert_eq!(reply.all("www-authenticate").len(), 2);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_for_verdicts_the_service_is_asked_every_time() {
    let scene = Scene::with(|_| json(DOCUMENT), |config| config.access.verdict_ttl = Duration::ZERO).await;
    for _ in 0..3 {
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
        scene.clock.advance(Duration::from_millis(10));
    }
    scene.service.play(|_| unauthorized());
    assert_eq!(scene.get(PACKUMENT, A).await.status, 401);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_a_word_leaves_the_stored_copy_to_a_lapsed_permission() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    scene.later(10);
    scene.service.play(|seen| {
        if seen.path().ends_with("index.json") {
            answer("404 Not Found", "", "none")
        } else {
            answer("500 Oops", "", "")
        }
    });
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    scene.end().await;
}

// === failure ===

async fn package_scene(body: &'static [u8]) -> Scene {
    let url = Arc::new(std::sync::OnceLock::new());
    let scene = Scene::new(fine(&url, body)).await;
    url.set(scene.service.blob_url(body)).unwrap();
    scene
}

fn big() -> &'static [u8] {
    Box::leak(
        (0..3_000_000_u32).flat_map(u32::to_le_bytes).step_by(3).collect::<Vec<u8>>().into_boxed_slice(),
    )
}

fn check_bad(name: &str, reply: &Reply, body: &[u8]) {
    assert!(
        reply.status >= 400 || !reply.whole || reply.body == body,
        "{name}: {} {}",
        reply.status,
        reply.body.len()
    );
    assert!(reply.status >= 400 || !reply.whole, "{name}: {} and whole", reply.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_download_is_never_whole_nor_stored_and_the_next_request_succeeds() {
    for body in [&b"PK small package"[..], big()] {
        let scene = package_scene(body).await;
        let url = scene.service.blob_url(body);
        let mut wrong = body.to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        let head =
            |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        let cut = |at: usize| [head(body.len()), body[..at].to_vec()].concat();
        let chunked =
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n".to_vec()].concat();
        let acts = [
            ("refused", answer("403 Forbidden", "", "expired")),
            ("error", answer("500 Oops", "", "x")),
            ("wrong bytes", answer("200 OK", "", &wrong)),
            ("html", answer("200 OK", "Content-Type: text/html\r\n", "<html>")),
            ("short", Act::Close(cut(body.len() / 2))),
            ("short by one", Act::Close(cut(body.len() - 1))),
            ("no bytes", Act::Close(cut(0))),
            ("torn chunks", Act::Close(chunked)),
            ("garbage", Act::Close(b"\x16\x03\x01 not http at all\r\n\r\n".to_vec())),
            ("reset", Act::Close(Vec::new())),
            ("too long", Act::Close([head(body.len() + 1), body.to_vec(), b"!".to_vec()].concat())),
            ("too short", answer("200 OK", "", &body[1..])),
            ("another status", answer("204 No Content", "", "")),
        ];
        for (name, act) in acts {
            let (url, bad) = (url.clone(), act.clone());
            scene.service.play(move |seen| match seen.path() {
                path if path.starts_with("/b-") => bad.clone(),
                path if path.ends_with(".nupkg") => to(&url),
                _ => json(INDEX),
            });
            check_bad(name, &scene.get(NUPKG, A).await, body);
        }
        let blob = Arc::new(std::sync::OnceLock::from(url));
        scene.service.play(fine(&blob, body));
        let reply = scene.get(NUPKG, A).await;
        assert_eq!((reply.status, reply.whole, reply.body == body), (200, true, true));
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_is_never_shown_nor_stored_and_a_stored_copy_stands_in() {
    let bad = || {
        [
            ("torn", Act::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"name\"".to_vec())),
            ("html", answer("200 OK", "Content-Type: text/html\r\n", "<html>")),
            ("html as json", answer("200 OK", "Content-Type: application/json\r\n", "<html>")),
            ("sign-in", answer("203 Non-Authoritative", "Content-Type: text/html\r\n", "<html>")),
            ("sign-in hop", to("https://login.microsoftonline.com/common")),
            ("half json", json("{\"name\":\"left-pad\"")),
            ("empty", json("")),
            (
                "not gzip",
                answer("200 OK", "Content-Encoding: gzip\r\nContent-Type: application/json\r\n", "{}"),
            ),
            ("garbage", Act::Close(b"nonsense\r\n\r\n".to_vec())),
            ("reset", Act::Close(Vec::new())),
            ("elsewhere", to("https://evil.example/x")),
            ("nowhere", answer("302 Found", "", "")),
            ("busy", answer("429 Too Many", "Retry-After: 3\r\n", "")),
            (
                "no length, and cut",
                Act::Close(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":{}".to_vec()),
            ),
        ]
    };
    for (name, act) in bad() {
        let scene = Scene::with(move |_| act.clone(), |config| config.outage.cooldown = Duration::ZERO).await;
        let cold = scene.get(PACKUMENT, A).await;
        assert!(cold.status >= 400 && cold.whole, "{name}: {}", cold.status);
        scene.service.play(|_| json(DOCUMENT));
        scene.later(1);
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200, "{name}");
        scene.end().await;
    }
    let scene = Scene::with(|_| json(DOCUMENT), |config| config.outage.cooldown = Duration::ZERO).await;
    let first = scene.get(PACKUMENT, A).await;
    for (name, act) in bad().into_iter().filter(|(name, _)| !name.starts_with("sign-in") && *name != "html") {
        scene.service.play(move |_| act.clone());
        scene.later(10);
        let stale = scene.get(PACKUMENT, A).await;
        assert_eq!((stale.status, &stale.body), (200, &first.body), "{name}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_the_service_ends_in_an_answer() {
    let quick = |config: &mut Config| {
        config.upstream.first_byte_timeout = Duration::from_millis(300);
        config.upstream.idle_timeout = Duration::from_millis(300);
        config.outage.failures = 1_000_000;
    };
    let scene = Scene::with(|_| Act::Silence, quick).await;
    for path in [PACKUMENT, TARBALL, NUPKG, "/contoso/_apis/x"] {
        for caller in [A, ""] {
            // Without a credential of whom nothing is known: show one (NuGet asks so first).
            let expected = if caller.is_empty() && !path.contains("_apis") { 401 } else { 504 };
            assert_eq!(scene.get(path, caller).await.status, expected, "{path} {caller}");
        }
    }
    for part in ["left-pad-1.3.0.tgz", "a.1.0.0.nupkg"] {
        // Callers of whom nothing is known ask first whether they may read at all.
        assert!(scene.service.asked(part).len() <= 1, "{part}: nobody waits for it twice");
    }
    assert_eq!(ask(scene.gate.address(), &publish()).await.status, 504);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_gone_is_told_as_502_and_its_return_is_noticed() {
    let mut scene = Scene::with(|_| json(DOCUMENT), |config| config.outage.failures = 1_000_000).await;
    scene.service.vanish().await;
    for path in [PACKUMENT, TARBALL, NUPKG, "/contoso/_apis/x"] {
        assert_eq!(scene.get(path, A).await.status, 502, "{path}");
    }
    let put = ask(scene.gate.address(), &publish()).await;
    assert_eq!((put.status, put.text().contains("upstream_unavailable")), (502, true));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_download_that_fails_its_check_is_never_whole() {
    let body = big();
    let scene = package_scene(body).await;
    let url = scene.service.blob_url(body);
    let mut wrong = body.to_vec();
    *wrong.first_mut().unwrap() ^= 1;
    scene.service.play(move |seen| match seen.path() {
        path if path.starts_with("/b-") => answer("200 OK", "", &wrong),
        path if path.ends_with(".nupkg") => to(&url),
        _ => json(INDEX),
    });
    for range in ["bytes=0-9", "bytes=0-9,20-29", "bytes=-5"] {
        let reply = scene.get(NUPKG, &format!("{A}Range: {range}\r\n")).await;
        check_bad(range, &reply, b"");
        assert_eq!(reply.status, 502, "{range}: the head can still say so");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_end_the_download_for_the_others() {
    let body = big();
    let scene = package_scene(body).await;
    let (url, event) = (scene.service.blob_url(body), Arc::new(Notify::new()));
    let wait = event.clone();
    scene.service.play(move |seen| match seen.path() {
        path if path.starts_with("/b-") => Act::After(wait.clone(), Box::new(answer("200 OK", "", body))),
        path if path.ends_with(".nupkg") => to(&url),
        _ => json(INDEX),
    });
    let mut leaver = scene.client().await;
    leaver.send(format!("GET {NUPKG} HTTP/1.1\r\nHost: g\r\n{A}\r\n")).await;
    scene.service.until_asked("/b-").await;
    let other = tokio::spawn(get(scene.gate.address(), NUPKG, A));
    drop(leaver);
    event.notify_one();
    let reply = other.await.unwrap();
    assert_eq!((reply.status, reply.whole, reply.body == body), (200, true, true));
    assert_eq!(scene.service.asked("/b-").len(), 1);
    scene.end().await;
}

// === HTTP ===

#[tokio::test(flavor = "multi_thread")]
async fn ranges_conditions_and_heads_follow_the_standard() {
    let body: &[u8] = b"0123456789";
    let scene = package_scene(body).await;
    let whole = scene.get(NUPKG, A).await;
    assert_eq!((whole.status, &whole.body[..]), (200, body));
    let etag = whole.header("etag").unwrap();
    let rows: [(&str, u16, &[u8], Option<&str>); 8] = [
        ("Range: bytes=2-4", 206, b"234", Some("bytes 2-4/10")),
        ("Range: bytes=-3", 206, b"789", Some("bytes 7-9/10")),
        ("Range: bytes=10-", 416, b"", Some("bytes */10")),
        ("Range: lines=1-2", 200, body, None),
        ("Range: bytes=2-4\r\nIf-Range: \"other\"", 200, body, None),
        (&format!("Range: bytes=2-4\r\nIf-Range: {etag}"), 206, b"234", Some("bytes 2-4/10")),
        (&format!("If-None-Match: {etag}"), 304, b"", None),
        ("If-None-Match: \"other\"", 200, body, None),
    ];
    let mut client = scene.client().await;
    for (headers, status, expected, range) in rows {
        client.send(format!("GET {NUPKG} HTTP/1.1\r\nHost: g\r\n{A}{headers}\r\n\r\n")).await;
        let reply = client.read("GET").await.expect("the connection is kept");
        assert_eq!(
            (reply.status, &reply.body[..], reply.header("content-range")),
            (status, expected, range),
            "{headers}"
        );
        assert_eq!(reply.header("etag"), Some(etag), "{headers}");
    }
    client.send(format!("GET {NUPKG} HTTP/1.1\r\nHost: g\r\n{A}Range: bytes=0-1,5-6\r\n\r\n")).await;
    let multi = client.read("GET").await.unwrap();
    assert!(
        multi.status == 206 && multi.whole && multi.header("content-type").unwrap().starts_with("multipart/")
    );
    for path in [NUPKG, PACKUMENT] {
        let plain = scene.get(path, A).await;
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: g\r\n{A}\r\n")).await;
        let head = client.read("HEAD").await.unwrap();
        assert_eq!(head.status, 200);
        for name in ["content-length", "content-type", "etag"] {
            assert_eq!(head.header(name), plain.header(name), "{path} {name}");
        }
    }
    client.send(format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g\r\n{A}\r\n")).await;
    assert_eq!(client.read("GET").await.unwrap().text(), DOCUMENT);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_but_valid_requests_are_understood() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    let rows = [
        (format!("GET http://gate.test{PACKUMENT} HTTP/1.1\r\nHost: gate.test\r\n{A}\r\n"), 200, ""),
        (format!("GET {PACKUMENT} HTTP/1.0\r\nHost: g\r\n{A}\r\n"), 200, ""),
        (format!("GET {PACKUMENT} HTTP/1.1\r\n{A}\r\n"), 400, "host"),
        (format!("GET {PACKUMENT} HTTP/1.1\r\nHost:\r\n{A}\r\n"), 400, "host"),
        (format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g%61te\r\n{A}\r\n"), 400, "host"),
        ("GET /contoso/%2e%2e/x HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), 400, "path_escape"),
        ("GET / HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), 404, "no_organisation"),
        ("OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), 404, "no_organisation"),
    ];
    for (request, status, code) in rows {
        let reply = ask(scene.gate.address(), &request).await;
        assert_eq!((reply.status, reply.whole), (status, true), "{request}");
        assert!(reply.text().contains(code), "{request}: {}", reply.text());
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_after_errors_and_bodies_of_reads() {
    let scene = Scene::new(|seen| {
        if seen.path().contains("none") { answer("404 Not Found", "", "no") } else { json(DOCUMENT) }
    })
    .await;
    let mut client = scene.client().await;
    for (path, headers, status) in [
        (PACKUMENT, "Content-Length: 5\r\n\r\nhello", 200),
        (PACKUMENT, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200),
        (&format!("{NPM}/none"), "\r\n", 404),
        ("/contoso/%2e%2e/x", "\r\n", 400),
        (PACKUMENT, "\r\n", 200),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: g\r\n{A}{headers}")).await;
        let reply = client.read("GET").await.unwrap_or_else(|| panic!("{path} {headers}: closed"));
        assert_eq!(reply.status, status, "{path} {headers}");
        if reply.header("connection") == Some("close") {
            assert!(headers.contains("hello"), "{path}: only a body that nobody read costs the connection");
            client = scene.client().await;
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let scene = Scene::new(|seen| {
        if seen.path().contains("none") { answer("404 Not Found", "", "no") } else { json(DOCUMENT) }
    })
    .await;
    let mut client = scene.client().await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: g\r\n{A}\r\n");
    client.send([one(PACKUMENT), one(&format!("{NPM}/none")), one(PACKUMENT)].concat()).await;
    for status in [200, 404, 200] {
        assert_eq!(client.read("GET").await.expect("an answer to each").status, status);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_reaches_the_service_and_its_answer_the_client_as_they_are() {
    let scene = Scene::new(|seen| match seen.path() {
        path if path.contains("denied") => answer(
            "401 Access to the path is denied",
            "WWW-Authenticate: Bearer authorization_uri=https://login.test/x\r\nWWW-Authenticate: Basic realm=\"https://pkgs.test/\"\r\nWWW-Authenticate: TFS-Federated\r\nSet-Cookie: secret=1\r\n",
            "no",
        ),
        _ => answer("201 Created", "", "{}"),
    })
    .await;
    let gate = scene.gate.address();
    let head = format!("PUT {PACKUMENT} HTTP/1.1\r\nHost: g\r\n{A}Content-Type: application/json\r\n");
    let plain = ask(gate, &format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    let chunked =
        ask(gate, &format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")).await;
    assert_eq!((plain.status, plain.text(), chunked.status), (201, "{}".to_owned(), 201));
    let seen = scene.service.asked("left-pad");
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.body == b"hello"), "{seen:?}");
    assert!(seen.iter().all(|seen| by(seen, A) && seen.header("host") != Some("g")));
    let denied =
        ask(gate, &format!("PUT {NPM}/denied HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhello")).await;
    assert_eq!((denied.status, denied.reason.as_str()), (401, "Access to the path is denied"));
    assert_eq!(
        (denied.all("www-authenticate").len(), denied.header("set-cookie"), denied.text()),
        (3, None, "no".to_owned())
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_host_or_an_odd_packument_costs_nobody_the_stored_copy() {
    let scene = Scene::new(|_| json(r#"{"name":"left-pad","versions":[]}"#)).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    let short = "Accept: application/vnd.npm.install-v1+json\r\n";
    assert_eq!(scene.get(PACKUMENT, &format!("{A}{short}")).await.status, 200);
    for host in ["a:b:c", "[::1]:80", "-", "..", ":"] {
        let reply =
            ask(scene.gate.address(), &format!("GET {PACKUMENT} HTTP/1.1\r\nHost: {host}\r\n{A}\r\n")).await;
        assert!(matches!(reply.status, 200 | 400), "{host}: {}", reply.status);
    }
    assert_eq!(scene.service.asked("left-pad").len(), 1);
    scene.end().await;
}

// === app ===

#[tokio::test(flavor = "multi_thread")]
async fn no_request_stays_in_flight_however_it_ended() {
    let body = big();
    let scene =
        Scene::with(|_| json(INDEX), |config| config.upstream.first_byte_timeout = Duration::from_secs(1))
            .await;
    let url = scene.service.blob_url(body);
    let cut = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(),
        body[..2_000_000].to_vec(),
    ]
    .concat();
    scene.service.play(move |seen| match seen.path() {
        path if path.starts_with("/b-") => Act::Close(cut.clone()),
        path if path.ends_with(".nupkg") => to(&url),
        path if path.contains("silent") => Act::Silence,
        _ => json(INDEX),
    });
    assert!(!scene.get(NUPKG, A).await.whole);
    for request in [
        format!("GET {NPM}/silent HTTP/1.1\r\nHost: g\r\n\r\n"),
        format!("PUT {NPM}/silent HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nhalf"),
    ] {
        let mut client = scene.client().await;
        client.send(request).await;
        drop(client);
    }
    scene.service.play(|_| Act::Close(Vec::new()));
    let gate = scene.gate;
    tokio::time::timeout(Duration::from_secs(60), async {
        while in_flight(&gate) > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("no request in flight");
    stop(gate).await;
}

fn in_flight(gate: &Gate) -> f64 {
    gauge(gate, "feedgate_requests_in_flight")
}

fn gauge(gate: &Gate, name: &str) -> f64 {
    let families = gate.registry().gather();
    let family = families.iter().find(|family| family.get_name() == name).unwrap();
    family.get_metric()[0].get_gauge().get_value()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_drains_finishes_what_it_began_and_says_that_it_is_not_ready() {
    let event = Arc::new(Notify::new());
    let wait = event.clone();
    let scene = Scene::with(
        move |seen| match seen.path() {
            path if path.ends_with("index.json") => json(INDEX),
            _ => Act::After(wait.clone(), Box::new(json(DOCUMENT))),
        },
        |config| config.listen.drain_timeout = Duration::from_secs(15),
    )
    .await;
    let (gate, admin) = (scene.gate.address(), scene.gate.admin_address());
    assert_eq!(get(admin, "/readyz", "").await.status, 200);
    let idle = scene.client().await;
    let asking = tokio::spawn(get(gate, PACKUMENT, A));
    scene.service.until_asked("left-pad").await;
    let stopping = tokio::spawn(stop(scene.gate));
    while tokio::net::TcpStream::connect(gate).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(get(admin, "/readyz", "").await.status, 503);
    event.notify_one();
    let reply = asking.await.unwrap();
    assert_eq!((reply.status, reply.whole), (200, true));
    stopping.await.unwrap();
    drop(idle);
    scene.service.play(|_| json(DOCUMENT));
    let again = start(config(scene.service.address, scene.folder.path())).await;
    assert_eq!(get(again.address(), PACKUMENT, A).await.status, 200);
    stop(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_outlast_the_drain_are_cut_off_and_the_store_is_free() {
    let silent = |seen: &Seen| {
        if seen.path().contains("left-pad") { Act::Silence } else { json(DOCUMENT) }
    };
    let scene = Scene::with(silent, |config| config.listen.drain_timeout = Duration::from_millis(200)).await;
    let mut client = scene.client().await;
    client.send(format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g\r\n{A}\r\n")).await;
    scene.service.until_asked("left-pad").await;
    tokio::time::timeout(Duration::from_secs(10), stop(scene.gate)).await.expect("an end");
    assert!(client.read("GET").await.is_none());
    stop(start(config(scene.service.address, scene.folder.path())).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_or_store_is_a_clear_error() {
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    let folder = tempfile::tempdir().unwrap();
    let attempt = |change: &dyn Fn(&mut Config)| {
        let mut config = config(scene.service.address, folder.path());
        change(&mut config);
        tokio::task::spawn_blocking(move || {
            Gate::start(config).map(drop).map_err(|error| format!("{error:#}"))
        })
    };
    let (taken, admin) = (scene.gate.address(), scene.gate.admin_address());
    let error = attempt(&|config| config.listen.address = taken).await.unwrap().unwrap_err();
    assert!(error.contains("listen.address") && error.contains(&taken.to_string()), "{error}");
    let error = attempt(&|config| config.admin.address = admin).await.unwrap().unwrap_err();
    assert!(error.contains("admin.address") && error.contains(&admin.to_string()), "{error}");
    let path = scene.folder.path().to_owned();
    let error = attempt(&|config| config.store.path.clone_from(&path)).await.unwrap().unwrap_err();
    assert!(error.contains("store.path"), "{error}");
    assert!(attempt(&|_| {}).await.unwrap().is_ok(), "a failed start leaves nothing behind");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_that_breaks_off_is_not_whole_for_the_client() {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{head}5\r\nhello\r\n");
    let whole = format!("{chunks}0\r\n\r\n");
    let scene = Scene::new(move |seen| {
        if seen.path().contains("torn") {
            Act::Close(chunks.clone().into_bytes())
        } else {
            Act::Answer(whole.clone().into_bytes())
        }
    })
    .await;
    let good = scene.get("/contoso/_apis/good", A).await;
    assert_eq!((good.status, good.whole, good.text().as_str()), (200, true, "hello"));
    let torn = scene.get("/contoso/_apis/torn", A).await;
    assert!(!torn.whole || torn.status >= 400, "{torn:?}");
    let put = "PUT /contoso/_apis/torn HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
    assert!(!ask(scene.gate.address(), put).await.whole);
    let old = ask(scene.gate.address(), "GET /contoso/_apis/good HTTP/1.0\r\nHost: g\r\n\r\n").await;
    assert_eq!((old.status, old.header("transfer-encoding"), old.text().as_str()), (200, None, "hello"));
    let mut client = scene.client().await;
    client.send("HEAD /contoso/_apis/good HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(client.read("HEAD").await.unwrap().status, 200);
    scene.service.play(|_| answer("204 No Content", "Content-Type: application/json\r\n", ""));
    client.send("GET /contoso/_apis/none HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let none = client.read("GET").await.unwrap();
    assert_eq!(
        (none.status, none.header("content-length"), none.header("transfer-encoding")),
        (204, None, None)
    );
    client.send("GET /contoso/_apis/none HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(client.read("GET").await.expect("kept").status, 204);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_write_that_cannot_be_forwarded_still_gets_its_answer() {
    let mut scene = Scene::new(|_| json(DOCUMENT)).await;
    let length = 8 << 20;
    let put = format!("PUT {PACKUMENT} HTTP/1.1\r\nHost: g\r\n{A}Content-Length: {length}\r\n\r\n");
    scene.service.vanish().await;
    let mut client = scene.client().await;
    client.send(put).await;
    client.send(vec![b' '; length]).await;
    let reply = client.read("PUT").await.expect("an answer");
    assert_eq!((reply.status, reply.text().contains("upstream_unavailable")), (502, true));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stored_copy_has_the_urls_of_whoever_asks() {
    const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";
    let index = format!(
        r#"{{"version":"3.0.0","resources":[{{"@id":"urn:uuid:{GUID}","@type":"VssFeedId","label":"main"}}]}}"#
    );
    let scene = Scene::new(move |seen| match seen.path() {
        path if path.ends_with("index.json") => json(&index),
        path => {
            let url = format!("https://pkgs.dev.azure.com{path}/-/left-pad-1.3.0.tgz");
            json(&format!(
                r#"{{"name":"left-pad","versions":{{"1.3.0":{{"dist":{{"tarball":"{url}"}},"x":1}}}}}}"#
            ))
        }
    })
    .await;
    let short = format!("{A}Accept: application/vnd.npm.install-v1+json\r\n");
    for spelling in ["main", "MAIN", GUID, "main"] {
        for headers in [A, &short] {
            let path = format!("/contoso/_packaging/{spelling}/npm/registry/left-pad");
            let reply = scene.get(&path, headers).await;
            let expected = format!("\"http://gate.test{path}/-/left-pad-1.3.0.tgz\"");
            assert!(reply.text().contains(&expected), "{spelling}: {}", reply.text());
        }
    }
    assert_eq!(scene.service.asked("/left-pad").len(), 1);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readme_is_sent_as_it_is() {
    let text =
        "https://pkgs.dev.azure.com/contoso/ is where it lives: \"https://pkgs.dev.azure.com/contoso/x\"";
    let scene = Scene::new(move |seen| match seen.path() {
        path if path.contains("readme") => answer("200 OK", "Content-Type: text/markdown\r\n", text),
        _ => json(INDEX),
    })
    .await;
    let path = "/contoso/_apis/packaging/feeds/main/npm/packages/left-pad/versions/1.3.0/readme";
    for _ in 0..2 {
        let reply = scene.get(path, A).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/markdown")));
        assert_eq!(reply.text(), text);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_not_taken_for_a_package() {
    let scene = Scene::new(|_| json(INDEX)).await;
    for _ in 0..2 {
        assert_eq!(scene.get(NUPKG, A).await.status, 502);
    }
    assert!(scene.service.asked(".nupkg").len() >= 2, "nothing was stored");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_package_is_not_taken_for_its_bytes() {
    let scene = Scene::new(|seen| match seen.path() {
        path if path.ends_with(".nupkg") => answer("200 OK", "Content-Encoding: gzip\r\n", "not the bytes"),
        _ => json(INDEX),
    })
    .await;
    for _ in 0..2 {
        let reply = scene.get(NUPKG, A).await;
        assert!(reply.status >= 400, "{reply:?}");
    }
    assert!(scene.service.asked(".nupkg").len() >= 2, "nothing was stored");
    scene.end().await;
}
