//! Metadata: documents of the service, kept in memory and on disk, and which package is which blob.
//!
//! A document's *entry* (when it came, its digest) is small and lives in moka and in sled; its body lies
//! gzipped in the blob store, so that one disk budget and one eviction order cover everything. What is sent
//! to clients are *representations* made from it, kept in moka ready to be written.
//!
//! The cache neither asks the service nor decides who may read: see `handler` and `access`. An error of the
//! store is counted, logged and treated as a miss; it never fails a request.

mod changes;
mod coalesce;
mod entry;
mod freshness;
mod generations;
mod identities;
mod memory;
mod negative;
mod packages;
mod pins;
mod responses;
mod sightings;

use std::{io::Read as _, sync::Arc, time::SystemTime};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};

pub use changes::ChangeTokens;
pub use coalesce::{Coalescer, Flown, Landing};
pub use entry::{Body, Entry, Origin};
pub use freshness::{Assessment, Usability, assess};
pub use generations::{Counters, Generation, Generations};
pub use identities::{Identities, Known};
pub use memory::{RepresentationKey, Respelling, TierUse};
pub use negative::NegativeCache;
pub use packages::{Contradiction, PackageEntry, PackageIndex, Source};
pub use pins::{PinKey, Pins};
pub use responses::{Asked, Kept, Owner, ResponseDraft, ResponseKey, Responses};
pub use sightings::{Extent, Seen, Sightings};

use crate::{
    blob::{BlobKind, BlobStore, Digests, VsoHasher},
    disk::{Database, DiskError, Tree, TreeName, off_thread},
    document::representation::Representation,
    ident::StorageId,
    lanes,
};
use memory::Memory;

/// Bytes read from a stored body at a time.
const READ: usize = 256 << 10;

/// Documents and their representations.
pub struct DocumentCache {
    entries: Entries,
    blobs: Arc<dyn BlobStore>,
}

/// Entries in memory and behind that in the tree, which is read and written off the I/O threads.
#[derive(Clone)]
struct Entries {
    memory: Memory,
    tree: Tree,
    turns: Arc<Turns>,
}

/// Locks, one for many keys: held while memory follows a tree, so that what was read is not put over what was written
/// since.
struct Turns([Mutex<()>; 64]);

// === impl DocumentCache ===

impl DocumentCache {
    /// A cache with `memory` bytes for representations, over what `database` and `blobs` keep.
    pub fn new(database: &Database, blobs: Arc<dyn BlobStore>, memory: u64) -> Self {
        let entries = Entries {
            memory: Memory::new(memory),
            tree: database.tree(TreeName::Metadata),
            turns: Arc::default(),
        };
        Self { entries, blobs }
    }

    /// The entry of a document.
    pub async fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        if let Some(entry) = self.entries.memory.entry(key) {
            return Some(entry);
        }
        if self.entries.tree.lacks(key.as_bytes()) {
            return None;
        }
        let (entries, key) = (self.entries.clone(), key.to_owned());
        let read = off_thread("read entry", move || entries.read(&key)).await.and_then(|read| read);
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "stored document unreadable");
            None
        })
    }

    /// The entry of a document if it is in memory; who then looks further is not counted twice.
    pub fn entry_in_memory(&self, key: &str) -> Option<Arc<Entry>> {
        self.entries.memory.entry_if_there(key)
    }

    /// Keeps a document that the service sent at `fetched_at` to a request of `generation`.
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        fetched_at: SystemTime,
        generation: Generation,
        origin: Origin,
    ) -> Arc<Entry> {
        let digest = digest_of(&body).await;
        let length = body.len() as u64;
        let place = match self.entry(key).await {
            Some(old) if old.digest == digest && self.has_body(&old).await => old.body.clone(),
            Some(_) | None => self.store_body(&body).await.map_or(Body::Memory(body), Body::Stored),
        };
        let entry = Arc::new(Entry { fetched_at, digest, length, body: place, generation, origin });
        let (entries, owned, kept) = (self.entries.clone(), key.to_owned(), Arc::clone(&entry));
        let written = off_thread("write entry", move || entries.write(&owned, kept)).await;
        if let Err(error) = written.and_then(|written| written) {
            tracing::warn!(%error, key, "document not stored");
        }
        entry
    }

    /// The entries on disk whose keys begin with `prefix`; unreadable ones are left out.
    pub fn scan(&self, prefix: &str) -> impl Iterator<Item = (String, Entry)> + use<> {
        let entries = self.entries.tree.scan_prefix(prefix.as_bytes()).filter_map(Result::ok);
        entries.filter_map(|(key, stored)| {
            Some((String::from_utf8(key.to_vec()).ok()?, Entry::decode(&stored)?))
        })
    }

    /// Drops a document.
    pub async fn remove(&self, key: &str) {
        let (entries, owned) = (self.entries.clone(), key.to_owned());
        let removed = off_thread("remove entry", move || entries.remove(&owned)).await;
        if let Err(error) = removed.and_then(|removed| removed) {
            tracing::error!(%error, key, "stored document not removed");
        }
    }

    /// A document's body as the service sent it, decompressed; `None` when it is gone or damaged.
    pub async fn body(&self, entry: &Entry) -> Option<Bytes> {
        let id = match &entry.body {
            Body::Memory(body) => return Some(body.clone()),
            Body::Stored(id) => id,
        };
        let packed = self.read_blob(id).await?;
        let expected = entry.length;
        let much = usize::try_from(expected).unwrap_or(usize::MAX);
        let body = lanes::aside(much, move || unpack(&packed, expected)).await??;
        if digest_of(&body).await != entry.digest {
            tracing::warn!(%id, "stored document does not have its digest; dropped");
            let _ = self.blobs.remove(id).await;
            return None;
        }
        Some(body)
    }

    /// Every key on disk with the blob that holds the document's body.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn blobs(&self) -> Result<Vec<(String, StorageId)>, DiskError> {
        let stored = |stored: &[u8]| match Entry::decode(stored)?.body {
            Body::Stored(id) => Some(id),
            Body::Memory(_) => None,
        };
        named_blobs(&self.entries.tree, stored).await
    }

    /// A representation that is ready.
    pub fn representation(&self, key: &RepresentationKey) -> Option<Arc<Representation>> {
        self.entries.memory.representation(key)
    }

    /// The same for one who looks further if there is none.
    pub fn representation_in_memory(&self, key: &RepresentationKey) -> Option<Arc<Representation>> {
        self.entries.memory.representation_if_there(key)
    }

    /// Keeps a representation.
    pub fn insert_representation(&self, key: RepresentationKey, it: Arc<Representation>) {
        self.entries.memory.insert_representation(key, it);
    }

    /// Entries in memory.
    pub fn entry_use(&self) -> TierUse {
        self.entries.memory.entry_use()
    }

    /// Representations in memory.
    pub fn representation_use(&self) -> TierUse {
        self.entries.memory.representation_use()
    }

    /// Whether a document's body is in the blob store.
    pub async fn has_body(&self, entry: &Entry) -> bool {
        match &entry.body {
            Body::Memory(_) => false,
            Body::Stored(id) => matches!(self.blobs.stat(id).await, Ok(Some(_))),
        }
    }

    async fn store_body(&self, body: &Bytes) -> Option<StorageId> {
        let input = body.clone();
        let (packed, id) = lanes::aside(body.len(), move || pack(&input)).await??;
        let stored = async {
            let mut writer = self.blobs.begin(BlobKind::Document, Some(packed.len() as u64)).await?;
            writer.write(packed).await?;
            writer.commit(id, Digests::default()).await
        };
        match stored.await {
            Ok(()) => Some(id),
            Err(error) => {
                tracing::warn!(%error, "document body not stored");
                None
            }
        }
    }

    async fn read_blob(&self, id: &StorageId) -> Option<Bytes> {
        let blob = self.blobs.open(id).await.ok().flatten()?;
        let mut whole = Vec::with_capacity(usize::try_from(blob.stat.length).ok()?);
        while (whole.len() as u64) < blob.stat.length {
            whole.extend_from_slice(&blob.bytes.read_at(whole.len() as u64, READ).await.ok()?);
        }
        Some(whole.into())
    }
}

