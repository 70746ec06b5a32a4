//! Who may ask at all, before anything is looked up: callers of the gate's own credential, and strangers, of whom
//! nothing is known.
//!
//! A stranger waits for the answer to one question, whether it may read the feed, whatever is stored: so neither the
//! answer nor its time tells what is. How many refusals that may cost the service is limited by address.

use std::sync::Arc;

use http::Method;
use tokio::task::JoinSet;

use super::{Handler, HandlerError, Outcome, Request, permission::is_denial, reads, wishes::Wishes};
use crate::{
    access::{Asking, Audience, Caller, Standing, Unknown},
    config::access::Rights,
    ident::FeedRef,
    route::Target,
};

/// What the caller of the gate's credential is told of a refusal: that it is the gate's.
pub(super) fn of_gate(request: &Request, error: HandlerError) -> HandlerError {
    match error {
        HandlerError::Refused(refusal) if request.caller.is_gate() && is_denial(refusal.status) => {
            HandlerError::GateRefused(Arc::clone(&refusal))
        }
        error => error,
    }
}

/// What is needed for a request. A question in a body changes nothing, and neither does asking for the routes.
fn needs(request: &Request) -> Rights {
    let asks = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if asks || matches!(request.route.target, Target::Audit(_)) { Rights::Read } else { Rights::Write }
}

// === impl Handler ===

impl Handler {
    /// Lets the caller in, as the gate where the gate asks with its own credential.
    pub(super) async fn admit(&self, request: &mut Request) -> Result<(), HandlerError> {
        let asking = Asking {
            caller: &request.caller,
            address: request.address,
            org: &request.route.org,
            feed: request.route.target.feed(),
            needs: needs(request),
            headers: &request.headers,
        };
        let identity = |feed: &FeedRef| self.known_identity(feed);
        if let Some(gate) = self.parts.gateway.admit(asking, identity, self.now()).await? {
            request.caller = gate;
        }
        Ok(())
    }

    /// Keeps the gate's own credentials, and the tokens that callers show; ends when the set is dropped.
    pub fn keep_credentials(&self, tasks: &mut JoinSet<()>) {
        if let Some(keeping) = self.parts.gateway.keep_tokens() {
            tasks.spawn(keeping);
        }
        for credential in self.parts.gateway.credentials() {
            tasks.spawn(credential.keep());
        }
    }

    /// Whether the service may be asked for `feed` on behalf of `caller`.
    pub(super) fn may_ask(&self, caller: &Caller, feed: Option<&FeedRef>) -> Result<(), HandlerError> {
        self.online(feed)?;
        match caller.lacks_credential() {
            Some(error) => Err(HandlerError::NoCredential(error.clone())),
            None => Ok(()),
        }
    }

    /// A caller with a credential of which nothing is known where it asks.
    pub(super) fn stranger(&self, request: &Request) -> Option<Unknown> {
        let caller = &request.caller;
        if caller.is_gate() || caller.audience() == Audience::Anonymous {
            return None;
        }
        let known = request.route.target.feed().is_some_and(|feed| {
            !matches!(self.standing(caller, &self.identified_now(feed)), Standing::Unknown)
        });
        let address = request.address.filter(|_| !known)?;
        Some(Unknown { address, caller: *caller.id() })
    }

    /// Answers a stranger, within what its address and its credential may still cost.
    pub(super) async fn answer_stranger(
        &self,
        request: &mut Request,
        who: Unknown,
    ) -> Result<Outcome, HandlerError> {
        let too_many = |retry_after| HandlerError::Attempts { retry_after };
        let passes = matches!(request.route.target, Target::Passthrough(_) | Target::Audit(_));
        if !reads(request) || passes || Wishes::of(&request.headers).only_if_cached {
            self.parts.attempts.check(&who).map_err(too_many)?;
            return self.answer_known(request, Some(who)).await;
        }
        let place = self.parts.attempts.begin(&who).await.map_err(too_many)?;
        self.identify(request).await?;
        // A feed whose index gave no word just now is not asked for it again: the request itself is the question then.
        if let Some(feed) = request.route.target.feed().filter(|feed| feed.is_identified()) {
            self.permission(request, feed).await?;
        }
        drop(place);
        self.answer_known(request, Some(who)).await
    }

    /// Counts the end of what a stranger asked.
    pub(super) fn note_attempt(&self, who: &Unknown, error: &HandlerError) {
        if let HandlerError::Refused(refusal) = error
            && is_denial(refusal.status)
        {
            self.parts.attempts.refused(who);
        }
    }
}
