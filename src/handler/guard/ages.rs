//! How old versions are: noted from every document that names some, and asked for where a rule needs it.
//!
//! npm's packument has all versions and their times. NuGet's list has no times, and its registrations have the versions of
//! a hive, at times in pages of their own; so before the first answer on a package under such a rule the registration with
//! all versions is read, page for page, and the list. They are those of the whole feed, if the caller may read that: a view
//! has only some of the versions. A rehearsal notes what is stored, since that was seen.

use std::time::SystemTime;

use bytes::Bytes;
use futures::future::try_join_all;

use super::{
    super::{Handler, HandlerError, Request, document::Obtained},
    Asked, Version, Wanted, named, whole,
};
use crate::{
    access::Audience,
    cache::{Extent, Seen},
    guard::{Policy, Release, pages, registered, version_list, versions_of},
    ident::{FeedRef, NpmName, NugetId, NugetVersion},
    lanes,
    route::{Document, DocumentRoute, Hive, Protocol},
};

/// Most pages of a registration that are read: 5,000 versions, the most of a package (facts §7.3), by 64.
const MOST_PAGES: usize = 128;
/// Pages that are asked for at once.
const AT_ONCE: usize = 4;

// === impl Handler ===

impl Handler {
    /// Notes the versions that a document names, where a guard asks for their age. What `audience` sees may be less than
    /// others do.
    pub(in crate::handler) async fn sight(&self, audience: Audience, route: &DocumentRoute, body: &Bytes) {
        let extent = match &route.document {
            _ if !is_whole(audience, &route.feed) => Extent::Part,
            Document::Packument(_) => Extent::Whole,
            Document::VersionList(_) => Extent::Versions,
            _ => Extent::Part,
        };
        self.sight_as(route, body, extent).await;
    }

    async fn sight_as(&self, route: &DocumentRoute, body: &Bytes, extent: Extent) {
        let releases: fn(&[u8]) -> Vec<Release> = match &route.document {
            Document::Packument(_) => versions_of,
            Document::VersionList(_) => version_list,
            Document::RegistrationIndex(..) | Document::RegistrationPage(..) => registered,
            _ => return,
        };
        let Some((name, protocol, _)) = named(&route.document) else { return };
        let asked = self.asked_feeds(&route.feed);
        if !self.guards().policy(&name, protocol, |feed| asked.is(feed)).asks_age() {
            return;
        }
        let held = body.clone();
        let releases = lanes::compute(body.len(), move || releases(&held)).await.unwrap_or_default();
        let spelled = |(version, told): Release| (spelled(protocol, &version), told);
        let releases = releases.into_iter().map(spelled).collect();
        let key = sighting_key(&route.feed, protocol, &name);
        self.parts.sightings.see(&key, releases, extent, self.now()).await;
    }

    /// Since when a version counts as released; only asked for where it matters.
    pub(super) async fn released(
        &self,
        feed: &FeedRef,
        policy: &Policy<'_>,
        protocol: Protocol,
        name: &str,
        version: &str,
    ) -> Option<SystemTime> {
        if !policy.asks_age() {
            return None;
        }
        let seen = self.parts.sightings.get(&sighting_key(feed, protocol, name)).await?;
        seen.released(&spelled(protocol, version), self.now())
    }

    /// Whether a rule needs ages that have to be asked for: of a version that nobody has seen, or of NuGet's versions as
    /// long as not all of them were seen.
    pub(super) async fn lacks_ages(&self, feed: &FeedRef, asked: &Asked, wanted: &Wanted) -> bool {
        let Some(name) = &wanted.name else { return false };
        if !self.guards().policy(name, wanted.protocol, |feed| asked.is(feed)).asks_age() {
            return false;
        }
        let seen = self.parts.sightings.get(&sighting_key(feed, wanted.protocol, name)).await;
        match (&wanted.version, wanted.protocol) {
            (Version::Unread, _) | (Version::All, Protocol::Npm) => false,
            (Version::All, Protocol::Nuget) => !seen.is_some_and(|seen| seen.is_whole()),
            (Version::One(version), protocol) => {
                let seen = seen.and_then(|seen| seen.released(&spelled(protocol, version), self.now()));
                seen.is_none()
            }
        }
    }

