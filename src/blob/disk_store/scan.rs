//! Taking stock when the store is opened: adds up what is there and clears what a crash left behind.
//!
//! Reads every record (about 100 bytes each), every name in `blobs/` and every key of the eviction order,
//! and no blob. Needs some 100 bytes of memory per blob while it runs.

use std::{collections::HashMap, fs, path::Path};

use super::{
    BlobError,
    chunks::Run,
    vault::{Vault, failed},
};
use crate::{
    blob::{
        eviction::{parse_created, parse_recency_key, recency_key},
        record::{Place, Record},
    },
    ident::StorageId,
};

/// What is known of a blob while taking stock.
struct Seen {
    created: u64,
    used: u64,
    length: u64,
    place: Place,
    has_file: bool,
    has_entry: bool,
}

type Stock = HashMap<StorageId, Seen>;

// === impl Vault ===

impl Vault {
    /// Takes stock; to be called once, before the store is used.
    pub(super) fn scan(&self) -> Result<(), BlobError> {
        let mut stock = self.scan_records()?;
        self.scan_files(&mut stock)?;
        self.drop_fileless(&mut stock)?;
        self.scan_recency(&mut stock)?;
        for (id, seen) in &stock {
            if !seen.has_entry {
                self.recency.insert(&recency_key(seen.used, id), &seen.created.to_be_bytes())?;
            }
            self.budget.add(seen.place, seen.length);
        }
        Ok(())
    }

    fn scan_records(&self) -> Result<Stock, BlobError> {
        let mut stock = Stock::new();
        for entry in self.records.entries() {
            let (key, value) = entry?;
            match (StorageId::from_bytes(&key), Record::decode(&value)) {
                (Some(id), Some(Record { stat, place, created, used })) => {
                    let seen =
                        Seen { created, used, length: stat.length, place, has_file: false, has_entry: false };
                    stock.insert(id, seen);
                }
                (id, _) => {
                    self.counters.damaged();
                    self.records.remove(&key)?;
                    id.map_or(Ok(()), |id| self.clear_unreadable(&id))?;
                }
            }
        }
        Ok(stock)
    }

    fn scan_files(&self, stock: &mut Stock) -> Result<(), BlobError> {
        for folder in children(&self.database.directory().blobs())? {
            for file in children(&folder)? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let seen = name.parse().ok().and_then(|id| stock.get_mut(&id));
                if let Some(seen) = seen.filter(|seen| seen.place == Place::File) {
                    seen.has_file = true;
                } else {
                    self.counters.orphan();
                    fs::remove_file(&file).map_err(failed("remove file"))?;
                }
            }
        }
        Ok(())
    }

    fn drop_fileless(&self, stock: &mut Stock) -> Result<(), BlobError> {
        let lost = stock.iter().filter(|(_, seen)| seen.place == Place::File && !seen.has_file);
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.counters.orphan();
            self.records.remove(id.as_bytes())?;
            stock.remove(&id);
        }
        Ok(())
    }

    fn scan_recency(&self, stock: &mut Stock) -> Result<(), BlobError> {
        for entry in self.recency.entries() {
            let (key, value) = entry?;
            let parsed = parse_recency_key(&key);
            match parsed.map(|(used, id)| (used, id, stock.get_mut(&id))) {
                Some((used, _, Some(seen))) if seen.used == used => {
                    seen.has_entry = true;
                    continue;
                }
                Some((used, id, None)) => {
                    self.clear_orphan(Run { created: parse_created(&value, used), id })?;
                }
                _ => {}
            }
            self.recency.remove(&key)?;
        }
        Ok(())
    }

    fn clear_orphan(&self, run: Run) -> Result<(), BlobError> {
        if self.clear_held(run)? {
            self.counters.orphan();
        }
        Ok(())
    }
}

fn children(folder: &Path) -> Result<Vec<std::path::PathBuf>, BlobError> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let children: std::io::Result<_> = read();
    children.map_err(failed("read directory"))
}
