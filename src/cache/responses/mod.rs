//! Responses of mounts: their heads in the database, their bodies in the blob store.
//!
//! Each mount has its own records of a URL ([`key`]): one for each set of selecting fields (`Vary`) that was asked for,
//! up to [`VARIANTS`]. A record whose body was evicted is found out when it is used, and dropped. What may be stored and
//! reused is decided by [`crate::policy`]; an error of the store is logged and treated as a miss.

mod asked;
mod bound;
mod key;
mod record;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

pub use asked::Asked;
pub use key::{Owner, ResponseKey};

use crate::{
    blob::{Blob, BlobKind, BlobStore, BlobWriter, Digests, VsoHasher},
    disk::{Database, DiskError, Tree, TreeName, off_thread},
    ident::StorageId,
    policy::{Stored, selects},
};
use asked::Asking;
use bound::Bound;
use key::{is_old, of_url};

/// The part of the store that one body may take is one in so many: a single response of an origin must not drive out
/// the packages of a whole company.
const SHARE: u64 = 8;
/// Most records of one URL of a mount; the oldest makes room.
const VARIANTS: usize = 32;

/// Responses of mounts. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Responses {
    tree: Tree,
    blobs: Arc<dyn BlobStore>,
    asking: Asking,
    bound: Arc<Bound>,
    largest: u64,
}

/// A stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Everything but the body.
    pub head: Stored,
    /// Where the body is; `None` for an empty one.
    pub body: Option<StorageId>,
}

/// A body on its way into the store. Dropped before [`ResponseDraft::finish`], it never was there.
pub struct ResponseDraft {
    writer: Box<dyn BlobWriter>,
    hasher: VsoHasher,
    announced: Option<u64>,
    length: u64,
    largest: u64,
}

// === impl Responses ===

impl Responses {
    /// What `database` and `blobs` keep, the bodies together at most `capacity` bytes with whatever else is there.
    pub fn new(database: &Database, blobs: Arc<dyn BlobStore>, capacity: u64) -> Self {
        Self {
            tree: database.tree(TreeName::Response),
            blobs,
            asking: Asking::default(),
            bound: Arc::default(),
            largest: capacity / SHARE,
        }
    }

    /// The newest response of `key` for a request with these headers.
    pub async fn select(&self, key: &ResponseKey, request: &HeaderMap) -> Option<Kept> {
        let matching = self.variants(key).await.into_iter().map(|(_, kept)| kept);
        let matching = matching.filter(|kept| selects(&kept.head.selecting, request));
        matching.max_by_key(|kept| kept.head.received_at)
    }

    /// `url` is asked for from now on.
    pub fn ask(&self, url: &str) -> Asked {
        self.asking.begin(url)
    }

    /// Keeps a response of `key` in the place of the one with the same selecting fields, unless what was stored of its
    /// URL was removed since it was `asked` for: then it may be from before that.
    pub async fn keep(&self, key: &ResponseKey, kept: &Kept, asked: &Asked) {
        if !asked.is_current() {
            return;
        }
        let mut variants = self.variants(key).await;
        let record = key.record(&kept.head.selecting);
        variants.retain(|(other, _)| *other != record);
        variants.sort_by_key(|(_, kept)| kept.head.received_at);
        let excess = variants.len().saturating_sub(VARIANTS - 1);
        let oldest: Vec<_> = variants.into_iter().take(excess).map(|(key, _)| key).collect();
        let (tree, all, value) = (self.tree.clone(), of_url(&key.url), kept.encode());
        let length = record.len() + value.len();
        let write = move || {
            remove(&tree, &all, is_old)?;
            oldest.iter().try_for_each(|key| tree.remove(key).map(drop))?;
            tree.insert(&record, &value)
        };
        Self::logged(off_thread("write response", write).await.and_then(|outcome| outcome), &key.url);
        if self.bound.written(length) {
            let (bound, tree) = (Arc::clone(&self.bound), self.tree.clone());
            tokio::spawn(async move {
                let looked = off_thread("look at responses", move || bound.look(&tree)).await;
                if let Err(error) = looked.and_then(|outcome| outcome) {
                    tracing::warn!(%error, "records of responses not bounded");
                }
            });
        }
    }