    /// Asks for the documents that tell how old the versions of a package are.
    pub(super) async fn learn_ages(
        &self,
        request: &Request,
        feed: &FeedRef,
        wanted: &Wanted,
    ) -> Result<(), HandlerError> {
        let name = wanted.name.as_deref().unwrap_or_default();
        if wanted.protocol == Protocol::Npm {
            let Ok(name) = NpmName::parse(name) else { return Ok(()) };
            return self.sighted(request, feed, Document::Packument(name)).await.map(drop);
        }
        let Ok(id) = NugetId::parse(name) else { return Ok(()) };
        if feed.view.is_none() {
            return self.learn_nuget_ages(request, feed, &id).await;
        }
        let learned = self.learn_nuget_ages(request, &whole(feed), &id).await;
        match learned {
            Ok(()) => Ok(()),
            Err(_) => self.learn_nuget_ages(request, feed, &id).await,
        }
    }

    async fn learn_nuget_ages(
        &self,
        request: &Request,
        feed: &FeedRef,
        id: &NugetId,
    ) -> Result<(), HandlerError> {
        let key = sighting_key(feed, Protocol::Nuget, id.as_str());
        if !self.parts.sightings.get(&key).await.is_some_and(|seen| seen.has_times()) {
            self.learn_times(request, feed, id).await?;
        }
        self.sighted(request, feed, Document::VersionList(id.clone())).await.map(drop)
    }

    /// Reads the registration of a package, which has to be noted as a whole after its pages.
    async fn learn_times(&self, request: &Request, feed: &FeedRef, id: &NugetId) -> Result<(), HandlerError> {
        let index = Document::RegistrationIndex(Hive::SemVer2, id.clone());
        let body = self.sighted(request, feed, index.clone()).await?;
        let pages: Vec<_> = pages(&body).iter().map(|(lower, upper)| page(id, lower, upper)).collect();
        // Versions of which no time is told count from now.
        let readable: Vec<_> = pages.iter().flatten().take(MOST_PAGES).collect();
        for some in readable.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|page| self.sighted(request, feed, (*page).clone()))).await?;
        }
        if is_whole(request.caller.audience(), feed) && !body.is_empty() {
            let route = DocumentRoute { feed: feed.clone(), document: index };
            self.sight_as(&route, &body, Extent::Times).await;
        }
        Ok(())
    }

    /// A document as the service sent it, its versions noted. Empty in a rehearsal that only supposes it to be here.
    async fn sighted(
        &self,
        request: &Request,
        feed: &FeedRef,
        document: Document,
    ) -> Result<Bytes, HandlerError> {
        let route = DocumentRoute { feed: feed.clone(), document };
        let Obtained { entry, mut body, .. } = Box::pin(self.obtained(request, &route)).await?;
        if body.is_none() {
            body = self.parts.documents.body(&entry).await;
        }
        if body.is_none() {
            body = Box::pin(self.missing(request, &route)).await?.body;
        }
        let body = body.unwrap_or_default();
        if !body.is_empty() {
            // Not when it came: it may have been stored before there was a rule.
            self.sight(request.caller.audience(), &route, &body).await;
        }
        Ok(body)
    }
}

/// Whether documents of `feed` name all versions: a view has only some, and so may have who comes without a credential,
/// to whom a public feed shows nothing of its upstream sources (facts §3.3).
fn is_whole(audience: Audience, feed: &FeedRef) -> bool {
    audience == Audience::Authenticated && feed.view.is_none()
}

fn page(id: &NugetId, lower: &str, upper: &str) -> Option<Document> {
    let (lower, upper) = (NugetVersion::parse(lower).ok()?, NugetVersion::parse(upper).ok()?);
    Some(Document::RegistrationPage(Hive::SemVer2, id.clone(), lower, upper))
}

/// When a version that a document names was released.
pub(super) fn released_as_told(
    seen: Option<&Seen>,
    (protocol, version): (Protocol, &str),
    told: Option<SystemTime>,
    now: SystemTime,
) -> SystemTime {
    seen.unwrap_or(&Seen::default()).released_as_told(&spelled(protocol, version), told, now)
}

/// The one spelling of a version: a NuGet document has `1.0-Beta` where another has `1.0.0-beta`.
fn spelled(protocol: Protocol, version: &str) -> String {
    match (protocol, NugetVersion::parse(version)) {
        (Protocol::Nuget, Ok(version)) => version.as_str().to_owned(),
        _ => version.to_owned(),
    }
}

/// The name under which sightings are kept.
pub(super) fn sighting_key(feed: &FeedRef, protocol: Protocol, name: &str) -> String {
    format!("{}\n{}\n{name}", feed.whole_key(), protocol.as_str())
}
