//! The bytes of a blob that is being written, readable at once by those who wait for them.
//!
//! ```text
//! 0 ───────── on disk ─────────┬──── parts in memory ────┬ length
//!      in the partial file     │   as they were written  │
//! ```
//!
//! Readers of the newest bytes get them from memory without a copy; those far behind read the file. What is
//! here stays valid for as long as a reader holds it, whatever becomes of the blob.

use std::{fs::File, io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use super::{
    BlobError, blocking,
    reader::{answer_end, read_file},
};
use crate::blob::ReadAt;

/// Bytes so far.
#[derive(Default)]
pub(super) struct Spool(RwLock<State>);

#[derive(Default)]
struct State {
    length: u64,
    on_disk: u64,
    /// Each with its offset; together they hold `on_disk..length`.
    parts: Vec<(u64, Bytes)>,
    file: Option<Arc<File>>,
}

enum Source {
    Memory(Bytes),
    File(Arc<File>, u64),
}

// === impl Spool ===

impl Spool {
    /// Appends a part; how many bytes are in memory now.
    pub(super) fn append(&self, part: Bytes) -> u64 {
        let mut state = self.0.write();
        if !part.is_empty() {
            let offset = state.length;
            state.length += u64::try_from(part.len()).unwrap_or(u64::MAX);
            state.parts.push((offset, part));
        }
        state.length - state.on_disk
    }

    pub(super) fn length(&self) -> u64 {
        self.0.read().length
    }

    /// The parts in memory and the offset of the first.
    pub(super) fn parts(&self) -> (u64, Vec<Bytes>) {
        let state = self.0.read();
        (state.on_disk, state.parts.iter().map(|(_, part)| part.clone()).collect())
    }

    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.0.read().file.clone()
    }

    /// From now on there is a file.
    pub(super) fn set_file(&self, file: Arc<File>) {
        self.0.write().file = Some(file);
    }

    /// The first `count` parts are in the file now: lets go of them.
    pub(super) fn spilled(&self, count: usize) {
        let mut state = self.0.write();
        state.parts.drain(..count);
        state.on_disk = state.parts.first().map_or(state.length, |(offset, _)| *offset);
    }

    fn locate(&self, offset: u64, max: usize) -> Result<Source, BlobError> {
        let state = self.0.read();
        let end = answer_end(offset, max, state.length)?;
        if let (true, Some(file)) = (offset < state.on_disk, &state.file) {
            return Ok(Source::File(Arc::clone(file), end.min(state.on_disk)));
        }
        let after = state.parts.partition_point(|(start, _)| *start <= offset);
        let (start, part) = &state.parts[after - 1];
        let skip = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let take = max.min(part.len() - skip);
        Ok(Source::Memory(part.slice(skip..skip + take)))
    }
}

#[async_trait]
impl ReadAt for Spool {
    async fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, BlobError> {
        match self.locate(offset, max)? {
            Source::Memory(bytes) => Ok(bytes),
            Source::File(file, end) => {
                let read = move || read_file(&file, offset, end).map_err(failed);
                blocking("read partial file", read).await
            }
        }
    }
}

fn failed(source: io::Error) -> BlobError {
    BlobError::Io { action: "read partial file", source }
}
