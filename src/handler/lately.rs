//! What happened lately, for operators who look: feeds by how long clients waited for the service, and refusals.
//!
//! Answers out of the store are not counted: they say nothing of a feed, and come by the thousand. Everything here is
//! bounded, in memory, and gone with a restart.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::CacheStatus;
use crate::route::ObjectKey;

/// Feeds are told of for this long, and up to twice that.
const WINDOW: Duration = Duration::from_secs(600);
/// Feeds that are counted in a window.
const MOST_FEEDS: usize = 500;
/// Refusals that are remembered.
const MOST_REFUSALS: usize = 50;
/// Longest key that is remembered, in characters; the rest of it is cut off.
const MOST_KEY: usize = 300;

/// What happened lately. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct Lately(Arc<Mutex<Memory>>);

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The canonical key of what was asked for.
    pub key: &'a str,
    /// How it was answered.
    pub cache: CacheStatus,
    /// The status that was sent.
    pub status: u16,
    /// The code of the gate's own answer.
    pub code: Option<&'static str>,
    /// From where it came.
    pub client: Option<IpAddr>,
    /// How long it took.
    pub took: Duration,
    /// When it was over.
    pub at: SystemTime,
}

/// How long clients waited for a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedTimes {
    /// The feed as keys name it.
    pub feed: String,
    /// Requests that were not answered out of the store.
    pub requests: u64,
    /// How long they took together.
    pub total: Duration,
    /// How long the longest of them took.
    pub longest: Duration,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: SystemTime,
    /// What was asked for.
    pub key: String,
    /// The status.
    pub status: u16,
    /// The code of the gate's own answer; `None` for one of the service's.
    pub code: Option<&'static str>,
    /// Who was refused.
    pub client: Option<IpAddr>,
}

#[derive(Default)]
struct Memory {
    began: Option<Instant>,
    feeds: HashMap<String, FeedTimes>,
    before: HashMap<String, FeedTimes>,
    /// Oldest first.
    refusals: VecDeque<Refused>,
}

// === impl Lately ===

impl Lately {
    /// A request is over.
    pub fn note(&self, ended: &Ended<'_>) {
        // That there is no such package is an answer; who left was not refused.
        let is_refused = ended.status >= 400 && !matches!(ended.status, 404 | 499);
        let waited = !ended.cache.is_hit() && ended.cache != CacheStatus::Local;
        if !is_refused && !waited {
            return;
        }
        let mut memory = self.0.lock();
        if is_refused {
            memory.refuse(ended);
        }
        // What is passed through has no key but its path.
        let key = ObjectKey::read(ended.key).filter(|key| waited && !key.feed.contains("/_packaging/"));
        if let Some(key) = key {
            memory.turn();
            memory.count(key.whole_feed(), ended.took);
        }
    }

    /// Up to `most` feeds, the one with the longest mean wait first.
    pub fn slowest(&self, most: usize) -> Vec<FeedTimes> {
        let mut memory = self.0.lock();
        memory.turn();
        let mut all = memory.feeds.clone();
        for (feed, before) in &memory.before {
            let sum = all.entry(feed.clone()).or_insert_with(|| FeedTimes::of(feed));
            sum.requests += before.requests;
            sum.total += before.total;
            sum.longest = sum.longest.max(before.longest);
        }
        drop(memory);
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by(|one, other| other.mean().cmp(&one.mean()).then_with(|| one.feed.cmp(&other.feed)));
        all.truncate(most);
        all
    }

    /// The refusals, newest first.
    pub fn refusals(&self) -> Vec<Refused> {
        self.0.lock().refusals.iter().rev().cloned().collect()
    }
}

// === impl FeedTimes ===

impl FeedTimes {
    fn of(feed: &str) -> Self {
        Self { feed: feed.to_owned(), ..Self::default() }
    }

