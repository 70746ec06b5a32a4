//! Which feed a request means: learned from the feed's NuGet service index, once for each spelling and time to live.
//!
//! Every feed has an index, whatever its packages are. Asking for it with the caller's own credential also tells
//! whether the caller may read the feed, so for a new caller it takes the place of that question. Where the service
//! gives no word, a spelling stands for itself: correct, only less shared.

use super::{
    Fetched, Handler, HandlerError, Request,
    asking::Urgency,
    permission::{INDEX, is_denial},
    wishes::Wishes,
};
use crate::{
    access::Standing,
    cache::Known,
    document::service_index::feed_guids,
    ident::FeedRef,
    route::{Document, DocumentRoute},
    upstream::Service,
};

// === impl Handler ===

impl Handler {
    /// Puts the identity to the feed of `request`.
    ///
    /// # Errors
    /// A read is refused here when the service refuses the caller; a write is not, since it is no stored object
    /// that is asked for.
    pub(super) async fn identify(&self, request: &mut Request) -> Result<(), HandlerError> {
        let Some(feed) = request.route.target.feed().filter(|feed| !feed.is_identified()).cloned() else {
            return Ok(());
        };
        let unasked = Wishes::of(&request.headers).only_if_cached;
        let identified = match self.parts.identities.get(&feed, self.now()) {
            Known::Identity(identity) => feed.identified(&identity),
            Known::Old(identity) if unasked => feed.identified(&identity),
            Known::Unknown if unasked => return Ok(()),
            Known::Nothing => return Ok(()),
            Known::Old(identity) => self.identified_anew(request, feed, &identity).await,
            Known::Unknown => {
                let writes = request.route.target.effect(&request.method).is_some();
                match self.identified_first(request, &feed).await {
                    Ok(identified) => identified.unwrap_or(feed),
                    Err(_) if writes => feed,
                    Err(refusal) => return Err(refusal),
                }
            }
        };
        if let Some(feed) = request.route.target.feed_mut() {
            *feed = identified;
        }
        Ok(())
    }

    /// `feed` with what is known of its identity, however old that is; nobody is asked.
    pub(super) fn identified_now(&self, feed: &FeedRef) -> FeedRef {
        match self.parts.identities.get(feed, self.now()) {
            Known::Identity(identity) | Known::Old(identity) => feed.clone().identified(&identity),
            Known::Nothing | Known::Unknown => feed.clone(),
        }
    }

    /// Asks which feed a configured name means, where that is not known; what came of it is known afterwards.
    pub(super) async fn learn_named(&self, request: &Request, feed: &FeedRef) {
        if Wishes::of(&request.headers).only_if_cached {
            return;
        }
        match self.parts.identities.get(feed, self.now()) {
            Known::Identity(_) | Known::Nothing => {}
            Known::Old(identity) => {
                self.identified_anew(request, feed.clone(), &identity).await;
            }
            // Whoever may not read that feed goes without.
            Known::Unknown => drop(self.identified_first(request, feed).await),
        }
    }

    /// Reads the identity off the index of `feed` and remembers it.
    pub(super) fn learn(&self, feed: &FeedRef, index: &[u8]) -> FeedRef {
        let Some(guids) = feed_guids(index) else {
            self.parts.identities.learn_nothing(feed, self.now());
            return feed.clone();
        };
        let project = guids.project.as_deref().unwrap_or("-");
        let view = guids.view.or_else(|| feed.view.as_ref().map(|view| view.folded().to_owned()));
        let view = view.map_or(String::new(), |view| format!("@{view}"));
        let identity = format!("{}/{project}/{}{view}", feed.org.folded(), guids.feed);
        self.parts.identities.learn(feed, identity.clone(), self.now());
        feed.clone().identified(&identity)
    }

    /// The identity of a feed that had one: the old one holds unless the service tells another, or knows the feed no
    /// more.
    async fn identified_anew(&self, request: &Request, feed: FeedRef, identity: &str) -> FeedRef {
        let old = feed.clone().identified(identity);
        if self.suspects(Service::Pkgs, &old) {
            return old;
        }
        match self.patiently(INDEX, &old, self.index(request, &old, Urgency::Wished)).await {
            Some(Ok(identified)) => identified,
            Some(Err(HandlerError::Refused(refusal))) if !is_denial(refusal.status) => {
                self.parts.identities.learn_nothing(&feed, self.now());
                feed
            }
            Some(Err(error)) if !error.is_outage() || error.is_own_queue() => old,
            Some(Err(_)) | None => {
                // The question after permission would be the same one.
                self.outage.no_word(old.key().to_owned());
                old
            }
        }
    }

    async fn identified_first(
        &self,
        request: &Request,
        feed: &FeedRef,
    ) -> Result<Option<FeedRef>, HandlerError> {
        if let Standing::Denied(refusal) = self.standing(&request.caller, feed) {
            return Err(HandlerError::Refused(refusal));
        }
        if self.suspects(Service::Pkgs, feed) {
            return Ok(None);
        }
        match self.patiently(INDEX, feed, self.index(request, feed, Urgency::Wished)).await {
            Some(Ok(identified)) => Ok(Some(identified)),
            Some(Err(HandlerError::Refused(refusal))) if is_denial(refusal.status) => {
                Err(HandlerError::Refused(refusal))
            }
            Some(Err(HandlerError::Refused(_))) => {
                self.parts.identities.learn_nothing(feed, self.now());
                Ok(None)
            }
            // The service was not even asked: a long queue is no reason to do without the identity.
            Some(Err(HandlerError::Throttled(_))) => {
                Ok(self.index(request, feed, Urgency::Needed).await.ok())
            }
            Some(Err(_)) | None => Ok(None),
        }
    }

    async fn index(
        &self,
        request: &Request,
        feed: &FeedRef,
        urgency: Urgency,
    ) -> Result<FeedRef, HandlerError> {
        let route = DocumentRoute { feed: feed.clone(), document: Document::ServiceIndex };
        let Fetched { feed, .. } = self.fetch_as(request, &route, urgency).await?;
        Ok(feed)
    }
}
