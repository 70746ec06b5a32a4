//! The budget as the service tells it, made into a rate that lasts until it is filled up again.
//!
//! The service counts in units of its own (TSTU, facts §7.1), so what one request costs is learned from how
//! fast the number falls.

use std::time::Duration;

use tokio::time::Instant;

use super::signal::Told;

/// Share of the limit below which the gate starts to spread what is left.
const TIGHT: f64 = 0.5;
/// Share of what is left that is spent.
const SPENT: f64 = 0.95;
/// When no reset is told: the service's window (facts §7.1).
const WINDOW: Duration = Duration::from_secs(300);
/// Two resets this close are the same one.
const SAME_RESET: Duration = Duration::from_secs(2);
/// Weight of a new observation of the cost.
const WEIGHT: f64 = 0.2;
/// Cost before anything is known, and the least that is assumed.
const FIRST_COST: f64 = 1.0;
const LEAST_COST: f64 = 0.001;

/// What is left, when it was said, and what a request costs.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    told: Option<Heard>,
    cost: Option<f64>,
    answers: u32,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    remaining: f64,
    limit: Option<f64>,
    reset: Instant,
    /// Whether it was said when that is.
    resets: bool,
}

// === impl Allowance ===

impl Allowance {
    /// An answer came, perhaps with figures.
    pub fn hear(&mut self, told: Option<Told>, now: Instant) {
        self.answers = self.answers.saturating_add(1);
        let Some(told) = told else { return };
        let reset = now + told.reset_in.unwrap_or(WINDOW);
        let resets = told.reset_in.is_some();
        let heard = Heard { remaining: told.remaining, limit: told.limit, reset, resets };
        if let Some(last) = self.told.replace(heard)
            && told.reset_in.is_some()
            && near(last.reset, reset)
            && told.remaining < last.remaining
        {
            let cost = (last.remaining - told.remaining) / f64::from(self.answers);
            self.cost = Some(self.cost.map_or(cost, |known| known + WEIGHT * (cost - known)));
        }
        self.answers = 0;
    }

    /// The rate that makes what is left last, with `in_flight` requests not yet counted; `None` while there is
    /// plenty, or nothing is known.
    pub fn rate(&self, in_flight: usize, now: Instant) -> Option<f64> {
        let heard = self.told.filter(|heard| heard.reset > now)?;
        let cost = self.cost.unwrap_or(FIRST_COST).max(LEAST_COST);
        #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
        let left = (heard.remaining / cost - in_flight as f64).max(0.0);
        let plenty = match heard.limit {
            Some(limit) => heard.remaining > TIGHT * limit,
            // Of how much is not known; and none left for no known time would be none for ever.
            None => left > 0.0 || !heard.resets,
        };
        (!plenty).then(|| SPENT * left / (heard.reset - now).as_secs_f64().max(0.001))
    }

    /// What the service said last that still holds: what is left, and of how much.
    pub fn remaining(&self, now: Instant) -> Option<(f64, Option<f64>)> {
        self.told.filter(|heard| heard.reset > now).map(|heard| (heard.remaining, heard.limit))
    }
}

fn near(one: Instant, other: Instant) -> bool {
    one.max(other) - one.min(other) <= SAME_RESET
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(remaining: f64, reset: u64) -> Told {
        Told { remaining, limit: Some(200.0), reset_in: Some(Duration::from_secs(reset)) }
    }

    #[test]
    fn what_is_left_is_spread_over_the_time_to_the_reset() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert_eq!(allowance.rate(0, now), None);
        allowance.hear(Some(told(150.0, 100)), now);
        assert_eq!(allowance.rate(0, now), None, "plenty");
        allowance.hear(Some(told(100.0, 100)), now);
        // One answer cost 50 units: two more requests in 100 s.
        assert_eq!(allowance.rate(0, now).map(|rate| (rate * 1e4).round()), Some(190.0));
        assert_eq!(allowance.rate(2, now), Some(0.0), "those in flight are spent already");
        assert_eq!(allowance.rate(0, now + Duration::from_secs(100)), None, "filled up again");
    }

    #[test]
    fn without_a_limit_what_is_left_is_spread_once_it_is_in_flight() {
        let bare = |remaining, reset: Option<u64>| {
            Some(Told { remaining, limit: None, reset_in: reset.map(Duration::from_secs) })
        };
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        allowance.hear(bare(9.0, Some(60)), now);
        assert_eq!(allowance.rate(8, now), None, "one more is covered");
        assert_eq!(allowance.rate(9, now), Some(0.0));
        allowance.hear(bare(0.0, Some(60)), now);
        // 9 units for one answer.
        assert_eq!(allowance.rate(0, now), Some(0.0));
        assert_eq!(allowance.rate(0, now + Duration::from_secs(60)), None, "filled up again");
        allowance.hear(bare(0.0, None), now);
        assert_eq!(allowance.rate(0, now), None, "for ever, as far as anybody knows");
    }

    #[test]
    fn the_cost_of_a_request_is_learned_over_answers_without_figures() {
        let (mut allowance, mut now) = (Allowance::default(), Instant::now());
        allowance.hear(Some(told(90.0, 100)), now);
        for remaining in [80.0, 70.0] {
            for _ in 0..99 {
                allowance.hear(None, now);
            }
            now += Duration::from_secs(10);
            allowance.hear(Some(told(remaining, 100 - if remaining > 75.0 { 10 } else { 20 })), now);
        }
        // A tenth of a unit each: 700 requests in 80 s.
        let rate = allowance.rate(0, now).unwrap();
        assert!((rate - 0.95 * 700.0 / 80.0).abs() < 1e-6, "{rate}");
        assert_eq!(allowance.remaining(now), Some((70.0, Some(200.0))));
    }
}
