//! How usable a stored document is at a moment: pure, `now` is passed in.

use std::time::{Duration, SystemTime};

use crate::config::Freshness;

/// Documents that are good for less than this are not fetched ahead of time: they are stale before it could help.
const RIPENING: Duration = Duration::from_secs(7);

/// What may be done with a stored document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usability {
    /// Serve it.
    Fresh,
    /// Serve it and refresh it behind the answer.
    StaleWhileRevalidate,
    /// Ask the service; serve it only when that fails.
    StaleIfError,
    /// Ask the service; it is of no use any more.
    Expired,
}

/// A stored document's age against its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assessment {
    /// What may be done with it.
    pub usability: Usability,
    /// Seconds since the service sent it: the `Age` header (RFC 9111 §5.1).
    pub age: u64,
    /// Seconds of freshness left; negative when stale.
    pub ttl: i64,
}

/// Assesses a document that the service sent at `fetched_at`. A clock that went back counts as age zero.
pub fn assess(policy: &Freshness, fetched_at: SystemTime, now: SystemTime) -> Assessment {
    let age = now.duration_since(fetched_at).unwrap_or_default();
    let usability = if age < policy.fresh {
        Usability::Fresh
    } else if age < policy.fresh + policy.stale_while_revalidate {
        Usability::StaleWhileRevalidate
    } else if age < policy.fresh + policy.stale_if_error {
        Usability::StaleIfError
    } else {
        Usability::Expired
    };
    Assessment { usability, age: age.as_secs(), ttl: seconds(policy.fresh) - seconds(age) }
}

// === impl Assessment ===

impl Assessment {
    /// Whether a fresh document that is in use should be fetched anew before it goes stale: in the last quarter of its
    /// time, each at a moment of its own (`spread`), so that those that came together are not asked for together.
    pub fn is_ripe(&self, policy: &Freshness, spread: u8) -> bool {
        let ripe = policy.fresh.mul_f64(0.75 + 0.2 * f64::from(spread) / f64::from(u8::MAX));
        self.usability == Usability::Fresh && ripe >= RIPENING && Duration::from_secs(self.age) >= ripe
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Assessment, Usability, assess};
    use crate::config::Freshness;
    use std::time::{Duration, UNIX_EPOCH};

    fn check(age: u64, usability: Usability, ttl: i64) {
        let seconds = Duration::from_secs;
        let policy = Freshness {
            fresh: seconds(60),
            stale_while_revalidate: seconds(30),
            stale_if_error: seconds(600),
        };
        let fetched_at = UNIX_EPOCH + seconds(1_000_000);
        let expected = Assessment { usability, age, ttl };
        assert_eq!(assess(&policy, fetched_at, fetched_at + seconds(age)), expected);
    }

    #[test]
    fn each_window_ends_where_the_next_begins() {
        check(0, Usability::Fresh, 60);
        check(59, Usability::Fresh, 1);
        check(60, Usability::StaleWhileRevalidate, 0);
        check(89, Usability::StaleWhileRevalidate, -29);
        check(90, Usability::StaleIfError, -30);
        check(659, Usability::StaleIfError, -599);
        check(660, Usability::Expired, -600);
    }

    #[test]
    fn a_document_ripens_in_the_last_quarter_of_its_time_each_at_its_own_moment() {
        let rows = [
            (60, 0, 44, false),
            (60, 0, 45, true),
            (60, 255, 56, false),
            (60, 255, 57, true),
            (9, 0, 8, false),
        ];
        for (fresh, spread, age, expected) in rows {
            let policy = Freshness {
                fresh: Duration::from_secs(fresh),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
            };
            let assessment = assess(&policy, UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(age));
            assert_eq!(assessment.is_ripe(&policy, spread), expected, "{fresh} {spread} {age}");
        }
    }

    #[test]
    fn a_clock_that_went_back_counts_as_age_zero() {
        let policy = Freshness {
            fresh: Duration::from_secs(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        };
        let now = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(assess(&policy, now + Duration::from_secs(9), now).usability, Usability::Fresh);
    }
}
