//! Requests that two parsers could read in two ways, in front of a service that writes down what reaches it.

use std::time::Duration;

use feedgate::config::Config;

use super::support::{Act, Client, Reply, Seen, json};
use super::{NPM, PACKUMENT, Scene, gauge};

/// Kind, name, status and bytes of each request.
const REQUESTS: &str = include_str!("../data/requests.txt");
/// The path of the request behind each.
const AFTER: &str = "/contoso/_packaging/main/npm/registry/after";
/// What is hidden in many, and must never be taken for a request.
const SMUGGLED: &str =
    "GET /contoso/_packaging/main/npm/registry/smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n";
/// What may go to the service.
const CANONICAL: [&str; 9] = [
    "host",
    "accept",
    "accept-encoding",
    "content-length",
    "transfer-encoding",
    "connection",
    "x-tfs-fedauthredirect",
    "user-agent",
    "content-type",
];

struct Row {
    name: String,
    /// The status of the refusal; none when the request is right.
    refused: Option<u16>,
    bytes: Vec<u8>,
}

fn rows() -> Vec<Row> {
    let lines = REQUESTS.lines().filter(|line| !line.starts_with('#'));
    let rows = lines.map(|line| {
        let [kind, name, status, text] = line.splitn(4, " | ").collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        Row { name: format!("{kind}: {name}"), refused: status.parse().ok(), bytes: bytes(text) }
    });
    rows.collect()
}

