//! `GET /admin/v1/stats`: how the gate does, at a glance. What is exact and over time is in `/metrics`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Method;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    exchange::{Answer, seconds},
    health::Readiness,
    history::{History, Totals},
    objects::failed,
    pins::weight,
    problem::Problem,
    router::Route,
    steering::{breakers, throttle},
};
use crate::{
    blob::{BlobKind, BlobStore as _, DiskStore},
    handler::{FeedTimes, Handler, Refused},
    ident::StorageId,
    route::ObjectKey,
};

/// Feeds, packages and refusals that are told.
const TOLD: usize = 10;
/// Stretches of time.
const STRETCHES: usize = 48;
/// Blobs that are looked at in one call.
const BATCH: usize = 1024;
/// The store is looked through for its largest packages at most this often, and never for more than a hundredth of the time.
const REST: Duration = Duration::from_secs(60);

/// What the figures are read off. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct Stats {
    pub(super) registry: Registry,
    pub(super) handler: Handler,
    pub(super) store: DiskStore,
    pub(super) readiness: Readiness,
    pub(super) history: History,
    pub(super) largest: Largest,
}

/// The largest packages, as they were a moment ago.
#[derive(Clone, Default)]
pub(super) struct Largest(Arc<Mutex<Option<Looked>>>);

struct Looked {
    good_until: Instant,
    found: Vec<Value>,
}

/// The route of the figures.
pub(super) fn routes(stats: &Stats) -> Vec<Route> {
    vec![Route::waiting(Method::GET, "/admin/v1/stats", stats, |stats, _| async move {
        Answer::json(&stats.read().await?)
    })]
}

// === impl Stats ===

impl Stats {
    /// Every figure.
    pub(super) async fn read(&self) -> Result<Value, Problem> {
        let (totals, now) = (Totals::read(&self.registry), self.handler.parts().clock.now());
        let usage = self.store.usage();
        let modes = &self.handler.parts().modes;
        let lately = self.handler.lately();
        let refusals = lately.refusals();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.readiness.get(),
            "mode": modes.default_mode().as_str(),
            "feed_modes": modes.feeds().iter()
                .map(|one| json!({ "feed": one.name.to_string(), "mode": one.mode.as_str() })).collect::<Vec<_>>(),
            "hit_ratio": totals.hit_ratio(),
            "totals": totals,
            "history": self.history.stretches(STRETCHES, totals, now),
            "store": {
                "blobs": usage.blobs,
                "payload_bytes": usage.payload,
                "disk_bytes": usage.disk,
                "capacity_bytes": usage.capacity,
                "free_bytes": self.store.free_space(),
                "damaged": self.store.counts().damaged,
                "pinned": weight(&self.store, &self.store.pinned()),
            },
            "throttle": throttle(&self.handler),
            "breakers": breakers(&self.handler),
            "slowest_feeds": lately.slowest(TOLD).iter().map(feed).collect::<Vec<_>>(),
            "largest_packages": self.largest.find(self).await?,
            "refusals": refusals.iter().take(TOLD).map(|one| refusal(one, now)).collect::<Vec<_>>(),
        }))
    }
}

// === impl Largest ===

impl Largest {
    async fn find(&self, stats: &Stats) -> Result<Vec<Value>, Problem> {
        let mut looked = self.0.lock().await;
        let begin = Instant::now();
        if let Some(looked) = looked.as_ref().filter(|looked| begin < looked.good_until) {
            return Ok(looked.found.clone());
        }
        let found = largest(stats).await?;
        let good_until = Instant::now() + REST.max(begin.elapsed() * 100);
        *looked = Some(Looked { good_until, found: found.clone() });
        Ok(found)
    }
}

async fn largest(stats: &Stats) -> Result<Vec<Value>, Problem> {
    let (mut heap, mut after) = (BinaryHeap::new(), None);
    loop {
        let batch = stats.store.list(after, BATCH).await.map_err(failed)?;
        let Some((last, _)) = batch.last() else { break };
        after = Some(*last);
        for (id, stat) in batch.iter().filter(|(_, stat)| stat.kind == BlobKind::Package) {
            heap.push(Reverse((stat.length, *id)));
            if heap.len() > TOLD {
                heap.pop();
            }
        }
    }
    let ids: HashSet<StorageId> = heap.iter().map(|Reverse((_, id))| *id).collect();
    let mut names: HashMap<StorageId, String> = HashMap::new();
    for object in stats.handler.packages_of(ids).await.map_err(failed)? {
        if let Some(id) = object.id {
            names.entry(id).or_insert(object.key);
        }
    }
    let sorted = heap.into_sorted_vec();
    let tell = |Reverse((bytes, id)): &Reverse<(u64, StorageId)>| {
        let name = names.get(id);
        let key = name.and_then(|name| ObjectKey::read(name));
        json!({
            "bytes": bytes,
            "storage_id": id.to_string(),
            "key": name,
            "feed": key.map(|key| key.whole_feed()),
            "package": key.and_then(|key| key.package),
            "version": key.and_then(|key| key.version()),
        })
    };
    Ok(sorted.iter().map(tell).collect())
}

fn feed(times: &FeedTimes) -> Value {
    json!({
        "feed": times.feed,
        "requests": times.requests,
        "mean_seconds": times.mean().as_secs_f64(),
        "longest_seconds": times.longest.as_secs_f64(),
    })
}

fn refusal(refused: &Refused, now: SystemTime) -> Value {
    json!({
        "at": seconds(refused.at),
        "age": now.duration_since(refused.at).unwrap_or_default().as_secs(),
        "status": refused.status,
        "code": refused.code,
        "key": refused.key,
        "client": refused.client.map(|client| client.to_string()),
    })
}
