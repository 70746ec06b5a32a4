//! Blobs that are never evicted: which ones, and what they take of the budget.
//!
//! The store is told all of them at once and forgets them when it is closed; who decides about them writes that down (see
//! `handler`). In the eviction order they stay where their last use puts them. So that they are not looked at again and
//! again once they are the oldest, eviction remembers up to where there is nothing else.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::{BlobError, DiskStore, vault::Vault};
use crate::{blob::eviction::charge, ident::StorageId};

/// What pinned blobs may take of the budget: all but a quarter, in which the rest comes and goes.
const SHARE: (u64, u64) = (3, 4);

/// What a number of blobs takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// How many of them are stored.
    pub blobs: u64,
    /// The lengths of these added up, in bytes.
    pub bytes: u64,
    /// Bytes of the budget that they take.
    pub charge: u64,
}

/// How often eviction that finds nothing looks at all pinned blobs again. A look at 50,000 takes some 0.1 s.
const REWIND: Duration = Duration::from_secs(10);

/// Up to where in the eviction order all is pinned.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) key: Option<Bytes>,
    since: Option<Instant>,
}

/// The pinned blobs.
#[derive(Debug, Default)]
pub(super) struct Pins(RwLock<(Arc<HashSet<StorageId>>, Weight)>);

// === impl Passed ===

impl Passed {
    /// Begins anew with the oldest.
    pub(super) fn rewind(&mut self) {
        *self = Self { key: None, since: Some(Instant::now()) };
    }

    /// There is nothing behind: the next step begins anew, unless one has a moment ago.
    pub(super) fn exhausted(&mut self) {
        if self.since.is_none_or(|since| since.elapsed() >= REWIND) {
            self.rewind();
        }
    }
}

// === impl Pins ===

impl Pins {
    pub(super) fn contains(&self, id: &StorageId) -> bool {
        self.0.read().0.contains(id)
    }
}

// === impl DiskStore ===

impl DiskStore {
    /// Keeps `ids` from eviction from now on, stored or not, and no others.
    ///
    /// # Errors
    /// When the disk cannot be read; they are kept all the same.
    pub async fn pin(&self, ids: Arc<HashSet<StorageId>>) -> Result<(), BlobError> {
        let kept = Arc::clone(&ids);
        let keep = move |vault: &Arc<Vault>| {
            let mut passed = vault.evicting.lock();
            let before = std::mem::replace(&mut vault.pins.0.write().0, kept);
            if !before.is_subset(&vault.pins.0.read().0) {
                passed.rewind();
            }
            Ok(())
        };
        self.blocking("pin blobs", keep).await?;
        let weight = self.weigh(ids).await?;
        self.vault.pins.0.write().1 = weight;
        Ok(())
    }

    /// What is stored of `ids`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn weigh(&self, ids: Arc<HashSet<StorageId>>) -> Result<Weight, BlobError> {
        self.blocking("weigh blobs", move |vault| {
            let mut weight = Weight::default();
            for id in ids.iter() {
                let Some(record) = vault.find(id)? else { continue };
                weight.blobs += 1;
                weight.bytes += record.stat.length;
                weight.charge += charge(record.place, record.stat.length);
            }
            Ok(weight)
        })
        .await
    }

    /// What the pinned blobs take, as weighed when they were pinned.
    pub fn pinned(&self) -> Weight {
        self.vault.pins.0.read().1
    }

    /// What pinned blobs should take at most, in bytes of the budget.
    pub fn pin_limit(&self) -> u64 {
        let (share, of) = SHARE;
        self.vault.budget.capacity() / of * share
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use super::{
        super::tests::{LARGE, MIB, Place, SMALL, names},
        Weight,
    };
    use crate::{
        blob::{
            BlobError, BlobKind, BlobStore as _, DiskStore,
            conformance::{id_of, pattern},
        },
        ident::StorageId,
    };

    fn ids(names: impl IntoIterator<Item = u8>) -> Arc<HashSet<StorageId>> {
        Arc::new(names.into_iter().map(id_of).collect())
    }

    async fn turn_over(place: &Place, store: &DiskStore) {
        for name in 100..200 {
            place.store(store, name, &pattern(LARGE)).await;
        }
        store.maintain().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_pinned_outlasts_what_turns_the_store_over() {
        let place = Place::new(8 * MIB);
        let store = place.open().await;
        // One in the database, one in a file, and one of each that nothing keeps.
        for (name, length) in [(1, SMALL), (2, LARGE), (3, SMALL), (4, LARGE)] {
            place.store(&store, name, &pattern(length)).await;
        }
        store.pin(ids([1, 2, 50])).await.unwrap();
        let weight = store.pinned();
        assert_eq!(
            (weight.blobs, weight.bytes),
            (2, (SMALL + LARGE) as u64),
            "what is not stored weighs nothing"
        );
        assert!(weight.charge > weight.bytes && store.pin_limit() == 6 * MIB);
        turn_over(&place, &store).await;
        let left = names(&store).await;
        assert_eq!(left[..2], [1, 2], "{left:?}");
        assert!(!left.contains(&3) && !left.contains(&4) && left.len() > 5, "{left:?}");
        // A second time: the pinned ones are the oldest by far.
        turn_over(&place, &store).await;
        assert_eq!(names(&store).await[..2], [1, 2]);
        store.pin(ids([2])).await.unwrap();
        turn_over(&place, &store).await;
        let left = names(&store).await;
        assert!(!left.contains(&1) && left.contains(&2), "{left:?}");
        let usage = store.usage();
        assert!(usage.disk <= usage.capacity, "{usage:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn more_pins_do_not_make_eviction_begin_anew_and_fewer_do() {
        let place = Place::new(8 * MIB);
        let store = place.open().await;
        for name in 0..4 {
            place.store(&store, name, &pattern(LARGE)).await;
        }
        let passed = || store.vault.evicting.lock().key.clone();
        store.pin(ids(0..4)).await.unwrap();
        turn_over(&place, &store).await;
        let before = passed();
        assert!(before.is_some());
        store.pin(ids(0..5)).await.unwrap();
        assert_eq!(passed(), before);
        store.pin(ids(1..5)).await.unwrap();
        assert_eq!(passed(), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_pinned_leaves_no_room_for_more_than_fits_beside_it() {
        let place = Place::new(8 * MIB);
        let store = place.open().await;
        for name in 0..40 {
            place.store(&store, name, &pattern(LARGE)).await;
        }
        let all = names(&store).await;
        store.pin(ids(all.clone())).await.unwrap();
        let refused = store.begin(BlobKind::Package, Some(4 * MIB)).await.map(drop);
        assert!(matches!(refused, Err(BlobError::TooLarge { .. })), "{refused:?}");
        store.maintain().await.unwrap();
        assert_eq!(names(&store).await, all);
        store.pin(ids([])).await.unwrap();
        assert_eq!(store.pinned(), Weight::default());
        turn_over(&place, &store).await;
        assert!(names(&store).await.iter().all(|name| *name >= 100));
    }
}
