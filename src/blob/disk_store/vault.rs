//! The stored blobs themselves: looking up, storing, removing. Everything here blocks.
//!
//! Order of writing: entry in the eviction order, bytes, record. Order of removing: record, bytes, entry. A
//! crash keeps a prefix of what the database was told, so a blob is visible only when it is whole, and what
//! takes space without being visible has an entry by which it is found (see `scan.rs`, `room.rs`).
//!
//! Everything that changes a blob holds its stripe, a lock chosen by its id.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{
    BlobError,
    chunks::{Chunks, Run},
    counters::Counters,
    draft::Draft,
    pins::{Passed, Pins},
    reader::read_file,
};
use crate::{
    blob::{
        BlobStat, Digests,
        departed::Departed,
        eviction::{Budget, Touches, millis, recency_key},
        hot::{HotBlob, HotTier},
        pages::{self, Sums, page_size},
        record::{Place, Record},
    },
    clock::Clock,
    config::store::StoreSettings,
    disk::{Database, Tree, TreeName, watch::blocks},
    ident::StorageId,
};

/// Locks for ids; more than there are threads that write.
const STRIPES: usize = 64;

/// The parts of the store and what they share.
pub(super) struct Vault {
    pub(super) database: Database,
    pub(super) records: Tree,
    pub(super) recency: Tree,
    /// The totals of what is stored, for the next start.
    pub(super) totals: Tree,
    pub(super) chunks: Chunks,
    pub(super) hot: HotTier,
    pub(super) budget: Arc<Budget>,
    pub(super) touches: Touches,
    pub(super) counters: Counters,
    pub(super) departed: Departed,
    pub(super) settings: StoreSettings,
    /// Held while blobs are chosen for eviction.
    pub(super) evicting: Mutex<Passed>,
    pub(super) pins: Pins,
    /// Numbers the partial files.
    pub(super) drafts: AtomicU64,
    clock: Clock,
    stripes: Vec<Mutex<()>>,
}

/// A blob that was opened.
pub(super) enum Found {
    Hot(Arc<HotBlob>),
    Chunks(Record),
    File(Record, Arc<File>),
}

enum Stored {
    Nothing,
    Unreadable,
    Record(Record),
}

// === impl Vault ===

impl Vault {
    pub(super) fn new(database: Database, settings: StoreSettings, clock: Clock) -> Self {
        Self {
            records: database.tree(TreeName::Blob),
            recency: database.tree(TreeName::Recency),
            totals: database.tree(TreeName::Totals),
            chunks: Chunks::new(database.tree(TreeName::Chunk)),
            hot: HotTier::new(settings.hot_capacity, settings.hot_largest),
            budget: Arc::new(Budget::new(settings.capacity)),
            touches: Touches::default(),
            counters: Counters::default(),
            departed: Departed::default(),
            evicting: Mutex::default(),
            pins: Pins::default(),
            drafts: AtomicU64::default(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            database,
            settings,
            clock,
        }
    }

    pub(super) fn now(&self) -> u64 {
        millis(self.clock.now())
    }

    pub(super) fn stripe(&self, id: &StorageId) -> MutexGuard<'_, ()> {
        self.stripe_of(id.as_bytes()[0])
    }

