//! Taking an archive over.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{Archives, feed_of};
use crate::{
    access::Audience,
    archive::{ArchiveError, Object, Reading, Verified},
    blob::{BlobError, BlobKind, Digests},
    cache::{Body, Origin, PackageEntry, Source},
    handler::document::key,
    ident::{FeedRef, StorageId},
    route::{DocumentRoute, PackageRoute, Target},
};

/// Name of the file in which an archive waits.
const SPOOL: &str = "import.tar";
/// Bytes that are moved at a time.
const PIECE: usize = 256 << 10;

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Packages.
    pub packages: usize,
    /// Documents.
    pub documents: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// Their feeds and views, as their keys name them.
    pub feeds: BTreeSet<String>,
}

/// Why an archive is refused as a whole, or could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Another one comes in.
    #[error("another archive is coming in")]
    Busy,
    /// It is none, or was changed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It names something that is neither a package nor a document of a feed.
    #[error("the archive names {0:?}, which is {1}")]
    Item(String, &'static str),
    /// It did not come to its end.
    #[error("the archive broke off: {0}")]
    Broken(io::Error),
    /// The disk refused.
    #[error("the archive could not be kept: {0}")]
    Disk(io::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] BlobError),
}

/// The file in which an archive waits; gone when this is dropped.
struct Spool {
    path: PathBuf,
    file: File,
}

/// What an archive says, in the gate's own terms.
struct Contents {
    identities: Vec<(FeedRef, String)>,
    packages: Vec<(PackageRoute, StorageId, SystemTime)>,
    documents: Vec<(DocumentRoute, Audience, String, SystemTime, Origin)>,
}

// === impl Archives ===

impl Archives {
    /// Verifies an archive that comes in pieces, and then takes all of it over.
    ///
    /// # Errors
    /// [`ImportError`]; then nothing of it is visible, unless the store itself failed.
    pub async fn import(&self, pieces: mpsc::Receiver<io::Result<Bytes>>) -> Result<Imported, ImportError> {
        let _alone = self.importing.try_lock().map_err(|_| ImportError::Busy)?;
        let mut spool = Spool::create(&self.folder).await.map_err(ImportError::Disk)?;
        let capacity = self.handler.parts.blobs.usage().capacity;
        let verified = spool.fill(pieces, capacity).await?;
        let contents = self.contents(&verified)?;
        self.take_over(contents, &verified, &mut spool).await
    }

    /// Reads what the manifest names; nothing is believed of its words.
    fn contents(&self, verified: &Verified) -> Result<Contents, ImportError> {
        let manifest = &verified.manifest;
        let time = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        let now = self.handler.now();
        let mut contents = Contents { identities: Vec::new(), packages: Vec::new(), documents: Vec::new() };
        for (spelling, identity) in &manifest.identities {
            let wrong = |text: &String| ImportError::Item(text.clone(), "no name of a feed");
            feed_of(identity).ok_or_else(|| wrong(identity))?;
            let feed = feed_of(spelling).ok_or_else(|| wrong(spelling))?;
            contents.identities.push((feed, identity.clone()));
        }
        for item in &manifest.packages {
            let wrong = |what| ImportError::Item(item.path.clone(), what);
            let Some(Target::Package(route)) = self.target(&item.path) else {
                return Err(wrong("no package"));
            };
            let id = item.object.parse().map_err(|_| wrong("without a storage id"))?;
            contents.packages.push((route, id, time(item.named_at).min(now)));
        }
        for item in &manifest.documents {
            let wrong = |what| ImportError::Item(item.path.clone(), what);
            let Some(Target::Document(route)) = self.target(&item.path) else {
                return Err(wrong("no document"));
            };
            if item.content_type.len() > 255 || item.spelling.len() > 1024 {
                return Err(wrong("described at too great length"));
            }
            let audience = if item.anonymous { Audience::Anonymous } else { Audience::Authenticated };
            let origin = Origin { content_type: item.content_type.clone(), spelling: item.spelling.clone() };
            let fetched_at = time(item.fetched_at).min(now);
            contents.documents.push((route, audience, item.object.clone(), fetched_at, origin));
        }
        Ok(contents)
    }

