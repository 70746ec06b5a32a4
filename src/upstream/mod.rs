//! The service as the gate sees it: one request out, a classified answer back.
//!
//! [`Upstream::fetch`] speaks HTTP and nothing else; its wrappers add one concern each (permit, metrics,
//! whole bodies, repeats).
//! [`answer`] turns a response into what the handlers decide on, so that the oddities of the service
//! (sign-in pages, refusals as 500, redirects to signed URLs) are known in this module only. [`Azure`] is
//! what the handlers call.

pub mod advisories;
pub mod answer;
pub mod azure;
pub mod body;
pub mod breaking;
mod collector;
mod connector;
pub mod credential;
mod dialer;
mod egress;
pub mod http;
mod judged;
pub mod metered;
mod mirrored;
mod outgoing;
mod reach;
mod resolve;
pub mod resuming;
pub mod retrying;
mod silence;
pub mod sites;
pub mod throttled;
mod traced;
pub mod whole;

use std::fmt;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

pub use self::{
    advisories::Advisories,
    answer::{Answer, Expect, Refused},
    azure::{Azure, Located},
    breaking::{Barred, Breaking, Breaks, HostClass, HostState},
    collector::TraceCollector,
    connector::{MAX_INFORMATIONAL, head_excess},
    credential::{Credential, CredentialError, CredentialMetrics},
    dialer::Dialer,
    http::{Http, HttpError},
    metered::Metered,
    mirrored::{Mirrored, MirroredRequest},
    resuming::Resumes,
    retrying::{Retries, Retrying},
    sites::BlobLocation,
    throttled::Throttled,
    traced::Traced,
    whole::Whole,
};

use crate::{
    ident::Name,
    redact::SignedUrl,
    throttle::{Asker, Class, ThrottleError, Work},
};

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
        /// Path and query below `/{org}`, percent-encoded; sent as it is.
        path: String,
    },
    /// A signed URL on an allow-listed blob host. No credential and no client header goes there.
    Blob(SignedUrl),
}

/// A request to the service. Writes are not sent this way, the edge forwards them; so a body is that of a question,
/// which may be repeated. `Debug` shows no header values.
#[derive(Clone)]
pub struct UpstreamRequest {
    /// GET; HEAD and OPTIONS for routes that are passed through, POST for a question in a body.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// The client's headers; only those on the allow-list go upstream (`Accept`, `Accept-Encoding`,
    /// `User-Agent`, two `X-NuGet-*`; to a blob host `Accept` and `Range`).
    pub headers: HeaderMap,
    /// The credential to send to the service's own hosts.
    pub authorization: Option<HeaderValue>,
    /// On whose behalf.
    pub asker: Asker,
    /// What it counts as.
    pub work: Work,
    /// A JSON body, without a content coding; empty for none.
    pub body: Bytes,
    /// When nobody waits for the answer's head any more; `None` leaves it to the configuration.
    pub deadline: Option<Instant>,
    /// Whether a kept connection must not be used: the one before may have been broken by what broke this.
    pub fresh: bool,
    /// Whether the body is of use only as a whole (a document): then it is read before the answer is given, so
    /// that one which breaks can be asked for again.
    pub whole: bool,
    /// Whether the body's hash is known and will be checked, so that one which ended early is found out.
    pub hashed: bool,
}

/// A response's head and its body stream.
pub struct UpstreamResponse {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase, when it is not the standard one (the service explains refusals there, facts §4.5).
    pub reason: Option<String>,
    /// Headers as received, without hop-by-hop ones, `Set-Cookie` and `X-VSS-UserData` (personal, facts §8).
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
    /// Between two reads of the body, or for one that comes too slowly.
    Idle,
    /// From a document's head to its end.
    Document,
    /// Until the request's deadline, repeats included.
    Deadline,
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
    /// The head of the answer is larger than the gate takes.
    #[error("the head of the answer of {host} has {reason}")]
    Head {
        /// Host and port.
        host: String,
        /// How much it has, and how much may be.
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
    /// The request cannot be sent as it is: its path or its organisation.
    #[error("request cannot be sent: {0}")]
    Request(String),
    /// A redirect to a host that is not on the allow-list, or one too many. The text has no query.
    #[error("redirect refused: {0}")]
    Redirect(String),
    /// The body is larger than the gate takes for this kind of answer.
    #[error("body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body's content coding is not known, or the body does not follow it.
    #[error("body cannot be decoded: {0}")]
    Encoding(String),
    /// The blob host refuses the signed URL (403, 404): ask the service for a new one, once.
    #[error("signed URL is not accepted by {host}: status {status}")]
    Link {
        /// Host and port.
        host: String,
        /// 403 or 404.
        status: StatusCode,
    },
    /// The blob host answered with neither the bytes nor a refusal of the URL.
    #[error("{host} answered a download with status {status}")]
    Download {
        /// Host and port.
        host: String,
        /// What it answered.
        status: StatusCode,
    },
    /// The host was dead a moment ago, and is not asked again yet.
    #[error("{host} is down, and is not asked for a while")]
    Dead {
        /// Host and port.
        host: String,
    },
    /// No permit in time: the gate itself is at its limit towards the service.
    #[error(transparent)]
    Shed(#[from] ThrottleError),
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

// === impl Service ===

impl Service {
    /// Name in errors and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pkgs => "pkgs",
            Self::Feeds => "feeds",
        }
    }
}

// === impl Target ===

impl Target {
    /// The budget that a request to this target draws on.
    pub fn class(&self) -> Class {
        match self {
            Self::Service { .. } => Class::Api,
            Self::Blob(_) => Class::Blob,
        }
    }

    /// Who is asked, for errors of layers that know no hosts.
    fn whom(&self) -> String {
        match self {
            Self::Service { service, org, .. } => format!("{} of {org}", service.as_str()),
            Self::Blob(url) => url.authority().to_owned(),
        }
    }
}

// === impl UpstreamRequest ===

impl UpstreamRequest {
    /// A GET of metadata without headers and credential.
    pub fn get(target: Target, asker: Asker) -> Self {
        Self {
            method: Method::GET,
            target,
            headers: HeaderMap::new(),
            authorization: None,
            asker,
            work: Work::Metadata,
            body: Bytes::new(),
            deadline: None,
            fresh: false,
            whole: false,
            hashed: false,
        }
    }
}

impl fmt::Debug for UpstreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRequest")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("authorization", &self.authorization.as_ref().map(|_| "***"))
            .field("body", &self.body.len())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

// === impl UpstreamResponse ===

impl fmt::Debug for UpstreamResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamResponse")
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
