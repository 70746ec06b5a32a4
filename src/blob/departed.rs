//! Which blobs were evicted lately, to notice those that come back: a store that evicts what is wanted again within
//! a day is too small for its builds. Arithmetic only; nothing is decided by it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;

use crate::ident::StorageId;

/// How long a blob that was evicted is remembered: builds that run daily want the same packages.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Most blobs that are remembered; some 40 bytes each.
const MOST: usize = 65_536;

/// The blobs evicted lately. They are known by a part of their hash: two that share it would be counted wrong once.
#[derive(Debug, Default)]
pub(super) struct Departed(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// When each left, in milliseconds since 1970.
    times: HashMap<u64, u64>,
    /// In the order in which they left; some came back since.
    order: VecDeque<u64>,
}

// === impl Departed ===

impl Departed {
    /// A blob was evicted at `now`, in milliseconds since 1970.
    pub(super) fn left(&self, id: &StorageId, now: u64) {
        let mut seen = self.0.lock();
        let name = name(id);
        if seen.times.insert(name, now).is_none() {
            seen.order.push_back(name);
        }
        while seen.order.len() > MOST {
            if let Some(oldest) = seen.order.pop_front() {
                seen.times.remove(&oldest);
            }
        }
    }

    /// A blob was stored at `now`: whether it had been evicted not long before. Tells so once.
    pub(super) fn came_back(&self, id: &StorageId, now: u64) -> bool {
        let mut seen = self.0.lock();
        // Its place in the order stays until its turn comes; that only makes others be forgotten a little early.
        let left = seen.times.remove(&name(id));
        left.is_some_and(|at| u128::from(now.saturating_sub(at)) <= REMEMBERED.as_millis())
    }
}

fn name(id: &StorageId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::{Departed, MOST, REMEMBERED};
    use crate::ident::StorageId;

    fn id(number: usize) -> StorageId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        StorageId::of_file(bytes)
    }

    #[test]
    fn a_blob_comes_back_once_and_within_a_day() {
        let (departed, day) = (Departed::default(), u64::try_from(REMEMBERED.as_millis()).unwrap());
        assert!(!departed.came_back(&id(1), 0), "it never left");
        departed.left(&id(1), 1_000);
        departed.left(&id(2), 1_000);
        assert!(departed.came_back(&id(1), 1_000 + day));
        assert!(!departed.came_back(&id(1), 1_000 + day), "told already");
        assert!(!departed.came_back(&id(2), 1_001 + day), "a day later");
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let departed = Departed::default();
        (0..=MOST).for_each(|number| departed.left(&id(number), 7));
        assert!(!departed.came_back(&id(0), 7));
        assert!(departed.came_back(&id(1), 7) && departed.came_back(&id(MOST), 7));
        // One that came back and leaves again has two places in the order, which stays bounded.
        (0..3 * MOST).for_each(|_| {
            departed.left(&id(5), 8);
            departed.came_back(&id(5), 8);
        });
        let seen = departed.0.lock();
        assert!(seen.order.len() <= MOST && seen.times.len() <= MOST);
    }
}
