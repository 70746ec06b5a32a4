//! Metrics of the stores and of shared work, read off when `/metrics` is asked for, and what is known at the start:
//! the program's version, the process.

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{
    blob::{BlobStore as _, DiskStore, EvictionReason, Tier},
    cache::TierUse,
    handler::Handler,
};

/// What is read off when somebody looks.
pub struct Figures {
    handler: Handler,
}

/// Makes metrics of the stores' counts.
struct Stock {
    store: DiskStore,
    handler: Handler,
    /// What [`Sheet`]s are described by.
    descriptions: Vec<Desc>,
}

/// One collection: every sample is set once and given away.
struct Sheet {
    objects: GaugeVec,
    bytes: GaugeVec,
    capacity: GaugeVec,
    hits: IntCounterVec,
    misses: IntCounterVec,
    evictions: IntCounterVec,
    blobs: Gauge,
    payload: Gauge,
    disk: Gauge,
    budget: Gauge,
    free: Gauge,
    pinned: Gauge,
    pinned_bytes: Gauge,
    evicted_bytes: IntCounter,
    returned: IntCounter,
    returned_bytes: IntCounter,
    damaged: IntCounter,
    orphans: IntCounter,
    write_errors: IntCounter,
    flights: IntCounterVec,
    joined: IntCounterVec,
    in_flight: GaugeVec,
}

// === impl Figures ===

