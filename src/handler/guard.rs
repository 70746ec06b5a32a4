//! Guards at work: requests that are refused by them, versions that are left out of documents.
//!
//! A package is refused whatever is stored and whoever asks; the question is put before any other. Documents are
//! filtered when their representation is built, so that the stored copy stays what the service sent.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use prometheus::{IntCounterVec, Opts, Registry};

use super::{Handler, HandlerError, Request, modes::means};
use crate::{
    cache::Seen,
    config::changes::FeedName,
    guard::{
        Guards, Objection, Policy, Release, Unreadable, filter_feed, filter_packument, filter_registration,
        filter_search, filter_version_list, registered, version_list, versions_of,
    },
    ident::FeedRef,
    route::{Document, DocumentRoute, OdataResource, Package, PackageRoute, Protocol, npm_version},
};

/// The guards of the gate, and what they did.
#[derive(Clone)]
pub struct Guarding {
    guards: Arc<Guards>,
    refusals: IntCounterVec,
}

/// What leaves versions out of one document; made before the work, so that it can go to another thread.
pub(super) struct Sieve {
    guards: Arc<Guards>,
    document: Document,
    /// The configured feeds that are the document's.
    here: Vec<FeedName>,
    seen: Option<Arc<Seen>>,
    now: SystemTime,
}

// === impl Guarding ===

impl Guarding {
    /// Registers `feedgate_guard_refusals_total`; fails if it is registered already.
    pub fn new(guards: Guards, registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts =
            Opts::new("feedgate_guard_refusals_total", "Requests refused by a guard, by kind of rule.");
        let refusals = IntCounterVec::new(opts, &["reason"])?;
        registry.register(Box::new(refusals.clone()))?;
        for reason in Objection::REASONS {
            refusals.with_label_values(&[reason]).inc_by(0);
        }
        Ok(Self { guards: Arc::new(guards), refusals })
    }
}

// === impl Handler ===

impl Handler {
    /// An error where a guard keeps what `route` is from builds.
    pub(super) async fn guard_document(&self, route: &DocumentRoute) -> Result<(), HandlerError> {
        if self.guards_nothing() {
            return Ok(());
        }
        self.judged(self.document_objection(route).await)
    }

    /// Why what `route` is is kept from builds.
    pub(super) async fn document_objection(&self, route: &DocumentRoute) -> Option<Objection> {
        let (name, protocol, version) = named(&route.document)?;
        let here = self.here(&route.feed);
        let policy = self.guards().policy(&name, protocol, |feed| here.contains(feed));
        let to_name = policy.to_name();
        if to_name.is_some() {
            return to_name;
        }
        let version = version.as_deref()?;
        let released = self.released(&route.feed, &policy, protocol, &name, version).await;
        policy.to_version(version, released, self.now())
    }

    /// The same for the bytes of a version. Where only its age is unknown, the document that tells it is asked for.
    pub(super) async fn guard_package(
        &self,
        request: &Request,
        route: &PackageRoute,
    ) -> Result<(), HandlerError> {
        if self.guards_nothing() {
            return Ok(());
        }
        match self.objection(route).await {
            Some(Objection::Unknown { .. }) if !matches!(route.package, Package::ById { .. }) => {
                let document = telling(&route.package);
                let document = DocumentRoute { feed: route.feed.clone(), document };
                // Whether it came shows below.
                let _ = Box::pin(self.represented(request, &document)).await;
                self.judged(self.objection(route).await)
            }
            objection => self.judged(objection),
        }
    }

