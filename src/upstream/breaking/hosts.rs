//! What operators see of the breakers, and how they overrule them.

use std::time::Duration;

use prometheus::{
    IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::time::Instant;

use super::{Breaker, BreakerState, Breaks, Host, HostClass, Transition};

/// What is thought of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// Its name and port.
    pub host: String,
    /// Its kind.
    pub class: HostClass,
    /// Its breaker's state.
    pub state: BreakerState,
    /// How long it is not asked yet.
    pub barred: Option<Duration>,
}

/// `feedgate_breaker_state`, as of when it is asked for: a breaker whose time is up tells nobody.
pub(super) struct StateGauge {
    breaks: Breaks,
    gauge: IntGaugeVec,
}

// === impl StateGauge ===

impl StateGauge {
    /// Registers the metric; fails if it is registered already.
    pub(super) fn register(registry: &Registry, breaks: &Breaks) -> Result<(), prometheus::Error> {
        let opts = Opts::new(
            "feedgate_breaker_state",
            "Worst breaker of the hosts of a kind: 0 closed, 1 half open, 2 open",
        );
        let gauge = IntGaugeVec::new(opts, &["host_class"])?;
        registry.register(Box::new(Self { breaks: breaks.clone(), gauge }))
    }
}

impl Collector for StateGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let hosts = self.breaks.list();
        for class in HostClass::ALL {
            let of_class = hosts.iter().filter(|host| host.class == class);
            let worst = of_class.map(|host| severity(host.state)).max().unwrap_or_default();
            self.gauge.with_label_values(&[class.as_str()]).set(worst);
        }
        self.gauge.collect()
    }
}

// === impl Breaks ===

impl Breaks {
    /// Every host that was asked lately, in the order of their names. What nobody asked about for long is forgotten.
    pub fn list(&self) -> Vec<HostState> {
        let (mut state, now) = (self.shared.state.lock(), Instant::now());
        for (host, from) in state.breakers.forget(now) {
            state.trouble.remove(&host);
            let transition = Transition { from, to: BreakerState::Closed, failures: 0 };
            self.tell(&host, Some(transition), "nobody has asked for it for long");
        }
        let mut hosts: Vec<_> = state
            .breakers
            .iter()
            .map(|(host, breaker)| HostState {
                host: host.authority.clone(),
                class: host.class,
                state: breaker,
                barred: state.barred(host, now),
            })
            .collect();
        hosts.sort_by(|one, other| (one.class as usize, &one.host).cmp(&(other.class as usize, &other.host)));
        hosts
    }

    /// Takes hosts for alive again, all of them or those with this authority; how many were not.
    pub fn reset(&self, authority: Option<&str>) -> usize {
        let mut state = self.shared.state.lock();
        let meant = |host: &&Host| authority.is_none_or(|wanted| host.authority == wanted);
        let hosts: Vec<_> = state.breakers.iter().map(|(host, _)| host).filter(meant).cloned().collect();
        let mut dead = 0;
        for host in hosts {
            let from = state.breakers.peek(&host).map_or(BreakerState::Closed, Breaker::state);
            state.breakers.reset(&host);
            state.trouble.remove(&host);
            if from != BreakerState::Closed {
                dead += 1;
                let transition = Transition { from, to: BreakerState::Closed, failures: 0 };
                self.tell(&host, Some(transition), "an operator says that it is back");
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
        dead
    }
}

fn severity(state: BreakerState) -> i64 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open { .. } => 2,
    }
}
