//! `[retry]`: how often, and for how long, a request that failed is put to the service again.

use std::time::Duration;

use super::keys::Keys;

/// `[retry]`: reads that got no answer, or a passing failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Most tries of a request that fails, the first included; 1 turns repeats off. Default 3: the usual cause, a
    /// connection that the service cycled (facts §7.4), is gone at the second, and a failure that outlives the
    /// third is an outage, in which more tries are more load. Refusals for load are not counted: they are put
    /// again when the service allows it, as long as `deadline` lets them.
    pub attempts: usize,
    /// From the first try until repeats end, for requests that come without a deadline of their own. Default 60 s:
    /// NuGet gives a request up after 100 s and npm after 300 s (facts §4.5, §7.4), and the gate's error, which
    /// says why, should be there before. The first try may take longer; it has limits of its own.
    pub deadline: Duration,
}

// === impl Retry ===

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, deadline: Duration::from_secs(60) }
    }
}

impl Retry {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let section = Self {
            attempts: keys.count("attempts", default.attempts, 1..=10),
            deadline: keys.span("deadline", default.deadline, Duration::ZERO),
        };
        keys.finish();
        section
    }
}