    /// Why the bytes of a version are kept from builds, as far as is known without asking the service.
    pub async fn objection(&self, route: &PackageRoute) -> Option<Objection> {
        let here = self.here(&route.feed);
        let (name, protocol, version) = match &route.package {
            // A file that is not named as the registry names them is of any version.
            Package::Npm { name, file } => {
                (name.as_str(), Protocol::Npm, npm_version(name, file).unwrap_or_default())
            }
            Package::Nuget { id, version } => (id.as_str(), Protocol::Nuget, version.as_str()),
            // Which package a GUID means is not known, so no rule can be held against it.
            Package::ById { .. } => return Some(Objection::Unknown { package: route.key() }),
        };
        let policy = self.guards().policy(name, protocol, |feed| here.contains(feed));
        let to_name = policy.to_name();
        if to_name.is_some() {
            return to_name;
        }
        let released = self.released(&route.feed, &policy, protocol, name, version).await;
        policy.to_version(version, released, self.now())
    }

    /// Notes the versions that a document names, where a guard asks for their age.
    pub(super) async fn sight(&self, route: &DocumentRoute, body: &Bytes) {
        let releases: fn(&[u8]) -> Vec<Release> = match &route.document {
            Document::Packument(_) => versions_of,
            Document::VersionList(_) => version_list,
            Document::RegistrationIndex(..) | Document::RegistrationPage(..) => registered,
            _ => return,
        };
        let Some((name, protocol, _)) = named(&route.document) else { return };
        let here = self.here(&route.feed);
        if !self.guards().policy(&name, protocol, |feed| here.contains(feed)).asks_age() {
            return;
        }
        let held = body.clone();
        let releases = super::represent::off_thread_if_large(body.len(), move || releases(&held)).await;
        let key = sighting_key(&route.feed, protocol, &name);
        self.parts.sightings.see(&key, releases.unwrap_or_default(), self.now()).await;
    }

    /// What leaves versions out of a document, and what to keep the result under; `None` where nothing is left out.
    pub(super) async fn sieve(&self, route: &DocumentRoute) -> Option<(Sieve, u64)> {
        if self.guards().are_off() {
            return None;
        }
        let (here, now) = (self.here(&route.feed), self.now());
        let (stamp, seen) = if let Some((name, protocol, _)) = named(&route.document) {
            let policy = self.guards().policy(&name, protocol, |feed| here.contains(feed));
            let key = || sighting_key(&route.feed, protocol, &name);
            let seen = if policy.asks_age() { self.parts.sightings.get(&key()).await } else { None };
            (policy.stamp(now)?, seen)
        } else if is_search(&route.document) {
            // Of any packages: by the feed, which the stored bytes do not tell.
            let mut hasher = DefaultHasher::new();
            route.feed.whole_key().hash(&mut hasher);
            (hasher.finish(), None)
        } else {
            return None;
        };
        let guards = Arc::clone(&self.parts.guarding.guards);
        Some((Sieve { guards, document: route.document.clone(), here, seen, now }, stamp))
    }

    /// The error for a document that cannot be filtered.
    pub(super) fn unreadable(&self, document: String, why: Unreadable) -> HandlerError {
        self.counted(Objection::Unreadable { document, why })
    }

    /// Whether no guard is set up.
    pub(super) fn guards_nothing(&self) -> bool {
        self.guards().are_off()
    }

    fn guards(&self) -> &Guards {
        &self.parts.guarding.guards
    }

    fn judged(&self, objection: Option<Objection>) -> Result<(), HandlerError> {
        objection.map_or(Ok(()), |objection| Err(self.counted(objection)))
    }

    fn counted(&self, objection: Objection) -> HandlerError {
        if self.rehearsal.is_none() {
            self.parts.guarding.refusals.with_label_values(&[objection.reason()]).inc();
        }
        HandlerError::Guarded(objection)
    }

    /// Since when a version counts as released; only asked for where it matters.
    async fn released(
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
        self.parts.sightings.get(&sighting_key(feed, protocol, name)).await?.released(version, self.now())
    }

    /// The feeds of the configuration that are `feed`, by any of its spellings.
    fn here(&self, feed: &FeedRef) -> Vec<FeedName> {
        let identity = |feed: &FeedRef| self.known_identity(feed);
        let named = self.guards().feeds();
        named.filter(|name| means(name, feed, identity)).cloned().collect()
    }
}

