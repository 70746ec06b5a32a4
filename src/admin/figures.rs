//! Gauges of the stores, read off when `/metrics` is asked for.

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::{
    blob::{BlobStore as _, DiskStore, StoreCounts},
    handler::Handler,
};

/// Gauges of the stores.
pub struct Figures {
    store: DiskStore,
    handler: Handler,
    blobs: IntGauge,
    bytes: IntGaugeVec,
    representations: IntGaugeVec,
    events: IntGaugeVec,
}

// === impl Figures ===

impl Figures {
    /// Registers the gauges.
    pub fn new(registry: &Registry, store: DiskStore, handler: Handler) -> Result<Self, prometheus::Error> {
        let vector = |name: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let blobs = IntGauge::new("feedgate_store_blobs", "Blobs in the store")?;
        let bytes = vector("feedgate_store_bytes", "Bytes of the store, by what is counted", "of")?;
        let representations =
            vector("feedgate_representations", "Representations in memory: their number and bytes", "of")?;
        let events = vector(
            "feedgate_store_events",
            "What happened in the store since the start: evictions, damaged records, failed writes",
            "event",
        )?;
        registry.register(Box::new(blobs.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(representations.clone()))?;
        registry.register(Box::new(events.clone()))?;
        Ok(Self { store, handler, blobs, bytes, representations, events })
    }

    /// Reads everything off.
    pub fn refresh(&self) {
        self.handler.refresh_figures();
        let usage = self.store.usage();
        self.blobs.set(signed(usage.blobs));
        for (of, value) in [("payload", usage.payload), ("disk", usage.disk), ("capacity", usage.capacity)] {
            self.bytes.with_label_values(&[of]).set(signed(value));
        }
        let (count, bytes) = self.handler.parts().documents.memory_usage();
        self.representations.with_label_values(&["count"]).set(signed(count));
        self.representations.with_label_values(&["bytes"]).set(signed(bytes));
        let StoreCounts { evicted_blobs, evicted_bytes, damaged, write_errors, .. } = self.store.counts();
        let events = [
            ("evicted_blobs", evicted_blobs),
            ("evicted_bytes", evicted_bytes),
            ("damaged", damaged),
            ("write_errors", write_errors),
        ];
        for (event, value) in events {
            self.events.with_label_values(&[event]).set(signed(value));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
