//! Is everything in the store still what it was stored as? On demand, and slowly behind everything else.
//!
//! Readers check every byte before it is sent, so this protects no client: it finds damage before anybody needs what is
//! damaged. What fails is removed at once (and put aside) and fetched anew by its next reader, or here, with a credential of the
//! operator's: in the access mode *passthrough* the gate has none of its own.

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderMap, Method};
use serde::Serialize;

use super::{Handler, Outcome, PackageBody, ReplyBody, Request};
use crate::{
    access::Caller,
    blob::{BlobError, DiskStore, Health, Pace},
    document::rewrite::PublicBase,
    ident::StorageId,
    route::{self, ObjectKey, Target},
};

/// Blobs whose ids are looked up at a time.
const BATCH: usize = 256;
/// Between two passes of the scrub, and before the first.
const REST: Duration = Duration::from_secs(3600);

/// What [`Handler::verify`] is to do.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// Bytes a second that are read at most; 0 is no limit.
    pub rate: u64,
    /// With whose credential the service is asked for what is damaged; `None` leaves that to the next reader.
    pub repair: Option<Caller>,
}

/// What [`Handler::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were damaged, and are removed.
    pub damaged_blobs: Vec<String>,
    /// Values of the database that were damaged since the start, and are removed and put aside.
    pub damaged_values: u64,
    /// What the damage cost: keys of packages and documents.
    pub lost: Vec<String>,
    /// Those of them that were fetched anew.
    pub repaired: Vec<String>,
}

// === impl Handler ===

impl Handler {
    /// Reads the whole store once. `progress` is told the bytes of each blob.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn verify(
        &self,
        store: &DiskStore,
        order: &Verification,
        progress: impl Fn(u64) + Send,
    ) -> Result<Verified, BlobError> {
        let mut found = Verified::default();
        // Before anything else is read: whoever reads a damaged value removes it, and its key is not told again.
        let swept = store.sweep().await?;
        let (mut pace, mut after, mut damaged) = (Pace::new(order.rate), None, BTreeSet::new());
        loop {
            let batch = store.list(after, BATCH).await?;
            let Some((last, _)) = batch.last() else { break };
            after = Some(*last);
            for (id, _) in batch {
                let bytes = pace.bytes;
                found.blobs += 1;
                if store.rehash(id, &mut pace).await? == Health::Damaged {
                    damaged.insert(id);
                }
                progress(pace.bytes - bytes);
            }
        }
        found.bytes = pace.bytes;
        let mut lost: BTreeSet<String> =
            swept.into_iter().filter_map(|key| String::from_utf8(key.to_vec()).ok()).collect();
        let keys = self.object_keys().await?;
        let stored = store.stored(keys.iter().map(|(_, id)| *id).collect()).await?;
        for (key, id) in keys {
            if damaged.contains(&id) || !stored.contains(&id) {
                lost.insert(key);
            }
        }
        found.damaged_blobs = damaged.iter().map(StorageId::to_string).collect();
        found.damaged_values = store.damaged_values();
        if let Some(caller) = &order.repair {
            for key in &lost {
                if self.fetched_anew(key, caller).await {
                    found.repaired.push(key.clone());
                }
            }
        }
        found.lost = lost.into_iter().collect();
        Ok(found)
    }

    /// Verifies the store over and over at `rate` bytes a second.
    pub async fn scrub(self, store: DiskStore, rate: u64) {
        let order = Verification { rate, repair: None };
        loop {
            tokio::time::sleep(REST).await;
            match self.verify(&store, &order, |_| ()).await {
                Ok(found) if found.damaged_blobs.is_empty() && found.lost.is_empty() => {
                    tracing::info!(blobs = found.blobs, bytes = found.bytes, "the store is sound");
                }
                Ok(found) => {
                    tracing::error!(blobs = ?found.damaged_blobs, lost = ?found.lost, "damage in the store was removed");
                }
                Err(error) => tracing::warn!(%error, "the store could not be verified"),
            }
        }
    }

    /// Keys of packages and documents, with the blobs that they name.
    async fn object_keys(&self) -> Result<Vec<(String, StorageId)>, BlobError> {
        let mut keys = self.parts.packages.blobs().await?;
        keys.extend(self.parts.documents.blobs().await?);
        Ok(keys)
    }

    /// Asks for an object as `caller` would; whether it came and is stored.
    async fn fetched_anew(&self, key: &str, caller: &Caller) -> bool {
        // Documents have the letter of their audience before their key.
        let bare = key.split_once(':').map_or(key, |(_, bare)| bare);
        let path = ObjectKey::read(bare).and_then(|key| key.path());
        let route = path.and_then(|path| route::parse(None, &path).ok());
        let Some(route) = route.filter(|route| !matches!(route.target, Target::Passthrough(_))) else {
            return false;
        };
        let mut request = Request {
            method: Method::GET,
            route,
            headers: HeaderMap::new(),
            caller: caller.clone(),
            address: None,
            base: PublicBase::Path { origin: "http://localhost".to_owned() },
            received_at: self.now(),
            ahead: false,
        };
        match self.answer(&mut request).await {
            Ok(Outcome::Reply(reply)) if reply.status.is_success() => match reply.body {
                ReplyBody::Package(PackageBody::Filling { fill, .. }) => {
                    fill.finished().await.is_ok_and(|finished| finished.stored)
                }
                ReplyBody::Package(PackageBody::Stored(_)) | ReplyBody::Bytes(_) => true,
                ReplyBody::Stream { .. } => false,
            },
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, key, "what was damaged could not be fetched anew");
                false
            }
        }
    }
}
