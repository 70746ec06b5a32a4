//! The store's directory: who may use it, and what lies where.
//!
//! ```text
//! {store}/lock                     held while a process uses the store
//!         sled/                    the database
//!         sled.unreadable-{n}/     a database that could not be opened; only the newest is kept
//!         blobs/{xx}/{66 hex}      one file per large blob; xx = the first two digits of its id
//!         partial/                 files being written; emptied when the store is opened
//!         quarantine/              files that failed their check, and values of the database that did
//! ```
//!
//! Directories are 0700 and files 0600: packages of private feeds are nobody else's business.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::OpenError;
use crate::ident::StorageId;

/// The store's directory, locked for this process until dropped.
#[derive(Debug)]
pub struct StoreDirectory {
    root: PathBuf,
    _lock: File,
}

/// Creates a file that only its owner may read; fails when it exists.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

// === impl StoreDirectory ===

impl StoreDirectory {
    /// Creates what is missing, takes the lock and empties `partial/`.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let fail = |source| OpenError::Io { path: root.to_owned(), source };
        make_private(root).map_err(fail)?;
        let lock = lock(root)?;
        let directory = Self { root: root.to_owned(), _lock: lock };
        directory.lay_out().map_err(fail)?;
        Ok(directory)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the database is.
    pub fn database(&self) -> PathBuf {
        self.root.join("sled")
    }

    /// Where the directories of blob files are.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where files are while they are written.
    pub fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Where files are that failed their check.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The file of blob `id`.
    pub fn blob(&self, id: &StorageId) -> PathBuf {
        let name = id.to_string();
        let mut path = self.blobs();
        path.push(&name[..2]);
        path.push(name);
        path
    }

    /// Gives a written file its final name, durably: when this returns, a crash does not undo it.
    pub fn adopt(&self, partial: &Path, id: &StorageId) -> io::Result<()> {
        let target = self.blob(id);
        let folder = target.parent().unwrap_or(&self.root);
        if !folder.exists() {
            make_private(folder)?;
            sync_directory(&self.blobs())?;
        }
        fs::rename(partial, &target)?;
        sync_directory(folder)
    }

    /// Moves the database out of the way and drops older ones that were; where it went.
    pub(super) fn move_database_aside(&self) -> io::Result<PathBuf> {
        let older = self.unreadable()?;
        let number = older.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
        let target = self.root.join(format!("sled.unreadable-{number}"));
        fs::rename(self.database(), &target)?;
        for (_, path) in older {
            fs::remove_dir_all(path)?;
        }
        make_private(&self.database())?;
        Ok(target)
    }

    /// Closes the files that sled created to everybody else.
    pub(super) fn close_database_to_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.database())? {
            let entry = entry?;
            let mode = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn lay_out(&self) -> io::Result<()> {
        if self.partial().exists() {
            fs::remove_dir_all(self.partial())?;
        }
        [self.partial(), self.blobs(), self.database(), self.quarantine()]
            .iter()
            .try_for_each(|path| make_private(path))
    }

    fn unreadable(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix("sled.unreadable-").and_then(|number| number.parse().ok());
            found.extend(number.map(|number| (number, path)));
        }
        Ok(found)
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let fail = |source| OpenError::Io { path: root.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(root.join("lock")).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}
