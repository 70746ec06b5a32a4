//! Writes on their way to the service: Pingora streams the body, we rebuild the head from parsed parts.

use std::sync::Arc;

use http::{HeaderName, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    upstreams::peer::HttpPeer,
};

use super::{
    context::RequestContext,
    error_reply::{self, ErrorReply},
};
use crate::{
    handler::{CacheStatus, Handler, HandlerError},
    throttle::{Class, Throttle},
    upstream::Dialer,
};

/// Request headers that go on to the service; the service answers 400 to some of what browsers add.
const SENT: [HeaderName; 13] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::USER_AGENT,
    HeaderName::from_static("x-nuget-apikey"),
    HeaderName::from_static("x-nuget-client-version"),
    HeaderName::from_static("x-nuget-session-id"),
    HeaderName::from_static("npm-command"),
    HeaderName::from_static("npm-session"),
    HeaderName::from_static("npm-auth-type"),
];
/// Response headers about the caller, the service's edge or one connection; they stop here (facts §8).
const DROPPED: [HeaderName; 9] = [
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("x-vss-userdata"),
    HeaderName::from_static("p3p"),
    HeaderName::from_static("x-frame-options"),
    HeaderName::from_static("request-context"),
    HeaderName::from_static("x-cache"),
    HeaderName::from_static("x-msedge-ref"),
    HeaderName::from_static("x-packaging-migration"),
];

/// Sends writes on.
pub struct Forwarder {
    /// Finds the service's hosts.
    pub dialer: Dialer,
    /// The budget that reads draw on too.
    pub throttle: Arc<Throttle>,
}

// === impl Forwarder ===

impl Forwarder {
    /// Where the request goes; takes the permit that it holds until its end.
    pub async fn peer(&self, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let Some(forwarding) = &mut context.forward else {
            return Err(Error::explain(ErrorType::InternalError, "nothing to forward"));
        };
        if forwarding.permit.is_none() {
            let permit = self.throttle.acquire(Class::Api).await;
            forwarding.permit =
                Some(permit.map_err(|error| Error::because(ErrorType::HTTPStatus(503), "no permit", error))?);
        }
        let forward = &forwarding.forward;
        let peer = self.dialer.peer(forward.service, &forward.org).await;
        peer.map(Box::new).map_err(|error| {
            let mut error = Error::because(ErrorType::ConnectError, "no address", error);
            error.as_up();
            error
        })
    }

    /// Rebuilds the request's head.
    pub fn request(&self, upstream: &mut RequestHeader, context: &RequestContext) -> Result<()> {
        let Some(forwarding) = &context.forward else { return Ok(()) };
        let forward = &forwarding.forward;
        let internal = |error| Error::because(ErrorType::InternalError, "forwarded request", error);
        let (authority, path) =
            self.dialer.request_line(forward.service, &forward.org, &forward.path).map_err(internal)?;
        let mut fresh = RequestHeader::build(upstream.method.clone(), path.as_bytes(), Some(16))?;
        for (name, value) in &upstream.headers {
            if SENT.contains(name) {
                fresh.append_header(name.clone(), value.clone())?;
            }
        }
        fresh.insert_header(header::HOST, authority)?;
        fresh.insert_header("X-TFS-FedAuthRedirect", "Suppress")?;
        *upstream = fresh;
        Ok(())
    }

    /// Cleans the response's head, and tells the handlers of a write that may have changed something.
    pub async fn response(
        &self,
        response: &mut ResponseHeader,
        context: &RequestContext,
        handler: &Handler,
    ) -> Result<()> {
        for name in DROPPED {
            response.remove_header(&name);
        }
        response.insert_header("X-Request-Id", context.id.as_str())?;
        if let Some(value) = CacheStatus::Method.header() {
            response.insert_header("Cache-Status", value)?;
        }
        if let Some(forwarding) = &context.forward
            && response.status.is_success()
        {
            handler.written(&forwarding.forward).await;
        }
        Ok(())
    }
}

/// The answer to a forwarded request that got none.
pub fn failure(error: &Error, id: &str) -> Option<ErrorReply> {
    let text = error.to_string();
    let error = match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(503), _) => HandlerError::Throttled(std::time::Duration::ZERO),
        (
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
            ErrorSource::Upstream,
        ) => HandlerError::Timeout(text),
        (_, ErrorSource::Upstream) => HandlerError::Unavailable(text),
        (_, ErrorSource::Downstream) => return None,
        (_, ErrorSource::Internal | ErrorSource::Unset) => HandlerError::Internal(text),
    };
    Some(error_reply::of_handler(&error, id))
}
