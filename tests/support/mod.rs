//! A service that follows a script, byte by byte, and a client that reads answers byte by byte.
//!
//! Small on purpose: for what the simulator would never do on its own (wrong lengths, torn heads, silence) and for
//! what an HTTP client library hides (how a connection ends, what was sent after it).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use feedgate::{
    app::Gate,
    blob::VsoHasher,
    clock::Clock,
    config::{Config, Upstream},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

/// Longest wait for anything in a test; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a request's body that are kept; of the rest only number and checksum.
const KEPT: usize = 1 << 20;

/// A request as the service saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub head: String,
    pub body: Vec<u8>,
    pub length: usize,
    pub checksum: u32,
    /// How many requests came before it on its connection.
    pub earlier: usize,
}

/// What the service does with a request.
#[derive(Clone)]
pub enum Act {
    /// Writes these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Writes these bytes and closes.
    Close(Vec<u8>),
    /// Writes these bytes and then that many spaces.
    Flood(Vec<u8>, usize),
    /// Waits, then does the other.
    After(Arc<Notify>, Box<Act>),
    /// Says nothing.
    Silence,
}

type Script = Arc<Mutex<Box<dyn FnMut(&Seen) -> Act + Send>>>;

/// The scripted service: API and blob host in one.
pub struct Service {
    pub address: SocketAddr,
    seen: Arc<watch::Sender<Vec<Seen>>>,
    script: Script,
    listening: tokio::task::JoinHandle<()>,
}

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub whole: bool,
}

/// A connection to the gate.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

// === impl Seen ===

impl Seen {
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        lines(&self.head).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

// === impl Service ===

impl Service {
    pub async fn start(script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(Vec::new()));
        let script: Script = Arc::new(Mutex::new(Box::new(script)));
        let (log, play) = (seen.clone(), script.clone());
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, log.clone(), play.clone()));
            }
        });
        Self { address, seen, script, listening }
    }

    /// Another script from now on.
    pub fn play(&self, script: impl FnMut(&Seen) -> Act + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Refuses connections from now on, and breaks those that there are.
    pub async fn vanish(&mut self) {
        self.listening.abort();
        let _ = (&mut self.listening).await;
    }

    /// Waits until the requests so far are as `enough` wants them.
    pub async fn until(&self, enough: impl Fn(&[Seen]) -> bool) {
        let mut seen = self.seen.subscribe();
        let waiting = seen.wait_for(|seen| enough(seen));
        tokio::time::timeout(PATIENCE, waiting).await.expect("requests in time").unwrap();
    }

    /// Waits for a request whose path contains `part`.
    pub async fn until_asked(&self, part: &str) {
        self.until(|seen| seen.iter().any(|seen| seen.path().contains(part))).await;
    }

    /// The requests so far whose path contains `part`.
    pub fn asked(&self, part: &str) -> Vec<Seen> {
        self.seen.borrow().iter().filter(|seen| seen.path().contains(part)).cloned().collect()
    }

    /// The URL of a blob by the name that the service would give it.
    pub fn blob_url(&self, body: &[u8]) -> String {
        format!(
            "http://localhost:{}/b-0123456789abcdef0123456789abcdef/{}.blob?sig=secret",
            self.address.port(),
            vso(body)
        )
    }
}

async fn converse(mut stream: TcpStream, seen: Arc<watch::Sender<Vec<Seen>>>, script: Script) {
    let (mut buffer, mut earlier) = (Vec::new(), 0);
    while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
        request.earlier = earlier;
        earlier += 1;
        seen.send_modify(|seen| seen.push(request.clone()));
        let mut act = (script.lock().unwrap())(&request);
        loop {
            match act {
                Act::Answer(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                    break;
                }
                Act::Flood(head, spaces) => {
                    let (piece, mut left) = (vec![b' '; KEPT], spaces);
                    if stream.write_all(&head).await.is_err() {
                        return;
                    }
                    while left > 0 {
                        let now = left.min(piece.len());
                        if stream.write_all(&piece[..now]).await.is_err() {
                            return;
                        }
                        left -= now;
                    }
                    break;
                }
                Act::Close(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    return;
                }
                Act::After(event, next) => {
                    event.notified().await;
                    act = *next;
                }
                Act::Silence => std::future::pending().await,
            }
        }
    }
}

