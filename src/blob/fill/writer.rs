//! The producing end of a fill: hashes, stores and publishes what a download brings.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{Fill, FillError, Finished, PIECE, STALL, state::Room};
use crate::blob::{BlobError, BlobKind, BlobStore, BlobWriter, Digests, Expected, Hashing, Mismatch};
use crate::ident::StorageId;

/// Fills a blob. Dropped before [`FillWriter::finish`], it fails the fill with [`FillError::Abandoned`].
pub struct FillWriter {
    fill: Arc<Fill>,
    /// The store's writer, as long as the store works.
    writer: Option<Box<dyn BlobWriter>>,
    /// The same while the store still makes room for it.
    beginning: Option<JoinHandle<Result<Box<dyn BlobWriter>, BlobError>>>,
    expected: Expected,
    hashing: Hashing,
    /// A push is under way. Still set when the next one begins: that push was cancelled, and bytes are missing.
    torn: bool,
    /// How the fill ends if nothing more happens.
    outcome: Result<Finished, FillError>,
}

// === impl FillWriter ===

impl FillWriter {
    pub(super) fn new(fill: Arc<Fill>, expected: Expected) -> Self {
        let hashing = Hashing::new(&expected);
        Self {
            fill,
            writer: None,
            beginning: None,
            expected,
            hashing,
            torn: false,
            outcome: Err(FillError::Abandoned),
        }
    }

    /// Has what is pushed from now on stored, before the first byte. A store that refuses leaves the fill unstored.
    pub async fn begin(&mut self, store: &dyn BlobStore, kind: BlobKind) {
        if self.hashing.length() == 0 {
            let begun = store.begin(kind, self.expected.length).await;
            self.begun(begun);
        }
    }

    /// The same without waiting for it: readers get the first bytes while the store makes room for them.
    pub fn begin_behind(&mut self, store: Arc<dyn BlobStore>, kind: BlobKind) {
        if self.hashing.length() == 0 {
            let length = self.expected.length;
            self.beginning = Some(tokio::spawn(async move { store.begin(kind, length).await }));
        }
    }

    async fn settle(&mut self) {
        if let Some(beginning) = self.beginning.take() {
            match beginning.await {
                Ok(begun) => self.begun(begun),
                Err(error) => tracing::error!(%error, "the store's work on a fill died"),
            }
        }
    }

    fn begun(&mut self, begun: Result<Box<dyn BlobWriter>, BlobError>) {
        match begun {
            Ok(writer) => {
                let written = writer.written();
                self.fill.state.send_if_modified(|state| {
                    state.stores(written);
                    false
                });
                self.writer = Some(writer);
            }
            Err(error) => tracing::warn!(%error, "fill starts without the store"),
        }
    }

    /// The fill that this fills.
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Takes the next bytes. Waits for the store, and in an unstored fill for the slowest reader.
    ///
    /// After an error the fill has failed with it and the download should end. A push that is cancelled fails
    /// the fill at the next one. The window keeps slices of `bytes`: small slices of large buffers keep those.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), FillError> {
        let taken = self.take(bytes).await;
        taken.map_err(|error| self.give_up(error))
    }

    /// Checks everything, releases the last bytes, commits. An error is the fill's outcome, too.
    ///
    /// A failing commit is no error: the bytes are right, only not stored.
    pub async fn finish(mut self) -> Result<Finished, FillError> {
        let (id, digests) = self.check().map_err(|error| self.give_up(error))?;
        let finished = Finished { id, length: self.hashing.length(), digests, stored: false };
        self.outcome = Ok(finished);
        self.fill.state.send_modify(super::State::verify);
        let finished = Finished { stored: self.commit(id, digests).await, ..finished };
        self.outcome = Ok(finished);
        Ok(finished)
    }

    /// Fails the fill, e.g. because the download broke off.
    pub fn fail(mut self, error: FillError) {
        self.give_up(error);
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), FillError> {
        self.refuse_torn()?;
        self.refuse_overlong(bytes.len() as u64)?;
        self.torn = true;
        let mut rest = bytes;
        while !rest.is_empty() {
            self.take_piece(rest.split_to(rest.len().min(PIECE))).await?;
            if !rest.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        self.torn = false;
        Ok(())
    }

    /// Readers get the piece at once: those on this thread, also those who wait to become one, have their turn before it is
    /// hashed, and before the source is asked for more, which may have a lot waiting. The store may take its time.
    async fn take_piece(&mut self, piece: Bytes) -> Result<(), FillError> {
        self.fill.state.send_modify(|state| state.receive(piece.clone()));
        if self.fill.is_followed() {
            tokio::task::yield_now().await;
        }
        self.hashing.update(&piece);
        self.store(piece).await;
        self.make_room().await
    }

    async fn store(&mut self, piece: Bytes) {
        self.settle().await;
        // Taken out, so that a write that is cancelled half-way can't be followed by another.
        let Some(mut writer) = self.writer.take() else { return };
        match writer.write(piece).await {
            Ok(()) => {
                self.writer = Some(writer);
                self.fill.state.send_if_modified(|state| {
                    state.note_stored();
                    false
                });
            }
            Err(error) => {
                tracing::warn!(%error, at = self.hashing.length(), "fill goes on without the store");
                *self.fill.leftover.lock() = Some(writer);
            }
        }
    }

    async fn make_room(&mut self) -> Result<(), FillError> {
        loop {
            match self.fill.make_room() {
                Room::Enough => return Ok(()),
                Room::Unwanted => return Err(FillError::Unwanted),
                Room::Awaited => {}
            }
            if tokio::time::timeout(STALL, self.fill.consumed.notified()).await.is_err() {
                self.fill.cut_off_laggards();
            }
        }
    }

    fn refuse_torn(&self) -> Result<(), FillError> {
        match &self.outcome {
            Err(error) if self.torn || *error != FillError::Abandoned => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn refuse_overlong(&self, more: u64) -> Result<(), FillError> {
        let got = self.hashing.length() + more;
        match self.expected.length {
            Some(expected) if got > expected => Err(Mismatch::Length { expected, got }.into()),
            _ => Ok(()),
        }
    }

    fn check(&mut self) -> Result<(StorageId, Digests), FillError> {
        self.refuse_torn()?;
        Ok(self.expected.check(self.hashing.clone())?)
    }

    async fn commit(&mut self, id: StorageId, digests: Digests) -> bool {
        self.settle().await;
        let Some(writer) = self.writer.take() else { return false };
        let committed = writer.commit(id, digests).await;
        if let Err(error) = &committed {
            tracing::warn!(%error, %id, "fill is not stored");
        }
        committed.is_ok()
    }

    fn give_up(&mut self, error: FillError) -> FillError {
        (self.writer, self.beginning) = (None, None);
        self.outcome = Err(error.clone());
        self.fill.end(self.outcome.clone());
        error
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        self.fill.end(self.outcome.clone());
    }
}
