//! Whether the service lets a caller read a feed: from a recent verdict, or by asking.
//!
//! The question asked is the feed's NuGet service index: every feed has one, it is small, and it needs the
//! same right as reading packages. When its answer decides nothing (a 404, say), the caller's own request goes
//! to the service instead and is the verdict.

use std::{future::Future, sync::Arc};

use http::{HeaderMap, StatusCode};

use super::{Handler, HandlerError, Request, asking::Urgency};
use crate::{
    access::{Audience, Caller, Standing},
    config::Mode,
    ident::FeedRef,
    route::{Document, DocumentRoute, Target},
    upstream::{Refusal, Service},
};

/// What the service index is called where slow documents are remembered: all of them are one question.
pub(super) const INDEX: &str = "index";

/// The answer to "may this caller read this feed?", where it is not "no".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    /// Yes; or it was yes not too long ago and the service cannot be asked.
    Granted,
    /// The service gave no word: the request itself must be put to it.
    Undecided,
}

// === impl Handler ===

impl Handler {
    /// Whether stored objects of `feed` may go to the caller of `request`.
    pub(super) async fn permission(
        &self,
        request: &Request,
        feed: &FeedRef,
    ) -> Result<Permission, HandlerError> {
        let caller = &request.caller;
        let standing = self.standing(caller, feed);
        if self.rehearsal.is_none() {
            self.parts.metrics.verdict(&standing);
        }
        match standing {
            Standing::Allowed => Ok(Permission::Granted),
            Standing::Denied(refusal) => Err(HandlerError::Refused(refusal)),
            Standing::Unknown if caller.audience() == Audience::Anonymous => {
                self.ask_for_anonymous(request, feed).await
            }
            Standing::Unknown => self.ask(request, feed, Urgency::Needed).await,
            Standing::Grace if self.mode(feed) == Mode::Strict => {
                self.ask(request, feed, Urgency::Needed).await
            }
            // Only a question about this very feed counts: any other failure may be of the caller's making.
            Standing::Grace if self.gets_no_word(feed) => Ok(Permission::Granted),
            Standing::Grace => self.ask_lapsed(request, feed).await,
        }
    }

    /// Turns away a caller whom the service has just refused, before anything is looked up: how long that takes would
    /// tell what is stored. What is passed through the service decides on each time.
    pub(super) fn turn_away_denied(&self, request: &Request) -> Result<(), HandlerError> {
        let target = &request.route.target;
        let feed = target.feed().filter(|_| !matches!(target, Target::Passthrough(_)));
        let Some(feed) = feed else { return Ok(()) };
        let standing = self.standing(&request.caller, feed);
        if let Standing::Denied(refusal) = &standing {
            self.parts.metrics.verdict(&standing);
            return Err(HandlerError::Refused(Arc::clone(refusal)));
        }
        Ok(())
    }

    /// The same without asking the service, for a caller who forbids that (`only-if-cached`).
    ///
    /// A permission that has lapsed is not enough, unless the service was asked a moment ago and gave no word: else
    /// a caller whose right was taken away could go on reading by forbidding the question.
    pub(super) fn permission_unasked(&self, request: &Request, feed: &FeedRef) -> Result<(), HandlerError> {
        match self.standing(&request.caller, feed) {
            Standing::Allowed => Ok(()),
            Standing::Grace if self.mode(feed) != Mode::Strict && self.gets_no_word(feed) => Ok(()),
            Standing::Denied(refusal) => Err(HandlerError::Refused(refusal)),
            Standing::Grace | Standing::Unknown => Err(HandlerError::OnlyIfCached),
        }
    }

    /// Whether a lapsed permission still covers the stored copy after the caller's own request ended in `error`.
    pub(super) fn grace_covers(&self, request: &Request, feed: &FeedRef, error: &HandlerError) -> bool {
        let lapsed = matches!(self.standing(&request.caller, feed), Standing::Grace);
        error.is_outage() && !error.is_own_queue() && lapsed && self.mode(feed) != Mode::Strict
    }

