//! Pins: packages and documents that stay in the store whatever else comes and goes.
//!
//! What is pinned is a key ([`crate::cache::Pins`]); here it is found out which blobs that means, and the store is told.
//! What is promised: the bytes of a pinned package version stay until they are unpinned. So does the copy of a pinned
//! document, and what is fetched in its place, at the latest [`EVERY`] after it came; that it is *fresh* is not promised.
//! A purge drops what is pinned as anything else, and damage may; the pin then holds for what is fetched anew.
//!
//! Only what is stored can be pinned. What is pinned takes at most a share of the store's budget, so that the rest has room
//! to come and go.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Mutex;

use super::{Filter, Handler, Object, archives::target};
use crate::{
    access::Audience,
    blob::{BlobError, BlobStore as _, DiskStore, Weight},
    cache::PinKey,
    disk::off_thread,
    ident::StorageId,
    lockfile::Need,
    route::{Collections, Target},
};

/// How often the copies of pinned documents are looked up.
pub const EVERY: Duration = Duration::from_secs(30);

/// Pins and unpins. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Pinning {
    handler: Handler,
    store: DiskStore,
    collections: Arc<Collections>,
    /// One change at a time.
    turn: Arc<Mutex<()>>,
}

/// What is to be pinned, or no more.
#[derive(Debug, Clone)]
pub enum Pinned {
    /// All objects that are meant.
    Objects(Box<Filter>),
    /// What builds need.
    Needs(Vec<Need>),
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct PinReport {
    /// Objects that were pinned, or are no more.
    pub objects: usize,
    /// What was to be pinned and is not stored.
    pub missing: Vec<String>,
    /// What is pinned now, all in all.
    pub weight: Weight,
}

/// Why nothing was pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It is too much.
    #[error(
        "with it, {needed} bytes on disk would be pinned, more than {limit}, three quarters of `store.capacity`"
    )]
    TooMuch {
        /// What all pins together would take.
        needed: u64,
        /// What they may take.
        limit: u64,
    },
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] BlobError),
}

// === impl Pinning ===

