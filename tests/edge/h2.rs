//! What one HTTP/2 connection can cost: bodies that trickle, streams that are reset, frames in floods.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use feedgate::config::{Config, Forwarded};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use super::listeners::{Authority, ask_h2, fields, frame, h2_request, listener, scene_with};
use super::support::{Act, Seen, json};
use super::{NPM, PACKUMENT, Scene, gauge};

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// Flags of a request without a body whose fields are all in its frame.
const WHOLE: u8 = 1 | 4;
/// The error of a connection that asks for too much (RFC 9113 §7).
const ENHANCE_YOUR_CALM: u32 = 11;
/// Longest wait for anything; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

fn script(seen: &Seen) -> Act {
    if seen.path().contains("silent") { Act::Silence } else { json(r#"{"name":"left-pad","versions":{}}"#) }
}

/// A gate with a listener for TLS.
async fn gate(change: impl FnOnce(&mut Config)) -> (Authority, Scene, SocketAddr) {
    let authority = Authority::new();
    authority.renew();
    let files = listener(Some(authority.files(false)), Forwarded::None, &[]);
    let (scene, address) = scene_with(files, change).await;
    scene.service.play(script);
    (authority, scene, address)
}

/// A connection after its preface.
async fn open(authority: &Authority, address: SocketAddr) -> TlsStream<TcpStream> {
    let mut stream = authority.connect(address, b"h2", None).await;
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &[]));
    stream.write_all(&begin).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

fn request(stream: u32, path: &str) -> Vec<u8> {
    let rows = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.test"),
        (":path", path),
        ("authorization", "Basic YTph"),
    ];
    frame(HEADERS, WHOLE, stream, &fields(&rows))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &8u32.to_be_bytes())
}

/// The next frame; none when the connection is at its end.
async fn read(stream: &mut TlsStream<TcpStream>) -> Option<(u8, Vec<u8>)> {
    let next = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], payload))
    };
    timeout(PATIENCE, next).await.expect("a frame or the end in time")
}

