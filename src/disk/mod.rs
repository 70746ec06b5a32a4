//! The database on disk: sled, and the directory that it shares with the blob files.
//!
//! sled is named in this folder only. It is pinned to 0.34.7 and opened with the settings that stay within
//! their memory (measured; see `database.rs`). What the trees hold is decided by their users.
//!
//! Every call here blocks. Callers on async threads go through [`off_thread`], or write through [`Behind`]; [`watch`]
//! tells of those that do not.

mod behind;
mod damage;
mod database;
mod directory;
mod keys;
mod space;
mod tree;
pub mod watch;

use std::io;

use crate::lanes;

pub use behind::Behind;
pub use damage::DamagedValue;
pub use database::{Database, DatabaseSettings, OpenError, Opened};
pub use directory::{StoreDirectory, create_private, sync_directory};
pub use space::SpaceGuard;
pub use tree::{Entries, Entry, Tree, TreeName};

/// The disk, or sled on it, refused.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}")]
pub struct DiskError {
    /// What was being done, e.g. `read tree`.
    pub action: &'static str,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// Puts the name of the action to the system's error; for `map_err`.
    pub fn during(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self { action, source }
    }
}

/// Runs `call` on a thread that may block. A panic in it becomes an error.
pub async fn off_thread<T: Send + 'static>(
    action: &'static str,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DiskError> {
    let joined = lanes::spawn_blocking(|| watch::may_block(call)).await;
    joined.map_err(|error| DiskError { action, source: io::Error::other(error) })
}
