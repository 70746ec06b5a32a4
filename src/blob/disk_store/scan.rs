//! Taking stock: counts what is there and clears what a crash left behind, while the store is in use.
//!
//! A store of a million blobs takes seconds to count, and nobody is to wait for that. So a store begins with the
//! totals that were written down last, at most some seconds before it ended, and is counted behind the requests:
//! first every record and every file, one *part* (ids with the same first byte) after the other, then every entry
//! of the eviction order.
//!
//! It is done in small steps, each under the part's stripe, which everything that changes a blob of that part holds
//! too: whoever stores one waits for a step, not for a part. What changes in what was counted already is added to the
//! count (`Budget`), so the totals are exact once it is over. Memory: the names of one part's files.

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
/// Records, or entries of the eviction order, looked at in one step.
const STEP: usize = if cfg!(test) { 4 } else { 256 };

/// A part that is being counted.
pub(super) struct Part {
    number: u8,
    /// Its files that no record was found of yet.
    files: HashSet<StorageId>,
    /// Where the next step begins.
    next: Vec<u8>,
}

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

    /// Begins to count the blobs whose ids begin with `number`. To be called for each once, in order, with
    /// [`Vault::count_step`] until that part is over.
    pub(super) fn begin_part(&self, number: u8) -> Result<Part, BlobError> {
        let _stripe = self.stripe_of(number);
        Ok(Part { number, files: self.files_of(number)?, next: vec![number] })
    }

    /// Counts the next blobs of a part and clears what is not whole; `None` once the part is over.
    pub(super) fn count_step(&self, mut part: Part) -> Result<Option<Part>, BlobError> {
        let _stripe = self.stripe_of(part.number);
        let mut counted = Totals::default();
        let mut last = None;
        for entry in self.records.range(&part.next[..]..).take(STEP) {
            let (key, value) = entry?;
            if key.first() != Some(&part.number) {
                break;
            }
            self.count_record(&key, &value, &mut part.files, &mut counted)?;
            last = Some(key);
        }
        let Some(last) = last else {
            self.drop_files(part.files)?;
            // Above every id of the part, and below every one of the next.
            let end = part.number.checked_add(1).map_or_else(|| vec![u8::MAX; 64], |next| vec![next]);
            self.budget.count(end, Totals::default());
            return Ok(None);
        };
        part.next = [&last[..], &[0]].concat();
        self.budget.count(part.next.clone(), counted);
        Ok(Some(part))
    }

    /// Counts a record, or removes it. `files`: those of its part that no record was found of yet.
    fn count_record(
        &self,
        key: &[u8],
        value: &[u8],
        files: &mut HashSet<StorageId>,
        counted: &mut Totals,
    ) -> Result<(), BlobError> {
        match (StorageId::from_bytes(key), Record::decode(value)) {
            (Some(id), Some(record)) => {
                // One may have come, or gone, since they were listed.
                let has_file = match (record.place, files.remove(&id)) {
                    (Place::File, true) => true,
                    (Place::Chunks, false) => false,
                    (Place::File, false) | (Place::Chunks, true) => self.has_file(&id)?,
                };
                if record.place == Place::File && !has_file {
                    self.counters.orphan();
                    self.records.remove(key)?;
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
                self.records.remove(key)?;
                if let Some(id) = id {
                    files.remove(&id);
                    self.clear_unreadable(&id)?;
                }
            }
        }
        Ok(())
    }

    /// Removes files that no record was found of. Their blobs may have been stored, or evicted, since they were listed.
    fn drop_files(&self, files: HashSet<StorageId>) -> Result<(), BlobError> {
        for id in files {
            if !self.records.contains(id.as_bytes())? && self.has_file(&id)? {
                self.drop_file(&id)?;
            }
        }
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

    fn has_file(&self, id: &StorageId) -> Result<bool, BlobError> {
        self.database.directory().blob(id).try_exists().map_err(failed("look for file"))
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

#[cfg(test)]
mod tests;
