//! Metrics of the throttle, read off when `/metrics` is asked for.
//!
//! There are none per identity: identities are as many as callers. What is told of them is the tightest limit that
//! any of them has.

use prometheus::{
    GaugeVec, Opts, Registry,
    core::{AtomicF64, Collector, Desc, GenericCounterVec},
    proto::MetricFamily,
};

use crate::throttle::{
    Class, Counters, Priority, ShedReason, SignalKind, Snapshot, Throttle, budget::BudgetFigures,
};

/// Makes metrics of a throttle's figures.
pub struct Load {
    throttle: Throttle,
    /// What `figures` and `totals` are described by.
    descriptions: Vec<Desc>,
}

/// One collection: every sample is set once and given away.
struct Sheet {
    in_flight: GaugeVec,
    in_flight_limit: GaugeVec,
    rate_limit: GaugeVec,
    remaining: GaugeVec,
    pause: GaugeVec,
    queued: GaugeVec,
    identities: GaugeVec,
    granted: CounterVec,
    waited: CounterVec,
    shed: CounterVec,
    shed_for: CounterVec,
    signals: CounterVec,
    pauses: CounterVec,
    absorbed: CounterVec,
}

type CounterVec = GenericCounterVec<AtomicF64>;

// === impl Load ===

impl Load {
    /// Registers the metrics `feedgate_throttle_*`; fails if they are registered already.
    pub fn register(registry: &Registry, throttle: Throttle) -> Result<(), prometheus::Error> {
        let sheet = Sheet::new()?;
        let descriptions = sheet.collectors().into_iter().flat_map(Collector::desc).cloned().collect();
        registry.register(Box::new(Self { throttle, descriptions }))
    }
}

