//! What an answer of the service says about how much more it wants to be asked.
//!
//! Read from the status, the headers and, for a 500, the text (facts §7). Numbers that cannot be meant are
//! capped or dropped here, so that the state machines behind need not doubt them. What to do about a
//! signal is decided elsewhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};

/// Longest `Retry-After` and `X-RateLimit-Delay` that are believed; `nuget` obeys up to an hour (facts §7.4).
/// The gate's own longest pause is shorter still, and configured.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Furthest `X-RateLimit-Reset` that is believed; the service's windows are five minutes (facts §7.1).
const FURTHEST_RESET: Duration = Duration::from_secs(3600);
/// Largest `X-RateLimit-Limit` and `-Remaining` that are believed.
const LARGEST_UNITS: f64 = 1e9;
/// Text of a refusal for load, also under 500: "Request was blocked due to exceeding usage of resource …" (facts §7.2),
/// and in other words a TF400733 (facts §7.1).
const EXCEEDING: &str = "exceeding usage of resource";
/// Text of an overload of the service itself (facts §7.2).
const WAITERS: &str = "Maximum waiter thread limit";
/// Namespace of limits that are counted for the address.
const ADDRESS: &str = "IPAddress";
/// Resource whose limit is on requests in flight.
const CONCURRENCY: &str = "Concurrency";

/// What an answer says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signal {
    /// The verdict.
    pub kind: SignalKind,
    /// How long the service wants to be left alone (`Retry-After`, on any status).
    pub retry_after: Option<Duration>,
    /// For how long it held this request back (`X-RateLimit-Delay`).
    pub delay: Option<Duration>,
    /// What is left, as far as it was told.
    pub told: Option<Told>,
    /// For whom it counts.
    pub scope: Scope,
    /// What was exceeded.
    pub resource: Resource,
}

/// What an answer says about load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SignalKind {
    /// Nothing: the request was served (or refused for reasons of its own).
    #[default]
    Fine,
    /// Served, with the request to slow down: `Retry-After` or `X-RateLimit-Delay` beside it.
    Slow,
    /// 429, or a 500 whose text says the same.
    Refused,
    /// 503, or a 500 whose text speaks of the service's own threads: its trouble, not this gate's share.
    Overloaded,
    /// Any other 5xx: says nothing about load.
    Failed,
}

/// For whom a limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The credential that was shown (namespace `VSID`), or nobody in particular.
    #[default]
    Identity,
    /// The address from which the gate asks (namespace `IPAddress`).
    Address,
}

/// What a limit is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Not said.
    #[default]
    Unknown,
    /// Requests in flight.
    Concurrency,
    /// Anything else: use over time.
    Usage,
}

/// The budget as the service tells it. Units are the service's (TSTU), not requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// `X-RateLimit-Remaining`.
    pub remaining: f64,
    /// `X-RateLimit-Limit`, if given.
    pub limit: Option<f64>,
    /// Until `X-RateLimit-Reset`, if given.
    pub reset_in: Option<Duration>,
}

// === impl Signal ===

impl Signal {
    /// What the head alone says. A 500 may mean more: see [`Signal::with_text`].
    pub fn of_head(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        let retry_after = retry_after(headers, now);
        let delay = seconds(headers, "x-ratelimit-delay").filter(|delay| *delay > Duration::ZERO);
        let kind = match status.as_u16() {
            429 => SignalKind::Refused,
            503 => SignalKind::Overloaded,
            500..=599 => SignalKind::Failed,
            _ if retry_after.is_some_and(|wait| wait > Duration::ZERO) || delay.is_some() => SignalKind::Slow,
            _ => SignalKind::Fine,
        };
        let mut signal = Self { kind, retry_after, delay, told: told(headers, now), ..Self::default() };
        if let Some(resource) = text(headers, "x-ratelimit-resource") {
            signal.name(resource);
        }
        signal
    }

    /// Adds what the reason phrase or the body of a refusal says.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        if matches!(self.kind, SignalKind::Fine | SignalKind::Slow) {
            return self;
        }
        if let Some(kind) = SignalKind::of_text(text) {
            self.kind = kind;
            if kind == SignalKind::Refused {
                self.name(text);
            }
        }
        self
    }

    /// Whether the text of an answer with this status can say more than its head.
    pub fn wants_text(status: StatusCode) -> bool {
        matches!(status.as_u16(), 429 | 500 | 503)
    }

    /// Whether the request was refused for load and may be repeated later.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, SignalKind::Refused | SignalKind::Overloaded)
    }

    /// Reads "… of resource 'Concurrency' in namespace '`IPAddress`'".
    fn name(&mut self, text: &str) {
        if text.contains(ADDRESS) {
            self.scope = Scope::Address;
        }
        self.resource = if text.contains(CONCURRENCY) { Resource::Concurrency } else { Resource::Usage };
        if self.resource == Resource::Concurrency {
            // None of 16 left at once says nothing on how many there may be in the next minutes.
            self.told = None;
        }
    }
}

