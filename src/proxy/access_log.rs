//! One structured line per request: enough to see why it took the way it took. Of hits only some have one, if so set.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::HeaderValue;
use pingora::Error;

use super::context::RequestContext;
use crate::{
    handler::{Ended, Handler, HandlerError},
    route::{Mounted, Route, Target},
    trace::Trace,
};

/// The canonical key of what a request asks for.
pub fn key_of(route: &Route) -> String {
    match &route.target {
        Target::Document(document) => document.key(),
        Target::Package(package) => package.key(),
        other @ (Target::Derived(_) | Target::Audit(_) | Target::Passthrough(_)) => {
            let path = other.upstream_path();
            format!("{}{}", route.org.folded(), path.split('?').next().unwrap_or_default())
        }
    }
}

/// The same for what lies below a mount.
pub fn key_of_mount(mounted: &Mounted) -> String {
    format!("mount {}: {}", mounted.index, mounted.path.split('?').next().unwrap_or_default())
}

/// Says why there is no object, where that is not the caller's own doing.
pub fn failure(error: &HandlerError, context: &RequestContext) {
    match error {
        HandlerError::Refused(refusal) => {
            tracing::debug!(
                id = context.id,
                key = context.key,
                status = refusal.status.as_u16(),
                "refused by the service"
            );
        }
        HandlerError::Method { .. } => tracing::debug!(id = context.id, %error, "method refused"),
        HandlerError::OnlyIfCached
        | HandlerError::Left
        | HandlerError::Dead(_)
        | HandlerError::Offline
        | HandlerError::Guarded(_)
        | HandlerError::Stranger(_)
        | HandlerError::Attempts { .. }
        | HandlerError::TooLarge { .. }
        | HandlerError::Crowded
        | HandlerError::Body(_) => {
            tracing::debug!(id = context.id, key = context.key, %error, "request refused");
        }
        HandlerError::NoAudit { .. } => {
            tracing::warn!(id = context.id, key = context.key, %error, "no audit");
        }
        HandlerError::GateRefused(_) => {
            tracing::error!(id = context.id, key = context.key, %error, "the gate itself is refused");
        }
        HandlerError::Internal(_) => {
            tracing::error!(id = context.id, key = context.key, %error, "internal error");
        }
        HandlerError::Failing { .. }
        | HandlerError::Throttled(_)
        | HandlerError::Unavailable(_)
        | HandlerError::Unusable { .. }
        | HandlerError::Timeout(_)
        | HandlerError::NoCredential(_)
        | HandlerError::Integrity(_) => {
            tracing::warn!(id = context.id, key = context.key, %error, "no stored copy stands in");
        }
    }
}

/// A request is over: it is noted for operators.
pub fn note(context: &RequestContext, handler: &Handler) {
    handler.lately().note(&Ended {
        key: &context.key,
        cache: context.cache,
        status: context.status.map_or(0, |status| status.as_u16()),
        code: context.error,
        client: context.client,
        took: context.started.elapsed(),
        at: handler.parts().clock.now(),
    });
}

/// Which requests have a line.
#[derive(Debug)]
pub struct AccessLog {
    /// One in so many hits has one.
    hits_per_line: usize,
    hits: AtomicUsize,
}

// === impl AccessLog ===

impl AccessLog {
    /// One in `hits_per_line` answers from the store has a line, and every other answer.
    pub fn new(hits_per_line: usize) -> Self {
        Self { hits_per_line: hits_per_line.max(1), hits: AtomicUsize::new(0) }
    }

    /// The line of a finished request, if it is to have one.
    pub fn line(&self, error: Option<&Error>, context: &RequestContext) {
        // Its fields are not made for nobody.
        if !tracing::enabled!(target: "access", tracing::Level::INFO) {
            return;
        }
        let ordinary = error.is_none() && context.error.is_none() && context.cache.is_hit();
        if !ordinary || self.hits.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.hits_per_line) {
            line(error, context);
        }
    }
}

fn line(error: Option<&Error>, context: &RequestContext) {
    let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let text =
        |value: &Option<HeaderValue>| Some(value.as_ref()?.to_str().ok()?.trim_matches('"').to_owned());
    let trace = |id: fn(&Trace) -> String| context.trace.as_ref().map(id);
    let client = context.client.map(|address| address.to_string());
    tracing::info!(
        target: "access",
        id = context.id,
        client = client.as_deref().unwrap_or("-"),
        caller = context.caller.map(|caller| caller.to_string()).as_deref().unwrap_or("-"),
        method = %context.method,
        class = context.class.as_str(),
        key = context.key,
        status = context.status.map_or(0, |status| status.as_u16()),
        cache = context.cache.label(),
        tier = context.tier,
        storage_id = text(&context.storage_id),
        sent_bytes = context.sent,
        answer_ms = context.answered_at.map(|at| milliseconds(at - context.started)),
        duration_ms = milliseconds(context.started.elapsed()),
        activity_id = text(&context.activity_id),
        trace_id = trace(Trace::id),
        span_id = trace(Trace::span),
        parent_id = context.trace.as_ref().and_then(Trace::parent),
        error = context.error.unwrap_or("-"),
        broken = error.map_or("-", |error| error.etype().as_str()),
        "request"
    );
}
