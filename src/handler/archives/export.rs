//! Making an archive.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Archives;
use crate::{
    access::Audience,
    archive::{self, DocumentItem, Manifest, Object, PackageItem, Reading, Writing},
    cache::{Entry, PackageEntry},
    handler::Filter,
    ident::{FeedRef, StorageId},
    lockfile::Need,
    route::{Document, DocumentRoute, ObjectKey, Target},
};

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the receiver.
const AHEAD: usize = 4;

/// What an archive is to hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What builds need.
    pub needs: Vec<Need>,
    /// All that is stored of feeds, their views included.
    pub feeds: Vec<FeedRef>,
    /// All that is stored of packages, each with what it is called.
    pub packages: Vec<(String, Filter)>,
}

/// An archive that can be sent.
pub struct Packed {
    /// What is in it.
    pub manifest: Manifest,
    /// What was wanted and is not stored.
    pub missing: Vec<String>,
    sources: Vec<Source>,
}

/// Where an object's bytes are.
enum Source {
    Blob(StorageId),
    Document(Arc<Entry>),
}

/// What was found so far.
#[derive(Default)]
struct Gathering {
    manifest: Manifest,
    sources: HashMap<String, Source>,
    /// Feeds by their keys without views.
    feeds: BTreeSet<String>,
    paths: BTreeSet<String>,
}

// === impl Archives ===

impl Archives {
    /// Finds what is wanted.
    pub async fn pack(&self, wanted: Wanted) -> Packed {
        let (mut gathering, mut missing) = (Gathering::default(), Vec::new());
        for need in &wanted.needs {
            if !self.gather(&need.path, &mut gathering).await {
                missing.push(need.label.clone());
            }
        }
        for feed in &wanted.feeds {
            let before = gathering.paths.len();
            self.gather_feed(&self.handler.identified_now(feed), &mut gathering).await;
            if gathering.paths.len() == before {
                missing.push(format!("feed {}", feed.spelling()));
            }
        }
        for (label, filter) in &wanted.packages {
            let before = gathering.paths.len();
            self.gather_objects(filter, &mut gathering).await;
            if gathering.paths.len() == before {
                missing.push(format!("package {label}"));
            }
        }
        for feed in gathering.feeds.clone() {
            let spellings = self.handler.parts.identities.spellings_of(&feed);
            gathering.manifest.identities.extend(spellings);
        }
        gathering.manifest.version = archive::VERSION;
        gathering.manifest.created = seconds(self.handler.now());
        let Gathering { manifest, mut sources, .. } = gathering;
        let sources = manifest.objects.iter().filter_map(|object| sources.remove(&object.name)).collect();
        Packed { manifest, missing, sources }
    }

