//! How many requests a second a service was seen to accept lately.

use std::time::Duration;

use tokio::time::Instant;

/// Accepted requests are counted over the last one to two of these: twice the longest window that a service
/// with a `Retry-After` of seconds was seen to count over.
const GENERATION: Duration = Duration::from_secs(10);

/// What is accepted in less time may be a burst.
const MOMENT: Duration = Duration::from_secs(1);

/// Good answers in this generation and the last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accepted {
    since: Option<Instant>,
    turned: Option<Instant>,
    before: u32,
    count: u32,
}

// === impl Accepted ===

impl Accepted {
    /// One more.
    pub fn add(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        self.since.get_or_insert(now);
        if now.duration_since(turned) >= GENERATION {
            (self.since, self.before, self.count) = (Some(turned), self.count, 0);
            self.turned = Some(now);
        }
        self.count += 1;
    }

    /// When what was accepted would have come at `rate` per second: until then it was a burst.
    pub fn earned_at(&self, rate: f64) -> Option<Instant> {
        let seconds = f64::from(self.before + self.count) / rate.max(f64::MIN_POSITIVE);
        self.since?.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// Like [`Accepted::per_second`], but nothing after a moment in which a burst would count for a rate.
    pub fn steadily(&self, now: Instant) -> Option<f64> {
        self.since.filter(|since| now.duration_since(*since) >= MOMENT)?;
        self.per_second(now)
    }

    /// On average until now; `None` while there is nothing to go by.
    pub fn per_second(&self, now: Instant) -> Option<f64> {
        let seconds = now.duration_since(self.since?).as_secs_f64();
        (seconds > 0.0).then(|| f64::from(self.before + self.count) / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_over_the_last_two_generations_and_the_pause_after_them() {
        let (mut accepted, start) = (Accepted::default(), Instant::now());
        assert_eq!(accepted.per_second(start), None);
        for second in 0..60_u64 {
            (0..if second < 30 { 1 } else { 10 })
                .for_each(|_| accepted.add(start + Duration::from_secs(second)));
        }
        let rate = |seconds| accepted.per_second(start + Duration::from_secs(seconds)).map(f64::round);
        assert_eq!((rate(60), rate(80)), (Some(10.0), Some(5.0)));
    }
}