impl Collector for Load {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same sheet could be made before, so it can be made now.
        let Ok(sheet) = Sheet::new() else { return Vec::new() };
        sheet.fill(&self.throttle.snapshot());
        sheet.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

// === impl Sheet ===

impl Sheet {
    fn new() -> Result<Self, prometheus::Error> {
        let (scope, one) = (["host_class", "budget"], ["host_class"]);
        let (waits, kind) = (["host_class", "priority"], ["host_class", "kind"]);
        Ok(Self {
            in_flight: gauge("in_flight", "Requests in flight: the gate's, the busiest identity's", &scope)?,
            in_flight_limit: gauge(
                "in_flight_limit",
                "How many there may be now; the lowest of all",
                &scope,
            )?,
            rate_limit: gauge("requests_per_second_limit", "Requests per second that may leave now", &scope)?,
            remaining: gauge("remaining", "What the service said is left; the least of all", &scope)?,
            pause: gauge("pause_seconds", "How long nothing is sent yet; the longest of all", &scope)?,
            queued: gauge("queue_length", "Requests that wait for a permit", &waits)?,
            identities: gauge(
                "identities",
                "Upstream identities, and blob hosts: known, and paused now",
                &["host_class", "state"],
            )?,
            granted: counter("granted_total", "Permits given", &waits)?,
            waited: counter(
                "queue_wait_seconds_total",
                "Time that the requests with a permit waited",
                &waits,
            )?,
            shed: counter("shed_total", "Requests that got no permit", &waits)?,
            shed_for: counter("shed_reasons_total", "The same, by reason", &["host_class", "reason"])?,
            signals: counter("signals_total", "What answers said about load", &kind)?,
            pauses: counter("pauses_total", "Pauses begun or made longer", &one)?,
            absorbed: counter(
                "retry_after_seconds_total",
                "Pauses that the service asked for and clients \
                did not see as refusals",
                &one,
            )?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 14] {
        [
            &self.in_flight,
            &self.in_flight_limit,
            &self.rate_limit,
            &self.remaining,
            &self.pause,
            &self.queued,
            &self.identities,
            &self.granted,
            &self.waited,
            &self.shed,
            &self.shed_for,
            &self.signals,
            &self.pauses,
            &self.absorbed,
        ]
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn fill(&self, snapshot: &Snapshot) {
        for class in Class::ALL {
            let (index, name) = (class as usize, class.as_str());
            self.budget(&[name, "gate"], &snapshot.gate[index]);
            if snapshot.known[index] > 0 {
                self.budget(&[name, "identity"], &snapshot.tightest[index]);
            }
            self.identities.with_label_values(&[name, "known"]).set(snapshot.known[index] as f64);
            self.identities.with_label_values(&[name, "paused"]).set(snapshot.paused[index] as f64);
            for priority in Priority::ALL {
                let queued = snapshot.queued[index][priority as usize] as f64;
                self.queued.with_label_values(&[name, priority.as_str()]).set(queued);
            }
            self.count(class, &snapshot.counters);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn budget(&self, labels: &[&str; 2], figures: &BudgetFigures) {
        self.in_flight.with_label_values(labels).set(figures.in_flight as f64);
        self.in_flight_limit.with_label_values(labels).set(figures.in_flight_limit as f64);
        self.pause.with_label_values(labels).set(figures.pause_left.as_secs_f64());
        if let Some(rate) = figures.rate_limit {
            self.rate_limit.with_label_values(labels).set(rate);
        }
        if let Some((remaining, _)) = figures.remaining {
            self.remaining.with_label_values(labels).set(remaining);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn count(&self, class: Class, counters: &Counters) {
        let (index, name) = (class as usize, class.as_str());
        let add = |counter: &CounterVec, label: &str, value: f64| {
            counter.with_label_values(&[name, label]).inc_by(value);
        };
        for priority in Priority::ALL {
            let (of, label) = (priority as usize, priority.as_str());
            add(&self.granted, label, counters.granted[index][of] as f64);
            add(&self.waited, label, counters.waited[index][of].as_secs_f64());
            add(&self.shed, label, counters.shed[index][of] as f64);
        }
        for reason in ShedReason::ALL {
            add(&self.shed_for, reason.as_str(), counters.shed_for[index][reason as usize] as f64);
        }
        for kind in SignalKind::ALL {
            add(&self.signals, kind.as_str(), counters.signals[index][kind as usize] as f64);
        }
        self.pauses.with_label_values(&[name]).inc_by(counters.pauses[index] as f64);
        self.absorbed.with_label_values(&[name]).inc_by(counters.absorbed[index].as_secs_f64());
    }
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
    GaugeVec::new(Opts::new(format!("feedgate_throttle_{name}"), help), labels)
}

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<CounterVec, prometheus::Error> {
    CounterVec::new(Opts::new(format!("feedgate_throttle_{name}"), help), labels)
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::Load;
    use crate::throttle::{Ask, Client, Identity, Limits, Throttle};

    #[tokio::test]
    async fn every_figure_is_told_once_and_without_identities() {
        let (registry, throttle) = (Registry::new(), Throttle::new(&Limits::default()));
        Load::register(&registry, throttle.clone()).unwrap();
        assert!(Load::register(&registry, throttle.clone()).is_err());
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(!text().contains("budget=\"identity\""), "there is none yet");
        let _permit = throttle.acquire(&Ask::document(Identity::new(7), Client::new(1))).await.unwrap();
        let text = text();
        for line in [
            "feedgate_throttle_in_flight{budget=\"gate\",host_class=\"api\"} 1",
            "feedgate_throttle_in_flight{budget=\"identity\",host_class=\"api\"} 1",
            "feedgate_throttle_in_flight{budget=\"gate\",host_class=\"blob\"} 0",
            "feedgate_throttle_granted_total{host_class=\"api\",priority=\"document\"} 1",
            "feedgate_throttle_shed_total{host_class=\"api\",priority=\"warm_up\"} 0",
            "feedgate_throttle_shed_reasons_total{host_class=\"blob\",reason=\"abandoned\"} 0",
            "feedgate_throttle_signals_total{host_class=\"api\",kind=\"refused\"} 0",
            "feedgate_throttle_retry_after_seconds_total{host_class=\"api\"} 0",
            "feedgate_throttle_identities{host_class=\"api\",state=\"known\"} 1",
        ] {
            assert_eq!(text.lines().filter(|own| *own == line).count(), 1, "{line}\n{text}");
        }
    }
}
