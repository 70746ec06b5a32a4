//! What one upstream identity (or the gate's address) may ask, on one class of host.
//!
//! A pure state machine: `now` comes in, what changed comes out, nothing waits. Three limits stand side by
//! side (requests in flight, requests per second, what the service says is left), and a pause covers them all:
//!
//! ```text
//!            refused                    time is up              answered well
//!   Open ───────────────▶ Paused{until} ──────────▶ Probing{1} ───────────────▶ Probing{2, 4, …} ──▶ Open
//!                            ▲                          │ refused again: the same bad spell, nothing more
//!                            └──────────────────────────┘ is learned from it and nothing lowered
//! ```
//!
//! Each pause begins an *epoch*. What was sent in an earlier one was sent in ignorance: its refusal can prolong
//! the pause, but not lower a limit twice.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Work,
    accepted::Accepted,
    adaptive::{Adaptive, Bounds, Growth},
    allowance::Allowance,
    bucket::{Bucket, Pace},
    signal::{Resource, Signal, SignalKind},
};

/// Requests in flight before anything is known: half of what the service's limit may be, doubled in a round
/// trip when nothing refuses.
const FIRST_IN_FLIGHT: f64 = 8.0;
/// Never fewer than this, so that one slow answer does not stop everything.
const LEAST_IN_FLIGHT: f64 = 2.0;
/// A refusal that does not name concurrency does not lower it below 0.85 times this: rarely the cause.
const LEAST_SUSPECT: f64 = 6.0;
/// What a refusal leaves of the requests that were in flight.
const IN_FLIGHT_DECREASE: f64 = 0.85;
/// The rate never falls below this.
const LEAST_RATE: f64 = 0.5;
/// What a refusal leaves of a rate of which nothing better is known.
const RATE_DECREASE: f64 = 0.7;
/// Share of the rate that was seen to be accepted, refusals and pauses included, that is safe to ask for.
const EVIDENCE: f64 = 0.9;
/// First pause when the service does not say for how long; doubles up to [`LONGEST_GUESS`].
const FIRST_GUESS: Duration = Duration::from_secs(1);
/// A lone request this often costs the service nothing, and recovery is noticed soon.
const LONGEST_GUESS: Duration = Duration::from_secs(4);
/// Shortest pause after a refusal, whatever `Retry-After` says.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// A probe that is not answered in this time no longer holds the others back.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
/// After this long without requests everything learned is forgotten.
const REST: Duration = Duration::from_secs(600);

/// Fixed limits of a [`Budget`].
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetLimits {
    /// Most requests in flight.
    pub in_flight: usize,
    /// Limits of the rate; `None` for a class of host that has none.
    pub rate: Option<RateLimits>,
    /// Fixed pace of metadata requests, if there is one.
    pub metadata: Option<Pace>,
    /// Fixed pace of downloads, if there is one.
    pub downloads: Option<Pace>,
    /// Longest pause that is kept, whatever the service says.
    pub longest_pause: Duration,
}

/// Limits of an adaptive rate, in requests per second.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimits {
    /// Rate to start with, and after the first refusal.
    pub safe: f64,
    /// Most that is ever asked.
    pub most: f64,
    /// Requests that may leave together after a rest, until the service refused for the first time.
    pub burst: f64,
}

/// Whether a request may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Now.
    Now,
    /// Not before then.
    At(Instant),
    /// When one in flight is over.
    Full,
}

/// What a request in flight remembers of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    epoch: u64,
    in_flight: usize,
    observed: bool,
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// A limit fell.
    Slowed {
        /// Which limit.
        limit: LimitName,
        /// What it is now.
        to: f64,
    },
    /// Nothing is sent for so long.
    Paused(Duration),
    /// As many in flight as before the pause.
    Recovered,
}

/// The limits of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitName {
    /// Requests in flight.
    InFlight,
    /// Requests per second.
    Rate,
}

/// One budget's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BudgetFigures {
    /// Requests in flight.
    pub in_flight: usize,
    /// How many there may be now.
    pub in_flight_limit: usize,
    /// Requests per second that may leave now; `None` without a limit.
    pub rate_limit: Option<f64>,
    /// What the service said is left, and of how much.
    pub remaining: Option<(f64, Option<f64>)>,
    /// How long the pause still lasts.
    pub pause_left: Duration,
}