impl Figures {
    /// Registers the metrics; fails if they are registered already.
    pub fn new(registry: &Registry, store: DiskStore, handler: Handler) -> Result<Self, prometheus::Error> {
        let build =
            IntGaugeVec::new(Opts::new("feedgate_build_info", "1, for the version that runs"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let descriptions =
            Sheet::new()?.collectors().into_iter().flat_map(Collector::desc).cloned().collect();
        registry.register(Box::new(Stock { store, handler: handler.clone(), descriptions }))?;
        Ok(Self { handler })
    }

    /// Reads off what is no metric of its own making.
    pub fn refresh(&self) {
        self.handler.refresh_figures();
    }
}

// === impl Stock ===

impl Collector for Stock {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same sheet could be made before, so it can be made now.
        let Ok(sheet) = Sheet::new() else { return Vec::new() };
        sheet.fill_store(&self.store);
        let documents = &self.handler.parts().documents;
        sheet.fill_memory("entry", &documents.entry_use());
        sheet.fill_memory("representation", &documents.representation_use());
        sheet.fill_flights(&self.handler);
        sheet.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

// === impl Sheet ===

impl Sheet {
    fn new() -> Result<Self, prometheus::Error> {
        let (tier, work) = (["tier"], ["work"]);
        Ok(Self {
            objects: gauges("tier_objects", "Objects in a tier", &tier)?,
            bytes: gauges("tier_bytes", "Bytes of the objects in a tier", &tier)?,
            capacity: gauges("tier_capacity_bytes", "Budget of a tier that has one of its own", &tier)?,
            hits: counters("tier_hits_total", "Objects found in a tier", &tier)?,
            misses: counters("tier_misses_total", "Objects looked for in a tier in vain", &tier)?,
            evictions: counters(
                "tier_evictions_total",
                "Objects that left a tier for others",
                &["tier", "reason"],
            )?,
            blobs: gauge("store_blobs", "Blobs in the store")?,
            payload: gauge("store_payload_bytes", "Lengths of the blobs in the store")?,
            disk: gauge("store_disk_bytes", "What the store takes on disk")?,
            budget: gauge("store_capacity_bytes", "What the store may take on disk")?,
            free: gauge("store_free_bytes", "What the store's file system has left")?,
            pinned: gauge("store_pinned_blobs", "Stored blobs that are pinned")?,
            pinned_bytes: gauge("store_pinned_bytes", "What they take of the store's budget")?,
            evicted_bytes: counter("store_evicted_bytes_total", "Lengths of the blobs that were evicted")?,
            returned: counter("store_thrash_total", "Blobs stored again within a day after their eviction")?,
            returned_bytes: counter("store_thrash_bytes_total", "Their lengths")?,
            damaged: counter("store_damaged_total", "Blobs found damaged, and removed")?,
            orphans: counter("store_orphans_total", "Remains of a crash, removed")?,
            write_errors: counter("store_write_errors_total", "Blobs that could not be written")?,
            flights: counters("coalescing_started_total", "Work begun for one or more who asked", &work)?,
            joined: counters("coalescing_joined_total", "Askers who joined work under way", &work)?,
            in_flight: gauges(
                "coalescing_in_flight",
                "Work under way, until what follows from it is over",
                &work,
            )?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 22] {
        [
            &self.objects,
            &self.bytes,
            &self.capacity,
            &self.hits,
            &self.misses,
            &self.evictions,
            &self.blobs,
            &self.payload,
            &self.disk,
            &self.budget,
            &self.free,
            &self.pinned,
            &self.pinned_bytes,
            &self.evicted_bytes,
            &self.returned,
            &self.returned_bytes,
            &self.damaged,
            &self.orphans,
            &self.write_errors,
            &self.flights,
            &self.joined,
            &self.in_flight,
        ]
    }

    fn fill_store(&self, store: &DiskStore) {
        let (usage, counts, lookups) = (store.usage(), store.counts(), store.lookups());
        for (tier, holding) in Tier::ALL.into_iter().zip(store.holdings()) {
            let name = tier.as_str();
            self.objects.with_label_values(&[name]).set(float(holding.blobs));
            self.bytes.with_label_values(&[name]).set(float(holding.bytes));
            self.hits.with_label_values(&[name]).inc_by(lookups.hits[tier as usize]);
            for reason in EvictionReason::ALL.into_iter().filter(|_| tier != Tier::Memory) {
                let evicted = counts.evicted_blobs[tier as usize][reason as usize];
                self.evictions.with_label_values(&[name, reason.as_str()]).inc_by(evicted);
            }
        }
        let memory = Tier::Memory.as_str();
        self.capacity.with_label_values(&[memory]).set(float(store.memory_capacity()));
        self.misses.with_label_values(&[memory]).inc_by(lookups.memory_misses);
        self.evictions
            .with_label_values(&[memory, EvictionReason::Budget.as_str()])
            .inc_by(store.memory_evictions());
        // What is not in the database is looked for among the files by the same look.
        self.misses.with_label_values(&["disk"]).inc_by(lookups.disk_misses);
        self.blobs.set(float(usage.blobs));
        self.payload.set(float(usage.payload));
        self.disk.set(float(usage.disk));
        self.budget.set(float(usage.capacity));
        self.pinned.set(float(store.pinned().blobs));
        self.pinned_bytes.set(float(store.pinned().charge));
        self.free.set(store.free_space().map_or(f64::NAN, float));
        self.evicted_bytes.inc_by(counts.evicted_bytes);
        self.returned.inc_by(counts.returned_blobs);
        self.returned_bytes.inc_by(counts.returned_bytes);
        self.damaged.inc_by(counts.damaged);
        self.orphans.inc_by(counts.orphans);
        self.write_errors.inc_by(counts.write_errors);
    }

    fn fill_memory(&self, tier: &str, used: &TierUse) {
        self.objects.with_label_values(&[tier]).set(float(used.objects));
        self.bytes.with_label_values(&[tier]).set(float(used.bytes));
        self.capacity.with_label_values(&[tier]).set(float(used.capacity));
        self.hits.with_label_values(&[tier]).inc_by(used.hits);
        self.misses.with_label_values(&[tier]).inc_by(used.misses);
        self.evictions.with_label_values(&[tier, EvictionReason::Budget.as_str()]).inc_by(used.evictions);
    }

    fn fill_flights(&self, handler: &Handler) {
        for (work, flown) in handler.flown() {
            self.flights.with_label_values(&[work]).inc_by(flown.started);
            self.joined.with_label_values(&[work]).inc_by(flown.joined);
            self.in_flight.with_label_values(&[work]).set(float(flown.in_flight));
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("feedgate_{name}"), help)
}

fn gauge(name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    Gauge::with_opts(opts(name, help))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
    GaugeVec::new(opts(name, help), labels)
}

fn counter(name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    IntCounter::with_opts(opts(name, help))
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(opts(name, help), labels)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 9 PB")]
fn float(value: u64) -> f64 {
    value as f64
}
