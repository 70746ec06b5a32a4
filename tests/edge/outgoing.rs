//! Where the gate connects to, and what it takes from there.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{
    A, B, DOCUMENT, PACKUMENT, Scene, TARBALL, publish,
    support::{Act, answer, ask, json},
};

/// A spelling of 127.0.0.1 that is an address to the resolver only, so to the gate it is a name that resolves.
const NAME: &str = "127.1";

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_a_private_address_is_not_connected_to_unless_it_is_listed() {
    for (listed, read, write) in
        [(&[][..], 502, 502), (&["10.0.0.0/8"], 502, 502), (&["127.0.0.0/8"], 200, 201)]
    {
        let script = |seen: &super::Seen| {
            if seen.line.starts_with("PUT") { answer("201 Created", "", "{}") } else { json(DOCUMENT) }
        };
        let scene = Scene::with(script, |config| {
            let url = config.upstream.pkgs.to_string().replace("127.0.0.1", NAME);
            config.upstream.pkgs = url.parse().unwrap();
            config.outage.failures = 1000;
            config.upstream.private_networks =
                listed.iter().map(|network| network.parse().unwrap()).collect();
        })
        .await;
        let reply = scene.get(PACKUMENT, A).await;
        assert_eq!(reply.status, read, "{listed:?}: {}", reply.text());
        let reply = ask(scene.gate.address(), &publish()).await;
        assert_eq!(reply.status, write, "{listed:?}: {}", reply.text());
        assert_eq!(scene.service.asked("").is_empty(), read == 502, "{listed:?}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_beyond_all_measure_is_a_502_and_a_stored_copy_stands_in() {
    let many = "X-Field: 1\r\n".repeat(200);
    let more = "X-Field: 1\r\n".repeat(400);
    let long = format!("X-Field: {}\r\n", "x".repeat(70_000));
    let endless = Act::Close([b"HTTP/1.1 200 OK\r\nX-Field: ".to_vec(), vec![b'x'; 3 << 20]].concat());
    let json_with =
        |fields: &str| answer("200 OK", &format!("Content-Type: application/json\r\n{fields}"), DOCUMENT);
    for act in [json_with(&many), json_with(&more), json_with(&long), endless] {
        let scene = Scene::new(|_| json(DOCUMENT)).await;
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
        scene.service.play(move |_| act.clone());
        let reply = scene.get(&PACKUMENT.replace("left", "right"), A).await;
        assert_eq!(reply.status, 502, "{}", reply.text());
        scene.later(10);
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_costs_its_client_no_more_than_the_time_for_documents() {
    let half = |kind: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n{{");
        Act::Answer(head.into_bytes())
    };
    // JSON of a route that is passed through, and a document in plain text.
    let readme = "/contoso/_apis/packaging/feeds/main/npm/packages/left-pad/versions/1.3.0/readme";
    for path in ["/contoso/_packaging/main/pypi/simple/x", readme] {
        let script = move |seen: &super::Seen| {
            if seen.path() == path { half("application/json") } else { json(super::INDEX) }
        };
        let scene = Scene::with(script, |config| {
            config.upstream.document_timeout = std::time::Duration::from_millis(100);
        })
        .await;
        let reply = scene.get(path, A).await;
        assert_eq!(reply.status, 504, "{path}: {}", reply.text());
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_404_on_the_document_to_one_who_may_read_it_takes_the_stored_one_away() {
    const GONE: &str = r#"{"message":"The package does not exist"}"#;
    let scene = Scene::new(|_| json(DOCUMENT)).await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    let json_404 = || answer("404 Not Found", "Content-Type: application/json\r\n", GONE);
    let html_404 = || answer("404 Not Found", "Content-Type: text/html\r\n", "<html>");
    // One who may not look is told 404 of everything; a page in between says nothing of the package; the last one does.
    for (caller, html, minutes, stands_in) in
        [(B, false, 0, true), (A, true, 10, true), (A, false, 10, false)]
    {
        scene.later(minutes);
        scene.service.play(move |seen| match seen.path() {
            path if path.contains("index.json") && caller == A => json(super::INDEX),
            _ if html => html_404(),
            _ => json_404(),
        });
        assert_eq!(scene.get(PACKUMENT, caller).await.status, 404, "{caller} {html}");
        scene.later(10);
        scene.service.play(|_| answer("502 Bad Gateway", "", ""));
        let status = scene.get(PACKUMENT, A).await.status;
        assert_eq!(status == 200, stands_in, "{caller} {html}: {status}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_locate_costs_the_service_one_round_of_tries() {
    let scene = Scene::with(
        |seen| if seen.path().ends_with(".tgz") { Act::Close(Vec::new()) } else { json(DOCUMENT) },
        |config| (config.retry.attempts, config.outage.failures) = (3, 1_000_000),
    )
    .await;
    assert_eq!(scene.get(TARBALL, A).await.status, 502);
    // Three tries, the first of them perhaps on a kept connection.
    let asked = scene.service.asked(".tgz").len();
    assert!((3..=4).contains(&asked), "{asked}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_package_is_asked_for_once_in_a_while_by_each_caller_and_again_after_a_write() {
    let missing = || answer("404 Not Found", "Content-Type: application/json\r\n", r#"{"message":"no"}"#);
    let scene = Scene::new(move |seen| match seen.line.split(' ').next() {
        Some("PUT") => answer("201 Created", "", "{}"),
        _ if seen.path().ends_with(".tgz") => missing(),
        _ => json(DOCUMENT),
    })
    .await;
    let asked = async |caller: &str, times: usize| {
        assert_eq!(scene.get(TARBALL, caller).await.status, 404);
        assert_eq!(scene.service.asked(".tgz").len(), times, "{caller}");
    };
    for caller in [A, B] {
        assert_eq!(scene.get(PACKUMENT, caller).await.status, 200);
    }
    for (caller, times) in [(A, 1), (A, 1), (B, 2), (B, 2), (A, 2)] {
        asked(caller, times).await;
    }
    assert_eq!(ask(scene.gate.address(), &publish()).await.status, 201);
    asked(A, 3).await;
    asked(A, 3).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_package_is_missing_is_not_repeated_when_it_was_said_before_a_write() {
    let missing = || answer("404 Not Found", "Content-Type: application/json\r\n", r#"{"message":"no"}"#);
    let told = Arc::new(Notify::new());
    let held = Arc::clone(&told);
    let scene = Scene::new(move |seen| match seen.line.split(' ').next() {
        Some("PUT") => answer("201 Created", "", "{}"),
        _ if seen.path().ends_with(".tgz") => Act::After(Arc::clone(&held), Box::new(missing())),
        _ => json(DOCUMENT),
    })
    .await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    let writing = async {
        scene.service.until_asked(".tgz").await;
        assert_eq!(ask(scene.gate.address(), &publish()).await.status, 201);
        told.notify_one();
    };
    let (before, ()) = tokio::join!(scene.get(TARBALL, A), writing);
    assert_eq!(before.status, 404, "asked before the write, answered after it");
    told.notify_one();
    scene.get(TARBALL, A).await;
    assert_eq!(scene.service.asked(".tgz").len(), 2, "the write may have changed it");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_says_so_and_what_is_wrong_with_it() {
    let elsewhere = || super::to("https://evil.example/x");
    let rows = [
        (PACKUMENT, elsewhere(), "upstream.blob_hosts"),
        (TARBALL, elsewhere(), "upstream.blob_hosts"),
        (PACKUMENT, json(&format!("{{\"a\":\"{}\"}}", "x".repeat(2000))), "larger"),
        (
            PACKUMENT,
            answer("200 OK", "Content-Type: application/json\r\nContent-Encoding: br\r\n", "x"),
            "decoded",
        ),
    ];
    for (path, act, words) in rows {
        let scene =
            Scene::with(move |_| act.clone(), |config| config.upstream.max_document_size = 1000).await;
        let reply = scene.get(path, A).await;
        let text = reply.text();
        assert_eq!(reply.status, 502, "{text}");
        assert!(text.contains("upstream_unusable") && text.contains(words), "{words}: {text}");
        assert!(!text.contains("evil"), "{text}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_a_service_that_is_known_to_be_dead_is_told_so_at_once() {
    let mut scene = Scene::with(
        |_| json(DOCUMENT),
        |config| {
            config.outage.hold = std::time::Duration::ZERO;
            config.outage.open = std::time::Duration::from_secs(600);
            config.outage.longest_open = std::time::Duration::from_secs(600);
        },
    )
    .await;
    scene.service.vanish().await;
    let mut known = false;
    for _ in 0..20 {
        known |= scene.get(PACKUMENT, A).await.status == 424;
    }
    assert!(known);
    let put = ask(scene.gate.address(), &publish()).await;
    assert_eq!((put.status, put.text().contains("upstream_down")), (424, true), "{}", put.text());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_load_is_heard_when_a_write_meets_it() {
    const BLOCKED: &str =
        "Request was blocked due to exceeding usage of resource 'Usage' in namespace 'VSID'";
    let told = json(&format!("{{\"message\":\"{BLOCKED}\"}}"));
    let Act::Answer(told) = told else { panic!("no answer") };
    let body = Act::Answer(String::from_utf8(told).unwrap().replace("200 OK", "500 Oops").into_bytes());
    for act in [answer(&format!("500 {BLOCKED}"), "", ""), body] {
        let script = move |seen: &super::Seen| {
            if seen.line.starts_with("PUT") { act.clone() } else { json(super::INDEX) }
        };
        let scene = Scene::new(script).await;
        assert_eq!(ask(scene.gate.address(), &publish()).await.status, 500);
        let metrics = super::get(scene.gate.admin_address(), "/metrics", "").await.text();
        let heard = "feedgate_throttle_signals_total{host_class=\"api\",kind=\"refused\"} 1\n";
        assert!(metrics.contains(heard), "{metrics}");
        scene.end().await;
    }
}
