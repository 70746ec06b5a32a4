//! Metrics of the edge: what clients asked and got, and what of it the service did not have to give.

use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::{context::RequestContext, passage::Unchanged};
use crate::handler::{CacheStatus, RouteClass};

/// Buckets of request durations in seconds: a memory hit takes well under a millisecond, the slowest
/// documented packument 32 s (facts §3.1).
const DURATIONS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Counters of the edge.
#[derive(Clone)]
pub struct EdgeMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    sent: IntCounterVec,
    saved_bytes: IntCounterVec,
    saved_requests: IntCounterVec,
    in_flight: IntGauge,
    unchanged: IntCounterVec,
}

/// The counters of requests that are alike in all that is told apart. Looking them up takes longer than to count.
pub struct Tally {
    requests: IntCounter,
    duration: Histogram,
    sent: IntCounter,
    saved: Option<Saved>,
}

/// Of those, what they saved the service.
struct Saved {
    bytes: IntCounter,
    requests: IntCounter,
    /// Of one.
    each: u64,
}

/// Where the bytes of an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The store.
    Cache,
    /// What the service sent for another request.
    Shared,
    /// What the service sent for this one.
    Upstream,
    /// The gate itself.
    Gate,
}

/// A request being answered, counted until this is dropped: also when its task panics or is cut off.
pub struct InFlight(IntGauge);

// === impl EdgeMetrics ===

impl EdgeMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["class", "cache", "tier", "status"];
        let requests = IntCounterVec::new(
            Opts::new(
                "feedgate_requests_total",
                "Requests answered, by class, cache result, tier and status class",
            ),
            &labels,
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "feedgate_request_duration_seconds",
                "From the request's head to the answer's end",
            )
            .buckets(DURATIONS.to_vec()),
            &["class", "cache"],
        )?;
        let counter =
            |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["class", "source"]);
        let sent =
            counter("feedgate_sent_bytes_total", "Body bytes sent to clients, by where they came from")?;
        let saved_bytes = counter(
            "feedgate_saved_bytes_total",
            "Body bytes sent to clients that the service did not have to send for it",
        )?;
        let saved_requests = counter(
            "feedgate_saved_upstream_requests_total",
            "Requests that clients alone would have made to the service and the gate did not: a package takes two",
        )?;
        let in_flight = IntGauge::new("feedgate_requests_in_flight", "Requests being answered")?;
        let unchanged = IntCounterVec::new(
            Opts::new(
                "feedgate_unrewritten_answers_total",
                "Forwarded answers that may hold URLs of the service, by why they were not rewritten",
            ),
            &["reason"],
        )?;
        for reason in Unchanged::LABELS {
            unchanged.with_label_values(&[reason]).inc_by(0);
        }
        registry.register(Box::new(unchanged.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(sent.clone()))?;
        registry.register(Box::new(saved_bytes.clone()))?;
        registry.register(Box::new(saved_requests.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, duration, sent, saved_bytes, saved_requests, in_flight, unchanged })
    }

    /// Requests being answered.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// A request begins.
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A forwarded answer that may hold URLs of the service went on as it is.
    pub fn unchanged(&self, reason: Unchanged) {
        self.unchanged.with_label_values(&[reason.as_str()]).inc();
    }

    /// A request ended. Its status is `none` when the connection broke before a head was sent.
    pub fn ended(&self, context: &RequestContext) {
        self.tally(context).ended(context);
    }

    /// What counts requests that are answered as this one is.
    pub fn tally(&self, context: &RequestContext) -> Tally {
        let (class, cache) = (context.class.as_str(), context.cache.label());
        let labels = [class, cache, context.tier, status_class(context.status)];
        let source = Source::of(context.cache, context.tier);
        let of_source = [class, source.as_str()];
        let saved = matches!(source, Source::Cache | Source::Shared).then(|| Saved {
            bytes: self.saved_bytes.with_label_values(&of_source),
            requests: self.saved_requests.with_label_values(&of_source),
            each: saved_requests(context),
        });
        Tally {
            requests: self.requests.with_label_values(&labels),
            duration: self.duration.with_label_values(&[class, cache]),
            sent: self.sent.with_label_values(&of_source),
            saved,
        }
    }
}

// === impl Tally ===

