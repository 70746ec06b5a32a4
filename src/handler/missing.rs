//! "There is no such document", repeated for seconds to the caller who was told so.
//!
//! Clients ask for what is not there again and again (optional peers, other sources' packages). The service says 404
//! also to those who may not look (facts §6), so its word is good for one caller, and only while that caller may read
//! the feed. 400, 401, 403, 429 and 5xx are never kept.

use std::sync::Arc;

use http::{StatusCode, header};

use super::{Handler, document::hex};
use crate::{
    access::{Caller, Standing},
    cache::Generation,
    route::DocumentRoute,
    upstream::Refusal,
};

// === impl Handler ===

impl Handler {
    /// The service's 404 of a moment ago to this caller, who may read the feed.
    pub(super) fn known_missing(&self, caller: &Caller, route: &DocumentRoute) -> Option<Arc<Refusal>> {
        let allowed = matches!(self.standing(caller, &route.feed), Standing::Allowed);
        let refusal = self.parts.missing.get(&key(caller, route), self.generation(route), self.now())?;
        allowed.then_some(refusal)
    }

    /// Notes a 404, if it is about the document.
    pub(super) fn note_missing(
        &self,
        caller: &Caller,
        route: &DocumentRoute,
        generation: Generation,
        refusal: &Refusal,
    ) {
        if is_definite(refusal) {
            let (key, bytes) = (key(caller, route), refusal.body.len());
            self.parts.missing.put(key, Arc::new(refusal.clone()), bytes, generation, self.now());
        }
    }
}

fn key(caller: &Caller, route: &DocumentRoute) -> String {
    format!("{} {}", hex(caller), route.key())
}

/// Whether a 404 is about the thing that was asked for: in the form of the service's errors (facts §5.5), and not a
/// page of something in between.
fn is_definite(refusal: &Refusal) -> bool {
    let kind = refusal.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    refusal.status == StatusCode::NOT_FOUND && kind.is_some_and(|kind| kind.starts_with("application/json"))
}
