//! Every kind of fault, as a client sees it.

use std::time::Duration;

use feedgate_simulator::client::{self, Connection, Response, Url};
use feedgate_simulator::{Fault, FaultKind, Matcher, Simulator, Times};

use super::common::start;

fn url(simulator: &Simulator) -> String {
    format!("{}left-pad", simulator.npm_url("contoso/open"))
}

/// The answer to a request that meets the fault, and the honest one.
async fn spoilt(kind: FaultKind) -> (std::io::Result<Response>, Response) {
    let simulator = start().await;
    let honest = client::get(&url(&simulator), &[]).await.unwrap();
    simulator.fault(Fault::new(Matcher::any(), kind, Times::Once));
    let spoilt = client::get(&url(&simulator), &[]).await;
    assert_eq!(client::get(&url(&simulator), &[]).await.unwrap().body, honest.body, "once is once");
    (spoilt, honest)
}

#[tokio::test]
async fn resets_come_where_they_were_ordered() {
    let (before, _) = spoilt(FaultKind::ResetBeforeHead).await;
    assert_eq!(before.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    for (kind, length) in [(FaultKind::ResetAfterHead, 0), (FaultKind::ResetAfterBody(100), 100)] {
        let (reset, honest) = spoilt(kind).await;
        let reset = reset.unwrap();
        assert_eq!((reset.status, reset.complete), (200, false));
        assert_eq!(reset.body, honest.body[..length]);
    }
}

#[tokio::test]
async fn bodies_end_early_or_late_or_change() {
    let (short, honest) = spoilt(FaultKind::Truncated(10)).await;
    let short = short.unwrap();
    assert_eq!((short.complete, &short.body[..]), (false, &honest.body[..10]));
    assert_eq!(short.header("content-length"), honest.header("content-length"));
    let (longer, honest) = spoilt(FaultKind::WrongLength(5)).await;
    let longer = longer.unwrap();
    assert_eq!((longer.complete, longer.body), (false, honest.body.clone()));
    let (shorter, honest) = spoilt(FaultKind::WrongLength(-5)).await;
    assert_eq!(shorter.unwrap().body, honest.body[..honest.body.len() - 5]);
    let (corrupted, honest) = spoilt(FaultKind::Corrupted).await;
    let corrupted = corrupted.unwrap();
    let differing = corrupted.body.iter().zip(&honest.body).filter(|(one, other)| one != other).count();
    assert_eq!((corrupted.complete, corrupted.body.len(), differing), (true, honest.body.len(), 1));
}

#[tokio::test]
async fn bytes_can_follow_the_end_of_a_body() {
    let simulator = start().await;
    simulator.fault(Fault::new(Matcher::any(), FaultKind::TooLong(4), Times::Once));
    let url = Url::parse(&url(&simulator)).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    assert!(connection.request("GET", &url, &[], b"").await.unwrap().complete);
    let error = connection.response(false).await.unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the extra bytes are no response");
}

#[tokio::test]
async fn chunked_bodies_come_whole_or_cut() {
    let (chunked, honest) = spoilt(FaultKind::ChunkedWithoutLength).await;
    let chunked = chunked.unwrap();
    assert_eq!(chunked.header("content-length"), None);
    assert_eq!((chunked.complete, chunked.body), (true, honest.body));
    let (cut, honest) = spoilt(FaultKind::ChunkedTruncated(50)).await;
    let cut = cut.unwrap();
    assert_eq!((cut.complete, &cut.body[..]), (false, &honest.body[..50]));
}

#[tokio::test]
async fn answers_are_replaced() {
    let (html, _) = spoilt(FaultKind::Html200).await;
    assert_eq!(html.unwrap().header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(spoilt(FaultKind::SignIn203).await.0.unwrap().status, 203);
    let (sign_in, _) = spoilt(FaultKind::SignIn302).await;
    assert!(sign_in.unwrap().header("location").unwrap().contains("_signin"));
    let (redirect, _) = spoilt(FaultKind::BadRedirect("https://evil.example.com/x".to_owned())).await;
    let redirect = redirect.unwrap();
    assert_eq!((redirect.status, redirect.header("location")), (303, Some("https://evil.example.com/x")));
    let (status, _) = spoilt(FaultKind::status_with(503, "Retry-After", "3")).await;
    let status = status.unwrap();
    assert_eq!((status.status, status.reason.as_str()), (503, "Service Unavailable"));
    assert_eq!(status.header("retry-after"), Some("3"));
    let cookie = ("Set-Cookie".to_owned(), "session=1".to_owned());
    let (extra, honest) = spoilt(FaultKind::ExtraHeaders(vec![cookie])).await;
    let extra = extra.unwrap();
    assert_eq!((extra.header("set-cookie"), &extra.body), (Some("session=1"), &honest.body));
}

#[tokio::test]
async fn gzip_comes_unasked_and_garbage_is_no_http() {
    let (compressed, honest) = spoilt(FaultKind::Gzip).await;
    assert_eq!(compressed.unwrap().decoded().unwrap(), honest.body);
    assert!(spoilt(FaultKind::NotHttp).await.0.is_err());
}

#[tokio::test]
async fn a_slow_answer_takes_its_time() {
    let began = tokio::time::Instant::now();
    let kind = FaultKind::Slow { bytes_per_second: 20_000, first_byte_delay: Duration::from_millis(30) };
    let (slow, honest) = spoilt(kind).await;
    let slow = slow.unwrap();
    assert_eq!((slow.complete, slow.body.len()), (true, honest.body.len()));
    assert!(slow.first_byte_at - began >= Duration::from_millis(30));
    let expected = Duration::from_micros(honest.body.len() as u64 * 50 * 8 / 10);
    assert!(began.elapsed() >= expected, "{:?} < {expected:?}", began.elapsed());
}

#[tokio::test]
async fn a_hanging_request_is_read_and_never_answered() {
    let simulator = start().await;
    simulator.fault(Fault::new(Matcher::path_contains("left-pad"), FaultKind::Hang, Times::Once));
    let address = url(&simulator);
    let hanging = tokio::spawn(async move { client::get(&address, &[]).await });
    while simulator.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let waited = tokio::time::timeout(Duration::from_millis(50), hanging).await;
    assert!(waited.is_err(), "no answer came");
    let logged = simulator.requests().remove(0);
    assert_eq!((logged.status, logged.completed), (0, false));
}

#[tokio::test]
async fn a_stalled_body_keeps_its_connection_open() {
    let simulator = start().await;
    simulator.fault(Fault::new(Matcher::any(), FaultKind::StallAfterBody(7), Times::Once));
    let url = Url::parse(&url(&simulator)).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    connection.send_request("GET", &url, &[], b"").await.unwrap();
    let (head, mut body) = connection.stream_response(false).await.unwrap();
    assert_eq!((head.status, body.next().await.unwrap().len()), (200, 7));
    assert!(tokio::time::timeout(Duration::from_millis(50), body.next()).await.is_err());
}

#[tokio::test]
async fn matchers_counts_and_clearing_are_obeyed() {
    let simulator = start().await;
    let matcher = Matcher::pkgs().and(Matcher::method("GET")).and(Matcher::path_contains("left-pad"));
    simulator.fault(Fault::new(matcher, FaultKind::status(500), Times::Count(2)).after(1));
    simulator.fault(Fault::new(Matcher::blob(), FaultKind::status(502), Times::Always));
    let get = async |url: &str| client::get(url, &[]).await.unwrap().status;
    let packument = url(&simulator);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(&packument).await);
    }
    assert_eq!(statuses, [200, 500, 500, 200]);
    let blob = format!("http://{}/b-0/0.blob", simulator.blob_authority());
    assert_eq!((get(&blob).await, get(&blob).await), (502, 502));
    simulator.clear_faults();
    assert_eq!(get(&blob).await, 403);
    assert_eq!(simulator.count(|logged| logged.status == 500), 2);
}

