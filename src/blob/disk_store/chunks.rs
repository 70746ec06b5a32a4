//! The bytes of small blobs, in pieces that the database keeps its memory bounds with.
//!
//! Key: be64(time of storing, ms) ‖ storage id ‖ be32(index). Every piece but the last has exactly [`CHUNK`]
//! bytes, so the length in the record says which pieces there must be and how long each is; anything else is
//! damage.
//!
//! The time comes first because ids are hashes: keys in their order would touch a random page of 32 pieces
//! with every piece, each to be written anew and to leave a hole behind. Ordered by time, new blobs fill the
//! last page, and blobs that leave, mostly old ones, empty whole pages. Measured below as `churn` in
//! `benches/spill.rs`.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::{
    disk::{DiskError, Tree},
    ident::StorageId,
};

/// Bytes per piece. Larger ones escape the database's page cache accounting (see `disk/database.rs`).
pub(super) const CHUNK: u64 = 16 * 1024;

/// The tree of pieces.
pub(super) struct Chunks {
    tree: Tree,
    /// Held while a blob is written. Two writers at the end of the tree would only repeat each other's work.
    writing: Mutex<()>,
}

/// Which pieces: those of one storing of one blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// When it was stored, in milliseconds since 1970.
    pub(super) created: u64,
    pub(super) id: StorageId,
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn new(tree: Tree) -> Self {
        Self { tree, writing: Mutex::default() }
    }

    /// Writes a blob that arrived as `parts`.
    pub(super) fn write(&self, run: Run, parts: &[Bytes]) -> Result<(), DiskError> {
        let size = usize::try_from(CHUNK).unwrap_or(usize::MAX);
        let _writing = self.writing.lock();
        let mut chunk = Vec::with_capacity(size);
        let mut index = 0;
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let (fits, more) = rest.split_at(rest.len().min(size - chunk.len()));
                chunk.extend_from_slice(fits);
                rest = more;
                if chunk.len() == size {
                    self.tree.insert(&key(run, index), &chunk)?;
                    chunk.clear();
                    index += 1;
                }
            }
        }
        if chunk.is_empty() { Ok(()) } else { self.tree.insert(&key(run, index), &chunk) }
    }

    /// The bytes `from..to` of a blob of `length` bytes; `None` if a piece is missing or has a wrong length.
    pub(super) fn read(&self, run: Run, from: u64, to: u64, length: u64) -> Result<Option<Bytes>, DiskError> {
        let mut gathered = BytesMut::new();
        let mut at = from;
        while at < to {
            let start = at / CHUNK * CHUNK;
            let end = length.min(start + CHUNK);
            let Some(chunk) = self.tree.get(&key(run, start / CHUNK))? else { return Ok(None) };
            if u64::try_from(chunk.len()) != Ok(end - start) {
                return Ok(None);
            }
            let part = chunk.slice(within(at - start)..within(to.min(end) - start));
            if at == from && to <= end {
                return Ok(Some(part));
            }
            gathered.reserve(within(to - at));
            gathered.extend_from_slice(&part);
            at = end;
        }
        Ok(Some(gathered.freeze()))
    }

    /// Removes the pieces of a blob of `length` bytes.
    pub(super) fn remove(&self, run: Run, length: u64) -> Result<(), DiskError> {
        (0..length.div_ceil(CHUNK)).try_for_each(|index| self.tree.remove(&key(run, index)).map(drop))
    }

    /// Removes whatever pieces there are; how many.
    pub(super) fn remove_all(&self, run: Run) -> Result<usize, DiskError> {
        let prefix = &key(run, 0)[..41];
        let keys = self.tree.scan_prefix(prefix).map(|entry| entry.map(|(key, _)| key));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        keys.iter().try_for_each(|key| self.tree.remove(key).map(drop))?;
        Ok(keys.len())
    }
}

fn key(run: Run, index: u64) -> [u8; 45] {
    let mut key = [0; 45];
    key[..8].copy_from_slice(&run.created.to_be_bytes());
    key[8..41].copy_from_slice(run.id.as_bytes());
    key[41..].copy_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
    key
}

/// An offset inside a chunk or an answer, both far below 4 GiB.
fn within(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
