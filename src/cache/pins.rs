//! Which packages and documents operators want kept, by their keys.
//!
//! A pin is on what a key names: it holds for the bytes that are stored under the key now and for those that take their
//! place. Which blobs these are, the store has to be [told](crate::blob::DiskStore::pin).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk::{Database, DiskError, Tree, TreeName};

/// First bytes of the tree's keys, so that a package's and a document's can never be the same.
const PACKAGE: u8 = b'p';
const DOCUMENT: u8 = b'd';

/// What is pinned. Cheap to clone; clones share everything. Every call blocks.
#[derive(Clone)]
pub struct Pins {
    tree: Tree,
}

/// A package, or a document, that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinKey {
    /// Whether it is a document.
    pub is_document: bool,
    /// Its key; with the letter of its audience, if it is a document.
    pub key: String,
}

// === impl Pins ===

impl Pins {
    /// Over what `database` keeps.
    pub fn new(database: &Database) -> Self {
        Self { tree: database.tree(TreeName::Pin) }
    }

    /// Pins `keys` from `now` on; those that are pinned already are since when they were.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add(&self, keys: &[PinKey], now: SystemTime) -> Result<(), DiskError> {
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let since = u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes();
        for key in keys.iter().map(PinKey::stored) {
            if !self.tree.contains(&key)? {
                self.tree.insert(&key, &since)?;
            }
        }
        Ok(())
    }

    /// Pins `keys` no more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, keys: &[PinKey]) -> Result<(), DiskError> {
        keys.iter().try_for_each(|key| self.tree.remove(&key.stored()).map(drop))
    }

    /// Whether `key` is pinned; not, where that cannot be read.
    pub fn contains(&self, key: &PinKey) -> bool {
        self.tree.contains(&key.stored()).unwrap_or(false)
    }

    /// All that is pinned, with since when.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn all(&self) -> Result<Vec<(PinKey, SystemTime)>, DiskError> {
        let entries = self.tree.entries().filter_map(|entry| match entry {
            Ok((key, since)) => Some(Ok((PinKey::read(&key)?, time(&since)?))),
            Err(error) => Some(Err(error)),
        });
        entries.collect()
    }
}

// === impl PinKey ===

impl PinKey {
    fn stored(&self) -> Vec<u8> {
        [&[if self.is_document { DOCUMENT } else { PACKAGE }], self.key.as_bytes()].concat()
    }

    fn read(stored: &[u8]) -> Option<Self> {
        let (kind, key) = stored.split_first()?;
        let key = String::from_utf8(key.to_vec()).ok()?;
        [PACKAGE, DOCUMENT].contains(kind).then_some(Self { is_document: *kind == DOCUMENT, key })
    }
}

fn time(stored: &[u8]) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_millis(u64::from_be_bytes(stored.try_into().ok()?)))
}