    /// Forgets every response of `url`, whosoever it is.
    pub async fn forget(&self, url: &str) {
        self.asking.removed(url);
        let (tree, all) = (self.tree.clone(), of_url(url));
        let remove = move || remove(&tree, &all, |_| true);
        Self::logged(off_thread("remove responses", remove).await.and_then(|outcome| outcome), url);
    }

    /// Opens a response's body; `None` when it is gone.
    pub async fn open(&self, body: &StorageId) -> Option<Blob> {
        self.blobs.open(body).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "stored response unreadable");
            None
        })
    }

    /// Starts to store a body of `length` bytes, if that is known; `None` when it is too large, or the store refuses.
    pub async fn begin(&self, length: Option<u64>) -> Option<ResponseDraft> {
        let largest = self.largest;
        if length.is_some_and(|length| length > largest) {
            return None;
        }
        match self.blobs.begin(BlobKind::Document, length).await {
            Ok(writer) => {
                let hasher = VsoHasher::new();
                Some(ResponseDraft { writer, hasher, announced: length, length: 0, largest })
            }
            Err(error) => {
                tracing::warn!(%error, "response not stored");
                None
            }
        }
    }

    async fn variants(&self, key: &ResponseKey) -> Vec<(Bytes, Kept)> {
        let (tree, prefix) = (self.tree.clone(), key.prefix());
        let read = move || {
            let entries = tree.scan_prefix(&prefix).map(|entry| {
                let (key, value) = entry?;
                Ok(Kept::decode(&value).map(|kept| (key, kept)))
            });
            entries.filter_map(Result::transpose).collect::<Result<Vec<_>, DiskError>>()
        };
        off_thread("read responses", read).await.and_then(|read| read).unwrap_or_else(|error| {
            tracing::warn!(%error, url = key.url, "stored responses unreadable");
            Vec::new()
        })
    }

    fn logged(outcome: Result<(), DiskError>, url: &str) {
        if let Err(error) = outcome {
            tracing::warn!(%error, url, "record of a response not written");
        }
    }
}

// === impl ResponseDraft ===

impl ResponseDraft {
    /// Takes the next bytes; whether the store took them. It takes none that make the body too large.
    pub async fn write(&mut self, bytes: Bytes) -> bool {
        self.length += bytes.len() as u64;
        if self.length > self.largest {
            return false;
        }
        self.hasher.update(&bytes);
        let written = self.writer.write(bytes).await;
        written.inspect_err(|error| tracing::warn!(%error, "response not stored")).is_ok()
    }

    /// Whether as many bytes came as were announced.
    pub fn is_whole(&self) -> bool {
        self.announced == Some(self.length)
    }

    /// The body is whole. Where it is now (nowhere, if it is empty); an error when the store refused.
    pub async fn finish(self) -> Result<Option<StorageId>, ()> {
        if self.length == 0 {
            return Ok(None);
        }
        let id = self.hasher.finish();
        let committed = self.writer.commit(id, Digests::default()).await;
        committed.inspect_err(|error| tracing::warn!(%error, "response not stored")).map_err(drop)?;
        Ok(Some(id))
    }
}

/// Removes the records whose keys begin with `prefix` and are `meant`.
fn remove(tree: &Tree, prefix: &[u8], meant: impl Fn(&[u8]) -> bool) -> Result<(), DiskError> {
    let keys: Result<Vec<_>, _> = tree.scan_prefix(prefix).map(|entry| Ok(entry?.0)).collect();
    keys?.iter().filter(|key| meant(key)).try_for_each(|key| tree.remove(key).map(drop))
}
