//! No header makes the gate wait for longer than an hour, for less than nothing, or for a number that is none.
//!
//! Input: a byte for the status, eight of a time, and lines `name: value` with the text of the answer behind an empty
//! one. `Retry-After` is what RFC 9110 §10.2.3 makes of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use feedgate::throttle::signal::{Signal, SignalKind};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

const STATUSES: [u16; 8] = [200, 303, 404, 429, 500, 502, 503, 599];
/// One hour: the longest wait that is believed.
const LONGEST: Duration = Duration::from_secs(3600);
/// The largest figure that is believed.
const LARGEST: f64 = 1e9;
/// Times up to the year 9999.
const LAST: u64 = 253_402_300_799;

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Some((&[choice, ref time @ ..], text)) = input.split_first_chunk::<9>() else { return };
    let seconds = u64::from_be_bytes(*time) % LAST;
    let now = UNIX_EPOCH + Duration::from_secs(seconds);
    let status = StatusCode::from_u16(STATUSES[usize::from(choice & 7)]).expect("a status");
    let (headers, text) = answer(text);
    let signal = Signal::of_head(status, &headers, now);
    is_sane(&signal);
    assert_eq!(signal.is_refusal(), matches!(status.as_u16(), 429 | 503));
    retry_after_is_right(&signal, &headers, now);
    let told = signal.clone().with_text(&String::from_utf8_lossy(text));
    is_sane(&told);
    assert!(told.is_refusal() || !signal.is_refusal(), "a text took a refusal back");
    assert_eq!((told.retry_after, told.delay), (signal.retry_after, signal.delay));
}

/// The headers that are some, and what follows them.
fn answer(text: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..at];
        rest = &rest[at + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line[colon + 1..])) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}

fn is_sane(signal: &Signal) {
    let reset = signal.told.and_then(|told| told.reset_in);
    for wait in [signal.retry_after, signal.delay, reset].into_iter().flatten() {
        assert!(wait <= LONGEST, "{signal:?}");
    }
    assert_ne!(signal.delay, Some(Duration::ZERO));
    if let Some(told) = signal.told {
        assert!((0.0..=LARGEST).contains(&told.remaining), "{told:?}");
        assert!(
            told.limit.is_none_or(|limit| limit > 0.0 && limit >= told.remaining && limit <= LARGEST),
            "{told:?}"
        );
    }
    let asks = signal.delay.is_some() || signal.retry_after.is_some_and(|wait| wait > Duration::ZERO);
    assert!(signal.kind != SignalKind::Fine || !asks, "{signal:?}");
    assert!(signal.kind != SignalKind::Slow || asks, "{signal:?}");
}

fn retry_after_is_right(signal: &Signal, headers: &HeaderMap, now: SystemTime) {
    let Some(text) = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim)
    else {
        assert_eq!(signal.retry_after, None);
        return;
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        assert_eq!(signal.retry_after, Some(Duration::from_secs(seconds).min(LONGEST)), "{text}");
    } else if let Ok(date) = httpdate::parse_http_date(text) {
        assert_eq!(
            signal.retry_after,
            Some(date.duration_since(now).unwrap_or_default().min(LONGEST)),
            "{text}"
        );
    } else if text.starts_with('-') {
        assert!(signal.retry_after.is_none_or(|wait| wait.is_zero()), "{text}");
    }
}