    /// How long a request took in the mean.
    pub fn mean(&self) -> Duration {
        self.total.checked_div(u32::try_from(self.requests).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

// === impl Memory ===

impl Memory {
    fn refuse(&mut self, ended: &Ended<'_>) {
        if self.refusals.len() == MOST_REFUSALS {
            self.refusals.pop_front();
        }
        let Ended { status, code, client, at, .. } = *ended;
        self.refusals.push_back(Refused {
            at,
            key: ended.key.chars().take(MOST_KEY).collect(),
            status,
            code,
            client,
        });
    }

    fn count(&mut self, feed: &str, took: Duration) {
        if !self.feeds.contains_key(feed) && self.feeds.len() == MOST_FEEDS {
            return;
        }
        let times = self.feeds.entry(feed.to_owned()).or_insert_with(|| FeedTimes::of(feed));
        times.requests += 1;
        times.total += took;
        times.longest = times.longest.max(took);
    }

    /// Begins a new window when it is time.
    fn turn(&mut self) {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        if now - began < WINDOW {
            return;
        }
        let last = std::mem::take(&mut self.feeds);
        self.before = if now - began < WINDOW * 2 { last } else { HashMap::new() };
        self.began = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Ended, Lately, MOST_FEEDS, MOST_REFUSALS, WINDOW};
    use crate::handler::CacheStatus;

    fn ended(key: &str, status: u16, seconds: u64) -> Ended<'_> {
        Ended {
            key,
            cache: CacheStatus::Miss { collapsed: false },
            status,
            code: None,
            client: None,
            took: Duration::from_secs(seconds),
            at: UNIX_EPOCH,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn feeds_are_told_by_their_waits_until_the_window_is_over() {
        let lately = Lately::default();
        for (key, seconds) in
            [("o/-/a@v/npm/packument/x", 1), ("o/-/a/nuget/index", 3), ("o/-/b/npm/packument/y", 5)]
        {
            lately.note(&ended(key, 200, seconds));
        }
        lately.note(&Ended {
            cache: CacheStatus::Hit { ttl: None },
            ..ended("o/-/b/npm/packument/y", 200, 99)
        });
        lately.note(&ended("o/_packaging/x", 200, 99));
        let told = |lately: &Lately| {
            let slowest = lately.slowest(9);
            let tell = |one: &super::FeedTimes| {
                (one.feed.clone(), one.requests, one.mean().as_secs(), one.longest.as_secs())
            };
            slowest.iter().map(tell).collect::<Vec<_>>()
        };
        assert_eq!(told(&lately), [("o/-/b".to_owned(), 1, 5, 5), ("o/-/a".to_owned(), 2, 2, 3)]);
        tokio::time::advance(WINDOW).await;
        lately.note(&ended("o/-/a/nuget/index", 200, 8));
        assert_eq!(told(&lately)[1], ("o/-/a".to_owned(), 3, 4, 8));
        tokio::time::advance(WINDOW).await;
        assert_eq!(told(&lately), [("o/-/a".to_owned(), 1, 8, 8)]);
        tokio::time::advance(WINDOW * 2).await;
        assert!(told(&lately).is_empty());
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let lately = Lately::default();
        let long = format!("o/-/a/npm/packument/{}", "é".repeat(400));
        for number in 0..MOST_FEEDS + 5 {
            lately.note(&ended(&format!("o/-/f{number}/nuget/index"), 200, 1));
            lately.note(&ended(&long, 403, 1));
        }
        assert_eq!(lately.slowest(usize::MAX).len(), MOST_FEEDS);
        assert_eq!(lately.refusals().len(), MOST_REFUSALS);
        assert!(lately.refusals()[0].key.chars().count() == super::MOST_KEY);
        let quiet = Lately::default();
        quiet.note(&ended("o/-/a/nuget/index", 404, 1));
        quiet.note(&ended("o/-/a/nuget/index", 499, 1));
        assert!(quiet.refusals().is_empty());
    }
}
