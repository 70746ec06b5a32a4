//! A short memory of failures: after one, stored copies are served at once instead of waiting again.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Most feeds that are remembered; those beyond are asked about each time.
const MOST_FEEDS: usize = 4096;

/// Remembers when the service last failed to answer.
pub struct OutageMemory {
    origin: Instant,
    cooldown: Duration,
    /// Feeds for which the question after a caller's right had no answer, and until when to believe that.
    wordless: Mutex<HashMap<String, Instant>>,
    /// Milliseconds from `origin` until which the service is suspected, 0 for not at all.
    suspected_until: AtomicU64,
}

// === impl OutageMemory ===

impl OutageMemory {
    /// Suspects the service for `cooldown` after each failure.
    pub fn new(cooldown: Duration) -> Self {
        let wordless = Mutex::default();
        Self { origin: Instant::now(), cooldown, wordless, suspected_until: AtomicU64::new(0) }
    }

    /// The service was asked who may read `feed`, and gave no word.
    pub fn no_word(&self, feed: String) {
        let now = Instant::now();
        let mut wordless = self.wordless.lock();
        wordless.retain(|_, until| now < *until);
        if wordless.len() < MOST_FEEDS {
            wordless.insert(feed, now + self.cooldown);
        }
    }

    /// Whether the service gave no word on `feed` a moment ago.
    pub fn gave_no_word(&self, feed: &str) -> bool {
        self.wordless.lock().get(feed).is_some_and(|until| Instant::now() < *until)
    }

    /// The service did not answer.
    pub fn failed(&self) {
        self.suspected_until.store(self.millis() + millis(self.cooldown), Ordering::Relaxed);
    }

    /// The service answered.
    pub fn answered(&self) {
        self.suspected_until.store(0, Ordering::Relaxed);
    }

    /// Whether a stored copy should be served without asking.
    pub fn suspected(&self) -> bool {
        self.millis() < self.suspected_until.load(Ordering::Relaxed)
    }

    fn millis(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::OutageMemory;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_feed_without_a_word_is_remembered_for_itself() {
        let memory = OutageMemory::new(Duration::from_secs(5));
        memory.no_word("one".to_owned());
        assert_eq!((memory.gave_no_word("one"), memory.gave_no_word("other")), (true, false));
        assert!(!memory.suspected());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!memory.gave_no_word("one"));
        memory.no_word("other".to_owned());
        assert_eq!(memory.wordless.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_for_the_cooldown_or_until_an_answer() {
        let memory = OutageMemory::new(Duration::from_secs(5));
        assert!(!memory.suspected());
        memory.failed();
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert!(memory.suspected());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!memory.suspected());
        memory.failed();
        memory.answered();
        assert!(!memory.suspected());
    }
}
