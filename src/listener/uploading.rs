//! A request of HTTP/2 with a body, as Pingora takes it: the body must keep coming.
//!
//! Over HTTP/1 a connection is one request's, and keeps its time itself. Over HTTP/2 it is shared, and Pingora reads a
//! stream for as long as its client leaves it open: a few bytes now and then would hold a request, a permit and a
//! connection to the service for ever, a hundred times on each connection. All but the reading is Pingora's own.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::{
            HttpTask,
            custom::{CustomMessageWrite, server::Session},
            v2::server::HttpSession,
        },
        l4::socket::SocketAddr,
    },
};

use super::{facts::Facts, framing::TOO_SLOW};
use crate::{config::ClientLimits, patience::Patience};

/// A request whose body is read with so much patience and no more.
pub struct Uploading {
    stream: HttpSession,
    /// As the connection's, with facts of this request alone.
    digest: Digest,
    facts: Arc<Facts>,
    limits: Arc<ClientLimits>,
    patience: Patience,
    pause: Option<Duration>,
}

// === impl Uploading ===

impl Uploading {
    /// A request of which only the head was read; `facts` are those of its connection.
    pub fn new(stream: HttpSession, facts: &Facts, limits: Arc<ClientLimits>) -> Self {
        let facts = Arc::new(facts.of_stream());
        let mut digest = stream.digest().cloned().unwrap_or_default();
        digest.proxy_digest = Some(Arc::new(facts.digest()));
        let patience = Patience::new(limits.body_timeout, limits.min_rate);
        Self { stream, digest, facts, limits, patience, pause: None }
    }

    /// The next bytes of the body, or the end of the patience with whoever sends it.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let (stream, patience) = (&mut self.stream, &mut self.patience);
        let came = {
            let mut reading = pin!(stream.read_body_bytes());
            let in_time = poll_fn(|context| match reading.as_mut().poll(context) {
                Poll::Ready(came) => Poll::Ready(Some(came)),
                Poll::Pending => patience.poll_over(context).map(|()| None),
            });
            in_time.await
        };
        let Some(came) = came else {
            // Nothing comes after the first.
            let _ = self.facts.refused_body.set(TOO_SLOW);
            return Err(Error::explain(ErrorType::ReadTimedout, TOO_SLOW.rule));
        };
        if let Ok(Some(bytes)) = &came {
            self.patience.moved(bytes.len());
        }
        came
    }
}

#[async_trait]
impl Session for Uploading {
    fn req_header(&self) -> &RequestHeader {
        self.stream.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.stream.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.next().await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.stream.is_body_done() {
            // Not the client but the gate is waited for.
            return self.stream.read_body_or_idle(true).await;
        }
        self.next().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while !self.stream.is_body_done() && self.next().await?.is_some() {}
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.stream.write_response_header(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.stream.write_response_header_ref(head, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.stream.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.stream.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.stream.response_duplex_vec(tasks).await
    }

    fn set_read_timeout(&mut self, pause: Option<Duration>) {
        self.pause = pause;
        self.patience = Patience::new(pause.unwrap_or(self.limits.body_timeout), self.limits.min_rate);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.pause
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.stream.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.stream.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.stream.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.stream.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.stream.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.stream.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.stream.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.stream.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.stream.finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.stream.is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.stream.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.stream.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.stream.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.stream.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.stream.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.stream.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.stream.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.stream.get_retry_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
