//! A blob being written: memory first, then a file in `partial/`, then its place in the store.

use std::{
    fs::{self, File},
    io::{self, IoSlice},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::{Errno, pwritev};

use super::{
    BlobError, blocking,
    spool::Spool,
    vault::{Vault, failed},
};
use crate::{
    blob::{
        BlobKind, BlobWriter, Digests, ReadAt,
        eviction::{Reservation, charge},
        pages::{Summing, Sums},
        record::Place,
    },
    disk::{
        create_private,
        watch::{blocks, may_block},
    },
    ident::StorageId,
    lanes,
};

/// Bytes kept in memory of a blob that goes to a file. The window of its fill holds the same ones anyway, and fewer turns
/// of another thread save some 6 % of a fill's processor time over 256 KiB.
const BUFFER: u64 = 1024 * 1024;

/// Most parts for one write (`IOV_MAX` of Linux).
const AT_ONCE: usize = 1024;

/// What a writer and its work on blocking threads share. Dropped unstored, it leaves nothing.
pub(super) struct Draft {
    pub(super) kind: BlobKind,
    pub(super) spool: Arc<Spool>,
    vault: Arc<Vault>,
    path: PathBuf,
    /// Up to this length it goes to the database; decided when it began.
    spill: u64,
    buffer: u64,
    reservation: Mutex<Reservation>,
    /// Sums of the pages so far.
    summing: Mutex<Summing>,
    /// Held while parts move to the file, which happens one after the other.
    moving: Mutex<()>,
    adopted: AtomicBool,
}

/// The writer that callers hold.
pub(super) struct DiskWriter(pub(super) Arc<Draft>);

// === impl Draft ===

impl Draft {
    /// Starts a blob of `length` bytes, if known, for which there must be room.
    pub(super) fn new(vault: Arc<Vault>, kind: BlobKind, length: Option<u64>) -> Result<Self, BlobError> {
        let spill = vault.spill()?;
        let reservation = match length {
            Some(length) => vault.make_room(charge(place(length, spill), length), length)?,
            None => Reservation::none(&vault.budget),
        };
        let is_large = length.is_some_and(|length| length > spill);
        let number = vault.drafts.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            kind,
            spool: Arc::default(),
            path: vault.database.directory().partial().join(number.to_string()),
            spill,
            buffer: if is_large { BUFFER } else { BUFFER.max(spill) },
            reservation: Mutex::new(reservation),
            summing: Mutex::default(),
            moving: Mutex::default(),
            adopted: AtomicBool::default(),
            vault,
        })
    }

    /// Brings the bytes where they can be stored from: small ones stay in memory, large ones are in the file.
    pub(super) fn complete(&self) -> Result<Place, BlobError> {
        let length = self.spool.length();
        let is_small = self.spool.file().is_none() && length <= self.spill;
        let place = if is_small { Place::Chunks } else { Place::File };
        self.reserve(place, length)?;
        if let Place::File = place {
            self.move_to_file()?;
            let file = self.spool.file();
            file.map_or(Ok(()), |file| file.sync_all()).map_err(failed("sync file"))?;
        }
        Ok(place)
    }

    /// The sums of the pages, for a blob that goes to a file.
    pub(super) fn sums(&self) -> Sums {
        self.summing.lock().finish()
    }

    /// Gives the file its final name.
    pub(super) fn adopt(&self, id: &StorageId) -> Result<(), BlobError> {
        self.vault.database.directory().adopt(&self.path, id).map_err(failed("name file"))?;
        self.adopted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives its room back: what it became is charged now.
    pub(super) fn release_reservation(&self) {
        *self.reservation.lock() = Reservation::none(&self.vault.budget);
    }

    /// Moves the parts that are in memory to the file.
    fn move_to_file(&self) -> Result<(), BlobError> {
        let _moving = self.moving.lock();
        self.reserve(Place::File, self.spool.length())?;
        let file = self.file().map_err(failed("create file"))?;
        let (offset, parts) = self.spool.parts();
        let length = parts.iter().map(|part| part.len() as u64).sum();
        self.vault.database.space().admit(length).map_err(failed("write file"))?;
        blocks("write file");
        write_all_at(&file, &parts, offset).map_err(failed("write file"))?;
        self.spool.spilled(parts.len());
        Ok(())
    }

    fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.spool.file() {
            return Ok(file);
        }
        let file = Arc::new(create_private(&self.path)?);
        self.spool.set_file(Arc::clone(&file));
        Ok(file)
    }

    /// Sees to it that there is room for `length` bytes.
    fn reserve(&self, place: Place, length: u64) -> Result<(), BlobError> {
        let mut reservation = self.reservation.lock();
        let missing = charge(place, length).saturating_sub(reservation.charge());
        if missing > 0 {
            reservation.join(self.vault.make_room(missing, length)?);
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.adopted.load(Ordering::Relaxed) || self.spool.file().is_none() {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // What can't be removed now goes when the store is opened the next time.
        let remove = move || drop::<io::Result<()>>(fs::remove_file(path));
        match lanes::home() {
            Some(home) => drop(home.spawn_blocking(|| may_block(remove))),
            None => remove(),
        }
    }
}

/// Writes `parts` one behind the other from `offset`, in as few calls as the system lets it.
fn write_all_at(file: &File, parts: &[Bytes], mut offset: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let most = rest.len().min(AT_ONCE);
        match pwritev(file, &rest[..most], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn place(length: u64, spill: u64) -> Place {
    if length <= spill { Place::Chunks } else { Place::File }
}

// === impl DiskWriter ===

#[async_trait]
impl BlobWriter for DiskWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.0.summing.lock().update(&bytes);
        if self.0.spool.append(bytes) <= self.0.buffer {
            return Ok(());
        }
        let draft = Arc::clone(&self.0);
        let moved = blocking("write file", move || draft.move_to_file()).await;
        moved.inspect_err(|error| self.0.vault.count_write_error(error))
    }

    fn written(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.0.spool) as Arc<dyn ReadAt>
    }

    async fn commit(self: Box<Self>, id: StorageId, digests: Digests) -> Result<(), BlobError> {
        let draft = Arc::clone(&self.0);
        let stored = blocking("store blob", move || draft.vault.store(&draft, id, digests)).await;
        stored.inspect_err(|error| self.0.vault.count_write_error(error))
    }
}
