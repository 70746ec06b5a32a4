//! What is stored, by what it is of: searched and dropped by operators.
//!
//! An object is a package's bytes in one feed, or one document. A feed is meant in every spelling that the gate knows of
//! it, names and GUIDs alike, with its views. What is dropped is asked for anew; documents that may tell of it (listings,
//! searches) are made old as after a write. A blob goes with the last object that names it, so a package that another
//! feed shares stays; only a blob that is named itself goes with all objects that name it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::SystemTime,
};

use super::{Handler, feed_of};
use crate::{
    access::VerdictError,
    blob::BlobError,
    cache::{Body, Entry, PackageEntry},
    disk::off_thread,
    ident::{FeedRef, NpmName, NugetId, Selector, StorageId},
    route::{Effect, ObjectKey, Protocol, Subject},
};

/// Packages of a feed that are made old one by one; beyond that, the whole feed is.
const MOST_SUBJECTS: usize = 1000;

/// Which objects are meant: those that all that is given holds for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this feed.
    pub feed: Option<FeedRef>,
    /// Of these packages. Documents of a package are of all its versions.
    pub package: Option<Selector>,
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// Those with this content.
    pub storage_id: Option<StorageId>,
}

/// Something stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key; with the letter of its audience, if it is a document.
    pub key: String,
    /// Whether it is a document.
    pub is_document: bool,
    /// Where its bytes are; a document may be in memory only.
    pub id: Option<StorageId>,
    /// When the service last named or sent it.
    pub since: SystemTime,
}

/// What a purge dropped, or would.
#[derive(Debug, Clone, Default)]
pub struct Purged {
    /// The objects.
    pub objects: Vec<Object>,
    /// The blobs that nothing else names.
    pub blobs: Vec<StorageId>,
    /// The bytes of those.
    pub bytes: u64,
    /// Blobs of the objects that stay, since others name them.
    pub shared: usize,
}

// === impl Filter ===

impl Filter {
    /// Whether it means everything.
    pub fn is_empty(&self) -> bool {
        self.feed.is_none() && self.package.is_none() && self.protocol.is_none() && self.storage_id.is_none()
    }

    /// Whether the content itself is meant, in whatever feed.
    fn is_content(&self) -> bool {
        self.feed.is_none() && self.package.is_none() && self.protocol.is_none() && self.storage_id.is_some()
    }

    pub(super) fn takes(&self, object: &Object, feeds: &HashSet<String>) -> bool {
        if self.storage_id.is_some() && self.storage_id != object.id {
            return false;
        }
        if self.is_content() || self.is_empty() {
            return true;
        }
        let Some(key) = ObjectKey::read(object.bare()) else { return false };
        let named = |selector: &Selector| {
            let fold = key.protocol == Some(Protocol::Nuget);
            key.package.is_some_and(|name| match key.version() {
                Some(version) => selector.matches(name, version, fold),
                None => selector.concerns(name, fold),
            })
        };
        (self.feed.is_none() || feeds.contains(key.whole_feed()))
            && self.package.as_ref().is_none_or(named)
            && (self.protocol.is_none() || self.protocol == key.protocol)
    }
}

// === impl Object ===

impl Object {
    pub(super) fn document(key: String, entry: &Entry) -> Self {
        let id = match entry.body {
            Body::Stored(id) => Some(id),
            Body::Memory(_) => None,
        };
        Self { key, is_document: true, id, since: entry.fetched_at }
    }

    pub(super) fn package(key: String, entry: &PackageEntry) -> Self {
        Self { key, is_document: false, id: Some(entry.id), since: entry.named_at }
    }

    /// Its key without the letter of an audience.
    pub fn bare(&self) -> &str {
        let bare = if self.is_document { self.key.split_once(':') } else { None };
        bare.map_or(&self.key, |(_, bare)| bare)
    }
}

// === impl Handler ===

