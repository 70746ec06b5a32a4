//! A request's place in a trace (W3C Trace Context, level 1).
//!
//! A request that comes with a valid `traceparent` is one span of the trace that it names; what the service is asked for
//! it carries the same trace with this span, or one below it, as the parent, next to the client's `tracestate`. A header
//! that does not hold is left out, as the specification wants (§4.3), and a blob host gets none. Who joins another
//! request's fetch is part of that one's trace there; its own line in the log tells the rest.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that must be passed on (§3.3.1.5), in bytes.
const LONGEST_STATE: usize = 512;
/// Length of `traceparent` in version 00; later ones may be longer and begin the same (§4.3).
const LENGTH: usize = 55;

/// The only flag of version 00.
const SAMPLED: u8 = 1;

/// One request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    parent: u64,
    span: u64,
    flags: u8,
}

// === impl Trace ===

impl Trace {
    /// A new span of the trace that the headers name; `None` when they name none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::with_span(headers, new_span)
    }

    /// The first span of a new trace.
    pub fn begin(is_sampled: bool) -> Self {
        Self { id: rand::random_range(1..=u128::MAX), parent: 0, span: new_span(), flags: is_sampled.into() }
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent: self.span, span: new_span(), ..*self }
    }

    /// Whether whoever began the trace wants its spans to be kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    fn with_span(headers: &HeaderMap, span: impl FnOnce() -> u64) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (only, None) = (values.next()?, values.next()) else { return None };
        let text = only.to_str().ok()?;
        let hex = |from: usize, to: usize| text.get(from..to).filter(|part| part.bytes().all(is_lower_hex));
        let dashed = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let version = hex(0, 2)?;
        let complete = match version {
            "00" => text.len() == LENGTH,
            _ => text.len() == LENGTH || text.as_bytes().get(LENGTH) == Some(&b'-'),
        };
        let id = u128::from_str_radix(hex(3, 35)?, 16).ok()?;
        let parent = u64::from_str_radix(hex(36, 52)?, 16).ok()?;
        let flags = u8::from_str_radix(hex(53, 55)?, 16).ok()?;
        (dashed && complete && version != "ff" && id != 0 && parent != 0).then(|| Self {
            id,
            parent,
            span: span(),
            flags,
        })
    }

    /// Leaves in `headers` what the service is to get: this span as the parent, or nothing without a trace.
    pub fn continue_in(trace: Option<&Self>, headers: &mut HeaderMap) {
        headers.remove(TRACEPARENT);
        let value = trace.and_then(|trace| HeaderValue::try_from(trace.to_string()).ok());
        let state: usize = headers.get_all(TRACESTATE).iter().map(HeaderValue::len).sum();
        // The state belongs to the header beside it, and a trace that begins here had none (§4.3).
        let has_none = trace.is_none_or(|trace| trace.parent == 0);
        if value.is_none() || has_none || state > LONGEST_STATE {
            headers.remove(TRACESTATE);
        }
        if let Some(value) = value {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// The headers of a request that goes on with this span as the parent, and the state that the client sent.
    pub fn onward(&self, client: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(client.get_all(TRACESTATE).iter().map(|state| (TRACESTATE, state.clone())));
        Self::continue_in(Some(self), &mut headers);
        headers
    }

    /// Id of the trace, as it is written.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// Id of this request's span.
    pub fn span(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Id of the span above it; none when it is the first.
    pub fn parent(&self) -> Option<String> {
        (self.parent != 0).then(|| format!("{:016x}", self.parent))
    }

    /// The ids of trace, span and the span above it, in bytes; the last is empty when it is the first.
    pub(super) fn bytes(&self) -> [Vec<u8>; 3] {
        let parent = if self.parent == 0 { Vec::new() } else { self.parent.to_be_bytes().to_vec() };
        [self.id.to_be_bytes().to_vec(), self.span.to_be_bytes().to_vec(), parent]
    }
}

/// The header for who is asked next. Of the flags only `sampled` is known here (§3.2.2.5).
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags & SAMPLED)
    }
}

fn new_span() -> u64 {
    rand::random_range(1..=u64::MAX)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{TRACEPARENT, TRACESTATE, Trace};

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (TRACEPARENT, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_the_gate() {
        for (given, flags) in [
            (format!("00-{ID}-00f067aa0ba902b7-01"), "01"),
            (format!("00-{ID}-00f067aa0ba902b7-00"), "00"),
            (format!("00-{ID}-00f067aa0ba902b7-ff"), "01"),
            (format!("cc-{ID}-00f067aa0ba902b7-01-what-comes-later"), "01"),
        ] {
            let mut headers = headers(&[&given]);
            headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
            let trace = Trace::with_span(&headers, || 7).unwrap();
            assert_eq!((trace.id().as_str(), trace.parent().as_deref()), (ID, Some("00f067aa0ba902b7")));
            Trace::continue_in(Some(&trace), &mut headers);
            assert_eq!(headers[TRACEPARENT], format!("00-{ID}-0000000000000007-{flags}"));
            assert_eq!(headers[TRACESTATE], "vendor=1");
        }
    }

    #[test]
    fn what_is_no_trace_is_left_out() {
        let zeros = "0".repeat(32);
        for given in [
            vec![],
            vec![String::new()],
            vec![format!("00-{ID}-00f067aa0ba902b7")],
            vec![format!("00-{ID}-00f067aa0ba902b7-01-more")],
            vec![format!("cc-{ID}-00f067aa0ba902b7-01.more")],
            vec![format!("ff-{ID}-00f067aa0ba902b7-01")],
            vec![format!("00-{zeros}-00f067aa0ba902b7-01")],
            vec![format!("00-{ID}-0000000000000000-01")],
            vec![format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase())],
            vec![format!("00_{ID}-00f067aa0ba902b7-01")],
            vec![format!("00-{ID}-00f067aa0ba902b7-01"); 2],
        ] {
            let texts: Vec<_> = given.iter().map(String::as_str).collect();
            let mut headers = headers(&texts);
            headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
            let trace = Trace::with_span(&headers, || 7);
            assert_eq!(trace, None, "{texts:?}");
            Trace::continue_in(trace.as_ref(), &mut headers);
            assert!(headers.is_empty(), "{texts:?}");
        }
    }

    #[test]
    fn a_trace_that_begins_here_has_no_parent_and_no_state_and_hands_its_flag_down() {
        for sampled in [true, false] {
            let trace = Trace::begin(sampled);
            assert_eq!((trace.parent(), trace.is_sampled()), (None, sampled));
            let mut headers = headers(&[]);
            headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
            assert_eq!(trace.onward(&headers).len(), 1);
            Trace::continue_in(Some(&trace), &mut headers);
            assert_eq!(headers.len(), 1, "{headers:?}");
            let child = trace.child();
            assert_eq!((child.id(), child.parent()), (trace.id(), Some(trace.span())));
            assert!(child.span() != trace.span() && child.is_sampled() == sampled);
        }
    }
}
