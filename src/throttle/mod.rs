//! What the service may be asked, by whom first, and how fast.
//!
//! Every request upstream takes a [`Permit`] and keeps it until its body ends. [`Throttle::acquire`] does the
//! waiting and nothing else; the arithmetic is pure and has `now` passed in:
//!
//! ```text
//!   acquire ─▶ admission ─┬─▶ queue      priority, then clients in turn; interest of coalesced waiters
//!   observe ─▶            └─▶ budget ×2  identity and gate: adaptive in-flight and rate, bucket, allowance, pause
//!                ▲ signal: what an answer says about load
//! ```
//!
//! - Refusals slow everybody of that identity (or address) at once, not only the request that met one. To the API hosts an
//!   identity is an organisation and a credential; a blob host is one for itself, whose refusals hold up no other host.
//! - A limit that was met is remembered, so that it is not met at every climb ([`adaptive`]).
//! - Nothing is repeated here: whether to ask again is the caller's decision.
//! - [`breaker`] stands beside it: pure too, for whoever asks a host that may be dead.

mod accepted;
pub mod adaptive;
pub mod admission;
pub mod allowance;
mod asker;
pub mod breaker;
pub mod bucket;
pub mod budget;
pub mod interest;
mod limits;
mod log;
pub mod queue;
pub mod signal;
pub mod snapshot;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

pub use self::{
    admission::ShedReason,
    asker::Asker,
    bucket::Pace,
    interest::{Interest, Interested},
    limits::{Class, Client, Identity, Limits, Priority, Work},
    signal::{Resource, Scope, Signal, SignalKind, Told, retry_after},
    snapshot::{Counters, Snapshot},
};

use self::{
    admission::{Admission, Grant, Order, Pumped},
    queue::Ticket,
};

/// How long whoever found the queue too long should stay away: some hundreds of requests leave it meanwhile.
const LONG_QUEUE: Duration = Duration::from_secs(5);

/// A request for a permit.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Kind of host.
    pub class: Class,
    /// Kind of work.
    pub work: Work,
    /// Whose budget upstream: [`Throttle::identity`].
    pub identity: Identity,
    /// Who asks downstream: [`Throttle::client`].
    pub client: Client,
    /// Who wants it, and how much.
    pub interest: Interest,
    /// When the answer is of no use any more; at most the configured wait from now.
    pub deadline: Option<Instant>,
}

/// Hands out permits. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Throttle {
    shared: Arc<Shared>,
    queue_timeout: Duration,
    hasher: RandomState,
}

/// The right to have one request in flight; dropping it lets the next one go.
pub struct Permit {
    shared: Arc<Shared>,
    grant: Mutex<Grant>,
    class: Class,
}

/// No permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no permit for {class:?} after {waited:?}: {reason}")]
pub struct ThrottleError {
    /// Kind of host.
    pub class: Class,
    /// Why.
    pub reason: ShedReason,
    /// How long the request waited.
    pub waited: Duration,
    /// How long the service still wants to be left alone; zero if it does not.
    pub pause_left: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// Tells the driver that its timer may be wrong.
    rescheduled: Notify,
}

struct State {
    admission: Admission,
    waiters: HashMap<Ticket, oneshot::Sender<Result<Permit, ShedReason>>>,
    /// When the driver will wake; `None` while there is none.
    driver: Option<Instant>,
    runtime: Option<Handle>,
}

/// A place in the queue; dropping it gives the place up.
struct Waiting {
    shared: Arc<Shared>,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Permit, ShedReason>>,
    left_for: ShedReason,
}

// === impl Ask ===

impl Ask {
    /// A request for work of this kind, on behalf of `asker`.
    pub fn of(asker: &Asker, class: Class, work: Work, identity: Identity) -> Self {
        let Asker { client, interest, deadline } = asker.clone();
        Self { class, work, identity, client, interest, deadline }
    }

    /// A request of a client that waits for a document.
    pub fn document(identity: Identity, client: Client) -> Self {
        let interest = Interest::always(Priority::Document);
        Self { class: Class::Api, work: Work::Metadata, identity, client, interest, deadline: None }
    }

