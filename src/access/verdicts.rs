//! The table of verdicts: in memory (bounded), permissions also on disk so that they survive a restart.
//!
//! Memory is what counts: what is on disk is read when the gate starts, and written behind the answers, so that no request
//! waits for the disk. Permissions have a memory of their own, since anybody can cause refusals.

use std::{
    cell::RefCell,
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ahash::RandomState;
use moka::sync::Cache;

use crate::{
    access::CallerId,
    disk::{Behind, Database, DiskError, TreeName},
    ident::FeedRef,
    upstream::Refusal,
};

/// Memory for refusals, in bytes: each is kept with its whole body.
const MEMORY: u64 = 8 << 20;
/// Permissions that are remembered; each takes some 300 bytes. Of the others the service is asked again.
const PERMISSIONS: u64 = 50_000;
/// What a verdict takes beside its key and the refusal's text, in bytes.
const OVERHEAD: usize = 256;
/// What a header of a refusal takes beside its value, in bytes.
const HEADER_OVERHEAD: usize = 64;

/// What the service said of a caller and a feed.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It may read.
    Allowed {
        /// When the service last said so.
        at: SystemTime,
    },
    /// It may not.
    Denied(Denial),
}

/// A refusal of the service.
#[derive(Debug, Clone)]
pub(super) struct Denial {
    /// When the service said so.
    pub(super) at: SystemTime,
    /// The answer to repeat.
    pub(super) refusal: Arc<Refusal>,
}

/// Why stored verdicts could not be read or removed.
#[derive(Debug, thiserror::Error)]
#[error("stored verdicts: {0}")]
pub struct VerdictError(#[from] DiskError);

pub(super) struct Verdicts {
    allowed: Cache<Vec<u8>, SystemTime, RandomState>,
    denied: Cache<Vec<u8>, Denial, RandomState>,
    disk: Behind,
}

thread_local! {
    /// Where the key of a verdict that is looked up is put together.
    static SOUGHT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

// === impl Verdicts ===

impl Verdicts {
    /// Reads the permissions that `database` keeps.
    pub(super) fn new(database: &Database) -> Self {
        let allowed = Cache::builder().max_capacity(PERMISSIONS).build_with_hasher(RandomState::new());
        let denied = Cache::builder().max_capacity(MEMORY).weigher(weight);
        let denied = denied.build_with_hasher(RandomState::new());
        let tree = database.tree(TreeName::Verdict);
        let stored = tree.entries().filter_map(Result::ok);
        let known = stored.filter_map(|(key, value)| Some((key.to_vec(), decode(&value)?)));
        for (key, at) in known.take(usize::try_from(PERMISSIONS).unwrap_or(usize::MAX)) {
            allowed.insert(key, at);
        }
        Self { allowed, denied, disk: Behind::new(tree) }
    }

    pub(super) fn get(&self, caller: &CallerId, feed: &FeedRef) -> Option<Verdict> {
        SOUGHT.with_borrow_mut(|key| {
            key.clear();
            extend_key(key, caller, feed);
            // A refusal first: where both are there for a moment, it is the safe one.
            if let Some(denial) = self.denied.get(key) {
                return Some(Verdict::Denied(denial));
            }
            self.allowed.get(key).map(|at| Verdict::Allowed { at })
        })
    }

    pub(super) fn allow(&self, caller: &CallerId, feed: &FeedRef, now: SystemTime) {
        let key = key(caller, feed);
        self.denied.invalidate(&key);
        self.allowed.insert(key.clone(), now);
        self.disk.insert(key, encode(now).to_vec());
    }

    pub(super) fn deny(&self, caller: &CallerId, feed: &FeedRef, denial: Denial) {
        let key = key(caller, feed);
        self.drop_permission(&key);
        self.denied.insert(key, denial);
    }

    pub(super) fn forget(&self, caller: &CallerId, feed: &FeedRef) {
        let key = key(caller, feed);
        self.denied.invalidate(&key);
        self.drop_permission(&key);
    }

    /// Writes down what is only in memory yet. Blocking.
    pub(super) fn settle(&self) {
        self.disk.settle();
    }

    pub(super) fn forget_all(
        &self,
        is_meant: impl Fn(&CallerId, &str) -> bool,
    ) -> Result<usize, VerdictError> {
        let is_meant = |key: &[u8]| parse_key(key).is_some_and(|(caller, feed)| is_meant(&caller, feed));
        let mut dropped = HashSet::new();
        for (key, _) in self.allowed.iter().filter(|(key, _)| is_meant(key)) {
            self.drop_permission(&key);
            dropped.insert(key.to_vec());
        }
        for (key, _) in self.denied.iter().filter(|(key, _)| is_meant(key)) {
            self.denied.invalidate(&*key);
            dropped.insert(key.to_vec());
        }
        let tree = self.disk.tree();
        for pair in tree.entries() {
            let (key, _) = pair?;
            if is_meant(&key) {
                tree.remove(&key)?;
                dropped.insert(key.to_vec());
            }
        }
        Ok(dropped.len())
    }

    pub(super) fn prune(&self, over: impl Fn(SystemTime) -> bool) -> Result<usize, VerdictError> {
        for (key, _) in self.allowed.iter().filter(|(_, at)| over(*at)) {
            self.allowed.invalidate(&*key);
        }
        let (mut removed, tree) = (0, self.disk.tree());
        for pair in tree.entries() {
            let (key, value) = pair?;
            if decode(&value).is_none_or(&over) {
                tree.remove(&key)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn drop_permission(&self, key: &[u8]) {
        self.allowed.invalidate(key);
        // Also what memory had no room for: it must not come back at the next start.
        self.disk.remove(key.to_vec());
    }
}

#[expect(clippy::ptr_arg, reason = "the cache wants a function of its very key")]
fn weight(key: &Vec<u8>, denial: &Denial) -> u32 {
    let headers = denial.refusal.headers.values().map(|value| value.len() + HEADER_OVERHEAD);
    let refusal = denial.refusal.body.len() + headers.sum::<usize>();
    u32::try_from(key.len() + OVERHEAD + refusal).unwrap_or(u32::MAX)
}

fn key(caller: &CallerId, feed: &FeedRef) -> Vec<u8> {
    let mut key = Vec::new();
    extend_key(&mut key, caller, feed);
    key
}

fn extend_key(key: &mut Vec<u8>, caller: &CallerId, feed: &FeedRef) {
    key.extend_from_slice(caller.as_bytes());
    key.extend_from_slice(feed.key().as_bytes());
}

/// Reads what [`key`] wrote.
fn parse_key(key: &[u8]) -> Option<(CallerId, &str)> {
    let (caller, feed) = key.split_first_chunk()?;
    Some((CallerId::from_bytes(*caller), std::str::from_utf8(feed).ok()?))
}

fn encode(at: SystemTime) -> [u8; 8] {
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes()
}

fn decode(stored: &[u8]) -> Option<SystemTime> {
    let millis = u64::from_be_bytes(stored.try_into().ok()?);
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use http::{HeaderMap, StatusCode};

    use super::{Denial, weight};
    use crate::upstream::Refusal;

    #[test]
    fn a_refusal_weighs_what_its_text_takes() {
        let body = vec![b'x'; 64 << 10].into();
        let refusal =
            Refusal { status: StatusCode::UNAUTHORIZED, reason: None, headers: HeaderMap::new(), body };
        let denial = Denial { at: UNIX_EPOCH, refusal: Arc::new(refusal) };
        assert!(weight(&vec![0; 60], &denial) >= 64 << 10);
    }
}
