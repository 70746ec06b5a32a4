//! How much is read for one write to a client.
//!
//! What was read stays in memory until the client has taken it. So a client that takes everything at once gets large
//! pieces, one that lets them lie gets small ones, and all clients together hold a bounded number of bytes beyond the
//! small piece that each may always have:
//!
//! ```text
//! bytes held ≤ ROOM + SMALLEST × clients
//! ```
//!
//! Bytes that are in memory anyway (the hot tier, the window of a fill) are shared and cost nothing here, but are
//! counted all the same: where they lie is not known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The piece of a client that does not take more.
pub const SMALLEST: usize = 16 << 10;
/// The piece of one whose pace is not known yet.
const FIRST: usize = 64 << 10;
/// The piece of one that takes all it gets: what is read from disk for it lies in memory until it is sent.
const LARGEST: usize = 256 << 10;
/// Bytes that all clients together may hold before each gets only the smallest piece.
const ROOM: usize = 64 << 20;
/// A piece that is taken within this time is followed by a larger one.
const PROMPT: Duration = Duration::from_millis(20);
/// A piece that takes longer than this is followed by the smallest: a client of less than some 1.3 MB/s.
const LATE: Duration = Duration::from_millis(200);

/// Bytes read and not yet taken, of all clients; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outflow(Arc<AtomicUsize>);

/// The pieces of one answer.
#[derive(Debug)]
pub struct Pieces {
    outflow: Outflow,
    size: usize,
    held: usize,
}

// === impl Outflow ===

impl Outflow {
    /// The pieces of an answer that begins.
    pub fn pieces(&self) -> Pieces {
        Pieces { outflow: self.clone(), size: FIRST, held: 0 }
    }
}

// === impl Pieces ===

impl Pieces {
    /// Most bytes to read for the next write. They count as held until [`Pieces::taken`].
    pub fn next(&mut self) -> usize {
        self.release();
        let all = self.outflow.0.load(Ordering::Relaxed);
        self.held = if all.saturating_add(self.size) > ROOM { SMALLEST } else { self.size };
        self.outflow.0.fetch_add(self.held, Ordering::Relaxed);
        self.held
    }

    /// Notes that the client took the piece, and how long that took it.
    pub fn taken(&mut self, after: Duration) {
        self.release();
        if after > LATE {
            self.size = SMALLEST;
        } else if after < PROMPT {
            self.size = (self.size * 2).min(LARGEST);
        }
    }

    fn release(&mut self) {
        self.outflow.0.fetch_sub(std::mem::take(&mut self.held), Ordering::Relaxed);
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Duration};

    use super::{FIRST, LARGEST, LATE, Outflow, PROMPT, Pieces, ROOM, SMALLEST};

    fn next_after(pieces: &mut Pieces, took: Duration) -> usize {
        pieces.next();
        pieces.taken(took);
        pieces.next()
    }

    #[test]
    fn pieces_grow_for_a_prompt_client_and_shrink_for_a_late_one() {
        let outflow = Outflow::default();
        let mut pieces = outflow.pieces();
        assert_eq!(pieces.next(), FIRST);
        assert_eq!(next_after(&mut pieces, Duration::ZERO), 2 * FIRST);
        assert_eq!(next_after(&mut pieces, PROMPT), 2 * FIRST, "neither");
        assert_eq!(next_after(&mut pieces, Duration::ZERO), LARGEST);
        assert_eq!(next_after(&mut pieces, Duration::ZERO), LARGEST);
        assert_eq!(next_after(&mut pieces, LATE + Duration::from_millis(1)), SMALLEST);
        assert_eq!(next_after(&mut pieces, Duration::ZERO), 2 * SMALLEST);
    }

    #[test]
    fn all_clients_together_hold_a_bounded_number_of_bytes() {
        let outflow = Outflow::default();
        let held = || outflow.0.load(Ordering::Relaxed);
        let mut clients: Vec<Pieces> = (0..4_000).map(|_| outflow.pieces()).collect();
        for pieces in &mut clients {
            pieces.next();
            pieces.taken(Duration::ZERO);
            pieces.next();
        }
        assert!(held() > ROOM / 2 && held() <= ROOM + SMALLEST * clients.len(), "{}", held());
        assert_eq!(clients[3_999].next(), SMALLEST);
        clients.truncate(1);
        assert_eq!(held(), 2 * FIRST, "what the others held came back");
        clients.clear();
        assert_eq!(held(), 0);
    }
}
