//! Which blob a package version is, per feed and view: the step from a name to content.
//!
//! What was used lately is in memory and is answered where it is asked for. Everything else is read off the I/O
//! threads: the tree has an entry for each package version ever seen, and its pages may have to come from the disk.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ahash::RandomState;
use moka::sync::Cache;

use super::Turns;
use crate::{
    disk::{Database, DiskError, Tree, TreeName, off_thread},
    ident::StorageId,
};

/// Version byte of the stored form.
const VERSION: u8 = 2;
/// Memory for entries, in bytes.
const MEMORY: u64 = 16 << 20;
/// What an entry takes beside its key, in bytes.
const ENTRY_OVERHEAD: usize = 256;
/// Length of the stored form in bytes: version, milliseconds, storage id, removals, source.
const STORED: usize = 1 + 8 + 33 + 8 + 1;

/// A package version's bytes, as the service named them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageEntry {
    /// The blob.
    pub id: StorageId,
    /// When the service last named it.
    pub named_at: SystemTime,
    /// Removals before it was asked for ([`super::Generation::removals`]); after another one it is void.
    pub removals: u64,
    /// Who named it.
    pub source: Source,
}

/// Who named a package's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The redirect to the bytes, or the bytes themselves.
    Bytes,
    /// An answer of the REST API. The documents say so of it, no byte has confirmed it yet.
    Listing,
}

/// A listing and the bytes name different content for one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    /// What the listing says.
    pub listed: StorageId,
    /// What the bytes are.
    pub bytes: StorageId,
}

/// Package versions by canonical key. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct PackageIndex {
    tree: Tree,
    memory: Cache<Arc<str>, PackageEntry, RandomState>,
    turns: Arc<Turns>,
}

// === impl PackageIndex ===

impl PackageIndex {
    /// Over what `database` keeps.
    pub fn new(database: &Database) -> Self {
        let weight =
            |key: &Arc<str>, _: &PackageEntry| u32::try_from(key.len() + ENTRY_OVERHEAD).unwrap_or(u32::MAX);
        Self {
            tree: database.tree(TreeName::Package),
            memory: Cache::builder()
                .max_capacity(MEMORY)
                .weigher(weight)
                .build_with_hasher(RandomState::new()),
            turns: Arc::default(),
        }
    }

    /// The entry of a package version. An unreadable one is dropped.
    pub async fn get(&self, key: &str) -> Option<PackageEntry> {
        if let Some(entry) = self.memory.get(key) {
            return Some(entry);
        }
        if self.tree.lacks(key.as_bytes()) {
            return None;
        }
        let (index, key) = (self.clone(), key.to_owned());
        let read = off_thread("read package entry", move || index.read(&key)).await.and_then(|read| read);
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "package entry unreadable");
            None
        })
    }

    /// The same as far as memory tells.
    pub fn get_in_memory(&self, key: &str) -> Option<PackageEntry> {
        self.memory.get(key)
    }

    /// Keeps an entry. Called after the blob is committed, so that an entry never names a blob to come.
    pub async fn put(&self, key: &str, entry: &PackageEntry) {
        let (index, key, entry) = (self.clone(), key.to_owned(), *entry);
        let write = off_thread("write package entry", move || {
            let _turn = index.turns.of(&key);
            index.write(&key, entry)
        });
        if let Err(error) = write.await.and_then(|written| written) {
            tracing::warn!(%error, "package entry not stored");
        }
    }

    /// Keeps what a listing says, where the bytes have not told yet; an entry of before a removal does not count.
    /// Returns each entry that the bytes told otherwise of, with what the listing says.
    pub async fn put_listed(&self, listed: Vec<(String, PackageEntry)>) -> Vec<(String, Contradiction)> {
        let index = self.clone();
        let work = move || {
            let mut contradictions = Vec::new();
            for (key, entry) in listed {
                let _turn = index.turns.of(&key);
                let known = index.tree.get(key.as_bytes())?.and_then(|stored| PackageEntry::decode(&stored));
                match known.filter(|known| known.removals == entry.removals) {
                    Some(known) if known.id == entry.id => {}
                    Some(known) if known.source == Source::Bytes => {
                        contradictions.push((key, Contradiction { listed: entry.id, bytes: known.id }));
                    }
                    Some(_) | None => index.write(&key, entry)?,
                }
            }
            Ok::<_, DiskError>(contradictions)
        };
        let done = off_thread("write listed entries", work).await.and_then(|done| done);
        done.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a listing says of packages is not stored");
            Vec::new()
        })
    }

    /// Every key with the blob that it names.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn blobs(&self) -> Result<Vec<(String, StorageId)>, DiskError> {
        super::named_blobs(&self.tree, |stored| Some(PackageEntry::decode(stored)?.id)).await
    }

    /// The entries whose keys begin with `prefix`; unreadable ones are left out.
    pub fn scan(&self, prefix: &str) -> impl Iterator<Item = (String, PackageEntry)> + use<> {
        let entries = self.tree.scan_prefix(prefix.as_bytes()).filter_map(Result::ok);
        entries.filter_map(|(key, stored)| {
            Some((String::from_utf8(key.to_vec()).ok()?, PackageEntry::decode(&stored)?))
        })
    }

    /// Drops an entry. Blocking.
    ///
    /// # Errors
    /// When the disk refuses; then it is still there.
    pub fn remove(&self, key: &str) -> Result<(), DiskError> {
        let _turn = self.turns.of(key);
        self.tree.remove(key.as_bytes())?;
        self.memory.invalidate(key);
        Ok(())
    }

    /// Reads an entry into memory.
    fn read(&self, key: &str) -> Result<Option<PackageEntry>, DiskError> {
        let _turn = self.turns.of(key);
        let Some(stored) = self.tree.get(key.as_bytes())? else { return Ok(None) };
        let entry = PackageEntry::decode(&stored);
        if let Some(entry) = entry {
            self.memory.insert(key.into(), entry);
        } else {
            tracing::warn!(key, "package entry has an unknown form; dropped");
            self.tree.remove(key.as_bytes())?;
        }
        Ok(entry)
    }

    /// For a caller whose turn it is. What is not on disk is not in memory either: it is found again where it
    /// came from.
    fn write(&self, key: &str, entry: PackageEntry) -> Result<(), DiskError> {
        self.memory.invalidate(key);
        self.tree.insert(key.as_bytes(), &entry.encode())?;
        self.memory.insert(key.into(), entry);
        Ok(())
    }
}

