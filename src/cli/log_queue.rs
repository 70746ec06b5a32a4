//! The log's way out: lines wait in memory for a thread of their own, which writes them.
//!
//! A log is read through a pipe, by a supervisor that may stall or die. No thread that answers requests waits for it: a
//! line for which there is no room, or that nobody takes, is lost and counted. Lines that were taken are written before
//! the program ends or another takes its place ([`LogQueue::flush`]), as long as their reader takes any. Only what kills
//! the process at once loses the lines of the last [`PAUSE`].

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait; as many may be with the writing thread.
const ROOM: usize = 4 << 20;
/// A buffer that has grown larger is given back once it is empty.
const KEPT: usize = 64 << 10;
/// How long lines gather before they are written together.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a reader may take nothing before it is given up at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines on their way out. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

struct Shared {
    room: usize,
    waiting: Mutex<Waiting>,
    /// There are lines.
    filled: Condvar,
    /// There are none any more, nor is one being written.
    emptied: Condvar,
    /// Bytes that were written or lost while they were.
    passed: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    is_writing: bool,
    /// Lines that were lost before somebody counts them.
    lost: u64,
    counter: Option<IntCounter>,
}

// === impl LogQueue ===

impl LogQueue {
    /// A queue in front of `out`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_room(ROOM, out)
    }

    fn with_room(room: usize, out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            room,
            waiting: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            passed: AtomicU64::new(0),
        });
        let queue = Self(Arc::clone(&shared));
        thread::Builder::new().name("feedgate-log".to_owned()).spawn(move || shared.write_all_to(out))?;
        Ok(queue)
    }

    /// Has lines that are lost counted, also those that were lost before.
    pub(super) fn count_losses(&self, counter: IntCounter) {
        let mut waiting = self.0.waiting.lock();
        counter.inc_by(std::mem::take(&mut waiting.lost));
        waiting.counter = Some(counter);
    }

    /// Waits until every line is written, or its reader has taken nothing for some time.
    pub(super) fn flush(&self) {
        let mut waiting = self.0.waiting.lock();
        while !waiting.lines.is_empty() || waiting.is_writing {
            let before = self.0.passed.load(Ordering::Relaxed);
            let waited = self.0.emptied.wait_for(&mut waiting, PATIENCE);
            if waited.timed_out() && self.0.passed.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

impl Write for LogQueue {
    /// Takes whole lines, or loses them: never an error, and never a part.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting.lock();
        if waiting.lines.len().saturating_add(lines.len()) > self.0.room {
            waiting.lose(lines);
        } else {
            waiting.lines.extend_from_slice(lines);
            self.0.filled.notify_one();
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self::Writer {
        self.clone()
    }
}

// === impl Shared ===

impl Shared {
    fn write_all_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            self.take(&mut lines);
            let lost = self.write_to(&mut out, &lines);
            if !lost.is_empty() {
                self.waiting.lock().lose(lost);
            }
            lines.clear();
            lines.shrink_to(KEPT);
        }
    }

    /// Waits for lines and takes them.
    fn take(&self, lines: &mut Vec<u8>) {
        let mut waiting = self.waiting.lock();
        waiting.is_writing = false;
        if waiting.lines.is_empty() {
            self.emptied.notify_all();
        }
        while waiting.lines.is_empty() {
            self.filled.wait(&mut waiting);
            // Who logs much is not kept by a line at a time.
            parking_lot::MutexGuard::unlocked(&mut waiting, || thread::park_timeout(PAUSE));
        }
        waiting.is_writing = true;
        std::mem::swap(&mut waiting.lines, lines);
    }

    /// Writes lines; what of them is lost.
    fn write_to<'l>(&self, out: &mut impl Write, lines: &'l [u8]) -> &'l [u8] {
        let mut rest = lines;
        while !rest.is_empty() {
            match out.write(rest) {
                Ok(written @ 1..) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.passed.fetch_add(written as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody else who has this terminal or pipe made it one that does not wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(PAUSE),
                Ok(0) | Err(_) => break,
            }
        }
        rest
    }
}

// === impl Waiting ===

impl Waiting {
    fn lose(&mut self, lines: &[u8]) {
        let lost = memchr::memchr_iter(b'\n', lines).count() as u64;
        match &self.counter {
            Some(counter) => counter.inc_by(lost),
            None => self.lost += lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write as _},
        sync::mpsc,
    };

    use prometheus::IntCounter;

    use super::LogQueue;

    /// A reader that takes a piece each time it is told to, until nobody is there to tell it.
    struct Reader {
        told: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl io::Write for Reader {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.told.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.taken.send(piece.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue(room: usize) -> (LogQueue, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let ((tell, told), (taken, pieces)) = (mpsc::channel(), mpsc::channel());
        (LogQueue::with_room(room, Reader { told, taken }).unwrap(), tell, pieces)
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_nobody_waits() {
        let (mut queue, tell, pieces) = queue(64);
        let lost = IntCounter::new("lost", "Lost.").unwrap();
        // As much as there is room for, wherever it waits, and then more.
        for _ in 0..64 {
            queue.write_all(b"a line\n").unwrap();
        }
        queue.count_losses(lost.clone());
        let before = lost.get();
        assert!((64 - 2 * 9..=64 - 9).contains(&before), "{before}");
        queue.flush();
        for _ in 0..64 {
            queue.write_all(b"a line\n").unwrap();
        }
        assert!(lost.get() >= before + 64 - 9, "{}", lost.get());
        // What was taken is whole lines, and all that were not lost.
        tell.send(()).unwrap();
        tell.send(()).unwrap();
        drop(tell);
        queue.flush();
        let text = String::from_utf8(pieces.try_iter().flatten().collect()).unwrap();
        assert_eq!(text, "a line\n".repeat(usize::try_from(128 - lost.get()).unwrap()));
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_no_error() {
        let (mut queue, tell, pieces) = queue(1 << 20);
        let lost = IntCounter::new("lost", "Lost.").unwrap();
        queue.count_losses(lost.clone());
        tell.send(()).unwrap();
        queue.write_all(b"first\n").unwrap();
        queue.flush();
        assert_eq!(pieces.try_iter().collect::<Vec<_>>(), [b"first\n"]);
        drop(tell);
        queue.write_all(b"second\nthird\n").unwrap();
        queue.flush();
        assert_eq!(lost.get(), 2);
    }
}
