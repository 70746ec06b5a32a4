//! What the edge notes in spans: of a client's request what its line in the log has, of a forwarded one where it goes.

use pingora::{Error, http::RequestHeader};

use super::context::RequestContext;
use crate::{
    handler::Forward,
    trace::{Kind, Span, Spans, Trace},
};

/// A request is over.
pub(super) fn over(spans: &Spans, error: Option<&Error>, context: &mut RequestContext) {
    let forwarded = context.forward.as_mut().and_then(|forwarding| forwarding.span.as_mut());
    if let Some((span, error)) = forwarded.zip(error) {
        span.failed(error.etype().as_str());
    }
    let Some(trace) = context.trace else { return };
    // Its class and not its path: names are few.
    let name = || format!("{} {}", context.method, context.class.as_str());
    let Some(span) = spans.span(trace, Kind::Server, name) else { return };
    let mut span = span.since(context.started);
    span.text("http.request.method", context.method.as_str());
    span.text("feedgate.class", context.class.as_str());
    span.text("feedgate.key", &context.key);
    span.text("feedgate.cache", context.cache.label());
    span.text("feedgate.tier", context.tier);
    span.text("feedgate.request_id", &context.id);
    for (key, value) in
        [("feedgate.storage_id", &context.storage_id), ("feedgate.activity_id", &context.activity_id)]
    {
        let text = value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        span.text(key, text.trim_matches('"'));
    }
    if let Some(caller) = context.caller {
        span.text("feedgate.caller", &caller.to_string());
    }
    if let Some(client) = context.client {
        span.text("client.address", &client.to_string());
    }
    span.number("http.response.body.size", context.sent);
    if let Some(error) = error {
        span.failed(error.etype().as_str());
    }
    if let Some(code) = context.error {
        span.text("feedgate.error", code);
    }
    if let Some(status) = context.status {
        span.status(status.as_u16());
    }
}

/// The span of a request that Pingora sends to the service.
pub(super) fn forwarded(
    spans: &Spans,
    trace: Option<&Trace>,
    forward: &Forward,
    request: &RequestHeader,
) -> Option<Span> {
    let mut span = spans.span(trace?.child(), Kind::Client, || format!("{} api", request.method))?;
    span.text("http.request.method", request.method.as_str());
    span.text("feedgate.host_class", "api");
    span.text("feedgate.service", forward.service.as_str());
    span.text("feedgate.organisation", forward.org.as_str());
    span.text("url.path", forward.path.split('?').next().unwrap_or_default());
    Some(span)
}
