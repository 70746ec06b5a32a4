//! [`Breaking`] and [`Barred`]: a host that does not answer is left alone for a while, and whoever needs it is told so
//! at once.
//!
//! ```text
//!   Barred ─▶ … Throttled ─▶ Breaking ─▶ Http
//!      │         a permit        │ how it ended: counted
//!      └─ dead: no permit        └─ dead: no socket (it died while the request stood in the queue)
//! ```
//!
//! There is one [`Breaker`](crate::throttle::breaker) per host and class: organisations on one host share it, a blob
//! host and a server of one's own have theirs. A host is dead by what it did, not by what it says of load: refusals
//! (429, 503 with `Retry-After`, 500 with the overload text) are answers. No connection counts each time. Silence, a
//! reset and a 5xx count once for each thing asked: one document that the service cannot make says nothing of the
//! others. A body that breaks after its head counts for nothing: the host answered, and repeats see to it.
//!
//! A host that has said nothing at all for a first-byte timeout is dead for all who wait for it
//! (`upstream/silence`), and whoever looks whether it is back waits no longer than the others: the look goes
//! on without its client.
//!
//! While a host is dead only for a moment, requests wait for its return instead of failing: a restart of its front
//! end costs a pause and no build.

mod hosts;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

pub use hosts::HostState;
use hosts::StateGauge;

use super::{
    Service, Target, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
    judged::{Judged, fingerprint, is_silence, judged, judged_error},
    silence::Silence,
    sites::Sites,
};
use crate::{
    config::{Outage, upstream::Upstream as Settings},
    ident::Name,
    throttle::breaker::{
        Admitted, Attempt, Breaker, BreakerLimits, BreakerState, Breakers, Outcome, Transition,
    },
};

/// Hosts that are remembered before those without trouble are forgotten: blob hosts come in dozens.
const MOST_HOSTS: usize = 256;
/// How long a client waits for a look whether a host is back: one that is back answers sooner.
const LOOK: Duration = Duration::from_secs(2);

/// Which hosts are dead. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Breaks {
    shared: Arc<Shared>,
}

/// An upstream whose requests are let through by the host's breaker, and judged.
pub struct Breaking<U> {
    inner: U,
    breaks: Breaks,
}

/// An upstream that is not asked for what is on a dead host.
pub struct Barred<U> {
    inner: Arc<U>,
    breaks: Breaks,
}

/// Kinds of host: the label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostClass {
    /// The service's packaging host.
    Pkgs,
    /// The service's host of feed management.
    Feeds,
    /// A host of signed URLs.
    Blob,
    /// An Azure DevOps Server.
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    class: HostClass,
    authority: String,
}

struct Shared {
    sites: Sites,
    hold: Duration,
    silence: Silence<Host>,
    state: Mutex<State>,
    /// Told after every change of a breaker.
    changed: Notify,
    metrics: Metrics,
}

struct State {
    breakers: Breakers<Host>,
    trouble: HashMap<Host, Trouble>,
}

/// What is wrong with a host since it answered last.
#[derive(Default)]
struct Trouble {
    /// Things asked for that were counted.
    targets: HashSet<u64>,
    /// When its breaker opened.
    since: Option<Instant>,
}

struct Metrics {
    transitions: IntCounterVec,
}

/// What may be done with a request now.
enum Way {
    Free,
    /// Wait until then, or for a change.
    Wait(Instant),
    Dead,
}

/// An attempt that counts as abandoned unless something else is said of it.
struct UnderWay<'a> {
    breaks: &'a Breaks,
    host: &'a Host,
    attempt: Option<Attempt>,
}

// === impl Breaks ===

