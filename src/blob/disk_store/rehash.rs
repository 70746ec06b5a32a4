//! Reading stored blobs again, to see whether they still are what they were stored as.

use std::{fs::File, sync::Arc};

use tokio::time::{Duration, Instant, sleep_until};

use super::{BlobError, DiskStore, blocking, vault::Vault};
use crate::{
    blob::{
        Expected, Hashing,
        record::{Place, Record},
    },
    ident::StorageId,
};

/// Bytes read in one step.
const STEP: u64 = 256 << 10;

/// What became of a blob that was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is what it was stored as.
    Sound,
    /// It was not, and is removed.
    Damaged,
    /// It is not stored any more.
    Gone,
}

/// Keeps work to so many bytes a second.
#[derive(Debug)]
pub struct Pace {
    rate: u64,
    begun: Instant,
    /// Bytes so far.
    pub bytes: u64,
}

/// A blob being read again.
struct Reading {
    vault: Arc<Vault>,
    id: StorageId,
    record: Record,
    file: Option<File>,
    hashing: Hashing,
}

// === impl Pace ===

impl Pace {
    /// At most `rate` bytes a second; 0 is no limit.
    pub fn new(rate: u64) -> Self {
        Self { rate, begun: Instant::now(), bytes: 0 }
    }

    /// Waits until `bytes` more are within the rate.
    pub async fn spend(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(millis) = (self.bytes.saturating_mul(1000)).checked_div(self.rate) {
            sleep_until(self.begun + Duration::from_millis(millis)).await;
        }
    }
}

// === impl DiskStore ===

impl DiskStore {
    /// Reads a blob from disk, whether or not it is in memory too, and checks it against its checksums, its digests and,
    /// where its id can be computed, its id. One that is damaged is removed.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn rehash(&self, id: StorageId, pace: &mut Pace) -> Result<Health, BlobError> {
        let vault = Arc::clone(&self.vault);
        let mut reading = match blocking("open blob", move || Reading::open(vault, id)).await {
            Ok(None) => return Ok(Health::Gone),
            Ok(Some(reading)) => reading,
            Err(BlobError::Damaged { .. }) => return Ok(Health::Damaged),
            Err(error) => return Err(error),
        };
        loop {
            let before = reading.hashing.length();
            let step = blocking("read blob", move || reading.step()).await;
            let (next, is_over) = match step {
                Ok(step) => step,
                Err(BlobError::Damaged { .. }) => return Ok(Health::Damaged),
                Err(error) => return Err(error),
            };
            reading = next;
            pace.spend(reading.hashing.length() - before).await;
            if is_over {
                return blocking("check blob", move || Ok(reading.judged())).await;
            }
        }
    }
}

// === impl Reading ===

impl Reading {
    fn open(vault: Arc<Vault>, id: StorageId) -> Result<Option<Self>, BlobError> {
        let Some(record) = vault.find(&id)? else { return Ok(None) };
        let file = match record.place {
            Place::Chunks => None,
            Place::File => Some(vault.open_file(&id, &record)?),
        };
        let hashing = Hashing::new(&expected(id, &record));
        Ok(Some(Self { vault, id, record, file, hashing }))
    }

    /// Reads one step; whether it was the last.
    fn step(mut self) -> Result<(Self, bool), BlobError> {
        let (from, length) = (self.hashing.length(), self.record.stat.length);
        let to = length.min(from + STEP);
        let bytes = match &self.file {
            Some(file) => self.vault.read_pages(&self.id, &self.record, file, from..to)?,
            None => self.vault.read_chunks(&self.id, &self.record, from, to)?,
        };
        self.hashing.update(&bytes);
        Ok((self, to == length))
    }

    fn judged(self) -> Health {
        let Self { vault, id, record, hashing, .. } = self;
        match expected(id, &record).check(hashing) {
            Ok(_) => Health::Sound,
            Err(mismatch) => {
                tracing::error!(%id, %mismatch, "a stored blob is not what it was stored as");
                // It removes the blob; what is told here is told below.
                drop(vault.found_damaged(&id, &record, "its content does not have its hash"));
                Health::Damaged
            }
        }
    }
}

fn expected(id: StorageId, record: &Record) -> Expected {
    let stat = &record.stat;
    Expected {
        storage_id: Some(id),
        length: Some(stat.length),
        sha1: stat.digests.sha1,
        sha512: stat.digests.sha512,
    }
}
