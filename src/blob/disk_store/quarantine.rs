//! What failed its check is put aside: not served, not part of the store any more, but there for whoever wants to know what
//! became of it.
//!
//! Here blobs in files of their own; values of the database that lost their seal are put beside them by
//! [`Database`](crate::disk::Database). The newest [`MOST`] files stay, up to a hundredth of the store's budget in all and beside
//! it. They may be removed at any time.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    DiskStore,
    vault::{Vault, failed},
};
use crate::{blob::BlobError, disk::DamagedValue, ident::StorageId};

/// Files that are kept.
const MOST: usize = 100;
/// Their part of the budget, all in all.
const SHARE: u64 = 100;

/// A file that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// As which blob it was stored.
    pub id: StorageId,
    /// When it was found damaged.
    pub since: SystemTime,
    /// Its length in bytes.
    pub bytes: u64,
    path: PathBuf,
}

// === impl Vault ===

impl Vault {
    /// Puts the file of a damaged blob aside, for a caller who holds the stripe. What cannot be moved is left to be removed.
    pub(super) fn put_aside(&self, id: &StorageId) {
        let directory = self.database.directory();
        // Names in the order of time.
        let target = directory.quarantine().join(format!("{:015}-{id}", self.now()));
        let moved = fs::rename(directory.blob(id), target).and_then(|()| self.trim_quarantine());
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, %id, "a damaged file could not be put aside");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// The files that were put aside, oldest first.
    fn quarantined(&self) -> io::Result<Vec<Quarantined>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.database.directory().quarantine())? {
            let entry = entry?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('-'));
            let read = parts.and_then(|(millis, id)| Some((millis.parse().ok()?, id.parse().ok()?)));
            let Some((millis, id)) = read else { continue };
            let since = UNIX_EPOCH + Duration::from_millis(millis);
            found.push(Quarantined { id, since, bytes: entry.metadata()?.len(), path: entry.path() });
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    fn trim_quarantine(&self) -> io::Result<()> {
        let mut left = self.budget.capacity() / SHARE;
        for (index, file) in self.quarantined()?.iter().rev().enumerate() {
            left = if index < MOST { left.saturating_sub(file.bytes) } else { 0 };
            if left == 0 {
                fs::remove_file(&file.path)?;
            }
        }
        Ok(())
    }
}

// === impl DiskStore ===

impl DiskStore {
    /// The files that were put aside since they failed their check, oldest first.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, BlobError> {
        self.blocking("read quarantine", |vault| vault.quarantined().map_err(failed("read quarantine"))).await
    }

    /// The values of the database that were kept aside since they lost their seal, oldest first.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub async fn quarantined_values(&self) -> Result<Vec<DamagedValue>, BlobError> {
        self.blocking("read quarantine", |vault| Ok(vault.database.damaged_values()?)).await
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use super::{
        super::tests::{LARGE, MIB, Place, names, read},
        MOST,
    };
    use crate::blob::{
        BlobError,
        conformance::{id_of, pattern},
    };

    fn flip(place: &Place, name: u8) {
        let file = fs::OpenOptions::new().write(true).open(place.file(name)).unwrap();
        file.write_all_at(&[pattern(LARGE)[7] ^ 1], 7).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_fails_its_check_is_put_aside_and_a_newer_one_of_the_same_name_is_served() {
        let place = Place::new(1024 * MIB);
        let store = place.open().await;
        place.store(&store, 1, &pattern(LARGE)).await;
        flip(&place, 1);
        assert!(matches!(read(&store, 1).await, Err(BlobError::Damaged { .. })));
        assert_eq!(names(&store).await, Vec::<u8>::new());
        let aside = store.quarantined().await.unwrap();
        assert_eq!((aside.len(), aside[0].id, aside[0].bytes), (1, id_of(1), LARGE as u64));
        let kept = fs::read(&aside[0].path).unwrap();
        assert!(kept[7] == pattern(LARGE)[7] ^ 1 && kept[8..] == pattern(LARGE)[8..]);
        place.store(&store, 1, &pattern(LARGE)).await;
        assert_eq!(read(&store, 1).await.unwrap(), pattern(LARGE));
        assert_eq!(store.quarantined().await.unwrap(), aside);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_newest_stay_within_a_hundredth_of_the_budget() {
        // 30 files of this length are a hundredth.
        let place = Place::new(30 * 100 * (LARGE as u64 + 1));
        let store = place.open().await;
        for name in 0..40 {
            place.store(&store, name, &pattern(LARGE)).await;
            flip(&place, name);
            assert!(read(&store, name).await.is_err());
        }
        let aside = store.quarantined().await.unwrap();
        let left: Vec<u8> = aside.iter().map(|file| file.id.as_bytes()[0]).collect();
        assert_eq!(left, (10..40).collect::<Vec<_>>());
        assert!(left.len() < MOST);
    }
}
