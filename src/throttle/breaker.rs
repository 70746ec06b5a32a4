//! Whether a host is worth asking at all, judged by how the last attempts ended.
//!
//! Pure: `now` and the jitter come in, transitions come out as values for the log. One [`Breaker`] is for one
//! host and class; [`Breakers`] keeps them.
//!
//! ```text
//!            failures in a row               time is up
//!   Closed ─────────────────────▶ Open{until} ────────▶ HalfOpen: a few attempts at a time
//!      ▲                            ▲     a failure         │ │
//!      │                            └───────────────────────┘ │ enough successes
//!      └──────────────────────────────────────────────────────┘
//! ```
//!
//! A *failure* is for the caller to define: no connection, no answer in time, a 5xx. A refusal for load is none:
//! that host lives, and the budgets see to it.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// The open time is between these shares of what is set, by the jitter.
const JITTER: (f64, f64) = (0.75, 1.25);
/// A host that nobody asks for this long after it may be asked again is no longer known to be dead: blob hosts come and
/// go, and there are quiet nights.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Doublings of the open time after which it grows no more.
const MOST_DOUBLINGS: u32 = 16;

/// Limits of a [`Breaker`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// How long it stays open the first time; doubled by each failed probe.
    pub open: Duration,
    /// The longest it stays open, jitter not counted.
    pub longest_open: Duration,
    /// Attempts at a time while it is half open; at least 1.
    pub probes: u32,
    /// Successes that close it again; at least 1.
    pub successes: u32,
    /// A probe that is not over after this long makes room for another.
    pub probe_patience: Duration,
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing until then.
    Open {
        /// When it becomes half open, if somebody asks.
        until: Instant,
    },
    /// A few, to see.
    HalfOpen,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered.
    Success,
    /// It did not.
    Failure,
    /// It did not, and no other attempt is needed to know.
    Death,
    /// Given up before it was known.
    Abandoned,
}

/// A change of state, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: BreakerState,
    /// After.
    pub to: BreakerState,
    /// Failures in a row that led to it.
    pub failures: u32,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Yes; its outcome must be recorded.
    Go(Attempt),
    /// No, and there is no use in asking again before that time has passed.
    No {
        /// How long it stays so at least.
        retry_in: Duration,
    },
}

/// An attempt that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "its outcome must be recorded"]
pub struct Attempt {
    /// Those of an earlier state say nothing about this one.
    generation: u64,
}

/// Whether one host is worth asking.
#[derive(Debug, Clone)]
pub struct Breaker {
    limits: BreakerLimits,
    state: BreakerState,
    generation: u64,
    /// Failures in a row.
    failures: u32,
    /// Times it opened since it was closed last.
    openings: u32,
    probes: u32,
    probed: Option<Instant>,
    successes: u32,
}

/// Breakers by host and class, or whatever `K` is.
#[derive(Debug)]
pub struct Breakers<K> {
    limits: BreakerLimits,
    breakers: HashMap<K, Breaker>,
}

// === impl BreakerLimits ===

impl Default for BreakerLimits {
    /// Five failures in a row are no accident of one connection, and with requests in parallel they are there
    /// within one timeout. Two seconds: clients retry after ten (facts §7.4), and find the host alive by then.
    fn default() -> Self {
        Self {
            failures: 5,
            open: Duration::from_secs(2),
            longest_open: Duration::from_secs(30),
            probes: 1,
            successes: 2,
            probe_patience: Duration::from_secs(10),
        }
    }
}

// === impl BreakerState ===

impl BreakerState {
    /// Label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker.
    pub fn new(limits: BreakerLimits) -> Self {
        Self {
            limits,
            state: BreakerState::Closed,
            generation: 0,
            failures: 0,
            openings: 0,
            probes: 0,
            probed: None,
            successes: 0,
        }
    }

    /// Whether an attempt may be made now.
    pub fn admit(&mut self, now: Instant) -> (Admitted, Option<Transition>) {
        match self.state {
            BreakerState::Closed => (self.go(), None),
            BreakerState::Open { until } if now < until => (Admitted::No { retry_in: until - now }, None),
            BreakerState::Open { .. } => {
                let transition = self.enter(BreakerState::HalfOpen);
                (self.probe(now), Some(transition))
            }
            BreakerState::HalfOpen => (self.probe(now), None),
        }
    }