impl Handler {
    /// Up to `most` objects, and whether there are more.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn objects(&self, filter: &Filter, most: usize) -> Result<(Vec<Object>, bool), BlobError> {
        let (handler, filter) = (self.clone(), filter.clone());
        let found = move || {
            let feeds = handler.keys_of(filter.feed.as_ref());
            let found = handler.inventory().filter(|object| filter.takes(object, &feeds)).take(most + 1);
            let mut found: Vec<_> = found.collect();
            let is_more = found.len() > most;
            found.truncate(most);
            (found, is_more)
        };
        Ok(off_thread("look through objects", found).await?)
    }

    /// All documents that are meant, and what is kept of them.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(super) async fn documents(&self, filter: &Filter) -> Result<Vec<(Object, Entry)>, BlobError> {
        let (handler, filter) = (self.clone(), filter.clone());
        let found = move || {
            let feeds = handler.keys_of(filter.feed.as_ref());
            let documents = handler.parts.documents.scan("");
            let documents = documents.map(|(key, entry)| (Object::document(key, &entry), entry));
            documents.filter(|(object, _)| filter.takes(object, &feeds)).collect()
        };
        Ok(off_thread("look through objects", found).await?)
    }

    /// The packages that have their content in `ids`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn packages_of(&self, ids: HashSet<StorageId>) -> Result<Vec<Object>, BlobError> {
        let handler = self.clone();
        let named =
            move |object: &Object| !object.is_document && object.id.is_some_and(|id| ids.contains(&id));
        Ok(off_thread("look through objects", move || handler.inventory().filter(named).collect()).await?)
    }

    /// Drops objects, or tells what would be dropped.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn purge(&self, filter: &Filter, dry_run: bool) -> Result<Purged, BlobError> {
        let (handler, wanted) = (self.clone(), filter.clone());
        let found = off_thread("look through objects", move || {
            let feeds = handler.keys_of(wanted.feed.as_ref());
            let (meant, others) = (
                handler.inventory().filter(|object| wanted.takes(object, &feeds)),
                handler.inventory().filter(|object| !wanted.takes(object, &feeds)),
            );
            let meant: Vec<_> = meant.collect();
            let ids: HashSet<_> = meant.iter().filter_map(|object| object.id).collect();
            let shared: HashSet<_> =
                others.filter_map(|object| object.id).filter(|id| ids.contains(id)).collect();
            let mut alone: BTreeSet<_> = ids.difference(&shared).copied().collect();
            // Also one that nothing names.
            alone.extend(wanted.storage_id.filter(|_| wanted.is_content()));
            (meant, alone, shared.len())
        });
        let (objects, ids, shared) = found.await?;
        let mut purged = Purged { objects, shared, ..Purged::default() };
        for id in ids {
            if let Some(stat) = self.parts.blobs.stat(&id).await? {
                purged.bytes += stat.length;
                purged.blobs.push(id);
            }
        }
        if !dry_run {
            self.drop_objects(filter, &purged).await?;
        }
        Ok(purged)
    }

    async fn drop_objects(&self, filter: &Filter, purged: &Purged) -> Result<(), BlobError> {
        // First, so that what is fetched meanwhile is not taken for what was asked for after this.
        for (feed, subject) in subjects(filter, &purged.objects) {
            let effect = Effect { feed: Some(feed.clone()), subject, bytes: false, identity: false };
            self.parts.generations.raise(&feed.org, &effect).await;
        }
        let (documents, packages): (Vec<_>, Vec<_>) =
            purged.objects.iter().cloned().partition(|object| object.is_document);
        for document in &documents {
            self.parts.documents.remove(&document.key).await;
        }
        let handler = self.clone();
        off_thread("drop objects", move || {
            packages.iter().try_for_each(|package| handler.parts.packages.remove(&package.key))
        })
        .await??;
        for id in &purged.blobs {
            self.parts.blobs.remove(id).await?;
        }
        Ok(())
    }

    /// Drops verdicts on whoever is meant, so that the service is asked again; how many. Blocking.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn drop_verdicts(&self, feed: Option<&FeedRef>, caller: Option<&str>) -> Result<usize, VerdictError> {
        let feeds = self.keys_of(feed);
        self.parts.access.forget_all(|who, key| {
            let whole = key.split('@').next().unwrap_or_default();
            caller.is_none_or(|caller| who.to_string() == caller) && (feed.is_none() || feeds.contains(whole))
        })
    }

    /// Every object on disk. Blocking.
    fn inventory(&self) -> impl Iterator<Item = Object> + use<> {
        let packages = self.parts.packages.scan("").map(|(key, entry)| Object::package(key, &entry));
        let documents = self.parts.documents.scan("").map(|(key, entry)| Object::document(key, &entry));
        packages.chain(documents)
    }

    /// The keys under which objects of `feed` may be kept: each spelling that is known of it, and its identity. Blocking.
    pub(super) fn keys_of(&self, feed: Option<&FeedRef>) -> HashSet<String> {
        let Some(feed) = feed else { return HashSet::new() };
        let whole = |key: &str| key.split('@').next().unwrap_or_default().to_owned();
        let identity = whole(&self.known_identity(feed).unwrap_or_else(|| feed.spelling().to_owned()));
        let mut keys = HashSet::from([whole(feed.spelling()), identity.clone()]);
        keys.extend(
            self.parts.identities.spellings_of(&identity).iter().map(|(spelling, _)| whole(spelling)),
        );
        keys
    }
}

/// What of which feed is made old by dropping `objects`.
fn subjects(filter: &Filter, objects: &[Object]) -> Vec<(FeedRef, Subject)> {
    let mut feeds: BTreeMap<&str, BTreeSet<(Option<&str>, bool)>> = BTreeMap::new();
    for key in objects.iter().filter_map(|object| ObjectKey::read(object.bare())) {
        let package = key.package.filter(|_| filter.package.is_some() || filter.storage_id.is_some());
        feeds.entry(key.whole_feed()).or_default().insert((package, key.protocol == Some(Protocol::Nuget)));
    }
    let subjects = feeds.into_iter().filter_map(|(feed, packages)| {
        let feed = feed_of(feed)?;
        let subject = |(package, is_nuget): &(Option<&str>, bool)| match (package, is_nuget) {
            (Some(id), true) => NugetId::parse(id).ok().map(Subject::Nuget),
            (Some(name), false) => NpmName::parse(name).ok().map(Subject::Npm),
            (None, _) => None,
        };
        let known: Option<Vec<_>> = packages.iter().map(subject).collect();
        let known = known.filter(|all| all.len() <= MOST_SUBJECTS).unwrap_or_else(|| vec![Subject::Feed]);
        Some(known.into_iter().map(move |subject| (feed.clone(), subject)))
    });
    subjects.flatten().collect()
}
