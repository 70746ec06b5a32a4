//! Metrics of the edge: what clients asked and got.

use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use super::{context::RequestContext, passage::Unchanged};

/// Buckets of request durations in seconds: a memory hit takes well under a millisecond, the slowest
/// documented packument 32 s (facts §3.1).
const DURATIONS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Counters of the edge.
#[derive(Clone)]
pub struct EdgeMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    sent: IntCounterVec,
    in_flight: IntGauge,
    unchanged: IntCounterVec,
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
        let sent = IntCounterVec::new(
            Opts::new("feedgate_sent_bytes_total", "Body bytes sent to clients, by where they came from"),
            &["class", "source"],
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
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, duration, sent, in_flight, unchanged })
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
        let (class, cache) = (context.class.as_str(), context.cache.label());
        let labels = [class, cache, context.tier, status_class(context.status)];
        self.requests.with_label_values(&labels).inc();
        self.duration.with_label_values(&[class, cache]).observe(context.started.elapsed().as_secs_f64());
        let source = if context.cache.is_hit() { "cache" } else { "upstream" };
        self.sent.with_label_values(&[class, source]).inc_by(context.sent);
    }
}

// === impl InFlight ===

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
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