// === impl Sieve ===

impl Sieve {
    /// The document without what is left out; `None` if nothing is.
    ///
    /// # Errors
    /// [`Unreadable`]: nobody can say what would have to be left out.
    pub(super) fn filter(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        if is_search(&self.document) {
            return self.filter_found(body);
        }
        // What is of one version was decided on before it was asked for.
        let Some((name, protocol, None)) = named(&self.document) else { return Ok(None) };
        let policy = self.guards.policy(&name, protocol, |feed| self.here.contains(feed));
        let refuses = |version: &str, told: Option<SystemTime>| {
            let seen = self.seen.as_ref().and_then(|seen| seen.released(version, self.now));
            // Nothing was seen yet: as at first sight.
            let released = seen.or(told.map(|told| told.min(self.now))).unwrap_or(SystemTime::UNIX_EPOCH);
            policy.to_version(version, Some(released), self.now).is_some()
        };
        match self.document {
            Document::Packument(_) => filter_packument(body, refuses),
            Document::VersionList(_) => filter_version_list(body, refuses),
            Document::RegistrationIndex(..) | Document::RegistrationPage(..) => {
                filter_registration(body, refuses)
            }
            Document::Odata(_) => filter_feed(body, |_, version, told| refuses(version, told)),
            _ => Ok(None),
        }
    }

    /// Of search results versions of any age stay: whoever installs one asks for its own document.
    fn filter_found(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let refuses = |id: &str, version: Option<&str>| {
            let policy = self.guards.policy(id, Protocol::Nuget, |feed| self.here.contains(feed));
            let old = Some(SystemTime::UNIX_EPOCH);
            policy.to_name().is_some()
                || version.is_some_and(|version| policy.to_version(version, old, self.now).is_some())
        };
        match self.document {
            Document::Search(_) => filter_search(body, refuses),
            _ => filter_feed(body, |id, version, _| refuses(id, Some(version))),
        }
    }
}

/// The package, and the one version, that a document is of.
fn named(document: &Document) -> Option<(String, Protocol, Option<String>)> {
    let nuget = |id: &crate::ident::NugetId, version: Option<&crate::ident::NugetVersion>| {
        Some((id.as_str().to_owned(), Protocol::Nuget, version.map(|version| version.as_str().to_owned())))
    };
    match document {
        Document::Packument(name) => Some((name.as_str().to_owned(), Protocol::Npm, None)),
        Document::VersionList(id)
        | Document::RegistrationIndex(_, id)
        | Document::RegistrationPage(_, id, ..) => nuget(id, None),
        Document::Nuspec(id, version) | Document::RegistrationLeaf(_, id, version) => {
            nuget(id, Some(version))
        }
        Document::Odata(odata) => match &odata.resource {
            OdataResource::Entry(id, version) => nuget(id, Some(version)),
            OdataResource::Versions(id) => nuget(id, None),
            _ => None,
        },
        Document::ServiceIndex | Document::Search(_) | Document::Vulnerabilities(_) | Document::Rest(_) => {
            None
        }
    }
}

fn is_search(document: &Document) -> bool {
    match document {
        Document::Search(_) => true,
        Document::Odata(odata) => matches!(
            odata.resource,
            OdataResource::Packages { count: false } | OdataResource::Search { count: false }
        ),
        _ => false,
    }
}

/// The document that tells how old the versions of a package are.
fn telling(package: &Package) -> Document {
    match package {
        Package::Npm { name, .. } => Document::Packument(name.clone()),
        Package::Nuget { id, .. } => Document::VersionList(id.clone()),
        Package::ById { .. } => Document::ServiceIndex,
    }
}

fn sighting_key(feed: &FeedRef, protocol: Protocol, name: &str) -> String {
    let protocol = match protocol {
        Protocol::Npm => "npm",
        Protocol::Nuget => "nuget",
    };
    format!("{}\n{protocol}\n{name}", feed.whole_key())
}
