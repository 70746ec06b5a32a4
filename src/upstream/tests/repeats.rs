//! Repeats, whole documents and resumed downloads over real sockets.

use std::time::{Duration, UNIX_EPOCH};

use prometheus::Registry;

use super::{
    SHORT, get,
    server::{Act, Server, answer, ok, see_other},
    settings, text, whole,
};
use crate::{
    clock::Clock,
    config::{Retry, upstream::Upstream as Settings},
    upstream::{
        Azure, Expect, Http, Located, Phase, Resumes, Retries, Retrying, Upstream, UpstreamError,
        UpstreamRequest, Whole,
    },
};

const SHORT_BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"a\"\r\n\r\nabc";

fn clock() -> Clock {
    Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

/// The stack without permits and their counters.
fn stack(server: &Server, registry: &Registry) -> Retrying<Whole<Http>> {
    let retries = Retries::new(registry).unwrap();
    let http = Http::new(&settings(server)).unwrap().counting(retries.clone());
    Retrying::new(Whole::new(http, &settings(server)), Retry::default(), clock(), retries)
}

fn azure(server: &Server, registry: &Registry) -> Azure {
    let upstream = std::sync::Arc::new(stack(server, registry));
    Azure::new(upstream, &settings(server), clock(), Resumes::new(registry).unwrap())
}

fn document() -> UpstreamRequest {
    UpstreamRequest { whole: true, ..get("/x") }
}

fn counted(registry: &Registry) -> Vec<String> {
    let families = registry.gather();
    let retries = families.iter().filter(|family| family.get_name() == "feedgate_upstream_retries_total");
    let metrics = retries.flat_map(|family| family.get_metric().to_vec());
    let metrics = metrics.filter(|metric| metric.get_counter().get_value() > 0.0);
    metrics.map(|it| format!("{} {}", it.get_label()[1].get_value(), it.get_counter().get_value())).collect()
}

#[tokio::test]
async fn a_request_for_a_new_connection_leaves_the_kept_one_alone() {
    let server = Server::start(vec![vec![ok("one"), ok("three")], vec![ok("two")]]).await;
    let http = Http::new(&settings(&server)).unwrap();
    assert_eq!(text(&http, "/x").await.unwrap(), "one");
    let fresh = UpstreamRequest { fresh: true, ..get("/x") };
    assert_eq!(whole(http.fetch(&fresh).await.unwrap()).await.unwrap(), "two");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_ended_costs_no_pause_and_a_second_break_only_a_short_one() {
    let scripts = vec![vec![ok("one"), Act::Close], vec![Act::Close], vec![ok("two")]];
    let (server, registry) = (Server::start(scripts).await, Registry::new());
    let upstream = stack(&server, &registry);
    assert_eq!(text(&upstream, "/x").await.unwrap(), "one");
    assert_eq!(text(&upstream, "/x").await.unwrap(), "two");
    assert_eq!(server.connections(), 3);
    assert_eq!(counted(&registry), ["broken 1", "kept_connection 1"]);
}

#[tokio::test]
async fn a_document_that_breaks_is_asked_for_again_and_a_stream_is_not() {
    let (server, registry) = (Server::start(vec![vec![answer(SHORT_BODY)]; 2]).await, Registry::new());
    let upstream = stack(&server, &registry);
    assert!(matches!(text(&upstream, "/x").await, Err(UpstreamError::Length { .. })));
    assert_eq!(server.requests().len(), 1);

    let scripts = vec![vec![answer(SHORT_BODY)], vec![ok("whole")]];
    let (server, registry) = (Server::start(scripts).await, Registry::new());
    let response = stack(&server, &registry).fetch(&document()).await.unwrap();
    assert_eq!(whole(response).await.unwrap(), "whole");
    assert_eq!(counted(&registry), ["broken 1"]);
}

#[tokio::test]
async fn a_document_has_a_time_and_a_size_limit_of_its_own() {
    let server = Server::start(vec![vec![answer(SHORT_BODY), Act::Hang], vec![ok("too long")]]).await;
    let tight = Settings { document_timeout: SHORT, max_document_size: 7, ..settings(&server) };
    let upstream = Whole::new(Http::new(&tight).unwrap(), &tight);
    let late = upstream.fetch(&document()).await.unwrap_err();
    assert!(matches!(late, UpstreamError::Timeout { phase: Phase::Document, .. }), "{late}");
    assert!(late.to_string().contains("pkgs of contoso"), "{late}");
    let large = upstream.fetch(&document()).await.unwrap_err();
    assert!(matches!(large, UpstreamError::TooLarge { limit: 7 }), "{large}");
}

#[tokio::test]
async fn a_package_goes_on_with_a_range_and_without_a_credential() {
    let id = "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";
    let rest =
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-8/9\r\nContent-Length: 6\r\n\r\ndefghi";
    let gone = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start_with(|url| {
        let [old, new] = [1, 2].map(|n| see_other(&format!("{url}/b-1/{id}.blob?sig={n}")));
        vec![vec![old, answer(SHORT_BODY)], vec![answer(gone), new], vec![answer(rest)]]
    })
    .await;
    let registry = Registry::new();
    let azure = azure(&server, &registry);
    let mut request = get("/a.tgz");
    request.authorization = Some(http::HeaderValue::from_static("Basic eDp5"));
    let Located::Redirect(location) = azure.locate(request.clone()).await.unwrap() else {
        panic!("no redirect")
    };
    let response = azure.package(location, request).await.unwrap();
    assert_eq!(whole(response).await.unwrap(), "abcdefghi");

    let requests: Vec<_> = server.requests().iter().map(|request| request.to_lowercase()).collect();
    let has = |request: usize, text: &str| requests[request].contains(text);
    assert!(has(2, "sig=1 ") && has(2, "\r\nrange: bytes=3-\r\n") && has(2, "\r\nif-range: \"a\"\r\n"));
    assert!(has(3, "\r\nauthorization: basic edp5\r\n"));
    assert!(has(4, "sig=2 ") && has(4, "\r\nrange: bytes=3-\r\n") && !has(4, "if-range"));
    assert!([1, 2, 4].iter().all(|blob| !has(*blob, "authorization")), "{requests:?}");
}

#[tokio::test]
async fn only_documents_are_received_before_they_are_answers() {
    let scripts = vec![vec![answer(SHORT_BODY)], vec![answer(SHORT_BODY)], vec![ok("{}")]];
    let (server, registry) = (Server::start(scripts).await, Registry::new());
    let azure = azure(&server, &registry);
    assert!(azure.document(get("/any"), Expect::Any).await.is_ok(), "the head is enough");
    assert!(azure.document(get("/json"), Expect::Json).await.is_ok());
    assert_eq!(server.requests().len(), 3);
}
