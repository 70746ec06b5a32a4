//! Traces: a request's place in one, and the spans that are sent to an OpenTelemetry collector (`[trace]`, off by default).
//!
//! ```text
//!   client's traceparent ─▶ server span ─┬─▶ client span: the service      Spans ─▶ bounded queue ─▶ Export ─▶ collector
//!                           (a request)  └─▶ client span: the blob host    (drop)   when full: dropped       OTLP/HTTP
//! ```
//!
//! Whether a trace is kept is decided by who begins it: a client by the flag in its `traceparent`, the gate by
//! `trace.requests_per_trace`. A request never waits for this: a span that finds no room in the queue is dropped, a batch
//! that the collector does not take in time is lost, and both are counted.
//!
//! Only the messages of OTLP and their encoding come from the OpenTelemetry project. Its SDK is not used: its processor
//! does not tell what it drops, and its exporters bring an HTTP client and settings in variables of their own.

mod context;
mod export;
mod span;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderMap;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::mpsc;

pub use context::{TRACEPARENT, Trace};
pub use export::{Collector, Export};
pub use span::{Kind, Span, Value};

use crate::{clock::Clock, config::TraceSettings};

/// Spans that wait to be sent: at a KiB each some 4 MiB.
const MOST_WAITING: usize = 4096;

/// Where finished spans go. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct Spans {
    on: Option<Arc<On>>,
}

/// What there is when spans are exported.
struct On {
    queue: mpsc::Sender<otlp::Span>,
    requests_per_trace: usize,
    requests: AtomicUsize,
    counts: Counts,
    clock: Clock,
}

/// What became of spans.
#[derive(Clone)]
struct Counts(IntCounterVec);

// === impl Spans ===

impl Spans {
    /// Spans as `settings` have it, and what sends them; none when they are not exported.
    ///
    /// # Errors
    /// When `feedgate_trace_spans_total` is registered already.
    pub fn new(
        settings: &TraceSettings,
        clock: &Clock,
        registry: &Registry,
    ) -> Result<(Self, Option<Export>), prometheus::Error> {
        let counts = Counts::new(registry)?;
        if settings.endpoint.is_none() {
            return Ok((Self::default(), None));
        }
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let on = On {
            queue,
            requests_per_trace: settings.requests_per_trace,
            requests: AtomicUsize::new(0),
            counts: counts.clone(),
            clock: clock.clone(),
        };
        Ok((Self { on: Some(Arc::new(on)) }, Some(Export::new(waiting, counts, settings))))
    }

    /// The place of a request that came with `headers`: in the client's trace, or in a new one if spans are exported.
    pub fn of(&self, headers: &HeaderMap) -> Option<Trace> {
        Trace::of(headers).or_else(|| self.begin())
    }

    /// The place of a request that is part of no trace: the first of a new one if spans are exported.
    pub fn begin(&self) -> Option<Trace> {
        let on = self.on.as_ref()?;
        let sampled = on.requests_per_trace > 0
            && on.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(on.requests_per_trace);
        Some(Trace::begin(sampled))
    }

    /// The span at `trace`, begun now; none when nobody will see it.
    pub fn span(&self, trace: Trace, kind: Kind, name: impl FnOnce() -> String) -> Option<Span> {
        (self.on.is_some() && trace.is_sampled()).then(|| Span::new(self.clone(), trace, kind, name()))
    }

    /// Puts a finished span into the queue, if there is room.
    fn push(&self, span: impl FnOnce(&Clock) -> otlp::Span) {
        let Some(on) = &self.on else { return };
        match on.queue.try_reserve() {
            Ok(room) => room.send(span(&on.clock)),
            Err(_) => on.counts.add("dropped", 1),
        }
    }
}

// === impl Counts ===

impl Counts {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "feedgate_trace_spans_total",
            "Spans for the OpenTelemetry collector, by what became of them.",
        );
        let counts = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(counts.clone()))?;
        for outcome in ["exported", "dropped", "failed"] {
            counts.with_label_values(&[outcome]).inc_by(0);
        }
        Ok(Self(counts))
    }

    fn add(&self, outcome: &'static str, spans: usize) {
        self.0.with_label_values(&[outcome]).inc_by(spans as u64);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use prometheus::Registry;

    use super::{Kind, MOST_WAITING, Spans, TRACEPARENT};
    use crate::{clock::Clock, config::TraceSettings};

    fn spans(requests_per_trace: usize) -> (Spans, Option<super::Export>, Registry) {
        let endpoint = Some("http://127.0.0.1:4318".parse().unwrap());
        let settings = TraceSettings { endpoint, requests_per_trace, ..TraceSettings::default() };
        let registry = Registry::new();
        let (spans, export) = Spans::new(&settings, &Clock::system(), &registry).unwrap();
        (spans, export, registry)
    }

    fn dropped(registry: &Registry) -> String {
        let family = registry.gather().remove(0);
        let of = |metric: &prometheus::proto::Metric| metric.get_label()[0].get_value() == "dropped";
        family.get_metric().iter().find(|metric| of(metric)).unwrap().get_counter().get_value().to_string()
    }

    #[test]
    fn what_finds_no_room_is_dropped_at_once_and_counted() {
        let (spans, export, registry) = spans(1);
        for sent in [MOST_WAITING, 7] {
            for _ in 0..sent {
                drop(spans.span(spans.begin().unwrap(), Kind::Server, String::new).unwrap());
            }
        }
        assert_eq!(dropped(&registry), "7");
        drop(export);
        drop(spans.span(spans.begin().unwrap(), Kind::Server, String::new));
        assert_eq!(dropped(&registry), "8");
    }

    #[test]
    fn one_in_so_many_traces_that_begin_here_is_sampled_and_a_client_decides_of_its_own() {
        for (requests_per_trace, expected) in [(1, 12), (3, 4), (0, 0)] {
            let (spans, _export, _) = spans(requests_per_trace);
            let sampled = (0..12).filter(|_| spans.begin().unwrap().is_sampled()).count();
            assert_eq!(sampled, expected, "{requests_per_trace}");
            for flags in ["00", "01"] {
                let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
                let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::try_from(text).unwrap())]);
                let seen = spans.span(spans.of(&headers).unwrap(), Kind::Server, String::new);
                assert_eq!(seen.is_some(), flags == "01");
            }
        }
    }

    #[test]
    fn without_a_collector_only_clients_begin_traces_and_nothing_is_kept() {
        let (spans, export) =
            Spans::new(&TraceSettings::default(), &Clock::system(), &Registry::new()).unwrap();
        assert!(export.is_none() && spans.begin().is_none() && spans.of(&HeaderMap::new()).is_none());
        assert!(spans.span(super::Trace::begin(true), Kind::Server, String::new).is_none());
    }
}
