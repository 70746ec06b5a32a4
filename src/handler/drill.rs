//! A gate that takes the service to be down, for one caller or for a look at what it would answer.
//!
//! [`Handler::as_if_down`] shares the stores and asks nobody: what is not stored is not there, feeds in mode `strict` have
//! nothing to show, and downloads in progress are none of its business. Callers who are *drilled* get their answers from
//! it, for a bounded time; all others notice nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Handler, outage::OutageMemory};
use crate::access::{Audience, Caller, CallerId};

/// Longest time for which a caller is drilled: one who is forgotten gets well by himself.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// Most callers at a time.
const MOST: usize = 1000;

/// Callers who are drilled, and until when.
#[derive(Default)]
pub(super) struct Drills(Mutex<HashMap<CallerId, Instant>>);

// === impl Drills ===

impl Drills {
    /// Drills `caller` for `time` from now on; zero ends that.
    pub(super) fn enforce(&self, caller: &Caller, time: Duration) -> Result<(), &'static str> {
        if caller.audience() == Audience::Anonymous {
            return Err("a drill is for one credential: all who show none are one caller");
        }
        if time > LONGEST {
            return Err("a drill lasts at most 4 hours");
        }
        let now = Instant::now();
        let mut drilled = self.0.lock();
        drilled.retain(|id, until| now < *until && id != caller.id());
        if time > Duration::ZERO {
            if drilled.len() >= MOST {
                return Err("1000 callers are drilled already");
            }
            drilled.insert(*caller.id(), now + time);
        }
        tracing::info!(caller = %caller.id(), seconds = time.as_secs(), "answers as if the service were down");
        Ok(())
    }

    fn covers(&self, caller: &Caller) -> bool {
        let drilled = self.0.lock();
        !drilled.is_empty() && drilled.get(caller.id()).is_some_and(|until| Instant::now() < *until)
    }
}

// === impl Handler ===

impl Handler {
    /// The same gate as it is while the service is down.
    pub(super) fn as_if_down(&self) -> Self {
        Self {
            pretends: true,
            outage: Arc::new(OutageMemory::new(self.parts.outage.cooldown)),
            // What others are fetching is not there yet, and a failure here is none of theirs.
            fetches: Arc::default(),
            locations: Arc::default(),
            downloads: Arc::default(),
            arriving: Arc::default(),
            ..self.clone()
        }
    }

    /// Whether `caller` gets other answers than the rest.
    pub(super) fn drills(&self, caller: &Caller) -> bool {
        self.pretends || self.drills.covers(caller)
    }

    /// Who answers `caller`.
    pub(super) fn for_caller(&self, caller: &Caller) -> Option<Self> {
        (!self.pretends && self.drills.covers(caller)).then(|| self.as_if_down())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::{Drills, LONGEST, MOST};
    use crate::access::CallerKey;

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_drilled_for_a_time_and_nobody_else() {
        let (drills, key) = (Drills::default(), CallerKey::random());
        let caller = |text: &str| key.caller(Some(&HeaderValue::from_str(text).unwrap()));
        let (one, other) = (caller("Basic one"), caller("Basic other"));
        let minute = Duration::from_secs(60);
        drills.enforce(&one, minute).unwrap();
        assert_eq!((drills.covers(&one), drills.covers(&other)), (true, false));
        tokio::time::advance(minute).await;
        assert!(!drills.covers(&one));
        drills.enforce(&one, LONGEST).unwrap();
        drills.enforce(&one, Duration::ZERO).unwrap();
        assert!(!drills.covers(&one));
        assert!(drills.enforce(&key.caller(None), minute).is_err());
        assert!(drills.enforce(&one, LONGEST + minute).is_err());
        for number in 0..MOST {
            drills.enforce(&caller(&format!("Basic {number}")), minute).unwrap();
        }
        assert!(drills.enforce(&other, minute).is_err());
        tokio::time::advance(minute).await;
        assert_eq!(drills.enforce(&other, minute), Ok(()));
    }
}
