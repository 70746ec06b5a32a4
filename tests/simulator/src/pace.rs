//! How fast a door answers.

use std::time::Duration;

/// Slices per second when a body is sent at a limited speed.
const SLICES_PER_SECOND: u64 = 50;

/// Latency and bandwidth of one door. The default is as fast as the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// From the request's arrival to the head of the answer.
    pub first_byte: Duration,
    /// Speed of each connection's bodies; `None`: unlimited.
    pub bytes_per_second: Option<u64>,
}

// === impl Pace ===

impl Pace {
    /// A pause before every answer.
    pub fn latency(first_byte: Duration) -> Self {
        Self { first_byte, bytes_per_second: None }
    }

    /// Limits the speed of bodies.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// The size of the slices that a body is sent in, and the pause after each.
    pub(crate) fn slices(&self, length: usize) -> (usize, Duration) {
        let Some(speed) = self.bytes_per_second.map(|speed| speed.max(1)) else {
            return (length.max(1), Duration::ZERO);
        };
        let slice = (speed / SLICES_PER_SECOND).max(1);
        (usize::try_from(slice).unwrap_or(usize::MAX), Duration::from_micros(slice * 1_000_000 / speed))
    }
}
