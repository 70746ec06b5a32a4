//! Downloads under way, for whoever asks for the same package meanwhile.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{blob::fill::Fill, ident::StorageId};

/// Downloads by canonical package key, from their head until they are stored: callers who may read the feed
/// follow them as they would read a stored blob.
#[derive(Default)]
pub(super) struct Arriving(Mutex<HashMap<String, Arrival>>);

/// A download and the content that it was announced to be.
type Arrival = (Arc<Fill>, Option<StorageId>);

// === impl Arriving ===

impl Arriving {
    /// Downloads that are not over and stored yet.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// The download of a package.
    pub(super) fn get(&self, key: &str) -> Option<Arrival> {
        self.0.lock().get(key).cloned()
    }

    /// A download has begun.
    pub(super) fn insert(&self, key: &str, fill: &Arc<Fill>, id: Option<StorageId>) {
        self.0.lock().insert(key.to_owned(), (Arc::clone(fill), id));
    }

    /// Forgets `fill`, and not another one that came in its place.
    pub(super) fn remove(&self, key: &str, fill: &Arc<Fill>) {
        let mut arriving = self.0.lock();
        if arriving.get(key).is_some_and(|(held, _)| Arc::ptr_eq(held, fill)) {
            arriving.remove(key);
        }
    }
}
