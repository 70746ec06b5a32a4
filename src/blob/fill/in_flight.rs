//! One fill per key at a time: the first caller starts it, the others follow.
//!
//! A key is taken from the moment somebody sets out to download, which is before a [`Fill`] can exist: only the
//! upstream's reply tells its length. Until then followers wait for the fill, or for the starter's refusal `E`
//! (the upstream said 404, say), which is theirs as well: a failure sends nobody else upstream. Whether a
//! follower may see what the starter's credential obtained is for the caller to decide, e.g. through the key.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Fill;

/// The fills in progress, by key.
pub struct InFlight<K: Eq + Hash, E> {
    flights: Flights<K, E>,
}

type Flights<K, E> = Arc<Mutex<HashMap<K, watch::Receiver<Stage<E>>>>>;

/// What a caller of [`InFlight::join_or_start`] has to do.
pub enum Joining<K: Eq + Hash, E> {
    /// Follow the fill that somebody else started.
    Joined(Following<E>),
    /// Start it: nobody else will until the token is dropped.
    Start(StartToken<K, E>),
}

/// The duty to start a fill. Belongs to the download's task and lives as long: dropping it frees the key.
///
/// Dropped before [`StartToken::started`], it leaves the followers with [`Refusal::Abandoned`].
pub struct StartToken<K: Eq + Hash, E> {
    flights: Flights<K, E>,
    key: K,
    stage: watch::Sender<Stage<E>>,
}

/// A caller's place in a fill that may not exist yet.
pub struct Following<E> {
    stage: watch::Receiver<Stage<E>>,
}

/// Why there is no fill to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<E> {
    /// What the starter was told instead.
    Refused(E),
    /// The starter is gone without a word: its task was cancelled or panicked.
    Abandoned,
}

enum Stage<E> {
    Starting,
    Started(Arc<Fill>),
    Refused(E),
}

// === impl InFlight ===

impl<K: Eq + Hash + Clone, E: Clone> InFlight<K, E> {
    /// No fills.
    pub fn new() -> Self {
        Self { flights: Arc::default() }
    }

    /// Joins the fill of `key`, or starts one when there is none that can still be read from its first byte.
    pub fn join_or_start(&self, key: &K) -> Joining<K, E> {
        let mut flights = self.flights.lock();
        if let Some(stage) = flights.get(key).filter(|stage| stage.borrow().is_joinable()) {
            return Joining::Joined(Following { stage: stage.clone() });
        }
        let (stage, follower) = watch::channel(Stage::Starting);
        flights.insert(key.clone(), follower);
        Joining::Start(StartToken { flights: self.flights.clone(), key: key.clone(), stage })
    }

    /// How many keys are taken.
    pub fn len(&self) -> usize {
        self.flights.lock().len()
    }

    /// Whether no key is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash + Clone, E: Clone> Default for InFlight<K, E> {
    fn default() -> Self {
        Self::new()
    }
}

// === impl StartToken ===

impl<K: Eq + Hash, E> StartToken<K, E> {
    /// The starter's own place, for the request that caused the download.
    pub fn following(&self) -> Following<E> {
        Following { stage: self.stage.subscribe() }
    }

    /// Hands the fill to all who wait for it. Keep the token until the fill has ended.
    pub fn started(&self, fill: Arc<Fill>) {
        self.stage.send_replace(Stage::Started(fill));
    }

    /// Tells all who wait that there will be no fill, and frees the key.
    pub fn refuse(self, refusal: E) {
        self.stage.send_replace(Stage::Refused(refusal));
    }
}

impl<K: Eq + Hash, E> Drop for StartToken<K, E> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        let own = self.stage.subscribe();
        // A fill that lost its store may have been replaced by another of the same key.
        if flights.get(&self.key).is_some_and(|stage| stage.same_channel(&own)) {
            flights.remove(&self.key);
        }
    }
}

// === impl Following ===

impl<E: Clone> Following<E> {
    /// Waits for the fill.
    pub async fn fill(&mut self) -> Result<Arc<Fill>, Refusal<E>> {
        let started = self.stage.wait_for(|stage| !matches!(stage, Stage::Starting)).await;
        match started.as_deref() {
            Ok(Stage::Started(fill)) => Ok(fill.clone()),
            Ok(Stage::Refused(refusal)) => Err(Refusal::Refused(refusal.clone())),
            Ok(Stage::Starting) | Err(_) => Err(Refusal::Abandoned),
        }
    }
}

// === impl Stage ===

impl<E> Stage<E> {
    fn is_joinable(&self) -> bool {
        match self {
            Self::Starting => true,
            Self::Started(fill) => fill.joinable(),
            Self::Refused(_) => false,
        }
    }
}
