//! The service as the gate sees it: one request out, a classified answer back.
//!
//! [`Upstream::fetch`] speaks HTTP and nothing else; its wrappers add one concern each (retry, permit,
//! metrics). [`answer`] turns a response into what the handlers decide on, so that the oddities of the
//! service (sign-in pages, refusals as 500, redirects to signed URLs) are known in this module only.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::{ident::Name, redact::SignedUrl, throttle::Class};

/// A host of the service that takes the caller's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// `pkgs.dev.azure.com`: protocol routes and package REST.
    Pkgs,
    /// `feeds.dev.azure.com`: feed management REST.
    Feeds,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A path (with query) below the organisation on one of the service's hosts; starts with `/`.
    Service {
        /// Which host.
        service: Service,
        /// Whose.
        org: Name,
        /// Path and query below `/{org}`, percent-encoded.
        path: String,
    },
    /// A signed URL on an allow-listed blob host. No credential and no client header goes there.
    Blob(SignedUrl),
}

/// A request to the service. Bodies are never sent on this path.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    /// GET, or HEAD and OPTIONS for routes that are passed through.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// The client's headers; only those on the allow-list go upstream.
    pub headers: HeaderMap,
    /// The credential to send to the service's own hosts.
    pub authorization: Option<HeaderValue>,
}

/// A response's head and its body stream.
pub struct UpstreamResponse {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase, when it is not the standard one (the service explains refusals there, facts §4.5).
    pub reason: Option<String>,
    /// Headers as received, hop-by-hop ones removed.
    pub headers: HeaderMap,
    /// The body.
    pub body: Box<dyn BodyStream>,
}

/// A response body, read chunk by chunk.
#[async_trait]
pub trait BodyStream: Send {
    /// The next bytes; `None` after a complete body. A body that ends early is an error.
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError>;
}

/// Something that can send a request to the service.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Sends `request` and waits for the response's head.
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError>;
}

/// Which wait ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Resolving, connecting and the TLS handshake.
    Connect,
    /// From the sent request to the response's head.
    FirstByte,
    /// Between two reads of the body.
    Idle,
}

/// Why no (complete) response came.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No connection: name, address, refusal or TLS.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("connection to {host} broke: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// A wait ran out.
    #[error("{host} did not answer in time ({phase:?})")]
    Timeout {
        /// Host and port.
        host: String,
        /// Which wait.
        phase: Phase,
    },
    /// The body ended before its Content-Length, or went past it.
    #[error("body from {host} has {received} bytes, announced were {announced}")]
    Length {
        /// Host and port.
        host: String,
        /// Bytes announced.
        announced: u64,
        /// Bytes that came.
        received: u64,
    },
    /// A redirect to a host that is not on the allow-list, or one too many.
    #[error("redirect refused: {0}")]
    Redirect(String),
    /// The body is larger than the gate takes for this kind of answer.
    #[error("body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// No permit in time: the gate itself is at its limit towards the service.
    #[error("no permit within {waited:?}")]
    Shed {
        /// Which budget.
        class: Class,
        /// How long the request waited.
        waited: Duration,
    },
}

/// A whole answer that is not the thing asked for, to be shown to the caller and never stored.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Status to show.
    pub status: StatusCode,
    /// Reason phrase of the service, when it says more than the standard one.
    pub reason: Option<String>,
    /// Headers that may be shown: `Content-Type`, challenges, `X-VSS-*`, `ActivityId`, `X-NuGet-Warning`.
    pub headers: HeaderMap,
    /// Body (bounded).
    pub body: Bytes,
}