    /// Before anything is asked on behalf of an anonymous caller of whom nothing is known: NuGet asks for every
    /// URL without a credential first, and one refusal answers them all.
    pub(super) async fn screen_anonymous(
        &self,
        request: &Request,
        feed: &FeedRef,
    ) -> Result<(), HandlerError> {
        if request.caller.audience() == Audience::Anonymous {
            let unanswered = |error: &HandlerError| {
                matches!(
                    error,
                    HandlerError::Timeout(_)
                        | HandlerError::Throttled(_)
                        | HandlerError::Unavailable(_)
                        | HandlerError::Dead(_)
                        | HandlerError::Offline
                )
            };
            match self.permission(request, feed).await {
                Err(error @ HandlerError::Refused(_)) => return Err(error),
                // The next question would only take as long again.
                Err(error) if unanswered(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Where the caller stands.
    pub(super) fn standing(&self, caller: &Caller, feed: &FeedRef) -> Standing {
        if self.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.allows(feed)) {
            return Standing::Allowed;
        }
        self.parts.access.standing(caller, feed, self.now())
    }

    /// Waits for the service as long as a caller with a stored copy should; `None` when that is over.
    /// A `document` of `feed` on the pkgs host that takes longer is remembered.
    pub(super) async fn patiently<T>(
        &self,
        document: &str,
        feed: &FeedRef,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let waited = tokio::time::timeout(self.parts.outage.patience, work).await.ok();
        if waited.is_none() {
            self.outage.slow(Service::Pkgs, &feed.org, document.to_owned());
        }
        waited
    }

    /// Whether the service cannot be asked who may read `feed`. Only a question about this very feed counts: any
    /// other failure may be of the caller's making.
    fn gets_no_word(&self, feed: &FeedRef) -> bool {
        self.outage.gave_no_word(feed.key()) || self.mode(feed) == Mode::Offline
    }

    /// Notes a refusal of a document: it speaks of the whole feed.
    pub(super) fn note_refusal(&self, caller: &Caller, feed: &FeedRef, refusal: &Arc<Refusal>) {
        if is_denial(refusal.status) {
            self.parts.access.deny(caller, feed, Arc::clone(refusal), self.now());
        }
    }

    /// Asks about callers without a credential. While the service gives no word, they are told to show one: a
    /// client that has one goes on with it, where any other answer would be the end of its install.
    async fn ask_for_anonymous(&self, request: &Request, feed: &FeedRef) -> Result<Permission, HandlerError> {
        let unknown = || Err(HandlerError::Refused(Arc::new(Refusal::credential_needed())));
        if self.suspects(Service::Pkgs, feed) {
            return unknown();
        }
        match self.patiently(INDEX, feed, self.ask(request, feed, Urgency::Wished)).await {
            Some(Err(error)) if error.is_outage() => unknown(),
            Some(answer) => answer,
            None => unknown(),
        }
    }

    /// Asks about a caller whose permission has lapsed: it holds on while the service gives no word. A queue of the
    /// gate's own is none of the service's silence, and the caller may have filled it: that is waited out.
    async fn ask_lapsed(&self, request: &Request, feed: &FeedRef) -> Result<Permission, HandlerError> {
        let answer = match self.patiently(INDEX, feed, self.ask(request, feed, Urgency::Wished)).await {
            Some(Err(error)) if error.is_own_queue() && !self.gets_no_word(feed) => {
                Some(self.ask(request, feed, Urgency::Needed).await)
            }
            answer => answer,
        };
        match answer {
            Some(Ok(permission)) => Ok(permission),
            // Meanwhile the service may have given others no word on this feed.
            Some(Err(error)) if error.is_own_queue() && self.gets_no_word(feed) => Ok(Permission::Granted),
            Some(Err(error)) if !error.is_outage() || error.is_own_queue() => Err(error),
            Some(Err(_)) | None => {
                self.outage.no_word(feed.key().to_owned());
                Ok(Permission::Granted)
            }
        }
    }

    async fn ask(
        &self,
        request: &Request,
        feed: &FeedRef,
        urgency: Urgency,
    ) -> Result<Permission, HandlerError> {
        let route = DocumentRoute { feed: feed.clone(), document: Document::ServiceIndex };
        let request = Request { headers: HeaderMap::new(), ..request.clone() };
        match self.fetch_as(&request, &route, urgency).await {
            Ok(_) => Ok(Permission::Granted),
            Err(HandlerError::Refused(refusal)) if !is_denial(refusal.status) => Ok(Permission::Undecided),
            Err(error) => Err(error),
        }
    }
}

/// Whether a status is the service's "no" to a caller.
pub(super) fn is_denial(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}
