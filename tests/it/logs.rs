//! The access log: what a line tells, which requests have one, and the trace that a request is part of.

use feedgate_simulator::{Scope, Simulator, Token, client};
use serde_json::Value;

use crate::{
    process::{Process, Reading},
    support::{NPM, PAT, contoso, until},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// A PAT that may write.
const WRITER: &str = "pat-of-a-writer";

/// A gate whose access log has every third hit, and headers of a reader whose requests are part of a trace.
struct Scene {
    simulator: Simulator,
    gate: Process,
    _folder: tempfile::TempDir,
}

// === impl Scene ===

impl Scene {
    async fn new() -> Self {
        let writer = Token::pat(WRITER).label("writer").scope(Scope::ReadWrite);
        let simulator = Simulator::builder().organisation(contoso().token(writer)).start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let gate = Process::start_with(&simulator, folder.path(), "log.hits_per_line = 3\n").await;
        Self { simulator, gate, _folder: folder }
    }

    async fn send(&self, method: &str, path: &str, traced: bool, body: &[u8]) -> client::Response {
        let pat = if method == "GET" { PAT } else { WRITER };
        let (credential, parent) = (client::basic("any", pat), format!("00-{TRACE}-{PARENT}-01"));
        let mut headers = vec![("Authorization", credential.as_str())];
        if traced {
            headers.extend([("traceparent", parent.as_str()), ("tracestate", "vendor=1")]);
        }
        client::send(method, &self.gate.url(path), &headers, body).await.unwrap()
    }

    /// The line of a request, by the id in its answer.
    async fn line(&self, answer: &client::Response) -> Value {
        let id = answer.header("x-request-id").unwrap();
        self.gate.logged_where(|line| line["target"] == "access" && line["id"] == id, 0).await
    }

    /// What the requests since then told about their trace, and about its state.
    fn told(&self, since: usize) -> Vec<(String, Option<String>, Option<String>)> {
        let header =
            |request: &feedgate_simulator::Logged, name: &str| request.header(name).map(str::to_owned);
        let requests = self.simulator.requests();
        let told = requests[since..].iter();
        told.map(|one| (one.path.clone(), header(one, "traceparent"), header(one, "tracestate"))).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_tells_how_a_request_went_and_its_trace_goes_on() {
    let scene = Scene::new().await;
    let answer = scene.send("GET", &format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"), true, b"").await;
    let line = scene.line(&answer).await;
    for (field, expected) in [
        ("method", "GET"),
        ("class", "npm_package"),
        ("cache", "miss"),
        ("storage_id", answer.header("etag").unwrap().trim_matches('"')),
        ("trace_id", TRACE),
        ("parent_id", PARENT),
        ("error", "-"),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    assert!(line["key"].as_str().unwrap().ends_with("/npm/tarball/left-pad/-/left-pad-1.3.0.tgz"), "{line}");
    assert_eq!(
        (line["status"].as_u64(), line["sent_bytes"].as_u64()),
        (Some(200), Some(answer.body.len() as u64))
    );
    assert!(
        line["answer_ms"].is_u64() && line["answer_ms"].as_u64() <= line["duration_ms"].as_u64(),
        "{line}"
    );
    assert!(line["caller"].as_str().unwrap().len() >= 8 && !line.to_string().contains(PAT), "{line}");

    // The service is asked as part of the trace, below the gate's span; the blob host is told nothing.
    let span = format!("00-{TRACE}-{}-01", line["span_id"].as_str().unwrap());
    let told = scene.told(0);
    let (blobs, asked): (Vec<_>, Vec<_>) = told.into_iter().partition(|(path, ..)| path.contains("/b-"));
    assert!(blobs.len() == 1 && !asked.is_empty(), "{blobs:?} {asked:?}");
    assert!(blobs.iter().all(|(_, parent, state)| parent.is_none() && state.is_none()), "{blobs:?}");
    for (path, parent, state) in asked {
        assert_eq!((parent, state.as_deref()), (Some(span.clone()), Some("vendor=1")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_is_part_of_the_trace_too_and_its_activity_is_told() {
    let scene = Scene::new().await;
    let before = scene.simulator.requests().len();
    let tag = format!("{NPM}/-/package/left-pad/dist-tags/beta");
    let answer = scene.send("PUT", &tag, true, b"\"1.3.0\"").await;
    let line = scene.line(&answer).await;
    assert_eq!((line["cache"].as_str(), line["trace_id"].as_str()), (Some("method"), Some(TRACE)), "{line}");
    assert_eq!(line["activity_id"].as_str(), answer.header("activityid"), "{line}");
    assert!(line["activity_id"].is_string(), "{line}");
    let span = format!("00-{TRACE}-{}-01", line["span_id"].as_str().unwrap());
    let told = scene.told(before);
    assert!(
        told.iter().any(|(_, parent, state)| {
            parent.as_ref() == Some(&span) && state.as_deref() == Some("vendor=1")
        }),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_hits_some_have_a_line_and_of_all_else_each() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz");
    assert_eq!(scene.send("GET", &path, false, b"").await.header("x-cache"), Some("MISS"));
    for _ in 0..7 {
        assert_eq!(scene.send("GET", &path, false, b"").await.header("x-cache"), Some("HIT"));
    }
    let last = scene.send("GET", "a//b/%zz", false, b"").await;
    assert_eq!(last.status, 400);
    let line = scene.line(&last).await;
    assert_eq!((line["error"].as_str(), line.get("trace_id")), (Some("path_encoding"), None), "{line}");
    // A line comes after its answer, and then the next request may have its own already.
    let of = |cache: &'static str| move |line: &Value| line["target"] == "access" && line["cache"] == cache;
    scene.gate.logged_where(of("hit"), 2).await;
    scene.gate.logged_where(of("miss"), 0).await;
    let count = |cache| scene.gate.log_lines(of(cache)).len();
    assert_eq!([count("miss"), count("hit"), count("local")], [1, 3, 1]);
}

/// Lines of the log that were lost, by the gate's own word.
async fn lost(gate: &Process) -> f64 {
    let metrics = client::get(&gate.admin_url("metrics"), &[]).await.unwrap().text();
    let value = metrics.lines().find_map(|line| line.strip_prefix("feedgate_log_lost_lines_total "));
    value.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_log_and_is_gone_costs_lines_and_no_request() {
    let scene = Scene::new().await;
    assert!(lost(&scene.gate).await < 1.0);
    scene.gate.stop_reading(Reading::Over);
    let path = format!("{NPM}/left-pad");
    until(async || {
        assert_eq!(scene.send("GET", &path, false, b"").await.status, 200);
        lost(&scene.gate).await >= 3.0
    })
    .await;
    assert_eq!(scene.gate.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_log_and_stalls_keeps_no_request_and_not_the_end() {
    let scene = Scene::new().await;
    scene.gate.stop_reading(Reading::Stalled);
    // With all that there is to tell, a pipe is full after some dozens of requests.
    assert_eq!(scene.gate.ask(&["log", "trace", "--for", "1h"]).await.0, Some(0));
    for _ in 0..400 {
        assert_eq!(scene.send("GET", "contoso//%zz", false, b"").await.status, 400);
    }
    assert_eq!(scene.gate.terminate().await, Some(0));
}
