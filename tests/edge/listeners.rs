//! More listeners: certificates, HTTP/2, and what proxies in front of the gate say.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use feedgate::config::{Config, Forwarded, Listener, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, HandshakeKind, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    },
};

use super::support::{Act, Seen, json};
use super::{A, PACKUMENT, Scene, stop};

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];

/// An authority of certificates, and a folder for files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    folder: TempDir,
}

// === impl Authority ===

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let certificate = certificate.der().clone();
        Self { issuer: Issuer::new(params, key), certificate, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a new certificate for the gate; its bytes.
    pub fn renew(&self) -> Vec<u8> {
        let (certificate, key) = self.issue("gate.test");
        write(&self.path("gate.key"), &key.serialize_pem());
        write(&self.path("gate.pem"), &certificate.pem());
        certificate.der().to_vec()
    }

    pub fn files(&self, client_ca: bool) -> TlsFiles {
        TlsFiles {
            certificate: self.path("gate.pem"),
            key: self.path("gate.key"),
            client_ca: client_ca.then(|| self.path("ca.pem")),
        }
    }

    pub async fn connect(
        &self,
        address: SocketAddr,
        alpn: &[u8],
        own: Option<&Self>,
    ) -> TlsStream<TcpStream> {
        self.try_connect(address, alpn, own).await.unwrap()
    }

    async fn try_connect(
        &self,
        address: SocketAddr,
        alpn: &[u8],
        own: Option<&Self>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = self.client(own);
        config.alpn_protocols = vec![alpn.to_vec()];
        open(&Arc::new(config), address).await
    }

    /// How a client that trusts this authority speaks TLS.
    fn client(&self, own: Option<&Self>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = authority.issue("client.test");
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        }
    }
}

