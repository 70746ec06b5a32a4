//! What the service may be asked at once.
//!
//! For now a fixed cap on requests in flight for each [`Class`] of host, with a bounded wait. Waiting and
//! arithmetic stay apart so that the adaptive budget can replace the cap without touching its callers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// Which budget a request upstream draws on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The service's API hosts (`pkgs`, `feeds`): the ones with limits per identity and per address.
    Api,
    /// The blob hosts behind the redirect.
    Blob,
}

/// Limits of [`Throttle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most requests in flight to the API hosts.
    pub api_in_flight: usize,
    /// Most downloads in flight from the blob hosts.
    pub blob_in_flight: usize,
    /// Longest wait for a permit.
    pub queue_timeout: Duration,
}

/// Hands out permits, first come, first served within a class.
#[derive(Debug)]
pub struct Throttle {
    api: Budget,
    blob: Budget,
    queue_timeout: Duration,
}

/// The right to have one request in flight; dropping it lets the next one go.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// No permit came free in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no permit for {class:?} within {waited:?}")]
pub struct ThrottleError {
    /// Which budget.
    pub class: Class,
    /// How long the caller waited.
    pub waited: Duration,
}

#[derive(Debug)]
struct Budget {
    limit: usize,
    free: Arc<Semaphore>,
}

// === impl Class ===

impl Class {
    /// Every class.
    pub const ALL: [Self; 2] = [Self::Api, Self::Blob];

    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Blob => "blob",
        }
    }
}

// === impl Throttle ===

impl Throttle {
    /// A throttle with all permits free. A limit of 0 lets nothing through.
    pub fn new(limits: &Limits) -> Self {
        Self {
            api: Budget::new(limits.api_in_flight),
            blob: Budget::new(limits.blob_in_flight),
            queue_timeout: limits.queue_timeout,
        }
    }

    /// Waits for a permit, at most the configured time. Waiters of a class are served in the order in which
    /// they came; one that leaves (its future is dropped) gives up its place.
    pub async fn acquire(&self, class: Class) -> Result<Permit, ThrottleError> {
        let start = Instant::now();
        let wait = timeout(self.queue_timeout, Arc::clone(&self.budget(class).free).acquire_owned());
        match wait.await {
            Ok(Ok(permit)) => Ok(Permit { _permit: permit }),
            // The semaphore is never closed; if it were, no permit is the right answer too.
            Ok(Err(_)) | Err(_) => Err(ThrottleError { class, waited: start.elapsed() }),
        }
    }

    /// Permits that are held now.
    pub fn in_flight(&self, class: Class) -> usize {
        let budget = self.budget(class);
        budget.limit.saturating_sub(budget.free.available_permits())
    }

    fn budget(&self, class: Class) -> &Budget {
        match class {
            Class::Api => &self.api,
            Class::Blob => &self.blob,
        }
    }
}

// === impl Budget ===

impl Budget {
    fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { limit, free: Arc::new(Semaphore::new(limit)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn throttle(api: usize, blob: usize) -> Throttle {
        Throttle::new(&Limits { api_in_flight: api, blob_in_flight: blob, queue_timeout: WAIT })
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_class_sheds_after_the_queue_timeout_and_not_the_other_class() {
        let throttle = throttle(1, 1);
        let held = throttle.acquire(Class::Api).await.unwrap();
        let error = throttle.acquire(Class::Api).await.unwrap_err();
        assert_eq!(error, ThrottleError { class: Class::Api, waited: WAIT });
        assert!(throttle.acquire(Class::Blob).await.is_ok());
        drop(held);
        assert!(throttle.acquire(Class::Api).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn permits_are_counted_while_they_are_held() {
        let throttle = throttle(2, 0);
        let first = throttle.acquire(Class::Api).await.unwrap();
        let second = throttle.acquire(Class::Api).await.unwrap();
        assert_eq!(throttle.in_flight(Class::Api), 2);
        drop(first);
        assert_eq!(throttle.in_flight(Class::Api), 1);
        drop(second);
        assert_eq!(Class::ALL.map(|class| throttle.in_flight(class)), [0, 0]);
        assert!(throttle.acquire(Class::Blob).await.is_err(), "a limit of 0 lets nothing through");
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_served_in_order_and_one_that_leaves_is_skipped() {
        let throttle = throttle(1, 1);
        let held = throttle.acquire(Class::Api).await.unwrap();
        let mut first = Box::pin(throttle.acquire(Class::Api));
        let mut second = Box::pin(throttle.acquire(Class::Api));
        let mut third = Box::pin(throttle.acquire(Class::Api));
        for waiter in [&mut first, &mut second, &mut third] {
            assert!(futures::poll!(waiter).is_pending());
        }
        drop(first);
        drop(held);
        assert!(futures::poll!(&mut third).is_pending());
        let permit = second.await.unwrap();
        assert!(futures::poll!(&mut third).is_pending());
        drop(permit);
        assert!(third.await.is_ok());
    }
}
