//! How old a response is, and how old it may become (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::{Directives, Stored};

/// The part of the time since its last change for which a response without a lifetime counts as fresh (§4.2.2).
const HEURISTIC_PART: u32 = 10;
/// Longest lifetime that is only guessed.
const HEURISTIC_MOST: Duration = Duration::from_secs(7 * 86_400);
/// Statuses whose responses may be reused without an explicit lifetime (RFC 9110 §15.1); 206 is not stored.
const HEURISTIC_STATUSES: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// A date in any of HTTP's three forms (RFC 9110 §5.6.7). Two of a field are none.
pub fn http_date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { httpdate::parse_http_date(text).ok() }
}

/// How long a response stays fresh from its generation on, for a shared cache (§4.2.1): as a targeted field says, or
/// `s-maxage`, `max-age`, `Expires`; else a guess where that is allowed.
pub fn lifetime(stored: &Stored) -> Duration {
    let directives = Directives::of_response(&stored.headers);
    let explicit = directives.seconds("s-maxage").or_else(|| directives.seconds("max-age"));
    if let Some(explicit) = explicit {
        return explicit;
    }
    if !directives.is_targeted() && stored.headers.contains_key(header::EXPIRES) {
        // "Invalid date formats, especially including the value 0, … as representing a time in the past" (§5.3).
        let expires = http_date(&stored.headers, &header::EXPIRES);
        return expires.and_then(|expires| expires.duration_since(date(stored)).ok()).unwrap_or_default();
    }
    heuristic(stored, &directives)
}

/// How old a response is (§4.2.3); `None` when its `Age` cannot be read, and then it must not count as fresh.
pub fn age(stored: &Stored, now: SystemTime) -> Option<Duration> {
    let since = |later: SystemTime, earlier| later.duration_since(earlier).unwrap_or_default();
    let apparent = since(stored.received_at, date(stored));
    let delay = since(stored.received_at, stored.requested_at);
    let corrected = age_field(&stored.headers)?.saturating_add(delay);
    Some(apparent.max(corrected).saturating_add(since(now, stored.received_at)))
}

/// Whether anything says how long the response is fresh.
pub(super) fn is_explicit(headers: &HeaderMap, directives: &Directives) -> bool {
    let expires = !directives.is_targeted() && headers.contains_key(header::EXPIRES);
    expires || directives.has("s-maxage") || directives.has("max-age")
}

/// Whether a lifetime may be guessed for the response.
pub(super) fn may_guess(status: StatusCode, directives: &Directives) -> bool {
    HEURISTIC_STATUSES.contains(&status.as_u16()) || directives.has("public")
}

fn heuristic(stored: &Stored, directives: &Directives) -> Duration {
    let changed = http_date(&stored.headers, &header::LAST_MODIFIED);
    let Some(changed) = changed.filter(|_| may_guess(stored.status, directives)) else {
        return Duration::ZERO;
    };
    let unchanged = date(stored).duration_since(changed).unwrap_or_default();
    (unchanged / HEURISTIC_PART).min(HEURISTIC_MOST)
}

/// When the origin made the response; when it came, if that cannot be read (RFC 9110 §6.6.1).
fn date(stored: &Stored) -> SystemTime {
    http_date(&stored.headers, &header::DATE).unwrap_or(stored.received_at)
}

/// The first member of an `Age` that is a list ("SHOULD use the first member", §5.1). Two lines of it come from two
/// caches of which one did not know its place; that, and what is no number, cannot be read.
fn age_field(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(header::AGE).iter();
    let Some(value) = values.next() else { return Some(Duration::ZERO) };
    let first = value.to_str().ok()?.split(',').next()?.trim();
    let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_number.then(|| first.parse().unwrap_or(u64::from(u32::MAX)))?;
    if values.next().is_some() { None } else { Some(Duration::from_secs(seconds)) }
}
