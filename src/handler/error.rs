//! Why a request gets no object: the reply classes of the gate's error table.
//!
//! Variants say what the caller can do about it; `proxy::error_reply` turns each into a status and a body.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    access::Stranger,
    blob::fill::FillError,
    guard::Objection,
    throttle::{ShedReason, ThrottleError},
    upstream::{CredentialError, Refusal, Refused, UpstreamError},
};

/// Why a request gets no object.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The route has no such method.
    #[error("method {method} is not allowed here; allowed are {allow}")]
    Method {
        /// What was asked.
        method: String,
        /// What may be asked: the `Allow` header.
        allow: &'static str,
    },
    /// The service answered, and not with the object: its answer goes to the caller as it is.
    #[error("the service answered {}", .0.status)]
    Refused(Arc<Refusal>),
    /// The service fails or refuses for load (429, 503, 5xx), and there is no stored copy.
    #[error("the service fails ({})", refusal.status)]
    Failing {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
        /// Its answer.
        refusal: Arc<Refusal>,
    },
    /// The gate is at its own limit towards the service.
    #[error(transparent)]
    Throttled(ThrottleError),
    /// The client has closed its connection; what it asked for is not worth a request any more.
    #[error("the client has left")]
    Left,
    /// No answer, or a broken one.
    #[error("the service cannot be reached: {0}")]
    Unavailable(String),
    /// The service answered, and what came is not taken.
    #[error("the service's answer is not taken: {reason}")]
    Unusable {
        /// Why, in words for the client.
        what: &'static str,
        /// The details, for the log.
        reason: String,
    },
    /// No answer in time.
    #[error("the service did not answer in time: {0}")]
    Timeout(String),
    /// The service is known to be down, and nothing is stored.
    #[error("the service is down: {0}")]
    Dead(String),
    /// The gate does not ask the service (mode `offline`), and nothing is stored.
    #[error("the gate is offline")]
    Offline,
    /// Bytes that are not what the service or the packument said.
    #[error("the bytes failed their check: {0}")]
    Integrity(String),
    /// The caller wants only what is stored (`only-if-cached`), and nothing is that it may have.
    #[error("nothing is stored, and the request forbids asking the service")]
    OnlyIfCached,
    /// The body of the request is larger than is taken.
    #[error("the request's body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The bodies of other requests take all the memory that there is for them.
    #[error("the gate holds as many bodies of requests as it may")]
    Crowded,
    /// The body of the request cannot be used.
    #[error("the request's body {0}")]
    Body(String),
    /// A guard keeps the package from builds.
    #[error("{0}")]
    Guarded(Objection),
    /// Nobody answers `npm audit` usefully.
    #[error("no audit: {reason}")]
    NoAudit {
        /// Whether the service says that it has no such thing, as against having trouble.
        missing: bool,
        /// What happened, for the log.
        reason: String,
    },
    /// The caller may not use the gate's own credential here.
    #[error(transparent)]
    Stranger(#[from] Stranger),
    /// The service refused too much that came from the caller's address, or with its credential.
    #[error("too many credentials from this address were refused, or this one too often")]
    Attempts {
        /// How long it is to wait.
        retry_after: Duration,
    },
    /// The gate is to ask with its own credential and has none; the text goes to the log only.
    #[error("the gate has no credential: {0}")]
    NoCredential(CredentialError),
    /// The service does not take the gate's own credential (401), or it has no right to this (403).
    #[error("the service answers the gate's own credential with {}", .0.status)]
    GateRefused(Arc<Refusal>),
    /// Something that should not happen; the text goes to the log only.
    #[error("{0}")]
    Internal(String),
}

// === impl HandlerError ===