    /// The stripe of all ids that begin with `part`.
    pub(super) fn stripe_of(&self, part: u8) -> MutexGuard<'_, ()> {
        self.stripes[usize::from(part) % STRIPES].lock()
    }

    /// The record of a blob. An unreadable one is removed and counts as none.
    pub(super) fn find(&self, id: &StorageId) -> Result<Option<Record>, BlobError> {
        match self.stored(id)? {
            Stored::Nothing => Ok(None),
            Stored::Record(record) => Ok(Some(record)),
            Stored::Unreadable => {
                let _stripe = self.stripe(id);
                self.find_held(id)
            }
        }
    }

    /// The same for a caller who holds the stripe.
    pub(super) fn find_held(&self, id: &StorageId) -> Result<Option<Record>, BlobError> {
        match self.stored(id)? {
            Stored::Nothing => Ok(None),
            Stored::Record(record) => Ok(Some(record)),
            Stored::Unreadable => {
                self.counters.damaged();
                self.clear_unreadable(id)?;
                Ok(None)
            }
        }
    }

    /// Opens a blob and takes it into memory if it is small, or larger and much in use.
    pub(super) fn open(&self, id: &StorageId) -> Result<Option<Found>, BlobError> {
        let Some(record) = self.find(id)? else {
            self.counters.missed_on_disk();
            return Ok(None);
        };
        self.counters.hit(record.place.tier());
        let used = self.note_use(id, &record);
        let length = record.stat.length;
        let is_small = self.hot.takes(length);
        let reading = if is_small { None } else { self.hot.favours(id, length) };
        if is_small || reading.is_some() {
            let bytes = self.read_whole(id, &record)?;
            let hot = Arc::new(HotBlob::new(record.stat, bytes, used));
            self.warm(*id, &hot)?;
            return Ok(Some(Found::Hot(hot)));
        }
        match record.place {
            Place::Chunks => Ok(Some(Found::Chunks(record))),
            Place::File => {
                let file = self.open_file(id, &record)?;
                Ok(Some(Found::File(record, Arc::new(file))))
            }
        }
    }

    /// Bytes `from..to` of a blob in chunks.
    pub(super) fn read_chunks(
        &self,
        id: &StorageId,
        record: &Record,
        from: u64,
        to: u64,
    ) -> Result<Bytes, BlobError> {
        let read = self.chunks.read(run(id, record), from, to, record.stat.length)?;
        read.ok_or_else(|| self.found_damaged(id, record, "a chunk is missing or has a wrong length"))
    }

    /// The bytes `wanted` of a blob in a file, once the pages that hold them have their sums.
    pub(super) fn read_pages(
        &self,
        id: &StorageId,
        record: &Record,
        file: &File,
        wanted: Range<u64>,
    ) -> Result<Bytes, BlobError> {
        let (length, size) = (record.stat.length, page_size(record.stat.length));
        let from = wanted.start / size * size;
        let to = (wanted.end.div_ceil(size) * size).min(length);
        let bytes = match read_file(file, from, to) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.found_damaged(id, record, "its file is too short"));
            }
            read => read.map_err(failed("read file"))?,
        };
        if !pages::hold(&record.sums, length, from, &bytes) {
            return Err(self.found_damaged(id, record, "a page of its file does not have its checksum"));
        }
        let within = |offset: u64| usize::try_from(offset - from).unwrap_or(usize::MAX);
        Ok(bytes.slice(within(wanted.start)..within(wanted.end)))
    }

    /// Stores a draft as `id`, unless there is such a blob already; durable when this returns.
    pub(super) fn store(&self, draft: &Draft, id: StorageId, digests: Digests) -> Result<(), BlobError> {
        let place = draft.complete()?;
        {
            let _stripe = self.stripe(&id);
            if self.find_held(&id)?.is_none() {
                let stat = BlobStat { length: draft.spool.length(), kind: draft.kind, digests };
                let (now, none) = (self.now(), Sums::default());
                let sums = if place == Place::File { draft.sums() } else { none };
                self.store_held(draft, id, &Record { stat, place, created: now, used: now, sums })?;
            }
        }
        Ok(self.database.flush()?)
    }

    /// Removes a blob; whether there was one.
    pub(super) fn remove(&self, id: &StorageId) -> Result<bool, BlobError> {
        let _stripe = self.stripe(id);
        let Some(record) = self.find_held(id)? else { return Ok(false) };
        self.remove_held(id, &record)?;
        Ok(true)
    }

    /// Removes a blob whose record is known, for a caller who holds the stripe.
    pub(super) fn remove_held(&self, id: &StorageId, record: &Record) -> Result<(), BlobError> {
        self.records.remove(id.as_bytes())?;
        self.hot.remove(id);
        self.budget.subtract(id, record.place, record.stat.length);
        match record.place {
            Place::Chunks => self.chunks.remove(run(id, record), record.stat.length)?,
            Place::File => self.remove_file(id).map(drop)?,
        }
        self.recency.remove(&recency_key(record.used, id))?;
        Ok(())
    }

    /// Removes whatever there is of a storing that is not visible, except its entry in the eviction order;
    /// whether there was anything.
    pub(super) fn clear_held(&self, run: Run) -> Result<bool, BlobError> {
        let chunks = self.chunks.remove_all(run)?;
        Ok(self.remove_file(&run.id)? || chunks > 0)
    }

    /// Removes a blob whose record can't be read. Its chunks are found by its entry in the eviction order when
    /// its turn comes, and the sum of the charges is right again when stock is taken the next time.
    pub(super) fn clear_unreadable(&self, id: &StorageId) -> Result<(), BlobError> {
        self.records.remove(id.as_bytes())?;
        self.hot.remove(id);
        self.remove_file(id).map(drop)
    }

    /// The error for a blob that turned out incomplete; removes it, and puts its file aside. `record` is the one it was opened with:
    /// a blob that was evicted meanwhile is not damaged, nor is one that was stored again.
    pub(super) fn found_damaged(&self, id: &StorageId, record: &Record, reason: &'static str) -> BlobError {
        let _stripe = self.stripe(id);
        match self.find_held(id) {
            Ok(Some(current)) if current.created == record.created => {
                self.counters.damaged();
                if current.place == Place::File {
                    self.put_aside(id);
                }
                // It fails for this reader in any case; what can't be removed now is met again.
                let _ = self.remove_held(id, &current);
                BlobError::Damaged { id: *id, reason }
            }
            _ => BlobError::Damaged { id: *id, reason: "it was removed while it was read" },
        }
    }

    /// Notes that a blob is used now, unless that was noted recently; the last use that is noted.
    fn note_use(&self, id: &StorageId, record: &Record) -> u64 {
        let now = self.now();
        let granularity = u64::try_from(self.settings.touch_granularity.as_millis()).unwrap_or(u64::MAX);
        if now <= record.used || now - record.used < granularity {
            return record.used;
        }
        self.touches.note(*id, now);
        now
    }

    fn stored(&self, id: &StorageId) -> Result<Stored, BlobError> {
        let Some(bytes) = self.records.get(id.as_bytes())? else { return Ok(Stored::Nothing) };
        Ok(Record::decode(&bytes).map_or(Stored::Unreadable, Stored::Record))
    }

    /// Keeps a blob in memory, but not beyond its removal: whoever removes takes the record away first and
    /// then looks here, so either they find it or this finds no record.
    fn warm(&self, id: StorageId, hot: &Arc<HotBlob>) -> Result<(), BlobError> {
        self.hot.insert(id, Arc::clone(hot));
        if !self.records.contains(id.as_bytes())? {
            self.hot.remove(&id);
        }
        Ok(())
    }

    fn read_whole(&self, id: &StorageId, record: &Record) -> Result<Bytes, BlobError> {
        let length = record.stat.length;
        match record.place {
            Place::Chunks => self.read_chunks(id, record, 0, length),
            Place::File => {
                let file = self.open_file(id, record)?;
                self.read_pages(id, record, &file, 0..length)
            }
        }
    }

    pub(super) fn open_file(&self, id: &StorageId, record: &Record) -> Result<File, BlobError> {
        blocks("open file");
        let file = match File::open(self.database.directory().blob(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.found_damaged(id, record, "its file is missing"));
            }
            file => file.map_err(failed("open file"))?,
        };
        if file.metadata().map_err(failed("open file"))?.len() == record.stat.length {
            Ok(file)
        } else {
            Err(self.found_damaged(id, record, "its file has a wrong length"))
        }
    }

    fn store_held(&self, draft: &Draft, id: StorageId, record: &Record) -> Result<(), BlobError> {
        let key = recency_key(record.used, &id);
        let written =
            self.recency.insert(&key, &record.created.to_be_bytes()).map_err(BlobError::from).and_then(
                |()| {
                    match record.place {
                        Place::Chunks => self.chunks.write(run(&id, record), &draft.spool.parts().1)?,
                        Place::File => draft.adopt(&id)?,
                    }
                    Ok(self.records.insert(id.as_bytes(), &record.encode())?)
                },
            );
        if let Err(error) = written {
            // If even this fails, the entry in the eviction order leads to the rest later.
            let cleared = self.records.remove(id.as_bytes()).map_err(BlobError::from);
            let cleared = cleared.and_then(|_| self.clear_held(run(&id, record)));
            let _ = cleared.and_then(|_| Ok(self.recency.remove(&key)?));
            return Err(error);
        }
        self.budget.add(&id, record.place, record.stat.length);
        if self.departed.came_back(&id, record.created) {
            self.counters.returned(record.stat.length);
        }
        draft.release_reservation();
        if record.place == Place::Chunks && self.hot.takes(record.stat.length) {
            let bytes = draft.spool.parts().1.concat();
            self.hot.insert(id, Arc::new(HotBlob::new(record.stat.clone(), bytes.into(), record.used)));
        }
        Ok(())
    }

    pub(super) fn remove_file(&self, id: &StorageId) -> Result<bool, BlobError> {
        blocks("remove file");
        match fs::remove_file(self.database.directory().blob(id)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove file")(error)),
        }
    }
}

/// The chunks of a stored blob.
fn run(id: &StorageId, record: &Record) -> Run {
    Run { created: record.created, id: *id }
}

/// For `map_err`.
pub(super) fn failed(action: &'static str) -> impl Fn(io::Error) -> BlobError {
    move |source| BlobError::Io { action, source }
}
