//! Documents without the versions that are kept from builds: what to leave out is worked out before, so that the work can
//! go to another thread.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::SystemTime,
};

use super::{
    super::Handler,
    Asked,
    ages::{released_as_told, sighting_key},
    named,
};
use crate::{
    cache::Seen,
    guard::{
        Guards, Unreadable, filter_feed, filter_packument, filter_registration, filter_search,
        filter_version_list,
    },
    route::{Document, DocumentRoute, OdataResource, Protocol},
};

/// What leaves versions out of one document.
pub(in crate::handler) struct Sieve {
    guards: Arc<Guards>,
    document: Document,
    asked: Asked,
    seen: Option<Arc<Seen>>,
    now: SystemTime,
}

// === impl Handler ===

impl Handler {
    /// What leaves versions out of a document, and what to keep the result under; `None` where nothing is left out.
    pub(in crate::handler) async fn sieve(&self, route: &DocumentRoute) -> Option<(Sieve, u64)> {
        if self.guards().are_off() {
            return None;
        }
        let (asked, now) = (self.asked_feeds(&route.feed), self.now());
        let (stamp, seen) = if let Some((name, protocol, _)) = named(&route.document) {
            let policy = self.guards().policy(&name, protocol, |feed| asked.is(feed));
            let key = || sighting_key(&route.feed, protocol, &name);
            let seen = if policy.asks_age() { self.parts.sightings.get(&key()).await } else { None };
            (stamped(policy.stamp(now)?, seen.as_deref()), seen)
        } else if is_search(&route.document) {
            // Of any packages: by the feed, which the stored bytes do not tell.
            let mut hasher = DefaultHasher::new();
            (route.feed.whole_key(), &asked).hash(&mut hasher);
            (hasher.finish(), None)
        } else {
            return None;
        };
        let guards = Arc::clone(&self.parts.guarding.guards);
        Some((Sieve { guards, document: route.document.clone(), asked, seen, now }, stamp))
    }
}

// === impl Sieve ===

impl Sieve {
    /// The document without what is left out; `None` if nothing is.
    ///
    /// # Errors
    /// [`Unreadable`]: nobody can say what would have to be left out.
    pub(in crate::handler) fn filter(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        if is_search(&self.document) {
            return self.filter_found(body);
        }
        // What is of one version was decided on before it was asked for.
        let Some((name, protocol, None)) = named(&self.document) else { return Ok(None) };
        let policy = self.guards.policy(&name, protocol, |feed| self.asked.is(feed));
        let refuses = |version: &str, told: Option<SystemTime>| {
            let released = released_as_told(self.seen.as_deref(), (protocol, version), told, self.now);
            policy.to_version(version, Some(released), self.now).is_some()
        };
        match self.document {
            Document::Packument(_) => filter_packument(body, refuses),
            Document::VersionList(_) => filter_version_list(body, refuses),
            Document::RegistrationIndex(..) | Document::RegistrationPage(..) => {
                filter_registration(body, refuses)
            }
            Document::Odata(_) => filter_feed(body, |_, version, told| refuses(version, told)),
            _ => Ok(None),
        }
    }

    /// Of search results versions of any age stay: whoever installs one asks for its own document.
    fn filter_found(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let refuses = |id: &str, version: Option<&str>| {
            let policy = self.guards.policy(id, Protocol::Nuget, |feed| self.asked.is(feed));
            let old = Some(SystemTime::UNIX_EPOCH);
            policy.to_name().is_some()
                || version.is_some_and(|version| policy.to_version(version, old, self.now).is_some())
        };
        match self.document {
            Document::Search(_) => filter_search(body, refuses),
            _ => filter_feed(body, |id, version, _| refuses(id, Some(version))),
        }
    }
}

/// The same once more is known of the versions.
fn stamped(stamp: u64, seen: Option<&Seen>) -> u64 {
    let Some(seen) = seen else { return stamp };
    let mut hasher = DefaultHasher::new();
    (stamp, seen.stage()).hash(&mut hasher);
    hasher.finish()
}

/// Whether a document names any packages, of a feed as a whole.
pub(super) fn is_search(document: &Document) -> bool {
    match document {
        Document::Search(_) => true,
        Document::Odata(odata) => matches!(
            odata.resource,
            OdataResource::Packages { count: false } | OdataResource::Search { count: false }
        ),
        _ => false,
    }
}
