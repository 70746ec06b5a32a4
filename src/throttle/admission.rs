//! The throttle without its waiting: budgets, queue, and what became of whom.
//!
//! A request needs room in two budgets, that of its identity and that of the gate's address. Pure: `now` comes
//! in, and [`Admission::pump`] says who may go, who waits in vain, and when to look again.
//!
//! On the API hosts limits are counted for credentials and for the address, so a refusal slows one of these or both. A
//! blob host knows neither: an identity there is one host, what it says is about itself only, and the others go on. What
//! all of them together may have in flight stays as it is.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Class, Client, Identity, Limits, Priority, Work,
    bucket::{Bucket, Pace},
    budget::{Budget, Change, Pass, Ready},
    queue::{Lane, Place, Queue, Ticket},
    signal::{Resource, Scope, Signal, SignalKind},
    snapshot::{Counters, Snapshot},
};

/// Refusals of several identities within this time, none of which names its reason, are taken to be about the
/// address that they share.
const SUSPICION: Duration = Duration::from_secs(30);
/// A refusal that does not name whom it is about makes everybody wait, for this long at most: the service names
/// the namespace of its limits (facts §7.2), so this is something before it, which knows addresses only.
const SHARED_PAUSE: Duration = Duration::from_secs(5);
/// When to look again whether there is room for background work.
const BACKGROUND_LOOK: Duration = Duration::from_secs(1);

/// A request that wants a permit.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Kind of host.
    pub class: Class,
    /// Kind of work.
    pub work: Work,
    /// Whose budget.
    pub identity: Identity,
    /// Who asks.
    pub client: Client,
    /// How urgent it is.
    pub priority: Priority,
    /// When its answer is of no use any more.
    pub deadline: Instant,
}

/// A request that may leave.
#[derive(Debug)]
pub struct Grant {
    lane: Lane,
    gate: Pass,
    identity: Pass,
}

/// Why a request gets no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShedReason {
    /// The queue, or this client's half of it, is full.
    Full,
    /// The service wants to be left alone until after the deadline.
    Paused,
    /// At the known rate, what this client asked before takes longer than the deadline.
    Backlog,
    /// The deadline came while it waited.
    Late,
    /// Nobody is interested any more.
    Abandoned,
}

/// What a pump brought.
#[derive(Debug, Default)]
pub struct Pumped {
    /// Who may go.
    pub granted: Vec<(Ticket, Grant)>,
    /// Who waited in vain.
    pub shed: Vec<(Ticket, ShedReason)>,
    /// When to pump again at the latest, unless something happens before.
    pub wake_at: Option<Instant>,
}

/// Something for the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Kind of host.
    pub class: Class,
    /// Whose budget; `None` for the gate's.
    pub identity: Option<Identity>,
    /// What changed.
    pub changes: Vec<Change>,
    /// What the service said.
    pub signal: Signal,
}

/// The throttle without its waiting.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    gate: [Budget; Class::ALL.len()],
    identities: [HashMap<Identity, Budget>; Class::ALL.len()],
    queue: Queue,
    waiting: HashMap<Ticket, Waiting>,
    suspects: VecDeque<(Identity, Instant)>,
    bytes: Bucket,
    sweep: bool,
    counters: Counters,
    notes: Vec<Note>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    deadline: Instant,
}

// === impl ShedReason ===

impl ShedReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Full, Self::Paused, Self::Backlog, Self::Late, Self::Abandoned];

    /// Label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Paused => "paused",
            Self::Backlog => "backlog",
            Self::Late => "late",
            Self::Abandoned => "abandoned",
        }
    }
}

// === impl Grant ===

impl Grant {
    /// Kind of host.
    pub fn class(&self) -> Class {
        self.lane.class
    }
}

// === impl Admission ===

impl Admission {
    /// Nobody waits, nothing is known.
    pub fn new(limits: Limits) -> Self {
        Self {
            gate: Class::ALL.map(|class| Budget::new(limits.gate(class))),
            identities: Class::ALL.map(|_| HashMap::new()),
            queue: Queue::default(),
            waiting: HashMap::new(),
            suspects: VecDeque::new(),
            bytes: Bucket::default(),
            sweep: false,
            counters: Counters::default(),
            notes: Vec::new(),
            limits,
        }
    }

