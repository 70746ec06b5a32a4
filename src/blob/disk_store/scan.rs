//! Taking stock: counts what is there and clears what a crash left behind, while the store is in use.
//!
//! A store of a million blobs takes seconds to count, and nobody is to wait for that. So a store begins with the
//! totals that were written down last, at most some seconds before it ended, and is counted behind the requests:
//! first every record and every file, one *part* (ids with the same first byte) after the other, then every entry
//! of the eviction order.
//!
//! A part is counted under its stripe, which everything that changes a blob of that part holds too. What changes in
//! a part that was counted already is added to the count (`Budget`), so the totals are exact once it is over. Memory:
//! the names of one part's files.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    BlobError,
    chunks::Run,
    vault::{Vault, failed},
};
use crate::{
    blob::{
        eviction::{Totals, parse_created, parse_recency_key, recency_key},
        record::{Place, Record},
    },
    ident::StorageId,
};

/// Key of the totals in their tree.
const TOTALS: &[u8] = b"totals";
/// Entries of the eviction order looked at in one step.
const STEP: usize = 4096;

// === impl Vault ===

impl Vault {
    /// Begins with the totals written down last. Without any, or with some that cannot be read, with none.
    pub(super) fn recall_totals(&self) -> Result<(), BlobError> {
        let written = self.totals.get(TOTALS)?.and_then(|bytes| Totals::decode(&bytes));
        self.budget.begin_count(written.unwrap_or_default());
        Ok(())
    }

    /// Writes the totals down for the next start, if they are others than those written last.
    pub(super) fn write_totals(&self) -> Result<(), BlobError> {
        let bytes = self.budget.totals().encode();
        let written = self.totals.get(TOTALS)?;
        Ok(if written.as_deref() == Some(&bytes) { Ok(()) } else { self.totals.insert(TOTALS, &bytes) }?)
    }

    /// Counts the blobs whose ids begin with `part` and clears what is not whole. To be called for each part once, in
    /// order.
    pub(super) fn count_part(&self, part: u8) -> Result<(), BlobError> {
        let _stripe = self.stripe_of(part);
        let mut files = self.files_of(part)?;
        let mut counted = Totals::default();
        for entry in self.records.scan_prefix(&[part]) {
            let (key, value) = entry?;
            match (StorageId::from_bytes(&key), Record::decode(&value)) {
                (Some(id), Some(record)) => {
                    let has_file = files.remove(&id);
                    if record.place == Place::File && !has_file {
                        self.counters.orphan();
                        self.records.remove(&key)?;
                        self.hot.remove(&id);
                    } else {
                        self.order(&id, &record)?;
                        counted.add(record.place, record.stat.length);
                        if record.place == Place::Chunks && has_file {
                            self.drop_file(&id)?;
                        }
                    }
                }
                (id, _) => {
                    self.counters.damaged();
                    self.records.remove(&key)?;
                    if let Some(id) = id {
                        files.remove(&id);
                        self.clear_unreadable(&id)?;
                    }
                }
            }
        }
        files.iter().try_for_each(|id| self.drop_file(id))?;
        self.budget.count(counted);
        Ok(())
    }

    /// Clears the entries of the eviction order behind `after` that stand for no blob, as many as fit one step, with
    /// whatever takes space in their name; where to go on.
    pub(super) fn clear_orphans(&self, after: Option<&Bytes>) -> Result<Option<Bytes>, BlobError> {
        let start = after.map_or_else(Vec::new, |key| [&key[..], &[0]].concat());
        let mut last = None;
        for entry in self.recency.range(start..).take(STEP) {
            let (key, value) = entry?;
            match parse_recency_key(&key) {
                Some((used, id)) if self.is_current(used, &id)? => {}
                Some((used, id)) => {
                    let _stripe = self.stripe(&id);
                    self.clear_stale(used, Run { created: parse_created(&value, used), id })?;
                }
                None => drop(self.recency.remove(&key)?),
            }
            last = Some(key);
        }
        Ok(last)
    }

    /// Whether a blob was last used at `used`, as far as written down.
    fn is_current(&self, used: u64, id: &StorageId) -> Result<bool, BlobError> {
        let record = self.records.get(id.as_bytes())?.and_then(|bytes| Record::decode(&bytes));
        Ok(record.is_some_and(|record| record.used == used))
    }

    /// Sees to it that a blob has its entry in the eviction order: without one it would stay for ever.
    fn order(&self, id: &StorageId, record: &Record) -> Result<(), BlobError> {
        let key = recency_key(record.used, id);
        if !self.recency.contains(&key)? {
            self.recency.insert(&key, &record.created.to_be_bytes())?;
        }
        Ok(())
    }

    /// The blob files of a part. What has another name than such a file is removed.
    fn files_of(&self, part: u8) -> Result<HashSet<StorageId>, BlobError> {
        let mut files = HashSet::new();
        for path in children(&self.database.directory().blobs().join(format!("{part:02X}")))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match name.parse() {
                Ok(id) if self.database.directory().blob(&id) == path => drop(files.insert(id)),
                _ => {
                    self.counters.orphan();
                    fs::remove_file(&path).map_err(failed("remove file"))?;
                }
            }
        }
        Ok(files)
    }

    fn drop_file(&self, id: &StorageId) -> Result<(), BlobError> {
        self.counters.orphan();
        self.remove_file(id).map(drop)
    }
}

/// What is in a folder; nothing if there is none.
fn children(folder: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let read = || -> io::Result<_> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        children => children.map_err(failed("read directory")),
    }
}
