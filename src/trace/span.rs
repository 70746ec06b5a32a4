//! One span: what is noted while it lasts, and how it is written when it is dropped.
//!
//! Nothing secret may be noted: no credential, no signed URL, no query. Names of attributes are those of OpenTelemetry's
//! semantic conventions for HTTP (1.30) where it has one, and begin with `feedgate.` elsewhere.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{self as otlp, span::SpanKind, status::StatusCode as State},
};
use tokio::time::Instant;

use super::{Spans, Trace};

/// Longest text of an attribute, in characters: keys are paths of clients.
const LONGEST_TEXT: usize = 1024;
/// What the flags of a span tell besides those of its trace: the span above it is, or is not, of another program
/// (`SpanFlags` of OTLP).
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Which side of an exchange a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client asked the gate.
    Server,
    /// The gate asked another one.
    Client,
}

/// The value of an attribute.
pub type Value = any_value::Value;

/// A span that is exported when it is dropped.
pub struct Span {
    spans: Spans,
    trace: Trace,
    kind: Kind,
    name: String,
    begun: Instant,
    attributes: Vec<KeyValue>,
    is_error: bool,
}

// === impl Span ===

impl Span {
    /// A span that begins now.
    pub fn new(spans: Spans, trace: Trace, kind: Kind, name: String) -> Self {
        let attributes = Vec::with_capacity(16);
        Self { spans, trace, kind, name, begun: Instant::now(), attributes, is_error: false }
    }

    /// The same, begun before.
    #[must_use]
    pub fn since(mut self, begun: Instant) -> Self {
        self.begun = begun;
        self
    }

    /// Its place in the trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Notes a text, without what makes it longer than anybody reads; an empty one is not noted.
    pub fn text(&mut self, key: &'static str, text: &str) {
        if !text.is_empty() {
            let end = text.char_indices().nth(LONGEST_TEXT).map_or(text.len(), |(end, _)| end);
            self.note(key, Value::StringValue(text[..end].to_owned()));
        }
    }

    /// Notes a number.
    pub fn number(&mut self, key: &'static str, number: u64) {
        self.note(key, Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)));
    }

    /// Notes the status of an answer. Of a server only 5xx is its error, of a client 4xx too.
    pub fn status(&mut self, status: u16) {
        self.number("http.response.status_code", status.into());
        let first = if self.kind == Kind::Server { 500 } else { 400 };
        if status >= first {
            self.failed(&status.to_string());
        }
    }

    /// Notes that it failed, and why; the first reason counts.
    pub fn failed(&mut self, reason: &str) {
        if !self.is_error {
            self.is_error = true;
            self.text("error.type", reason);
        }
    }

    fn note(&mut self, key: &'static str, value: Value) {
        self.attributes.push(attribute(key, value));
    }

    fn written(&mut self, end: SystemTime) -> otlp::Span {
        let [trace_id, span_id, parent_span_id] = self.trace.bytes();
        let remote = if self.kind == Kind::Server && !parent_span_id.is_empty() { IS_REMOTE } else { 0 };
        let kind = match self.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        };
        let begun = end.checked_sub(self.begun.elapsed()).unwrap_or(end);
        let state = if self.is_error { State::Error } else { State::Unset };
        otlp::Span {
            trace_id,
            span_id,
            parent_span_id,
            flags: u32::from(self.trace.is_sampled()) | KNOWS_REMOTE | remote,
            name: std::mem::take(&mut self.name),
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(begun),
            end_time_unix_nano: nanoseconds(end),
            attributes: std::mem::take(&mut self.attributes),
            status: Some(otlp::Status { message: String::new(), code: state.into() }),
            ..otlp::Span::default()
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let spans = self.spans.clone();
        spans.push(|clock| self.written(clock.now()));
    }
}

/// An attribute as it is written.
pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
