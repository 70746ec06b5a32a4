//! What the edge remembers of one request until its log line is written.

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::metrics::InFlight;
use crate::{
    access::CallerId,
    handler::{CacheStatus, Forward, RouteClass},
    throttle::Permit,
};

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
    /// Whether a failure of the forwarded request was answered, and not only broken off.
    pub answered: bool,
    /// Body bytes sent.
    pub sent: u64,
    /// Set when Pingora forwards the request itself.
    pub forward: Option<Forwarding>,
    /// Counts the request. Pingora drops this context after the last byte was flushed, which is later than
    /// `logging`: what drains waits for that.
    _in_flight: InFlight,
}

/// A request that Pingora forwards, and the permit it holds.
pub struct Forwarding {
    /// Where to.
    pub forward: Forward,
    /// Held until the request is over.
    pub permit: Option<Permit>,
}

impl RequestContext {
    /// A request that starts now.
    pub fn new(in_flight: InFlight) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            started: Instant::now(),
            method: Method::GET,
            class: RouteClass::Unknown,
            key: String::new(),
            caller: None,
            cache: CacheStatus::Local,
            tier: "none",
            status: None,
            error: None,
            answered: false,
            sent: 0,
            forward: None,
            _in_flight: in_flight,
        }
    }
}
