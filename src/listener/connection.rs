//! A client's connection as Pingora takes it: its bytes are checked, and its time is limited.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    os::fd::RawFd,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, raw_connect::ProxyDigest, tls::SslDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::Instant,
};

use super::{
    facts::Facts,
    fast_path::Body,
    framing::FramingError,
    gather::Gather,
    messages::{Messages, Waits},
    transport::Transport,
};
use crate::{
    config::ClientLimits,
    patience::{Alarm, Patience},
};

/// Bytes read at once.
const READ: usize = 4 << 10;
/// Bytes collected before they are written: a head waits for its body.
const WRITE: usize = 4 << 10;
/// Most bytes of an answer's body for one write. Each write wakes the receiver: of 5.8 MB, a bare loop on one core writes
/// 1.9 GB/s in parts of 64 KiB, 3.2 in 256 KiB, 5.3 in 1 MiB and 4.6 in one; and others wait for the copy of one part.
const PART: usize = 1 << 20;
/// How long is read on after the end of what is sent: closing on unread bytes makes the system reset the connection, and
/// the last answer be lost with it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Bytes by which a client says that it speaks HTTP/2: its preface, and the head of the SETTINGS behind it (RFC 9113
/// §3.4).
const PREFACE: usize = 24 + 9;

/// A client's connection.
pub struct Connection {
    stream: Gather<Transport>,
    tls: Option<Arc<SslDigest>>,
    facts: Arc<Facts>,
    digest: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
    limits: Arc<ClientLimits>,
    /// Whether its bytes are HTTP/2, which has its own framing and its own parser for it.
    is_h2: bool,
    /// Bytes that are still to come of its begin, which have as long as a head.
    preface: usize,
    messages: Messages,
    /// Requests that were waited for, and since when the last of them is.
    awaited: (u64, Instant),
    deadline: Deadline,
    body: Patience,
    answer: Patience,
}

/// When to give up what is waited for.
#[derive(Debug)]
struct Deadline {
    waits: Waits,
    at: Option<Instant>,
    alarm: Alarm,
}

// === impl Connection ===

impl Connection {
    /// A connection that begins.
    pub fn new(stream: Transport, facts: Arc<Facts>, limits: Arc<ClientLimits>) -> Self {
        let socket = SocketDigest::from_raw_fd(stream.fd());
        // An error says that it is set already.
        let _ = socket.peer_addr.set(Some(facts.client.into()));
        Self {
            is_h2: stream.is_h2(),
            preface: if stream.is_h2() { PREFACE } else { 0 },
            tls: stream.digest(),
            stream: Gather::new(stream, WRITE),
            digest: Arc::new(facts.digest()),
            facts,
            socket: Arc::new(socket),
            messages: Messages::new(),
            awaited: (0, Instant::now()),
            deadline: Deadline { waits: Waits::Nothing, at: None, alarm: Alarm::default() },
            body: Patience::new(limits.body_timeout, limits.min_rate),
            answer: Patience::new(limits.send_timeout, limits.min_rate),
            limits,
        }
    }

    /// What is known of it.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Whether it is HTTP/2.
    pub fn is_h2(&self) -> bool {
        self.is_h2
    }

    /// Waits for the next request; whether the head of one has come. If not, the client has left, or took too long to
    /// begin one.
    ///
    /// # Errors
    /// When the connection broke, or of the request before something was left.
    pub async fn await_request(&mut self) -> io::Result<bool> {
        if !self.messages.begin() {
            return Err(io::Error::other("the request before was not read whole"));
        }
        self.awaited = (self.awaited.0 + 1, Instant::now());
        self.deadline.waits = Waits::Nothing;
        self.answer.refresh();
        poll_fn(|context| self.poll_checked(context)).await?;
        Ok(!self.messages.ready().is_empty())
    }

    /// The present request as far as it is here: its head, and what of its body came with that.
    pub fn request(&self) -> (&[u8], &Facts) {
        (self.messages.ready(), &self.facts)
    }

    /// Answers the present request, of which the first `length` bytes are all, with bytes that are at hand: how many of
    /// `body` were taken, and why not all, if so.
    pub async fn answer(&mut self, length: usize, head: &[u8], body: &Body) -> (u64, Option<io::Error>) {
        self.messages.take(length, |_| {});
        let mut sent = 0;
        let result = self.send(head, body, &mut sent).await;
        (sent as u64, result.err())
    }

