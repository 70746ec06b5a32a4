//! Which keys a tree may have, so that nobody waits for the disk to learn that it lacks one.
//!
//! A cold request asks for a package, a document and a blob that are not there, and each of these questions would go to a
//! thread that may block and back, while its client waits. So the hashes of all keys are kept in memory, some 10 to 18
//! bytes each. A key keeps its hash when it is removed, until the next start: "no" is certain, all else is "maybe", and
//! then the tree is asked. It is also "maybe" before the survey, a pass over the tree behind the start, and from
//! [`MOST`] keys on.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use ahash::RandomState;
use parking_lot::Mutex;

/// Parts with a lock each, so that none is held for long when its set grows.
const PARTS: usize = 64;
/// Keys that are known at most, some 70 MB.
const MOST: usize = 4 << 20;

/// Hashes of a tree's keys, and of those that it had.
pub(super) struct Keys {
    hasher: RandomState,
    /// None for a part that has too many.
    parts: [Mutex<Option<HashSet<u64, RandomState>>>; PARTS],
    most: usize,
    surveyed: AtomicBool,
}

// === impl Keys ===

impl Keys {
    /// Knows nothing yet, and later `most` keys at most.
    fn new(most: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::new(Some(HashSet::default()))),
            most,
            surveyed: AtomicBool::new(false),
        }
    }

    /// Takes a key. To be called before the tree has it.
    pub(super) fn add(&self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let mut part = self.part(hash).lock();
        if part.as_mut().is_some_and(|known| known.insert(hash) && known.len() > self.most / PARTS) {
            *part = None;
        }
    }

    /// All keys that the tree has were added.
    pub(super) fn surveyed(&self) {
        self.surveyed.store(true, Ordering::Release);
    }

    /// Whether the tree does not have a key.
    pub(super) fn lack(&self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        self.surveyed.load(Ordering::Acquire)
            && self.part(hash).lock().as_ref().is_some_and(|known| !known.contains(&hash))
    }

    fn part(&self, hash: u64) -> &Mutex<Option<HashSet<u64, RandomState>>> {
        // The upper bits: those below choose the place within a set.
        &self.parts[(hash >> 58) as usize % PARTS]
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, PARTS};

    #[test]
    fn only_after_the_survey_a_key_is_lacked_and_never_one_that_was_added() {
        let keys = Keys::default();
        keys.add(b"before");
        assert!(!keys.lack(b"other"));
        keys.surveyed();
        assert!(keys.lack(b"other") && keys.lack(b"") && !keys.lack(b"before"));
        keys.add(b"other");
        assert!(!keys.lack(b"other"));
    }

    #[test]
    fn too_many_keys_are_not_kept() {
        let keys = Keys::new(PARTS * 10);
        keys.surveyed();
        let lacked = |keys: &Keys| (0..1000_u32).filter(|key| keys.lack(&key.to_be_bytes())).count();
        assert_eq!(lacked(&keys), 1000);
        for key in 0..2000_u32 {
            keys.add(&key.to_be_bytes());
            keys.add(&key.to_be_bytes());
        }
        assert_eq!(lacked(&keys), 0);
        assert!(keys.parts.iter().all(|part| part.lock().as_ref().is_none_or(|known| known.len() <= 10)));
    }
}