impl Breaks {
    /// No host is dead. Registers `feedgate_breaker_*`.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn new(settings: &Settings, outage: &Outage, registry: &Registry) -> Result<Self, prometheus::Error> {
        let limits = BreakerLimits {
            failures: u32::try_from(outage.failures).unwrap_or(u32::MAX),
            open: outage.open,
            longest_open: outage.longest_open,
            ..BreakerLimits::default()
        };
        let state = State { breakers: Breakers::new(limits), trouble: HashMap::new() };
        let shared = Shared {
            sites: Sites::new(settings),
            hold: outage.hold,
            silence: Silence::new(settings.first_byte_timeout, outage.failures),
            state: Mutex::new(state),
            changed: Notify::new(),
            metrics: Metrics::new(registry)?,
        };
        let breaks = Self { shared: Arc::new(shared) };
        StateGauge::register(registry, &breaks)?;
        Ok(breaks)
    }

    /// Whether there is no use in asking `service` for `org` now.
    pub fn is_dead(&self, service: Service, org: &Name) -> bool {
        let host = self.service_host(service, org);
        host.is_some_and(|host| self.shared.state.lock().barred(&host, Instant::now()).is_some())
    }

    /// Whether a host with this authority is dead, whatever it is asked for: errors name hosts so.
    pub fn is_dead_host(&self, authority: &str) -> bool {
        let (state, now) = (self.shared.state.lock(), Instant::now());
        let mut hosts = state.breakers.iter().map(|(host, _)| host);
        hosts.any(|host| host.authority == authority && state.barred(host, now).is_some())
    }

    fn service_host(&self, service: Service, org: &Name) -> Option<Host> {
        let class = match service {
            _ if self.shared.sites.server(org).is_some() => HostClass::Server,
            Service::Pkgs => HostClass::Pkgs,
            Service::Feeds => HostClass::Feeds,
        };
        let base = self.shared.sites.base(service, org).ok()?;
        Some(Host { class, authority: base.origin.authority() })
    }

    /// `None` for what cannot be sent anyway.
    fn host(&self, target: &Target) -> Option<Host> {
        match target {
            Target::Service { service, org, .. } => self.service_host(*service, org),
            Target::Blob(url) => {
                let (origin, _) = self.shared.sites.blob(url).ok()?;
                Some(Host { class: HostClass::Blob, authority: origin.authority() })
            }
        }
    }

    fn way(&self, host: &Host, now: Instant) -> Way {
        let state = self.shared.state.lock();
        let Some(wait) = state.barred(host, now) else { return Way::Free };
        match state.hold_end(host, self.shared.hold).filter(|end| now < *end) {
            Some(end) => Way::Wait(end.min(now + wait)),
            None => Way::Dead,
        }
    }

    /// Whether `error` came of a death so recent that the host's return is worth waiting for.
    fn is_held(&self, host: &Host, error: &UpstreamError, now: Instant) -> bool {
        let counted = matches!(error, UpstreamError::Dead { .. })
            || matches!(judged_error(error), Judged::Gone(_) | Judged::Failed(_));
        let end = self.shared.state.lock().hold_end(host, self.shared.hold);
        counted && end.is_some_and(|end| now < end)
    }

    /// Whether the next request is a look whether `host` is back.
    fn is_doubtful(&self, host: &Host) -> bool {
        let state = self.shared.state.lock();
        state.breakers.peek(host).is_some_and(|breaker| breaker.state() != BreakerState::Closed)
    }

    /// Waits while the host of `service` is dead for a moment only; [`UpstreamError::Dead`] when it is for longer.
    pub async fn wait_for(&self, service: Service, org: &Name) -> Result<(), UpstreamError> {
        let Some(host) = self.service_host(service, org) else { return Ok(()) };
        loop {
            let changed = self.shared.changed.notified();
            match self.way(&host, Instant::now()) {
                Way::Free => return Ok(()),
                Way::Dead => return Err(UpstreamError::Dead { host: host.authority }),
                Way::Wait(until) => tokio::select! { () = changed => {}, () = sleep_until(until) => {} },
            }
        }
    }

    fn admit(&self, host: &Host, now: Instant) -> Result<Attempt, UpstreamError> {
        let mut state = self.shared.state.lock();
        if state.breakers.peek(host).is_none() && state.breakers.iter().count() >= MOST_HOSTS {
            state.breakers.prune();
        }
        let (admitted, transition) = state.breakers.get(host.clone()).admit(now);
        self.tell(host, transition, "time to see whether it is back");
        match admitted {
            Admitted::Go(attempt) => Ok(attempt),
            Admitted::No { .. } => Err(UpstreamError::Dead { host: host.authority.clone() }),
        }
    }

    fn record(&self, host: &Host, attempt: Attempt, judged: &Judged, asked: u64, now: Instant) {
        let mut state = self.shared.state.lock();
        let (outcome, reason) = state.outcome(host, judged, asked);
        let transition = state.breakers.get(host.clone()).record(attempt, outcome, rand::random(), now);
        state.note(host, transition, now);
        self.tell(host, transition, reason);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn tell(&self, host: &Host, transition: Option<Transition>, reason: &str) {
        let Some(Transition { from, to, failures }) = transition else { return };
        let (class, from_text, to_text) = (host.class.as_str(), from.as_str(), to.as_str());
        let host_name = &host.authority;
        if matches!(to, BreakerState::Open { .. }) {
            tracing::warn!(
                host = host_name,
                class,
                from = from_text,
                to = to_text,
                failures,
                reason,
                "breaker"
            );
        } else {
            tracing::info!(host = host_name, class, from = from_text, to = to_text, reason, "breaker");
        }
        self.shared.metrics.transitions.with_label_values(&[class, to_text]).inc();
    }
}

// === impl Breaking ===

impl<U> Breaking<U> {
    /// Asks `inner` as far as `breaks` lets it.
    pub fn new(inner: U, breaks: Breaks) -> Self {
        Self { inner, breaks }
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Breaking<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let Some(host) = self.breaks.host(&request.target) else { return self.inner.fetch(request).await };
        let attempt = self.breaks.admit(&host, Instant::now())?;
        let under_way = UnderWay { breaks: &self.breaks, host: &host, attempt: Some(attempt) };
        let asked = fingerprint(&request.target);
        let mut waiting = self.breaks.shared.silence.begin(&host, asked, Instant::now());
        let answered = tokio::select! {
            outcome = self.inner.fetch(request) => Some(outcome),
            () = waiting.hopeless() => None,
        };
        let now = Instant::now();
        let silent = match &answered {
            None => true,
            Some(Err(error)) if is_silence(error) => waiting.gave_up(now),
            Some(_) => {
                waiting.heard(now);
                false
            }
        };
        let Some(mut outcome) = answered.filter(|_| !silent) else {
            under_way.over(&Judged::Silent(format!("{} says nothing at all", host.authority)), asked);
            return Err(UpstreamError::Dead { host: host.authority });
        };
        let judged = judged(&mut outcome).await;
        under_way.over(&judged, asked);
        outcome
    }
}

