//! Writes to a tree that nobody waits for: noted where a request is answered, done on a thread that may block.
//!
//! For what memory knows and the disk only keeps for the next start. The last write to a key is the one that is done, so
//! no more wait than there are keys; who reads the tree meanwhile has it settled first. What still waits at the end is
//! done when the last handle is dropped.

use std::{collections::HashMap, mem, sync::Arc};

use super::{DiskError, Tree, watch::may_block};
use crate::lanes;
use parking_lot::Mutex;

/// The value that a key is to have; none to remove it.
type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// A tree whose writes wait; cheap to clone.
#[derive(Clone)]
pub struct Behind(Arc<Inner>);

struct Inner {
    tree: Tree,
    waiting: Mutex<Waiting>,
    /// Held by who does them: a later write to a key is never done before an earlier one.
    doing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    writes: Writes,
    /// Whether somebody is about to do them.
    taken: bool,
}

// === impl Behind ===

impl Behind {
    /// Writes to `tree`.
    pub fn new(tree: Tree) -> Self {
        Self(Arc::new(Inner { tree, waiting: Mutex::default(), doing: Mutex::default() }))
    }

    /// Writes a value, soon.
    pub fn insert(&self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value));
    }

    /// Removes a value, soon.
    pub fn remove(&self, key: Vec<u8>) {
        self.write(key, None);
    }

    /// The tree, with all that was written so far. Blocking.
    pub fn tree(&self) -> &Tree {
        self.settle();
        &self.0.tree
    }

    /// Does what waits. Blocking.
    pub fn settle(&self) {
        self.0.settle();
    }

    fn write(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let mut waiting = self.0.waiting.lock();
        waiting.writes.insert(key, value);
        if mem::replace(&mut waiting.taken, true) {
            return;
        }
        drop(waiting);
        let inner = Arc::clone(&self.0);
        match lanes::home() {
            Some(home) => drop(home.spawn_blocking(move || may_block(|| inner.settle()))),
            None => inner.settle(),
        }
    }
}

// === impl Inner ===

impl Inner {
    fn settle(&self) {
        let _doing = self.doing.lock();
        loop {
            let writes = {
                let mut waiting = self.waiting.lock();
                waiting.taken = !waiting.writes.is_empty();
                mem::take(&mut waiting.writes)
            };
            if writes.is_empty() {
                return;
            }
            for (key, value) in writes {
                if let Err(error) = self.write(&key, value.as_deref()) {
                    tracing::error!(%error, "what is known is not on disk");
                }
            }
        }
    }

    fn write(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), DiskError> {
        match value {
            Some(value) => self.tree.insert(key, value),
            None => self.tree.remove(key).map(drop),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        may_block(|| self.settle());
    }
}

#[cfg(test)]
mod tests {
    use super::Behind;
    use crate::disk::{Database, DatabaseSettings, StoreDirectory, TreeName};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_write_to_a_key_is_the_one_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
            Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap().database
        };
        let key = |at: u32| at.to_be_bytes().to_vec();
        {
            let behind = Behind::new(open().tree(TreeName::Name));
            for round in 0..100_u32 {
                for at in 0..10 {
                    behind.insert(key(at), key(round));
                }
                behind.remove(key(9));
            }
            let first = behind.tree().get(&key(0)).unwrap();
            assert_eq!(first.as_deref(), Some(&key(99)[..]));
            behind.insert(key(0), key(100));
        }
        let tree = open().tree(TreeName::Name);
        let values: Vec<_> = tree.entries().map(|entry| entry.unwrap().1.to_vec()).collect();
        let expected: Vec<_> = (0..9).map(|at| key(if at == 0 { 100 } else { 99 })).collect();
        assert_eq!(values, expected);
    }
}
