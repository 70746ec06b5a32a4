//! Which blob a package version is, per feed and view: the step from a name to content.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    disk::{Database, DiskError, Tree, TreeName, off_thread},
    ident::StorageId,
};

/// Version byte of the stored form.
const VERSION: u8 = 2;
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

/// Package versions by canonical key.
pub struct PackageIndex {
    tree: Tree,
}

// === impl PackageIndex ===

impl PackageIndex {
    /// Over what `database` keeps.
    pub fn new(database: &Database) -> Self {
        Self { tree: database.tree(TreeName::Package) }
    }

    /// The entry of a package version. An unreadable one is dropped.
    pub fn get(&self, key: &str) -> Option<PackageEntry> {
        let stored = self.tree.get(key.as_bytes()).unwrap_or_else(|error| {
            tracing::warn!(%error, key, "package entry unreadable");
            None
        })?;
        let entry = decode(&stored);
        if entry.is_none() {
            tracing::warn!(key, "package entry has an unknown form; dropped");
            self.remove(key);
        }
        entry
    }

    /// Keeps an entry. Called after the blob is committed, so that an entry never names a blob to come.
    pub async fn put(&self, key: &str, entry: &PackageEntry) {
        if let Err(error) = super::insert(&self.tree, key, encode(entry)).await {
            tracing::warn!(%error, key, "package entry not stored");
        }
    }

    /// Keeps what a listing says, where the bytes have not told yet; an entry of before a removal does not count.
    /// Returns each entry that the bytes told otherwise of, with what the listing says.
    pub async fn put_listed(&self, listed: Vec<(String, PackageEntry)>) -> Vec<(String, Contradiction)> {
        let tree = self.tree.clone();
        let work = move || {
            let mut contradictions = Vec::new();
            for (key, entry) in listed {
                let known = tree.get(key.as_bytes())?.and_then(|stored| decode(&stored));
                match known.filter(|known| known.removals == entry.removals) {
                    Some(known) if known.id == entry.id => {}
                    Some(known) if known.source == Source::Bytes => {
                        contradictions.push((key, Contradiction { listed: entry.id, bytes: known.id }));
                    }
                    Some(_) | None => drop(tree.insert(key.as_bytes(), &encode(&entry))?),
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
        super::named_blobs(&self.tree, |stored| Some(decode(stored)?.id)).await
    }

    /// The entries whose keys begin with `prefix`; unreadable ones are left out.
    pub fn scan(&self, prefix: &str) -> impl Iterator<Item = (String, PackageEntry)> + use<> {
        let entries = self.tree.scan_prefix(prefix.as_bytes()).filter_map(Result::ok);
        entries.filter_map(|(key, stored)| Some((String::from_utf8(key.to_vec()).ok()?, decode(&stored)?)))
    }

    /// Drops an entry.
    pub fn remove(&self, key: &str) {
        if let Err(error) = self.tree.remove(key.as_bytes()) {
            tracing::error!(%error, key, "package entry not removed");
        }
    }
}

fn encode(entry: &PackageEntry) -> [u8; STORED] {
    let millis = entry.named_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut stored = [VERSION; STORED];
    stored[1..9].copy_from_slice(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
    stored[9..42].copy_from_slice(entry.id.as_bytes());
    stored[42..50].copy_from_slice(&entry.removals.to_be_bytes());
    stored[50] = match entry.source {
        Source::Bytes => 0,
        Source::Listing => 1,
    };
    stored
}

fn decode(stored: &[u8]) -> Option<PackageEntry> {
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
    (stored[0] == VERSION).then_some(PackageEntry { id, named_at, removals, source })
}

#[cfg(test)]
mod tests {
    use super::{Contradiction, PackageEntry, PackageIndex, STORED, Source, decode, encode};
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
        assert_eq!(index.get("key"), Some(entry(2, Source::Listing, 0)));
        index.put("key", &entry(3, Source::Bytes, 0)).await;
        assert_eq!(index.put_listed(listed(3, 0)).await, []);
        let [one, three] = [1, 3].map(|byte| StorageId::of_file([byte; 32]));
        let contradiction = Contradiction { listed: one, bytes: three };
        assert_eq!(index.put_listed(listed(1, 0)).await, [("key".to_owned(), contradiction)]);
        assert_eq!(index.get("key"), Some(entry(3, Source::Bytes, 0)));
        assert_eq!(index.put_listed(listed(1, 1)).await, []);
        assert_eq!(index.get("key"), Some(entry(1, Source::Listing, 1)));
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
        assert_eq!(encode(&entry).to_vec(), golden);
        assert_eq!(decode(&golden), Some(entry));
        for length in 0..STORED {
            assert_eq!(decode(&golden[..length]), None);
        }
        golden[0] = 9;
        assert_eq!(decode(&golden), None);
    }
}
