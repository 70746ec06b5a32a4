//! The store on disk: small blobs in the database, large ones in files beside it, the smallest in memory too.
//!
//! | | where the bytes are | read |
//! |---|---|---|
//! | up to the spill size | database, 16 KiB chunks | gathered, up to 256 KiB at a time |
//! | larger | one file each | up to 256 KiB at a time |
//! | small, or much in use | hot tier as well | at once, without a copy |
//!
//! Where the pieces are: `vault` looks up, stores and removes; `draft` and `spool` write; `reader` reads;
//! `room` evicts, but not what is in `pins`; `scan` takes stock after the start. What blobs *mean* is not known here, nor is their hash
//! checked: the writer's caller does that before it commits.
//!
//! Blocking work runs on blocking threads. Only a hit in the hot tier is answered on the caller's.

mod chunks;
mod counters;
mod draft;
mod pins;
mod quarantine;
mod reader;
mod rehash;
mod room;
mod scan;
mod spool;
mod vault;

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    counters::{EvictionReason, Lookups, StoreCounts},
    pins::Weight,
    quarantine::Quarantined,
    rehash::{Health, Pace},
};
use self::{
    draft::{DiskWriter, Draft},
    reader::{ChunkReader, FileReader},
    vault::{Found, Vault},
};
use super::{
    Blob, BlobError, BlobKind, BlobStat, BlobStore, BlobWriter, ReadAt, Tier, Usage, hot::HotBlob,
    record::Record,
};
use crate::{
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, DiskError, off_thread},
    ident::StorageId,
};

/// Steps of eviction in one call of [`DiskStore::maintain`].
const STEPS: usize = 64;

/// What one tier of the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Blobs.
    pub blobs: u64,
    /// Their lengths added up, in bytes; in memory with what keeping them takes.
    pub bytes: u64,
}

/// Blobs on disk, within a budget; cheap to clone.
#[derive(Clone)]
pub struct DiskStore {
    vault: Arc<Vault>,
}

// === impl DiskStore ===

impl DiskStore {
    /// Opens the store in `database`, whose directory holds the blob files too. It can be used at once; its figures
    /// are those of the last run until [`DiskStore::take_stock`] is over.
    pub async fn open(database: Database, settings: StoreSettings, clock: Clock) -> Result<Self, BlobError> {
        let open = move || {
            let vault = Vault::new(database, settings, clock);
            vault.recall_totals()?;
            Ok(Self { vault: Arc::new(vault) })
        };
        blocking("open", open).await
    }

    /// Counts what is stored and clears what a crash left behind. To be called once after [`DiskStore::open`], behind
    /// whatever else is done with the store.
    pub async fn take_stock(&self) -> Result<(), BlobError> {
        for number in 0..=u8::MAX {
            let mut part = Some(self.blocking("list files", move |vault| vault.begin_part(number)).await?);
            while let Some(counted) = part {
                part = self.blocking("count blobs", move |vault| vault.count_step(counted)).await?;
            }
        }
        self.vault.budget.end_count();
        let mut after = None;
        loop {
            let step = move |vault: &Arc<Vault>| vault.clear_orphans(after.as_ref());
            after = self.blocking("clear orphans", step).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Evicts what is over the budget, and writes down which blobs were used and what is stored. To be called every
    /// few seconds; one call does a bounded amount of work.
    pub async fn maintain(&self) -> Result<(), BlobError> {
        let limit = self.blocking("measure", |vault| Ok(vault.limit()?)).await?;
        for _ in 0..STEPS {
            let step = move |vault: &Arc<Vault>| vault.evict_step(0, limit);
            let is_over = self.vault.budget.excess(0, limit) > 0;
            if !is_over || self.blocking("evict", step).await? == 0 {
                break;
            }
        }
        self.write_down().await
    }

    /// Writes everything down that the next start wants to know. The store stays usable.
    pub async fn close(&self) -> Result<(), BlobError> {
        self.write_down().await?;
        self.flush().await
    }

    /// What happened since the store was opened.
    pub fn counts(&self) -> StoreCounts {
        self.vault.counters.snapshot()
    }

    /// How often blobs were looked for since the store was opened.
    pub fn lookups(&self) -> Lookups {
        self.vault.counters.lookups()
    }

    /// What each tier holds, in the order of [`Tier::ALL`]. What is in memory is on disk too.
    pub fn holdings(&self) -> [Holding; Tier::ALL.len()] {
        let totals = self.vault.budget.totals();
        let (blobs, bytes) = (totals.blobs - totals.file_blobs, totals.payload - totals.file_payload);
        [
            self.vault.hot.holding(),
            Holding { blobs, bytes },
            Holding { blobs: totals.file_blobs, bytes: totals.file_payload },
        ]
    }

    /// Blobs that left the memory for others since the start.
    pub fn memory_evictions(&self) -> u64 {
        self.vault.hot.evictions()
    }

    /// The budget of the memory tier, in bytes.
    pub fn memory_capacity(&self) -> u64 {
        self.vault.settings.hot_capacity
    }

    /// Bytes that the file system of the store has left; `None` when it does not say.
    pub fn free_space(&self) -> Option<u64> {
        self.vault.database.space().free().ok()
    }

    /// Up to `most` blobs in the order of their ids, beginning after `after`.
    pub async fn list(
        &self,
        after: Option<StorageId>,
        most: usize,
    ) -> Result<Vec<(StorageId, BlobStat)>, BlobError> {
        self.blocking("list blobs", move |vault| {
            let start = after.map_or_else(Vec::new, |id| [id.as_bytes(), &[0][..]].concat());
            let entries = vault.records.range(start..).take(most);
            let read = entries.filter_map(|entry| match entry {
                Ok((key, value)) => Some(Ok((StorageId::from_bytes(&key)?, Record::decode(&value)?.stat))),
                Err(error) => Some(Err(error.into())),
            });
            read.collect()
        })
        .await
    }

    async fn write_down(&self) -> Result<(), BlobError> {
        let write = |vault: &Arc<Vault>| vault.write_touches().and_then(|()| vault.write_totals());
        self.blocking("write last uses", write).await
    }

    /// Reads every value of the database that is small, so that those that are damaged are found and removed; the keys
    /// of packages and documents among them.
    pub async fn sweep(&self) -> Result<Vec<Bytes>, BlobError> {
        self.blocking("read values", |vault| Ok(vault.database.sweep()?)).await
    }

    /// Values of the database that were found damaged since it was opened.
    pub fn damaged_values(&self) -> u64 {
        self.vault.database.damaged()
    }

    /// Which of these blobs are on disk, whatever is in memory. In one call: one for each took ten times as long.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn stored(&self, mut ids: HashSet<StorageId>) -> Result<HashSet<StorageId>, BlobError> {
        self.blocking("look up blobs", move |vault| {
            let mut failure = None;
            ids.retain(|id| match vault.find(id) {
                Ok(record) => record.is_some(),
                Err(error) => {
                    failure = Some(error);
                    false
                }
            });
            failure.map_or(Ok(ids), Err)
        })
        .await
    }

    fn opened(&self, id: StorageId, found: Found) -> Blob {
        let vault = Arc::clone(&self.vault);
        let (tier, stat, bytes): (_, _, Arc<dyn ReadAt>) = match found {
            Found::Hot(hot) => (Tier::Memory, hot.stat().clone(), hot),
            Found::Chunks(record) => {
                (Tier::Database, record.stat.clone(), Arc::new(ChunkReader { vault, id, record }))
            }
            Found::File(record, file) => {
                (Tier::File, record.stat.clone(), Arc::new(FileReader { vault, id, record, file }))
            }
        };
        Blob { id, stat, tier, bytes }
    }

    fn use_hot(&self, id: &StorageId) -> Option<Arc<HotBlob>> {
        let hot = self.vault.hot.get(id)?;
        let now = self.vault.now();
        if hot.is_due(now, self.vault.settings.touch_granularity) {
            self.vault.touches.note(*id, now);
        }
        Some(hot)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Arc<Vault>) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let vault = Arc::clone(&self.vault);
        blocking(action, move || call(&vault)).await
    }
}

