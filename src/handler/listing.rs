//! What listings of the REST API say of packages' content is remembered, and compared with the bytes.
//!
//! A listing names the content of each version, so that a version whose bytes are here already, under another name
//! or from another feed, needs no question for them. It is the word of a document only: it never takes the place of
//! what the bytes told, and where the service's redirect says otherwise, the redirect wins.

use bytes::Bytes;

use super::Handler;
use crate::{
    cache::{Contradiction, PackageEntry, Source},
    document::listing::{Listed, listed},
    ident::{FeedRef, StorageId},
    lanes,
    route::{Document, DocumentRoute, Format, PackageRoute, Subject},
};

/// A listing that is about to be asked for.
pub(super) struct Learning {
    /// Its feed without the view: a version has the same bytes in every view, but is not in every one.
    feed: FeedRef,
    /// Removals in the feed before the question. A listing that was asked for before one says too much.
    removals: u64,
}

// === impl Handler ===

impl Handler {
    /// What is to be noted before a document is asked for, if content can be learned from it.
    pub(super) fn learning(&self, route: &DocumentRoute) -> Option<Learning> {
        let Document::Rest(rest) = &route.document else { return None };
        if !rest.feeds_host || rest.format != Format::Json {
            return None;
        }
        let FeedRef { org, project, feed, .. } = route.feed.clone();
        let whole = FeedRef::new(org, project, feed, None);
        let identified = route.feed.key() != route.feed.spelling();
        let feed = if identified { whole.identified(route.feed.whole_key()) } else { whole };
        Some(Learning { removals: self.removals_in(&feed), feed })
    }

    /// Remembers what a listing says, unless something was removed meanwhile.
    pub(super) async fn learn_listed(&self, learning: Learning, body: Bytes) {
        let Learning { feed, removals } = learning;
        let found = lanes::compute(body.len(), move || listed(&body)).await.unwrap_or_default();
        if found.is_empty() {
            return;
        }
        let now = self.now();
        let entry = |Listed { package, id }: Listed| {
            let route = PackageRoute { feed: feed.clone(), package };
            let removals = self.parts.generations.current(&route.feed, &route.subject()).removals;
            (route.key(), PackageEntry { id, named_at: now, removals, source: Source::Listing })
        };
        let entries = found.into_iter().map(entry).collect();
        // Asked after the entries' own counts were taken: a removal in between is seen here.
        if self.removals_in(&feed) == removals {
            for (key, contradiction) in self.parts.packages.put_listed(entries).await {
                self.contradicted(&key, contradiction);
            }
        }
    }

    /// Remembers the content of a package as its bytes told it.
    pub(super) async fn remember(&self, key: &str, id: StorageId, removals: u64) {
        if let Some(known) = self.parts.packages.get(key).await
            && (known.source, known.removals) == (Source::Listing, removals)
            && known.id != id
        {
            self.contradicted(key, Contradiction { listed: known.id, bytes: id });
        }
        let entry = PackageEntry { id, named_at: self.now(), removals, source: Source::Bytes };
        self.parts.packages.put(key, &entry).await;
    }

    fn removals_in(&self, feed: &FeedRef) -> u64 {
        self.parts.generations.current(feed, &Subject::Feed).removals
    }

    fn contradicted(&self, key: &str, contradiction: Contradiction) {
        let Contradiction { listed, bytes } = contradiction;
        self.parts.metrics.integrity("listing");
        tracing::error!(key, %listed, %bytes, "a listing names other content than the package has");
    }
}
