//! Metrics of warm-ups. Drills are not counted: they bring nothing.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::{Fate, Seen};

/// Counters of warm-ups.
#[derive(Clone)]
pub(super) struct Metrics {
    things: IntCounterVec,
    bytes: IntCounter,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let things =
            Opts::new("feedgate_warm_up_things_total", "Packages and documents of warm-ups, by outcome");
        let things = IntCounterVec::new(things, &["outcome"])?;
        let bytes = IntCounter::new(
            "feedgate_warm_up_fetched_bytes_total",
            "Bytes that warm-ups brought into the store",
        )?;
        registry.register(Box::new(things.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        for fate in Fate::ALL {
            things.with_label_values(&[fate.as_str()]).inc_by(0);
        }
        Ok(Self { things, bytes })
    }

    pub(super) fn count(&self, seen: &Seen) {
        self.things.with_label_values(&[seen.fate.as_str()]).inc();
        if seen.fate == Fate::Fetched {
            self.bytes.inc_by(seen.bytes);
        }
    }
}
