//! The throttle's figures: gauges as they are now, counters since the start. Metrics are made of them elsewhere.

use std::time::Duration;

use super::{Class, Priority, ShedReason, SignalKind, budget::BudgetFigures};

/// Every figure at one instant. Arrays go by [`Class::ALL`], [`Priority::ALL`] and so on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The budget of the gate's address, by class of host.
    pub gate: [BudgetFigures; Class::ALL.len()],
    /// Over all identities: the least of each limit, the most of each use.
    pub tightest: [BudgetFigures; Class::ALL.len()],
    /// Who waits, by class of host and priority.
    pub queued: [[usize; Priority::ALL.len()]; Class::ALL.len()],
    /// Budgets of identities that are kept, by class of host.
    pub known: [usize; Class::ALL.len()],
    /// How many of them are paused, by class of host.
    pub paused: [usize; Class::ALL.len()],
    /// What happened so far.
    pub counters: Counters,
}

/// What happened since the start, by class of host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Permits, by priority.
    pub granted: [[u64; Priority::ALL.len()]; Class::ALL.len()],
    /// Time that those waited who got one, by priority.
    pub waited: [[Duration; Priority::ALL.len()]; Class::ALL.len()],
    /// Requests without a permit, by priority.
    pub shed: [[u64; Priority::ALL.len()]; Class::ALL.len()],
    /// The same, by reason.
    pub shed_for: [[u64; ShedReason::ALL.len()]; Class::ALL.len()],
    /// Signals of the service, by kind.
    pub signals: [[u64; SignalKind::ALL.len()]; Class::ALL.len()],
    /// Pauses begun or made longer.
    pub pauses: [u64; Class::ALL.len()],
    /// Pauses that the service asked for (`Retry-After`) and the gate kept.
    pub absorbed: [Duration; Class::ALL.len()],
}

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn tightest(budgets: impl Iterator<Item = BudgetFigures>) -> BudgetFigures {
        budgets
            .reduce(|one, other| BudgetFigures {
                in_flight: one.in_flight.max(other.in_flight),
                in_flight_limit: one.in_flight_limit.min(other.in_flight_limit),
                rate_limit: least(one.rate_limit, other.rate_limit, |rate| *rate),
                remaining: least(one.remaining, other.remaining, |told| told.0),
                pause_left: one.pause_left.max(other.pause_left),
            })
            .unwrap_or_default()
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn grant(&mut self, class: Class, priority: Priority, waited: Duration) {
        self.granted[class as usize][priority as usize] += 1;
        self.waited[class as usize][priority as usize] += waited;
    }

    pub(super) fn shed(&mut self, class: Class, priority: Priority, reason: ShedReason) {
        self.shed[class as usize][priority as usize] += 1;
        self.shed_for[class as usize][reason as usize] += 1;
    }

    pub(super) fn signal(&mut self, class: Class, kind: SignalKind) {
        self.signals[class as usize][kind as usize] += 1;
    }

    pub(super) fn paused(&mut self, class: Class, asked_for: Duration) {
        self.pauses[class as usize] += 1;
        self.absorbed[class as usize] += asked_for;
    }
}

fn least<T: Copy>(one: Option<T>, other: Option<T>, figure: impl Fn(&T) -> f64) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if figure(&other) < figure(&one) { other } else { one }),
        (one, other) => one.or(other),
    }
}
