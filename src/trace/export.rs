//! Sends spans in batches, behind all requests.
//!
//! A batch is sent once: what the collector does not take is lost, so that one that is down holds no memory. Nothing is
//! logged of each loss, only when it begins and when it ends; the counter has the rest.

use std::{mem, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{self as otlp, ResourceSpans, ScopeSpans},
};
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{Counts, Value, span::attribute};
use crate::config::TraceSettings;

/// Most spans of one request: some 500 KiB.
const BATCH: usize = 512;
/// How long the first span of a batch waits for more.
const GATHERING: Duration = Duration::from_secs(1);

/// Takes batches.
#[async_trait]
pub trait Collector: Send + Sync {
    /// Sends a batch in the protobuf form of OTLP; the body of the answer. The error is fit for a log.
    async fn send(&self, batch: Bytes) -> Result<Bytes, String>;
}

/// What sends spans.
pub struct Export {
    waiting: mpsc::Receiver<otlp::Span>,
    counts: Counts,
    resource: Resource,
    timeout: Duration,
    is_failing: bool,
}

// === impl Export ===

impl Export {
    pub(super) fn new(waiting: mpsc::Receiver<otlp::Span>, counts: Counts, settings: &TraceSettings) -> Self {
        let text = |text: &str| Value::StringValue(text.to_owned());
        let attributes = vec![
            attribute("service.name", text(&settings.service_name)),
            attribute("service.version", text(env!("CARGO_PKG_VERSION"))),
        ];
        let resource = Resource { attributes, ..Resource::default() };
        Self { waiting, counts, resource, timeout: settings.timeout, is_failing: false }
    }

    /// Sends what comes until it is told to stop, and then what is left.
    pub async fn run(mut self, collector: impl Collector, mut stop: oneshot::Receiver<()>) {
        let mut stopping = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                count = self.waiting.recv_many(&mut batch, BATCH) => if count == 0 { return },
                // An error says that nobody can tell any more.
                _ = &mut stop, if !stopping => {
                    self.waiting.close();
                    stopping = true;
                    continue;
                }
            }
            if !stopping {
                tokio::select! {
                    () = gather(&mut self.waiting, &mut batch) => {}
                    _ = &mut stop => {
                        self.waiting.close();
                        stopping = true;
                    }
                }
            }
            self.send(&collector, batch).await;
        }
    }

    async fn send(&mut self, collector: &impl Collector, spans: Vec<otlp::Span>) {
        let count = spans.len();
        let sent = timeout(self.timeout, collector.send(self.batch(spans))).await;
        match sent.unwrap_or_else(|_| Err(format!("no answer in {:?}", self.timeout))) {
            Ok(answer) => {
                let refused = refused(&answer).min(count);
                self.counts.add("failed", refused);
                self.counts.add("exported", count - refused);
                if mem::take(&mut self.is_failing) {
                    tracing::info!("the trace collector takes spans again");
                }
            }
            Err(error) => {
                self.counts.add("failed", count);
                if !mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(error, "the trace collector takes no spans; they are lost");
                }
            }
        }
    }

    fn batch(&self, spans: Vec<otlp::Span>) -> Bytes {
        let scope = InstrumentationScope { name: "feedgate".to_owned(), ..InstrumentationScope::default() };
        let spans = ScopeSpans { scope: Some(scope), spans, schema_url: String::new() };
        let resource = Some(self.resource.clone());
        let spans = ResourceSpans { resource, scope_spans: vec![spans], schema_url: String::new() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec().into()
    }
}

/// Fills the batch, for a while.
async fn gather(waiting: &mut mpsc::Receiver<otlp::Span>, batch: &mut Vec<otlp::Span>) {
    let end = Instant::now() + GATHERING;
    while batch.len() < BATCH {
        match timeout_at(end, waiting.recv_many(batch, BATCH - batch.len())).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// How many spans of a batch the collector says it did not take. What it says is not worth more than its status.
fn refused(answer: &[u8]) -> usize {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    usize::try_from(partial).unwrap_or_default()
}
