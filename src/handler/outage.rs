//! A short memory of the service's bad moments: after one, stored copies are served at once instead of waiting again.
//!
//! Whether a host is dead is known to [`Breaks`](crate::upstream::Breaks). Here is what kills no host: no word on who
//! may read a feed, a refusal for load, and slowness. One slow document is the matter of that document; several at
//! once, without an answer between them, are the service's.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{CacheStatus, Handler, HandlerError};
use crate::{
    config::Mode,
    ident::Name,
    route::DocumentRoute,
    upstream::{Refused, Service, UpstreamError},
};

/// Most feeds, and organisations, that are remembered; those beyond are asked about each time.
const MOST: usize = 4096;
/// Documents that are slow at the same time from which on the others are not waited for.
const SLOW: usize = 2;

/// Remembers when the service last gave no answer.
pub struct OutageMemory {
    cooldown: Duration,
    /// Feeds for which the question after a caller's right had no answer, and until when to believe that.
    wordless: Mutex<HashMap<String, Instant>>,
    troubled: Mutex<HashMap<Place, Trouble>>,
}

/// Whom a question is put to.
type Place = (Service, Name);

#[derive(Clone)]
struct Trouble {
    until: Instant,
    busy: bool,
    slow: HashSet<String>,
}

// === impl OutageMemory ===

impl OutageMemory {
    /// Remembers each for `cooldown`.
    pub fn new(cooldown: Duration) -> Self {
        Self { cooldown, wordless: Mutex::default(), troubled: Mutex::default() }
    }

    /// What is remembered now, for one who must not change it.
    pub fn copied(&self) -> Self {
        let (wordless, troubled) = (self.wordless.lock().clone(), self.troubled.lock().clone());
        Self { cooldown: self.cooldown, wordless: Mutex::new(wordless), troubled: Mutex::new(troubled) }
    }

    /// The service was asked who may read `feed`, and gave no word.
    pub fn no_word(&self, feed: String) {
        let now = Instant::now();
        let mut wordless = self.wordless.lock();
        wordless.retain(|_, until| now < *until);
        if wordless.len() < MOST {
            wordless.insert(feed, now + self.cooldown);
        }
    }

    /// Whether the service gave no word on `feed` a moment ago.
    pub fn gave_no_word(&self, feed: &str) -> bool {
        self.wordless.lock().get(feed).is_some_and(|until| Instant::now() < *until)
    }

    /// `document` did not come in time.
    pub fn slow(&self, service: Service, org: &Name, document: String) {
        self.note(service, org, |trouble| {
            trouble.slow.insert(document);
        });
    }

    /// The service refused for load: that concerns everything.
    pub fn busy(&self, service: Service, org: &Name) {
        self.note(service, org, |trouble| trouble.busy = true);
    }

    /// The service answered.
    pub fn answered(&self, service: Service, org: &Name) {
        self.troubled.lock().remove(&(service, org.clone()));
    }

    /// Whether a stored copy should be served without asking.
    pub fn suspects(&self, service: Service, org: &Name) -> bool {
        let troubled = self.troubled.lock();
        let trouble = troubled.get(&(service, org.clone()));
        trouble.is_some_and(|trouble| {
            Instant::now() < trouble.until && (trouble.busy || trouble.slow.len() >= SLOW)
        })
    }

    fn note(&self, service: Service, org: &Name, note: impl FnOnce(&mut Trouble)) {
        let now = Instant::now();
        let mut troubled = self.troubled.lock();
        troubled.retain(|_, trouble| now < trouble.until);
        if troubled.len() < MOST {
            let fresh = || Trouble { until: now, busy: false, slow: HashSet::new() };
            let trouble = troubled.entry((service, org.clone())).or_insert_with(fresh);
            trouble.until = now + self.cooldown;
            note(trouble);
        }
    }
}

// === impl Handler ===

impl Handler {
    /// How a stale copy is called that is served in place of the service's answer.
    pub(super) fn stale(&self, route: &DocumentRoute, ttl: i64) -> CacheStatus {
        if self.mode(&route.feed) == Mode::Offline {
            CacheStatus::Offline { ttl }
        } else {
            CacheStatus::StaleOnError { ttl }
        }
    }

    /// The error for what did not come. Whoever ran into a host that is now known to be dead is told that, like those
    /// who come later: clients ask again for each package after any other failure.
    pub(super) fn settle<T>(&self, result: Result<T, UpstreamError>) -> Result<T, HandlerError> {
        result.map_err(|error| match error {
            UpstreamError::Connect { host, .. }
            | UpstreamError::Broken { host, .. }
            | UpstreamError::Timeout { host, .. }
                if self.parts.breaks.is_dead_host(&host) =>
            {
                HandlerError::Dead(host)
            }
            error => error.into(),
        })
    }

    /// Notes an answer of the service.
    pub(super) fn heard(&self, service: Service, org: &Name, refused: Option<&Refused>) {
        // A refusal for load concerns everything; another 5xx may be about this one route only.
        if matches!(refused, Some(Refused::Busy { .. })) {
            self.outage.busy(service, org);
        } else {
            self.outage.answered(service, org);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OutageMemory;
    use crate::{ident::Name, upstream::Service::Pkgs};
    use std::time::Duration;

    const SECONDS: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_feed_without_a_word_is_remembered_for_itself() {
        let memory = OutageMemory::new(SECONDS);
        memory.no_word("one".to_owned());
        assert_eq!((memory.gave_no_word("one"), memory.gave_no_word("other")), (true, false));
        tokio::time::advance(SECONDS).await;
        assert!(!memory.gave_no_word("one"));
        memory.no_word("other".to_owned());
        assert_eq!(memory.wordless.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn several_slow_documents_are_remembered_for_the_cooldown_or_until_an_answer() {
        let (memory, org) = (OutageMemory::new(SECONDS), Name::parse("contoso").unwrap());
        let suspects = || memory.suspects(Pkgs, &org);
        for _ in 0..3 {
            memory.slow(Pkgs, &org, "one".to_owned());
            assert!(!suspects(), "one slow document is its own matter");
        }
        memory.slow(Pkgs, &org, "two".to_owned());
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert!(suspects());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!suspects());
        memory.busy(Pkgs, &org);
        assert!(suspects());
        memory.answered(Pkgs, &org);
        assert!(!suspects());
    }
}
