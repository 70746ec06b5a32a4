//! [`Traced`]: each request that is sent is a span of the trace that its headers name.
//!
//! It stands right before the connection: a wait for a permit, and what a dead host is not asked, is no request. The span
//! ends with the body. A repeat is a span of its own, beside the first.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    BodyStream, Target, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse, metered::ended_by,
};
use crate::trace::{Kind, Span, Spans, Trace};

/// An upstream whose requests are spans.
pub struct Traced<U> {
    inner: U,
    spans: Spans,
}

/// A body whose end is that of its span.
struct TracedBody {
    inner: Box<dyn BodyStream>,
    received: u64,
    span: Option<Span>,
}

// === impl Traced ===

impl<U> Traced<U> {
    /// Notes the requests to `inner` in `spans`.
    pub fn new(inner: U, spans: Spans) -> Self {
        Self { inner, spans }
    }

    fn span(&self, request: &UpstreamRequest) -> Option<Span> {
        let name = || format!("{} {}", request.method, request.target.class().as_str());
        let mut span = self.spans.span(Trace::of(&request.headers)?, Kind::Client, name)?;
        span.text("http.request.method", request.method.as_str());
        span.text("feedgate.host_class", request.target.class().as_str());
        match &request.target {
            Target::Service { service, org, path } => {
                span.text("feedgate.service", service.as_str());
                span.text("feedgate.organisation", org.as_str());
                span.text("url.path", path.split('?').next().unwrap_or_default());
            }
            // Its path names nothing that the span above does not, and its query is a signature.
            Target::Blob(url) => span.text("server.address", url.authority()),
        }
        Some(span)
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Traced<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let Some(mut span) = self.span(request) else { return self.inner.fetch(request).await };
        let mut onward = request.clone();
        Trace::continue_in(Some(span.trace()), &mut onward.headers);
        match self.inner.fetch(&onward).await {
            Ok(mut response) => {
                span.status(response.status.as_u16());
                response.body = Box::new(TracedBody { inner: response.body, received: 0, span: Some(span) });
                Ok(response)
            }
            Err(error) => {
                span.failed(ended_by(&error));
                Err(error)
            }
        }
    }
}

// === impl TracedBody ===

impl TracedBody {
    fn end(&mut self, failure: Option<&UpstreamError>) {
        if let Some(mut span) = self.span.take() {
            span.number("http.response.body.size", self.received);
            if let Some(error) = failure {
                span.failed(ended_by(error));
            }
        }
    }
}

#[async_trait]
impl BodyStream for TracedBody {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let next = self.inner.next().await;
        match &next {
            Ok(Some(bytes)) => self.received += bytes.len() as u64,
            Ok(None) => self.end(None),
            Err(error) => self.end(Some(error)),
        }
        next
    }
}

impl Drop for TracedBody {
    fn drop(&mut self) {
        self.end(None);
    }
}
