//! "There is no such thing", remembered for seconds: per caller, since the service also says so to those who may not
//! look (facts §6), and until a write or the time to live.
//!
//! What is kept is small and in memory only. Which answers are definite enough is `handler`'s part.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;

use super::Generation;

/// Memory for refusals, in bytes; anybody with a credential can cause them.
const MEMORY: u64 = 16 << 20;
/// What one costs beside its key and its text, in bytes.
const OVERHEAD: usize = 256;

/// Refusals by caller and key.
pub struct NegativeCache<V> {
    refusals: Cache<String, Refused<V>>,
    ttl: Duration,
}

/// A refusal, and what it was good for.
struct Refused<V> {
    value: Arc<V>,
    bytes: usize,
    at: SystemTime,
    generation: Generation,
}

impl<V> Clone for Refused<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), bytes: self.bytes, at: self.at, generation: self.generation }
    }
}

// === impl NegativeCache ===

impl<V: Send + Sync + 'static> NegativeCache<V> {
    /// Keeps refusals for `ttl`; zero keeps none.
    pub fn new(ttl: Duration) -> Self {
        let weigh = |key: &String, refused: &Refused<V>| {
            u32::try_from(key.len() + refused.bytes + OVERHEAD).unwrap_or(u32::MAX)
        };
        Self { refusals: Cache::builder().max_capacity(MEMORY).weigher(weigh).build(), ttl }
    }

    /// The refusal under `key`, if it is of this generation and young enough.
    pub fn get(&self, key: &str, generation: Generation, now: SystemTime) -> Option<Arc<V>> {
        let refused = self.refusals.get(key)?;
        let age = now.duration_since(refused.at).unwrap_or_default();
        (age < self.ttl && refused.generation == generation).then_some(refused.value)
    }

    /// Keeps a refusal whose text has `bytes` bytes.
    pub fn put(&self, key: String, value: Arc<V>, bytes: usize, generation: Generation, now: SystemTime) {
        if !self.ttl.is_zero() {
            self.refusals.insert(key, Refused { value, bytes, at: now, generation });
        }
    }

    /// Forgets what is under `key`: the thing is there.
    pub fn forget(&self, key: &str) {
        self.refusals.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{Generation, NegativeCache};

    #[test]
    fn a_refusal_is_good_for_its_time_its_caller_and_its_generation() {
        let refusals = NegativeCache::new(Duration::from_secs(10));
        let (now, seconds) = (UNIX_EPOCH + Duration::from_secs(1_000), Duration::from_secs);
        let later = Generation { removals: 0, changes: 1 };
        refusals.put("alice a".to_owned(), Arc::new("no"), 2, Generation::default(), now);
        let get =
            |key, generation, after| refusals.get(key, generation, now + seconds(after)).as_deref().copied();
        assert_eq!(get("alice a", Generation::default(), 9), Some("no"));
        assert_eq!(get("alice a", Generation::default(), 10), None);
        assert_eq!(get("alice a", later, 0), None);
        assert_eq!(get("bob a", Generation::default(), 0), None);
        refusals.forget("alice a");
        assert_eq!(get("alice a", Generation::default(), 0), None);
    }

    #[test]
    fn without_a_time_to_live_nothing_is_kept() {
        let refusals = NegativeCache::new(Duration::ZERO);
        refusals.put("a".to_owned(), Arc::new(1), 1, Generation::default(), UNIX_EPOCH);
        assert_eq!(refusals.get("a", Generation::default(), UNIX_EPOCH), None);
    }
}
