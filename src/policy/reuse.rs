//! Whether a stored response answers a request (RFC 9111 §4, §4.2.4, RFC 5861).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use super::{Directives, Stored, age, lifetime};

/// How long a response may be stale that is served because the origin cannot be reached, unless it says otherwise.
/// "disconnected" (§4.2.4) has no bound in the standard.
const DISCONNECTED_MOST: Duration = Duration::from_secs(7 * 86_400);

/// What to do with a stored response that a request selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Send it.
    Fresh {
        /// For how long it stays fresh; negative when the request takes stale ones.
        left: i64,
    },
    /// Send it, and validate it behind the answer (RFC 5861 §3).
    Stale {
        /// Seconds of freshness left: negative.
        left: i64,
    },
    /// Ask the origin first.
    Validate {
        /// Whether it is the request that wants that, of a response that is fresh.
        demanded: bool,
    },
}

/// Why the origin gave no answer to a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standby {
    /// It cannot be reached, or broke off.
    Unreachable,
    /// It answered with 500, 502, 503 or 504.
    Failing,
}

/// Whether `stored` answers a request with these headers now. `ttl` is a lifetime that the operator set.
pub fn reuse(stored: &Stored, request: &HeaderMap, ttl: Option<Duration>, now: SystemTime) -> Reuse {
    let (asked, told) = (Directives::of_request(request), Directives::of_response(&stored.headers));
    let lifetime = ttl.unwrap_or_else(|| lifetime(stored));
    let age = age(stored, now);
    // An age that is not known is larger than any lifetime.
    let left = age.map_or(i64::MIN, |age| seconds(lifetime) - seconds(age));
    let demanded = Reuse::Validate { demanded: left > 0 };
    if asked.has("no-cache") || told.has_whole("no-cache") && ttl.is_none() {
        return demanded;
    }
    let too_old = |most: Duration| most.is_zero() || age.is_none_or(|age| age > most);
    if asked.seconds("max-age").is_some_and(too_old)
        || asked.seconds("min-fresh").is_some_and(|least| left < seconds(least))
    {
        return demanded;
    }
    if left > 0 {
        return Reuse::Fresh { left };
    }
    if age.is_some() && !forbids_stale(&told) {
        // Without a value it takes any age (§5.2.1.2).
        let taken = asked.seconds("max-stale").is_some_and(|most| -left <= seconds(most));
        if taken || asked.has_bare("max-stale") {
            return Reuse::Fresh { left };
        }
        let behind = told.seconds("stale-while-revalidate").unwrap_or_default();
        if -left < seconds(behind) {
            return Reuse::Stale { left };
        }
    }
    Reuse::Validate { demanded: false }
}

/// Seconds of freshness left (negative) of a stale response that may be sent in place of the origin's failure.
pub fn standby(stored: &Stored, reason: Standby, request: &HeaderMap, now: SystemTime) -> Option<i64> {
    let (asked, told) = (Directives::of_request(request), Directives::of_response(&stored.headers));
    let left = seconds(lifetime(stored)) - seconds(age(stored, now)?);
    if forbids_stale(&told) || asked.has("no-cache") {
        return None;
    }
    let allowed = told.seconds("stale-if-error").or_else(|| asked.seconds("stale-if-error"));
    let most = match reason {
        Standby::Unreachable => allowed.unwrap_or(DISCONNECTED_MOST),
        Standby::Failing => allowed?,
    };
    (-left <= seconds(most)).then_some(left)
}

/// The fields that make a request a validation of `stored` (§4.3.1); empty when it has no validator.
pub fn validators(stored: &Stored) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let copy = |from| stored.headers.get(from).cloned();
    if let Some(tag) = copy(header::ETAG) {
        fields.insert(header::IF_NONE_MATCH, tag);
    }
    if let Some(date) = copy(header::LAST_MODIFIED) {
        fields.insert(header::IF_MODIFIED_SINCE, date);
    }
    fields
}

/// §4.2.4: "MUST NOT generate a stale response if it is prohibited by an explicit in-protocol directive".
fn forbids_stale(told: &Directives) -> bool {
    ["must-revalidate", "proxy-revalidate", "s-maxage"].iter().any(|name| told.has(name))
        || told.has_whole("no-cache")
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
