//! Who may read a stored object: the service's own word, remembered for a while.
//!
//! Feeds are private. Before a stored object goes to a caller, the service must have answered that caller
//! with a 2xx (or a redirect to the bytes) for that feed and view not long ago: a *verdict*. This module
//! keeps verdicts and says where a caller stands; asking the service is `handler`'s part. Credentials are
//! known here by a keyed hash only, and the key never leaves the store's folder.
//!
//! Where the gate asks with a credential of its own (access mode `gateway`), verdicts are on the gate, and [`Gateway`]
//! says which callers it asks for: those with a gate token, and those from listed networks.

mod attempts;
mod caller;
mod gateway;
mod pages;
mod places;
mod tokens;
mod verdicts;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use attempts::{Attempt, Attempts, Unknown};
pub use caller::{Audience, Caller, CallerId, CallerKey};
pub use gateway::{Asking, By, Gateway, GatewayError, Stranger};
pub use pages::{is_foreign, names_address};
pub use places::{Same, Scope, same_feed};
pub use tokens::{Token, TokenError, TokenFile, Wanted, is_gate_token};
pub use verdicts::VerdictError;

use crate::{config, disk::Database, ident::FeedRef, upstream::Refusal};
use verdicts::{Denial, Verdict, Verdicts};

/// Where a caller stands towards a feed.
#[derive(Debug, Clone)]
pub enum Standing {
    /// The service let the caller read this feed within the verdict's time.
    Allowed,
    /// It did so longer ago; good only while the service cannot be asked.
    Grace,
    /// It refused the caller a moment ago, in these words.
    Denied(Arc<Refusal>),
    /// Nothing is known.
    Unknown,
}

/// Verdicts of the service on callers and feeds.
pub struct Access {
    verdicts: Verdicts,
    settings: config::Access,
}

// === impl Access ===

impl Access {
    /// Opens the verdicts kept in `database`.
    pub fn new(database: &Database, settings: config::Access) -> Self {
        Self { verdicts: Verdicts::new(database), settings }
    }

    /// Where `caller` stands towards `feed` at `now`.
    pub fn standing(&self, caller: &Caller, feed: &FeedRef, now: SystemTime) -> Standing {
        match self.verdicts.get(caller.id(), feed) {
            None => Standing::Unknown,
            Some(Verdict::Denied(Denial { at, refusal })) => {
                if age(at, now) <= self.denied_ttl(caller) {
                    Standing::Denied(refusal)
                } else {
                    Standing::Unknown
                }
            }
            Some(Verdict::Allowed { at }) => {
                let age = age(at, now);
                if age <= self.settings.verdict_ttl {
                    Standing::Allowed
                } else if age <= self.settings.grace {
                    Standing::Grace
                } else {
                    Standing::Unknown
                }
            }
        }
    }

    /// The service just let `caller` read `feed`.
    pub fn allow(&self, caller: &Caller, feed: &FeedRef, now: SystemTime) {
        // A verdict is written to disk only when the stored one is half used up: one write for a whole install.
        let recent = match self.verdicts.get(caller.id(), feed) {
            Some(Verdict::Allowed { at }) => age(at, now) * 2 <= self.settings.verdict_ttl,
            Some(Verdict::Denied(_)) | None => false,
        };
        if !recent {
            self.verdicts.allow(caller.id(), feed, now);
        }
    }

    /// The service just refused `caller` for `feed`: what it allowed before is void.
    pub fn deny(&self, caller: &Caller, feed: &FeedRef, refusal: Arc<Refusal>, now: SystemTime) {
        self.verdicts.deny(caller.id(), feed, Denial { at: now, refusal });
    }

    /// Drops the verdict of `caller` on `feed`, so that the service is asked again.
    pub fn forget(&self, caller: &Caller, feed: &FeedRef) {
        self.verdicts.forget(caller.id(), feed);
    }

    /// Drops the verdicts that are meant, by caller and by the feed's key; how many. Blocking.
    ///
    /// # Errors
    /// When the disk cannot be read; those in memory are dropped in any case.
    pub fn forget_all(&self, is_meant: impl Fn(&CallerId, &str) -> bool) -> Result<usize, VerdictError> {
        self.verdicts.forget_all(is_meant)
    }

    /// Writes down what is only in memory yet. Blocking.
    pub fn settle(&self) {
        self.verdicts.settle();
    }

    /// Removes stored verdicts whose grace is over. Blocking.
    pub fn prune(&self, now: SystemTime) -> Result<usize, VerdictError> {
        self.verdicts.prune(|at| age(at, now) > self.settings.grace)
    }

    fn denied_ttl(&self, caller: &Caller) -> Duration {
        match caller.audience() {
            Audience::Anonymous => self.settings.anonymous_denied_ttl,
            Audience::Authenticated => self.settings.denied_ttl,
        }
    }
}

fn age(at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(at).unwrap_or_default()
}

#[cfg(test)]
mod tests;