impl Pinning {
    /// Pins in what `handler` and `store` have. Those that were there before are in force when this returns.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn open(
        handler: Handler,
        store: DiskStore,
        collections: Arc<Collections>,
    ) -> Result<Self, BlobError> {
        let pinning = Self { handler, store, collections, turn: Arc::default() };
        pinning.enforce().await?;
        Ok(pinning)
    }

    /// Pins what is stored of `wanted`.
    ///
    /// # Errors
    /// When that would be too much; then nothing is.
    pub async fn pin(&self, wanted: Pinned) -> Result<PinReport, PinError> {
        let _turn = self.turn.lock().await;
        let (keys, missing) = self.stored(wanted).await?;
        let mut all: BTreeSet<PinKey> = self.all().await?.into_iter().map(|(key, _)| key).collect();
        let before = self.store.pinned().charge;
        all.extend(keys.iter().cloned());
        let ids = Arc::new(self.blobs(all).await?);
        let (needed, limit) = (self.store.weigh(Arc::clone(&ids)).await?.charge, self.store.pin_limit());
        if needed > limit && needed > before {
            return Err(PinError::TooMuch { needed, limit });
        }
        // First, so that nothing leaves between the two.
        self.store.pin(ids).await?;
        let (pins, now, added) = (self.handler.parts.pins.clone(), self.handler.now(), keys.clone());
        let written = off_thread("write pins", move || pins.add(&added, now)).await;
        written.and_then(|written| written).map_err(BlobError::from)?;
        self.store.flush().await?;
        Ok(PinReport { objects: keys.len(), missing, weight: self.store.pinned() })
    }

    /// Pins `wanted` no more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn unpin(&self, wanted: Pinned) -> Result<PinReport, BlobError> {
        let _turn = self.turn.lock().await;
        let all = self.all().await?.into_iter().map(|(key, _)| key);
        let keys: Vec<_> = match wanted {
            Pinned::Objects(filter) => {
                let (handler, all) = (self.handler.clone(), all.collect::<Vec<_>>());
                let meant = move || {
                    let feeds = handler.keys_of(filter.feed.as_ref());
                    let takes = |key: &PinKey| filter.takes(&handler.named(key), &feeds);
                    all.into_iter().filter(takes).collect()
                };
                off_thread("look through pins", meant).await?
            }
            Pinned::Needs(needs) => {
                let meant: BTreeSet<_> = needs.iter().flat_map(|need| self.keys(&need.path)).collect();
                all.filter(|key| meant.contains(key)).collect()
            }
        };
        let (pins, removed) = (self.handler.parts.pins.clone(), keys.clone());
        off_thread("remove pins", move || pins.remove(&removed)).await??;
        self.enforce().await?;
        self.store.flush().await?;
        Ok(PinReport { objects: keys.len(), missing: Vec::new(), weight: self.store.pinned() })
    }

    /// Objects that are pinned, with since when; those that are not stored any more have no content.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn list(&self) -> Result<Vec<(Object, SystemTime)>, BlobError> {
        let (all, handler) = (self.all().await?, self.handler.clone());
        let named = move || all.into_iter().map(|(key, since)| (handler.named(&key), since)).collect();
        Ok(off_thread("look up pinned objects", named).await?)
    }

    /// Follows the documents that are pinned, for ever.
    pub async fn keep(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            let _turn = self.turn.lock().await;
            if let Err(error) = self.enforce().await {
                tracing::warn!(%error, "pins not looked up; new copies of pinned documents may leave");
            }
        }
    }

    /// Tells the store which blobs are pinned.
    async fn enforce(&self) -> Result<(), BlobError> {
        let keys = self.all().await?.into_iter().map(|(key, _)| key).collect();
        self.store.pin(Arc::new(self.blobs(keys).await?)).await
    }

    async fn all(&self) -> Result<Vec<(PinKey, SystemTime)>, BlobError> {
        let pins = self.handler.parts.pins.clone();
        Ok(off_thread("read pins", move || pins.all()).await??)
    }

    /// The blobs that keys name now.
    async fn blobs(&self, keys: BTreeSet<PinKey>) -> Result<HashSet<StorageId>, BlobError> {
        let handler = self.handler.clone();
        let named = move || keys.iter().filter_map(|key| handler.named(key).id).collect();
        Ok(off_thread("look up pinned objects", named).await?)
    }

    /// The keys of what is stored of `wanted`, and what is not.
    async fn stored(&self, wanted: Pinned) -> Result<(Vec<PinKey>, Vec<String>), BlobError> {
        // What is meant under one label is there if any of its keys is.
        let meant: Vec<(Option<String>, Vec<Object>)> = match wanted {
            Pinned::Objects(filter) => {
                vec![(None, self.handler.objects(&filter, usize::MAX - 1).await?.0)]
            }
            Pinned::Needs(needs) => {
                let this = self.clone();
                let meant = move |need: Need| {
                    let objects = this.keys(&need.path).iter().map(|key| this.handler.named(key)).collect();
                    (Some(need.label), objects)
                };
                off_thread("look up needs", move || needs.into_iter().map(meant).collect()).await?
            }
        };
        let ids = meant.iter().flat_map(|(_, objects)| objects).filter_map(|object| object.id).collect();
        let stored = self.store.stored(ids).await?;
        let (mut keys, mut missing) = (Vec::new(), Vec::new());
        for (label, objects) in meant {
            let before = keys.len();
            let there = objects.into_iter().filter(|one| one.id.is_some_and(|id| stored.contains(&id)));
            keys.extend(there.map(|one| PinKey { is_document: one.is_document, key: one.key }));
            missing.extend(label.filter(|_| keys.len() == before));
        }
        Ok((keys, missing))
    }

    /// The keys under which what a path addresses may be kept.
    fn keys(&self, path: &str) -> Vec<PinKey> {
        match target(&self.handler, &self.collections, path) {
            Some(Target::Package(route)) => vec![PinKey { is_document: false, key: route.key() }],
            Some(Target::Document(route)) => [Audience::Anonymous, Audience::Authenticated]
                .map(|audience| PinKey { is_document: true, key: super::document::key(&route, audience) })
                .into(),
            Some(Target::Derived(_) | Target::Audit(_) | Target::Passthrough(_)) | None => Vec::new(),
        }
    }
}

// === impl Handler ===

impl Handler {
    /// Whether an object is pinned. Blocking, for as long as a look into a small tree takes.
    pub fn is_pinned(&self, object: &Object) -> bool {
        self.parts.pins.contains(&PinKey { is_document: object.is_document, key: object.key.clone() })
    }

    /// The object that a key names; one without content, where there is none. Blocking.
    fn named(&self, PinKey { is_document, key }: &PinKey) -> Object {
        let none =
            Object { key: key.clone(), is_document: *is_document, id: None, since: SystemTime::UNIX_EPOCH };
        if *is_document {
            let entry = self.parts.documents.scan(key).next().filter(|(found, _)| found == key);
            entry.map_or(none, |(key, entry)| Object::document(key, &entry))
        } else {
            let entry = self.parts.packages.scan(key).next().filter(|(found, _)| found == key);
            entry.map_or(none, |(key, entry)| Object::package(key, &entry))
        }
    }
}