async fn open(config: &Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("gate.test").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// Replaces a file as certificate tools do: whole or not at all.
fn write(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

fn document(seen: &Seen) -> Act {
    let url = format!("https://pkgs.dev.azure.com{}/-/left-pad-1.3.0.tgz", seen.path());
    json(&format!(r#"{{"name":"left-pad","versions":{{"1.3.0":{{"dist":{{"tarball":"{url}"}}}}}}}}"#))
}

async fn scene(listener: Listener) -> (Scene, SocketAddr) {
    scene_with(listener, |_| {}).await
}

pub async fn scene_with(listener: Listener, change: impl FnOnce(&mut Config)) -> (Scene, SocketAddr) {
    let scene = Scene::with(document, |config| {
        config.listeners = vec![listener];
        change(config);
    })
    .await;
    let address = scene.gate.listener_addresses()[0];
    (scene, address)
}

pub fn listener(tls: Option<TlsFiles>, forwarded: Forwarded, trusted: &[&str]) -> Listener {
    let trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
    Listener { address: ([127, 0, 0, 1], 0).into(), tls, forwarded, trusted }
}

fn request(headers: &str) -> String {
    format!("GET {PACKUMENT} HTTP/1.1\r\nHost: gate.test\r\n{A}{headers}Connection: close\r\n\r\n")
}

/// Sends `bytes`; everything that comes back. Empty when the connection breaks.
async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    bytes: &str,
) -> String {
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(bytes.as_bytes()).await?;
        stream.flush().await?;
        stream.read_to_end(&mut answer).await
    };
    // A refused connection is reset.
    let _ = tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("an answer in time");
    String::from_utf8(answer).unwrap()
}

/// Asks over HTTP/2; status and body.
pub async fn ask_h2(
    stream: TlsStream<TcpStream>,
    request: http::Request<()>,
) -> Result<(u16, String), h2::Error> {
    let (client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let (answer, _) = client.send_request(request, true)?;
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("an answer in time")?;
    let status = answer.status().as_u16();
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        text.extend_from_slice(&piece?);
    }
    connection.abort();
    Ok((status, String::from_utf8(text).unwrap()))
}

pub fn h2_request() -> http::Request<()> {
    let request = http::Request::get(format!("https://gate.test{PACKUMENT}"));
    request.header("authorization", "Basic YTph").body(()).unwrap()
}

// === TLS ===

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_listener_speaks_both_versions_of_http_and_names_itself_https() {
    let authority = Authority::new();
    authority.renew();
    let (scene, address) = scene(listener(Some(authority.files(false)), Forwarded::None, &[])).await;
    let expected = format!("\"https://gate.test{PACKUMENT}/-/left-pad-1.3.0.tgz\"");
    let old = exchange(authority.connect(address, b"http/1.1", None).await, &request("")).await;
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n") && old.contains(&expected), "{old}");
    let stream = authority.connect(address, b"h2", None).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (status, body) = ask_h2(stream, h2_request()).await.unwrap();
    assert_eq!((status, body.contains(&expected)), (200, true), "{body}");
    let plain = exchange(TcpStream::connect(address).await.unwrap(), &request("")).await;
    assert!(!plain.contains("200 OK"), "{plain}");
    let plain = scene.get(PACKUMENT, A).await.text();
    assert!(plain.contains("\"http://gate.test/"), "{plain}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_with_its_earlier_tls_session() {
    let authority = Authority::new();
    authority.renew();
    let (scene, address) = scene(listener(Some(authority.files(false)), Forwarded::None, &[])).await;
    let client = Arc::new(authority.client(None));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let stream = open(&client, address).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        assert!(exchange(stream, &request("")).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_while_requests_go_on() {
    let authority = Authority::new();
    let mut shown = authority.renew();
    let (scene, address) = scene(listener(Some(authority.files(false)), Forwarded::None, &[])).await;
    for _ in 0..2 {
        let renewed = authority.renew();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while shown != renewed {
            assert!(tokio::time::Instant::now() < deadline, "the old certificate is still shown");
            let streams = (0..5).map(|_| authority.connect(address, b"http/1.1", None));
            for stream in futures::future::join_all(streams).await {
                shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                let answer = exchange(stream, &request("")).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_for_clients_nobody_comes_in_without_its_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.renew();
    let (scene, address) = scene(listener(Some(authority.files(true)), Forwarded::None, &[])).await;
    let good = authority.connect(address, b"http/1.1", Some(&authority)).await;
    assert!(exchange(good, &request("")).await.starts_with("HTTP/1.1 200 OK\r\n"));
    for own in [None, Some(&stranger)] {
        // With TLS 1.3 the client learns of its refusal after its handshake.
        if let Ok(stream) = authority.try_connect(address, b"http/1.1", own).await {
            assert_eq!(exchange(stream, &request("")).await, "");
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_certificate_are_a_clear_error() {
    let authority = Authority::new();
    let service = Scene::new(document).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = super::config(service.service.address, folder.path());
    config.listeners = vec![listener(Some(authority.files(false)), Forwarded::None, &[])];
    let start = tokio::task::spawn_blocking(move || feedgate::app::Gate::start(config));
    let error = format!("{:#}", start.await.unwrap().err().unwrap());
    assert!(error.contains("listener[0]") && error.contains("gate.pem"), "{error}");
    service.end().await;
}

// === HTTP/2 ===

/// A frame of stream `stream` (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as they are, without a table or a code (RFC 7541 §6.2.2): a library would refuse to send most of these.
pub fn fields(rows: &[(&str, &str)]) -> Vec<u8> {
    // RFC 7541 §5.1, with seven bits in the first byte.
    let length = |length: usize| {
        let Some(mut rest) = length.checked_sub(127) else { return vec![u8::try_from(length).unwrap()] };
        let mut bytes = vec![127];
        while rest > 127 {
            bytes.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        [bytes, vec![u8::try_from(rest).unwrap()]].concat()
    };
    let text = |text: &str| [length(text.len()), text.as_bytes().to_vec()].concat();
    rows.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// Whether a request of these fields and this body is answered with 200; if not it is refused, in whatever way.
async fn is_answered(mut stream: TlsStream<TcpStream>, rows: Headers<'_>, body: &[u8]) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, 4 | u8::from(body.is_empty()), 1, &fields(rows)));
    if !body.is_empty() {
        bytes.extend(frame(DATA, 1, 1, body));
    }
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return false;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            match head[3] {
                // The first field is the status; 200 is entry 8 of the table that everybody has (RFC 7541 §A).
                HEADERS => return payload[0] == 0x88,
                RESET | GOAWAY => return false,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answer).await.expect("an answer in time")
}

/// Fields of a request over HTTP/2.
type Fields = Vec<(&'static str, &'static str)>;

fn with(method: &'static str, more: &[(&'static str, &'static str)]) -> Fields {
    let start =
        [(":method", method), (":scheme", "https"), (":authority", "gate.test"), (":path", PACKUMENT)];
    [&start[..], more].concat()
}

fn path(path: &'static str) -> Fields {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", "gate.test"), (":path", path)]
}

fn of(authority: &'static str) -> Fields {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", PACKUMENT)]
}

/// What would be another request, or two, once it is written as HTTP/1; with its body.
fn smuggling() -> Vec<(Fields, &'static [u8])> {
    let inner: &[u8] = b"GET /contoso/smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    vec![
        (with("PUT", &[("transfer-encoding", "chunked")]), inner),
        (with("PUT", &[("content-length", "1")]), inner),
        (with("PUT", &[("content-length", "100")]), b"short"),
        (with("PUT", &[("content-length", "5"), ("content-length", "6")]), b"hello"),
        (with("PUT", &[("content-length", "+5")]), b"hello"),
        (with("PUT", &[("content-length", "5\r\ntransfer-encoding: chunked")]), b"hello"),
        (with("GET", &[("x", "y\r\nhost: other")]), b""),
        (with("GET", &[("x", "y\r\n\r\nGET /contoso/smuggled HTTP/1.1")]), b""),
        (with("GET", &[("x", "y\nz: a")]), b""),
        (with("GET", &[("x", "y\0z")]), b""),
        (with("GET", &[("x: y\r\nz", "a")]), b""),
        (with("GET", &[("X-Upper", "y")]), b""),
        (with("GET", &[("x y", "z")]), b""),
        (with("GET", &[("", "z")]), b""),
        (with("GET", &[("connection", "keep-alive")]), b""),
        (with("GET", &[("keep-alive", "timeout=5")]), b""),
        (with("GET", &[("proxy-connection", "close")]), b""),
        (with("GET", &[("upgrade", "websocket")]), b""),
        (with("GET", &[("te", "chunked")]), b""),
        (with("GET", &[("host", "other.test")]), b""),
        (with("GET", &[(":path", "/contoso/smuggled")]), b""),
        (with("GET", &[("x", "y"), (":late", "z")]), b""),
        (with("GET /contoso/smuggled HTTP/1.1\r\nx:", &[]), b""),
        (with("TRACE", &[]), b""),
        (with("CONNECT", &[]), b""),
        (path("/contoso/x HTTP/1.1\r\nhost: other\r\n\r\nGET /contoso/smuggled"), b""),
        (path("/contoso/a b"), b""),
        (path("contoso/x"), b""),
        (path(""), b""),
        (vec![(":method", "GET"), (":scheme", "https"), (":path", PACKUMENT)], b""),
        (of("a:b:c"), b""),
        (of(":443"), b""),
        (of("[::1"), b""),
        (of("gate.test:port"), b""),
        (with("GET", &[("host", "gate.test"), ("host", "gate.test")]), b""),
        (with("GET", &[("authorization", "Basic YTph"), ("authorization", "Basic YTpi")]), b""),
        (with("GET", &[("x", "y"); 101]), b""),
        (path(String::leak(format!("{PACKUMENT}?{}", "a".repeat(9_000)))), b""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_2_could_smuggle_into_http_1_is_refused() {
    let authority = Authority::new();
    authority.renew();
    let (scene, address) = scene(listener(Some(authority.files(false)), Forwarded::None, &[])).await;
    let ask = async |rows: Fields, body: &'static [u8]| {
        is_answered(authority.connect(address, b"h2", None).await, &rows, body).await
    };
    assert!(ask(with("GET", &[]), b"").await, "a right one");
    assert!(ask(with("PUT", &[("content-length", "2")]), b"{}").await, "a right one with a body");
    assert!(ask(of("[2001:db8::1]:443"), b"").await && ask(with("GET", &[("x", "y"); 90]), b"").await);
    for (fields, body) in smuggling() {
        assert!(!ask(fields.clone(), body).await, "{fields:?}");
    }
    for seen in scene.service.asked("") {
        super::hostile::check_canonical("HTTP/2", &seen);
    }
    scene.end().await;
}

// === proxies ===

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_trusted_says_who_asks_and_how() {
    let headers =
        "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: packages.test\r\n";
    let named = format!("\"https://packages.test{PACKUMENT}/-/left-pad-1.3.0.tgz\"");
    let own = format!("\"http://gate.test{PACKUMENT}/-/left-pad-1.3.0.tgz\"");
    for (trusted, expected) in [("127.0.0.0/8", &named), ("192.0.2.0/24", &own)] {
        let (scene, address) = scene(listener(None, Forwarded::Headers, &[trusted])).await;
        let answer = exchange(TcpStream::connect(address).await.unwrap(), &request(headers)).await;
        assert!(answer.contains(expected), "{trusted}: {answer}");
        let plain = scene.get(PACKUMENT, &format!("{A}{headers}")).await.text();
        assert!(plain.contains(&own), "[listen] trusts nobody: {plain}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_comes_first_and_counts_for_its_client() {
    let one = |config: &mut Config| config.limits.connections_per_address = 1;
    let trusting = listener(None, Forwarded::ProxyProtocol, &["127.0.0.0/8"]);
    let (scene, address) = scene_with(trusting, one).await;
    let line = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 4000 443\r\n");
    // An open connection takes the only place of its client, and of nobody else.
    let mut open = TcpStream::connect(address).await.unwrap();
    let request = request("");
    let kept = request.replace("Connection: close\r\n", "");
    open.write_all(format!("{}{kept}", line("192.0.2.1")).as_bytes()).await.unwrap();
    assert!(open.read(&mut [0; 1]).await.unwrap() > 0);
    let rows = [
        (line("192.0.2.2"), true),
        (line("192.0.2.1"), false),
        (String::new(), false),
        ("PROXY TCP4 nonsense\r\n".to_owned(), false),
    ];
    for (header, served) in rows {
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(stream, &format!("{header}{request}")).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 OK\r\n"), served, "{header}: {answer}");
    }
    drop(open);
    scene.end().await;
    let (scene, address) =
        scene_with(listener(None, Forwarded::ProxyProtocol, &["192.0.2.0/24"]), |_| {}).await;
    let stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(exchange(stream, &format!("{}{request}", line("192.0.2.1"))).await, "", "not from a proxy");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_admitted_while_the_gate_drains_has_time_to_say_what_it_wants() {
    let trusting = listener(None, Forwarded::ProxyProtocol, &["127.0.0.0/8"]);
    let patient = |config: &mut Config| config.listen.drain_timeout = Duration::from_secs(30);
    let (scene, address) = scene_with(trusting, patient).await;
    let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 443\r\n";
    let mut late = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(line).await.unwrap();
    let stopping = tokio::spawn(stop(scene.gate));
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "it had brought no request in time");
    late.write_all(line).await.unwrap();
    // As far as its request has to go.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = exchange(late, &request("")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    stopping.await.unwrap();
}