#[async_trait]
impl BlobStore for DiskStore {
    async fn stat(&self, id: &StorageId) -> Result<Option<BlobStat>, BlobError> {
        if let Some(hot) = self.vault.hot.get(id) {
            return Ok(Some(hot.stat().clone()));
        }
        if self.vault.records.lacks(id.as_bytes()) {
            return Ok(None);
        }
        let id = *id;
        self.blocking("look up blob", move |vault| Ok(vault.find(&id)?.map(|record| record.stat))).await
    }

    fn open_in_memory(&self, id: &StorageId) -> Option<Blob> {
        let hot = self.use_hot(id)?;
        self.vault.counters.hit(Tier::Memory);
        Some(self.opened(*id, Found::Hot(hot)))
    }

    async fn open(&self, id: &StorageId) -> Result<Option<Blob>, BlobError> {
        let id = *id;
        if let Some(blob) = self.open_in_memory(&id) {
            return Ok(Some(blob));
        }
        self.vault.counters.missed_in_memory();
        if self.vault.records.lacks(id.as_bytes()) {
            self.vault.counters.missed_on_disk();
            return Ok(None);
        }
        let found = self.blocking("open blob", move |vault| vault.open(&id)).await?;
        Ok(found.map(|found| self.opened(id, found)))
    }

    async fn begin(&self, kind: BlobKind, length: Option<u64>) -> Result<Box<dyn BlobWriter>, BlobError> {
        let begin = move |vault: &Arc<Vault>| Draft::new(Arc::clone(vault), kind, length);
        let draft = self.blocking("make room", begin).await?;
        Ok(Box::new(DiskWriter(Arc::new(draft))))
    }

    async fn remove(&self, id: &StorageId) -> Result<bool, BlobError> {
        let id = *id;
        self.blocking("remove blob", move |vault| vault.remove(&id)).await
    }

    async fn flush(&self) -> Result<(), BlobError> {
        self.blocking("flush", |vault| Ok(vault.database.flush()?)).await
    }

    fn usage(&self) -> Usage {
        let totals = self.vault.budget.totals();
        Usage {
            blobs: totals.blobs,
            payload: totals.payload,
            // One fstat. If even that fails, the charges are the best guess.
            disk: self.vault.real_use().unwrap_or(totals.charge),
            capacity: self.vault.budget.capacity(),
        }
    }
}

impl From<DiskError> for BlobError {
    fn from(DiskError { action, source }: DiskError) -> Self {
        Self::Io { action, source }
    }
}

/// Runs `call` on a thread that may block.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    call: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    off_thread(action, call).await?
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
