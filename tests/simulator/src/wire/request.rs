//! Reading a request: head by httparse, body by Content-Length or chunked. Lenient, as the gate is what is tested.
//!
//! Head and body are read apart: what is refused for its head gets no `100 Continue`.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::log::Listener;
use crate::world::Credential;

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
const READ_SIZE: usize = 16 * 1024;
/// Bodies of hundreds of megabytes are read in larger steps.
const BODY_READ_SIZE: usize = 1024 * 1024;

/// A request; its body is empty until it has been read.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) listener: Listener,
    pub(crate) method: String,
    /// As sent, still percent-encoded, without the query.
    pub(crate) path: String,
    /// Without `?`.
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) keep_alive: bool,
}

/// What goes wrong while a request is read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer closed between requests: the normal end.
    Closed,
    /// Not HTTP, or beyond a limit; answered by 400.
    Malformed,
    Io,
}

// === impl Request ===

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a query parameter, percent-decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| decode(value))
    }

    /// The secret of the `Authorization` header; for Basic that is the password, whatever the user name (facts §6).
    pub(crate) fn credential(&self) -> Option<Credential> {
        let (kind, text) = self.header("authorization")?.split_once(' ')?;
        if kind.eq_ignore_ascii_case("bearer") {
            return Some(Credential { bearer: true, secret: text.trim().to_owned() });
        }
        let pair = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let secret =
            pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, secret)| secret.to_owned());
        Some(Credential { bearer: false, secret: secret.unwrap_or_default() })
    }
}

/// Percent-decodes; what is no UTF-8 is replaced.
pub(crate) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Reads the head of a connection's next request; bytes beyond it stay in `buffer`.
pub(crate) async fn read_head<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    listener: Listener,
) -> Result<Request, ReadError>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some((request, head_length)) = parse_head(buffer, listener)? {
            let _ = buffer.split_to(head_length);
            return Ok(request);
        }
        if buffer.len() > MAX_HEAD {
            return Err(ReadError::Malformed);
        }
        buffer.reserve(READ_SIZE);
        match stream.read_buf(buffer).await {
            Ok(0) if buffer.is_empty() => return Err(ReadError::Closed),
            Ok(0) | Err(_) => return Err(ReadError::Io),
            Ok(_) => {}
        }
    }
}

fn parse_head(bytes: &[u8], listener: Listener) -> Result<Option<(Request, usize)>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ReadError::Malformed),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        listener,
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: head
            .headers
            .iter()
            .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
            .collect(),
        body: Bytes::new(),
        keep_alive: head.version == Some(1),
    };
    let connection = request.header("connection").unwrap_or_default().to_ascii_lowercase();
    request.keep_alive =
        (request.keep_alive || connection.contains("keep-alive")) && !connection.contains("close");
    Ok(Some((request, length)))
}

/// Reads the body that belongs to a head, after telling a client that waits to go on (RFC 9110 §10.1.1).
pub(crate) async fn read_body<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    request: &Request,
) -> io::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        stream.flush().await?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    {
        return read_chunked(stream, buffer).await;
    }
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    take(stream, buffer, length).await
}

/// Reads a chunked body to its end, trailers included (RFC 9112 §7.1).
pub(crate) async fn read_chunked<S>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<Bytes>
where
    S: AsyncRead + Unpin,
{
    let mut body = BytesMut::new();
    loop {
        let line = take_line(stream, buffer).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            while !take_line(stream, buffer).await?.is_empty() {}
            return Ok(body.freeze());
        }
        body.extend_from_slice(&take(stream, buffer, size).await?);
        take_line(stream, buffer).await?;
    }
}

async fn take<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<Bytes> {
    while buffer.len() < length {
        buffer.reserve((length - buffer.len()).min(BODY_READ_SIZE));
        fill(stream, buffer).await?;
    }
    Ok(buffer.split_to(length).freeze())
}

async fn take_line<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") {
            let line = buffer.split_to(end + 2);
            return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        fill(stream, buffer).await?;
    }
}

async fn fill<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ_SIZE);
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
