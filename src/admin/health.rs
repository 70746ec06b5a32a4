//! `/metrics`, `/livez` and `/readyz`: for Prometheus and for probes, without a token.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{Method, StatusCode};
use prometheus::{Registry, TextEncoder};

use super::{
    exchange::{Answer, PLAIN, Request},
    figures::Figures,
    problem::Problem,
    router::Route,
};

/// Media type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the gate takes requests.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

/// All metrics, and the gauges that are read off when somebody looks.
pub(super) type Metrics = (Registry, Arc<Figures>);

// === impl Readiness ===

impl Readiness {
    /// Says whether requests are taken.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether requests are taken.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The routes of health and metrics.
pub(super) fn routes(metrics: &Metrics, readiness: &Readiness) -> Vec<Route> {
    let alive = |(), _: &Request| Ok(Answer::text(PLAIN, "alive\n"));
    vec![
        Route::new(Method::GET, "/metrics", metrics, show_metrics).open(),
        Route::new(Method::GET, "/livez", &(), alive).open(),
        Route::new(Method::GET, "/readyz", readiness, |readiness, _| Ok(ready(&readiness))).open(),
    ]
}

fn show_metrics((registry, figures): Metrics, _: &Request) -> Result<Answer, Problem> {
    figures.refresh();
    let text = TextEncoder::new().encode_to_string(&registry.gather());
    text.map(|text| Answer::text(METRICS, text)).map_err(|error| Problem::internal(&error))
}

fn ready(readiness: &Readiness) -> Answer {
    if readiness.get() {
        Answer::text(PLAIN, "ready\n")
    } else {
        Answer::text(PLAIN, "draining\n").with_status(StatusCode::SERVICE_UNAVAILABLE)
    }
}
