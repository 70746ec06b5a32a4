//! Reading stored blobs that are not in memory: from chunks, or from a file.
//!
//! An open file stays readable after it was evicted. Chunks do not; the reader then fails, it never returns
//! fewer or other bytes than there were: chunks have the database's seals, the pages of files their sums (`pages.rs`).
//! A read that finds damage fails and removes the blob, so that the next caller gets it from the service.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{BlobError, blocking, vault::Vault};
use crate::{
    blob::{ReadAt, record::Record},
    disk::watch::blocks,
    ident::StorageId,
};

/// Most bytes in one answer; large enough that the hop to a blocking thread does not show.
const ANSWER: u64 = 256 * 1024;

/// A blob in chunks.
pub(super) struct ChunkReader {
    pub(super) vault: Arc<Vault>,
    pub(super) id: StorageId,
    pub(super) record: Record,
}

/// A blob in a file.
pub(super) struct FileReader {
    pub(super) vault: Arc<Vault>,
    pub(super) id: StorageId,
    pub(super) record: Record,
    pub(super) file: Arc<File>,
}

/// The end of the answer to a read at `offset` of something `length` bytes long.
pub(super) fn answer_end(offset: u64, max: usize, length: u64) -> Result<u64, BlobError> {
    if offset >= length || max == 0 {
        return Err(BlobError::OutOfRange { offset, length: max });
    }
    let wanted = u64::try_from(max).unwrap_or(u64::MAX).min(ANSWER);
    Ok(length.min(offset.saturating_add(wanted)))
}

/// Reads exactly the bytes `from..to`.
pub(super) fn read_file(file: &File, from: u64, to: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
    blocks("read file");
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

// === impl ChunkReader ===

#[async_trait]
impl ReadAt for ChunkReader {
    async fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, BlobError> {
        let length = self.record.stat.length;
        let end = answer_end(offset, max, length)?;
        let (vault, id, record) = (Arc::clone(&self.vault), self.id, self.record.clone());
        blocking("read chunks", move || vault.read_chunks(&id, &record, offset, end)).await
    }
}

// === impl FileReader ===

#[async_trait]
impl ReadAt for FileReader {
    async fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, BlobError> {
        let end = answer_end(offset, max, self.record.stat.length)?;
        let (vault, id, record) = (Arc::clone(&self.vault), self.id, self.record.clone());
        let file = Arc::clone(&self.file);
        blocking("read file", move || vault.read_pages(&id, &record, &file, offset..end)).await
    }
}