// === impl PackageEntry ===

impl PackageEntry {
    /// The stored form.
    pub fn encode(&self) -> [u8; STORED] {
        let millis = self.named_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut stored = [VERSION; STORED];
        stored[1..9].copy_from_slice(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
        stored[9..42].copy_from_slice(self.id.as_bytes());
        stored[42..50].copy_from_slice(&self.removals.to_be_bytes());
        stored[50] = match self.source {
            Source::Bytes => 0,
            Source::Listing => 1,
        };
        stored
    }

    /// Reads what [`PackageEntry::encode`] wrote; `None` for anything else.
    pub fn decode(stored: &[u8]) -> Option<Self> {
        let stored: &[u8; STORED] = stored.try_into().ok()?;
        let millis = u64::from_be_bytes(stored.get(1..9)?.try_into().ok()?);
        let id = StorageId::from_bytes(stored.get(9..42)?)?;
        let named_at = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
        let removals = u64::from_be_bytes(stored.get(42..50)?.try_into().ok()?);
        let source = match stored[50] {
            0 => Source::Bytes,
            1 => Source::Listing,
            _ => return None,
        };
        (stored[0] == VERSION).then_some(Self { id, named_at, removals, source })
    }
}

#[cfg(test)]
mod tests {
    use super::{Contradiction, PackageEntry, PackageIndex, STORED, Source};
    use crate::{
        disk::{Database, DatabaseSettings, StoreDirectory},
        ident::StorageId,
    };
    use std::time::{Duration, UNIX_EPOCH};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_listing_is_believed_until_the_bytes_tell_and_never_after() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
        let database =
            Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap().database;
        let index = PackageIndex::new(&database);
        let entry = |byte: u8, source, removals| {
            let id = StorageId::of_file([byte; 32]);
            PackageEntry { id, named_at: UNIX_EPOCH, removals, source }
        };
        let listed = |byte, removals| vec![("key".to_owned(), entry(byte, Source::Listing, removals))];
        assert_eq!(index.put_listed(listed(1, 0)).await, []);
        assert_eq!(index.put_listed(listed(2, 0)).await, []);
        assert_eq!(index.get("key").await, Some(entry(2, Source::Listing, 0)));
        index.put("key", &entry(3, Source::Bytes, 0)).await;
        assert_eq!(index.put_listed(listed(3, 0)).await, []);
        let [one, three] = [1, 3].map(|byte| StorageId::of_file([byte; 32]));
        let contradiction = Contradiction { listed: one, bytes: three };
        assert_eq!(index.put_listed(listed(1, 0)).await, [("key".to_owned(), contradiction)]);
        assert_eq!(index.get("key").await, Some(entry(3, Source::Bytes, 0)));
        assert_eq!(index.put_listed(listed(1, 1)).await, []);
        assert_eq!(index.get("key").await, Some(entry(1, Source::Listing, 1)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_read_again_is_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
        let database =
            Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap().database;
        let entry = PackageEntry {
            id: StorageId::of_file([1; 32]),
            named_at: UNIX_EPOCH,
            removals: 0,
            source: Source::Bytes,
        };
        PackageIndex::new(&database).put("key", &entry).await;
        let index = PackageIndex::new(&database);
        assert_eq!((index.get("key").await, index.get("other").await), (Some(entry), None));
        // Behind its back, which nobody does: only so it shows that the tree is not asked.
        index.tree.remove(b"key").unwrap();
        assert_eq!(index.get("key").await, Some(entry));
    }

    #[test]
    fn the_stored_form_is_fixed_and_anything_else_is_unreadable() {
        let entry = PackageEntry {
            id: StorageId::of_file([7; 32]),
            named_at: UNIX_EPOCH + Duration::from_millis(258),
            removals: 3,
            source: Source::Listing,
        };
        let mut golden = vec![2, 0, 0, 0, 0, 0, 0, 1, 2];
        golden.extend([7; 32]);
        golden.push(0);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 3, 1]);
        assert_eq!(entry.encode().to_vec(), golden);
        assert_eq!(PackageEntry::decode(&golden), Some(entry));
        for length in 0..STORED {
            assert_eq!(PackageEntry::decode(&golden[..length]), None);
        }
        golden[0] = 9;
        assert_eq!(PackageEntry::decode(&golden), None);
    }
}
