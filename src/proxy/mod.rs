//! The Pingora edge: phases of one request, each a few lines that call inward.
//!
//! `request_filter` answers everything that `handler` answers. Only writes and `OPTIONS` take Pingora's proxied path:
//! their bodies stream through, and nothing of them is kept. pingora-cache is not used: see the README.

mod access_log;
mod context;
mod error_reply;
mod fast_path;
mod forward;
mod framing;
mod intake;
mod metrics;
mod outflow;
mod passage;
mod progress;
pub mod range;
mod reply;
mod service;
mod spans;
mod understand;
mod upload;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Version, header};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};

pub use access_log::AccessLog;
pub use context::RequestContext;
pub use fast_path::HitPath;
pub use forward::Forwarder;
pub use intake::Intake;
pub use metrics::EdgeMetrics;
pub use outflow::Outflow;
pub use service::app;
pub use upload::Uploads;

use crate::{
    document::rewrite::Rewriter,
    handler::{
        CacheStatus, Handler, HandlerError, MountRequest, Mounts, Outcome, Reply, Request, RouteClass,
        WRITE_MOST,
    },
    listener::Facts,
    trace::{Span, Spans},
};
use context::Forwarding;
use error_reply::ErrorReply;
use passage::Unchanged;
use reply::send;
use understand::Understood;

/// How long a client may go on sending after its answer.
const LINGER: Duration = Duration::from_secs(10);
/// How long a client that has its answer may pause in sending a body that nobody wants.
const PAUSE: Duration = Duration::from_secs(1);

/// The edge of the gate.
pub struct Edge {
    /// Understands requests.
    pub intake: Arc<Intake>,
    /// Answers them.
    pub handler: Handler,
    /// Answers those below mounts.
    pub mounts: Mounts,
    /// Sends writes on.
    pub forwarder: Forwarder,
    /// Counters.
    pub metrics: EdgeMetrics,
    /// What clients have not taken yet.
    pub outflow: Outflow,
    /// What clients have sent and is not answered yet.
    pub uploads: Uploads,
    /// Which requests have a line in the log.
    pub access_log: Arc<AccessLog>,
    /// Where finished spans go.
    pub spans: Spans,
}

// === impl Edge ===

impl Edge {
    /// The answer; none when the request is to be forwarded.
    async fn answer(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
    ) -> std::result::Result<Option<Reply>, ErrorReply> {
        let mut request = match self.understand(session, context)? {
            Understood::Mounted(request) => {
                return self.answer_mounted(session, request, context).await.map(Some);
            }
            Understood::Request(request) => request,
        };
        let answer = self.answer_with_body(session, &mut request).await;
        // With the feed's identity, as far as it is known now.
        context.key = access_log::key_of(&request.route);
        match answer {
            Ok(Outcome::Reply(reply)) => Ok(Some(reply)),
            Ok(Outcome::Body { .. }) => {
                let error = HandlerError::Internal("asked for a body twice".to_owned());
                Err(error_reply::of_handler(&error, &context.id))
            }
            Ok(Outcome::Forward(forward)) => {
                let rewriter = Rewriter::new(Arc::clone(&self.handler.parts().hosts), &request.base);
                let rewriter = rewriter.map_err(|_| error_reply::of_host(&context.id))?;
                context.cache = CacheStatus::Method;
                context.forward = Some(Forwarding::new(forward, rewriter));
                Ok(None)
            }
            Err(error) => Err(failed(session, &error, context)),
        }
    }

    async fn answer_with_body(
        &self,
        session: &mut Session,
        request: &mut Request,
    ) -> std::result::Result<Outcome, HandlerError> {
        if matches!(request.method, Method::GET | Method::HEAD) {
            upload::skip(session).await?;
        }
        match self.answer_who_stays(session, request).await? {
            Outcome::Body { limit } => {
                let body = self.uploads.read(session, request.address, limit).await?;
                self.handler.answer_body(request, body.bytes()).await
            }
            outcome => Ok(outcome),
        }
    }

    async fn answer_mounted(
        &self,
        session: &mut Session,
        request: MountRequest,
        context: &mut RequestContext,
    ) -> std::result::Result<Reply, ErrorReply> {
        context.class = RouteClass::Mount;
        context.key = access_log::key_of_mount(&request.mounted);
        let answer = self.answer_admitted(session, request).await;
        answer.map_err(|error| failed(session, &error, context))
    }