    /// Puts a request into the queue; [`Admission::pump`] then lets it go.
    ///
    /// Fails at once when the queue is full, and when it is known that the deadline will come first.
    pub fn enqueue(&mut self, order: &Order, now: Instant) -> Result<Ticket, ShedReason> {
        self.budget(order.class, order.identity, now);
        if let Some(reason) = self.hopeless(order, now) {
            self.counters.shed(order.class, order.priority, reason);
            return Err(reason);
        }
        let lane = Lane { class: order.class, identity: order.identity, work: order.work };
        let place = Place { lane, priority: order.priority, client: order.client };
        let ticket = self.queue.push(place, now);
        self.waiting.insert(ticket, Waiting { since: now, deadline: order.deadline });
        Ok(ticket)
    }

    /// Lets go whoever may.
    pub fn pump(&mut self, now: Instant) -> Pumped {
        let mut pumped = Pumped::default();
        if std::mem::take(&mut self.sweep) {
            self.shed_doomed(now, &mut pumped);
        }
        for class in Class::ALL {
            while let Some(ticket) = self.next(class, now, &mut pumped.wake_at) {
                self.admit(ticket, now, &mut pumped);
            }
        }
        pumped
    }

    /// Somebody need not wait any more.
    pub fn leave(&mut self, ticket: Ticket, reason: ShedReason) {
        self.waiting.remove(&ticket);
        if let Some(place) = self.queue.remove(ticket) {
            self.counters.shed(place.lane.class, place.priority, reason);
        }
    }

    /// Somebody's request became more or less urgent.
    pub fn move_to(&mut self, ticket: Ticket, priority: Priority, now: Instant) {
        self.queue.move_to(ticket, priority, now);
    }

    /// A request is over.
    pub fn release(&mut self, grant: &Grant) {
        self.gate[grant.lane.class as usize].give_back(grant.gate);
        if let Some(budget) = self.identities[grant.lane.class as usize].get_mut(&grant.lane.identity) {
            budget.give_back(grant.identity);
        }
    }

    /// A request was answered so.
    pub fn observe(&mut self, grant: &mut Grant, signal: &Signal, now: Instant) {
        let class = grant.lane.class;
        self.counters.signal(class, signal.kind);
        match class {
            Class::Api => self.observe_api(grant, signal, now),
            Class::Blob => self.observe_host(grant, signal, now),
        }
    }

    fn observe_host(&mut self, grant: &mut Grant, signal: &Signal, now: Instant) {
        let class = grant.lane.class;
        self.apply(Some(grant.lane.identity), class, &mut grant.identity, signal, now);
        if matches!(signal.kind, SignalKind::Fine | SignalKind::Slow) {
            self.apply(None, class, &mut grant.gate, &Signal::default(), now);
        }
    }

    fn observe_api(&mut self, grant: &mut Grant, signal: &Signal, now: Instant) {
        let class = grant.lane.class;
        let address = signal.scope == Scope::Address;
        let warns = matches!(signal.kind, SignalKind::Slow) || signal.is_refusal();
        let unnamed = signal.is_refusal() && signal.resource == Resource::Unknown;
        let suspected = unnamed && self.suspect(class, grant.lane.identity, now);
        let served = Signal::default();
        if !(address && warns) {
            self.apply(Some(grant.lane.identity), class, &mut grant.identity, signal, now);
        } else if signal.kind == SignalKind::Slow {
            self.apply(Some(grant.lane.identity), class, &mut grant.identity, &served, now);
        }
        if address && warns {
            self.apply(None, class, &mut grant.gate, signal, now);
        } else if unnamed {
            let retry_after = signal.retry_after.map(|wait| wait.min(SHARED_PAUSE));
            if suspected {
                let shared = Signal { retry_after, ..signal.clone() };
                self.apply(None, class, &mut grant.gate, &shared, now);
            }
            self.gate[class as usize].wait_out(retry_after.unwrap_or_default(), now);
            self.sweep = true;
        } else if matches!(signal.kind, SignalKind::Fine | SignalKind::Slow) {
            self.apply(None, class, &mut grant.gate, &served, now);
        }
    }

