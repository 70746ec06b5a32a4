//! Requests that the gate forwards: what a write makes old, whose URLs an answer holds, how bodies stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    A, DOCUMENT, NPM, PACKUMENT, Scene, in_flight, publish,
    support::{Act, Reply, Seen, answer, ask, json},
};

const INDEX_PATH: &str = "/v3/index.json";
/// A write whose body is complete.
const PUT_HEAD: &str = "PUT /contoso/_packaging/main/npm/registry/left-pad HTTP/1.1\r\nHost: gate.test\r\n";
const SIGN_IN: &str = "https://spsprodweu1.vssps.visualstudio.com/_signin?realm=x";

/// An upgrade that nobody asked for, and what would come behind it.
const UPGRADE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nsmuggled";

/// An answer whose body has a transfer coding.
fn coded(coding: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").into_bytes()
}

/// A service that answers reads with a document, and writes with `act`.
fn writes(act: Act) -> impl FnMut(&Seen) -> Act + Send + 'static {
    move |seen| if seen.line.starts_with("GET") { json(DOCUMENT) } else { act.clone() }
}

/// How many times the packument was asked for.
fn reads(scene: &Scene) -> usize {
    scene.service.asked("left-pad").iter().filter(|seen| seen.line.starts_with("GET")).count()
}

/// A scene in which the packument is stored, with short waits for the service.
async fn stored() -> Scene {
    let scene = Scene::with(
        |_| json(DOCUMENT),
        |config| {
            config.upstream.first_byte_timeout = Duration::from_millis(500);
            config.upstream.idle_timeout = Duration::from_millis(500);
        },
    )
    .await;
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    assert_eq!(reads(&scene), 1);
    scene
}

