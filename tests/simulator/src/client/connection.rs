//! One connection of the test client: raw bytes out, parsed responses in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Response, Url};

const READ_SIZE: usize = 64 * 1024;

/// An open connection.
pub struct Connection {
    stream: Stream,
    buffer: BytesMut,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Reason phrase, as sent.
    pub reason: String,
    /// Headers in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// When the first byte had come.
    pub first_byte_at: Instant,
}

/// The rest of a body that is still being read: ask [`Body::next`] until `None`.
pub struct Body<'a> {
    connection: &'a mut Connection,
    framing: Framing,
    /// Whether the body came to the end that its framing promised; meaningful after [`Body::next`] gave `None`.
    pub complete: bool,
}

enum Framing {
    Length(usize),
    /// Bytes left of the current chunk.
    Chunked(usize),
    UntilClose,
    Ended,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Connection ===

impl Connection {
    /// Connects; an `https` URL needs the authority to trust.
    pub async fn open(url: &Url, ca_pem: Option<&str>) -> io::Result<Self> {
        let tcp = TcpStream::connect((url.host(), url.port())).await?;
        tcp.set_nodelay(true)?;
        let stream = match (url.tls, ca_pem) {
            (false, _) => Stream::Plain(tcp),
            (true, Some(ca_pem)) => Stream::Tls(Box::new(secure(tcp, url.host(), ca_pem).await?)),
            (true, None) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "https needs an authority"));
            }
        };
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// Sends a request and reads the whole response; the connection can be used again if that was complete.
    pub async fn request(
        &mut self,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.send_request(method, url, headers, body).await?;
        self.response(method == "HEAD").await
    }

    /// Sends a request. `Host` and, with a body, `Content-Length` are added unless given.
    pub async fn send_request(
        &mut self,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let given = |name: &str| headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {} HTTP/1.1\r\n", url.target);
        if !given("host") {
            head.extend(["Host: ", &url.authority, "\r\n"]);
        }
        if !body.is_empty() && !given("content-length") && !given("transfer-encoding") {
            head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        head.extend(headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]));
        head.push_str("\r\n");
        self.send([head.as_bytes(), body].concat().as_slice()).await
    }

    /// Sends raw bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads a whole response. `head_only`: it answers a HEAD.
    ///
    /// # Errors
    /// When the connection ends before the head is whole, or what comes is not HTTP.
    pub async fn response(&mut self, head_only: bool) -> io::Result<Response> {
        let (head, mut body) = self.stream_response(head_only).await?;
        let mut bytes = BytesMut::new();
        while let Some(part) = body.next().await {
            bytes.extend_from_slice(&part);
        }
        let complete = body.complete;
        let Head { status, reason, headers, first_byte_at } = head;
        Ok(Response { status, reason, headers, body: bytes.freeze(), complete, first_byte_at })
    }

    /// Reads the next head, be it that of an interim response such as `100 Continue`.
    pub async fn interim(&mut self) -> io::Result<Head> {
        self.head().await
    }

    /// Reads the head of a response and leaves the body to be read as it comes. Interim responses (1xx) are skipped.
    pub async fn stream_response(&mut self, head_only: bool) -> io::Result<(Head, Body<'_>)> {
        let head = loop {
            let head = self.head().await?;
            if !(100..200).contains(&head.status) {
                break head;
            }
        };
        let bodiless = head_only || matches!(head.status, 204 | 304);
        let framing = if bodiless { Framing::Length(0) } else { Framing::of(&head) };
        Ok((head, Body { connection: self, framing, complete: false }))
    }

    /// Whether the peer has closed or reset the connection; waits for that.
    pub async fn closed(&mut self) -> bool {
        matches!(self.fill().await, Ok(0) | Err(_))
    }

    /// How many bytes have come that are part of no response so far: after an error, whether an answer had begun.
    pub fn unread(&self) -> usize {
        self.buffer.len()
    }

    async fn head(&mut self) -> io::Result<Head> {
        let mut first_byte_at = None;
        loop {
            if let Some((mut head, length)) = parse_head(&self.buffer)? {
                let _ = self.buffer.split_to(length);
                head.first_byte_at = first_byte_at.unwrap_or(head.first_byte_at);
                return Ok(head);
            }
            if self.fill().await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the head was whole"));
            }
            first_byte_at.get_or_insert_with(Instant::now);
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_SIZE);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// A line without its end, or nothing when the connection ends first.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !matches!(self.fill().await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Up to `most` bytes, or nothing when the connection ends first.
    async fn part(&mut self, most: usize) -> Option<Bytes> {
        if self.buffer.is_empty() && !matches!(self.fill().await, Ok(1..)) {
            return None;
        }
        let length = self.buffer.len().min(most);
        Some(self.buffer.split_to(length).freeze())
    }
}

async fn secure(tcp: TcpStream, host: &str, ca_pem: &str) -> io::Result<TlsStream<TcpStream>> {
    let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers =
        response.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
    let status = response.code.unwrap_or_default();
    let reason = response.reason.unwrap_or_default().to_owned();
    Ok(Some((Head { status, reason, headers, first_byte_at: Instant::now() }, length)))
}

// === impl Body ===

impl Body<'_> {
    /// The next bytes as they come; `None` at the end, good or bad.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.framing {
                Framing::Length(0) => return self.end(true),
                Framing::Length(left) => {
                    let Some(part) = self.connection.part(left).await else { return self.end(false) };
                    self.framing = Framing::Length(left - part.len());
                    return Some(part);
                }
                Framing::Chunked(0) => {
                    if let Some(complete) = self.next_chunk().await {
                        return self.end(complete);
                    }
                }
                Framing::Chunked(left) => {
                    let Some(part) = self.connection.part(left).await else { return self.end(false) };
                    if part.len() == left && self.connection.line().await.is_none() {
                        self.framing = Framing::Ended;
                        return Some(part);
                    }
                    self.framing = Framing::Chunked(left - part.len());
                    return Some(part);
                }
                Framing::UntilClose => {
                    return match self.connection.part(usize::MAX).await {
                        Some(part) => Some(part),
                        None => self.end(true),
                    };
                }
                Framing::Ended => return None,
            }
        }
    }

    fn end(&mut self, complete: bool) -> Option<Bytes> {
        self.framing = Framing::Ended;
        self.complete = complete;
        None
    }

    /// Reads the size of the next chunk; at the last one, or at a bad end, tells whether the body is complete.
    async fn next_chunk(&mut self) -> Option<bool> {
        let Some(line) = self.connection.line().await else { return Some(false) };
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        match size {
            Err(_) => Some(false),
            Ok(0) => loop {
                match self.connection.line().await {
                    None => return Some(false),
                    Some(trailer) if trailer.is_empty() => return Some(true),
                    Some(_) => {}
                }
            },
            Ok(size) => {
                self.framing = Framing::Chunked(size);
                None
            }
        }
    }
}

// === impl Framing ===

impl Framing {
    /// RFC 9112 §6.3, for responses with a body.
    fn of(head: &Head) -> Self {
        let value = |name: &str| {
            let mut headers = head.headers.iter();
            headers.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        if value("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
            return Self::Chunked(0);
        }
        value("content-length").and_then(|value| value.parse().ok()).map_or(Self::UntilClose, Self::Length)
    }
}

// === impl Stream ===

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
