//! Metrics of the handlers: what should not happen, counted.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::access::Standing;

/// Counters of the handlers.
#[derive(Clone)]
pub struct HandlerMetrics {
    integrity: IntCounterVec,
    failed: IntCounterVec,
    leaked: IntCounter,
    unstored: IntCounter,
    verdicts: IntCounterVec,
    /// The one of them that each hit counts.
    allowed: IntCounter,
}

// === impl HandlerMetrics ===

impl HandlerMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let integrity = IntCounterVec::new(
            Opts::new(
                "feedgate_integrity_failures_total",
                "Answers of the service that failed a check, by stage",
            ),
            &["stage"],
        )?;
        let failed = IntCounterVec::new(
            Opts::new("feedgate_failed_downloads_total", "Downloads that came to no end, by reason"),
            &["reason"],
        )?;
        let leaked = IntCounter::new(
            "feedgate_leaked_urls_total",
            "URLs of the service left in documents for clients",
        )?;
        let unstored = IntCounter::new(
            "feedgate_unstored_fills_total",
            "Downloads that were served but could not be stored",
        )?;
        let verdicts = IntCounterVec::new(
            Opts::new("feedgate_verdicts_total", "What was known of callers who wanted something of a feed"),
            &["outcome"],
        )?;
        registry.register(Box::new(verdicts.clone()))?;
        for outcome in ["allowed", "grace", "denied", "unknown"] {
            verdicts.with_label_values(&[outcome]).inc_by(0);
        }
        registry.register(Box::new(integrity.clone()))?;
        registry.register(Box::new(failed.clone()))?;
        registry.register(Box::new(leaked.clone()))?;
        registry.register(Box::new(unstored.clone()))?;
        for stage in ["document", "length", "storage_id", "sha1", "sha512", "listing"] {
            integrity.with_label_values(&[stage]).inc_by(0);
        }
        for reason in ["upstream", "abandoned", "unwanted", "store"] {
            failed.with_label_values(&[reason]).inc_by(0);
        }
        let allowed = verdicts.with_label_values(&["allowed"]);
        Ok(Self { integrity, failed, leaked, unstored, verdicts, allowed })
    }

    /// An answer failed a check.
    pub fn integrity(&self, stage: &'static str) {
        self.integrity.with_label_values(&[stage]).inc();
    }

    /// A download failed, whose bytes were not found wrong.
    pub fn failed(&self, reason: &'static str) {
        self.failed.with_label_values(&[reason]).inc();
    }

    /// It was looked where a caller stands.
    pub fn verdict(&self, standing: &Standing) {
        if matches!(standing, Standing::Allowed) {
            return self.allowed.inc();
        }
        let outcome = match standing {
            Standing::Allowed => "allowed",
            Standing::Grace => "grace",
            Standing::Denied(_) => "denied",
            Standing::Unknown => "unknown",
        };
        self.verdicts.with_label_values(&[outcome]).inc();
    }

    /// URLs of the service were left in a document.
    pub fn leaked(&self, urls: u64) {
        self.leaked.inc_by(urls);
    }

    /// A download could not be stored.
    pub fn unstored(&self) {
        self.unstored.inc();
    }
}