impl HandlerError {
    /// Whether a stored copy may stand in: the service gave no word on the object itself.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Failing { .. }
            | Self::Throttled(_)
            | Self::Unavailable(_)
            | Self::Unusable { .. }
            | Self::Timeout(_)
            | Self::Dead(_)
            | Self::Offline
            | Self::Integrity(_)
            | Self::NoCredential(_)
            | Self::Internal(_) => true,
            Self::Method { .. }
            | Self::Refused(_)
            | Self::Guarded(_)
            | Self::OnlyIfCached
            | Self::Left
            | Self::Stranger(_)
            | Self::Attempts { .. }
            | Self::GateRefused(_)
            | Self::TooLarge { .. }
            | Self::Crowded
            | Self::Body(_)
            | Self::NoAudit { .. } => false,
        }
    }

    /// The status that the client sees.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Stranger(stranger) if stranger.is_unauthenticated() => StatusCode::UNAUTHORIZED,
            // Elsewhere than where it is pinned a package does not exist: a client with several sources goes on to the
            // next one.
            Self::Guarded(Objection::Pinned { .. }) | Self::NoAudit { missing: true, .. } => {
                StatusCode::NOT_FOUND
            }
            Self::Guarded(
                Objection::Denied { .. }
                | Objection::NotAllowed { .. }
                | Objection::Young { .. }
                | Objection::Unknown { .. },
            )
            | Self::Stranger(_) => StatusCode::FORBIDDEN,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // No client asks again after 424, as all do after 5xx and 429 (for a minute, for each package). 404 would
            // say that the package does not exist.
            Self::Dead(_) | Self::Offline => StatusCode::FAILED_DEPENDENCY,
            Self::Attempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            // 499 is not registered; logs know it from other proxies. A client that closed only its half of the
            // connection can read it.
            Self::Left => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::GateRefused(refusal) if refusal.status == StatusCode::FORBIDDEN => StatusCode::FORBIDDEN,
            // For the gate's own credential too: a 401 would make clients throw away a good gate token.
            Self::Unavailable(_)
            | Self::Unusable { .. }
            | Self::Integrity(_)
            | Self::Guarded(Objection::Unreadable { .. })
            | Self::NoAudit { missing: false, .. }
            | Self::NoCredential(_)
            | Self::GateRefused(_) => StatusCode::BAD_GATEWAY,
            Self::Throttled(_) | Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout(_) | Self::OnlyIfCached => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused(refusal) | Self::Failing { refusal, .. } => refusal.status,
        }
    }

    /// The code in the body, and in the log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Method { .. } => "method",
            Self::Refused(_) => "refused",
            Self::Failing { .. } => "upstream_failing",
            Self::Throttled(_) => "throttled",
            Self::Dead(_) => "upstream_down",
            Self::Offline => "offline",
            Self::Guarded(_) => "guard",
            Self::Unavailable(_) => "upstream_unavailable",
            Self::Unusable { .. } => "upstream_unusable",
            Self::Timeout(_) => "upstream_timeout",
            Self::Integrity(_) => "integrity",
            Self::OnlyIfCached => "only_if_cached",
            Self::Left => "client_left",
            Self::TooLarge { .. } => "too_large",
            Self::Crowded => "crowded",
            Self::Body(_) => "body",
            Self::NoAudit { .. } => "audit_unavailable",
            Self::Stranger(stranger) => stranger.code(),
            Self::Attempts { .. } => "attempts",
            Self::GateRefused(refusal) if refusal.status == StatusCode::FORBIDDEN => "gate_forbidden",
            Self::NoCredential(_) | Self::GateRefused(_) => "gate_credential",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the service was not asked because more waits here than it may be asked; not where it wants to be left
    /// alone.
    pub(super) fn is_own_queue(&self) -> bool {
        matches!(self, Self::Throttled(shed) if shed.reason != ShedReason::Paused)
    }

    fn unusable(what: &'static str, error: &UpstreamError) -> Self {
        Self::Unusable { what, reason: error.to_string() }
    }

    /// Whether a fetch ended because all who waited for it had left: no answer for one who came after.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self, Self::Throttled(shed) if shed.is_abandoned())
    }
}

impl From<UpstreamError> for HandlerError {
    fn from(error: UpstreamError) -> Self {
        match error {
            // No connection in time counts too: like the others it is not worth another wait of that length.
            UpstreamError::Timeout { .. } => Self::Timeout(error.to_string()),
            UpstreamError::Shed(shed) => Self::Throttled(shed),
            UpstreamError::Dead { host } => Self::Dead(host),
            UpstreamError::Redirect(_) => Self::unusable(
                "it leads somewhere else than to the hosts of the service and `upstream.blob_hosts`",
                &error,
            ),
            UpstreamError::TooLarge { .. } => Self::unusable("it is larger than the gate takes", &error),
            UpstreamError::Encoding(_) => Self::unusable("its body cannot be decoded", &error),
            UpstreamError::Head { .. } => Self::unusable("its head is larger than the gate takes", &error),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// An answer that is not the object.
impl From<Refused> for HandlerError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unauthorized(refusal)
            | Refused::Forbidden(refusal)
            | Refused::NotFound(refusal)
            | Refused::Rejected(refusal) => Self::Refused(Arc::new(refusal)),
            Refused::Busy { retry_after, refusal } => {
                Self::Failing { retry_after, refusal: Arc::new(refusal) }
            }
            Refused::Failed(refusal) => Self::Failing { retry_after: None, refusal: Arc::new(refusal) },
        }
    }
}

impl From<FillError> for HandlerError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Mismatch(mismatch) => Self::Integrity(mismatch.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
