//! Values of the database that lost their seal: counted, and kept aside for whoever wants to know what became of them.
//!
//! Each is a file in `quarantine/`, as it was stored, seal included; the name tells its tree and the hash of its key. The
//! newest [`MOST`] stay, of [`MOST_BYTES`] in all; of a key only the newest. They may be removed at any time.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{SpaceGuard, create_private};

/// Values that are kept.
const MOST: usize = 1000;
/// Their bytes, all in all.
const MOST_BYTES: u64 = 16 << 20;
/// How the names of their files end.
const ENDING: &str = ".value";

/// A value that was kept aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedValue {
    /// The tree that it was in.
    pub tree: String,
    /// The first half of the SHA-256 of its key, in hex.
    pub key_hash: String,
    /// When it was found damaged.
    pub since: SystemTime,
    /// Its length in bytes, with its seal.
    pub bytes: u64,
}

/// What was found damaged.
pub(super) struct Damage {
    folder: PathBuf,
    count: AtomicU64,
    /// Files and their lengths, oldest first.
    kept: Mutex<VecDeque<(PathBuf, u64)>>,
}

// === impl Damage ===

impl Damage {
    /// Keeps values in `folder`, beside those that are there.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        let mut kept = read(&folder)?;
        kept.sort_by_key(|(_, value)| value.since);
        let kept = kept.into_iter().map(|(path, value)| (path, value.bytes)).collect();
        Ok(Self { folder, count: AtomicU64::new(0), kept: Mutex::new(kept) })
    }

    /// How many there were since the database was opened.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The values that are kept, oldest first.
    pub(super) fn values(&self) -> io::Result<Vec<DamagedValue>> {
        let mut values: Vec<_> = read(&self.folder)?.into_iter().map(|(_, value)| value).collect();
        values.sort_by(|one, other| (one.since, &one.key_hash).cmp(&(other.since, &other.key_hash)));
        Ok(values)
    }

    /// Counts a value and keeps it. That there is no room for it is no failure of whoever read it.
    pub(super) fn note(&self, tree: &str, key: &[u8], stored: &[u8], space: &SpaceGuard) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let hash = &Sha256::digest(key)[..16];
        let name = format!(
            "{tree}-{:032x}{ENDING}",
            hash.iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte))
        );
        tracing::error!(tree, file = name, "a damaged value in the database was removed");
        if let Err(error) = self.keep(&self.folder.join(name), stored, space) {
            tracing::warn!(%error, tree, "a damaged value could not be kept aside");
        }
    }

    fn keep(&self, path: &Path, stored: &[u8], space: &SpaceGuard) -> io::Result<()> {
        let length = stored.len() as u64;
        if length > MOST_BYTES {
            return Err(io::Error::other(format!("it has {length} bytes; at most {MOST_BYTES} are kept")));
        }
        space.admit(length)?;
        let mut kept = self.kept.lock();
        if let Some(index) = kept.iter().position(|(other, _)| other == path) {
            kept.remove(index);
            removed(path)?;
        }
        let mut bytes = length + kept.iter().map(|(_, length)| length).sum::<u64>();
        while kept.len() >= MOST || bytes > MOST_BYTES {
            let Some((oldest, length)) = kept.pop_front() else { break };
            removed(&oldest)?;
            bytes -= length;
        }
        create_private(path)?.write_all(stored)?;
        kept.push_back((path.to_owned(), length));
        Ok(())
    }
}

/// Removes a file, which somebody else may have removed.
fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read(folder: &Path) -> io::Result<Vec<(PathBuf, DamagedValue)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(ENDING));
        let Some((tree, key_hash)) = stem.and_then(|stem| stem.rsplit_once('-')) else { continue };
        // It may be gone by now.
        let Ok(facts) = entry.metadata() else { continue };
        let (tree, key_hash) = (tree.to_owned(), key_hash.to_owned());
        let since = facts.modified().unwrap_or(UNIX_EPOCH);
        found.push((entry.path(), DamagedValue { tree, key_hash, since, bytes: facts.len() }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::{Damage, MOST, MOST_BYTES};
    use crate::disk::SpaceGuard;

    #[test]
    fn the_newest_stay_in_number_and_in_bytes_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (path, space) = (folder.path().to_owned(), SpaceGuard::new(folder.path(), 0));
        let damage = Damage::open(path.clone()).unwrap();
        fs::write(path.join("000000000000001-a-blob"), b"of somebody else").unwrap();
        for number in 0..MOST + 5 {
            damage.note("name", &number.to_be_bytes(), &number.to_be_bytes(), &space);
        }
        // The newest of a key replaces the one before.
        damage.note("name", &7_usize.to_be_bytes(), b"again", &space);
        let values = damage.values().unwrap();
        assert_eq!((values.len(), damage.count()), (MOST, MOST as u64 + 6));
        let again: Vec<_> = values.iter().filter(|value| value.bytes == 5).collect();
        assert_eq!((again.len(), again[0].tree.as_str()), (1, "name"));
        let file = path.join(format!("name-{}.value", again[0].key_hash));
        assert_eq!(fs::read(&file).unwrap(), b"again");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let damage = Damage::open(path.clone()).unwrap();
        assert_eq!((damage.values().unwrap().len(), damage.count()), (MOST, 0));
        let half = usize::try_from(MOST_BYTES / 2).unwrap();
        for tree in ["chunk", "metadata", "response"] {
            damage.note(tree, b"key", &vec![0; half], &space);
        }
        damage.note("blob", b"key", &vec![0; 2 * half + 1], &space);
        let mut trees: Vec<_> = damage.values().unwrap().into_iter().map(|value| value.tree).collect();
        trees.sort();
        assert_eq!(trees, ["metadata", "response"]);
        assert!(path.join("000000000000001-a-blob").exists());
    }
}
