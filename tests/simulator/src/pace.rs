//! How fast a door answers.

use std::thread;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// What is left of an exact pause to the system's timers: more than the runtime's may be wrong by.
const EXACT: Duration = Duration::from_millis(2);
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
    /// Pauses are right to some 50 µs, for which each takes a thread. Otherwise they are right to a millisecond or two.
    pub exact: bool,
}

// === impl Pace ===

impl Pace {
    /// A pause before every answer.
    pub fn latency(first_byte: Duration) -> Self {
        Self { first_byte, ..Self::default() }
    }

    /// Limits the speed of bodies.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Makes the pauses as exact as the system can: to measure what is shorter than a millisecond.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Waits for so long.
    #[expect(clippy::disallowed_methods, reason = "a service that takes its time is what is simulated")]
    pub(crate) async fn pause(&self, time: Duration) {
        if !self.exact {
            return sleep(time).await;
        }
        let due = Instant::now() + time;
        if let Some(most) = time.checked_sub(EXACT) {
            sleep(most).await;
        }
        // It fails only if the runtime ends.
        let _ = spawn_blocking(move || thread::sleep(due.saturating_duration_since(Instant::now()))).await;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test]
    async fn an_exact_pause_is_never_too_short() {
        let pace = Pace::default().exact();
        for micros in [0, 300, 2_000, 3_400] {
            let (time, begun) = (Duration::from_micros(micros), Instant::now());
            pace.pause(time).await;
            assert!(begun.elapsed() >= time, "{time:?}");
        }
    }
}