    /// How an attempt ended. `jitter` is in 0..1 and spreads the gates that share a host.
    pub fn record(
        &mut self,
        attempt: Attempt,
        outcome: Outcome,
        jitter: f64,
        now: Instant,
    ) -> Option<Transition> {
        if attempt.generation != self.generation {
            return None;
        }
        self.probes = self.probes.saturating_sub(1);
        match outcome {
            Outcome::Abandoned => None,
            Outcome::Success => self.succeed(),
            Outcome::Failure => self.fail(1, jitter, now),
            Outcome::Death => self.fail(self.limits.failures.max(1), jitter, now),
        }
    }

    /// How long there is no use in asking, without asking; `None` when an attempt would be let through.
    pub fn barred(&self, now: Instant) -> Option<Duration> {
        match self.state {
            BreakerState::Open { until } if now < until => Some(until - now),
            BreakerState::HalfOpen => self.probe_wait(now),
            BreakerState::Closed | BreakerState::Open { .. } => None,
        }
    }

    /// Whether nobody wanted to know for long whether the host is back.
    fn is_forgotten(&self, now: Instant) -> bool {
        let asked = match self.state {
            BreakerState::Closed => None,
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen => self.probed.map(|probed| probed + self.limits.probe_patience),
        };
        asked.is_some_and(|asked| now >= asked + FORGOTTEN)
    }

    /// The state, as of the last call.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    fn go(&self) -> Admitted {
        Admitted::Go(Attempt { generation: self.generation })
    }

    fn probe(&mut self, now: Instant) -> Admitted {
        if let Some(retry_in) = self.probe_wait(now) {
            return Admitted::No { retry_in };
        }
        self.probes += 1;
        self.probed = Some(now);
        self.go()
    }

    /// How long the probes under way leave no room for another.
    fn probe_wait(&self, now: Instant) -> Option<Duration> {
        let patience = self.limits.probe_patience;
        let since = self.probed.map_or(patience, |probed| now.duration_since(probed));
        (self.probes >= self.limits.probes.max(1) && since < patience).then(|| patience.saturating_sub(since))
    }

    fn succeed(&mut self) -> Option<Transition> {
        self.failures = 0;
        if self.state != BreakerState::HalfOpen {
            return None;
        }
        self.successes += 1;
        (self.successes >= self.limits.successes).then(|| {
            self.openings = 0;
            self.enter(BreakerState::Closed)
        })
    }

    fn fail(&mut self, failures: u32, jitter: f64, now: Instant) -> Option<Transition> {
        self.failures = self.failures.saturating_add(failures);
        let opens = self.state == BreakerState::HalfOpen || self.failures >= self.limits.failures;
        opens.then(|| {
            let open = self.limits.open * (1 << self.openings.min(MOST_DOUBLINGS));
            let share = JITTER.0 + (JITTER.1 - JITTER.0) * jitter.clamp(0.0, 1.0);
            self.openings = self.openings.saturating_add(1);
            self.enter(BreakerState::Open { until: now + open.min(self.limits.longest_open).mul_f64(share) })
        })
    }

    fn enter(&mut self, to: BreakerState) -> Transition {
        let transition = Transition { from: self.state, to, failures: self.failures };
        self.state = to;
        self.generation += 1;
        (self.probes, self.probed, self.successes) = (0, None, 0);
        transition
    }
}

// === impl Breakers ===

impl<K: Eq + Hash> Breakers<K> {
    /// No host is known to be dead.
    pub fn new(limits: BreakerLimits) -> Self {
        Self { limits, breakers: HashMap::new() }
    }

    /// The breaker of `key`.
    pub fn get(&mut self, key: K) -> &mut Breaker {
        let limits = &self.limits;
        self.breakers.entry(key).or_insert_with(|| Breaker::new(limits.clone()))
    }

    /// The breaker of `key`, if there was need of one.
    pub fn peek(&self, key: &K) -> Option<&Breaker> {
        self.breakers.get(key)
    }