    /// Bytes first, then what names them.
    async fn take_over(
        &self,
        contents: Contents,
        verified: &Verified,
        spool: &mut Spool,
    ) -> Result<Imported, ImportError> {
        let parts = &self.handler.parts;
        let objects = verified.manifest.objects.iter().zip(verified.places.iter().copied());
        let places: HashMap<&str, (&Object, u64)> =
            objects.map(|(object, place)| (object.name.as_str(), (object, place))).collect();
        for (_, id, _) in &contents.packages {
            if let Some((object, place)) = places.get(id.to_string().as_str())
                && parts.blobs.stat(id).await?.is_none()
            {
                self.store(spool, *id, object.length, *place).await?;
            }
        }
        let mut imported = Imported {
            packages: contents.packages.len(),
            documents: contents.documents.len(),
            bytes: verified.manifest.objects.iter().map(|object| object.length).sum(),
            feeds: BTreeSet::new(),
        };
        for (route, audience, object, fetched_at, origin) in contents.documents {
            let Some((object, place)) = places.get(object.as_str()) else { continue };
            let body = spool.read(*place, object.length).await.map_err(ImportError::Disk)?;
            let (key, generation) = (key(&route, audience), self.handler.generation(&route));
            let newer = parts
                .documents
                .entry(&key)
                .await
                .is_some_and(|own| own.generation == generation && own.fetched_at >= fetched_at);
            if !newer {
                let entry = parts.documents.put(&key, body, fetched_at, generation, origin).await;
                if matches!(entry.body, Body::Memory(_)) {
                    return Err(ImportError::Disk(io::Error::other(format!("{key} was not stored"))));
                }
            }
            imported.feeds.insert(route.feed.key().to_owned());
        }
        for (route, id, named_at) in contents.packages {
            let removals = self.handler.removals(&route);
            parts
                .packages
                .put(&route.key(), &PackageEntry { id, named_at, removals, source: Source::Bytes })
                .await;
            imported.feeds.insert(route.feed.key().to_owned());
        }
        for (feed, identity) in contents.identities {
            parts.identities.learn(&feed, identity, self.handler.now());
        }
        parts.blobs.flush().await?;
        Ok(imported)
    }

    async fn store(
        &self,
        spool: &mut Spool,
        id: StorageId,
        length: u64,
        place: u64,
    ) -> Result<(), ImportError> {
        let mut writer = self.handler.parts.blobs.begin(BlobKind::Package, Some(length)).await?;
        let mut done = 0;
        while done < length {
            let piece = spool
                .read(place + done, (length - done).min(PIECE as u64))
                .await
                .map_err(ImportError::Disk)?;
            done += piece.len() as u64;
            writer.write(piece).await?;
        }
        Ok(writer.commit(id, Digests::default()).await?)
    }
}

// === impl Spool ===

impl Spool {
    async fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SPOOL);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .await?;
        Ok(Self { path, file })
    }

    /// Writes the archive down and verifies it.
    async fn fill(
        &mut self,
        mut pieces: mpsc::Receiver<io::Result<Bytes>>,
        capacity: u64,
    ) -> Result<Verified, ImportError> {
        let mut reading = Reading::new(capacity);
        while let Some(piece) = pieces.recv().await {
            let piece = piece.map_err(ImportError::Broken)?;
            reading.take(&piece)?;
            self.file.write_all(&piece).await.map_err(ImportError::Disk)?;
        }
        self.file.flush().await.map_err(ImportError::Disk)?;
        Ok(reading.finish()?)
    }

    async fn read(&mut self, place: u64, length: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.seek(SeekFrom::Start(place)).await?;
        self.file.read_exact(&mut bytes).await?;
        Ok(bytes.into())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the file of an archive is not removed");
        }
    }
}