async fn idle(scene: &Scene) {
    let over = async {
        while in_flight(&scene.gate) > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("no request in flight");
}

// === writes ===

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_may_have_changed_is_asked_anew() {
    let sign_in = format!("Location: {SIGN_IN}\r\n");
    let (wide, long) = ("X-A: b\r\n".repeat(200), format!("X-A: {}\r\n", "b".repeat(100_000)));
    let rows = [
        ("done", answer("201 Created", "", "{}"), 201, 2),
        ("accepted", answer("202 Accepted", "", ""), 202, 2),
        ("failed", answer("500 Oops", "", "x"), 500, 2),
        ("busy", answer("503 Busy", "", "x"), 503, 2),
        ("moved", answer("307 Moved", "", ""), 307, 2),
        ("broken off", Act::Close(Vec::new()), 502, 2),
        ("torn head", Act::Close(b"HTTP/1.1 201 Cre".to_vec()), 502, 2),
        ("garbage", Act::Close(b"what\r\n\r\n".to_vec()), 502, 2),
        ("torn body", Act::Close(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{".to_vec()), 201, 2),
        ("wide head", answer("201 Created", &wide, "{}"), 502, 2),
        ("long head", answer("201 Created", &long, "{}"), 502, 2),
        ("upgrade", Act::Answer(UPGRADE.to_vec()), 502, 2),
        ("coding", Act::Answer(coded("xchunked")), 502, 2),
        ("two codings", Act::Answer(coded("gzip, chunked")), 502, 2),
        (
            "interims",
            Act::Answer([b"HTTP/1.1 103 Early\r\n\r\n".repeat(50), coded("chunked")].concat()),
            502,
            2,
        ),
        ("chunks", Act::Answer(coded("Chunked")), 200, 2),
        ("silence", Act::Silence, 504, 2),
        ("bad", answer("400 Bad", "", "x"), 400, 1),
        ("no", answer("401 No", "", "x"), 401, 1),
        ("forbidden", answer("403 Forbidden", "", "x"), 403, 1),
        ("there already", answer("409 Conflict", "", "x"), 409, 1),
        ("too many", answer("429 Slow", "", "x"), 429, 1),
        ("sign-in", answer("203 Non-Authoritative", "Content-Type: text/html\r\n", "<html>"), 401, 1),
        ("sign-in hop", answer("302 Found", &sign_in, "Object moved"), 401, 1),
    ];
    for (name, act, status, expected) in rows {
        let scene = stored().await;
        scene.service.play(writes(act));
        assert_eq!(ask(scene.gate.address(), &publish()).await.status, status, "{name}");
        let read = scene.get(PACKUMENT, A).await;
        assert_eq!((read.status, reads(&scene)), (200, expected), "{name}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_announces_none() {
    let scene = stored().await;
    let lengths = ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"];
    for length in lengths {
        let nothing = format!("HTTP/1.1 204 No Content\r\n{length}\r\n").into_bytes();
        scene.service.play(writes(Act::Close(nothing)));
        let reply = ask(scene.gate.address(), &publish()).await;
        assert_eq!(reply.status, 204);
        assert_eq!(
            (reply.header("content-length"), reply.header("transfer-encoding")),
            (None, None),
            "{length}"
        );
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_sent_twice_may_have_gone_through_the_first_time() {
    let scene = stored().await;
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    scene.service.play(move |seen| {
        if seen.line.starts_with("GET") {
            json(DOCUMENT)
        } else if seen.earlier > 0 && !breaks.swap(true, Ordering::Relaxed) {
            // A connection that had been kept breaks, and the gate takes a new one.
            Act::Close(Vec::new())
        } else {
            answer("403 Forbidden", "", "there already")
        }
    });
    // A connection that is being put back when the next write comes is not there for it: that one has a new one.
    let retried = async {
        while !broken.load(Ordering::Relaxed) {
            assert_eq!(ask(scene.gate.address(), &publish()).await.status, 403);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), retried).await.expect("a write on a kept connection");
    assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
    assert_eq!(reads(&scene), 2);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_which_nothing_was_sent_changes_nothing() {
    let mut scene = stored().await;
    scene.service.vanish().await;
    assert_eq!(ask(scene.gate.address(), &publish()).await.status, 502);
    let read = scene.get(PACKUMENT, A).await;
    assert_eq!((read.status, read.header("x-cache")), (200, Some("HIT")));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_client_left_may_have_gone_through() {
    // Half way in the body, and after it.
    for (sent, service) in [("half", Act::Silence), ("all of it", answer("201 Created", "", "{}"))] {
        let scene = stored().await;
        scene.service.play(writes(service));
        let mut client = scene.client().await;
        client.send(format!("{PUT_HEAD}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")).await;
        assert_eq!(client.read("PUT").await.unwrap().status, 100);
        client.send(sent).await;
        drop(client);
        idle(&scene).await;
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
        assert_eq!(reads(&scene), 2, "{sent}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_half_still_gets_its_answer() {
    let scene = stored().await;
    scene.service.play(writes(answer("201 Created", "", "{}")));
    let mut client = scene.client().await;
    client.send(publish()).await;
    client.close_half().await;
    assert_eq!(client.read("PUT").await.expect("an answer").status, 201);
    scene.end().await;
}

// === answers ===

/// A gate whose service gives `act` to a forwarded request.
async fn patched(act: Act) -> (Scene, Reply) {
    let scene = Scene::new(writes(act)).await;
    let reply = ask(scene.gate.address(), &patch("HTTP/1.1")).await;
    (scene, reply)
}

fn patch(version: &str) -> String {
    format!(
        "PUT {NPM}/left-pad {version}\r\nHost: gate.test\r\nAccept-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

fn links(host: &str) -> String {
    format!(r#"{{"_links":{{"self":{{"href":"{host}/contoso/_apis/x"}}}},"note":"at {host}/contoso"}}"#)
}

const PKGS: &str = "https://pkgs.dev.azure.com";

#[tokio::test(flavor = "multi_thread")]
async fn urls_in_the_answer_to_a_write_are_the_gates() {
    let before = links(PKGS);
    let expected = format!(
        r#"{{"_links":{{"self":{{"href":"http://gate.test/contoso/_apis/x"}}}},"note":"at {PKGS}/contoso"}}"#
    );
    let kind = "Content-Type: application/json; charset=utf-8; api-version=7.1\r\n";
    let (one, two) = before.split_at(40);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\n{kind}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    let closed = format!("HTTP/1.1 200 OK\r\n{kind}Connection: close\r\n\r\n{before}");
    let acts =
        [answer("200 OK", kind, &before), Act::Answer(chunked.into_bytes()), Act::Close(closed.into_bytes())];
    for act in acts {
        let (scene, reply) = patched(act).await;
        assert_eq!((reply.status, reply.whole, reply.text()), (200, true, expected.clone()));
        assert_eq!(reply.header("content-length"), None);
        let seen = scene.service.asked("left-pad");
        assert_eq!(seen[0].header("accept-encoding"), None);
        let old = ask(scene.gate.address(), &patch("HTTP/1.0")).await;
        assert_eq!((old.header("transfer-encoding"), old.text()), (None, expected.clone()));
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_xml_are_rewritten_and_otherwise_whole() {
    let headers =
        "Content-Type: application/xml\r\nActivityId: 7\r\nX-VSS-UserData: me\r\nX-NuGet-Warning: old\r\n";
    let (scene, reply) = patched(answer(
        "409 Conflict - it is there (DevOps Activity ID: 7)",
        headers,
        format!("<a href='{PKGS}/o/x'/>"),
    ))
    .await;
    assert_eq!(
        (reply.status, reply.reason.as_str()),
        (409, "Conflict - it is there (DevOps Activity ID: 7)")
    );
    assert_eq!(reply.text(), "<a href='http://gate.test/o/x'/>");
    let shown = ["activityid", "x-nuget-warning", "x-vss-userdata"].map(|name| reply.header(name));
    assert_eq!(shown, [Some("7"), Some("old"), None]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_to_rewrite_keeps_its_framing() {
    let rows = [
        ("204 No Content", "Content-Type: application/json\r\n", "", None),
        ("200 OK", "Content-Type: application/json\r\n", "", Some("0")),
        ("200 OK", "Content-Type: text/plain\r\n", "https://pkgs.dev.azure.com/o", Some("28")),
    ];
    for (status, headers, body, length) in rows {
        let (scene, reply) = patched(answer(status, headers, body)).await;
        assert_eq!((reply.whole, reply.text().as_str()), (true, body), "{status} {headers}");
        assert!(length.is_none() || reply.header("content-length") == length, "{reply:?}");
        assert_eq!(reply.header("connection"), Some("keep-alive"));
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_rewritten_goes_on_whole_and_is_counted() {
    let large = vec![b' '; 9 << 20];
    let chunks = [
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            large.len()
        )
        .into_bytes(),
        large.clone(),
        b"\r\n0\r\n\r\n".to_vec(),
    ]
    .concat();
    let kind = "Content-Type: application/json\r\n";
    let rows = [
        ("size", answer("200 OK", kind, &large), large.clone()),
        ("size", Act::Answer(chunks), large),
        (
            "coding",
            answer("200 OK", &format!("{kind}Content-Encoding: gzip\r\n"), "coded"),
            b"coded".to_vec(),
        ),
    ];
    for (reason, act, body) in rows {
        let (scene, reply) = patched(act).await;
        assert!(reply.whole && reply.body == body, "{reason}: {} bytes", reply.body.len());
        assert!((unchanged(&scene, reason) - 1.0).abs() < 0.1, "{reason}");
        scene.end().await;
    }
}

fn unchanged(scene: &Scene, reason: &str) -> f64 {
    let families = scene.gate.registry().gather();
    let family =
        families.iter().find(|family| family.get_name() == "feedgate_unrewritten_answers_total").unwrap();
    let metric = family.get_metric().iter().find(|metric| metric.get_label()[0].get_value() == reason);
    metric.unwrap().get_counter().get_value()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_is_the_gates_or_none() {
    let scene = Scene::new(|_| json("{}")).await;
    let port = scene.service.address.port();
    let own = format!("http://127.0.0.1:{port}/contoso/_apis/x?y=1");
    let rows = [
        (own.as_str(), Some("http://gate.test/contoso/_apis/x?y=1")),
        ("https://contoso.pkgs.visualstudio.com/_apis/x", Some("http://gate.test/contoso/_apis/x")),
        ("//pkgs.dev.azure.com/contoso/y", Some("http://gate.test/contoso/y")),
        ("/contoso/_apis/x", Some("http://gate.test/contoso/_apis/x")),
        ("x/y:z", Some("x/y:z")),
        ("?x=1", Some("?x=1")),
        ("https://a.vsblob.vsassets.io/b-1/x.blob?sig=secret", None),
        ("https://evil.example/", None),
        ("urn:x", None),
    ];
    for (location, expected) in rows {
        let act = answer("201 Created", &format!("Location: {location}\r\n"), "");
        scene.service.play(writes(act));
        let reply = ask(scene.gate.address(), &patch("HTTP/1.1")).await;
        assert_eq!((reply.status, reply.header("location")), (201, expected), "{location}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_an_organisations_routes_names_the_gate() {
    let scene = Scene::new(writes(answer("200 OK", "Content-Type: application/json\r\n", links(PKGS)))).await;
    let reply = ask(scene.gate.address(), "OPTIONS /contoso/_apis HTTP/1.1\r\nHost: gate.test\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("\"http://gate.test/contoso/_apis/x\""), "{}", reply.text());
    assert_eq!(scene.service.asked(INDEX_PATH).len(), 0, "a read needs no identity");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_page_is_a_challenge() {
    let page = answer("203 Non-Authoritative", "Content-Type: text/html\r\nX-VSS-E2EID: 7\r\n", "<html>");
    let hop = answer("302 Found", &format!("Location: {SIGN_IN}\r\nX-VSS-E2EID: 7\r\n"), "Object moved");
    for act in [page, hop] {
        let (scene, reply) = patched(act).await;
        assert_eq!((reply.status, reply.whole, reply.all("www-authenticate").len()), (401, true, 3));
        assert_eq!((reply.header("location"), reply.header("x-vss-e2eid")), (None, Some("7")));
        scene.end().await;
    }
}

// === bodies ===

const MIB: usize = 1 << 20;

/// The most memory that this test held so far, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_stream_in_both_directions() {
    let length = 600 * MIB;
    let head = format!(
        "HTTP/1.1 201 Created\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    );
    let scene = Scene::new(writes(Act::Flood(head.into_bytes(), length))).await;
    let mut client = scene.client().await;
    let before = peak();
    client.send(format!("{PUT_HEAD}Content-Length: {length}\r\n\r\n")).await;
    let (mut piece, mut sum) = (vec![0; MIB], crc32fast::Hasher::new());
    for number in 0..length / MIB {
        piece[number] = 1;
        sum.update(&piece);
        client.send(&piece).await;
    }
    assert_eq!(client.skim().await, Some((201, length)));
    let seen = scene.service.asked("left-pad").pop().unwrap();
    assert_eq!((seen.length, seen.checksum), (length, sum.finalize()));
    let growth = (peak() - before) / MIB;
    assert!(growth < 48, "{growth} MiB more memory for two bodies of 600 MiB");
    println!("{growth} MiB more memory");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let scene =
        Scene::with(writes(answer("201 Created", "", "{}")), |config| config.listen.max_body = 1000).await;
    let (head, gate) = (format!("{PUT_HEAD}{A}"), scene.gate.address());
    let fits = ask(gate, &format!("{head}Content-Length: 1000\r\n\r\n{:1000}", "")).await;
    assert_eq!(fits.status, 201);
    for expect in ["", "Expect: 100-continue\r\n"] {
        let reply = ask(gate, &format!("{head}{expect}Content-Length: 1001\r\n\r\n")).await;
        assert_eq!((reply.status, reply.header("connection")), (413, Some("close")), "{expect}");
        assert!(reply.text().contains("too_large"), "{}", reply.text());
    }
    assert_eq!(scene.service.asked("left-pad").len(), 1);
    let chunk = format!("{:x}\r\n{:600}\r\n", 600, "");
    let chunked =
        ask(gate, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!((chunked.status, chunked.text().contains("too_large")), (413, true));
    assert_eq!(scene.service.asked("left-pad").len(), 1, "none was whole");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_gets_the_services_or_its_refusal() {
    let refused = answer("401 Unauthorized", "WWW-Authenticate: Bearer\r\n", "no");
    let scene = Scene::new(move |seen| match seen.path() {
        path if path.contains("denied") => refused.clone(),
        path if path.ends_with(INDEX_PATH) => json("{}"),
        _ => answer("201 Created", "", "{}"),
    })
    .await;
    let index = format!("/contoso/_packaging/main/nuget{INDEX_PATH}");
    let rows = [
        (PACKUMENT, &[100, 201][..], 1),
        // The service's refusal, and the gate's own.
        ("/contoso/_packaging/main/npm/registry/denied", &[401], 1),
        (&index, &[405], 0),
    ];
    for (path, statuses, forwarded) in rows {
        let mut client = scene.client().await;
        let head = format!("PUT {path} HTTP/1.1\r\nHost: g\r\n{A}Expect: 100-continue\r\n");
        client.send(format!("{head}Content-Length: 5\r\n\r\n")).await;
        for status in statuses {
            let reply = client.read("PUT").await.unwrap();
            assert_eq!(reply.status, *status, "{path}");
            assert_eq!(reply.header("connection") == Some("close"), *status > 400, "{path} {reply:?}");
            if *status == 100 {
                assert_eq!(reply.headers, [], "{path}");
                client.send("hello").await;
            }
        }
        // Nobody waits for the body of the refused one.
        idle(&scene).await;
        let seen = scene.service.asked(path);
        let puts = seen.iter().filter(|seen| seen.line.starts_with("PUT"));
        assert_eq!(puts.count(), forwarded, "{path}");
    }
    let old = format!(
        "PUT {PACKUMENT} HTTP/1.0\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    assert_eq!(ask(scene.gate.address(), &old).await.status, 201, "no interim answer where it is not known");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_refused_half_way_gets_its_answer() {
    let scene = Scene::new(writes(answer("403 Forbidden", "", "there already"))).await;
    let mut client = scene.client().await;
    // The service answers as soon as it saw the head.
    client.send(format!("PUT {NPM}/denied HTTP/1.1\r\nHost: g\r\n{A}Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n")).await;
    client.send(vec![b' '; 3_000_000]).await;
    let reply = client.read("PUT").await.expect("an answer");
    assert_eq!((reply.status, reply.whole, reply.text().as_str()), (403, true, "there already"));
    drop(client);
    idle(&scene).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_document_lacks_is_refused_with_those_that_it_has() {
    let scene = Scene::new(writes(answer("201 Created", "", "{}"))).await;
    let path = format!("/contoso/_packaging/main/nuget{INDEX_PATH}");
    let reply =
        ask(scene.gate.address(), &format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n"))
            .await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(scene.service.asked("").len(), 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_token_that_is_shown_as_a_key_stays_here() {
    let scene = Scene::new(writes(answer("202 Accepted", "", ""))).await;
    let push = "PUT /contoso/_packaging/main/nuget/v2/ HTTP/1.1\r\nHost: g\r\n";
    for (shown, sent) in [("any", "any"), ("fgt_0123456789ab_secret", "feedgate")] {
        let request = format!("{push}{A}X-NuGet-ApiKey: {shown}\r\nContent-Length: 2\r\n\r\n{{}}");
        assert_eq!(ask(scene.gate.address(), &request).await.status, 202);
        let puts = scene.service.asked("/nuget/v2/");
        assert_eq!(puts.last().unwrap().header("x-nuget-apikey"), Some(sent));
    }
    scene.end().await;
}
