//! A [`BlobStore`] in memory: for tests, and for running without a disk. Nothing survives a restart.
//!
//! Least recently used blobs go first once the committed lengths pass the capacity. Blobs being written do not
//! count, which keeps the accounting in one place (`commit`); a store that has to bound them is a disk's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::{Blob, BlobError, BlobKind, BlobStat, BlobStore, BlobWriter, Digests, ReadAt, Usage};
use crate::ident::StorageId;

/// Blobs in memory, at most `capacity` bytes of them.
pub struct MemoryStore {
    shelf: Arc<Mutex<Shelf>>,
    capacity: u64,
}

/// The committed blobs and the order in which they were used.
#[derive(Default)]
struct Shelf {
    blobs: HashMap<StorageId, Stored>,
    /// When used → which; the first is the next to go.
    order: BTreeMap<u64, StorageId>,
    uses: u64,
    payload: u64,
}

struct Stored {
    blob: Blob,
    used: u64,
}

/// The bytes of one blob as they were written; grows while its writer lives.
#[derive(Default)]
struct Segments(RwLock<SegmentList>);

#[derive(Default)]
struct SegmentList {
    /// Each with the offset at which it ends.
    list: Vec<(u64, Bytes)>,
    length: u64,
}

struct MemoryWriter {
    shelf: Arc<Mutex<Shelf>>,
    capacity: u64,
    kind: BlobKind,
    segments: Arc<Segments>,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store that keeps at most `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self { shelf: Arc::default(), capacity }
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn stat(&self, id: &StorageId) -> Result<Option<BlobStat>, BlobError> {
        Ok(self.shelf.lock().blobs.get(id).map(|stored| stored.blob.stat.clone()))
    }

    async fn open(&self, id: &StorageId) -> Result<Option<Blob>, BlobError> {
        Ok(self.shelf.lock().open(id))
    }

    async fn begin(&self, kind: BlobKind, length: Option<u64>) -> Result<Box<dyn BlobWriter>, BlobError> {
        check_capacity(length.unwrap_or(0), self.capacity)?;
        Ok(Box::new(MemoryWriter {
            shelf: self.shelf.clone(),
            capacity: self.capacity,
            kind,
            segments: Arc::default(),
        }))
    }

    async fn remove(&self, id: &StorageId) -> Result<bool, BlobError> {
        Ok(self.shelf.lock().remove(id))
    }

    async fn flush(&self) -> Result<(), BlobError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        let kept = self.shelf.lock();
        let blobs = kept.blobs.len() as u64;
        Usage { blobs, payload: kept.payload, disk: 0, capacity: self.capacity }
    }
}

// === impl Shelf ===

impl Shelf {
    fn open(&mut self, id: &StorageId) -> Option<Blob> {
        let stored = self.blobs.get_mut(id)?;
        self.order.remove(&stored.used);
        self.uses += 1;
        stored.used = self.uses;
        self.order.insert(stored.used, *id);
        Some(stored.blob.clone())
    }

    fn remove(&mut self, id: &StorageId) -> bool {
        let Some(stored) = self.blobs.remove(id) else { return false };
        self.order.remove(&stored.used);
        self.payload -= stored.blob.stat.length;
        true
    }

    /// Puts a blob on the shelf, unless it is there already, and makes room for it.
    fn insert(&mut self, blob: Blob, capacity: u64) {
        if self.blobs.contains_key(&blob.id) {
            return;
        }
        self.uses += 1;
        self.payload += blob.stat.length;
        self.order.insert(self.uses, blob.id);
        self.blobs.insert(blob.id, Stored { blob, used: self.uses });
        while self.payload > capacity {
            let Some(oldest) = self.order.first_key_value().map(|(_, id)| *id) else { break };
            self.remove(&oldest);
        }
    }
}

// === impl Segments ===

impl Segments {
    fn push(&self, bytes: Bytes) {
        let mut segments = self.0.write();
        segments.length += bytes.len() as u64;
        let end = segments.length;
        segments.list.push((end, bytes));
    }

    fn length(&self) -> u64 {
        self.0.read().length
    }
}

#[async_trait]
impl ReadAt for Segments {
    async fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, BlobError> {
        let segments = self.0.read();
        let at = segments.list.partition_point(|(end, _)| *end <= offset);
        let Some((end, bytes)) = segments.list.get(at).filter(|_| max > 0) else {
            return Err(BlobError::OutOfRange { offset, length: max });
        };
        // What is left of the segment from `offset` on is at most its own length.
        let left = usize::try_from(end - offset).unwrap_or(bytes.len());
        let start = bytes.len() - left;
        Ok(bytes.slice(start..start + left.min(max)))
    }
}

// === impl MemoryWriter ===

#[async_trait]
impl BlobWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        check_capacity(self.segments.length() + bytes.len() as u64, self.capacity)?;
        if !bytes.is_empty() {
            self.segments.push(bytes);
        }
        Ok(())
    }

    fn written(&self) -> Arc<dyn ReadAt> {
        self.segments.clone()
    }

    async fn commit(self: Box<Self>, id: StorageId, digests: Digests) -> Result<(), BlobError> {
        let stat = BlobStat { length: self.segments.length(), kind: self.kind, digests };
        self.shelf
            .lock()
            .insert(Blob { id, stat, tier: super::Tier::Memory, bytes: self.segments }, self.capacity);
        Ok(())
    }
}

fn check_capacity(length: u64, capacity: u64) -> Result<(), BlobError> {
    if length > capacity { Err(BlobError::TooLarge { length, capacity }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::conformance::{conformance, conformance_model, id_of, store_blob};

    async fn roomy() -> Arc<dyn BlobStore> {
        Arc::new(MemoryStore::new(u64::MAX))
    }

    #[tokio::test]
    async fn passes_the_suite() {
        conformance(roomy).await;
    }

    #[test]
    fn behaves_like_a_map() {
        conformance_model(roomy, 64);
    }

    #[tokio::test]
    async fn the_least_recently_used_blob_makes_room() {
        let store = MemoryStore::new(10);
        for (name, bytes) in [(1, b"four"), (2, b"more")] {
            store_blob(&store, id_of(name), bytes).await;
        }
        store.open(&id_of(1)).await.unwrap().unwrap();
        store_blob(&store, id_of(3), b"last").await;
        let mut kept = Vec::new();
        for name in 1..=3 {
            kept.push(store.stat(&id_of(name)).await.unwrap().is_some());
        }
        assert_eq!(kept, [true, false, true]);
        assert_eq!(store.usage(), Usage { blobs: 2, payload: 8, disk: 0, capacity: 10 });
    }

    #[tokio::test]
    async fn a_blob_larger_than_the_capacity_is_refused() {
        let store = MemoryStore::new(3);
        let announced = store.begin(BlobKind::Package, Some(4)).await.err().unwrap();
        assert!(matches!(announced, BlobError::TooLarge { length: 4, capacity: 3 }), "{announced}");
        let mut writer = store.begin(BlobKind::Package, None).await.unwrap();
        writer.write(Bytes::from_static(b"two")).await.unwrap();
        let grown = writer.write(Bytes::from_static(b"!")).await.unwrap_err();
        assert!(matches!(grown, BlobError::TooLarge { length: 4, capacity: 3 }), "{grown}");
    }
}
