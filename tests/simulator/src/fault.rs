//! Faults that a test orders: which requests they hit, what goes wrong, how often.
//!
//! A request meets at most one fault: the first that was ordered, matches and is not used up. Those that strike before
//! the body is read come first, naturally. Refusing connections
//! altogether is not a fault but [`crate::Simulator::refuse_connections`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::log::{Listener, Logged};

/// An order for something to go wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    matcher: Matcher,
    kind: FaultKind,
    times: Times,
    spared: usize,
}

/// Which requests a fault hits.
#[derive(Clone)]
pub struct Matcher(Arc<dyn Fn(&Logged) -> bool + Send + Sync>);

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first matching request only.
    Once,
    /// That many matching requests.
    Count(usize),
    /// Until [`crate::Simulator::clear_faults`].
    Always,
}

/// What goes wrong. "Body" is what would have been sent otherwise; all sizes are in bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The request is read and never answered; the connection stays open until the client leaves.
    Hang,
    /// TCP reset instead of an answer.
    ResetBeforeHead,
    /// TCP reset after the head.
    ResetAfterHead,
    /// TCP reset after so much of the body.
    ResetAfterBody(usize),
    /// After so much of the body nothing more comes, while the connection stays open.
    StallAfterBody(usize),
    /// The answer trickles.
    Slow {
        /// Speed of the body.
        bytes_per_second: u64,
        /// Wait before the head.
        first_byte_delay: Duration,
    },
    /// Right `Content-Length`, but the connection is closed in order after so much of the body.
    Truncated(usize),
    /// One byte in the middle of the body is another.
    Corrupted,
    /// `Content-Length` is wrong by so much, up or down; then the connection is closed.
    WrongLength(i64),
    /// So many bytes follow after the end of the body; then the connection is closed.
    TooLong(usize),
    /// Chunked instead of `Content-Length`; all valid.
    ChunkedWithoutLength,
    /// Chunked, and closed after so much of the body, without the last chunk.
    ChunkedTruncated(usize),
    /// `Content-Encoding: gzip`, asked for or not.
    Gzip,
    /// 200 with an HTML page instead of the answer (facts §9 row 25).
    Html200,
    /// The sign-in page with status 203 (facts §6).
    SignIn203,
    /// The redirect to the sign-in host (facts §6).
    SignIn302,
    /// Another answer altogether.
    Status {
        /// The status code.
        status: u16,
        /// The reason phrase; empty: the usual one.
        reason: String,
        /// The body.
        body: String,
        /// Headers beside those for framing.
        headers: Vec<(String, String)>,
    },
    /// This status, as soon as the head is there: no `100 Continue`, nothing of the body is read, and the connection is
    /// closed. Who sends the body all the same sees a reset. Matchers know the head only.
    RefuseBody(u16),
    /// 303 to this URL.
    BadRedirect(String),
    /// Bytes that are not HTTP.
    NotHttp,
    /// The honest answer with more headers (`Set-Cookie`, `Retry-After`, ...).
    ExtraHeaders(Vec<(String, String)>),
}

/// The faults that are ordered.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

// === impl Fault ===

impl Fault {
    /// Orders a fault.
    pub fn new(matcher: Matcher, kind: FaultKind, times: Times) -> Self {
        Self { matcher, kind, times, spared: 0 }
    }

    /// Lets so many matching requests pass before the first is hit.
    pub fn after(mut self, requests: usize) -> Self {
        self.spared = requests;
        self
    }

    /// Whether it strikes this request; counts if so.
    fn strikes(&mut self, request: &Logged) -> bool {
        if self.times == Times::Count(0) || !(self.matcher.0)(request) {
            return false;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return false;
        }
        self.times = match self.times {
            Times::Once => Times::Count(0),
            Times::Count(left) => Times::Count(left - 1),
            Times::Always => Times::Always,
        };
        true
    }
}

// === impl Matcher ===

impl Matcher {
    /// Every request.
    pub fn any() -> Self {
        Self::custom(|_| true)
    }

    /// Requests at the pkgs host.
    pub fn pkgs() -> Self {
        Self::listener(Listener::Pkgs)
    }

    /// Requests at the feeds host.
    pub fn feeds() -> Self {
        Self::listener(Listener::Feeds)
    }

    /// Requests at the blob host.
    pub fn blob() -> Self {
        Self::listener(Listener::Blob)
    }

    /// Requests through one door.
    pub fn listener(listener: Listener) -> Self {
        Self::custom(move |request| request.listener == listener)
    }

    /// Requests whose path, as sent, contains the text.
    pub fn path_contains(text: &str) -> Self {
        let text = text.to_owned();
        Self::custom(move |request| request.path.contains(&text))
    }

    /// Requests with this method.
    pub fn method(method: &str) -> Self {
        let method = method.to_owned();
        Self::custom(move |request| request.method == method)
    }

    /// Requests that the closure picks; status and sizes are not known yet.
    pub fn custom(picks: impl Fn(&Logged) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(picks))
    }

    /// Requests that both match.
    pub fn and(self, other: Self) -> Self {
        Self::custom(move |request| (self.0)(request) && (other.0)(request))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Matcher")
    }
}

// === impl FaultKind ===

impl FaultKind {
    /// A bare status with its usual reason phrase and no body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, reason: String::new(), body: String::new(), headers: Vec::new() }
    }

    /// Whether it strikes before the body is read.
    fn is_early(&self) -> bool {
        matches!(self, Self::RefuseBody(_))
    }

    /// A status with one header, such as `Retry-After`.
    pub fn status_with(status: u16, name: &str, value: &str) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Self::Status { status, reason: String::new(), body: String::new(), headers }
    }
}

// === impl Faults ===

impl Faults {
    pub(crate) fn order(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The fault that strikes this request, counted as used.
    pub(crate) fn strike(&self, request: &Logged) -> Option<FaultKind> {
        let mut faults = self.0.lock();
        let mut whole = faults.iter_mut().filter(|fault| !fault.kind.is_early());
        whole.find_map(|fault| fault.strikes(request).then(|| fault.kind.clone()))
    }

    /// The status that a request gets whose body is not read, and its head for the log; counted as used. Without such
    /// faults `head` is not asked.
    pub(crate) fn strike_early(&self, head: impl FnOnce() -> Logged) -> Option<(u16, Logged)> {
        let mut faults = self.0.lock();
        let mut early = faults.iter_mut().filter(|fault| fault.kind.is_early()).peekable();
        early.peek()?;
        let head = head();
        let status = early.find_map(|fault| match &fault.kind {
            FaultKind::RefuseBody(status) => {
                let status = *status;
                fault.strikes(&head).then_some(status)
            }
            _ => None,
        });
        status.map(|status| (status, head))
    }
}
