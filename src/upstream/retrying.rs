//! [`Retrying`]: a read that got no answer, or a failure that passes, is put again.
//!
//! ```text
//!  try 1        fails   pause      try 2 (new connection)   429, Retry-After: 2      try 3
//!  ├──────────────┤ ┄┄┄┄┄┄┄┄┄┄┄┄┄┄ ├──────────────────────┤ ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ ├────▶  … deadline
//! ```
//!
//! Only requests that may be sent twice (RFC 9110 §9.2.2) and only until there is a head to hand on: a body that
//! streams is never started over here (see [`super::resuming`] for those). The first try goes through as it
//! is, on any connection; the next ones go on new ones, because what broke one kept connection may have broken
//! them all (facts §7.4). Pauses are random over their whole range, so that requests which failed together
//! do not come back together. No pause is begun that would end after the deadline: the failure is handed on.
//!
//! Refusals for load are not failures: the service said when it wants to be asked again, and how much in all is
//! the throttle's business, whose queue every try stands in anew. They are put again until the deadline.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::{Method, StatusCode};
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Phase, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
    answer::{MAX_REFUSAL, is_overload},
    body,
};
use crate::{
    clock::Clock,
    config::Retry,
    throttle::{Class, retry_after},
};

/// Upper end of the first pause after a failure; doubled for each further one. A connection that was cycled is
/// replaced at once; a front end that restarts takes about a second.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);
/// The same after a refusal for load that names no pause.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// Longest range of a pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Longest wait for the text of a 500, which tells a refusal for load from a failure. It comes with the head.
const TEXT_PATIENCE: Duration = Duration::from_secs(1);

/// An upstream that asks again.
pub struct Retrying<U> {
    inner: U,
    settings: Retry,
    clock: Clock,
    retries: Retries,
}

/// Counts repeats. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Retries(IntCounterVec);

/// Why a request was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A kept connection had ended; sent again at once by [`super::Http`].
    KeptConnection,
    /// No connection.
    Connect,
    /// The connection broke before the head, or before the end of a document.
    Broken,
    /// A document that stopped coming.
    Stalled,
    /// 500, 502 or 504.
    ServerError,
    /// 429, 503, or a 500 that says that it is a refusal for load.
    Refusal,
}

/// What went wrong with a try that may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setback {
    reason: Reason,
    /// The pause that the service asked for.
    asked: Option<Duration>,
}

/// The arithmetic of one request's repeats; knows no clock.
#[derive(Debug)]
struct Course {
    attempts: usize,
    failures: usize,
    unconnected: bool,
    refusals: usize,
}

// === impl Retrying ===

impl<U> Retrying<U> {
    /// Puts repeats around `inner`; `clock` is for a `Retry-After` that is a date.
    pub fn new(inner: U, settings: Retry, clock: Clock, retries: Retries) -> Self {
        Self { inner, settings, clock, retries }
    }
}

impl<U: Upstream> Retrying<U> {
    /// One try; without a head at `deadline` it is over.
    async fn attempt(
        &self,
        request: &UpstreamRequest,
        deadline: Option<Instant>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let Some(deadline) = deadline else { return self.inner.fetch(request).await };
        let late = || UpstreamError::Timeout { host: request.target.whom(), phase: Phase::Deadline };
        timeout_at(deadline, self.inner.fetch(request)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn repeat(
        &self,
        request: &UpstreamRequest,
        deadline: Instant,
        mut outcome: Result<UpstreamResponse, UpstreamError>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut course = Course::new(self.settings.attempts);
        let mut again = request.clone();
        (again.fresh, again.deadline) = (true, Some(deadline));
        while let Some(setback) = setback(&mut outcome, self.clock.now()).await {
            let pause = course.pause(setback, rand::random());
            let Some(pause) = pause.filter(|pause| Instant::now() + *pause < deadline) else { break };
            tracing::debug!(
                target = ?request.target, reason = setback.reason.as_str(), ?pause, "asked again"
            );
            // The answer's connection and permit are not kept over the pause.
            drop(outcome);
            sleep(pause).await;
            self.retries.count(request.target.class(), setback.reason);
            outcome = self.attempt(&again, Some(deadline)).await;
        }
        outcome
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Retrying<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        // What has a deadline of its own is not put again for longer than the others.
        let latest = Instant::now() + self.settings.deadline;
        let deadline = request.deadline.map_or(latest, |own| own.min(latest));
        let outcome = self.attempt(request, request.deadline).await;
        let failed = outcome.as_ref().map_or(true, |response| may_pass(response.status));
        if failed && may_be_sent_twice(&request.method) {
            return self.repeat(request, deadline, outcome).await;
        }
        outcome
    }
}

// === impl Retries ===

impl Retries {
    /// Registers `feedgate_upstream_retries_total`; fails if it is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "feedgate_upstream_retries_total",
            "Requests to the service that were sent again, by kind of host and by what was wrong before.",
        );
        let counter = IntCounterVec::new(opts, &["host_class", "reason"])?;
        registry.register(Box::new(counter.clone()))?;
        for class in Class::ALL {
            for reason in Reason::ALL {
                counter.with_label_values(&[class.as_str(), reason.as_str()]).inc_by(0);
            }
        }
        Ok(Self(counter))
    }

