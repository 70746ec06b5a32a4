//! A server on a free port that plays one script for each connection, and remembers what it was asked.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What the server does next on a connection. After its last act it closes the connection.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Reads a request and writes these bytes.
    Answer(Vec<u8>),
    /// Reads a request and closes.
    Close,
    /// Closes with the request unread, which the system turns into a reset.
    Reset,
    /// Closes without a farewell: TLS does not say that the data has ended.
    Cut,
    /// Does nothing, for ever.
    Hang,
}

pub(super) struct Server {
    scheme: &'static str,
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    connections: usize,
    requests: Vec<String>,
    protocols: Vec<Option<Vec<u8>>>,
}

/// A response with a length.
pub(super) fn ok(body: &str) -> Act {
    answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// A response as it is.
pub(super) fn answer(raw: &str) -> Act {
    Act::Answer(raw.as_bytes().to_vec())
}

/// A redirect.
pub(super) fn see_other(location: &str) -> Act {
    answer(&format!("HTTP/1.1 303 See Other\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nmoved"))
}

impl Server {
    /// Plays the scripts in the order of connections; further connections are closed at once.
    pub(super) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::run(listener, None, |_| scripts)
    }

    /// Like [`Server::start`], for scripts that need to know the server's own URL.
    pub(super) async fn start_with(scripts: impl FnOnce(&str) -> Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::run(listener, None, scripts)
    }

    /// Like [`Server::start`], over TLS.
    pub(super) async fn start_tls(acceptor: TlsAcceptor, scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::run(listener, Some(acceptor), |_| scripts)
    }

    fn run(
        listener: TcpListener,
        acceptor: Option<TlsAcceptor>,
        scripts: impl FnOnce(&str) -> Vec<Vec<Act>>,
    ) -> Self {
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let server = Self { scheme, address: listener.local_addr().unwrap(), log: Arc::default() };
        let mut scripts = scripts(&server.url()).into_iter();
        let log = Arc::clone(&server.log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                log.lock().connections += 1;
                let script = scripts.next().unwrap_or_default();
                tokio::spawn(serve(stream, acceptor.clone(), script, Arc::clone(&log)));
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }

    pub(super) fn authority(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn connections(&self) -> usize {
        self.log.lock().connections
    }

    /// The heads of the requests that were answered or closed upon.
    pub(super) fn requests(&self) -> Vec<String> {
        self.log.lock().requests.clone()
    }

    /// The application protocols that TLS clients were given.
    pub(super) fn protocols(&self) -> Vec<Option<Vec<u8>>> {
        self.log.lock().protocols.clone()
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, script: Vec<Act>, log: Arc<Mutex<Log>>) {
    match acceptor {
        None => play(stream, script, &log).await,
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            log.lock().protocols.push(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec));
            play(stream, script, &log).await;
        }
    }
}

async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Vec<Act>, log: &Mutex<Log>) {
    for act in script {
        match act {
            Act::Hang => std::future::pending().await,
            Act::Cut => return,
            Act::Reset => {
                let _ = stream.read_u8().await;
                return;
            }
            Act::Close | Act::Answer(_) => {
                let Some(request) = read_head(&mut stream).await else { return };
                log.lock().requests.push(request);
                let Act::Answer(raw) = act else { return };
                let _ = stream.write_all(&raw).await;
                let _ = stream.flush().await;
            }
        }
    }
    let _ = stream.shutdown().await;
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