/// What one identity, or the gate, may ask.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: BudgetLimits,
    in_flight: usize,
    /// Of them, those sent since the last pause.
    fresh: usize,
    concurrency: Adaptive,
    rate: Option<Adaptive>,
    bucket: Bucket,
    kinds: [Bucket; 2],
    allowance: Allowance,
    phase: Phase,
    epoch: u64,
    guess: Duration,
    accepted: Accepted,
    hungry: Hungry,
    used_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Paused { until: Instant },
    Probing { window: usize, since: Instant, confirmed: bool },
}

/// Which limits held something back since the last good answer.
#[derive(Debug, Clone, Copy, Default)]
struct Hungry {
    in_flight: bool,
    rate: bool,
}

// === impl Budget ===

impl Budget {
    /// A budget of which nothing is known yet.
    pub fn new(limits: BudgetLimits) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
        let cap = limits.in_flight as f64;
        let concurrency = Bounds {
            start: FIRST_IN_FLIGHT,
            floor: LEAST_IN_FLIGHT.min(cap),
            cap,
            safe: f64::INFINITY,
            decrease: IN_FLIGHT_DECREASE,
        };
        let rate = limits.rate.as_ref().map(|rate| {
            let floor = LEAST_RATE.min(rate.most);
            Bounds { start: rate.safe, floor, cap: rate.most, safe: rate.safe, decrease: RATE_DECREASE }
        });
        Self {
            limits,
            in_flight: 0,
            fresh: 0,
            concurrency: Adaptive::new(concurrency, Growth::Counting),
            rate: rate.map(|bounds| Adaptive::new(bounds, Growth::Doubling)),
            bucket: Bucket::default(),
            kinds: [Bucket::default(), Bucket::default()],
            allowance: Allowance::default(),
            phase: Phase::Open,
            epoch: 0,
            guess: FIRST_GUESS,
            accepted: Accepted::default(),
            hungry: Hungry::default(),
            used_at: None,
        }
    }

    /// Whether a request that waits may leave. Remembers which limit held it back.
    pub fn ready(&mut self, work: Work, now: Instant) -> Ready {
        self.wake(now);
        if let Phase::Paused { until } = self.phase {
            return Ready::At(until);
        }
        if self.in_flight >= self.in_flight_limit() {
            self.hungry.in_flight = true;
            return Ready::Full;
        }
        if let Some(wait) = self.probe_wait(now) {
            return wait;
        }
        let own = self.fixed_pace(work).map(|pace| self.kinds[work as usize].ready_at(pace, now));
        if let Some(at) = own.filter(|at| *at > now) {
            return Ready::At(at);
        }
        match self.pace(now).map(|pace| self.bucket.ready_at(pace, now)) {
            Some(at) if at > now => {
                // What is left by the service's own count is no limit that could be grown.
                self.hungry.rate = self.allowance.rate(self.in_flight, now).is_none();
                Ready::At(at)
            }
            _ => Ready::Now,
        }
    }

    /// A request leaves.
    pub fn take(&mut self, work: Work, now: Instant) -> Pass {
        self.rest(now);
        self.in_flight += 1;
        self.fresh += 1;
        if let Some(pace) = self.fixed_pace(work) {
            self.kinds[work as usize].take(pace, 1.0, now);
        }
        if let Some(pace) = self.pace(now) {
            self.bucket.take(pace, 1.0, now);
        }
        Pass { epoch: self.epoch, in_flight: self.in_flight, observed: false }
    }

    /// A request is over.
    pub fn give_back(&mut self, pass: Pass) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if pass.epoch == self.epoch {
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    /// Figures of the service about this budget.
    pub fn hear(&mut self, signal: &Signal, now: Instant) {
        self.allowance.hear(signal.told, now);
    }

    /// A request of this budget was answered so. The same answer may be shown twice: first its head, then
    /// with its text.
    pub fn observe(&mut self, pass: &mut Pass, signal: &Signal, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        match signal.kind {
            _ if pass.observed => {}
            SignalKind::Failed => {}
            SignalKind::Fine => self.good(*pass, now, &mut changes),
            SignalKind::Slow => {
                self.good(*pass, now, &mut changes);
                self.slow(*pass, signal, now, &mut changes);
            }
            SignalKind::Refused | SignalKind::Overloaded => self.refused(*pass, signal, now, &mut changes),
        }
        pass.observed |= signal.kind != SignalKind::Failed;
        changes
    }

    /// Waits as after a refusal, with nothing lowered: it may have been about somebody else.
    pub fn wait_out(&mut self, wait: Duration, now: Instant) {
        self.wake(now);
        if self.paused_until(now).is_none() {
            self.next_epoch();
        }
        self.pause(wait, now, &mut Vec::new());
    }

    /// Whether there is so little room that work nobody waits for should not be begun.
    pub fn is_tight(&self, now: Instant) -> bool {
        self.phase != Phase::Open
            || self.in_flight * 2 >= self.in_flight_limit()
            || self.allowance.rate(self.in_flight, now).is_some()
    }

    /// The end of the pause, while there is one.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Paused { until } if until > now => Some(until),
            _ => None,
        }
    }

    /// Requests per second that can be counted on, when that is known from a refusal.
    pub fn known_rate(&self) -> Option<f64> {
        self.rate.as_ref().filter(|rate| rate.ceiling().is_some()).map(Adaptive::value)
    }

    /// Whether nothing would be lost by forgetting this budget.
    pub fn is_idle(&self, now: Instant) -> bool {
        let rested = self.used_at.is_none_or(|used| now.duration_since(used) >= REST);
        self.in_flight == 0 && rested && self.paused_until(now).is_none()
    }

    /// When it was used last.
    pub fn used_at(&self) -> Option<Instant> {
        self.used_at
    }

    /// The figures.
    pub fn figures(&self, now: Instant) -> BudgetFigures {
        BudgetFigures {
            in_flight: self.in_flight,
            in_flight_limit: self.in_flight_limit(),
            rate_limit: self.pace(now).map(|pace| pace.per_second),
            remaining: self.allowance.remaining(now),
            pause_left: self.paused_until(now).map_or(Duration::ZERO, |until| until - now),
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the cap")]
    fn in_flight_limit(&self) -> usize {
        self.concurrency.value() as usize
    }

    fn fixed_pace(&self, work: Work) -> Option<Pace> {
        match work {
            Work::Metadata => self.limits.metadata,
            Work::Download => self.limits.downloads,
        }
    }

    /// Paced evenly once a refusal is remembered: a burst may have been its cause.
    fn pace(&self, now: Instant) -> Option<Pace> {
        let (rate, limits) = (self.rate.as_ref()?, self.limits.rate.as_ref()?);
        let left = self.allowance.rate(self.in_flight, now);
        let per_second = left.map_or(rate.value(), |left| rate.value().min(left.max(LEAST_RATE)));
        let even = rate.ceiling().is_some() || left.is_some();
        Some(Pace { per_second, burst: if even { 1.0 } else { limits.burst } })
    }

    fn wake(&mut self, now: Instant) {
        if let Phase::Paused { until } = self.phase
            && until <= now
        {
            self.phase = Phase::Probing { window: 1, since: now, confirmed: false };
        }
    }

    fn probe_wait(&self, now: Instant) -> Option<Ready> {
        let Phase::Probing { window, since, confirmed } = self.phase else { return None };
        let lost = now.duration_since(since).as_secs() / PROBE_PATIENCE.as_secs();
        let allowed = window + usize::try_from(lost).unwrap_or(usize::MAX - window);
        let next = since + PROBE_PATIENCE * u32::try_from(lost.saturating_add(1)).unwrap_or(u32::MAX);
        (self.fresh >= allowed).then_some(if confirmed { Ready::Full } else { Ready::At(next) })
    }

    fn rest(&mut self, now: Instant) {
        if self.is_idle(now) && self.used_at.is_some() {
            self.concurrency.forget();
            self.rate.iter_mut().for_each(Adaptive::forget);
        }
        self.used_at = Some(now);
    }

    fn good(&mut self, pass: Pass, now: Instant, changes: &mut Vec<Change>) {
        self.accepted.add(now);
        let hungry = std::mem::take(&mut self.hungry);
        if hungry.in_flight {
            self.concurrency.grow(now);
        }
        if hungry.rate {
            self.rate.iter_mut().for_each(|rate| rate.grow(now));
        }
        if pass.epoch == self.epoch {
            self.probed_well(now, changes);
        }
    }

    fn probed_well(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let limit = self.in_flight_limit();
        let Phase::Probing { window, confirmed, .. } = &mut self.phase else { return };
        *window += 1;
        if !std::mem::replace(confirmed, true) {
            self.guess = FIRST_GUESS;
            if let (Some(rate), Some(seen)) = (&mut self.rate, self.accepted.per_second(now)) {
                rate.raise_to(EVIDENCE * seen);
            }
            self.accepted = Accepted::default();
        }
        if *window >= limit {
            self.phase = Phase::Open;
            changes.push(Change::Recovered);
        }
    }

    /// Served, with a word of warning.
    fn slow(&mut self, pass: Pass, signal: &Signal, now: Instant, changes: &mut Vec<Change>) {
        let current = pass.epoch == self.epoch;
        let served = self.accepted.steadily(now).map(|seen| EVIDENCE * seen);
        if let Some(rate) = self.rate.as_mut().filter(|_| current)
            && rate.ease(served, now)
        {
            changes.push(Change::Slowed { limit: LimitName::Rate, to: rate.value() });
        }
        if let Some(wait) = signal.retry_after.filter(|wait| *wait > Duration::ZERO) {
            if current || self.paused_until(now).is_none() {
                self.next_epoch();
            }
            self.pause(wait, now, changes);
        }
    }

    fn refused(&mut self, pass: Pass, signal: &Signal, now: Instant, changes: &mut Vec<Change>) {
        self.wake(now);
        let current = pass.epoch == self.epoch;
        let same_spell = matches!(self.phase, Phase::Probing { confirmed: false, .. });
        let is_first = self.known_rate().is_none();
        if current && !same_spell {
            self.lower(pass, signal, now, changes);
        }
        if current || self.paused_until(now).is_none() {
            let guess = self.guess;
            self.guess = (guess * 2).min(LONGEST_GUESS);
            self.next_epoch();
            let wait = signal.retry_after.unwrap_or(guess);
            let debt = if is_first { self.debt(wait, now) } else { Duration::ZERO };
            self.pause(wait + debt, now, changes);
        } else if let Some(wait) = signal.retry_after {
            self.pause(wait, now, changes);
        }
    }

    /// How much longer than `wait` is waited after the first refusal, which ends a burst: until the safe rate would have
    /// come as far, since a probe before then may well be refused; but not longer than such a refusal would cost.
    fn debt(&self, wait: Duration, now: Instant) -> Duration {
        let safe = self.limits.rate.as_ref().map(|rate| rate.safe);
        let earned = safe.and_then(|safe| self.accepted.earned_at(safe));
        earned.map_or(Duration::ZERO, |at| at.saturating_duration_since(now + wait).min(wait))
    }

    fn lower(&mut self, pass: Pass, signal: &Signal, now: Instant, changes: &mut Vec<Change>) {
        let trouble = signal.kind == SignalKind::Overloaded;
        #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
        let used = pass.in_flight as f64;
        let fewer = match signal.resource {
            _ if trouble => self.concurrency.trouble(now),
            Resource::Concurrency => self.concurrency.refuse(used, now),
            Resource::Unknown => self.concurrency.refuse(used.max(LEAST_SUSPECT), now),
            Resource::Usage => false,
        };
        if fewer {
            changes.push(Change::Slowed { limit: LimitName::InFlight, to: self.concurrency.value() });
        }
        let Some(rate) = &mut self.rate else { return };
        let slower = match signal.resource {
            _ if trouble => rate.trouble(now),
            Resource::Concurrency => false,
            Resource::Unknown | Resource::Usage => rate.refuse(rate.value(), now),
        };
        if slower {
            changes.push(Change::Slowed { limit: LimitName::Rate, to: rate.value() });
        }
    }

    /// A pause only ever becomes longer; only its beginning is a change.
    fn pause(&mut self, wait: Duration, now: Instant, changes: &mut Vec<Change>) {
        let until = now + wait.clamp(SHORTEST_PAUSE, self.limits.longest_pause.max(SHORTEST_PAUSE));
        let known = self.paused_until(now);
        if known.is_none() {
            changes.push(Change::Paused(until - now));
        }
        self.phase = Phase::Paused { until: known.map_or(until, |known| known.max(until)) };
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        self.fresh = 0;
    }
}

#[cfg(test)]
mod tests;
