//! [`Mirrored`]: the origins of mounts, asked as a gateway asks (RFC 9110 §7.6).
//!
//! They are none of the service's hosts: no permit, no repeats, no redirects, no decoding. What a client sends goes
//! on, but for what speaks of its own connection; the caller has left that out ([`crate::policy::end_to_end`]).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{Http, HttpError, UpstreamError, UpstreamResponse, outgoing::Outgoing};
use crate::{
    config::upstream::{Base, Upstream},
    throttle::Class,
};

/// This gateway, in the requests that it sends on (RFC 9110 §7.6.3).
const VIA: HeaderValue = HeaderValue::from_static("1.1 feedgate");
/// Tells an origin that directives may be meant for this cache alone (W3C Edge Architecture 1.0, §2.1).
const SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");
const CAPABILITY: HeaderValue = HeaderValue::from_static("feedgate=\"Surrogate/1.0\"");

/// The way to the origins of mounts.
#[derive(Clone)]
pub struct Mirrored {
    http: Arc<Http>,
}

/// A request to an origin.
#[derive(Clone)]
pub struct MirroredRequest {
    /// Any method.
    pub method: Method,
    /// Path and query below the origin's base; starts with `/`.
    pub path: String,
    /// The end-to-end headers of the client's request; `Host` is set here.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

// === impl Mirrored ===

impl Mirrored {
    /// Asks with the patience and the trusted authorities of `settings`.
    pub fn new(settings: &Upstream) -> Result<Self, HttpError> {
        Ok(Self { http: Arc::new(Http::new(settings)?.taking_unframed()) })
    }

    /// Sends a request below `base`. The response's headers are all that came but those of the connection; its body
    /// is as it was sent.
    pub async fn send(
        &self,
        base: &Base,
        request: MirroredRequest,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let MirroredRequest { method, path, mut headers, body } = request;
        // The whole body is here, and nobody is left to be told to go on.
        headers.remove(header::EXPECT);
        headers.append(header::VIA, VIA);
        headers.insert(SURROGATE_CAPABILITY, CAPABILITY);
        headers.remove(header::CONTENT_LENGTH);
        if !body.is_empty() || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let host = HeaderValue::try_from(base.origin.authority());
        headers.insert(header::HOST, host.map_err(|error| UpstreamError::Request(error.to_string()))?);
        // Only what may be sent twice goes over a connection that the origin may be closing.
        let fresh = !method.is_idempotent();
        let path = format!("{}{path}", base.prefix);
        let outgoing = Outgoing { origin: base.origin.clone(), method, path, headers, body };
        self.http.send(&outgoing, fresh, Class::Api).await
    }
}