/// Reads the notation of the file.
fn bytes(text: &str) -> Vec<u8> {
    let length = SMUGGLED.len();
    let text = text
        .replace("{R}", &format!("{NPM}/read"))
        .replace("{W}", &format!("{NPM}/write"))
        .replace("{LEN}", &length.to_string())
        .replace("{HEX}", &format!("{length:x}"));
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.chars().next() {
        if let Some((repeated, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            let (unit, times) = repeated.rsplit_once('*').unwrap();
            out.extend(bytes(unit).repeat(times.parse().unwrap()));
            rest = after;
        } else if let Some(escape) = rest.strip_prefix('\\') {
            let (byte, after) = match escape.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b't' => (b'\t', 1),
                b'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
                other => panic!("\\{}", other as char),
            };
            out.push(byte);
            rest = &escape[after..];
        } else {
            out.extend(next.to_string().as_bytes());
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

fn echo(seen: &Seen) -> Act {
    let name = seen.path().rsplit('/').next().unwrap_or_default();
    json(&format!(r#"{{"name":"{name}","versions":{{}}}}"#))
}

/// Every answer on a connection that sends `bytes` and then no more.
async fn answers(scene: &Scene, bytes: &[u8]) -> Vec<Reply> {
    let mut client = scene.client().await;
    client.send(bytes).await;
    let method = if bytes.starts_with(b"HEAD") { "HEAD" } else { "GET" };
    let mut answers = Vec::new();
    while let Some(reply) = client.read(if answers.is_empty() { method } else { "GET" }).await {
        let last = reply.header("connection") == Some("close");
        answers.push(reply);
        if last {
            break;
        }
        if answers.len() == 2 {
            client.close_half().await;
        }
    }
    assert_eq!(client.read("GET").await.map(|reply| reply.status), None, "an answer too many, or not closed");
    answers
}

pub(super) fn check_canonical(row: &str, seen: &Seen) {
    let mut words = seen.line.split(' ');
    let (method, target, version) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    assert!(["GET", "PUT", "OPTIONS"].contains(&method), "{row}: {}", seen.line);
    assert!(target.starts_with("/contoso/") && target.bytes().all(|byte| byte.is_ascii_graphic()), "{row}");
    assert_eq!((version, words.next()), ("HTTP/1.1", None), "{row}: {}", seen.line);
    assert!(!seen.head.contains("smuggled"), "{row}: {}", seen.head);
    let fields = seen.head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").skip(1);
    let names: Vec<_> =
        fields.map(|field| field.split_once(": ").expect(field).0.to_ascii_lowercase()).collect();
    for name in &names {
        assert!(CANONICAL.contains(&name.as_str()), "{row}: {name}");
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{row}: {name}");
    }
    let framings =
        names.iter().filter(|name| ["content-length", "transfer-encoding"].contains(&name.as_str()));
    assert!(framings.count() <= 1 && names.contains(&"host".to_owned()), "{row}: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ambiguous_request_is_refused_and_nothing_behind_it_is_read() {
    let rows = rows();
    assert!(rows.len() >= 150);
    let scene = Scene::new(echo).await;
    let after = format!("GET {AFTER} HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    for row in rows {
        let name = &row.name;
        let (seen_before, after_before) =
            (scene.service.asked("").len(), scene.service.asked("/after").len());
        let answers = answers(&scene, &[&row.bytes[..], after.as_bytes()].concat()).await;
        let statuses: Vec<_> = answers.iter().map(|reply| reply.status).collect();
        if let Some(status) = row.refused {
            assert_eq!(statuses, [status], "{name}");
            let reply = &answers[0];
            assert!(reply.whole, "{name}");
            assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{name}");
            assert_eq!(reply.header("connection"), Some("close"), "{name}");
            assert!(reply.text().contains(reply.header("x-request-id").unwrap()), "{name}");
            assert_eq!(scene.service.asked("/after").len(), after_before, "{name}: the one behind was read");
        } else {
            assert!(!answers[0].text().contains("after"), "{name}: the answer to another");
            assert_ne!(statuses[0], 400, "{name}");
            let behind = answers.get(1).map(|reply| (reply.status, reply.text().contains("after")));
            let ended = answers[0].header("connection") == Some("close");
            assert_eq!(behind, (!ended).then_some((200, true)), "{name}: {statuses:?}");
        }
        for seen in &scene.service.asked("")[seen_before..] {
            check_canonical(name, seen);
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_waits_for_the_answers_before_it() {
    let scene = Scene::new(echo).await;
    let mut client = scene.client().await;
    let one = |path: &str| format!("GET {NPM}/{path} HTTP/1.1\r\nHost: g\r\n\r\n");
    client.send([one("first"), one("second"), "GET /x HTTP/1.1\nHost: g\n\n".to_owned()].concat()).await;
    for name in ["first", "second"] {
        assert!(client.read("GET").await.unwrap().text().contains(name), "{name}");
    }
    let refusal = client.read("GET").await.unwrap();
    assert_eq!((refusal.status, refusal.text().contains("\"framing\"")), (400, true));
    assert!(client.read("GET").await.is_none());
    scene.end().await;
}

/// Limits that a test can wait for.
fn impatient(config: &mut Config) {
    config.limits.header_timeout = Duration::from_millis(300);
    config.limits.body_timeout = Duration::from_millis(300);
    config.limits.idle_timeout = Duration::from_millis(300);
    config.limits.min_rate = 1 << 20;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_slow_is_told_so_and_whoever_is_idle_is_let_go() {
    let scene = Scene::with(echo, impatient).await;
    let slow = [
        "GET /contoso".to_owned(),
        format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g\r\nX: "),
        format!("PUT {PACKUMENT} HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhe"),
        format!("PUT {PACKUMENT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"),
        format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhe"),
    ];
    for request in slow {
        let mut client = scene.client().await;
        client.send(&request).await;
        let reply = client.read("GET").await.expect(&request);
        assert_eq!((reply.status, reply.text().contains("\"too_slow\"")), (408, true), "{request}");
        assert!(client.read("GET").await.is_none(), "{request}");
    }
    let mut silent = scene.client().await;
    assert!(silent.read("GET").await.is_none());
    let mut idle = scene.client().await;
    idle.send(format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    assert_eq!(idle.read("GET").await.unwrap().status, 200);
    assert!(idle.read("GET").await.is_none());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_long_is_nobodys_idleness() {
    let event = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = event.clone();
    let script = move |seen: &Seen| {
        let slow = seen.path().ends_with("/slow");
        if slow { Act::After(wait.clone(), Box::new(echo(seen))) } else { echo(seen) }
    };
    let scene = Scene::with(script, impatient).await;
    let mut client = scene.client().await;
    client.send(format!("GET {NPM}/slow HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    scene.service.until_asked("/slow").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    event.notify_one();
    assert!(client.read("GET").await.unwrap().text().contains("slow"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_requests_on_them_are_limited() {
    let few = |config: &mut Config| {
        config.limits.connections_per_address = 2;
        config.limits.requests_per_connection = 3;
    };
    let scene = Scene::with(echo, few).await;
    let request = format!("GET {PACKUMENT} HTTP/1.1\r\nHost: g\r\n\r\n");
    let mut first = scene.client().await;
    for last in [false, false, true] {
        first.send(&request).await;
        assert_eq!(first.read("GET").await.unwrap().header("connection") == Some("close"), last);
    }
    assert!(first.read("GET").await.is_none());
    drop(first);
    // Its place is free when the gate has seen that end.
    while gauge(&scene.gate, "feedgate_connections") > 0.0 {
        tokio::task::yield_now().await;
    }
    let mut kept: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut client = scene.client().await;
        client.send(&request).await;
        assert_eq!(client.read("GET").await.unwrap().status, 200);
        kept.push(client);
    }
    let mut refused = scene.client().await;
    assert!(refused.read("GET").await.is_none());
    drop(kept);
    scene.end().await;
}
