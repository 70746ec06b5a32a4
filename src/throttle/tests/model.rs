//! A model of clients, gate and service in virtual time: discrete events, no waiting, the same run every time.
//!
//! The gate is [`Admission`] itself. Its timers are up to 1.5 ms late, the line takes 1 ms each way, and what was
//! refused is asked for again at once.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::throttle::{
    Class, Client, Identity, Limits, Priority, Resource, Scope, Signal, SignalKind, Work,
    admission::{Admission, Grant, Order},
    queue::Ticket,
};

const LINE: Duration = Duration::from_millis(1);
const AMPLE: Duration = Duration::from_secs(24 * 3600);

/// What a service allows.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Time that a request takes.
    pub(super) takes: Duration,
    /// Most at a time.
    pub(super) in_flight: usize,
    pub(super) limit: Limit,
    /// From when to when it answers everything with the text of a refusal for the address.
    pub(super) blocked: Option<(Duration, Duration)>,
    /// `Retry-After` of refusals by the limit.
    pub(super) retry_after: Option<Duration>,
    running: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Limit {
    None,
    Bucket { rate: f64, burst: f64, tokens: f64, at: Duration },
    Window { length: Duration, limit: usize, current: u128, used: usize },
}

/// A client that wants `count` requests from `start` on, `parallel` at a time.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) client: u64,
    pub(super) identity: u64,
    pub(super) count: usize,
    pub(super) parallel: usize,
    pub(super) start: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// When each client had its last answer.
    pub(super) finished: BTreeMap<u64, Duration>,
    /// When each good answer came.
    pub(super) served: Vec<Duration>,
    /// When requests were refused, by the service's clock.
    pub(super) refused: Vec<Duration>,
    /// Requests that left although a pause was known.
    pub(super) inside: usize,
    /// Most in flight.
    pub(super) peak: usize,
    /// When each request left.
    pub(super) sent: Vec<Duration>,
}

pub(super) struct Model {
    pub(super) admission: Admission,
    service: Service,
    start: Instant,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    what: HashMap<u64, Event>,
    next: u64,
    loads: Vec<Load>,
    open: Vec<usize>,
    owners: HashMap<Ticket, usize>,
    paused_until: Duration,
    in_flight: usize,
    /// When the gate's timer is set to.
    look: Option<Duration>,
    pub(super) outcome: Outcome,
}

enum Event {
    Begin(usize),
    Look,
    Arrive(usize, Grant),
    Done(usize, Grant),
    Answer(usize, Grant, Signal),
}

impl Service {
    pub(super) fn new(limit: Limit, in_flight: usize) -> Self {
        let retry_after = Some(Duration::from_secs(2));
        Self { takes: Duration::from_millis(20), in_flight, limit, blocked: None, retry_after, running: 0 }
    }

    pub(super) fn bucket(rate: f64, burst: f64) -> Limit {
        Limit::Bucket { rate, burst, tokens: burst, at: Duration::ZERO }
    }

    pub(super) fn window(length: Duration, limit: usize) -> Limit {
        Limit::Window { length, limit, current: 0, used: 0 }
    }

    fn arrive(&mut self, now: Duration) -> Option<Signal> {
        if self.blocked.is_some_and(|(from, until)| (from..until).contains(&now)) {
            return Some(Signal {
                kind: SignalKind::Refused,
                scope: Scope::Address,
                resource: Resource::Concurrency,
                ..Signal::default()
            });
        }
        if self.running >= self.in_flight || !self.limit.allows(now) {
            let kind = SignalKind::Refused;
            return Some(Signal { kind, retry_after: self.retry_after, ..Signal::default() });
        }
        self.running += 1;
        None
    }
}

impl Limit {
    fn allows(&mut self, now: Duration) -> bool {
        match self {
            Self::None => true,
            Self::Bucket { rate, burst, tokens, at } => {
                *tokens = (*tokens + now.saturating_sub(*at).as_secs_f64() * *rate).min(*burst);
                *at = now;
                let allowed = *tokens >= 1.0 - 1e-9;
                *tokens -= f64::from(u8::from(allowed));
                allowed
            }
            Self::Window { length, limit, current, used } => {
                let window = now.as_nanos() / length.as_nanos();
                if window != *current {
                    (*current, *used) = (window, 0);
                }
                *used += usize::from(*used < *limit + 1);
                *used <= *limit
            }
        }
    }
}