    /// Every breaker.
    pub fn iter(&self) -> impl Iterator<Item = (&K, BreakerState)> {
        self.breakers.iter().map(|(key, breaker)| (key, breaker.state()))
    }

    /// Forgets everything about `key`; whether there was anything.
    pub fn reset(&mut self, key: &K) -> bool {
        self.breakers.remove(key).is_some()
    }

    /// Forgets dead hosts that nobody asked for long; their keys, and what was thought of them.
    pub fn forget(&mut self, now: Instant) -> Vec<(K, BreakerState)>
    where
        K: Clone,
    {
        let forgotten = self.breakers.iter().filter(|(_, breaker)| breaker.is_forgotten(now));
        let forgotten: Vec<_> = forgotten.map(|(key, breaker)| (key.clone(), breaker.state)).collect();
        for (key, _) in &forgotten {
            self.breakers.remove(key);
        }
        forgotten
    }

    /// Forgets those that have nothing to say: closed, and no failure since the last success.
    pub fn prune(&mut self) {
        self.breakers.retain(|_, breaker| breaker.state != BreakerState::Closed || breaker.failures > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIDDLE: f64 = 0.5;

    fn breaker() -> Breaker {
        Breaker::new(BreakerLimits { failures: 3, ..BreakerLimits::default() })
    }

    fn go(breaker: &mut Breaker, now: Instant) -> Attempt {
        match breaker.admit(now).0 {
            Admitted::Go(attempt) => attempt,
            Admitted::No { retry_in } => panic!("not admitted for {retry_in:?}"),
        }
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = breaker();
        for _ in 0..3 {
            let attempt = go(&mut breaker, now);
            breaker.record(attempt, Outcome::Failure, MIDDLE, now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        use Outcome::{Abandoned, Failure, Success};
        let (mut breaker, now) = (breaker(), Instant::now());
        for outcome in [Failure, Failure, Success, Failure, Abandoned, Failure] {
            let attempt = go(&mut breaker, now);
            assert_eq!(breaker.record(attempt, outcome, MIDDLE, now), None);
        }
        let attempt = go(&mut breaker, now);
        let to = BreakerState::Open { until: now + Duration::from_secs(2) };
        let expected = Transition { from: BreakerState::Closed, to, failures: 3 };
        assert_eq!(breaker.record(attempt, Failure, MIDDLE, now), Some(expected));
        assert_eq!(breaker.admit(now), (Admitted::No { retry_in: Duration::from_secs(2) }, None));
    }

    #[test]
    fn one_probe_at_a_time_and_enough_successes_close_it() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        now += Duration::from_secs(2);
        let (Admitted::Go(probe), Some(transition)) = breaker.admit(now) else { panic!("no probe") };
        assert_eq!(transition.to, BreakerState::HalfOpen);
        assert!(matches!(breaker.admit(now).0, Admitted::No { .. }));
        assert_eq!(breaker.record(probe, Outcome::Success, MIDDLE, now), None);
        let probe = go(&mut breaker, now);
        let closed = breaker.record(probe, Outcome::Success, MIDDLE, now).unwrap();
        assert_eq!((closed.from, closed.to), (BreakerState::HalfOpen, BreakerState::Closed));
    }

    #[test]
    fn a_failed_probe_doubles_the_open_time_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [4, 8, 16, 30, 30] {
            now += Duration::from_secs(30);
            let probe = go(&mut breaker, now);
            let transition = breaker.record(probe, Outcome::Failure, MIDDLE, now).unwrap();
            assert_eq!(transition.to, BreakerState::Open { until: now + Duration::from_secs(seconds) });
        }
    }

    #[test]
    fn a_probe_that_is_lost_makes_room_for_another() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        now += Duration::from_secs(2);
        let lost = go(&mut breaker, now);
        assert_eq!(breaker.admit(now).0, Admitted::No { retry_in: Duration::from_secs(10) });
        now += Duration::from_secs(10);
        let probe = go(&mut breaker, now);
        assert_eq!(probe, lost, "of the same generation: both count");
    }

    #[test]
    fn what_began_before_a_change_says_nothing_after_it() {
        let mut now = Instant::now();
        let mut breaker = breaker();
        let slow = go(&mut breaker, now);
        for _ in 0..3 {
            let attempt = go(&mut breaker, now);
            breaker.record(attempt, Outcome::Failure, MIDDLE, now);
        }
        now += Duration::from_secs(3);
        let _probe = go(&mut breaker, now);
        assert_eq!(breaker.record(slow, Outcome::Failure, MIDDLE, now), None);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }

    #[test]
    fn healthy_breakers_are_forgotten() {
        let (mut breakers, now) = (Breakers::new(BreakerLimits::default()), Instant::now());
        for (host, outcome) in [("good", Outcome::Success), ("bad", Outcome::Failure)] {
            let attempt = go(breakers.get(host), now);
            breakers.get(host).record(attempt, outcome, MIDDLE, now);
        }
        breakers.prune();
        assert_eq!(breakers.iter().map(|(host, _)| *host).collect::<Vec<_>>(), ["bad"]);
    }

    #[test]
    fn a_dead_host_that_nobody_asks_for_is_forgotten() {
        let (mut breakers, now) = (Breakers::new(BreakerLimits::default()), Instant::now());
        for (host, probes) in [("open", 0), ("half open", 1)] {
            let attempt = go(breakers.get(host), now);
            breakers.get(host).record(attempt, Outcome::Death, MIDDLE, now);
            for _ in 0..probes {
                let probe = go(breakers.get(host), now + Duration::from_secs(2));
                breakers.get(host).record(probe, Outcome::Success, MIDDLE, now);
            }
        }
        let after = |seconds: u64| now + Duration::from_secs(2 + seconds);
        assert_eq!(breakers.forget(after(299)), []);
        let open = BreakerState::Open { until: after(0) };
        assert_eq!(breakers.forget(after(300)), [("open", open)]);
        assert_eq!(breakers.forget(after(310)), [("half open", BreakerState::HalfOpen)]);
        assert_eq!(breakers.iter().count(), 0);
    }

    proptest! {
        #[test]
        fn its_invariants_hold_whatever_happens(
            steps in prop::collection::vec((0_u8..5, 0_u64..4000, 0.0_f64..1.0), 1..300),
        ) {
            let limits = BreakerLimits { probes: 2, ..BreakerLimits::default() };
            let (mut breaker, mut now) = (Breaker::new(limits.clone()), Instant::now());
            let mut pending: Vec<(Attempt, Instant)> = Vec::new();
            for (step, millis, jitter) in steps {
                now += Duration::from_millis(millis);
                let before = breaker.state();
                let transition = if step < 2 || pending.is_empty() {
                    let (admitted, transition) = breaker.admit(now);
                    if let Admitted::Go(attempt) = admitted {
                        let shut = matches!(before, BreakerState::Open { until } if now < until);
                        prop_assert!(!shut);
                        pending.push((attempt, now));
                    }
                    if breaker.state() == BreakerState::HalfOpen {
                        let recent = |(attempt, at): &&(Attempt, Instant)| {
                            attempt.generation == breaker.generation && now - *at < limits.probe_patience
                        };
                        prop_assert!(pending.iter().filter(recent).count() <= 3);
                    }
                    transition
                } else {
                    let (attempt, _) = pending.swap_remove(pending.len() / 2);
                    let outcome = [Outcome::Success, Outcome::Failure, Outcome::Abandoned][usize::from(step - 2)];
                    breaker.record(attempt, outcome, jitter, now)
                };
                // Every change is told, and no other.
                let told = transition.map_or(before, |transition| transition.to);
                prop_assert_eq!(told, breaker.state());
                if let BreakerState::Open { until } = breaker.state() {
                    prop_assert!(until - now <= limits.longest_open.mul_f64(JITTER.1));
                }
            }
            // A host that lives again is found out.
            for _ in 0..5 {
                now += Duration::from_secs(60);
                let attempt = go(&mut breaker, now);
                breaker.record(attempt, Outcome::Success, MIDDLE, now);
            }
            prop_assert_eq!(breaker.state(), BreakerState::Closed);
        }
    }
}
