//! [`TraceCollector`]: where spans are sent.
//!
//! It is none of the service's hosts. The operator named it, so it may have any address; where only a proxy leads out, it
//! is reached through that one like everybody else.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::{Http, HttpError, body::read_document, outgoing::Outgoing, reach::Reach, resolve::Resolver};
use crate::{
    config::{
        Credential, TraceSettings,
        trace::{self, HEADERS_RULE},
        upstream::{Base, Upstream},
    },
    throttle::Class,
    trace::Collector,
};

/// Where traces are taken below a collector's base URL (OTLP/HTTP).
const PATH: &str = "/v1/traces";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// Most bytes of an answer, which holds a number and a sentence.
const MAX_ANSWER: u64 = 64 << 10;

/// A collector.
pub struct TraceCollector {
    http: Arc<Http>,
    base: Base,
    headers: Option<Credential>,
}

// === impl TraceCollector ===

impl TraceCollector {
    /// The collector of `settings`, with the trusted authorities of `upstream`; none if there is none.
    pub fn new(settings: &TraceSettings, upstream: &Upstream) -> Result<Option<Self>, HttpError> {
        let Some(url) = &settings.endpoint else { return Ok(None) };
        let mut http = Http::new(upstream)?;
        http.egress.resolver = Resolver::new(Reach::anywhere());
        Ok(Some(Self { http: Arc::new(http), base: url.base().clone(), headers: settings.headers.clone() }))
    }

    async fn headers(&self) -> Result<HeaderMap, String> {
        let Some(source) = &self.headers else { return Ok(HeaderMap::new()) };
        let text = source.read().await.map_err(|error| error.to_string())?;
        trace::headers(&text).ok_or_else(|| format!("trace.headers_file does not hold {HEADERS_RULE}"))
    }
}

#[async_trait]
impl Collector for TraceCollector {
    async fn send(&self, batch: Bytes) -> Result<Bytes, String> {
        let mut headers = self.headers().await?;
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
        let outgoing =
            Outgoing::message(&self.base, PATH, headers, batch).map_err(|error| error.to_string())?;
        let response = self.http.send(&outgoing, false, Class::Api).await;
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status;
        let answer = read_document(response, MAX_ANSWER).await.map_err(|error| error.to_string());
        if status.is_success() { answer } else { Err(format!("answered with status {status}")) }
    }
}
