//! `[trace]`: an OpenTelemetry collector, and which traces it gets.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::{Credential, audit::RegistryUrl, keys::Keys};
use crate::redact::Secret;

/// The keys of the headers' source.
const HEADERS: [&str; 2] = ["headers_env", "headers_file"];

/// Which spans are exported, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// The base URL of a collector that takes OTLP over HTTP; `None`: no spans are exported.
    pub endpoint: Option<RegistryUrl>,
    /// Of requests without a `traceparent` one in so many begins a trace that is exported; 0: none does. Not each one by
    /// default: an install makes thousands of requests, nearly all of them hits that the metrics tell enough of, and
    /// whoever looks into a build has its client say that it wants the trace.
    pub requests_per_trace: usize,
    /// `service.name` of the spans.
    pub service_name: String,
    /// Headers for the collector, which may hold its key.
    pub headers: Option<Credential>,
    /// How long the collector may take for a batch.
    pub timeout: Duration,
}

// === impl TraceSettings ===

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            requests_per_trace: 100,
            service_name: "feedgate".to_owned(),
            headers: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl TraceSettings {
    pub(super) fn read(mut keys: Keys<'_>, environment: &BTreeMap<String, String>) -> Self {
        let default = Self::default();
        let section = Self {
            endpoint: keys.optional("endpoint", default.endpoint),
            requests_per_trace: keys.count(
                "requests_per_trace",
                default.requests_per_trace,
                0..=1_000_000_000,
            ),
            service_name: keys.parsed("service_name", default.service_name),
            headers: Credential::read_keys(&mut keys, HEADERS, environment),
            timeout: keys.span("timeout", default.timeout, Duration::from_millis(1)),
        };
        if let Some(Credential::Variable(text)) = &section.headers
            && headers(text).is_none()
        {
            keys.problem(HEADERS[0], "a variable".to_owned(), format!("must name one with {HEADERS_RULE}"));
        }
        keys.finish();
        section
    }
}

/// How headers are written: as OpenTelemetry has it in `OTEL_EXPORTER_OTLP_HEADERS`.
pub const HEADERS_RULE: &str = "headers as in `api-key=secret,x-tenant=a%20b`";

/// Reads headers. The mistake is not told: it may be part of a secret.
pub fn headers(text: &Secret<String>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.reveal().split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.append(name.trim().parse::<HeaderName>().ok()?, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::headers;
    use crate::redact::Secret;

    #[test]
    fn headers_are_read_as_opentelemetry_writes_them() {
        let read = |text: &str| headers(&Secret::new(text.to_owned()));
        let two = read(" Api-Key=a=b , x-tenant=a%20b,").unwrap();
        assert_eq!(two.len(), 2);
        assert!(two["api-key"] == "a=b" && two["x-tenant"] == "a b" && two["api-key"].is_sensitive());
        for bad in ["key", "=value", "a b=c", "a=%0a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
