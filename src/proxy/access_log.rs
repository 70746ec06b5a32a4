//! One structured line per request: enough to see why it took the way it took.

use pingora::Error;

use super::context::RequestContext;
use crate::{
    handler::HandlerError,
    route::{Mounted, Route, Target},
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
        | HandlerError::Timeout(_)
        | HandlerError::NoCredential(_)
        | HandlerError::Integrity(_) => {
            tracing::warn!(id = context.id, key = context.key, %error, "no stored copy stands in");
        }
    }
}

/// The line of a finished request.
pub fn line(error: Option<&Error>, context: &RequestContext) {
    // Its fields are not made for nobody.
    if !tracing::enabled!(target: "access", tracing::Level::INFO) {
        return;
    }
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
        sent_bytes = context.sent,
        duration_ms = u64::try_from(context.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        error = context.error.unwrap_or("-"),
        broken = error.map_or("-", |error| error.etype().as_str()),
        "request"
    );
}