    /// A request of a client that waits for bytes, or for the redirect to them.
    pub fn package(class: Class, identity: Identity, client: Client) -> Self {
        let interest = Interest::always(Priority::Package);
        Self { class, work: Work::Download, identity, client, interest, deadline: None }
    }
}

// === impl ThrottleError ===

impl ThrottleError {
    /// When to ask again: not before the pause is over, and else when the queue may be shorter.
    pub fn retry_after(&self) -> Duration {
        match self.reason {
            ShedReason::Paused => self.pause_left,
            _ => self.pause_left.max(LONG_QUEUE),
        }
    }

    /// Whether all who wanted it had left.
    pub fn is_abandoned(&self) -> bool {
        self.reason == ShedReason::Abandoned
    }
}

// === impl Throttle ===

impl Throttle {
    /// A throttle with all permits free. A limit of 0 lets nothing through.
    pub fn new(limits: &Limits) -> Self {
        let state = State {
            admission: Admission::new(limits.clone()),
            waiters: HashMap::new(),
            driver: None,
            runtime: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), rescheduled: Notify::new() });
        Self { shared, queue_timeout: limits.queue_timeout, hasher: RandomState::new() }
    }

    /// The upstream identity of an organisation and the credential that goes to it, or of a blob host. Keyed anew in
    /// each run: nothing about the credential can be told from it.
    pub fn identity(&self, organisation: &str, credential: Option<&[u8]>) -> Identity {
        Identity::new(self.hasher.hash_one((organisation, credential)))
    }

    /// A client, by its credential or its address.
    pub fn client(&self, who: &[u8]) -> Client {
        Client::new(self.hasher.hash_one(who))
    }

    /// Waits for a permit. Dropping the future leaves the queue.
    ///
    /// Fails when the queue is full, when the deadline comes or is known to come first, and when nobody is
    /// interested any more.
    pub async fn acquire(&self, ask: &Ask) -> Result<Permit, ThrottleError> {
        let start = Instant::now();
        let longest = start + self.queue_timeout;
        let deadline = ask.deadline.map_or(longest, |own| own.min(longest));
        let mut interest = ask.interest.watch();
        let error = |reason| self.error(ask, reason, start);
        let first = *interest.borrow_and_update();
        let priority = first.ok_or_else(|| error(ShedReason::Abandoned))?;
        let mut waiting = self.shared.enqueue(&ask.order(priority, deadline), start).map_err(error)?;
        loop {
            let reason = tokio::select! {
                biased;
                answer = &mut waiting.answer => {
                    // The sender is dropped unused only with the whole throttle.
                    return answer.unwrap_or(Err(ShedReason::Abandoned)).map_err(error);
                }
                () = sleep_until(deadline) => ShedReason::Late,
                // The interest lives in `ask`, so the watch cannot be closed.
                _ = interest.changed() => {
                    let priority = *interest.borrow_and_update();
                    if let Some(priority) = priority {
                        self.shared.move_to(waiting.ticket, priority);
                        continue;
                    }
                    ShedReason::Abandoned
                }
            };
            waiting.left_for = reason;
            drop(waiting);
            return Err(error(reason));
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self, class: Class) -> usize {
        self.shared.state.lock().admission.in_flight(class, Instant::now())
    }

    /// Whether work that nobody waits for should not be begun: a pause, a recovery, little left.
    pub fn is_tight(&self, class: Class, identity: Identity) -> bool {
        self.shared.state.lock().admission.is_tight(class, identity, Instant::now())
    }

    /// How long nothing is sent yet for `identity` to hosts of a class.
    pub fn pause_left(&self, class: Class, identity: Identity) -> Duration {
        self.shared.state.lock().admission.pause_left(class, identity, Instant::now())
    }

    /// Every figure.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.state.lock().admission.snapshot(Instant::now())
    }

    fn error(&self, ask: &Ask, reason: ShedReason, start: Instant) -> ThrottleError {
        let now = Instant::now();
        let pause_left = self.shared.state.lock().admission.pause_left(ask.class, ask.identity, now);
        ThrottleError { class: ask.class, reason, waited: now - start, pause_left }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("queue_timeout", &self.queue_timeout).finish_non_exhaustive()
    }
}

// === impl Permit ===

