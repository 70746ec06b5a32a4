//! What the gate saved over time: a sample of the totals every minute, for a day, in memory.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use prometheus::Registry;
use serde::Serialize;

use crate::clock::Clock;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(60);
/// Samples that are kept: a day.
const MOST: usize = 24 * 60;
/// Cache results of answers that came out of the store.
const HITS: [&str; 4] = ["hit", "stale", "stale_error", "offline"];
/// Cache results of requests that no cache could answer.
const APART: [&str; 3] = ["local", "bypass", "method"];

/// Sums over all labels since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    /// Requests that a cache could answer.
    pub(super) requests: u64,
    /// Those that were answered out of the store.
    pub(super) hits: u64,
    /// Body bytes sent to clients.
    pub(super) sent_bytes: u64,
    /// Those that the service did not have to send.
    pub(super) saved_bytes: u64,
    /// Requests that the service did not get.
    pub(super) saved_requests: u64,
}

/// What came in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Stretch {
    /// Its begin, in seconds since 1970.
    pub(super) from: u64,
    /// Its end, in seconds since 1970.
    pub(super) at: u64,
    /// What came in it.
    #[serde(flatten)]
    pub(super) totals: Totals,
}

/// The samples. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<VecDeque<Stretch>>>);

// === impl Totals ===

impl Totals {
    /// The totals now.
    pub(super) fn read(registry: &Registry) -> Self {
        let mut totals = Self::default();
        for family in registry.gather() {
            for metric in family.get_metric() {
                let count = whole(metric.get_counter().get_value());
                match family.get_name() {
                    "feedgate_requests_total" => {
                        let cache = metric.get_label().iter().find(|label| label.get_name() == "cache");
                        let cache = cache.map_or("", |label| label.get_value());
                        totals.hits += if HITS.contains(&cache) { count } else { 0 };
                        totals.requests += if APART.contains(&cache) { 0 } else { count };
                    }
                    "feedgate_sent_bytes_total" => totals.sent_bytes += count,
                    "feedgate_saved_bytes_total" => totals.saved_bytes += count,
                    "feedgate_saved_upstream_requests_total" => totals.saved_requests += count,
                    _ => {}
                }
            }
        }
        totals
    }

    /// The share of hits; `None` when nothing was asked.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    pub(super) fn hit_ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.hits as f64 / self.requests as f64)
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            hits: self.hits.saturating_sub(before.hits),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            saved_bytes: self.saved_bytes.saturating_sub(before.saved_bytes),
            saved_requests: self.saved_requests.saturating_sub(before.saved_requests),
        }
    }
}

// === impl History ===

impl History {
    /// Takes samples for as long as it is polled.
    pub async fn keep(self, registry: Registry, clock: Clock) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            self.sample(Totals::read(&registry), clock.now());
        }
    }

    /// What came since the first sample, in at most `most` stretches of equal length, up to `totals` now.
    pub(super) fn stretches(&self, most: usize, totals: Totals, now: SystemTime) -> Vec<Stretch> {
        let samples = self.0.lock();
        let step = samples.len().div_ceil(most.max(1)).max(1);
        let mut ends: Vec<_> = samples.iter().step_by(step).copied().collect();
        drop(samples);
        ends.push(Stretch { from: 0, at: seconds(now), totals });
        let between = |pair: &[Stretch]| Stretch {
            from: pair[0].at,
            at: pair[1].at,
            totals: pair[1].totals.since(&pair[0].totals),
        };
        ends.windows(2).map(between).collect()
    }

    fn sample(&self, totals: Totals, now: SystemTime) {
        let mut samples = self.0.lock();
        if samples.len() == MOST {
            samples.pop_front();
        }
        samples.push_back(Stretch { from: 0, at: seconds(now), totals });
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of whole numbers")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{History, MOST, Totals};

    fn totals(requests: u64) -> Totals {
        Totals { requests, hits: requests / 2, ..Totals::default() }
    }

    #[test]
    fn a_day_is_told_in_few_stretches_without_a_gap() {
        let history = History::default();
        let at = |minute: u64| UNIX_EPOCH + Duration::from_secs(minute * 60);
        assert!(history.stretches(48, totals(0), at(0)).is_empty());
        for minute in 0..MOST as u64 + 100 {
            history.sample(totals(minute * 10), at(minute));
        }
        let end = MOST as u64 + 100;
        let told = history.stretches(48, totals(end * 10), at(end));
        assert_eq!(told.len(), 48);
        assert_eq!(told.iter().map(|one| one.totals.requests).sum::<u64>(), MOST as u64 * 10);
        assert_eq!(told.last().unwrap().at, end * 60);
        assert!(told.windows(2).all(|pair| pair[0].at == pair[1].from));
        assert_eq!(told[0].totals.hit_ratio(), Some(0.5));
        assert_eq!(Totals::default().hit_ratio(), None);
    }
}
