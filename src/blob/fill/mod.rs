//! A fill: one download in progress that any number of readers follow from its first byte.
//!
//! The producer ([`FillWriter`]) pushes bytes; readers ([`FillReader`]) read them at their own pace. The newest
//! bytes are shared from a window in memory, older ones come from the blob store's writer, so a reader costs
//! no memory of its own. The download runs in a task of its own, spawned by the caller, so that it outlives the
//! client that caused it.
//!
//! **Nobody gets a whole body that fails its checks.** Until they pass, the end is held back; when they fail,
//! every reader gets the error. Short fills, and those of unknown length, release nothing before they are
//! verified, so that their readers can still be sent a clean error reply. A *part* of a long fill may be read
//! before: whoever serves ranges waits for [`Fill::verified`] first.
//!
//! **A store that fails does not fail the fill.** It goes on unstored: what was written stays readable, later
//! bytes live in the window alone, and the producer waits for the slowest reader before it drops any.
//!
//! One download for each content is the caller's care: `cache::Coalescer`.
//!
//! What the bytes are, where they come from and who may read them is not known here.

mod reader;
mod state;
mod writer;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{BlobKind, BlobStore, BlobWriter, Digests, Expected, Mismatch};
use crate::ident::StorageId;

pub use reader::FillReader;
use state::{Hold, Room, State};
pub use writer::FillWriter;

/// Bytes of the newest pieces that a fill keeps in memory for its readers.
pub const WINDOW: usize = 2 * 1024 * 1024;
/// Fills up to this length, in bytes, release nothing before they are verified. Also what a stored fill keeps of
/// its window after its end, so that the readers of short fills never touch the store.
pub const SHORT: u64 = 256 * 1024;
/// Pushed bytes are taken in pieces of at most this many. Hashing one took 50–80 µs (SHA-256 with the CPU's help)
/// and 150 µs more where npm's SHA-512 is checked (`benches/vso_hash.rs`): short enough to be done in place.
pub const PIECE: usize = 64 * 1024;
/// How long an unstored fill waits for its slowest reader before it goes on without it.
pub const STALL: Duration = Duration::from_secs(30);

/// Why a fill failed, or why a reader can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The bytes are not what was promised.
    #[error("download is not what was promised: {0}")]
    Mismatch(#[from] Mismatch),
    /// The download broke off; what its source said.
    #[error("download broke off: {0}")]
    Upstream(String),
    /// The writer was dropped before its end: its task was cancelled or panicked.
    #[error("download was abandoned")]
    Abandoned,
    /// The store failed and nobody reads: there is nothing to download for.
    #[error("download is neither stored nor read")]
    Unwanted,
    /// The bytes from here on are no longer held: the store failed, and this reader fell behind or came late.
    #[error("bytes from {offset} are no longer held")]
    Gone {
        /// First byte asked for.
        offset: u64,
    },
    /// Bytes that were stored can't be read back; what the store said.
    #[error("stored bytes can't be read back: {0}")]
    Store(String),
}

/// How a fill ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The VSO hash of the bytes.
    pub id: StorageId,
    /// Their number.
    pub length: u64,
    /// The digests that were checked beside it.
    pub digests: Digests,
    /// Whether the store has the blob now; `false` is worth a count.
    pub stored: bool,
}

/// A download in progress, or one that ended while it still has readers.
pub struct Fill {
    length: Option<u64>,
    state: watch::Sender<State>,
    readers: Mutex<Readers>,
    /// A reader moved on or left; the producer may be waiting for that.
    consumed: Notify,
    /// The store's writer after it failed: dropping it could take the bytes away that readers still need.
    leftover: Mutex<Option<Box<dyn BlobWriter>>>,
}

/// Where the readers are: the bytes before their positions are not needed again.
#[derive(Default)]
struct Readers {
    positions: HashMap<u64, u64>,
    next: u64,
    /// One has come, or has been waited for long enough.
    seen: bool,
}

// === impl FillError ===

impl FillError {
    /// A label for metrics; a closed set together with [`Mismatch::as_str`].
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mismatch(mismatch) => mismatch.as_str(),
            Self::Upstream(_) => "upstream",
            Self::Abandoned => "abandoned",
            Self::Unwanted => "unwanted",
            Self::Gone { .. } => "gone",
            Self::Store(_) => "store",
        }
    }
}

// === impl Fill ===

impl Fill {
    /// Starts a fill of a blob that is `expected`. A store that refuses makes it an unstored one.
    ///
    /// An unstored fill waits for its first reader for [`STALL`] and ends early once it has none left.
    pub async fn start(store: &dyn BlobStore, kind: BlobKind, expected: Expected) -> (FillWriter, Arc<Self>) {
        let (mut writer, fill) = Self::unstored(expected);
        writer.begin(store, kind).await;
        (writer, fill)
    }

