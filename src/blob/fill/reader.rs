//! The reading end of a fill.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{Fill, FillError, state::Located, state::State, wait};

/// Reads a fill while it arrives and after it. Dropped, it no longer counts for the fill.
pub struct FillReader {
    fill: Arc<Fill>,
    number: u64,
    state: watch::Receiver<State>,
}

// === impl FillReader ===

impl FillReader {
    pub(super) fn new(fill: Arc<Fill>, number: u64, state: watch::Receiver<State>) -> Self {
        Self { fill, number, state }
    }

    /// The fill that this reads.
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Waits for the bytes from `offset` on; at least one and at most `max` of them, shared and not copied where
    /// they are in memory. Empty at the end of a blob that passed its checks.
    ///
    /// Reading on means that the bytes before `offset` are not needed again; in an unstored fill they may be gone.
    pub async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, FillError> {
        self.fill.advance(self.number, offset);
        let bytes = match self.locate(offset, max.max(1)).await? {
            Located::Window(bytes) => bytes,
            Located::Stored(written, max) => {
                written.read_at(offset, max).await.map_err(|error| FillError::Store(error.to_string()))?
            }
            Located::End => Bytes::new(),
        };
        self.fill.advance(self.number, offset + bytes.len() as u64);
        Ok(bytes)
    }

    async fn locate(&mut self, offset: u64, max: usize) -> Result<Located, FillError> {
        let ready = |state: &State| state.released() > offset || state.is_verified();
        wait(&mut self.state, ready).await?.locate(offset, max)
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        self.fill.leave(self.number);
    }
}
