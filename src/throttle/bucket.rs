//! A token bucket as one instant: when the next token would be due if none had been saved up.
//!
//! Waiting is not here: [`Bucket::ready_at`] says when, the caller waits. Written as a virtual schedule
//! (GCRA), because that needs no ticking and cannot drift:
//!
//! ```text
//!   burst 3, one token per τ      now may lie up to (burst − 1)·τ before `due`
//!        now          due
//!   ──────┼──τ──┼──τ──┼──τ──▶    take: due := max(due, now) + τ
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// Share of an interval that a token may be taken early. Timers are late by up to a millisecond; without
/// this, all their lateness would be lost rate. The long-run rate is not touched by it.
const SLACK: f64 = 1.0 / 16.0;
/// Longest interval between two tokens; a rate below it means the same.
const LONGEST_INTERVAL: f64 = 3600.0;

/// How fast tokens come, and how many can be saved up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Tokens per second; above 0.
    pub per_second: f64,
    /// Tokens that can be taken at once after a rest; at least 1.
    pub burst: f64,
}

/// A token bucket; full at first.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    due: Option<Instant>,
}

// === impl Pace ===

impl Pace {
    fn interval(self) -> f64 {
        (1.0 / self.per_second.max(f64::MIN_POSITIVE)).min(LONGEST_INTERVAL)
    }
}

// === impl Bucket ===

impl Bucket {
    /// When a token can be taken, not before `now`.
    pub fn ready_at(&self, pace: Pace, now: Instant) -> Instant {
        let early = Duration::from_secs_f64(pace.interval() * ((pace.burst - 1.0).max(0.0) + SLACK));
        self.due.and_then(|due| due.checked_sub(early)).map_or(now, |ready| ready.max(now))
    }

    /// Takes `amount` tokens, ready or not; a debt puts off the next one.
    pub fn take(&mut self, pace: Pace, amount: f64, now: Instant) {
        let cost = Duration::from_secs_f64(pace.interval() * amount.max(0.0));
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Instants at which `count` tokens are taken by somebody who always wants one.
    fn taken(pace: Pace, count: usize, late: impl Fn(usize) -> Duration) -> Vec<Duration> {
        let start = Instant::now();
        let (mut bucket, mut now) = (Bucket::default(), start);
        let mut taken = Vec::new();
        for turn in 0..count {
            let ready = bucket.ready_at(pace, now);
            now = if ready > now { ready + late(turn) } else { now };
            bucket.take(pace, 1.0, now);
            taken.push(now - start);
        }
        taken
    }

    #[test]
    fn a_rest_saves_up_the_burst_and_no_more() {
        let pace = Pace { per_second: 10.0, burst: 3.0 };
        let taken = taken(pace, 5, |_| Duration::ZERO);
        assert_eq!(taken[..3], [Duration::ZERO; 3]);
        assert!(taken[3] >= Duration::from_millis(90) && taken[4] >= Duration::from_millis(190), "{taken:?}");
    }

    #[test]
    fn late_timers_cost_no_rate() {
        let pace = Pace { per_second: 50.0, burst: 1.0 };
        let last = *taken(pace, 501, |_| Duration::from_millis(1)).last().unwrap();
        assert!(last <= Duration::from_secs_f64(10.01), "{last:?}");
    }

    #[test]
    fn a_debt_puts_off_the_next_token() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        let pace = Pace { per_second: 1000.0, burst: 100.0 };
        bucket.take(pace, 1100.0, now);
        let wait = bucket.ready_at(pace, now) - now;
        assert!(wait > Duration::from_secs(1) && wait < Duration::from_millis(1002), "{wait:?}");
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_burst_and_the_rate(
            per_second in 0.5_f64..500.0,
            burst in 1_u32..40,
            late in prop::collection::vec(0_u64..30, 200),
        ) {
            let pace = Pace { per_second, burst: f64::from(burst) };
            let taken = taken(pace, 200, |turn| Duration::from_millis(late[turn]));
            for (first, from) in taken.iter().enumerate() {
                for (count, until) in (0_u32..).zip(&taken[first..]).step_by(7) {
                    let span = until.as_secs_f64() - from.as_secs_f64();
                    let most = pace.burst + SLACK + per_second * span + 1e-6;
                    prop_assert!(f64::from(count) <= most, "{count} within {span}");
                }
            }
        }
    }
}
