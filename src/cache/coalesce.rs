//! One piece of work per key at a time; whoever asks meanwhile waits for the same result.
//!
//! The work runs in a task of its own, so a client that leaves does not end it for the others. A result may
//! *linger*: it stays joinable until something that follows it (a download, say) is over.

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

/// What a flight ends with: a value for everybody, and what to wait for before the key is free again.
pub struct Landing<V> {
    /// The value.
    pub value: V,
    /// The key stays taken until this is over.
    pub linger: Option<BoxFuture<'static, ()>>,
}

/// A value that somebody's flight brings; `None` when its task died.
type Arrival<V> = Shared<BoxFuture<'static, Option<V>>>;

/// Flights by key, each with a number of its own.
type Flights<V> = Arc<Mutex<HashMap<String, (u64, Arrival<V>)>>>;

/// One piece of work per key at a time.
pub struct Coalescer<V> {
    flights: Flights<V>,
    numbers: AtomicU64,
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
        Self { flights: Arc::default(), numbers: AtomicU64::new(0) }
    }
}

impl<V: Clone + Send + Sync + 'static> Coalescer<V> {
    /// Joins the flight of `key` or starts one with `work`; the value, and whether it was joined.
    /// `None` only if the flight's task panicked.
    pub async fn run<F>(&self, key: &str, work: impl FnOnce() -> F) -> (Option<V>, bool)
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        let (arrival, joined) = self.join_or_start(key, work);
        (arrival.await, joined)
    }

    /// Starts a flight that nobody waits for, unless there is one already.
    pub fn start<F>(&self, key: &str, work: impl FnOnce() -> F)
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        drop(self.join_or_start(key, work));
    }

    /// Frees `key` when its flight has landed with a value that is `dead`, so that nobody joins it any more.
    pub fn drop_dead(&self, key: &str, dead: impl FnOnce(&V) -> bool) {
        let mut flights = self.flights.lock();
        let landed = flights.get(key).and_then(|(_, arrival)| arrival.peek());
        if landed.is_some_and(|value| value.as_ref().is_none_or(dead)) {
            flights.remove(key);
        }
    }

    /// Whether `key` is in flight.
    pub fn in_flight(&self, key: &str) -> bool {
        self.flights.lock().contains_key(key)
    }

    fn join_or_start<F>(&self, key: &str, work: impl FnOnce() -> F) -> (Arrival<V>, bool)
    where
        F: Future<Output = Landing<V>> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some((_, arrival)) = flights.get(key) {
            return (arrival.clone(), true);
        }
        let (send, receive) = tokio::sync::oneshot::channel();
        let arrival = receive.map(Result::ok).boxed().shared();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        flights.insert(key.to_owned(), (number, arrival.clone()));
        drop(flights);
        let slot = Slot { flights: Arc::clone(&self.flights), key: key.to_owned(), number };
        let work = work();
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
        (arrival, false)
    }
}

// === impl Slot ===

impl<V> Drop for Slot<V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if flights.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::FutureExt as _;
    use tokio::sync::Notify;

    use super::{Coalescer, Landing};

    #[tokio::test]
    async fn all_who_ask_meanwhile_get_the_one_result() {
        let coalescer = Arc::new(Coalescer::<usize>::default());
        let (gate, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (coalescer, gate, runs) = (coalescer.clone(), gate.clone(), runs.clone());
            tokio::spawn(async move {
                let work = || async move {
                    gate.notified().await;
                    Landing::now(runs.fetch_add(1, Ordering::SeqCst))
                };
                coalescer.run("key", work).await
            })
        };
        let asked: Vec<_> = (0..50).map(|_| ask()).collect();
        while !coalescer.in_flight("key") {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        let mut joined = 0;
        for task in asked {
            let (value, was_joined) = task.await.unwrap();
            assert_eq!(value, Some(0));
            joined += usize::from(was_joined);
        }
        assert_eq!((joined, runs.load(Ordering::SeqCst)), (49, 1));
        assert!(!coalescer.in_flight("key"));
    }

    #[tokio::test]
    async fn a_flight_goes_on_when_its_starter_leaves() {
        let coalescer = Coalescer::<u8>::default();
        let gate = Arc::new(Notify::new());
        let inner = gate.clone();
        let started = coalescer.run("key", || async move {
            inner.notified().await;
            Landing::now(7)
        });
        assert!(started.now_or_never().is_none());
        gate.notify_one();
        let (value, joined) = coalescer.run("key", || async { Landing::now(8) }).await;
        assert_eq!((value, joined), (Some(7), true));
    }

    #[tokio::test]
    async fn a_lingering_value_can_be_joined_until_it_is_over() {
        let coalescer = Coalescer::<u8>::default();
        let gate = Arc::new(Notify::new());
        let inner = gate.clone();
        let linger = async move { inner.notified().await }.boxed();
        let work = || async { Landing { value: 1, linger: Some(linger) } };
        assert_eq!(coalescer.run("key", work).await, (Some(1), false));
        assert_eq!(coalescer.run("key", || async { Landing::now(2) }).await, (Some(1), true));
        gate.notify_one();
        while coalescer.in_flight("key") {
            tokio::task::yield_now().await;
        }
        assert_eq!(coalescer.run("key", || async { Landing::now(3) }).await, (Some(3), false));
    }

    #[tokio::test]
    async fn a_flight_that_dies_frees_its_key() {
        let coalescer = Coalescer::<u8>::default();
        let dying = || async {
            let none = std::env::args().find(|argument| argument == "no such argument");
            Landing::now(none.map(|_| 1).unwrap())
        };
        assert_eq!(coalescer.run("key", dying).await.0, None);
        assert_eq!(coalescer.run("key", || async { Landing::now(2) }).await.0, Some(2));
    }
}