// === impl Barred ===

impl<U> Barred<U> {
    /// Asks `inner` only for what is on hosts that `breaks` takes for alive.
    pub fn new(inner: U, breaks: Breaks) -> Self {
        Self { inner: Arc::new(inner), breaks }
    }
}

impl<U: Upstream + 'static> Barred<U> {
    /// Looks whether `host` is back. The look goes on when its client is told that the host is dead.
    async fn probe(&self, request: &UpstreamRequest, host: &Host) -> Result<UpstreamResponse, UpstreamError> {
        let (inner, request) = (Arc::clone(&self.inner), request.clone());
        let look = tokio::spawn(async move { inner.fetch(&request).await });
        match timeout(LOOK, look).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(UpstreamError::Dead { host: host.authority.clone() }),
        }
    }
}

#[async_trait]
impl<U: Upstream + 'static> Upstream for Barred<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let Some(host) = self.breaks.host(&request.target) else { return self.inner.fetch(request).await };
        // Who has a deadline has something else to serve.
        let holds = request.asker.deadline.is_none();
        loop {
            let changed = self.breaks.shared.changed.notified();
            match self.breaks.way(&host, Instant::now()) {
                Way::Free => {}
                Way::Wait(until) if holds => {
                    tokio::select! { () = changed => {}, () = sleep_until(until) => {} }
                    continue;
                }
                Way::Wait(_) | Way::Dead => return Err(UpstreamError::Dead { host: host.authority }),
            }
            let outcome = if holds && self.breaks.is_doubtful(&host) {
                self.probe(request, &host).await
            } else {
                self.inner.fetch(request).await
            };
            match outcome {
                Err(error) if holds && self.breaks.is_held(&host, &error, Instant::now()) => {}
                outcome => return outcome,
            }
        }
    }
}

// === impl HostClass ===

impl HostClass {
    const ALL: [Self; 4] = [Self::Pkgs, Self::Feeds, Self::Blob, Self::Server];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pkgs => "pkgs",
            Self::Feeds => "feeds",
            Self::Blob => "blob",
            Self::Server => "server",
        }
    }
}

// === impl State ===

impl State {
    fn barred(&self, host: &Host, now: Instant) -> Option<Duration> {
        self.breakers.peek(host).and_then(|breaker| breaker.barred(now))
    }

    /// Until when requests wait for a host that died.
    fn hold_end(&self, host: &Host, hold: Duration) -> Option<Instant> {
        Some(self.trouble.get(host)?.since? + hold)
    }

    /// What counts of `judged`, and why.
    fn outcome<'a>(&mut self, host: &Host, judged: &'a Judged, asked: u64) -> (Outcome, &'a str) {
        match judged {
            Judged::Alive => {
                if let Some(trouble) = self.trouble.get_mut(host) {
                    trouble.targets.clear();
                }
                (Outcome::Success, "it answers")
            }
            Judged::Nothing => (Outcome::Abandoned, ""),
            Judged::Gone(reason) => (Outcome::Failure, reason),
            Judged::Silent(reason) => (Outcome::Death, reason),
            Judged::Failed(reason) => {
                let state = self.breakers.peek(host).map_or(BreakerState::Closed, Breaker::state);
                let new = self.trouble.entry(host.clone()).or_default().targets.insert(asked);
                let counts = new || state != BreakerState::Closed;
                (if counts { Outcome::Failure } else { Outcome::Abandoned }, reason)
            }
        }
    }

    fn note(&mut self, host: &Host, transition: Option<Transition>, now: Instant) {
        match transition.map(|transition| (transition.from, transition.to)) {
            Some((BreakerState::Closed, _)) => {
                self.trouble.entry(host.clone()).or_default().since = Some(now);
            }
            Some((_, BreakerState::Closed)) => drop(self.trouble.remove(host)),
            Some(_) | None => {}
        }
    }
}

// === impl Metrics ===

impl Metrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let transitions =
            Opts::new("feedgate_breaker_transitions_total", "Changes of breakers, by the state that began");
        let transitions = IntCounterVec::new(transitions, &["host_class", "to"])?;
        registry.register(Box::new(transitions.clone()))?;
        for class in HostClass::ALL.map(HostClass::as_str) {
            for to in ["closed", "open", "half_open"] {
                transitions.with_label_values(&[class, to]).inc_by(0);
            }
        }
        Ok(Self { transitions })
    }
}

// === impl UnderWay ===

impl UnderWay<'_> {
    fn over(mut self, judged: &Judged, asked: u64) {
        if let Some(attempt) = self.attempt.take() {
            self.breaks.record(self.host, attempt, judged, asked, Instant::now());
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.breaks.record(self.host, attempt, &Judged::Nothing, 0, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
