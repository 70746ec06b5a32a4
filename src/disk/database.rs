//! Opening the database, and making it durable.
//!
//! Measured for 750 MB of packages in sled 0.34.7: its page cache counts the bytes a page has *in the log*,
//! and a leaf of 32 entries over a quarter of `segment_size` counts as almost nothing. Memory then grows with
//! the store (700 MB to 1.2 GB). Values up to 16 KiB in segments of 2 MiB stay at 170 to 230 MB.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    DamagedValue, DiskError, SpaceGuard, StoreDirectory, Tree, TreeName,
    damage::Damage,
    tree::{caught, guarded},
};

/// Fixed when a database is created; see above.
const SEGMENT_SIZE: usize = 2 * 1024 * 1024;
/// How often sled writes by itself what nobody flushed.
const FLUSH_EVERY_MS: u64 = 500;
/// How long opening waits for a database of this process that was dropped a moment ago: sled's own thread closes it
/// when its last flush is over.
const CLOSING: Duration = Duration::from_millis(10);
const CLOSING_LOOKS: usize = 500;
/// How sled says that its files are locked; it has no kind of error for that.
const LOCKED: &str = "could not acquire lock";

/// The form of what is in the trees, in the database's own tree: values have a seal.
const FORM: (&str, &str) = ("form", "sealed");

/// What the database may use.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseSettings {
    /// Page cache in bytes.
    pub page_cache: u64,
    /// Free bytes on the file system below which nothing more is written.
    pub free_reserve: u64,
}

/// The open database; cheap to clone. The directory stays locked until the last clone is dropped.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

/// A database, and what had to be done to open it.
pub struct Opened {
    /// The database.
    pub database: Database,
    /// Where a database that could not be read was moved; the open one began empty.
    pub moved_aside: Option<PathBuf>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {} is in use by another process", path.display())]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The system refused: no permission, no space, too many open files. The store itself may be fine.
    #[error("cannot open the store {}: {source}", path.display())]
    Io {
        /// The store's directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Fields are dropped in this order: the lock goes last.
struct Inner {
    trees: Vec<Tree>,
    sled: sled::Db,
    space: Arc<SpaceGuard>,
    damage: Arc<Damage>,
    flushes: GroupedFlush,
    directory: StoreDirectory,
}

/// Lets everybody who waits for a flush share the next one.
#[derive(Default)]
struct GroupedFlush {
    asked: AtomicU64,
    flushed: Mutex<u64>,
}

enum Refusal {
    System(io::Error),
    /// It is open.
    Locked,
    Unreadable,
}

// === impl Database ===

impl Database {
    /// Opens the database in `directory`. One that sled cannot read (an error or a panic) is moved aside.
    /// A refusal by the system is an error: the store may be fine, and throwing it away would not help.
    pub fn open(directory: StoreDirectory, settings: &DatabaseSettings) -> Result<Opened, OpenError> {
        let fail = |source| OpenError::Io { path: directory.root().to_owned(), source };
        let mut moved_aside = None;
        let sled = match open_closed(&directory, settings) {
            Ok(sled) => sled,
            Err(Refusal::System(error)) => return Err(fail(error)),
            Err(Refusal::Locked) => return Err(OpenError::InUse { path: directory.root().to_owned() }),
            Err(Refusal::Unreadable) => {
                moved_aside = Some(directory.move_database_aside().map_err(fail)?);
                open_sled(&directory, settings).map_err(|refusal| fail(refusal.into_io()))?
            }
        };
        directory.close_database_to_others().map_err(fail)?;
        let space = Arc::new(SpaceGuard::new(directory.root(), settings.free_reserve));
        let damage = Arc::new(Damage::open(directory.quarantine()).map_err(fail)?);
        let trees = open_trees(&sled, &space, &damage).map_err(|refusal| fail(refusal.into_io()))?;
        bring_to_form(&sled, &trees).map_err(|error| fail(error.source))?;
        let inner = Inner { trees, sled, space, damage, flushes: GroupedFlush::default(), directory };
        Ok(Opened { database: Self { inner: Arc::new(inner) }, moved_aside })
    }

    /// One of its trees.
    pub fn tree(&self, name: TreeName) -> Tree {
        self.inner.trees[name as usize].clone()
    }

    /// Learns which keys there are, so that who asks for one that is not there need not wait ([`Tree::lacks`]). To be
    /// called once, behind whatever else is done. Blocking.
    ///
    /// # Errors
    /// When the disk cannot be read; then the keys of that tree and of those behind it are looked for as before.
    pub fn survey(&self) -> Result<(), DiskError> {
        TreeName::ALL.into_iter().try_for_each(|name| self.tree(name).survey())
    }

    /// Values that were found damaged, and removed, since it was opened.
    pub fn damaged(&self) -> u64 {
        self.inner.damage.count()
    }

    /// Those that are kept aside, oldest first; at most a thousand. Blocking.
    pub fn damaged_values(&self) -> Result<Vec<DamagedValue>, DiskError> {
        self.inner.damage.values().map_err(DiskError::during("read quarantine"))
    }

    /// Reads every value but those of chunks, which are read with their blobs, so that damaged ones are found and removed;
    /// the keys of packages and documents that lost their value. Blocking.
    pub fn sweep(&self) -> Result<Vec<Bytes>, DiskError> {
        let mut lost = Vec::new();
        for name in TreeName::ALL.into_iter().filter(|name| *name != TreeName::Chunk) {
            let removed = self.tree(name).sweep()?;
            lost.extend(
                removed.into_iter().filter(|_| matches!(name, TreeName::Package | TreeName::Metadata)),
            );
        }
        Ok(lost)
    }

    /// Its directory.
    pub fn directory(&self) -> &StoreDirectory {
        &self.inner.directory
    }

    /// What keeps it, and the files beside it, from filling the disk.
    pub fn space(&self) -> &SpaceGuard {
        &self.inner.space
    }

    /// Makes everything written so far, in any tree, survive a kill of the process (not a power cut: sled
    /// syncs its file range, and the file every half second). Concurrent callers share one flush.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.inner.flushes.run(|| guarded("flush", || self.inner.sled.flush()).map(drop))
    }

    /// Bytes that the database takes on disk, without the blob files beside it. One fstat, which waits for no disk.
    pub fn size_on_disk(&self) -> Result<u64, DiskError> {
        caught("measure", || self.inner.sled.size_on_disk())
    }
}

// === impl GroupedFlush ===

impl GroupedFlush {
    fn run(&self, flush: impl FnOnce() -> Result<(), DiskError>) -> Result<(), DiskError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut flushed = self.flushed.lock();
        if *flushed >= ticket {
            return Ok(());
        }
        // Whoever asked up to here wrote before asking, so this flush covers them.
        let covered = self.asked.load(Ordering::SeqCst);
        flush()?;
        *flushed = covered;
        Ok(())
    }
}