/// Reads a request. To one that waits for it says 100, unless the path has `denied`: then it is answered at once.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = fill_until(stream, buffer, b"\r\n\r\n").await?;
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let line = head.lines().next()?.to_owned();
    let mut request = Seen { line, head, body: Vec::new(), length: 0, checksum: 0, earlier: 0 };
    if request.header("expect").is_some() {
        if request.path().contains("denied") {
            return Some(request);
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    if request.header("transfer-encoding").is_some() {
        request.body = read_chunks(stream, buffer).await?;
        request.length = request.body.len();
    } else if let Some(length) = request.header("content-length") {
        let length = length.parse().unwrap();
        let mut sum = crc32fast::Hasher::new();
        let each = |piece: &[u8]| {
            let room = KEPT - request.body.len();
            request.body.extend_from_slice(&piece[..room.min(piece.len())]);
            sum.update(piece);
        };
        read_length(stream, buffer, length, each).await?;
        (request.length, request.checksum) = (length, sum.finalize());
    }
    Some(request)
}

// === impl Reply ===

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

// === impl Client ===

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends no more.
    pub async fn close_half(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer; `None` when the connection ended instead.
    pub async fn read(&mut self, method: &str) -> Option<Reply> {
        let reading = self.reading(method);
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time")
    }

    /// Reads the next answer, which has a `Content-Length`, and keeps none of its body; its status and length.
    pub async fn skim(&mut self) -> Option<(u16, usize)> {
        let head = self.read("HEAD").await?;
        let length = head.header("content-length")?.parse().unwrap();
        read_length(&mut self.stream, &mut self.buffer, length, |_| ()).await?;
        Some((head.status, length))
    }

    async fn reading(&mut self, method: &str) -> Option<Reply> {
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        let end = fill_until(stream, buffer, b"\r\n\r\n").await?;
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let mut first = head.lines().next().unwrap().splitn(3, ' ').skip(1);
        let status = first.next().unwrap().parse().unwrap();
        let reason = first.next().unwrap_or_default().to_owned();
        let headers = lines(&head).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut reply = Reply { status, reason, headers, body: Vec::new(), whole: true };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some(reply);
        }
        if reply.header("transfer-encoding").is_some() {
            let body = read_chunks(stream, buffer).await;
            reply.whole = body.is_some();
            reply.body = body.unwrap_or_default();
        } else if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().unwrap();
            reply.whole = fill_to(stream, buffer, length).await.is_some();
            reply.body = buffer.drain(..length.min(buffer.len())).collect();
        } else {
            while fill(stream, buffer).await.is_some() {}
            reply.body = std::mem::take(buffer);
        }
        Some(reply)
    }
}

/// One request on a connection of its own.
pub async fn ask(address: SocketAddr, request: &str) -> Reply {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.read(request.split(' ').next().unwrap()).await.expect("an answer")
}

/// A GET, with header lines that each end in `\r\n`.
pub async fn get(address: SocketAddr, path: &str, headers: &str) -> Reply {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n{headers}\r\n")).await
}

/// A whole answer of the service.
pub fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Act::Answer(bytes)
}

pub fn json(body: &str) -> Act {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// The content hash by which the service names bytes.
pub fn vso(body: &[u8]) -> String {
    let mut hasher = VsoHasher::new();
    hasher.update(body);
    hasher.finish().to_string()
}

/// A configuration for `service` with the store in `folder`.
pub fn config(service: SocketAddr, folder: &std::path::Path) -> Config {
    let port = service.port();
    let mut config = Config {
        upstream: Upstream {
            pkgs: format!("http://127.0.0.1:{port}/{{org}}").parse().unwrap(),
            feeds: format!("http://127.0.0.1:{port}/{{org}}").parse().unwrap(),
            blob_hosts: vec![format!("http://localhost:{port}").parse().unwrap()],
            ..Upstream::default()
        },
        ..Config::default()
    };
    config.listen.address = ([127, 0, 0, 1], 0).into();
    config.listen.threads = 2;
    config.listen.drain_timeout = Duration::from_secs(2);
    config.admin.address = ([127, 0, 0, 1], 0).into();
    // A script says what each request gets; the tests of repeats have their own.
    config.retry.attempts = 1;
    config.store.path = folder.into();
    config.store.free_reserve = 0;
    config
}

/// Starts a gate without holding up the test's own tasks.
pub async fn start(config: Config) -> Gate {
    start_at(config, Clock::system()).await
}

pub async fn start_at(config: Config, clock: Clock) -> Gate {
    tokio::task::spawn_blocking(move || Gate::start_at(config, clock)).await.unwrap().unwrap()
}

pub async fn stop(gate: Gate) {
    tokio::task::spawn_blocking(move || gate.stop()).await.unwrap();
}

fn lines(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

async fn fill_to(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<()> {
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    Some(())
}

/// Reads `length` bytes and shows them to `each` piece by piece.
async fn read_length(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    length: usize,
    mut each: impl FnMut(&[u8]),
) -> Option<()> {
    let mut left = length;
    loop {
        let now = left.min(buffer.len());
        each(&buffer[..now]);
        buffer.drain(..now);
        left -= now;
        if left == 0 {
            return Some(());
        }
        buffer.reserve(64 << 10);
        fill(stream, buffer).await?;
    }
}

async fn fill_until(stream: &mut TcpStream, buffer: &mut Vec<u8>, mark: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(mark.len()).position(|window| window == mark) {
            return Some(at + mark.len());
        }
        fill(stream, buffer).await?;
    }
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = fill_until(stream, buffer, b"\r\n").await?;
        let line = String::from_utf8(buffer.drain(..end).collect()).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        fill_to(stream, buffer, length + 2).await?;
        body.extend(buffer.drain(..length));
        buffer.drain(..2);
        if length == 0 {
            return Some(body);
        }
    }
}
