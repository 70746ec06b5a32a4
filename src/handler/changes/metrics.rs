//! Metrics of following changes; labelled by the feeds of the configuration, a closed set.

use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// Nothing had changed.
    Unchanged,
    /// Changes were read.
    Changed,
    /// The first of a feed: whatever is stored of it is asked for anew.
    Began,
    /// What changed cannot be told: the same, and old bytes go too.
    StartedOver,
    /// The service refuses the credential, or there is none.
    Denied,
    /// The service gave no answer, or one that means nothing.
    Failed,
}

/// Counters and gauges.
pub(super) struct Metrics {
    polls: IntCounterVec,
    changes: IntCounterVec,
    age: IntGaugeVec,
}

// === impl Outcome ===

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Unchanged, Self::Changed, Self::Began, Self::StartedOver, Self::Denied, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Began => "began",
            Self::StartedOver => "started_over",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics for `feeds`.
    pub(super) fn new(registry: &Registry, feeds: &[String]) -> Result<Self, prometheus::Error> {
        let polls = IntCounterVec::new(
            Opts::new("feedgate_changes_polls_total", "Questions after the changes of a feed, by outcome"),
            &["feed", "outcome"],
        )?;
        let changes = IntCounterVec::new(
            Opts::new("feedgate_changes_total", "Changes of versions that the service reported"),
            &["feed"],
        )?;
        let age = IntGaugeVec::new(
            Opts::new("feedgate_changes_age_seconds", "Seconds since the service last told of changes"),
            &["feed"],
        )?;
        registry.register(Box::new(polls.clone()))?;
        registry.register(Box::new(changes.clone()))?;
        registry.register(Box::new(age.clone()))?;
        for feed in feeds {
            changes.with_label_values(&[feed.as_str()]).inc_by(0);
            for outcome in Outcome::ALL {
                polls.with_label_values(&[feed.as_str(), outcome.as_str()]).inc_by(0);
            }
        }
        Ok(Self { polls, changes, age })
    }

    /// A poll ended.
    pub(super) fn polled(&self, feed: &str, outcome: Outcome) {
        self.polls.with_label_values(&[feed, outcome.as_str()]).inc();
    }

    /// Changes were reported.
    pub(super) fn changed(&self, feed: &str, count: usize) {
        self.changes.with_label_values(&[feed]).inc_by(count as u64);
    }

    /// How long ago the service last told of changes.
    pub(super) fn age(&self, feed: &str, age: Duration) {
        self.age.with_label_values(&[feed]).set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }
}