impl Outcome {
    /// When everything was there.
    pub(super) fn end(&self) -> Duration {
        self.finished.values().copied().max().unwrap_or_default()
    }

    /// How many of `moments` lie in a span of seconds.
    pub(super) fn count(moments: &[Duration], from: f64, until: f64) -> usize {
        moments.iter().filter(|at| (from..until).contains(&at.as_secs_f64())).count()
    }
}

impl Model {
    pub(super) fn new(limits: Limits, service: Service, loads: Vec<Load>) -> Self {
        let mut model = Self {
            admission: Admission::new(limits),
            service,
            start: Instant::now(),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            what: HashMap::new(),
            next: 0,
            open: loads.iter().map(|load| load.count).collect(),
            loads,
            owners: HashMap::new(),
            paused_until: Duration::ZERO,
            in_flight: 0,
            look: None,
            outcome: Outcome::default(),
        };
        for index in 0..model.loads.len() {
            model.at(model.loads[index].start, Event::Begin(index));
        }
        model
    }

    /// Runs until nothing is left to do, or to `until`.
    pub(super) fn run(mut self, until: Duration) -> Outcome {
        while let Some(Reverse((at, number))) = self.events.pop() {
            if at > until {
                break;
            }
            self.now = at;
            if let Some(event) = self.what.remove(&number) {
                self.handle(event);
            }
            self.pump();
        }
        self.outcome
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Look => {
                self.look = self.look.filter(|at| *at > self.now);
            }
            Event::Begin(load) => {
                for _ in 0..self.loads[load].parallel.min(self.loads[load].count) {
                    self.ask(load);
                }
            }
            Event::Arrive(load, grant) => match self.service.arrive(self.now) {
                None => self.at(self.now + self.service.takes, Event::Done(load, grant)),
                Some(signal) => {
                    self.outcome.refused.push(self.now);
                    self.at(self.now + LINE, Event::Answer(load, grant, signal));
                }
            },
            Event::Done(load, grant) => {
                self.service.running -= 1;
                self.at(self.now + LINE, Event::Answer(load, grant, Signal::default()));
            }
            Event::Answer(load, grant, signal) => self.answered(load, grant, &signal),
        }
    }

    fn answered(&mut self, load: usize, mut grant: Grant, signal: &Signal) {
        let now = self.start + self.now;
        self.admission.observe(&mut grant, signal, now);
        self.admission.release(&grant);
        self.in_flight -= 1;
        if signal.is_refusal() {
            let wait = signal.retry_after.unwrap_or_default();
            self.paused_until = self.paused_until.max(self.now + wait);
            self.ask(load);
            return;
        }
        self.outcome.served.push(self.now);
        self.open[load] -= 1;
        if self.open[load] == 0 {
            self.outcome.finished.insert(self.loads[load].client, self.now);
        } else if self.open[load] >= self.loads[load].parallel {
            self.ask(load);
        }
    }

    fn ask(&mut self, load: usize) {
        let Load { client, identity, .. } = self.loads[load];
        let now = self.start + self.now;
        let order = Order {
            class: Class::Api,
            work: Work::Download,
            identity: Identity::new(identity),
            client: Client::new(client),
            priority: Priority::Package,
            deadline: now + AMPLE,
        };
        let ticket = self.admission.enqueue(&order, now).unwrap();
        self.owners.insert(ticket, load);
    }

    fn pump(&mut self) {
        let pumped = self.admission.pump(self.start + self.now);
        assert!(pumped.shed.is_empty());
        let sent: VecDeque<_> = pumped.granted.into();
        for (ticket, grant) in sent {
            let load = self.owners.remove(&ticket).unwrap();
            self.outcome.inside += usize::from(self.now < self.paused_until);
            self.outcome.sent.push(self.now);
            self.in_flight += 1;
            self.outcome.peak = self.outcome.peak.max(self.in_flight);
            self.at(self.now + LINE, Event::Arrive(load, grant));
        }
        if let Some(at) = pumped.wake_at {
            // Late by something between 0 and 1.5 ms.
            let late = Duration::from_micros(self.next.wrapping_mul(2_654_435_761) % 1500);
            let at = at.duration_since(self.start).max(self.now) + late;
            if self.look.is_none_or(|known| at < known) {
                self.look = Some(at);
                self.at(at, Event::Look);
            }
        }
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.events.push(Reverse((at, self.next)));
        self.what.insert(self.next, event);
        self.next += 1;
    }
}
