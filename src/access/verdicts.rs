//! The table of verdicts: in memory (bounded), permissions also on disk so that they survive a restart.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use moka::sync::Cache;

use crate::{
    access::CallerId,
    disk::{Database, DiskError, Tree, TreeName},
    ident::FeedRef,
    upstream::Refusal,
};

/// Memory for verdicts, in bytes: a permission takes some 300, a refusal is kept with its whole body, and anybody
/// can cause refusals.
const MEMORY: u64 = 16 << 20;
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
    Denied {
        /// When the service said so.
        at: SystemTime,
        /// The answer to repeat.
        refusal: Arc<Refusal>,
    },
}

/// Why stored verdicts could not be read or removed.
#[derive(Debug, thiserror::Error)]
#[error("stored verdicts: {0}")]
pub struct VerdictError(#[from] DiskError);

pub(super) struct Verdicts {
    memory: Cache<Vec<u8>, Verdict>,
    tree: Tree,
}

// === impl Verdicts ===

impl Verdicts {
    pub(super) fn new(database: &Database) -> Self {
        let memory = Cache::builder().max_capacity(MEMORY).weigher(weight).build();
        Self { memory, tree: database.tree(TreeName::Verdict) }
    }

    pub(super) fn get(&self, caller: &CallerId, feed: &FeedRef) -> Option<Verdict> {
        let key = key(caller, feed);
        if let Some(verdict) = self.memory.get(&key) {
            return Some(verdict);
        }
        let stored = self.tree.get(&key).ok().flatten()?;
        let verdict = Verdict::Allowed { at: decode(&stored)? };
        self.memory.insert(key, verdict.clone());
        Some(verdict)
    }

    pub(super) fn allow(&self, caller: &CallerId, feed: &FeedRef, now: SystemTime) {
        let key = key(caller, feed);
        if let Err(error) = self.tree.insert(&key, &encode(now)) {
            tracing::warn!(%error, "verdict not stored");
        }
        self.memory.insert(key, Verdict::Allowed { at: now });
    }

    pub(super) fn deny(&self, caller: &CallerId, feed: &FeedRef, verdict: Verdict) {
        let key = key(caller, feed);
        self.remove_stored(&key);
        self.memory.insert(key, verdict);
    }

    pub(super) fn forget(&self, caller: &CallerId, feed: &FeedRef) {
        let key = key(caller, feed);
        self.remove_stored(&key);
        self.memory.invalidate(&key);
    }

    pub(super) fn forget_all(
        &self,
        is_meant: impl Fn(&CallerId, &str) -> bool,
    ) -> Result<usize, VerdictError> {
        let is_meant = |key: &[u8]| parse_key(key).is_some_and(|(caller, feed)| is_meant(&caller, feed));
        let mut dropped = HashSet::new();
        for (key, _) in self.memory.iter().filter(|(key, _)| is_meant(key)) {
            self.memory.invalidate(&*key);
            dropped.insert(key.to_vec());
        }
        for pair in self.tree.entries() {
            let (key, _) = pair?;
            if is_meant(&key) {
                self.tree.remove(&key)?;
                // It may have been read into memory meanwhile.
                self.memory.invalidate(&key.to_vec());
                dropped.insert(key.to_vec());
            }
        }
        Ok(dropped.len())
    }

    pub(super) fn prune(&self, over: impl Fn(SystemTime) -> bool) -> Result<usize, VerdictError> {
        let mut removed = 0;
        for pair in self.tree.scan_prefix(&[]) {
            let (key, value) = pair?;
            if decode(&value).is_none_or(&over) {
                self.tree.remove(&key)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn remove_stored(&self, key: &[u8]) {
        if let Err(error) = self.tree.remove(key) {
            tracing::error!(%error, "stored verdict not removed");
        }
    }
}

#[expect(clippy::ptr_arg, reason = "the cache wants a function of its very key")]
fn weight(key: &Vec<u8>, verdict: &Verdict) -> u32 {
    let refusal = match verdict {
        Verdict::Allowed { .. } => 0,
        Verdict::Denied { refusal, .. } => {
            let headers = refusal.headers.values().map(|value| value.len() + HEADER_OVERHEAD);
            refusal.body.len() + headers.sum::<usize>()
        }
    };
    u32::try_from(key.len() + OVERHEAD + refusal).unwrap_or(u32::MAX)
}

fn key(caller: &CallerId, feed: &FeedRef) -> Vec<u8> {
    let mut key = caller.as_bytes().to_vec();
    key.extend_from_slice(feed.key().as_bytes());
    key
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

    use super::{MEMORY, Verdict, weight};
    use crate::upstream::Refusal;

    #[test]
    fn a_refusal_weighs_what_its_text_takes() {
        let body = vec![b'x'; 64 << 10].into();
        let refusal =
            Refusal { status: StatusCode::UNAUTHORIZED, reason: None, headers: HeaderMap::new(), body };
        let denied = Verdict::Denied { at: UNIX_EPOCH, refusal: Arc::new(refusal) };
        let key = vec![0; 60];
        assert!(weight(&key, &denied) >= 64 << 10);
        let permissions = MEMORY / u64::from(weight(&key, &Verdict::Allowed { at: UNIX_EPOCH }));
        assert!(permissions > 40_000, "room for {permissions} permissions");
    }
}