    async fn send(&mut self, mut head: &[u8], body: &Body, sent: &mut usize) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await?;
        while !head.is_empty() || *sent < body.length() {
            let written = poll_fn(|context| {
                let stream = self.stream.get_mut();
                let written = match body {
                    Body::Bytes(bytes) => {
                        let part = &bytes[*sent..bytes.len().min(*sent + PART)];
                        Pin::new(stream)
                            .poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(part)])
                    }
                    Body::File(file) => stream.poll_send_file(context, head, file, *sent, PART),
                };
                self.written(context, written, |length| *length)
            });
            let written = written.await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_head = written.min(head.len());
            head = &head[of_head..];
            *sent += written - of_head;
        }
        poll_fn(|context| self.poll_flush(context)).await
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, flushed, |()| 0)
    }

    /// Until when there is patience with what is waited for now, as far as that is a point in time.
    fn deadline(&self, waits: Waits) -> Option<Instant> {
        match waits {
            // Who chose HTTP/2 has begun to say so.
            Waits::Request(0) if self.is_h2 => Some(self.awaited.1 + self.limits.header_timeout),
            // The gate is still at work on the request before.
            Waits::Request(heads) if heads >= self.awaited.0 => None,
            // Whoever connects wants something.
            Waits::Request(0) => Some(self.awaited.1 + self.limits.header_timeout),
            Waits::Request(_) => Some(self.awaited.1 + self.limits.idle_timeout),
            Waits::Head => Some(Instant::now() + self.limits.header_timeout),
            Waits::Body | Waits::Nothing => None,
        }
    }

    fn refused(&self, error: FramingError) {
        let place = if self.messages.broken().is_some() {
            &self.facts.refused_body
        } else {
            &self.facts.refused_head
        };
        // Nothing comes after the first.
        let _ = place.set(error);
    }

    /// Nothing came: whether that has been so for too long.
    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let waits = self.messages.waits();
        if waits == Waits::Body {
            return self.body.poll_over(context);
        }
        if self.deadline.waits != waits {
            self.deadline.waits = waits;
            self.deadline.at = self.deadline(waits);
        }
        let Some(at) = self.deadline.at else { return Poll::Pending };
        self.deadline.alarm.poll(context, at)
    }

    /// Reads until something is checked, or nothing more comes.
    fn poll_checked(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.messages.ready().is_empty() {
            if self.messages.is_ahead() {
                // In its turn. What more the client sends ahead waits where it is.
                return Poll::Pending;
            }
            if let Some(error) = self.messages.broken() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            if self.messages.waits() == Waits::Nothing {
                // Not the end: that would say that the client has left, while requests before are still answered.
                return Poll::Pending;
            }
            let was = self.messages.waits();
            let buffer = self.messages.buffer();
            buffer.reserve(READ);
            let read = pin!(self.stream.get_mut().read_buf(buffer)).poll(context)?;
            match read {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(length) => {
                    self.body.moved(length);
                    if let Some(error) = self.messages.check(&self.limits) {
                        self.refused(error);
                    }
                    if was != Waits::Body {
                        self.body.refresh();
                    }
                }
                Poll::Pending => {
                    ready!(self.poll_too_slow(context));
                    if matches!(self.messages.waits(), Waits::Request(_)) {
                        return Poll::Ready(Ok(()));
                    }
                    let error = self.messages.too_slow();
                    self.refused(error);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Counts what was written, or the wait for it.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        length: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match &written {
            Poll::Ready(Ok(written)) => self.answer.moved(length(written)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                ready!(self.answer.poll_over(context));
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client takes too little",
                )));
            }
        }
        written
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_h2 {
            let before = into.filled().len();
            let read = Pin::new(self.stream.get_mut()).poll_read(context, into);
            if read.is_pending() && self.preface > 0 {
                ready!(self.poll_too_slow(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.preface = self.preface.saturating_sub(into.filled().len() - before);
            return read;
        }
        ready!(self.poll_checked(context))?;
        self.messages.take(into.remaining(), |bytes| into.put_slice(bytes));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = self.facts.dating.apply(bytes);
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes);
        if written.is_ready() {
            self.facts.dating.over();
        }
        self.written(context, written, |length| *length)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, shut, |()| 0)
    }
}

/// What was written of an answer that breaks off still goes out, as far as the socket takes it at once: with its head, a
/// client sees that the answer is not whole, and without, nothing at all. What waits to be encrypted is lost.
impl Drop for Connection {
    fn drop(&mut self) {
        self.stream.get_ref().write_now(self.stream.waiting());
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        let end = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 1024];
            while self.stream.get_mut().read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Who does not end its half in time, or at all, loses the connection.
        let _ = tokio::time::timeout(LINGER, end).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> RawFd {
        self.stream.get_ref().fd()
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.is_h2 { ALPN::H2 } else { ALPN::H1 })
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

impl Peek for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("client", &self.facts.client).finish_non_exhaustive()
    }
}
