//! What operators see of the breakers, and how they overrule them.

use std::time::Duration;

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

// === impl Breaks ===

impl Breaks {
    /// Every host that was asked lately, in the order of their names.
    pub fn list(&self) -> Vec<HostState> {
        let (state, now) = (self.shared.state.lock(), Instant::now());
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
                self.tell(&state, &host, Some(transition), "an operator says that it is back");
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
        dead
    }
}
