//! Where a package's bytes are, as one flight tells all who wait for it.

use std::{sync::Arc, time::SystemTime};

use futures::{FutureExt as _, future::BoxFuture};

use super::super::{CacheStatus, HandlerError, PackageBody};
use crate::{
    blob::{Blob, fill::Fill},
    ident::StorageId,
};

/// Where a package's bytes are.
#[derive(Clone)]
pub(in crate::handler) enum Located {
    /// In the store, where another request left it meanwhile.
    Known(Found),
    /// In the store, as the service told when it was asked.
    Stored(Blob),
    /// On their way.
    Filling { fill: Arc<Fill>, id: Option<StorageId> },
    /// Nowhere.
    Failed(HandlerError),
    /// Nobody says where.
    Unanswered(HandlerError),
}

/// A package's bytes and what the answer says of them.
#[derive(Clone)]
pub(in crate::handler) struct Found {
    pub(in crate::handler) body: PackageBody,
    pub(in crate::handler) id: Option<StorageId>,
    pub(in crate::handler) named_at: Option<SystemTime>,
    pub(in crate::handler) cache: CacheStatus,
}

// === impl Located ===

impl Located {
    /// What a flight whose task died ends with.
    pub(super) fn died() -> Self {
        Self::Failed(HandlerError::Internal("a download died".to_owned()))
    }

    /// Whether a flight's value is of no more use: its download failed, or can't be joined from the start.
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Self::Known(_) | Self::Stored(_) => false,
            Self::Failed(_) | Self::Unanswered(_) => true,
            Self::Filling { fill, .. } => {
                !fill.joinable() || fill.finished().now_or_never().is_some_and(|outcome| outcome.is_err())
            }
        }
    }

    /// How long others can join: to the end of the download.
    pub(super) fn lingering(&self) -> Option<BoxFuture<'static, ()>> {
        match self {
            Self::Filling { fill, .. } => {
                let fill = Arc::clone(fill);
                Some(async move { drop(fill.finished().await) }.boxed())
            }
            Self::Known(_) | Self::Stored(_) | Self::Failed(_) | Self::Unanswered(_) => None,
        }
    }
}

// === impl Found ===

impl Found {
    /// What the service named when it was asked, and what was here: no download.
    pub(super) fn stored(blob: Blob, collapsed: bool) -> Self {
        let id = Some(blob.id);
        let cache = CacheStatus::Refreshed { collapsed };
        Self { body: PackageBody::Stored(blob), id, named_at: None, cache }
    }
}
