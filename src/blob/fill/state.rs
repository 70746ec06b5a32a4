//! What the producer and the readers of a fill share, as plain data: no waiting, no I/O.
//!
//! ```text
//! 0                stored        received
//! |-- in the store --|               |        stored ≥ start of the window: every byte is reachable
//!          |---- window in memory ---|        else the bytes between are gone (unstored fill)
//! |--------- released ------------|--|        the rest is held back until verified
//! ```

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{FillError, Finished, SHORT, WINDOW};
use crate::blob::ReadAt;

/// How much is held back from the readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Everything: the fill is short or of unknown length, and a clean error reply must stay possible.
    Everything,
    /// The last byte of a blob of known length.
    LastByte {
        /// That length.
        length: u64,
    },
    /// The newest piece: the length is unknown and the window overflows.
    NewestPiece,
    /// Nothing: all checks have passed.
    Nothing,
}

/// Whether the window has its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It has.
    Enough,
    /// It has not: a reader still needs the oldest piece, which is not stored.
    Awaited,
    /// It has not, and nobody reads what is not stored.
    Unwanted,
}

/// Where the bytes at some offset are.
pub(super) enum Located {
    /// In memory.
    Window(Bytes),
    /// In the store; at most that many bytes may be read.
    Stored(Arc<dyn ReadAt>, usize),
    /// Nowhere: the blob ends before.
    End,
}

/// The shared state of a fill.
pub(super) struct State {
    /// The newest pieces, each with its offset.
    window: VecDeque<(u64, Bytes)>,
    buffered: usize,
    received: u64,
    /// Bytes that the store's writer has, from the first on.
    stored: u64,
    written: Option<Arc<dyn ReadAt>>,
    hold: Hold,
    outcome: Option<Result<Finished, FillError>>,
}

// === impl Hold ===

impl Hold {
    /// What a fill of that length holds back at first.
    pub(super) fn at_first(length: Option<u64>) -> Self {
        match length {
            Some(length) if length > SHORT => Self::LastByte { length },
            _ => Self::Everything,
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn new(hold: Hold) -> Self {
        Self {
            window: VecDeque::new(),
            buffered: 0,
            received: 0,
            stored: 0,
            written: None,
            hold,
            outcome: None,
        }
    }

    /// Notes where the bytes that are stored can be read.
    pub(super) fn stores(&mut self, written: Arc<dyn ReadAt>) {
        self.written = Some(written);
    }

    pub(super) fn released(&self) -> u64 {
        match self.hold {
            Hold::Everything => 0,
            Hold::LastByte { length } => self.received.min(length.saturating_sub(1)),
            Hold::NewestPiece => self.window.back().map_or(self.received, |(start, _)| *start),
            Hold::Nothing => self.received,
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(super) fn is_verified(&self) -> bool {
        self.hold == Hold::Nothing
    }

    pub(super) fn verified_length(&self) -> Option<u64> {
        self.is_verified().then_some(self.received)
    }

    pub(super) fn outcome(&self) -> Option<&Result<Finished, FillError>> {
        self.outcome.as_ref()
    }

    pub(super) fn failure(&self) -> Result<(), FillError> {
        match &self.outcome {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether all bytes from `offset` on can still be had.
    pub(super) fn reachable(&self, offset: u64) -> Result<(), FillError> {
        self.failure()?;
        let window = self.window_start();
        if window <= self.stored || offset >= window { Ok(()) } else { Err(FillError::Gone { offset }) }
    }

    /// Finds the bytes at `offset`; only for offsets that are released, or when the fill is verified.
    pub(super) fn locate(&self, offset: u64, max: usize) -> Result<Located, FillError> {
        self.failure()?;
        let released = self.released();
        if offset >= released {
            return Ok(Located::End);
        }
        let max = max.min(usize::try_from(released - offset).unwrap_or(usize::MAX));
        if let Some(bytes) = self.in_window(offset, max) {
            return Ok(Located::Window(bytes));
        }
        let stored = usize::try_from(self.stored.saturating_sub(offset)).unwrap_or(usize::MAX);
        match &self.written {
            Some(written) if stored > 0 => Ok(Located::Stored(written.clone(), max.min(stored))),
            _ => Err(FillError::Gone { offset }),
        }
    }

    fn in_window(&self, offset: u64, max: usize) -> Option<Bytes> {
        let after = self.window.partition_point(|(start, _)| *start <= offset);
        let (start, piece) = self.window.get(after.checked_sub(1)?)?;
        let from = usize::try_from(offset - start).ok().filter(|from| *from < piece.len())?;
        Some(piece.slice(from..piece.len().min(from.saturating_add(max))))
    }

    /// Adds the next piece.
    pub(super) fn receive(&mut self, piece: Bytes) {
        self.buffered += piece.len();
        let start = self.received;
        self.received += piece.len() as u64;
        self.window.push_back((start, piece));
    }

    /// Notes that the store has all bytes received.
    pub(super) fn note_stored(&mut self) {
        self.stored = self.received;
    }

    /// Notes that all checks have passed.
    pub(super) fn verify(&mut self) {
        self.hold = Hold::Nothing;
    }

    /// Where the oldest piece in memory ends.
    pub(super) fn oldest_end(&self) -> u64 {
        self.window.front().map_or(self.received, |(start, piece)| start + piece.len() as u64)
    }

    /// Drops old pieces down to the window's size, as far as they are stored or the `slowest` reader is past
    /// them. Also whether the readers have something new to see.
    pub(super) fn make_room(&mut self, slowest: Option<u64>) -> (Room, bool) {
        self.shrink(WINDOW, self.stored.max(slowest.unwrap_or(0)));
        if self.buffered <= WINDOW {
            return (Room::Enough, false);
        }
        if slowest.is_none() {
            return (Room::Unwanted, false);
        }
        let opens = self.hold == Hold::Everything;
        if opens {
            self.hold = Hold::NewestPiece;
        }
        (Room::Awaited, opens)
    }

    /// Sets the outcome, unless there is one; whether it did.
    pub(super) fn end(&mut self, outcome: Result<Finished, FillError>) -> bool {
        if self.outcome.is_some() {
            return false;
        }
        match &outcome {
            Ok(finished) if finished.stored => {
                self.shrink(usize::try_from(SHORT).unwrap_or(WINDOW), self.stored);
            }
            Ok(_) => {}
            Err(_) => self.shrink(0, self.received),
        }
        self.outcome = Some(outcome);
        true
    }

    /// Drops old pieces that end at or before `dispensable`, down to `limit` bytes.
    fn shrink(&mut self, limit: usize, dispensable: u64) {
        while self.buffered > limit && self.oldest_end() <= dispensable {
            let Some((_, piece)) = self.window.pop_front() else { return };
            self.buffered -= piece.len();
        }
    }

    fn window_start(&self) -> u64 {
        self.window.front().map_or(self.received, |(start, _)| *start)
    }
}