impl Tally {
    /// A request ended.
    pub fn ended(&self, context: &RequestContext) {
        self.requests.inc();
        self.duration.observe(context.started.elapsed().as_secs_f64());
        self.sent.inc_by(context.sent);
        if let Some(Saved { bytes, requests, each }) = &self.saved {
            bytes.inc_by(context.sent);
            requests.inc_by(*each);
        }
    }
}

// === impl Source ===

impl Source {
    fn of(cache: CacheStatus, tier: &str) -> Self {
        match cache {
            CacheStatus::Local => Self::Gate,
            cache if cache.is_hit() => Self::Cache,
            // The service said where the bytes are, and they were here.
            _ if matches!(tier, "memory" | "database" | "file") => Self::Cache,
            cache if cache.is_collapsed() => Self::Shared,
            _ => Self::Upstream,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Shared => "shared",
            Self::Upstream => "upstream",
            Self::Gate => "gate",
        }
    }
}

// === impl InFlight ===

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What the client would have asked the service for this answer, less what the gate asked: a package is two requests,
/// one for the place of its bytes and one for the bytes.
fn saved_requests(context: &RequestContext) -> u64 {
    let reads = matches!(context.method, Method::GET | Method::HEAD);
    if !reads
        || context.status.is_none_or(|status| !status.is_success() && status != StatusCode::NOT_MODIFIED)
    {
        return 0;
    }
    let alone = match context.class {
        RouteClass::NpmPackage | RouteClass::NugetPackage => 2,
        RouteClass::Document(_) | RouteClass::Derived => 1,
        RouteClass::Audit | RouteClass::Passthrough | RouteClass::Mount | RouteClass::Unknown => 0,
    };
    let asked = u64::from(!context.cache.is_hit() && !context.cache.is_collapsed());
    alone - asked.min(alone)
}

fn status_class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use prometheus::{Registry, TextEncoder};

    use super::EdgeMetrics;
    use crate::{
        handler::{CacheStatus, RouteClass},
        proxy::{Outflow, RequestContext},
        route::DocumentClass,
    };

    /// How an answer came about, and the samples of bytes and requests that it adds to.
    #[test]
    fn what_the_service_did_not_have_to_give_is_saved() {
        let package = RouteClass::NpmPackage;
        let document = RouteClass::Document(DocumentClass::Packument);
        let (hit, own) = (CacheStatus::Hit { ttl: None }, CacheStatus::Miss { collapsed: false });
        let (joined, located) =
            (CacheStatus::Miss { collapsed: true }, CacheStatus::Refreshed { collapsed: false });
        let rows = [
            (package, hit, "memory", 200, "cache", 100, 2),
            (package, hit, "filling", 206, "cache", 100, 2),
            (package, located, "file", 200, "cache", 100, 1),
            (package, joined, "filling", 200, "shared", 100, 2),
            (package, own, "filling", 200, "upstream", 0, 0),
            (document, hit, "memory", 304, "cache", 100, 1),
            (document, CacheStatus::StaleOnError { ttl: -1 }, "memory", 200, "cache", 100, 1),
            (document, joined, "none", 200, "shared", 100, 1),
            (document, own, "none", 200, "upstream", 0, 0),
            (document, CacheStatus::Local, "none", 404, "gate", 0, 0),
            (document, hit, "memory", 416, "cache", 100, 0),
            (RouteClass::Passthrough, CacheStatus::Bypass, "none", 200, "upstream", 0, 0),
        ];
        for (class, cache, tier, status, source, bytes, requests) in rows {
            let registry = Registry::new();
            let metrics = EdgeMetrics::new(&registry).unwrap();
            let mut context = RequestContext::new(metrics.begin(), Outflow::default());
            (context.method, context.class, context.cache, context.tier) = (Method::GET, class, cache, tier);
            (context.status, context.sent) = (StatusCode::from_u16(status).ok(), 100);
            metrics.ended(&context);
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            let labels = format!("{{class=\"{}\",source=\"{source}\"}}", class.as_str());
            let sample = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{labels} ")));
                line.map_or(0, |value| value.parse::<u64>().unwrap())
            };
            let row = format!("{class:?} {cache:?} {tier}");
            assert_eq!(sample("feedgate_sent_bytes_total"), 100, "{row}");
            assert_eq!(sample("feedgate_saved_bytes_total"), bytes, "{row}");
            assert_eq!(sample("feedgate_saved_upstream_requests_total"), requests, "{row}");
        }
    }
}
