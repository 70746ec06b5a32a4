//! [`Silence`]: hosts that have said nothing at all for a whole first-byte timeout.
//!
//! A host that takes connections and says nothing would cost each request a timeout of its own, one after the other:
//! first the question for a feed's name, then the document, then the second attempt of the client. But silence is
//! the host's, and not the request's: when one request has waited its time, nothing was heard meanwhile and others
//! wait as well, none of them waits any longer.
//!
//! ```text
//!   index    ├──────────────── timeout ─┤ nothing heard since it began, and
//!   document        ├───────────────────┤ enough others wait: all are over
//!   document          ├─────────────────┤
//! ```
//!
//! A lone request proves nothing: one document may take the service long.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

/// Who waits for which host. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Silence<K> {
    hosts: Arc<Mutex<HashMap<K, Host>>>,
    /// The first-byte timeout.
    longest: Duration,
    /// Different things asked for that must all be unanswered.
    enough: usize,
}

/// What is unanswered of a host.
struct Host {
    heard: Option<Instant>,
    /// How many requests wait for each thing that was asked for.
    asked: HashMap<u64, usize>,
    over: watch::Sender<()>,
}

/// A request that waits. It does so until it is dropped.
pub struct Waiting<K: Eq + Hash + Clone> {
    silence: Silence<K>,
    host: K,
    asked: u64,
    since: Instant,
    over: watch::Receiver<()>,
}

// === impl Silence ===

impl<K: Eq + Hash + Clone> Silence<K> {
    /// Nobody waits. A host is silent when `longest` has passed and `enough` different things are unanswered.
    pub fn new(longest: Duration, enough: usize) -> Self {
        Self { hosts: Arc::default(), longest, enough }
    }

    /// A request for `asked` is sent.
    pub fn begin(&self, host: &K, asked: u64, now: Instant) -> Waiting<K> {
        let mut hosts = self.hosts.lock();
        let entry = hosts.entry(host.clone()).or_insert_with(|| Host {
            heard: None,
            asked: HashMap::new(),
            over: watch::Sender::new(()),
        });
        *entry.asked.entry(asked).or_default() += 1;
        let over = entry.over.subscribe();
        Waiting { silence: self.clone(), host: host.clone(), asked, since: now, over }
    }
}

// === impl Waiting ===

impl<K: Eq + Hash + Clone> Waiting<K> {
    /// Ends when the host turns out to be silent.
    pub async fn hopeless(&mut self) {
        if self.over.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The host said something, whatever it was.
    pub fn heard(&self, now: Instant) {
        if let Some(host) = self.silence.hosts.lock().get_mut(&self.host) {
            host.heard = Some(now);
        }
    }

    /// This request was not answered in its time. True, for all that wait, if the host is silent.
    pub fn gave_up(&self, now: Instant) -> bool {
        let hosts = self.silence.hosts.lock();
        let Some(host) = hosts.get(&self.host) else { return false };
        let silent = host.heard.is_none_or(|heard| heard < self.since)
            && now.duration_since(self.since) >= self.silence.longest
            && host.asked.len() >= self.silence.enough;
        if silent {
            host.over.send_replace(());
        }
        silent
    }
}

impl<K: Eq + Hash + Clone> Drop for Waiting<K> {
    fn drop(&mut self) {
        let mut hosts = self.silence.hosts.lock();
        let Some(host) = hosts.get_mut(&self.host) else { return };
        if let Some(count) = host.asked.get_mut(&self.asked) {
            *count -= 1;
            if *count == 0 {
                host.asked.remove(&self.asked);
            }
        }
        if host.asked.is_empty() {
            hosts.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(15);

    fn silence() -> Silence<&'static str> {
        Silence::new(LONGEST, 3)
    }

    #[tokio::test]
    async fn one_that_waited_its_time_ends_the_wait_of_all() {
        let (silence, start) = (silence(), Instant::now());
        let first = silence.begin(&"host", 1, start);
        let mut others = [2, 3].map(|asked| silence.begin(&"host", asked, start + LONGEST / 2));
        let mut elsewhere = silence.begin(&"other", 4, start);
        assert!(others[0].hopeless().now_or_never().is_none());
        assert!(first.gave_up(start + LONGEST));
        for other in &mut others {
            assert!(other.hopeless().now_or_never().is_some());
        }
        assert!(elsewhere.hopeless().now_or_never().is_none());
        drop((first, others, elsewhere));
        assert!(silence.hosts.lock().is_empty());
    }

    #[tokio::test]
    async fn a_host_that_said_something_or_had_less_time_or_was_asked_little_is_not_silent() {
        let (silence, start) = (silence(), Instant::now());
        let first = silence.begin(&"host", 1, start);
        let same = silence.begin(&"host", 1, start);
        let second = silence.begin(&"host", 2, start);
        assert!(!first.gave_up(start + LONGEST), "two things");
        let third = silence.begin(&"host", 3, start);
        assert!(!first.gave_up(start + LONGEST / 2), "half the time");
        third.heard(start + LONGEST / 2);
        assert!(!first.gave_up(start + LONGEST), "it answered another");
        drop((same, second, third));
        assert!(!first.gave_up(start + LONGEST), "alone");
    }
}
