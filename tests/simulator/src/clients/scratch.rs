//! Folders for clients to work in.

use std::io;

use rustix::fs::{StatVfsMountFlags, statvfs};
use tempfile::TempDir;

/// A file system in memory, where there is one.
const MEMORY: &str = "/dev/shm";
/// What clients may need of it, in bytes: five of them with some hundred packages at once.
const ENOUGH: u64 = 4 << 30;

/// An empty folder, removed when the value is dropped. It is in memory if there is enough of that: ext4 passes over the
/// numbers of files that were deleted in the last seconds one by one, so that an install beside the removal of the one
/// before it takes a multiple of its time.
pub(super) fn scratch() -> io::Result<TempDir> {
    let suits = statvfs(MEMORY).is_ok_and(|memory| {
        memory.f_bavail * memory.f_frsize >= ENOUGH && !memory.f_flag.contains(StatVfsMountFlags::NOEXEC)
    });
    if suits { tempfile::tempdir_in(MEMORY) } else { tempfile::tempdir() }
}
