//! From a reply (and perhaps a fault) to bytes on a socket.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::stream::Stream;
use crate::fault::FaultKind;
use crate::pace::Pace;
use crate::service::documents;
use crate::service::reply::{Body, Reply};

/// Bodies up to this size go out in one write with the head.
const ONE_WRITE: usize = 32 * 1024;
const CHUNK: usize = 8 * 1024;
/// The last write of a longer body is at most this long.
const TAIL: usize = 16 * 1024;
/// A reset throws away what the kernel still holds for the peer; this lets it take what the fault means it to see.
const BEFORE_RESET: Duration = Duration::from_millis(20);
const GARBAGE: &[u8] = b"\x16\x03\x01\x00\x00 this is not HTTP\r\n\r\n\x00\xFF";

/// What is going to be sent, and how it ends.
#[derive(Debug)]
pub(crate) struct Plan {
    status: u16,
    head: BytesMut,
    body: Bytes,
    pace: Pace,
    end: End,
    honest: bool,
}

/// How the exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection waits for the next request.
    KeepAlive,
    Close,
    Reset,
    /// Silence until the peer closes.
    Stall,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) bytes_sent: u64,
    pub(crate) completed: bool,
    pub(crate) end: End,
}

/// What the request has to say about the form of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) head_only: bool,
    pub(crate) keep_alive: bool,
    pub(crate) gzip: bool,
}

enum Framing {
    Length(usize),
    Chunked,
}

// === impl Plan ===

impl Plan {
    /// Frames an honest reply, then lets the fault spoil it.
    pub(crate) fn new(mut reply: Reply, form: Form, pace: Pace, fault: Option<&FaultKind>) -> Self {
        let encoded = encode(&mut reply, form, fault);
        let bodiless = form.head_only || matches!(reply.status, 204 | 304);
        let framing = match fault {
            Some(FaultKind::ChunkedWithoutLength | FaultKind::ChunkedTruncated(_)) => Framing::Chunked,
            Some(FaultKind::WrongLength(by)) => {
                Framing::Length(encoded.len().saturating_add_signed(isize::try_from(*by).unwrap_or(0)))
            }
            _ => Framing::Length(encoded.len()),
        };
        let end = if form.keep_alive { End::KeepAlive } else { End::Close };
        let head = write_head(&reply, &framing, form.keep_alive);
        let body = if bodiless { Bytes::new() } else { encoded };
        let mut plan = Self { status: reply.status, head, body, pace, end, honest: true };
        if let Some(fault) = fault {
            plan.spoil(fault, bodiless);
        }
        plan
    }

    fn spoil(&mut self, fault: &FaultKind, bodiless: bool) {
        match fault {
            FaultKind::ResetBeforeHead => {
                self.head.clear();
                self.cut(0, End::Reset);
            }
            FaultKind::ResetAfterHead => self.cut(0, End::Reset),
            FaultKind::ResetAfterBody(bytes) => self.cut(*bytes, End::Reset),
            FaultKind::StallAfterBody(bytes) => self.cut(*bytes, End::Stall),
            FaultKind::Truncated(bytes) => self.cut(*bytes, End::Close),
            FaultKind::WrongLength(_) => self.cut(usize::MAX, End::Close),
            FaultKind::TooLong(bytes) => {
                self.body = [&self.body[..], &vec![b'!'; *bytes][..]].concat().into();
                self.cut(usize::MAX, End::Close);
            }
            FaultKind::ChunkedWithoutLength if !bodiless => self.body = chunked(&self.body, true),
            FaultKind::ChunkedTruncated(bytes) => {
                self.cut(*bytes, End::Close);
                self.body = chunked(&self.body, false);
            }
            FaultKind::NotHttp => {
                self.head = GARBAGE.into();
                self.cut(0, End::Close);
            }
            FaultKind::Slow { bytes_per_second, .. } => self.pace.bytes_per_second = Some(*bytes_per_second),
            FaultKind::Corrupted => self.honest = false,
            _ => {}
        }
    }

    fn cut(&mut self, bytes: usize, end: End) {
        self.body.truncate(bytes);
        self.end = end;
        self.honest = false;
    }

    /// What there is to say about the exchange if the peer takes everything.
    pub(crate) fn outcome(&self) -> Outcome {
        let (status, bytes_sent) = (self.status, self.body.len() as u64);
        Outcome { status, bytes_sent, completed: self.honest, end: self.end }
    }