    /// A request is sent again.
    pub(super) fn count(&self, class: Class, reason: Reason) {
        self.0.with_label_values(&[class.as_str(), reason.as_str()]).inc();
    }
}

// === impl Reason ===

impl Reason {
    const ALL: [Self; 6] =
        [Self::KeptConnection, Self::Connect, Self::Broken, Self::Stalled, Self::ServerError, Self::Refusal];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeptConnection => "kept_connection",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Stalled => "stalled",
            Self::ServerError => "server_error",
            Self::Refusal => "refusal",
        }
    }
}

// === impl Course ===

impl Course {
    fn new(attempts: usize) -> Self {
        Self { attempts, failures: 0, unconnected: false, refusals: 0 }
    }

    /// How long to wait before the next try, if there is one. `fraction` (0 to 1) picks the place in the range.
    fn pause(&mut self, setback: Setback, fraction: f64) -> Option<Duration> {
        if self.attempts <= 1 {
            return None;
        }
        if setback.reason == Reason::Refusal {
            return Some(self.after_refusal(setback.asked, fraction));
        }
        // A host that takes no connections is down: one more try tells it from a moment's hitch.
        let connect = setback.reason == Reason::Connect;
        if connect && std::mem::replace(&mut self.unconnected, true) {
            return None;
        }
        self.failures += 1;
        (self.failures < self.attempts).then(|| range(FAILURE_PAUSE, self.failures).mul_f64(fraction))
    }

    /// Never before the time that was asked for; without one, the upper half of a growing range.
    fn after_refusal(&mut self, asked: Option<Duration>, fraction: f64) -> Duration {
        self.refusals += 1;
        match asked.filter(|asked| !asked.is_zero()) {
            Some(asked) => asked + FAILURE_PAUSE.mul_f64(fraction),
            None => range(REFUSAL_PAUSE, self.refusals).mul_f64(0.5 + fraction / 2.0),
        }
    }
}

/// The range of the `n`th pause (from 1).
fn range(first: Duration, n: usize) -> Duration {
    let doublings = u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    first.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

/// What is wrong with `outcome`, if asking again may help.
async fn setback(outcome: &mut Result<UpstreamResponse, UpstreamError>, now: SystemTime) -> Option<Setback> {
    let failure = |reason| Some(Setback { reason, asked: None });
    match outcome {
        Err(UpstreamError::Connect { .. }) => failure(Reason::Connect),
        Err(UpstreamError::Broken { .. } | UpstreamError::Length { .. }) => failure(Reason::Broken),
        Err(UpstreamError::Timeout { phase: Phase::Idle, .. }) => failure(Reason::Stalled),
        Err(_) => None,
        Ok(response) if !may_pass(response.status) => None,
        Ok(response) => {
            if !is_refusal(response).await {
                return failure(Reason::ServerError);
            }
            Some(Setback { reason: Reason::Refusal, asked: retry_after(&response.headers, now) })
        }
    }
}

async fn is_refusal(response: &mut UpstreamResponse) -> bool {
    if response.status != StatusCode::INTERNAL_SERVER_ERROR {
        return matches!(response.status.as_u16(), 429 | 503);
    }
    let text = body::peek(response, MAX_REFUSAL, TEXT_PATIENCE).await;
    is_overload(response.status, response.reason.as_deref(), &text)
}

/// Statuses that say nothing of the thing asked for. 501 and 505 would stay.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// The methods that reads are made of. PUT and DELETE may be sent twice too (RFC 9110 §9.2.2), but what they
/// answer the second time is another thing.
fn may_be_sent_twice(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests;
