//! One piece of work per key at a time; whoever asks meanwhile waits for the same result.
//!
//! The work runs in a task of its own, so a client that leaves does not end it for the others. A result may
//! *linger*: it stays joinable until something that follows it (a download, say) is over.
//!
//! The work knows who waits for it by its [`Interest`]: each who waits counts with its own priority until it has the
//! value or leaves. What to do when nobody is left is the work's decision; in the throttle's queue it gives up, and
//! then whoever joined too late for that must run it once more.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt as _, future::BoxFuture, future::Shared};
use parking_lot::Mutex;

use crate::throttle::{Interest, Interested, Priority};

/// What a flight ends with: a value for everybody, and what to wait for before the key is free again.
pub struct Landing<V> {
    /// The value.
    pub value: V,
    /// The key stays taken until this is over.
    pub linger: Option<BoxFuture<'static, ()>>,
}

/// A value that somebody's flight brings; `None` when its task died.
type Arrival<V> = Shared<BoxFuture<'static, Option<V>>>;

/// Flights by key.
type Flights<V> = Arc<Mutex<HashMap<String, Flight<V>>>>;

/// How much work was shared since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flown {
    /// Flights begun.
    pub started: u64,
    /// Askers who joined one that was under way.
    pub joined: u64,
    /// Flights under way now, with those that linger.
    pub in_flight: u64,
}

/// One piece of work per key at a time.
pub struct Coalescer<V> {
    flights: Flights<V>,
    numbers: AtomicU64,
    joined: AtomicU64,
}

struct Flight<V> {
    /// No other has it.
    number: u64,
    arrival: Arrival<V>,
    interest: Interest,
}

/// A flight for one who waits for it.
struct Seat<V> {
    arrival: Arrival<V>,
    interest: Interest,
    /// The one who waits.
    held: Option<Interested>,
    joined: bool,
}

/// Frees the key when the flight's task ends, however it ends.
struct Slot<V> {
    flights: Flights<V>,
    key: String,
    number: u64,
}

// === impl Landing ===

impl<V> Landing<V> {
    /// A value whose key is free at once.
    pub fn now(value: V) -> Self {
        Self { value, linger: None }
    }
}

// === impl Coalescer ===

impl<V> Default for Coalescer<V> {
    fn default() -> Self {
        Self { flights: Arc::default(), numbers: AtomicU64::new(0), joined: AtomicU64::new(0) }
    }
}

impl<V: Clone + Send + Sync + 'static> Coalescer<V> {
    /// Joins the flight of `key` or starts one with `work`; the value, and whether it was joined.
    /// `None` only if the flight's task panicked. Dropping the future is losing interest.
    pub async fn run<F>(
        &self,
        key: &str,
        priority: Priority,
        work: impl FnOnce(Interest) -> F,
    ) -> (Option<V>, bool)
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        let Seat { arrival, held, joined, .. } = self.join_or_start(key, Some(priority), work);
        let value = arrival.await;
        drop(held);
        (value, joined)
    }

    /// The same on behalf of all who wait for something else, which needs this first.
    pub async fn run_for<F>(
        &self,
        key: &str,
        waiters: &Interest,
        work: impl FnOnce(Interest) -> F,
    ) -> (Option<V>, bool)
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        let mut changes = waiters.watch();
        let priority = *changes.borrow_and_update();
        let Seat { mut arrival, interest, mut held, joined } = self.join_or_start(key, priority, work);
        loop {
            tokio::select! {
                biased;
                value = &mut arrival => {
                    drop(held);
                    return (value, joined);
                }
                // `waiters` outlives the watch, so it cannot be closed.
                _ = changes.changed() => {
                    let priority = *changes.borrow_and_update();
                    held = priority.map(|priority| interest.join(priority));
                }
            }
        }
    }

    /// Starts a flight that nobody waits for, unless there is one already. It goes on to its end.
    pub fn start<F>(&self, key: &str, priority: Priority, work: impl FnOnce(Interest) -> F)
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        let held = |interest: Interest| {
            let held = interest.join(priority);
            let landing = work(interest);
            async move {
                let landing = landing.await;
                drop(held);
                landing
            }
        };
        drop(self.join_or_start(key, None, held));
    }

    /// Frees `key` when its flight has landed with a value that is `dead`, so that nobody joins it any more.
    pub fn drop_dead(&self, key: &str, dead: impl FnOnce(&V) -> bool) {
        let mut flights = self.flights.lock();
        let landed = flights.get(key).and_then(|flight| flight.arrival.peek());
        if landed.is_some_and(|value| value.as_ref().is_none_or(dead)) {
            flights.remove(key);
        }
    }

    /// Whether `key` is in flight.
    pub fn in_flight(&self, key: &str) -> bool {
        self.flights.lock().contains_key(key)
    }

    /// How much work was shared.
    pub fn flown(&self) -> Flown {
        Flown {
            started: self.numbers.load(Ordering::Relaxed),
            joined: self.joined.load(Ordering::Relaxed),
            in_flight: self.flights.lock().len() as u64,
        }
    }

    fn join_or_start<F>(
        &self,
        key: &str,
        priority: Option<Priority>,
        work: impl FnOnce(Interest) -> F,
    ) -> Seat<V>
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key) {
            if priority.is_some() {
                self.joined.fetch_add(1, Ordering::Relaxed);
            }
            return flight.seat(priority, true);
        }
        let (send, receive) = tokio::sync::oneshot::channel();
        let arrival = receive.map(Result::ok).boxed().shared();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let flight = Flight { number, arrival, interest: Interest::default() };
        let seat = flight.seat(priority, false);
        flights.insert(key.to_owned(), flight);
        drop(flights);
        let slot = Slot { flights: Arc::clone(&self.flights), key: key.to_owned(), number };
        let work = work(seat.interest.clone());
        tokio::spawn(async move {
            let landing = work.await;
            let linger = landing.linger;
            if linger.is_none() {
                // The key must be free before anybody can see the value and ask again.
                drop(slot);
                let _ = send.send(landing.value);
                return;
            }
            let _ = send.send(landing.value);
            if let Some(linger) = linger {
                linger.await;
            }
            drop(slot);
        });
        seat
    }
}

// === impl Flight ===

impl<V> Flight<V> {
    fn seat(&self, priority: Option<Priority>, joined: bool) -> Seat<V> {
        let held = priority.map(|priority| self.interest.join(priority));
        Seat { arrival: self.arrival.clone(), interest: self.interest.clone(), held, joined }
    }
}

// === impl Slot ===

impl<V> Drop for Slot<V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