impl Permit {
    /// Tells what the service answered; to be called when the response's head is there, and again if its text
    /// says more.
    pub fn observe(&self, signal: &Signal) {
        let mut state = self.shared.state.lock();
        state.admission.observe(&mut self.grant.lock(), signal, Instant::now());
        self.shared.settle(state);
    }

    /// Bytes of the body came; waits as long as the configured bytes per second want.
    pub async fn received(&self, bytes: usize) {
        if self.class == Class::Blob {
            let until = self.shared.state.lock().admission.received(bytes, Instant::now());
            if let Some(until) = until {
                sleep_until(until).await;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.admission.release(self.grant.get_mut());
        self.shared.settle(state);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("class", &self.class).finish_non_exhaustive()
    }
}

// === impl ShedReason ===

impl fmt::Display for ShedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many requests wait already",
            Self::Paused => "the service wants to be left alone for longer than the request can wait",
            Self::Backlog => "what the client asked before takes longer than the request can wait",
            Self::Late => "its time ran out in the queue",
            Self::Abandoned => "nobody waits for it any more",
        })
    }
}

// === impl Ask ===

impl Ask {
    fn order(&self, priority: Priority, deadline: Instant) -> Order {
        let Self { class, work, identity, client, .. } = *self;
        Order { class, work, identity, client, priority, deadline }
    }
}

// === impl Shared ===

impl Shared {
    fn enqueue(self: &Arc<Self>, order: &Order, now: Instant) -> Result<Waiting, ShedReason> {
        let mut state = self.state.lock();
        let ticket = state.admission.enqueue(order, now)?;
        let (send, answer) = oneshot::channel();
        state.waiters.insert(ticket, send);
        if state.runtime.is_none() {
            state.runtime = Handle::try_current().ok();
        }
        let waiting = Waiting { shared: Arc::clone(self), ticket, answer, left_for: ShedReason::Abandoned };
        self.settle(state);
        Ok(waiting)
    }

    fn move_to(self: &Arc<Self>, ticket: Ticket, priority: Priority) {
        let mut state = self.state.lock();
        state.admission.move_to(ticket, priority, Instant::now());
        self.settle(state);
    }

    /// Lets go whoever may, sees to the timer, and writes the log, all of it after the lock.
    fn settle(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State>) {
        let Pumped { granted, shed, wake_at } = state.admission.pump(Instant::now());
        let mut answers = Vec::with_capacity(granted.len() + shed.len());
        for (ticket, grant) in granted {
            let class = grant.class();
            let permit = Permit { shared: Arc::clone(self), grant: Mutex::new(grant), class };
            answers.push((state.waiters.remove(&ticket), Ok(permit)));
        }
        for (ticket, reason) in shed {
            answers.push((state.waiters.remove(&ticket), Err(reason)));
        }
        self.schedule(&mut state, wake_at);
        let notes = state.admission.take_notes();
        drop(state);
        notes.iter().for_each(log::write);
        for (waiter, answer) in answers {
            // Whoever left meanwhile gives the permit back by dropping it here.
            drop(waiter.map(|waiter| waiter.send(answer)));
        }
    }

    /// Sees to it that somebody pumps at `wake_at`.
    fn schedule(self: &Arc<Self>, state: &mut State, wake_at: Option<Instant>) {
        let Some(at) = wake_at else { return };
        match state.driver {
            Some(known) if known <= at => {}
            Some(_) => self.rescheduled.notify_one(),
            None => {
                let Some(runtime) = &state.runtime else { return };
                let shared = Arc::clone(self);
                runtime.spawn(async move { shared.drive().await });
            }
        }
        state.driver = Some(state.driver.map_or(at, |known| known.min(at)));
    }

    /// Pumps once when the time comes; pumping starts the next driver if there is a next time.
    async fn drive(self: Arc<Self>) {
        let state = loop {
            let Some(at) = self.state.lock().driver else { return };
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.rescheduled.notified() => continue,
            }
            let mut state = self.state.lock();
            state.driver = None;
            break state;
        };
        self.settle(state);
    }
}

// === impl Waiting ===

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.waiters.remove(&self.ticket);
        state.admission.leave(self.ticket, self.left_for);
    }
}

#[cfg(test)]
mod tests;
