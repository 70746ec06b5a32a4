//! Permits and counters around the client.

use std::{sync::Arc, time::Duration};

use prometheus::{Registry, proto::LabelPair};

use super::{
    AMPLE, SHORT, drained, get, http,
    server::{Act, Server, answer, ok},
    text,
};
use crate::{
    clock::Clock,
    throttle::{Class, Limits, ShedReason, SignalKind, Throttle},
    upstream::{Metered, Throttled, Upstream, UpstreamError},
};

fn throttle(queue_timeout: Duration) -> Arc<Throttle> {
    Arc::new(Throttle::new(&Limits {
        api_in_flight: 1,
        blob_in_flight: 1,
        queue_timeout,
        ..Limits::default()
    }))
}

/// The samples of a metric as `labels value` lines, sorted.
fn samples(registry: &Registry, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for family in registry.gather().iter().filter(|family| family.get_name() == name) {
        for metric in family.get_metric() {
            let labels: Vec<_> = metric.get_label().iter().map(LabelPair::get_value).collect();
            // A metric has a value of its own kind and zero for the others.
            let simple = metric.get_counter().get_value() + metric.get_gauge().get_value();
            let count = metric.get_histogram().get_sample_count();
            let value = if count > 0 { count.to_string() } else { simple.to_string() };
            lines.push(format!("{} {value}", labels.join(" ")));
        }
    }
    lines.sort();
    lines
}

#[tokio::test]
async fn a_permit_is_held_until_the_body_ends_fails_or_is_dropped() {
    let short = answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcd");
    let server = Server::start(vec![vec![ok("one"), short], vec![ok("three")]]).await;
    let throttle = throttle(AMPLE);
    let throttled = Throttled::new(http(&server), Arc::clone(&throttle), Clock::system());
    let held = || throttle.in_flight(Class::Api);

    let mut response = throttled.fetch(&get("/x")).await.unwrap();
    assert!(response.body.next().await.unwrap().is_some());
    assert_eq!(held(), 1);
    assert!(response.body.next().await.unwrap().is_none());
    assert_eq!(held(), 0, "after the last byte, though the response still lives");

    let mut response = throttled.fetch(&get("/x")).await.unwrap();
    assert_eq!(held(), 1);
    assert!(drained(&mut *response.body).await.1.is_err());
    assert_eq!(held(), 0);

    let response = throttled.fetch(&get("/x")).await.unwrap();
    assert_eq!(held(), 1);
    drop(response);
    assert_eq!(held(), 0);
}

#[tokio::test]
async fn a_request_without_a_permit_in_time_never_reaches_the_service() {
    let server = Server::start(vec![vec![ok("one")]]).await;
    let throttled = Throttled::new(http(&server), throttle(SHORT), Clock::system());
    let first = throttled.fetch(&get("/x")).await.unwrap();
    let error = throttled.fetch(&get("/x")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::Shed(ref shed) if shed.reason == ShedReason::Late && shed.waited >= SHORT),
        "{error}"
    );
    drop(first);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_refusal_is_heard_with_its_text_and_still_reaches_the_reader() {
    let text =
        "Request was blocked due to exceeding usage of resource 'Concurrency' in namespace 'IPAddress'";
    let check = async |head: &str, kind: SignalKind, of_gate: bool| {
        let length = text.len();
        let refusal = answer(&format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{text}"));
        let server = Server::start(vec![vec![refusal]]).await;
        let throttle = throttle(SHORT);
        let throttled = Throttled::new(http(&server), Arc::clone(&throttle), Clock::system());
        assert_eq!(self::text(&throttled, "/x").await.unwrap(), text, "{head}");
        let snapshot = throttle.snapshot();
        assert_eq!(snapshot.counters.signals[Class::Api as usize][kind as usize], 1, "{head}");
        assert_eq!(!snapshot.gate[Class::Api as usize].pause_left.is_zero(), of_gate, "{head}");
    };
    check("500 Internal Server Error", SignalKind::Refused, true).await;
    check("429 Too Many Requests\r\nRetry-After: 30", SignalKind::Refused, true).await;
    check("502 Bad Gateway", SignalKind::Failed, false).await;
    check("200 OK", SignalKind::Fine, false).await;
}

#[tokio::test]
async fn what_cannot_wait_for_the_end_of_a_pause_never_reaches_the_service() {
    let refusal = answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n");
    let server = Server::start(vec![vec![refusal, ok("never")]]).await;
    let throttled = Throttled::new(http(&server), throttle(SHORT), Clock::system());
    assert_eq!(throttled.fetch(&get("/x")).await.unwrap().status, 429);
    let error = throttled.fetch(&get("/x")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::Shed(ref shed) if shed.reason == ShedReason::Paused && shed.waited < SHORT),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_failed_request_gives_its_permit_back() {
    let server = Server::start(vec![vec![Act::Close]]).await;
    let throttle = throttle(AMPLE);
    let throttled = Throttled::new(http(&server), Arc::clone(&throttle), Clock::system());
    assert!(throttled.fetch(&get("/x")).await.is_err());
    assert_eq!(throttle.in_flight(Class::Api), 0);
}

#[tokio::test]
async fn an_exchange_is_counted_once_when_it_is_over() {
    let status = |status| answer(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    let script = vec![ok("four"), status(303), status(404), status(429), status(500), ok("dropped")];
    let short = answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    let server = Server::start(vec![script, vec![short], vec![Act::Close]]).await;
    let registry = Registry::new();
    let metered =
        Metered::new(Throttled::new(http(&server), throttle(AMPLE), Clock::system()), &registry).unwrap();
    let in_flight = || samples(&registry, "feedgate_upstream_in_flight");

    for _ in 0..5 {
        text(&metered, "/x").await.unwrap();
    }
    let response = metered.fetch(&get("/x")).await.unwrap();
    assert_eq!(in_flight(), ["api 1"]);
    drop(response);
    assert_eq!(in_flight(), ["api 0"]);
    assert!(text(&metered, "/x").await.is_err());
    assert!(text(&metered, "/x").await.is_err());

    let expected = [
        "api abandoned 1",
        "api broken 2",
        "api client_error 1",
        "api redirect 1",
        "api server_error 1",
        "api success 1",
        "api throttled 1",
    ];
    assert_eq!(samples(&registry, "feedgate_upstream_requests_total"), expected);
    let durations = samples(&registry, "feedgate_upstream_request_duration_seconds");
    assert_eq!(durations, ["api head 7", "api whole 8"]);
    assert_eq!(samples(&registry, "feedgate_upstream_received_bytes_total"), ["api 7"]);
}

#[tokio::test]
async fn metrics_are_registered_once() {
    let server = Server::start(vec![]).await;
    let registry = Registry::new();
    assert!(Metered::new(http(&server), &registry).is_ok());
    assert!(Metered::new(http(&server), &registry).is_err());
}
