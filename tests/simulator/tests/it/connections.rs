//! Sockets: keep-alive, TLS, being gone and coming back.

use std::io::ErrorKind;
use std::time::Duration;

use feedgate_simulator::client::{self, Connection, Url};
use feedgate_simulator::{Listener, NpmPackage, NpmVersion, Pace, Simulator, Throttle};

use super::common::{contoso, start};

fn url(simulator: &Simulator) -> String {
    format!("{}left-pad", simulator.npm_url("contoso/open"))
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let simulator = start().await;
    let url = Url::parse(&url(&simulator)).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    for _ in 0..3 {
        assert_eq!(connection.request("GET", &url, &[], b"").await.unwrap().status, 200);
    }
    let last = connection.request("GET", &url, &[("Connection", "close")], b"").await.unwrap();
    assert_eq!(last.header("connection"), Some("close"));
    assert!(connection.closed().await);
    assert_eq!(simulator.accepted_connections(), 1);
    assert!(simulator.requests().iter().all(|logged| logged.connection == 0 && logged.completed));
}

#[tokio::test]
async fn request_bodies_may_be_chunked_or_announced() {
    let simulator = start().await;
    let url = Url::parse(&url(&simulator)).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    let head = format!("GET {} HTTP/1.1\r\nHost: h\r\n", url.target);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let announced = format!("{head}Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
    for request in [chunked, announced] {
        connection.send(request.as_bytes()).await.unwrap();
        assert_eq!(connection.response(false).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_is_not_http_gets_400() {
    let simulator = start().await;
    let url = Url::parse(&simulator.pkgs_url()).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    connection.send(b"\x16\x03\x01 hello\r\n\r\n").await.unwrap();
    assert_eq!(connection.response(false).await.unwrap().status, 400);
}

#[tokio::test]
async fn tls_is_spoken_on_all_doors() {
    let simulator = contoso().tls(true).start().await.unwrap();
    let ca = simulator.ca_pem().unwrap().to_owned();
    let tarball = format!("{}left-pad/-/left-pad-1.3.0.tgz", simulator.npm_url("contoso/open"));
    assert!(tarball.starts_with("https://127.0.0.1:"));
    let redirect = client::send_trusting(&ca, "GET", &tarball, &[]).await.unwrap();
    let location = redirect.header("location").unwrap();
    assert!(location.starts_with("https://localhost:"), "{location}");
    let blob = client::send_trusting(&ca, "GET", location, &[]).await.unwrap();
    assert_eq!(blob.body, simulator.npm_file("contoso/open", "left-pad", "1.3.0").0);
}

#[tokio::test]
async fn the_service_can_be_gone_and_come_back() {
    let simulator = start().await;
    let url = url(&simulator);
    let parsed = Url::parse(&url).unwrap();
    let mut open = Connection::open(&parsed, None).await.unwrap();
    assert_eq!(open.request("GET", &parsed, &[], b"").await.unwrap().status, 200);
    simulator.refuse_connections().await.unwrap();
    assert_eq!(simulator.open_connections(), 0);
    let reset = open.request("GET", &parsed, &[], b"").await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert_eq!(client::get(&url, &[]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    simulator.accept_connections().await.unwrap();
    assert_eq!(client::get(&url, &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn open_connections_can_be_reset_alone() {
    let simulator = start().await;
    let parsed = Url::parse(&url(&simulator)).unwrap();
    let mut open = Connection::open(&parsed, None).await.unwrap();
    assert_eq!(open.request("GET", &parsed, &[], b"").await.unwrap().status, 200);
    simulator.reset_connections().await;
    assert!(open.request("GET", &parsed, &[], b"").await.is_err());
    assert_eq!(client::get(&url(&simulator), &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn dropping_the_simulator_ends_everything() {
    let simulator = start().await;
    let parsed = Url::parse(&url(&simulator)).unwrap();
    let mut open = Connection::open(&parsed, None).await.unwrap();
    assert_eq!(open.request("GET", &parsed, &[], b"").await.unwrap().status, 200);
    drop(simulator);
    assert!(open.closed().await);
}

#[tokio::test]
async fn a_door_can_be_slow() {
    let simulator = start().await;
    simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_millis(80)));
    let began = tokio::time::Instant::now();
    let response = client::get(&url(&simulator), &[]).await.unwrap();
    assert!(response.first_byte_at - began >= Duration::from_millis(80));
    simulator.set_pace(Listener::Pkgs, Pace::default().bandwidth(response.body.len() as u64 * 10));
    let began = tokio::time::Instant::now();
    assert!(client::get(&url(&simulator), &[]).await.unwrap().complete);
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn concurrency_is_counted() {
    let simulator = start().await;
    simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_millis(50)));
    let url = url(&simulator);
    let requests = (0..5).map(|_| {
        tokio::spawn({
            let url = url.clone();
            async move { client::get(&url, &[]).await.unwrap().status }
        })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert!(simulator.peak_in_flight() > 1);
    assert_eq!(simulator.count(|logged| logged.status == 200), 5);
    simulator.clear_log();
    assert_eq!(simulator.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_has_is_in_the_log() {
    let simulator = start().await;
    let urls = [url(&simulator), format!("{}big", simulator.npm_url("contoso/open"))];
    let readme = serde_json::json!("x".repeat(300_000));
    let big = NpmPackage::new("big").version("1.0.0", NpmVersion::new()).field("readme", readme);
    simulator.add_npm("contoso/open", &big);
    simulator.throttle(Throttle::concurrency(1));
    for url in urls.iter().cycle().take(60) {
        simulator.clear_log();
        assert_eq!(client::get(url, &[]).await.unwrap().status, 200, "the permit was given back in time");
        let logged = simulator.requests().remove(0);
        assert_eq!((logged.status, logged.completed), (200, true));
        assert_eq!(simulator.in_flight(), 0);
    }
}
