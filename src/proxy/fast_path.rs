//! Hits without a session: from the bytes of a request to those of its answer, for what is at hand in memory.
//!
//! What a head asks for is worked out once and remembered with the head of its answer, under all of the request that can
//! make a difference ([`head`]). When the same is asked again, by this client or another with the same credential, only
//! the handler's look ([`Handler::hit`]) is left: at the caller's verdict, the object and its age. The shape of an answer is
//! that of any other ([`shape`](super::reply::shape)). What is not quite ordinary (a body, a wish, a range, a trace, an older
//! HTTP) is left to Pingora's session.

mod filed;
mod head;
mod remembered;

use std::{io, sync::Arc, time::SystemTime};

use ahash::RandomState;
use http::Method;
use moka::sync::Cache;
use pingora::{Error, ErrorType};

use super::{AccessLog, Edge, EdgeMetrics, Intake, Outflow, RequestContext, access_log, intake, spans};
use crate::{
    handler::{Handler, Hit},
    listener::{Answer, Body, Facts, FastPath},
    trace::Spans,
};
use filed::Filed;
use head::Head;
use remembered::Remembered;

/// Memory for what is remembered, in bytes: each takes some 2 KiB, and more with long headers.
const MEMORY: u64 = 16 << 20;
/// What one takes beside its key, in bytes.
const OVERHEAD: usize = 1536;

/// Answers hits.
pub struct HitPath {
    intake: Arc<Intake>,
    handler: Handler,
    metrics: EdgeMetrics,
    outflow: Outflow,
    access_log: Arc<AccessLog>,
    spans: Spans,
    remembered: Cache<Box<[u8]>, Arc<Remembered>, RandomState>,
    filed: Filed,
}

/// An answer that is being sent.
pub struct Sending {
    context: RequestContext,
    of: Arc<Remembered>,
}

// === impl HitPath ===

impl HitPath {
    /// The fast path beside `edge`.
    pub fn of(edge: &Edge) -> Self {
        Self {
            intake: Arc::clone(&edge.intake),
            handler: edge.handler.clone(),
            metrics: edge.metrics.clone(),
            outflow: edge.outflow.clone(),
            access_log: Arc::clone(&edge.access_log),
            spans: edge.spans.clone(),
            remembered: Cache::builder()
                .weigher(weight)
                .max_capacity(MEMORY)
                .build_with_hasher(RandomState::new()),
            filed: Filed::new(),
        }
    }

    /// Works out what `head` asks for, and remembers it if it is a hit now.
    fn work_out(&self, head: &Head<'_>, facts: &Facts, now: SystemTime) -> Option<(Arc<Remembered>, Hit)> {
        let (uri, headers) = (head.target.parse().ok()?, head.headers()?);
        let method = if head.without_body { Method::HEAD } else { Method::GET };
        let parts = intake::Head {
            method: &method,
            uri: &uri,
            raw_path: head.target.as_bytes(),
            headers: &headers,
            http1: true,
            asker: Some(facts.asker(&headers)),
        };
        if !matches!(self.intake.mounts.find(head.target), Ok(None)) {
            return None;
        }
        let lookup = self.handler.lookup(self.intake.read(parts).ok()?)?;
        let hit = self.handler.hit(&lookup, head.client(facts)?, now)?;
        let context = RequestContext::new(self.metrics.begin(), self.outflow.clone());
        let known = Remembered::new(lookup, &hit, context, &self.metrics, now)?;
        Some((Arc::new(known), hit))
    }
}

#[expect(clippy::borrowed_box, reason = "the cache wants a function of its very key")]
fn weight(key: &Box<[u8]>, _: &Arc<Remembered>) -> u32 {
    // The values of the key stand in the request too.
    u32::try_from(2 * key.len() + OVERHEAD).unwrap_or(u32::MAX)
}

impl FastPath for HitPath {
    type Note = Box<Sending>;

    fn answer(&self, request: &[u8], facts: &Facts, is_last: bool) -> Option<Answer<Box<Sending>>> {
        let head = Head::read(request, facts.believes_headers())?;
        let now = self.intake.clock.now();
        let client = head.client(facts)?;
        let known = head.with_key(facts.is_tls(), |key| self.remembered.get(key));
        let found = known.and_then(|known| {
            let hit = self.handler.hit(known.lookup(), client, now)?;
            known.is_of(&hit).then_some((known, hit))
        });
        let (of, hit) = if let Some(found) = found {
            found
        } else {
            let (known, hit) = self.work_out(&head, facts, now)?;
            head.with_key(facts.is_tls(), |key| self.remembered.insert(key.into(), Arc::clone(&known)));
            (known, hit)
        };
        let bytes = of.body(&hit)?;
        let filed = !facts.is_tls() && of.is_in_much_use();
        let body = if filed {
            self.filed.body(of.edition(), bytes, || of.is_worth_a_file())
        } else {
            Body::Bytes(bytes)
        };
        let context = RequestContext::new(self.metrics.begin(), self.outflow.clone());
        let mut note = Box::new(Sending { context, of });
        let Sending { context, of } = &mut *note;
        (context.client, context.trace) = (Some(client), self.spans.begin());
        context.sent = body.length() as u64;
        of.describe(context, &hit);
        let is_last = is_last || head.closes;
        let bytes = of.head(&hit, context, now, is_last);
        Some(Answer { length: head.length, head: bytes, body, is_last, note })
    }

    fn over(&self, mut note: Box<Sending>, sent: u64, error: Option<io::Error>) {
        let Sending { context, of } = &mut *note;
        context.sent = sent;
        of.tally().ended(context);
        access_log::note(context, &self.handler);
        let error = error.map(|error| Error::because(ErrorType::WriteError, "the answer broke off", error));
        self.access_log.line(error.as_deref(), context);
        spans::over(&self.spans, error.as_deref(), context);
    }
}