// === impl Entries ===

impl Entries {
    /// Reads an entry into memory.
    fn read(&self, key: &str) -> Result<Option<Arc<Entry>>, DiskError> {
        let _turn = self.turns.of(key);
        let Some(stored) = self.tree.get(key.as_bytes())? else { return Ok(None) };
        let entry = Entry::decode(&stored).map(Arc::new);
        if let Some(entry) = &entry {
            self.memory.insert_entry(key, Arc::clone(entry));
        } else {
            tracing::warn!(key, "stored document has an unknown form; dropped");
            self.tree.remove(key.as_bytes())?;
        }
        Ok(entry)
    }

    /// What the disk does not take is in memory all the same: it is what the service said last.
    fn write(&self, key: &str, entry: Arc<Entry>) -> Result<(), DiskError> {
        let _turn = self.turns.of(key);
        let stored = entry.encode().map_or(Ok(()), |stored| self.tree.insert(key.as_bytes(), &stored));
        self.memory.insert_entry(key, entry);
        stored
    }

    fn remove(&self, key: &str) -> Result<(), DiskError> {
        let _turn = self.turns.of(key);
        self.memory.remove_entry(key);
        self.tree.remove(key.as_bytes()).map(drop)
    }
}

// === impl Turns ===

impl Turns {
    fn of(&self, key: &str) -> MutexGuard<'_, ()> {
        self.0[crc32fast::hash(key.as_bytes()) as usize % self.0.len()].lock()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

async fn digest_of(body: &Bytes) -> [u8; 32] {
    let held = body.clone();
    // An impossible failure yields a digest that no body has, so the document is fetched again.
    lanes::compute(body.len(), move || Sha256::digest(&held).into()).await.unwrap_or_default()
}

/// The keys of `tree` with the blobs that their values name.
async fn named_blobs(
    tree: &Tree,
    blob: impl Fn(&[u8]) -> Option<StorageId> + Send + 'static,
) -> Result<Vec<(String, StorageId)>, DiskError> {
    let tree = tree.clone();
    let read = move || {
        let mut named = Vec::new();
        for entry in tree.entries() {
            let (key, value) = entry?;
            let key = String::from_utf8(key.to_vec()).ok();
            named.extend(key.zip(blob(&value)));
        }
        Ok(named)
    };
    off_thread("read entries", read).await?
}

/// Level 1: the body is read back rarely (after a restart, or for a new representation).
fn pack(body: &[u8]) -> Option<(Bytes, StorageId)> {
    let mut packed = Vec::with_capacity(body.len() / 4);
    let mut encoder = flate2::bufread::GzEncoder::new(body, flate2::Compression::fast());
    encoder.read_to_end(&mut packed).ok()?;
    let mut hasher = VsoHasher::new();
    hasher.update(&packed);
    Some((packed.into(), hasher.finish()))
}

fn unpack(packed: &[u8], length: u64) -> Option<Bytes> {
    let mut body = Vec::with_capacity(usize::try_from(length).ok()?);
    let mut decoder = flate2::bufread::GzDecoder::new(packed).take(length + 1);
    decoder.read_to_end(&mut body).ok()?;
    (body.len() as u64 == length).then(|| body.into())
}
