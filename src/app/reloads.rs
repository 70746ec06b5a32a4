//! What became of configurations that were read again.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Counts reloads. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Reloads {
    total: IntCounterVec,
    since: IntGauge,
    holds: IntGauge,
}

// === impl Reloads ===

impl Reloads {
    /// Registers `feedgate_config_reloads_total`, `feedgate_config_last_reload_successful` and
    /// `feedgate_config_last_reload_success_timestamp_seconds`; fails if they are registered already. The first
    /// configuration was read at `now`.
    pub fn new(registry: &Registry, now: SystemTime) -> Result<Self, prometheus::Error> {
        let opts =
            Opts::new("feedgate_config_reloads_total", "Configurations read again, by what became of it.");
        let total = IntCounterVec::new(opts, &["outcome"])?;
        let since = IntGauge::new(
            "feedgate_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read, in seconds since 1970.",
        )?;
        let holds = IntGauge::new(
            "feedgate_config_last_reload_successful",
            "1 if the configuration that was read last holds, else 0.",
        )?;
        registry.register(Box::new(holds.clone()))?;
        registry.register(Box::new(total.clone()))?;
        registry.register(Box::new(since.clone()))?;
        for outcome in ["applied", "invalid"] {
            total.with_label_values(&[outcome]).inc_by(0);
        }
        let reloads = Self { total, since, holds };
        reloads.set(now);
        Ok(reloads)
    }

    /// One was read that holds.
    pub fn applied(&self, now: SystemTime) {
        self.total.with_label_values(&["applied"]).inc();
        self.set(now);
    }

    /// One was read that does not.
    pub fn invalid(&self) {
        self.total.with_label_values(&["invalid"]).inc();
        self.holds.set(0);
    }

    fn set(&self, now: SystemTime) {
        self.holds.set(1);
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    }
}