// === impl Refusal ===

impl Refusal {
    fn of(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if error.to_string().starts_with(LOCKED) => Self::Locked,
            sled::Error::Io(error) if is_system(&error) => Self::System(error),
            _ => Self::Unreadable,
        }
    }

    fn into_io(self) -> io::Error {
        match self {
            Self::System(error) => error,
            Self::Locked => io::ErrorKind::WouldBlock.into(),
            Self::Unreadable => io::Error::other("a new database could not be opened"),
        }
    }
}

/// Whether the system refused, as against a file that is not what it should be. A missing file is the latter.
fn is_system(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kind = error.kind();
    let by_number = error.raw_os_error().is_some() && kind != io::ErrorKind::NotFound;
    by_number || matches!(kind, PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// The same, once whoever had it open has let go: a database that is being closed is not one that can't be read.
#[expect(
    clippy::disallowed_methods,
    reason = "sled tells nobody when it has closed its files; this blocks by design"
)]
fn open_closed(directory: &StoreDirectory, settings: &DatabaseSettings) -> Result<sled::Db, Refusal> {
    for _ in 0..CLOSING_LOOKS {
        match open_sled(directory, settings) {
            Err(Refusal::Locked) => std::thread::sleep(CLOSING),
            opened => return opened,
        }
    }
    Err(Refusal::Locked)
}

/// Opens sled and every tree, so that damage to any of them shows now.
fn open_sled(directory: &StoreDirectory, settings: &DatabaseSettings) -> Result<sled::Db, Refusal> {
    let config = sled::Config::new()
        .path(directory.database())
        .mode(sled::Mode::LowSpace)
        .segment_size(SEGMENT_SIZE)
        .cache_capacity(settings.page_cache)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .use_compression(false);
    let open = || {
        let sled = config.open()?;
        for name in TreeName::ALL {
            sled.open_tree(name.as_str())?.first()?;
        }
        Ok(sled)
    };
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(result) => result.map_err(Refusal::of),
        Err(_) => Err(Refusal::Unreadable),
    }
}

/// Seals what was written before there were seals.
fn bring_to_form(sled: &sled::Db, trees: &[Tree]) -> Result<(), DiskError> {
    let (key, form) = FORM;
    if guarded("read form", || sled.get(key))?.is_some() {
        return Ok(());
    }
    trees.iter().try_for_each(Tree::seal_all)?;
    guarded("write form", || sled.insert(key, form).and_then(|_| sled.flush())).map(drop)
}

fn open_trees(sled: &sled::Db, space: &Arc<SpaceGuard>, damage: &Arc<Damage>) -> Result<Vec<Tree>, Refusal> {
    let open = |name: TreeName| {
        let tree = sled.open_tree(name.as_str()).map_err(Refusal::of)?;
        Ok(Tree::new(name, tree, Arc::clone(space), Arc::clone(damage)))
    };
    TreeName::ALL.into_iter().map(open).collect()
}

#[cfg(test)]
mod tests;
