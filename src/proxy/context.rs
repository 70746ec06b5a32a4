//! What the edge remembers of one request until its log line is written.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::{metrics::InFlight, outflow::Outflow, passage::Collected, progress::Progress};
use crate::{
    access::CallerId,
    document::rewrite::Rewriter,
    handler::{CacheStatus, Forward, HandlerError, RouteClass},
    throttle::{Permit, Signal, SignalKind, ThrottleError},
    trace::{Span, Trace},
};

/// Most bytes of a failure's body that are looked into.
const SEEN: usize = 4 << 10;

/// The service's id of an answer; its support asks for it.
const ACTIVITY: HeaderName = HeaderName::from_static("activityid");

/// One request's state.
pub struct RequestContext {
    /// Id of the request: in the answer, in every log line of it.
    pub id: String,
    /// When its head was read.
    pub started: Instant,
    /// Method, once parsed.
    pub method: Method,
    /// What it is for, for labels and logs.
    pub class: RouteClass,
    /// Canonical key of what it asks for.
    pub key: String,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Keyed hash of the credential.
    pub caller: Option<CallerId>,
    /// How it was answered.
    pub cache: CacheStatus,
    /// Where the answer's bytes lay.
    pub tier: &'static str,
    /// Status sent.
    pub status: Option<StatusCode>,
    /// Code of the error, when the gate made one.
    pub error: Option<&'static str>,
    /// Whether the client has its whole answer although the request failed.
    pub answered: bool,
    /// Body bytes sent.
    pub sent: u64,
    /// The trace that it is part of.
    pub trace: Option<Trace>,
    /// Content id of the package's bytes, as far as it is known, with the quotes of a tag.
    pub storage_id: Option<HeaderValue>,
    /// The service's id of its answer, where that went on to the client.
    pub activity_id: Option<HeaderValue>,
    /// When it was known what the answer is, and the first byte could be sent.
    pub answered_at: Option<Instant>,
    /// What clients have not taken yet.
    pub outflow: Outflow,
    /// Set when Pingora forwards the request itself.
    pub forward: Option<Forwarding>,
    /// Counts the request. Pingora drops this context after the last byte was flushed, which is later than
    /// `logging`: what drains waits for that.
    _in_flight: InFlight,
}

/// A request that Pingora forwards.
pub struct Forwarding {
    /// Where to.
    pub forward: Forward,
    /// Turns URLs of the service in the answer into the gate's.
    pub rewriter: Rewriter,
    /// Held until the request is over.
    pub permit: Option<Permit>,
    /// Why it got none.
    pub shed: Option<ThrottleError>,
    /// How far it came.
    pub progress: Progress,
    /// Bytes of its body that were sent on.
    pub sent_on: u64,
    /// Interim answers so far.
    pub interims: usize,
    /// What the head said of an answer that failed, until its text is seen.
    pub failed: Option<Signal>,
    /// The answer's body, when it is rewritten.
    pub body: Option<Collected>,
    /// Whether the service refused it, and the client has the whole answer.
    pub is_refused: bool,
    /// What the client is told instead of the service's answer.
    pub refusal: Option<HandlerError>,
    /// The span of the request to the service.
    pub span: Option<Span>,
}

// === impl RequestContext ===

impl RequestContext {
    /// A request that starts now.
    pub fn new(in_flight: InFlight, outflow: Outflow) -> Self {
        Self {
            // From the thread's own generator: asking the system takes as long as the rest of this.
            id: uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string(),
            started: Instant::now(),
            method: Method::GET,
            class: RouteClass::Unknown,
            key: String::new(),
            client: None,
            caller: None,
            cache: CacheStatus::Local,
            tier: "none",
            status: None,
            error: None,
            answered: false,
            sent: 0,
            trace: None,
            storage_id: None,
            activity_id: None,
            answered_at: None,
            outflow,
            forward: None,
            _in_flight: in_flight,
        }
    }

    /// The answer is known: notes what its headers tell for the log. The tag of a package is its content id.
    pub fn answering(&mut self, headers: &HeaderMap, package: bool) {
        self.answered_at.get_or_insert_with(Instant::now);
        self.activity_id = headers.get(ACTIVITY).cloned();
        self.storage_id = if package { headers.get(header::ETAG).cloned() } else { None };
    }
}

// === impl Forwarding ===

impl Forwarding {
    /// A request of which nothing was sent yet.
    pub fn new(forward: Forward, rewriter: Rewriter) -> Self {
        Self {
            forward,
            rewriter,
            permit: None,
            shed: None,
            progress: Progress::default(),
            sent_on: 0,
            interims: 0,
            failed: None,
            body: None,
            is_refused: false,
            refusal: None,
            span: None,
        }
    }

    /// Looks into the first piece of a failure's body for a word on load; a whole refusal has a few hundred bytes.
    pub fn hear(&mut self, piece: Option<&[u8]>) {
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else { return };
        let Some(failed) = self.failed.take() else { return };
        let signal = failed.with_text(&String::from_utf8_lossy(&piece[..piece.len().min(SEEN)]));
        if let Some(permit) = self.permit.as_ref().filter(|_| signal.kind != SignalKind::Failed) {
            permit.observe(&signal);
        }
    }

    /// The status of an answer, or what it means: a sign-in page is a 401.
    pub fn told(&self, status: StatusCode) -> StatusCode {
        if self.refusal.is_some() { StatusCode::UNAUTHORIZED } else { status }
    }
}