    /// A body is read when its sender is let in, and not before.
    async fn answer_admitted(
        &self,
        session: &mut Session,
        request: MountRequest,
    ) -> std::result::Result<Reply, HandlerError> {
        if matches!(request.method, Method::GET | Method::HEAD) {
            upload::skip(session).await?;
            let request = self.mounts.admit(request)?;
            // In a box, so that it takes no room beside each answer that is being sent.
            return unless_left(session, true, Box::pin(self.mounts.answer(&request, Bytes::new()))).await;
        }
        let client = request.address;
        let request = self.mounts.admit(request)?;
        let body = self.uploads.read(session, client, WRITE_MOST).await?;
        self.mounts.answer(&request, body.bytes()).await
    }

    async fn answer_who_stays(
        &self,
        session: &mut Session,
        request: &mut Request,
    ) -> std::result::Result<Outcome, HandlerError> {
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        // In a box, so that it takes no room beside each answer that is being sent.
        unless_left(session, reads, Box::pin(self.handler.answer(request))).await
    }

    async fn reply(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        context.method = session.req_header().method.clone();
        let reply = match self.answer(session, context).await {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                let downstream = session.as_downstream_mut();
                // RFC 9110 §15.2: interim answers are for those who expect one.
                downstream.set_ignore_info_resp(true);
                // Who has sent a whole request and closed its half may still read; if not, what became of the write
                // is known at least.
                downstream.set_abort_on_close(false);
                return Ok(false);
            }
            Err(error) => {
                context.error = Some(error.code);
                if matches!(
                    error.code,
                    "framing" | "host" | "too_large" | "head_too_large" | "too_slow" | "body" | "crowded"
                ) {
                    session.set_keepalive(None);
                }
                error.reply
            }
        };
        send(session, context, reply).await.map(|()| true)
    }

    /// Tells the handlers of a forwarded request of which no answer will come.
    async fn give_up(&self, context: &mut RequestContext) {
        if let Some(forwarding) = &mut context.forward
            && forwarding.progress.end()
        {
            self.handler.written(&forwarding.forward).await;
        }
    }

    fn count(&self, unchanged: Unchanged, context: &RequestContext) {
        self.metrics.unchanged(unchanged);
        tracing::warn!(id = context.id, key = context.key, ?unchanged, "an answer was not rewritten");
    }
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = RequestContext;

    fn new_ctx(&self) -> Self::CTX {
        RequestContext::new(self.metrics.begin(), self.outflow.clone())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<bool> {
        session.set_write_timeout(Some(reply::STALL));
        self.reply(session, context).await
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        self.forwarder.peer(context).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let Some(forwarding) = &mut context.forward else { return Ok(()) };
        self.forwarder.request(upstream, forwarding)?;
        // Another try is another request; the span of the one before ends here.
        forwarding.span =
            spans::forwarded(&self.spans, context.trace.as_ref(), &forwarding.forward, upstream);
        let asks = forwarding.span.as_ref().map(Span::trace).or(context.trace.as_ref());
        if let Some(asks) = asks {
            for (name, value) in &asks.onward(&session.req_header().headers) {
                upstream.append_header(name, value)?;
            }
        }
        if session.req_header().version < Version::HTTP_11 {
            // RFC 9110 §10.1.1: not understood there, so not meant.
            upstream.remove_header(&header::EXPECT);
        }
        forwarding.sent_on = 0;
        forwarding.progress.send();
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let Some(forwarding) = &mut context.forward else { return Ok(()) };
        if forwarding.is_refused {
            // What comes now is read without the service, and without its permit.
            return Err(Error::explain(ErrorType::InternalError, "the rest of a refused body").into_down());
        }
        forwarding.sent_on += body.as_ref().map_or(0, |body| body.len() as u64);
        if forwarding.sent_on > self.intake.max_body {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body became too large"));
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let Some(forwarding) = &mut context.forward else { return Ok(()) };
        forward::check(response, forwarding)?;
        let interim = response.status.is_informational();
        // An answer before the end of the request's body costs the connection; an interim one is no answer.
        session.as_downstream_mut().set_close_on_response_before_downstream_finish(!interim);
        if interim {
            forward::interim(response);
            return Ok(());
        }
        if let Some(span) = &mut forwarding.span {
            span.status(response.status.as_u16());
        }
        forwarding.refusal = self.forwarder.refusal(response, forwarding);
        let refused = forwarding.refusal.is_some() || response.status.is_client_error();
        if forwarding.progress.answer(refused) {
            self.handler.written(&forwarding.forward).await;
        }
        self.handler.answered(&forwarding.forward, forwarding.told(response.status));
        if forwarding.refusal.is_some() {
            return Err(Error::explain(ErrorType::HTTPStatus(401), "the credential is refused"));
        }
        if let Some(unchanged) = self.forwarder.response(response, forwarding, &context.id)? {
            self.count(unchanged, context);
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        let Some(forwarding) = &mut context.forward else { return Ok(None) };
        forwarding.hear(body.as_deref());
        forwarding.is_refused = end && context.status.is_some_and(|status| !status.is_success());
        let Some(collected) = &mut forwarding.body else { return Ok(None) };
        *body = collected.pass(&forwarding.rewriter, body.take(), end);
        if !end {
            return Ok(None);
        }
        let (leaked, too_large) = (collected.leaked, collected.is_too_large());
        if leaked > 0 {
            self.handler.parts().metrics.leaked(leaked as u64);
            tracing::error!(
                id = context.id,
                key = context.key,
                leaked,
                "an answer still has URLs of the service"
            );
        }
        if too_large {
            self.count(Unchanged::Size, context);
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        context.status = Some(response.status);
        context.answering(&response.headers, false);
        if !response.status.is_success() && !session.as_downstream_mut().is_body_done() {
            // The service did not want the rest of the body, and a client that waits will not send it.
            session.as_downstream_mut().set_read_timeout(Some(PAUSE));
            let bodiless = response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
            if let Some(forwarding) = &mut context.forward {
                forwarding.is_refused = bodiless;
            }
        }
        let old = session.req_header().version < Version::HTTP_11;
        if old && response.remove_header(&header::TRANSFER_ENCODING).is_some() {
            // Chunks are not known there (RFC 9112 §6.1): the connection's end is the body's.
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let unanswered = context.forward.as_ref().is_some_and(|forwarding| forwarding.progress.is_open());
        let repeatable = context.method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        if unanswered && repeatable {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Self::CTX,
    ) -> FailToProxy {
        self.give_up(context).await;
        context.answered = context.forward.as_ref().is_some_and(|forwarding| forwarding.is_refused);
        if !context.answered {
            context.error.get_or_insert("broken");
        }
        let untouched = session.response_written().is_none_or(|head| head.status.is_informational());
        let facts = Facts::of(session.as_downstream());
        if untouched && let Some(failure) = forward::failure(error, facts, context) {
            context.error = Some(failure.code);
            session.set_keepalive(None);
            match send(session, context, failure.reply).await {
                Ok(()) => context.answered = true,
                Err(_) => context.status = None,
            }
        }
        let error_code = context.status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Self::CTX, _error: &Error) -> bool {
        // Every request has its line in `logging`.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Self::CTX) {
        self.give_up(context).await;
        if context.forward.is_some() {
            context.sent = session.body_bytes_sent() as u64;
        }
        self.metrics.ended(context);
        access_log::note(context, &self.handler);
        self.access_log.line(error, context);
        spans::over(&self.spans, error, context);
        if error.is_none() || context.answered {
            // The service is done with the request; only the client's connection is still of use.
            context.forward = None;
            linger(session).await;
        }
    }
}

/// A handler's answer, unless a client that only reads leaves before: then it is not worked on any more. A write may
/// have gone through, and who closed its half after one waits for its answer (RFC 9112 §9.6).
async fn unless_left<T>(
    session: &mut Session,
    reads: bool,
    answer: impl Future<Output = std::result::Result<T, HandlerError>>,
) -> std::result::Result<T, HandlerError> {
    let downstream = session.as_downstream_mut();
    if !reads || !downstream.is_body_done() {
        return answer.await;
    }
    tokio::select! {
        biased;
        answer = answer => answer,
        // Nothing more can come of this request; what comes of the next one is kept for it.
        _ = downstream.read_body_or_idle(true) => Err(HandlerError::Left),
    }
}

/// The answer to a request for which there is none, and a line in the log that says why.
fn failed(session: &Session, error: &HandlerError, context: &RequestContext) -> ErrorReply {
    access_log::failure(error, context);
    match Facts::of(session.as_downstream()).and_then(Facts::refused_body) {
        Some(refused) => error_reply::of_framing(refused, &context.id),
        None => error_reply::of_handler(error, &context.id),
    }
}

/// Reads on for a while what a client still sends after its answer: closing on it would make the system reset
/// the connection, and the answer be lost with it (RFC 9112 §9.6).
async fn linger(session: &mut Session) {
    let waits = upload::waits(session.req_header());
    let downstream = session.as_downstream_mut();
    if downstream.finish_body().await.is_err() || waits {
        return;
    }
    // A client that is slower, or gone, loses its connection.
    let _ = tokio::time::timeout(LINGER, downstream.drain_request_body()).await;
}
