//! How fast a door answers.

use std::time::Duration;

/// Slices per second when a body is sent at a limited speed.
const SLICES_PER_SECOND: u64 = 50;
/// A fast network brings much in small parts, not seldom in large ones.
const LARGEST_SLICE: usize = 64 * 1024;

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

    /// The size of the slices that a body of `length` bytes is sent in.
    pub(crate) fn slice(&self, length: usize) -> usize {
        let Some(speed) = self.bytes_per_second else { return length.max(1) };
        usize::try_from(speed / SLICES_PER_SECOND).unwrap_or(LARGEST_SLICE).clamp(1, LARGEST_SLICE)
    }

    /// How long after its begin so many bytes of a body may have been sent.
    pub(crate) fn due(&self, bytes: usize) -> Duration {
        let micros = |speed: u64| (bytes as u64).saturating_mul(1_000_000) / speed.max(1);
        self.bytes_per_second.map(micros).map_or(Duration::ZERO, Duration::from_micros)
    }
}