#[tokio::test]
async fn a_cut_body_is_logged_as_not_completed() {
    let simulator = start().await;
    simulator.fault(Fault::new(Matcher::any(), FaultKind::Truncated(9), Times::Once));
    assert!(!client::get(&url(&simulator), &[]).await.unwrap().complete);
    let logged = simulator.requests().remove(0);
    assert_eq!((logged.status, logged.bytes_sent, logged.completed), (200, 9, false));
}

#[tokio::test]
async fn a_body_is_asked_for_or_refused_before_it_is_sent() {
    let simulator = start().await;
    let path = simulator.npm_url("contoso/main") + "nothing";
    let url = Url::parse(&path).unwrap();
    let credential = client::basic("any", "bob-pat");
    let headers =
        [("Authorization", credential.as_str()), ("Expect", "100-continue"), ("Content-Length", "2")];
    let mut connection = Connection::open(&url, None).await.unwrap();
    connection.send_request("PUT", &url, &headers, b"").await.unwrap();
    assert_eq!(connection.interim().await.unwrap().status, 100);
    connection.send(b"{}").await.unwrap();
    let response = connection.response(false).await.unwrap();
    assert_eq!((response.status, response.text().contains("there is no version")), (400, true));
    assert_eq!(simulator.requests()[0].body_length, 2);

    simulator.fault(Fault::new(Matcher::method("PUT"), FaultKind::RefuseBody(413), Times::Once));
    let mut connection = Connection::open(&url, None).await.unwrap();
    connection.send_request("PUT", &url, &headers, b"").await.unwrap();
    let refusal = connection.response(false).await.unwrap();
    assert_eq!((refusal.status, refusal.header("connection")), (413, Some("close")));
    assert!(connection.closed().await);
    let logged = simulator.requests().pop().unwrap();
    assert_eq!((logged.status, logged.body_length), (413, 0));
}

#[tokio::test]
async fn a_chunked_body_counts_without_its_framing() {
    let simulator = start().await;
    let url = simulator.npm_url("contoso/main") + "nothing";
    let credential = client::basic("any", "bob-pat");
    let headers = [("Authorization", credential.as_str()), ("Transfer-Encoding", "chunked")];
    let body = b"1;extension=x\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n";
    let response = client::send("PUT", &url, &headers, body).await.unwrap();
    assert_eq!((response.status, response.text().contains("there is no version")), (400, true));
    assert_eq!(simulator.requests()[0].body_length, 2);
}