    /// Starts one that is unstored until [`FillWriter::begin`].
    pub fn unstored(expected: Expected) -> (FillWriter, Arc<Self>) {
        let fill = Arc::new(Self {
            length: expected.length,
            state: watch::Sender::new(State::new(Hold::at_first(expected.length))),
            readers: Mutex::default(),
            consumed: Notify::new(),
            leftover: Mutex::default(),
        });
        (FillWriter::new(fill.clone(), expected), fill)
    }

    /// A reader that starts at byte `offset`; an error when the bytes from there on are no longer held.
    ///
    /// A reader that stops reading holds an unstored fill up for [`STALL`], so drop it when its client is gone.
    pub fn reader(self: &Arc<Self>, offset: u64) -> Result<FillReader, FillError> {
        // Positions are locked before the state, here and where bytes are dropped, so that none go in between.
        let mut readers = self.readers.lock();
        self.state.borrow().reachable(offset)?;
        let number = readers.join(offset);
        Ok(FillReader::new(self.clone(), number, self.state.subscribe()))
    }

    /// How many read it now.
    pub fn readers(&self) -> usize {
        self.readers.lock().positions.len()
    }

    /// Whether it has readers, or its first one is yet to come.
    fn is_followed(&self) -> bool {
        let readers = self.readers.lock();
        !readers.seen || !readers.positions.is_empty()
    }

    /// Whether a reader can still be had from the first byte on.
    pub fn joinable(&self) -> bool {
        self.state.borrow().reachable(0).is_ok()
    }

    /// Bytes that readers may have now. Stays at 0 for a short fill until it is verified.
    pub fn released(&self) -> u64 {
        self.state.borrow().released()
    }

    /// Bytes that the window holds in memory now.
    pub fn buffered(&self) -> usize {
        self.state.borrow().buffered()
    }

    /// Waits until a byte can be read or all checks have passed. The length of the blob, where it is known by
    /// then; it is unknown only for a fill that had no length and lost its store.
    pub async fn wait_for_head(&self) -> Result<Option<u64>, FillError> {
        let mut state = self.state.subscribe();
        let state = wait(&mut state, |state| state.released() > 0 || state.is_verified()).await?;
        state.failure()?;
        Ok(state.verified_length().or(self.length))
    }

    /// Waits until all checks have passed; the length of the blob. The store may not have it yet.
    pub async fn verified(&self) -> Result<u64, FillError> {
        let mut state = self.state.subscribe();
        let state = wait(&mut state, State::is_verified).await?;
        state.failure()?;
        state.verified_length().ok_or(FillError::Abandoned)
    }

    /// Waits for the end.
    pub async fn finished(&self) -> Result<Finished, FillError> {
        let mut state = self.state.subscribe();
        let state = wait(&mut state, |state| state.outcome().is_some()).await?;
        state.outcome().cloned().unwrap_or(Err(FillError::Abandoned))
    }

    /// Moves a reader to `position`.
    fn advance(&self, reader: u64, position: u64) {
        if let Some(current) = self.readers.lock().positions.get_mut(&reader) {
            *current = position;
        }
        self.consumed.notify_one();
    }

    fn leave(&self, reader: u64) {
        self.readers.lock().positions.remove(&reader);
        self.consumed.notify_one();
    }

    /// Drops what nobody needs from memory until the window has its size; whether that was possible.
    fn make_room(&self) -> Room {
        let readers = self.readers.lock();
        let slowest = readers.slowest();
        let mut room = Room::Enough;
        self.state.send_if_modified(|state| {
            let (outcome, changed) = state.make_room(slowest);
            room = outcome;
            changed
        });
        room
    }

    /// Forgets the readers that the oldest piece is kept for; they find it gone.
    fn cut_off_laggards(&self) {
        let mut readers = self.readers.lock();
        let needed = self.state.borrow().oldest_end();
        readers.positions.retain(|_, position| *position >= needed);
        readers.seen = true;
    }

    /// Sets the outcome, unless there is one. A failure leaves nothing to read, so nothing is kept either.
    fn end(&self, outcome: Result<Finished, FillError>) {
        let failed = outcome.is_err();
        if self.state.send_if_modified(|state| state.end(outcome)) && failed {
            drop(self.leftover.lock().take());
        }
    }
}

// === impl Readers ===

impl Readers {
    fn join(&mut self, position: u64) -> u64 {
        self.seen = true;
        self.next += 1;
        self.positions.insert(self.next, position);
        self.next
    }

    /// The first byte that any reader needs; the very first while nobody has come yet.
    fn slowest(&self) -> Option<u64> {
        let slowest = self.positions.values().min().copied();
        slowest.or_else(|| (!self.seen).then_some(0))
    }
}

/// Waits until `ready` holds or the fill has failed.
async fn wait(
    state: &mut watch::Receiver<State>,
    ready: impl Fn(&State) -> bool,
) -> Result<watch::Ref<'_, State>, FillError> {
    let waited = state.wait_for(|state| ready(state) || state.failure().is_err()).await;
    waited.map_err(|_| FillError::Abandoned)
}

#[cfg(test)]
mod tests;