    /// Bytes of a blob came: until when to wait before reading on.
    pub fn received(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "exact enough for a pace")]
        let per_second = self.limits.blob_bytes_per_second? as f64;
        let pace = Pace { per_second, burst: per_second };
        #[expect(clippy::cast_precision_loss, reason = "exact enough for a pace")]
        self.bytes.take(pace, bytes as f64, now);
        Some(self.bytes.ready_at(pace, now)).filter(|at| *at > now)
    }

    /// Whether work that nobody waits for should not be begun.
    pub fn is_tight(&self, class: Class, identity: Identity, now: Instant) -> bool {
        let own = self.identities[class as usize].get(&identity);
        self.gate[class as usize].is_tight(now) || own.is_some_and(|budget| budget.is_tight(now))
    }

    /// What is for the log since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Every figure.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let budgets = |class| self.identities[class as usize].values();
        let is_paused = |budget: &&Budget| budget.paused_until(now).is_some();
        Snapshot {
            gate: Class::ALL.map(|class| self.gate[class as usize].figures(now)),
            tightest: Class::ALL
                .map(|class| Snapshot::tightest(budgets(class).map(|budget| budget.figures(now)))),
            queued: Class::ALL.map(|class| Priority::ALL.map(|priority| self.queue.len_of(class, priority))),
            known: Class::ALL.map(|class| budgets(class).count()),
            paused: Class::ALL.map(|class| budgets(class).filter(is_paused).count()),
            counters: self.counters.clone(),
        }
    }

    /// How long the service still wants to be left alone.
    pub fn pause_left(&self, class: Class, identity: Identity, now: Instant) -> Duration {
        self.paused_until(class, identity, now).map_or(Duration::ZERO, |until| until - now)
    }

    /// Requests in flight.
    pub fn in_flight(&self, class: Class, now: Instant) -> usize {
        self.gate[class as usize].figures(now).in_flight
    }

    fn hopeless(&self, order: &Order, now: Instant) -> Option<ShedReason> {
        let (most, half) = (self.limits.queue_length, self.limits.queue_length.div_ceil(2));
        let full = self.queue.len() >= most
            || self.queue.len_of_client(order.client) >= half
            || (order.priority.is_background() && self.queue.len() >= half);
        let paused = self.paused_until(order.class, order.identity, now);
        if full {
            Some(ShedReason::Full)
        } else if paused.is_some_and(|until| until >= order.deadline) {
            Some(ShedReason::Paused)
        } else {
            (now + self.backlog(order) >= order.deadline).then_some(ShedReason::Backlog)
        }
    }

    /// How long what the client already asked for takes at least. Nothing while the rate is still being found.
    fn backlog(&self, order: &Order) -> Duration {
        let own = self.identities[order.class as usize].get(&order.identity);
        let known = [own, Some(&self.gate[order.class as usize])].into_iter().flatten();
        let rate = known.filter_map(Budget::known_rate).fold(f64::INFINITY, f64::min);
        #[expect(clippy::cast_precision_loss, reason = "the queue is bounded")]
        Duration::from_secs_f64(self.queue.len_of_client(order.client) as f64 / rate)
    }

    fn paused_until(&self, class: Class, identity: Identity, now: Instant) -> Option<Instant> {
        let own = self.identities[class as usize].get(&identity);
        let own = own.and_then(|budget| budget.paused_until(now));
        own.max(self.gate[class as usize].paused_until(now))
    }

    fn shed_doomed(&mut self, now: Instant, pumped: &mut Pumped) {
        let doomed = |(ticket, place): (Ticket, Place)| {
            let deadline = self.waiting.get(&ticket)?.deadline;
            let until = self.paused_until(place.lane.class, place.lane.identity, now)?;
            (until >= deadline).then_some(ticket)
        };
        let doomed: Vec<Ticket> = self.queue.iter().filter_map(doomed).collect();
        for ticket in doomed {
            self.leave(ticket, ShedReason::Paused);
            pumped.shed.push((ticket, ShedReason::Paused));
        }
    }

    fn next(&mut self, class: Class, now: Instant, wake: &mut Option<Instant>) -> Option<(Ticket, Place)> {
        if Priority::ALL.iter().all(|priority| self.queue.len_of(class, *priority) == 0) {
            return None;
        }
        let gate = &mut self.gate[class as usize];
        if !is_open(gate.ready(Work::Metadata, now), wake) {
            return None;
        }
        let gate_tight = gate.is_tight(now);
        let identities = &mut self.identities[class as usize];
        self.queue.pop(class, now, |lane, priority| {
            let Some(budget) = identities.get_mut(&lane.identity) else { return false };
            if priority.is_background() && (gate_tight || budget.is_tight(now)) {
                return is_open(Ready::At(now + BACKGROUND_LOOK), wake);
            }
            is_open(budget.ready(lane.work, now), wake)
        })
    }

    fn admit(&mut self, (ticket, place): (Ticket, Place), now: Instant, pumped: &mut Pumped) {
        let lane = place.lane;
        let waiting = self.waiting.remove(&ticket);
        if waiting.is_some_and(|waiting| waiting.deadline <= now) {
            self.counters.shed(lane.class, place.priority, ShedReason::Late);
            pumped.shed.push((ticket, ShedReason::Late));
            return;
        }
        let waited = waiting.map_or(Duration::ZERO, |waiting| now - waiting.since);
        self.counters.grant(lane.class, place.priority, waited);
        let gate = self.gate[lane.class as usize].take(Work::Metadata, now);
        let identity = self.budget(lane.class, lane.identity, now).take(lane.work, now);
        pumped.granted.push((ticket, Grant { lane, gate, identity }));
    }

    fn apply(
        &mut self,
        identity: Option<Identity>,
        class: Class,
        pass: &mut Pass,
        signal: &Signal,
        now: Instant,
    ) {
        let budget = match identity {
            None => Some(&mut self.gate[class as usize]),
            Some(identity) => self.identities[class as usize].get_mut(&identity),
        };
        let Some(budget) = budget else { return };
        let before = budget.paused_until(now).unwrap_or(now);
        budget.hear(signal, now);
        let changes = budget.observe(pass, signal, now);
        let longer = budget.paused_until(now).unwrap_or(now) - before;
        if longer > Duration::ZERO {
            self.sweep = true;
            self.counters.paused(class, if signal.retry_after.is_some() { longer } else { Duration::ZERO });
        }
        if !changes.is_empty() {
            self.notes.push(Note { class, identity, changes, signal: signal.clone() });
        }
    }

    /// Whether a refusal that names nothing is taken to be about the address too: the first is (it brings the
    /// gate to where it began), and so are those that more than one identity meets.
    fn suspect(&mut self, class: Class, identity: Identity, now: Instant) -> bool {
        self.suspects.retain(|(other, at)| *other != identity && now.duration_since(*at) < SUSPICION);
        let several = !self.suspects.is_empty();
        if self.suspects.len() < self.limits.identities {
            self.suspects.push_back((identity, now));
        }
        several || self.gate[class as usize].known_rate().is_none()
    }

    fn budget(&mut self, class: Class, identity: Identity, now: Instant) -> &mut Budget {
        let known = &self.identities[class as usize];
        if known.len() >= self.limits.identities.max(1) && !known.contains_key(&identity) {
            self.forget_some(class, now);
        }
        let limits = &self.limits;
        self.identities[class as usize].entry(identity).or_insert_with(|| Budget::new(limits.identity(class)))
    }

    /// Drops identities that are idle; if there are none, the quarter that rests for longest. One that is in use
    /// is never dropped, so the table is bounded by the queue and the caps at the latest.
    fn forget_some(&mut self, class: Class, now: Instant) {
        let queued = self.queue.iter().map(|(_, place)| place.lane).filter(|lane| lane.class == class);
        let queued: std::collections::HashSet<_> = queued.map(|lane| lane.identity).collect();
        let free = |key: &Identity, budget: &Budget| {
            budget.figures(now).in_flight == 0 && budget.paused_until(now).is_none() && !queued.contains(key)
        };
        let known = &mut self.identities[class as usize];
        let before = known.len();
        known.retain(|key, budget| !(free(key, budget) && budget.is_idle(now)));
        if known.len() == before {
            let resting = known.iter().filter(|(key, budget)| free(key, budget));
            let mut resting: Vec<_> = resting.map(|(key, budget)| (budget.used_at(), *key)).collect();
            resting.sort_unstable();
            for (_, key) in resting.into_iter().take(before.div_ceil(4)) {
                known.remove(&key);
            }
        }
    }
}

fn is_open(ready: Ready, wake: &mut Option<Instant>) -> bool {
    match ready {
        Ready::Now => return true,
        Ready::At(at) => *wake = Some(wake.map_or(at, |wake| wake.min(at))),
        Ready::Full => {}
    }
    false
}

#[cfg(test)]
mod tests;
