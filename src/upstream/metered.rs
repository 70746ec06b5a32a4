//! [`Metered`]: counts what goes to the service and how it ends.
//!
//! An exchange is counted once, when it is over: at the end of the body, at an error, or when it is given
//! up. So a download that breaks after its 200 counts as broken and not as a success.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};
use tokio::time::Instant;

use super::{BodyStream, Phase, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse};
use crate::throttle::Class;

/// Upper bounds of the duration buckets in seconds: from a hit in the next rack to the service's 30 s delays
/// and the download of a large package.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// An upstream whose exchanges are counted.
pub struct Metered<U> {
    inner: U,
    metrics: Arc<Metrics>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Redirect,
    ClientError,
    Throttled,
    ServerError,
    OtherStatus,
    Connect,
    Timeout,
    Broken,
    Shed,
    Dead,
    Refused,
    Abandoned,
}

struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    bytes: IntCounterVec,
    in_flight: IntGaugeVec,
}

/// One exchange; counted when it is dropped.
struct Exchange {
    metrics: Arc<Metrics>,
    class: Class,
    start: Instant,
    outcome: Outcome,
}

struct MeteredBody {
    inner: Box<dyn BodyStream>,
    ended: Outcome,
    exchange: Option<Exchange>,
}

// === impl Metered ===

impl<U> Metered<U> {
    /// Registers the metrics `feedgate_upstream_*`; fails if they are registered already.
    pub fn new(inner: U, registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self { inner, metrics: Arc::new(Metrics::new(registry)?) })
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Metered<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let mut exchange = Exchange::new(&self.metrics, request.target.class());
        match self.inner.fetch(request).await {
            Ok(mut response) => {
                exchange.observe("head");
                let ended = Outcome::of_status(response.status);
                // Until the end of the body is seen, the exchange counts as given up. A head that has no
                // body to wait for (a redirect, mostly) is decided now.
                exchange.outcome = if ended == Outcome::Success { Outcome::Abandoned } else { ended };
                response.body =
                    Box::new(MeteredBody { inner: response.body, ended, exchange: Some(exchange) });
                Ok(response)
            }
            Err(error) => {
                exchange.outcome = Outcome::of_error(&error);
                Err(error)
            }
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Redirect => "redirect",
            Self::ClientError => "client_error",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::OtherStatus => "other_status",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Shed => "shed",
            Self::Dead => "dead",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }

    fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            429 | 503 => Self::Throttled,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::OtherStatus,
        }
    }

    fn of_error(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Connect { .. } | UpstreamError::Timeout { phase: Phase::Connect, .. } => {
                Self::Connect
            }
            UpstreamError::Timeout { .. } => Self::Timeout,
            UpstreamError::Shed(_) => Self::Shed,
            UpstreamError::Dead { .. } => Self::Dead,
            UpstreamError::Request(_) | UpstreamError::Redirect(_) => Self::Refused,
            UpstreamError::Broken { .. }
            | UpstreamError::Head { .. }
            | UpstreamError::Length { .. }
            | UpstreamError::TooLarge { .. }
            | UpstreamError::Encoding(_)
            | UpstreamError::Link { .. }
            | UpstreamError::Download { .. } => Self::Broken,
        }
    }
}

// === impl Metrics ===

impl Metrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new(
            "feedgate_upstream_requests_total",
            "Requests to the service, by kind of host and by how they ended.",
        );
        let seconds = HistogramOpts::new(
            "feedgate_upstream_request_duration_seconds",
            "Time from asking (with the wait for a permit) to the head of the answer and to its whole.",
        );
        let bytes =
            Opts::new("feedgate_upstream_received_bytes_total", "Body bytes received from the service.");
        let in_flight = Opts::new(
            "feedgate_upstream_in_flight",
            "Requests to the service that are not over, those that wait for a permit included.",
        );
        let seconds = seconds.buckets(SECONDS.to_vec());
        Ok(Self {
            requests: registered(registry, IntCounterVec::new(requests, &["host_class", "outcome"])?)?,
            seconds: registered(registry, HistogramVec::new(seconds, &["host_class", "phase"])?)?,
            bytes: registered(registry, IntCounterVec::new(bytes, &["host_class"])?)?,
            in_flight: registered(registry, IntGaugeVec::new(in_flight, &["host_class"])?)?,
        })
    }
}

// === impl Exchange ===

impl Exchange {
    fn new(metrics: &Arc<Metrics>, class: Class) -> Self {
        metrics.in_flight.with_label_values(&[class.as_str()]).inc();
        Self { metrics: Arc::clone(metrics), class, start: Instant::now(), outcome: Outcome::Abandoned }
    }

    fn observe(&self, phase: &'static str) {
        let seconds = self.metrics.seconds.with_label_values(&[self.class.as_str(), phase]);
        seconds.observe(self.start.elapsed().as_secs_f64());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.observe("whole");
        let class = self.class.as_str();
        self.metrics.requests.with_label_values(&[class, self.outcome.as_str()]).inc();
        self.metrics.in_flight.with_label_values(&[class]).dec();
    }
}

// === impl MeteredBody ===

#[async_trait]
impl BodyStream for MeteredBody {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let next = self.inner.next().await;
        let outcome = match &next {
            Ok(Some(bytes)) => {
                if let Some(exchange) = &self.exchange {
                    let received = exchange.metrics.bytes.with_label_values(&[exchange.class.as_str()]);
                    received.inc_by(bytes.len() as u64);
                }
                return next;
            }
            Ok(None) => self.ended,
            Err(error) => Outcome::of_error(error),
        };
        if let Some(mut exchange) = self.exchange.take() {
            exchange.outcome = outcome;
        }
        next
    }
}

/// How an exchange ended that failed so.
pub(super) fn ended_by(error: &UpstreamError) -> &'static str {
    Outcome::of_error(error).as_str()
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
