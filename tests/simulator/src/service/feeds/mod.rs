//! The feeds host (`_apis/packaging/Feeds`, facts §5.4): feeds, their packages and versions, what changed in them.
//!
//! One file per kind of resource. Every URL inside a document is absolute and in GUID form. What the documents of the
//! service show has their fields and their order; values that nobody describes (permissions, provenance, retention,
//! badge, metadata of files) are invented and small.

mod changes;
mod feed;
mod packages;
mod particulars;
mod version;

use uuid::Uuid;

use super::error::Refusal;
use super::reply::Reply;
use super::rest::is;
use super::visit::{Place, Visit};

/// The URLs of one feed's resources.
#[derive(Clone, Debug)]
pub(crate) struct FeedUrls {
    /// `.../_apis/Packaging/Feeds/{feed GUID}`
    pub(crate) feed: String,
    /// Whether the first generation of the REST is spoken, whose version URLs lack the version (facts §5.3).
    pub(crate) early: bool,
}

/// Answers for the segments below `_apis/`.
pub(crate) async fn answer(visit: &Visit<'_>, path: &[&str]) -> Result<Reply, Refusal> {
    match path {
        [packaging, changes, rest @ ..] if is(packaging, "packaging") && is(changes, "feedchanges") => {
            match rest {
                [] => changes::feeds(visit),
                [feed] => changes::feed(visit, feed),
                _ => Err(Refusal::NoRoute),
            }
        }
        [packaging, feeds] if is(packaging, "packaging") && is(feeds, "feeds") => feed::collection(visit),
        [packaging, feeds, feed] if is(packaging, "packaging") && is(feeds, "feeds") => {
            feed::answer(visit, feed)
        }
        [packaging, feeds, feed, rest @ ..] if is(packaging, "packaging") && is(feeds, "feeds") => {
            let place = visit.rest_place(feed)?;
            below(visit, &place, rest).await
        }
        [public, packaging, feeds, feed, packages, package, badge]
            if is(public, "public")
                && is(packaging, "packaging")
                && is(feeds, "feeds")
                && is(packages, "packages")
                && is(badge, "badge") =>
        {
            particulars::badge(visit, &visit.rest_place(feed)?, package)
        }
        _ => Err(Refusal::NoRoute),
    }
}

/// Answers for the segments below a feed.
async fn below(visit: &Visit<'_>, place: &Place, path: &[&str]) -> Result<Reply, Refusal> {
    let kind = path[0].to_ascii_lowercase();
    match (kind.as_str(), &path[1..]) {
        ("views", []) => particulars::views(visit, place),
        ("views", [view]) => particulars::view(visit, place, view),
        _ if !visit.reads() => Err(Refusal::Method),
        ("packages", rest) => packages::answer(visit, place, rest, false).await,
        ("recyclebin", [packages, rest @ ..]) if is(packages, "packages") => {
            packages::answer(visit, place, rest, true).await
        }
        ("packagechanges", []) => changes::packages(visit, place).await,
        ("permissions", []) => Ok(particulars::permissions(visit)),
        ("retentionpolicies", []) => Ok(particulars::retention(visit)),
        _ => Err(Refusal::NoRoute),
    }
}

// === impl FeedUrls ===

impl FeedUrls {
    pub(crate) fn new(visit: &Visit<'_>, place: &Place) -> Self {
        Self { early: visit.api_generation() <= 2, ..Self::at(&visit.base_of(visit.request.listener), place) }
    }

    /// `base` goes up to the project, without a slash at the end.
    pub(crate) fn at(base: &str, place: &Place) -> Self {
        Self::of(base, place.project.as_ref().map(|project| project.guid), place.own.guid)
    }

    fn of(base: &str, project: Option<Uuid>, feed: Uuid) -> Self {
        let project = project.map_or(String::new(), |project| format!("/{project}"));
        Self { feed: format!("{base}{project}/_apis/Packaging/Feeds/{feed}"), early: false }
    }

    pub(crate) fn package(&self, package: Uuid) -> String {
        format!("{}/Packages/{package}", self.feed)
    }

    fn versions(&self, package: Uuid) -> String {
        format!("{}/Versions", self.package(package))
    }

    fn version(&self, package: Uuid, version: Uuid) -> String {
        let versions = self.versions(package);
        if self.early { versions } else { format!("{versions}/{version}") }
    }
}
