//! Keeps the store from meeting a full disk.
//!
//! sled 0.34 answers every call with the same error after one failed write, until the process restarts. So
//! writing stops while the file system still has a reserve, and goes on by itself when space came back.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Bytes written between two questions to the file system; small against any sensible reserve.
const ASK_EVERY: u64 = 4 * 1024 * 1024;

/// Refuses writes while the file system has less than a reserve left.
#[derive(Debug)]
pub struct SpaceGuard {
    root: PathBuf,
    reserve: AtomicU64,
    since_asked: AtomicU64,
    low: AtomicBool,
}

// === impl SpaceGuard ===

impl SpaceGuard {
    /// Watches the file system that holds `root`; `reserve` in bytes.
    pub fn new(root: &Path, reserve: u64) -> Self {
        Self {
            root: root.to_owned(),
            reserve: AtomicU64::new(reserve),
            since_asked: AtomicU64::new(ASK_EVERY),
            low: AtomicBool::new(false),
        }
    }

    /// Changes the reserve, in bytes; takes effect with the next write.
    pub fn set_reserve(&self, reserve: u64) {
        self.reserve.store(reserve, Ordering::Relaxed);
        self.since_asked.store(ASK_EVERY, Ordering::Relaxed);
    }

    /// Bytes that the file system has left.
    pub fn free(&self) -> io::Result<u64> {
        fs2::available_space(&self.root)
    }

    /// Whether `bytes` may be written now; [`io::ErrorKind::StorageFull`] if not.
    pub fn admit(&self, bytes: u64) -> io::Result<()> {
        let since = self.since_asked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if since >= ASK_EVERY || self.low.load(Ordering::Relaxed) {
            self.since_asked.store(0, Ordering::Relaxed);
            let low = self.free()? < self.reserve.load(Ordering::Relaxed);
            self.low.store(low, Ordering::Relaxed);
        }
        if self.low.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the free-space reserve is reached"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::SpaceGuard;

    #[test]
    fn refuses_below_the_reserve_and_recovers_when_space_came_back() {
        let root = tempfile::tempdir().unwrap();
        let guard = SpaceGuard::new(root.path(), u64::MAX);
        assert_eq!(guard.admit(1).unwrap_err().kind(), ErrorKind::StorageFull);
        guard.set_reserve(0);
        guard.admit(1).unwrap();
        guard.set_reserve(u64::MAX);
        assert!(guard.admit(1).is_err());
    }

    #[test]
    fn asks_again_after_some_megabytes() {
        let root = tempfile::tempdir().unwrap();
        let guard = SpaceGuard::new(root.path(), 0);
        guard.admit(1).unwrap();
        guard.reserve.store(u64::MAX, super::Ordering::Relaxed);
        guard.admit(super::ASK_EVERY - 1).unwrap();
        assert!(guard.admit(1).is_err());
    }
}
