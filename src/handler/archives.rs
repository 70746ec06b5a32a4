//! Archives of what is stored: made for another gate, and taken over from one.
//!
//! Making one is the operator's right and asks for no verdict; what is read from one is read as ever, by callers of whom a
//! verdict is known. Where no service can give one, the operator [vouches](Archives::vouch) for a credential instead.
//!
//! An archive that comes in is written to a file beside the store and verified while it arrives. Only when its last byte
//! was right does anything of it become visible: first the bytes, then the documents and the index.

mod export;
mod import;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::Mutex;

use super::Handler;
use crate::{
    access::Caller,
    ident::{FeedRef, Name},
    route::{self, Collections, Target},
};

pub use export::Wanted;
pub use import::{ImportError, Imported};

/// Makes archives and takes them over. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Archives {
    handler: Handler,
    collections: Arc<Collections>,
    /// Where archives wait while they are verified.
    folder: PathBuf,
    /// One comes in at a time.
    importing: Arc<Mutex<()>>,
}

// === impl Archives ===

impl Archives {
    /// Archives of what `handler` has; those that come in wait in `folder`.
    pub fn new(handler: Handler, collections: Arc<Collections>, folder: PathBuf) -> Self {
        Self { handler, collections, folder, importing: Arc::default() }
    }

    /// `caller` may read `feed` as if the service had said so just now: good for as long as such a verdict.
    pub fn vouch(&self, caller: &Caller, feed: &FeedRef) {
        self.handler.parts.access.allow(caller, feed, self.handler.now());
    }

    /// What a path of the gate addresses, with the feed's identity where it is known.
    fn target(&self, path: &str) -> Option<Target> {
        target(&self.handler, &self.collections, path)
    }
}

/// The same, of a gate with these collections.
pub(super) fn target(handler: &Handler, collections: &Collections, path: &str) -> Option<Target> {
    let route = route::parse_for(collections, &http::Method::GET, None, path).ok()?;
    let mut target = route.target;
    if let Some(feed) = target.feed_mut() {
        *feed = handler.identified_now(feed);
    }
    Some(target)
}

/// Reads a feed as keys write it: `org/project|-/feed[@view]`.
pub fn feed_of(text: &str) -> Option<FeedRef> {
    let name = |text: &str| Name::parse(if text == "%2d" { "-" } else { text }).ok();
    let [org, project, feed] = <[&str; 3]>::try_from(text.split('/').collect::<Vec<_>>()).ok()?;
    let project = if project == "-" { None } else { Some(name(project)?) };
    let (feed, view) = match feed.split_once('@') {
        Some((feed, view)) => (feed, Some(name(view)?)),
        None => (feed, None),
    };
    Some(FeedRef::new(name(org)?, project, name(feed)?, view))
}
