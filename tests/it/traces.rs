//! Spans reach a collector, fit together and tell nothing secret; one that takes none costs requests nothing.

use std::{collections::HashMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use feedgate_simulator::{Scope, Simulator, Token, client};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use tokio::time::timeout;

use crate::{
    process::Process,
    scripted::{Act, Service, answer},
    support::{DEADLINE, NPM, PAT, Scene, contoso, until},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const TARBALL: &str = "left-pad/-/left-pad-1.3.0.tgz";
/// A PAT that may write.
const WRITER: &str = "pat-of-a-writer";
/// The collector's own key.
const KEY: &str = "planted-key-of-the-collector";

async fn simulator() -> Simulator {
    let writer = Token::pat(WRITER).label("writer").scope(Scope::ReadWrite);
    Simulator::builder().organisation(contoso().token(writer)).start().await.unwrap()
}

/// A collector that takes everything.
async fn collector() -> Service {
    Service::start(|_| answer("200 OK", "", b"")).await
}

fn settings(collector: &Service, extra: &str) -> String {
    format!("trace.endpoint = \"http://{}/otlp/\"\n{extra}\n", collector.address)
}

/// The spans so far, and the attributes of what they come from.
fn spans(collector: &Service) -> Vec<Span> {
    let of = |body: &[u8]| {
        let batch = ExportTraceServiceRequest::decode(body).unwrap();
        batch.resource_spans.into_iter().flat_map(|one| one.scope_spans).flat_map(|one| one.spans)
    };
    collector.asked("/otlp/v1/traces").iter().flat_map(|seen| of(&seen.body)).collect()
}

/// The spans, once there are so many.
async fn so_many(collector: &Service, count: usize) -> Vec<Span> {
    until(|| async { spans(collector).len() >= count }).await;
    spans(collector)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A span's attributes as texts.
fn told(span: &Span) -> HashMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |one: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        (one.key.clone(), text(one.value.as_ref().unwrap().value.as_ref().unwrap()))
    };
    span.attributes.iter().map(pair).collect()
}

async fn send(gate: &Process, method: &str, path: &str, flags: Option<&str>) -> client::Response {
    let pat = if method == "GET" { PAT } else { WRITER };
    let (credential, parent) =
        (client::basic("any", pat), format!("00-{TRACE}-{PARENT}-{}", flags.unwrap_or("")));
    let mut headers = vec![("Authorization", credential.as_str())];
    headers.extend(flags.map(|_| ("traceparent", parent.as_str())));
    let body: &[u8] = if method == "GET" { b"" } else { b"\"1.3.0\"" };
    let response = client::send(method, &gate.url(&format!("{NPM}/{path}")), &headers, body).await.unwrap();
    assert!(method == "PUT" || response.status == 200, "{}", response.text());
    response
}

/// The trace, the span and the one above it, as the line in the log of the request has them.
async fn logged(gate: &Process, response: &client::Response) -> [Option<String>; 3] {
    let id = response.header("x-request-id").unwrap();
    let line = gate.logged_where(|line| line["target"] == "access" && line["id"] == id, 0).await;
    ["trace_id", "span_id", "parent_id"].map(|key| line[key].as_str().map(ToOwned::to_owned))
}

async fn start(simulator: &Simulator, folder: &Path, extra: &str) -> Process {
    Process::start_with(simulator, folder, extra).await
}

fn ids(span: &Span) -> [Option<String>; 3] {
    let id = |bytes: &[u8]| (!bytes.is_empty()).then(|| hex(bytes));
    [id(&span.trace_id), id(&span.span_id), id(&span.parent_span_id)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_and_what_is_asked_for_it_are_spans_below() {
    let (simulator, collector, folder) = (simulator().await, collector().await, tempfile::tempdir().unwrap());
    let headers = folder.path().join("headers");
    std::fs::write(&headers, format!("api-key={KEY}\n")).unwrap();
    let more = format!("trace.headers_file = \"{}\"\ntrace.service_name = \"gate-7\"", headers.display());
    let gate = start(&simulator, folder.path(), &settings(&collector, &more)).await;

    let answer = send(&gate, "GET", TARBALL, Some("01")).await;
    let line = logged(&gate, &answer).await;
    assert_eq!((line[0].as_deref(), line[2].as_deref()), (Some(TRACE), Some(PARENT)));
    // The last byte of a download may reach the client before its end is noted.
    let asked: Vec<_> = simulator.requests().into_iter().filter(|one| !one.path.contains("/b-")).collect();
    let all = so_many(&collector, 1 + asked.len() + 1).await;
    let (server, below): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.kind == SpanKind::Server as i32);
    assert_eq!((server.len(), ids(server[0])), (1, line.clone()));
    assert_eq!(server[0].name, "GET npm_package");
    let tag = answer.header("etag").unwrap().trim_matches('"').to_owned();
    let length = answer.body.len().to_string();
    let attributes = told(server[0]);
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", &length),
        ("client.address", "127.0.0.1"),
        ("feedgate.cache", "miss"),
        ("feedgate.storage_id", &tag),
        ("feedgate.request_id", answer.header("x-request-id").unwrap()),
    ] {
        assert_eq!(attributes[key], expected, "{key} in {attributes:?}");
    }
    assert!(attributes["feedgate.key"].ends_with("/left-pad-1.3.0.tgz"), "{attributes:?}");

    // Each request to the service is one below it, and the service was told that one as its parent.
    let names = |of: &str| below.iter().filter(|one| one.name == of).count();
    assert_eq!((names("GET api"), names("GET blob")), (asked.len(), 1), "{below:?}");
    for span in &below {
        assert_eq!(ids(span)[..1], line[..1]);
        assert_eq!(ids(span)[2], line[1], "{span:?}");
        assert!(span.start_time_unix_nano >= server[0].start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
    }
    let mut parents: Vec<_> = asked.iter().map(|one| one.header("traceparent").unwrap().to_owned()).collect();
    let own = below.iter().filter(|one| one.name == "GET api");
    let mut expected: Vec<_> = own.map(|one| format!("00-{TRACE}-{}-01", hex(&one.span_id))).collect();
    parents.sort();
    expected.sort();
    assert_eq!(parents, expected);

    let batches = collector.asked("/otlp/v1/traces");
    assert_eq!(batches[0].header("content-type"), Some("application/x-protobuf"));
    assert_eq!(batches[0].header("api-key"), Some(KEY));
    let resource = ExportTraceServiceRequest::decode(&batches[0].body[..]).unwrap().resource_spans.remove(0);
    assert!(format!("{:?}", resource.resource).contains("gate-7"), "{resource:?}");
    gate.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_writes_are_spans_and_nothing_secret_is_in_any() {
    let (simulator, collector, folder) = (simulator().await, collector().await, tempfile::tempdir().unwrap());
    let gate = start(&simulator, folder.path(), &settings(&collector, "trace.requests_per_trace = 1")).await;
    let mut lines = Vec::new();
    for path in [TARBALL, TARBALL, TARBALL, "left-pad?write=true&token=planted-query", "left-pad"] {
        lines.push(logged(&gate, &send(&gate, "GET", path, None).await).await);
    }
    // Without a client's trace each begins one of its own.
    assert!(lines.iter().all(|line| line[0].is_some() && line[2].is_none()), "{lines:?}");
    let before = simulator.requests().len();
    let answer = send(&gate, "PUT", "-/package/left-pad/dist-tags/beta", Some("01")).await;
    let written = logged(&gate, &answer).await;
    // A client that does not want its trace to be kept is obeyed.
    let unwanted = send(&gate, "GET", TARBALL, Some("00")).await;
    assert_eq!(logged(&gate, &unwanted).await[0].as_deref(), Some(TRACE));
    // What is left is sent at the end.
    assert_eq!(gate.terminate().await, Some(0));
    let all = so_many(&collector, 1).await;
    let servers: Vec<_> = all.iter().filter(|one| one.kind == SpanKind::Server as i32).collect();
    let mut expected = lines.clone();
    expected.push(written.clone());
    assert_eq!(servers.len(), expected.len());
    let of = |wanted: &[Option<String>; 3]| servers.iter().find(|one| ids(one) == *wanted).unwrap();
    let caches: Vec<_> = expected.iter().map(|one| told(of(one))["feedgate.cache"].clone()).collect();
    assert_eq!(caches, ["miss", "hit", "hit", "bypass", "miss", "method"]);

    let client: Vec<_> = all.iter().filter(|one| ids(one)[2] == written[1]).collect();
    assert_eq!(client.len(), 1, "{client:?}");
    assert_eq!(client[0].name, "PUT api");
    assert_eq!(told(client[0])["http.response.status_code"], answer.status.to_string());
    let parent = format!("00-{TRACE}-{}-01", hex(&client[0].span_id));
    let sent = simulator.requests();
    assert!(sent[before..].iter().any(|one| one.header("traceparent") == Some(&parent)), "{parent}");

    let basic = |pat: &str| STANDARD.encode(format!("any:{pat}"));
    let secrets = [PAT.to_owned(), WRITER.to_owned(), basic(PAT), basic(WRITER)];
    for batch in collector.asked("") {
        let text = format!("{}{}", batch.head, String::from_utf8_lossy(&batch.body));
        for secret in secrets.iter().map(String::as_str).chain(["sig=", "planted-query", "?"]) {
            let body = if secret == "?" { format!("{all:?}") } else { text.clone() };
            assert!(!body.contains(secret), "{secret} in {body}");
        }
    }
}

/// Requests to a gate whose collector takes no spans, and what became of these in the end.
async fn without(endpoint: &str, extra: &str, outcome: &str) {
    let extra = format!("trace.endpoint = \"{endpoint}\"\ntrace.requests_per_trace = 1\n{extra}\n");
    let mut scene = Scene::with(simulator().await, &extra);
    for _ in 0..20 {
        assert_eq!(scene.get(&format!("{NPM}/{TARBALL}")).await.status, 200);
    }
    if !outcome.is_empty() {
        let label = format!("outcome=\"{outcome}\"");
        until(|| async { scene.metric(&["feedgate_trace_spans_total", &label]).await >= 20.0 }).await;
        assert!(scene.metric(&["feedgate_trace_spans_total", "exported"]).await < 1.0);
    }
    timeout(DEADLINE, tokio::task::spawn_blocking(move || scene.stop())).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_no_spans_costs_requests_nothing_and_is_counted() {
    let mut dead = collector().await;
    dead.vanish().await;
    without(&format!("http://{}", dead.address), "", "failed").await;
    let refusing = Service::start(|_| answer("503 Service Unavailable", "", b"")).await;
    without(&format!("http://{}", refusing.address), "", "failed").await;
    let silent = Service::start(|_| Act::Silence).await;
    without(&format!("http://{}", silent.address), "trace.timeout = \"50ms\"", "failed").await;
    // One for which a batch waits for an hour does not keep the gate from its end either.
    without(&format!("http://{}", silent.address), "trace.timeout = \"1h\"", "").await;
    let partial = ExportTracePartialSuccess { rejected_spans: i64::MAX, error_message: String::new() };
    let refusal = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let choosy = Service::start(move |_| answer("200 OK", "", &refusal)).await;
    without(&format!("http://{}", choosy.address), "", "failed").await;
}
