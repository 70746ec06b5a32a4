//! What was worked out for a request, and the head of its answer but for what changes with time.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    handler::{Edition, Hit, Lookup, RouteClass},
    proxy::{
        EdgeMetrics, RequestContext,
        metrics::Tally,
        reply::{Asked, CACHE_STATUS, REQUEST_ID, shape},
    },
};

/// Uses after which it is in much use.
const MUCH: u32 = 8;

/// What was worked out for a request.
pub(super) struct Remembered {
    lookup: Lookup,
    /// Of which bytes the head tells.
    edition: Edition,
    /// Status line and headers, without those that are of one answer.
    head: Vec<u8>,
    status: StatusCode,
    /// Whether the body follows.
    has_body: bool,
    tier: &'static str,
    storage_id: Option<HeaderValue>,
    class: RouteClass,
    key: String,
    tally: Tally,
    /// How often it was used, up to [`MUCH`], and then how often a file of its body was missing.
    uses: AtomicU32,
}

// === impl Remembered ===

impl Remembered {
    /// Remembers how `hit` answers `lookup`; none when it is no whole answer. `context` is of a request like it.
    pub(super) fn new(
        lookup: Lookup,
        hit: &Hit,
        mut context: RequestContext,
        metrics: &EdgeMetrics,
        now: SystemTime,
    ) -> Option<Self> {
        let reply = lookup.reply(hit, now);
        let tier = reply.tier();
        let asked = Asked { method: &lookup.request().method, headers: &lookup.request().headers };
        let is_package = hit.is_package();
        context.answering(&reply.headers, is_package);
        let (status, headers, _) = shape(&asked, reply, &context);
        let has_body = match status {
            StatusCode::OK => *asked.method == Method::GET,
            StatusCode::NOT_MODIFIED => false,
            _ => return None,
        };
        let (class, key) = (RouteClass::of(&lookup.request().route.target), lookup.key());
        (context.cache, context.tier, context.status) = (hit.cache(), tier, Some(status));
        (context.class, context.method) = (class, asked.method.clone());
        Some(Self {
            edition: hit.edition(),
            head: lasting(status, &headers),
            status,
            has_body,
            tier,
            storage_id: context.storage_id.clone(),
            class,
            key,
            tally: metrics.tally(&context),
            uses: AtomicU32::new(0),
            lookup,
        })
    }

    pub(super) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// Whether the head tells of the bytes that were found.
    pub(super) fn is_of(&self, hit: &Hit) -> bool {
        hit.is_of(&self.edition)
    }

    /// Of which bytes the head tells.
    pub(super) fn edition(&self) -> &Edition {
        &self.edition
    }

    /// Counts a use; whether there have been many.
    pub(super) fn is_in_much_use(&self) -> bool {
        self.uses.load(Ordering::Relaxed) >= MUCH || self.uses.fetch_add(1, Ordering::Relaxed) >= MUCH
    }

    /// Counts that there is no file of its body; whether one is to be made now. Where more bodies are in much use than
    /// there is room for, a file is soon gone again, and making one takes longer than a copy.
    pub(super) fn is_worth_a_file(&self) -> bool {
        self.uses.fetch_add(1, Ordering::Relaxed).is_multiple_of(MUCH)
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is sent after the head.
    pub(super) fn body(&self, hit: &Hit) -> Option<Bytes> {
        if self.has_body { hit.body() } else { Some(Bytes::new()) }
    }

    /// Notes for the log what is known of the answer.
    pub(super) fn describe(&self, context: &mut RequestContext, hit: &Hit) {
        let request = self.lookup.request();
        context.method = request.method.clone();
        context.class = self.class;
        context.key.clone_from(&self.key);
        context.caller = Some(*request.caller.id());
        context.cache = hit.cache();
        context.tier = self.tier;
        context.status = Some(self.status);
        context.storage_id.clone_from(&self.storage_id);
        context.answered_at = Some(context.started);
    }

    /// The whole head of one answer.
    pub(super) fn head(
        &self,
        hit: &Hit,
        context: &RequestContext,
        now: SystemTime,
        is_last: bool,
    ) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.head.len() + 256);
        head.extend_from_slice(&self.head);
        let (date, age, cache) = (httpdate::HttpDate::from(now), hit.age(now), hit.cache());
        let _ = write!(
            head,
            "date: {date}\r\nage: {age}\r\n{REQUEST_ID}: {}\r\n{CACHE_STATUS}: {cache}",
            context.id
        );
        head.extend_from_slice(if is_last { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
        head
    }
}

/// Status line and headers (RFC 9112 §4, §5), without those that are of one answer.
fn lasting(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in headers {
        if *name != header::AGE && *name != REQUEST_ID && *name != CACHE_STATUS {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
    }
    head
}