    /// Sends an archive; an error says that it cannot be ended.
    pub fn send(&self, packed: Packed) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let archives = self.clone();
        tokio::spawn(async move {
            if let Err(error) = archives.sending(packed, &sender).await {
                tracing::warn!(%error, "an archive is not sent to its end");
                // A receiver that is gone wants no reason.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }

    async fn sending(&self, packed: Packed, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
        // No archive leaves that would be refused.
        let mut check = Reading::new(u64::MAX);
        let mut send = async |bytes: Bytes| {
            check.take(&bytes).map_err(io::Error::other)?;
            sender.send(Ok(bytes)).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        };
        let (mut writing, begin) = Writing::begin(&packed.manifest)?;
        send(begin.into()).await?;
        for (object, source) in packed.manifest.objects.iter().zip(&packed.sources) {
            send(writing.before(object).into()).await?;
            let mut offset = 0;
            while offset < object.length {
                let piece = self.piece(source, offset).await?;
                offset += piece.len() as u64;
                writing.pass(&piece);
                send(piece).await?;
            }
            send(writing.after(object).into()).await?;
        }
        send(writing.end().into()).await
    }

    async fn piece(&self, source: &Source, offset: u64) -> io::Result<Bytes> {
        let gone = || io::Error::other("an object is no longer stored");
        match source {
            // Documents are taken as a whole: their bodies are kept compressed.
            Source::Document(entry) => self.handler.parts.documents.body(entry).await.ok_or_else(gone),
            Source::Blob(id) => {
                let blob = self.handler.parts.blobs.open(id).await.map_err(io::Error::other)?;
                blob.ok_or_else(gone)?.bytes.read_at(offset, PIECE).await.map_err(io::Error::other)
            }
        }
    }

    /// Takes what a path addresses; whether it is stored.
    async fn gather(&self, path: &str, gathering: &mut Gathering) -> bool {
        match self.target(path) {
            Some(Target::Package(route)) => {
                let Some(entry) = self.handler.parts.packages.get(&route.key()).await else { return false };
                self.gather_index(&route.feed, gathering).await;
                self.take_package(&route.key(), &entry, gathering).await
            }
            Some(Target::Document(route)) => self.gather_document(&route, gathering).await,
            Some(Target::Derived(_) | Target::Audit(_) | Target::Passthrough(_)) | None => false,
        }
    }

    /// The service index tells what a feed is: it goes along.
    async fn gather_index(&self, feed: &FeedRef, gathering: &mut Gathering) {
        let route = DocumentRoute { feed: feed.clone(), document: Document::ServiceIndex };
        self.gather_document(&route, gathering).await;
    }

    async fn gather_document(&self, route: &DocumentRoute, gathering: &mut Gathering) -> bool {
        let mut found = false;
        for audience in [Audience::Anonymous, Audience::Authenticated] {
            if let Some(entry) = self.handler.entry(route, audience).await {
                found |= self.take_document(&route.key(), audience, entry, gathering).await;
            }
        }
        found
    }

    async fn gather_feed(&self, feed: &FeedRef, gathering: &mut Gathering) {
        let whole = feed.whole_key();
        for separator in ['/', '@'] {
            let prefix = format!("{whole}{separator}");
            for (key, entry) in self.handler.parts.packages.scan(&prefix) {
                self.take_package(&key, &entry, gathering).await;
            }
            for audience in [Audience::Anonymous, Audience::Authenticated] {
                let letter = format!("{}:", audience.letter());
                for (key, entry) in self.handler.parts.documents.scan(&format!("{letter}{prefix}")) {
                    let key = key.trim_start_matches(&letter);
                    self.take_document(key, audience, Arc::new(entry), gathering).await;
                }
            }
        }
    }

    async fn gather_objects(&self, filter: &Filter, gathering: &mut Gathering) {
        let found = self.handler.objects(filter, usize::MAX - 1).await;
        let (objects, _) = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the store could not be looked through for an archive");
            Default::default()
        });
        for object in &objects {
            if let Some(path) = ObjectKey::read(object.bare()).and_then(|key| key.path()) {
                self.gather(&path, gathering).await;
            }
        }
    }

    async fn take_package(&self, key: &str, entry: &PackageEntry, gathering: &mut Gathering) -> bool {
        let Some(path) = ObjectKey::read(key).and_then(|key| key.path()) else { return false };
        let Some(Target::Package(route)) = self.target(&path) else { return false };
        let Ok(Some(stat)) = self.handler.parts.blobs.stat(&entry.id).await else { return false };
        if entry.removals != self.handler.removals(&route) {
            return false;
        }
        let object = gathering.object(entry.id.to_string(), stat.length, || Source::Blob(entry.id));
        if gathering.paths.insert(path.clone()) {
            gathering.feeds.insert(route.feed.whole_key().to_owned());
            gathering.manifest.packages.push(PackageItem { path, object, named_at: seconds(entry.named_at) });
        }
        true
    }

    async fn take_document(
        &self,
        key: &str,
        audience: Audience,
        entry: Arc<Entry>,
        gathering: &mut Gathering,
    ) -> bool {
        let Some(path) = ObjectKey::read(key).and_then(|key| key.path()) else { return false };
        let Some(Target::Document(route)) = self.target(&path) else { return false };
        let current = self.handler.generation(&route);
        if entry.generation != current || self.handler.parts.documents.body(&entry).await.is_none() {
            return false;
        }
        let object = gathering
            .object(archive::hex(&entry.digest), entry.length, || Source::Document(Arc::clone(&entry)));
        let anonymous = audience == Audience::Anonymous;
        if gathering.paths.insert(format!("{}:{path}", audience.letter())) {
            gathering.feeds.insert(route.feed.whole_key().to_owned());
            gathering.manifest.documents.push(DocumentItem {
                path,
                anonymous,
                object,
                fetched_at: seconds(entry.fetched_at),
                content_type: entry.origin.content_type.clone(),
                spelling: entry.origin.spelling.clone(),
            });
        }
        true
    }
}

// === impl Gathering ===

impl Gathering {
    /// Notes an object, once.
    fn object(&mut self, name: String, length: u64, source: impl FnOnce() -> Source) -> String {
        if !self.sources.contains_key(&name) {
            self.sources.insert(name.clone(), source());
            self.manifest.objects.push(Object { name: name.clone(), length });
        }
        name
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
