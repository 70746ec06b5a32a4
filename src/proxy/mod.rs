//! The Pingora edge: phases of one request, each a few lines that call inward.
//!
//! `request_filter` answers everything that `handler` answers. Only writes take Pingora's proxied path: their
//! bodies stream through, and nothing of them is kept. pingora-cache is not used: see the README.

mod access_log;
mod context;
mod error_reply;
mod forward;
mod framing;
mod intake;
mod metrics;
pub mod range;
mod reply;
mod upload;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Version, header};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};

pub use context::RequestContext;
pub use forward::Forwarder;
pub use intake::Intake;
pub use metrics::EdgeMetrics;

use crate::handler::{CacheStatus, Handler, Outcome, RouteClass};
use context::Forwarding;
use error_reply::ErrorReply;
use intake::{Head, IntakeError};
use reply::{Asked, send};

/// How long a client may go on sending after its answer.
const LINGER: Duration = Duration::from_secs(10);

/// The edge of the gate.
pub struct Edge {
    /// Understands requests.
    pub intake: Intake,
    /// Answers them.
    pub handler: Handler,
    /// Sends writes on.
    pub forwarder: Forwarder,
    /// Counters.
    pub metrics: EdgeMetrics,
}

// === impl Edge ===

impl Edge {
    async fn answer(
        &self,
        session: &mut Session,
        head: &RequestHeader,
        context: &mut RequestContext,
    ) -> std::result::Result<Outcome, ErrorReply> {
        let parts = Head {
            method: &head.method,
            uri: &head.uri,
            raw_path: head.raw_path(),
            headers: &head.headers,
            http1: head.version <= Version::HTTP_11,
        };
        let mut request = self.intake.read(parts).map_err(|error| match error {
            IntakeError::Framing(error) => error_reply::of_framing(error, &context.id),
            IntakeError::Route(error) => error_reply::of_route(&error, &context.id),
            IntakeError::Host => error_reply::of_host(&context.id),
        })?;
        context.class = RouteClass::of(&request.route.target);
        context.key = access_log::key_of(&request.route);
        context.caller = Some(*request.caller.id());
        let answer = match self.handler.answer(&mut request).await {
            Ok(Outcome::Body { limit }) => match upload::read(session, limit).await {
                Ok(body) => self.handler.answer_body(&mut request, body).await,
                Err(error) => Err(error),
            },
            answer => answer,
        };
        // With the feed's identity, as far as it is known now.
        context.key = access_log::key_of(&request.route);
        answer.map_err(|error| {
            access_log::failure(&error, context);
            error_reply::of_handler(&error, &context.id)
        })
    }

    async fn reply(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        let head = session.req_header().clone();
        context.method = head.method.clone();
        let answer = self.answer(session, &head, context).await;
        let reply = match answer {
            Ok(Outcome::Forward(forward)) => {
                context.cache = CacheStatus::Method;
                context.forward = Some(Forwarding { forward, permit: None });
                return Ok(false);
            }
            Ok(Outcome::Reply(reply)) => reply,
            Ok(Outcome::Body { .. }) => {
                return Err(Error::explain(ErrorType::InternalError, "asked for a body twice"));
            }
            Err(error) => {
                context.error = Some(error.code);
                if matches!(error.code, "framing" | "host" | "body_too_large" | "body") {
                    session.set_keepalive(None);
                }
                error.reply
            }
        };
        let asked = Asked { method: &head.method, headers: &head.headers };
        send(session, context, asked, reply).await.map(|()| true)
    }
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = RequestContext;

    fn new_ctx(&self) -> Self::CTX {
        RequestContext::new(self.metrics.begin())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<bool> {
        // Without this, what a client sent ahead is dropped with the connection (RFC 9112 §9.3.2).
        session.set_pipelining_enabled(true);
        session.set_write_timeout(Some(reply::STALL));
        self.reply(session, context).await
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        self.forwarder.peer(context).await
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream: &mut RequestHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        self.forwarder.request(upstream, context)
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        context.status = Some(response.status);
        self.forwarder.response(response, context, &self.handler).await
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Self::CTX,
    ) -> FailToProxy {
        context.error.get_or_insert("broken");
        let untouched = session.response_written().is_none();
        if untouched && let Some(failure) = forward::failure(error, &context.id) {
            context.error = Some(failure.code);
            let method = context.method.clone();
            let asked = Asked { method: &method, headers: &HeaderMap::new() };
            session.set_keepalive(None);
            match send(session, context, asked, failure.reply).await {
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
        if context.forward.is_some() {
            context.sent = session.body_bytes_sent() as u64;
        }
        self.metrics.ended(context);
        access_log::line(session, error, context);
        if error.is_none() || context.answered {
            // The service is done with the request; only the client's connection is still of use.
            context.forward = None;
            linger(session).await;
        }
    }
}

/// Reads on for a while what a client still sends after its answer: closing on it would make the system reset
/// the connection, and the answer be lost with it (RFC 9112 §9.6).
async fn linger(session: &mut Session) {
    let waits = session.req_header().headers.contains_key(header::EXPECT);
    let downstream = session.as_downstream_mut();
    if waits || downstream.finish_body().await.is_err() {
        return;
    }
    // A client that is slower, or gone, loses its connection.
    let _ = tokio::time::timeout(LINGER, downstream.drain_request_body()).await;
}

/// The edge as a Pingora service.
pub fn service(
    edge: Edge,
    conf: &Arc<pingora::server::configuration::ServerConf>,
) -> pingora::services::listening::Service<pingora::proxy::HttpProxy<Edge, ()>> {
    pingora::proxy::http_proxy_service_with_name(conf, edge, "gate")
}