/// Sends `bytes` and reads until the connection ends; the error that it was ended with, if that came.
async fn ended_with(mut stream: TlsStream<TcpStream>, bytes: Vec<u8>) -> Option<u32> {
    // The gate may end it before it has read all.
    let sending = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    let _ = timeout(PATIENCE, sending).await.expect("taken, or refused, in time");
    let mut code = None;
    while let Some((kind, payload)) = read(&mut stream).await {
        if kind == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    code
}

async fn is_served(authority: &Authority, address: SocketAddr) -> bool {
    let stream = authority.connect(address, b"h2", None).await;
    ask_h2(stream, h2_request()).await.is_ok_and(|(status, _)| status == 200)
}

/// Bytes of memory that this process has, the gate in it.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

// === bodies ===

/// Sends a body in pieces of `size` bytes, one each 100 ms, `pieces` of them: the status, or none for a reset.
async fn upload(
    mut client: h2::client::SendRequest<Bytes>,
    (method, path): (&str, &str),
    size: usize,
    pieces: usize,
) -> Option<u16> {
    let length = size * pieces;
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://gate.test{path}"))
        .header("authorization", "Basic YTph")
        .header("content-length", length)
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    let sending = tokio::spawn(async move {
        for piece in 1..=pieces {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if body.send_data(vec![b' '; size].into(), piece == pieces).is_err() {
                return;
            }
        }
    });
    let answer = timeout(PATIENCE, answer).await.expect("an answer in time");
    sending.abort();
    answer.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_ended_and_one_that_is_slow_but_steady_is_not() {
    let (authority, scene, address) = gate(|config| {
        config.limits.body_timeout = Duration::from_secs(2);
        config.limits.min_rate = 100;
    })
    .await;
    let stream = authority.connect(address, b"h2", None).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let advisories = format!("{NPM}/-/npm/v1/security/advisories/bulk");
    // Forwarded, read for its answer, and read because it is there.
    let targets = [("PUT", PACKUMENT), ("POST", advisories.as_str()), ("GET", PACKUMENT)];
    let uploads = |size, pieces| {
        let each = targets.map(|target| upload(client.clone(), target, size, pieces));
        futures::future::join_all(each)
    };
    // A byte each 100 ms is a tenth of the rate, 500 bytes are fifty times as much.
    let (trickling, steady) = tokio::join!(uploads(1, 1_000), uploads(500, 50));
    assert_eq!(trickling, [Some(408); 3]);
    assert_eq!([steady[0], steady[2]], [Some(200); 2], "{steady:?}");
    assert!(steady[1].is_some_and(|status| status != 408), "{steady:?}");
    assert!(is_served(&authority, address).await);
    connection.abort();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_begins_is_closed() {
    let short = |config: &mut Config| config.limits.header_timeout = Duration::from_secs(2);
    let (authority, scene, address) = gate(short).await;
    let never = [0, 10, 24].map(async |begun| {
        let mut stream = authority.connect(address, b"h2", None).await;
        stream.write_all(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..begun]).await.unwrap();
        while read(&mut stream).await.is_some() {}
    });
    futures::future::join_all(never).await;
    // One that has begun has longer.
    let mut begun = open(&authority, address).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    begun.write_all(&request(1, PACKUMENT)).await.unwrap();
    while read(&mut begun).await.expect("an answer").0 != HEADERS {}
    scene.end().await;
}

// === floods ===

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_streams_only_to_reset_them_loses_its_connection() {
    let (authority, scene, address) = gate(|_| {}).await;
    assert!(is_served(&authority, address).await);
    let before = memory();
    for _ in 0..5 {
        let flood = (0..10_000).flat_map(|at| {
            let stream = 2 * at + 1;
            [request(stream, &format!("{NPM}/silent-{at}")), reset(stream)].concat()
        });
        let code = ended_with(open(&authority, address).await, flood.collect()).await;
        // A connection that is reset with bytes unread may lose its last frame.
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    }
    let asked = scene.service.asked("silent").len();
    assert!(asked < 2_000, "of 50,000 requests the service got {asked}");
    assert!(memory() < before + (64 << 20), "from {before} to {} bytes", memory());
    assert!(is_served(&authority, address).await);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_their_client_resets_are_let_go() {
    let (authority, scene, address) = gate(|_| {}).await;
    assert!(is_served(&authority, address).await);
    let mut stream = open(&authority, address).await;
    let in_flight = || gauge(&scene.gate, "feedgate_requests_in_flight");
    let mut most = 0.0_f64;
    let mut before = Vec::new();
    for at in 0..300 {
        let id = 2 * at + 1;
        // The answer to the ping comes after the request was taken up.
        let ping = frame(PING, 0, 0, &u64::from(id).to_be_bytes());
        let bytes = [before, request(id, &format!("{NPM}/silent-{at}")), ping].concat();
        stream.write_all(&bytes).await.unwrap();
        while read(&mut stream).await.expect("the connection stays").0 != PING {}
        before = reset(id);
        if at % 50 == 0 {
            most = most.max(in_flight());
        }
    }
    stream.write_all(&before).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while in_flight() > 0.0 {
        assert!(Instant::now() < deadline, "{} are still worked on", in_flight());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(most <= 200.0, "{most} at once");
    assert!(is_served(&authority, address).await);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_costs_its_client_the_connection() {
    let (authority, scene, address) = gate(|_| {}).await;
    let before = memory();
    let padding = "a".repeat(120);
    let part = fields(&[("x-padding", padding.as_str()); 100]);
    let open_head = frame(HEADERS, 1, 1, &fields(&[(":method", "GET"), (":scheme", "https")]));
    let empty = frame(CONTINUATION, 0, 1, &[]);
    for continuation in
        [frame(CONTINUATION, 0, 1, &part), empty, frame(CONTINUATION, 0, 1, &fields(&[("a", "b")]))]
    {
        let mut flood = open_head.clone();
        let count = (32 << 20) / continuation.len();
        flood.extend(continuation.repeat(count));
        let code = ended_with(open(&authority, address).await, flood).await;
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
        assert!(is_served(&authority, address).await);
    }
    // The floods are this process's own.
    assert!(memory() < before + (96 << 20), "from {before} to {} bytes", memory());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_answers_to_settings_and_pings_and_takes_none_is_cut_off() {
    let short = |config: &mut Config| config.limits.send_timeout = Duration::from_secs(1);
    let (authority, scene, address) = gate(short).await;
    let before = memory();
    let mut stream = open(&authority, address).await;
    let piece = [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].concat().repeat(2_048);
    let mut sent = 0;
    let sending = async {
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
    };
    timeout(4 * PATIENCE, sending).await.expect("the end of the connection in time");
    assert!(is_served(&authority, address).await, "after {sent} bytes");
    assert!(memory() < before + (64 << 20), "from {before} to {} bytes", memory());
    scene.end().await;
}