    /// Sends what is planned. A peer that leaves early ends it.
    ///
    /// `before_last` is called before the last bytes go out: what it records is there when the peer has the answer.
    pub(crate) async fn send(mut self, stream: &mut Stream, before_last: impl FnOnce()) -> Outcome {
        let sent = self.write(stream, before_last).await;
        let arrived = sent == self.body.len() as u64 && stream.flush().await.is_ok();
        match self.end {
            End::Stall => wait_for_leave(stream).await,
            End::Reset => sleep(BEFORE_RESET).await,
            End::KeepAlive | End::Close => {}
        }
        let end = if arrived { self.end } else { End::Close };
        Outcome { status: self.status, bytes_sent: sent, completed: arrived && self.honest, end }
    }

    /// How many bytes of the body were written.
    async fn write(&mut self, stream: &mut Stream, before_last: impl FnOnce()) -> u64 {
        let at_once = self.pace.bytes_per_second.is_none() && self.body.len() <= ONE_WRITE;
        if at_once || self.body.is_empty() {
            before_last();
            self.head.extend_from_slice(&self.body);
            return if stream.write_all(&self.head).await.is_ok() { self.body.len() as u64 } else { 0 };
        }
        if stream.write_all(&self.head).await.is_err() || stream.flush().await.is_err() {
            return 0;
        }
        let (slice, begun) = (self.pace.slice(self.body.len()), Instant::now());
        let (bulk, tail) = self.body.split_at(self.body.len().saturating_sub(TAIL));
        let (mut sent, mut before_last) = (0, Some(before_last));
        for part in bulk.chunks(slice).chain(tail.chunks(slice)) {
            // By the time since the begin: what one sleep is too long by, the next are shorter.
            let ahead = self.pace.due(sent + part.len()).saturating_sub(begun.elapsed());
            if !ahead.is_zero() {
                self.pace.pause(ahead).await;
            }
            if let Some(before_last) = before_last.take_if(|_| sent + part.len() == self.body.len()) {
                before_last();
            }
            if stream.write_all(part).await.is_err() || stream.flush().await.is_err() {
                break;
            }
            sent += part.len();
        }
        sent as u64
    }
}

/// Reads and drops what the peer sends until it closes.
pub(crate) async fn wait_for_leave(stream: &mut Stream) {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await.is_ok_and(|length| length > 0) {}
}

/// The body in its content coding, with the header that says so.
fn encode(reply: &mut Reply, form: Form, fault: Option<&FaultKind>) -> Bytes {
    let forced = matches!(fault, Some(FaultKind::Gzip));
    let body = match &reply.body {
        Body::Document(document) if form.gzip || forced => Some(document.gzip()),
        Body::Bytes(bytes) if forced => Some(documents::gzip(bytes)),
        Body::Document(_) | Body::Bytes(_) => None,
    };
    let body = match body {
        Some(body) => {
            reply.headers.push(("Content-Encoding".into(), "gzip".into()));
            body
        }
        None => reply.body.plain(),
    };
    match fault {
        Some(FaultKind::Corrupted) if !body.is_empty() => {
            let mut body = body.to_vec();
            let middle = body.len() / 2;
            body[middle] ^= 0x01;
            body.into()
        }
        _ => body,
    }
}

fn write_head(reply: &Reply, framing: &Framing, keep_alive: bool) -> BytesMut {
    let mut head = BytesMut::with_capacity(2048);
    let mut line = |parts: &[&str]| parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
    line(&["HTTP/1.1 ", &reply.status.to_string(), " ", &reply.reason, "\r\n"]);
    for (name, value) in &reply.headers {
        line(&[name, ": ", value, "\r\n"]);
    }
    match framing {
        Framing::Length(_) if reply.status == 204 => {}
        Framing::Length(length) => line(&["Content-Length: ", &length.to_string(), "\r\n"]),
        Framing::Chunked => line(&["Transfer-Encoding: chunked\r\n"]),
    }
    if !keep_alive {
        line(&["Connection: close\r\n"]);
    }
    line(&["\r\n"]);
    head
}

fn chunked(body: &[u8], finished: bool) -> Bytes {
    let mut framed = BytesMut::with_capacity(body.len() + 64);
    for chunk in body.chunks(CHUNK) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    if finished {
        framed.extend_from_slice(b"0\r\n\r\n");
    }
    framed.freeze()
}
