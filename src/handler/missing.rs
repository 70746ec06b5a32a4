//! "There is no such thing", repeated for seconds to the caller who was told so.
//!
//! Clients ask for what is not there again and again (optional peers, other sources' packages). The service says 404
//! also to those who may not look (facts §6), so its word is good for one caller, and only while that caller may read
//! the feed. 400, 401, 403, 429 and 5xx are never kept.

use std::sync::Arc;

use http::{StatusCode, header};

use super::{Handler, document, document::hex};
use crate::{
    access::{Caller, Standing},
    cache::Generation,
    ident::FeedRef,
    route::{DocumentRoute, PackageRoute},
    upstream::Refusal,
};

/// A document or a package that may not be there.
pub(super) struct Sought<'a> {
    feed: &'a FeedRef,
    key: String,
    generation: Generation,
}

// === impl Handler ===

impl Handler {
    /// A document as of `generation`.
    pub(super) fn document_sought(route: &DocumentRoute, generation: Generation) -> Sought<'_> {
        Sought { feed: &route.feed, key: route.key(), generation }
    }

    /// A package as of now.
    pub(super) fn package_sought<'a>(&self, route: &'a PackageRoute) -> Sought<'a> {
        let generation = self.parts.generations.current(&route.feed, &route.subject());
        Sought { feed: &route.feed, key: route.key(), generation }
    }

    /// The service's 404 of a moment ago to this caller, who may read the feed.
    pub(super) fn known_missing(&self, caller: &Caller, sought: &Sought<'_>) -> Option<Arc<Refusal>> {
        let refusal = self.parts.missing.get(&sought.name(caller), sought.generation, self.now())?;
        self.is_allowed(caller, sought.feed).then_some(refusal)
    }

    /// Notes a 404, if it is about the thing itself.
    pub(super) fn note_missing(&self, caller: &Caller, sought: &Sought<'_>, refusal: &Refusal) {
        if is_definite(refusal) {
            let (name, bytes) = (sought.name(caller), refusal.body.len());
            self.parts.missing.put(name, Arc::new(refusal.clone()), bytes, sought.generation, self.now());
        }
    }

    /// Forgets a 404: the thing is there.
    pub(super) fn note_present(&self, caller: &Caller, sought: &Sought<'_>) {
        self.parts.missing.forget(&sought.name(caller));
    }

    /// The service says that there is no such document. The stored one is for all who may read the feed, so only a word
    /// to one of them, and on the document itself, ends it.
    pub(super) async fn gone(
        &self,
        caller: &Caller,
        route: &DocumentRoute,
        generation: Generation,
        refusal: &Refusal,
    ) {
        if is_definite(refusal) && self.is_allowed(caller, &route.feed) {
            self.parts.documents.remove(&document::key(route, caller.audience())).await;
        }
        self.note_missing(caller, &Self::document_sought(route, generation), refusal);
    }

    fn is_allowed(&self, caller: &Caller, feed: &FeedRef) -> bool {
        matches!(self.standing(caller, feed), Standing::Allowed)
    }
}

// === impl Sought ===

impl Sought<'_> {
    fn name(&self, caller: &Caller) -> String {
        format!("{} {}", hex(caller), self.key)
    }
}

/// Whether a 404 is about the thing that was asked for: in the form of the service's errors (facts §5.5), and not a
/// page of something in between.
fn is_definite(refusal: &Refusal) -> bool {
    let kind = refusal.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    matches!(refusal.status, StatusCode::NOT_FOUND | StatusCode::GONE)
        && kind.is_some_and(|kind| kind.starts_with("application/json"))
}