// === impl SignalKind ===

impl SignalKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Fine, Self::Slow, Self::Refused, Self::Overloaded, Self::Failed];

    /// What the reason phrase or the body of a failure says of load, if it does.
    pub fn of_text(text: &str) -> Option<Self> {
        if text.contains(EXCEEDING) {
            Some(Self::Refused)
        } else {
            text.contains(WAITERS).then_some(Self::Overloaded)
        }
    }

    /// Label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Slow => "slow",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }
}

/// How long `Retry-After` asks for, at most an hour.
///
/// "Retry-After = HTTP-date / delay-seconds" (RFC 9110 §10.2.3). A number that is no whole one is no delay-seconds, yet
/// clear enough.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = text(headers, header::RETRY_AFTER.as_str())?;
    let wait = if let Ok(seconds) = text.parse::<f64>() {
        believable(seconds)?
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until.duration_since(sent_at(headers).unwrap_or(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// When an answer was sent, by the clock that its other times are of: the gate's own may differ by minutes.
fn sent_at(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, header::DATE.as_str())?).ok()
}

fn told(headers: &HeaderMap, now: SystemTime) -> Option<Told> {
    let units =
        |name| text(headers, name)?.parse().ok().filter(|units| (0.0..=LARGEST_UNITS).contains(units));
    let remaining = units("x-ratelimit-remaining")?;
    let limit = units("x-ratelimit-limit").filter(|limit| *limit > 0.0 && *limit >= remaining);
    let reset_in = seconds_since_epoch(headers).and_then(|reset| {
        let now = sent_at(headers).unwrap_or(now).duration_since(UNIX_EPOCH).ok()?;
        // Whole seconds, cut off: a reset that is due this moment lies in the past, and is no unknown one.
        let is_near = reset.abs_diff(now) <= FURTHEST_RESET;
        is_near.then(|| reset.saturating_sub(now))
    });
    Some(Told { remaining, limit, reset_in })
}

fn seconds_since_epoch(headers: &HeaderMap) -> Option<Duration> {
    text(headers, "x-ratelimit-reset")?.parse().ok().map(Duration::from_secs)
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    believable(text(headers, name)?.parse().ok()?)
}

fn believable(seconds: f64) -> Option<Duration> {
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    /// 2026-01-01T00:00:00Z.
    const NOW: u64 = 1_767_225_600;

    fn head(status: u16, headers: &[(&'static str, &str)]) -> Signal {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        Signal::of_head(StatusCode::from_u16(status).unwrap(), &pairs.collect(), now)
    }

    #[test]
    fn the_status_decides_what_an_answer_means() {
        let rows = [
            (200, SignalKind::Fine),
            (303, SignalKind::Fine),
            (404, SignalKind::Fine),
            (401, SignalKind::Fine),
            (429, SignalKind::Refused),
            (500, SignalKind::Failed),
            (502, SignalKind::Failed),
            (503, SignalKind::Overloaded),
        ];
        for (status, kind) in rows {
            assert_eq!(head(status, &[]).kind, kind, "{status}");
        }
    }

    #[test]
    fn waits_are_read_in_every_form_and_never_too_long() {
        let check = |value: &str, seconds: Option<f64>| {
            let signal = head(200, &[("retry-after", value)]);
            assert_eq!(signal.retry_after.map(|wait| wait.as_secs_f64()), seconds, "{value}");
            let slow = seconds.is_some_and(|seconds| seconds > 0.0);
            assert_eq!(signal.kind == SignalKind::Slow, slow, "{value}");
        };
        check("2", Some(2.0));
        check(" 7 ", Some(7.0));
        check("1.5", Some(1.5));
        check("0", Some(0.0));
        check("-3", None);
        check("NaN", None);
        check("inf", Some(3600.0));
        check("999999999999999999999", Some(3600.0));
        check("Thu, 01 Jan 2026 00:00:30 GMT", Some(30.0));
        check("Wed, 31 Dec 2025 00:00:30 GMT", Some(0.0));
        check("Sat, 01 Jan 2050 00:00:00 GMT", Some(3600.0));
        check("soon", None);
    }

    #[test]
    fn times_are_told_by_the_clock_of_who_tells_them() {
        for (date, reset) in
            [("Thu, 01 Jan 2026 00:40:00 GMT", NOW + 2430), ("Wed, 31 Dec 2025 23:20:00 GMT", NOW - 2370)]
        {
            let until = date.replace(":00 GMT", ":30 GMT");
            let (figure, reset) = (("x-ratelimit-remaining", "5"), reset.to_string());
            let signal =
                head(429, &[("date", date), ("retry-after", &until), figure, ("x-ratelimit-reset", &reset)]);
            let expected = Some(Duration::from_secs(30));
            assert_eq!((signal.retry_after, signal.told.unwrap().reset_in), (expected, expected), "{date}");
        }
    }

    #[test]
    fn what_is_left_is_read_with_its_limit_and_reset() {
        let check = |remaining: &str, limit: &str, reset: &str, expected: Option<Told>| {
            let headers = [
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-limit", limit),
                ("x-ratelimit-reset", reset),
            ];
            assert_eq!(head(200, &headers).told, expected, "{remaining} {limit} {reset}");
        };
        let told = |remaining, limit, reset: Option<u64>| {
            Some(Told { remaining, limit, reset_in: reset.map(Duration::from_secs) })
        };
        check("20", "200", &(NOW + 60).to_string(), told(20.0, Some(200.0), Some(60)));
        check("0", "200", &NOW.to_string(), told(0.0, Some(200.0), Some(0)));
        check("20", "10", "soon", told(20.0, None, None));
        check("20", "200", &(NOW - 5).to_string(), told(20.0, Some(200.0), Some(0)));
        check("20", "200", &(NOW - 86_400).to_string(), told(20.0, Some(200.0), None));
        check("20", "200", &(NOW + 86_400).to_string(), told(20.0, Some(200.0), None));
        check("1e300", "200", "0", None);
        check("-1", "200", "0", None);
    }

    #[test]
    fn figures_about_requests_in_flight_are_no_budget() {
        let told = |resource| {
            let figures = [("x-ratelimit-remaining", "0"), ("x-ratelimit-limit", "16")];
            head(429, &[figures[0], figures[1], ("x-ratelimit-resource", resource)]).told
        };
        assert_eq!(told("IPAddress/Concurrency"), None);
        assert!(told("VSID/Requests").is_some());
    }

    #[test]
    fn a_delay_is_a_signal_of_its_own() {
        let signal = head(200, &[("x-ratelimit-delay", "0.250")]);
        assert_eq!((signal.kind, signal.delay), (SignalKind::Slow, Some(Duration::from_millis(250))));
        assert_eq!(head(200, &[("x-ratelimit-delay", "0.000")]).kind, SignalKind::Fine);
    }

    #[test]
    fn the_text_of_a_refusal_names_resource_and_namespace() {
        use SignalKind::{Failed, Fine, Overloaded, Refused};
        let blocked = |resource: &str, namespace: &str| {
            format!("Request was blocked due to {EXCEEDING} '{resource}' in namespace '{namespace}'.")
        };
        let check = |status: u16, text: &str, kind, resource, scope| {
            let signal = head(status, &[]).with_text(text);
            assert_eq!(
                (signal.kind, signal.resource, signal.scope),
                (kind, resource, scope),
                "{status} {text}"
            );
        };
        let address = blocked("Concurrency", "IPAddress");
        check(500, &address, Refused, Resource::Concurrency, Scope::Address);
        check(429, &blocked("Concurrency", "VSID"), Refused, Resource::Concurrency, Scope::Identity);
        check(500, &blocked("XMLHttp", "VSID"), Refused, Resource::Usage, Scope::Identity);
        let other =
            "TF400733: The request has been canceled: exceeding usage of resource X in namespace IPAddress";
        check(503, other, Refused, Resource::Usage, Scope::Address);
        check(
            500,
            "Maximum waiter thread limit 500 is reached",
            Overloaded,
            Resource::Unknown,
            Scope::Identity,
        );
        check(500, "Object reference not set", Failed, Resource::Unknown, Scope::Identity);
        check(429, "", Refused, Resource::Unknown, Scope::Identity);
        check(200, &address, Fine, Resource::Unknown, Scope::Identity);
    }

    proptest! {
        #[test]
        fn no_header_makes_a_wait_that_is_absurd(value in "[ -~]{0,24}", status in 200_u16..600) {
            let names = ["retry-after", "x-ratelimit-delay", "x-ratelimit-remaining", "x-ratelimit-reset"];
            let signal = head(status, &names.map(|name| (name, value.as_str())));
            let reset = signal.told.and_then(|told| told.reset_in);
            for wait in [signal.retry_after, signal.delay, reset].into_iter().flatten() {
                prop_assert!(wait <= LONGEST_WAIT);
            }
        }
    }
}
