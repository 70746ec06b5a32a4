//! Guards at work: requests that are refused by them, versions that are left out of documents.
//!
//! A package is refused whatever is stored and whoever asks; the question is put before any other. Documents are
//! filtered when their representation is built, so that the stored copy stays what the service sent ([`sieve`]). What is
//! passed through is judged by what can be read off its path ([`passed`]).
//!
//! A rule for some feeds holds for each of their spellings. Which feed a configured name means is asked where a request
//! cannot be judged without; as long as nobody can tell, a guard holds and a pin keeps its names away. So it is with the
//! documents that tell how old the versions of a package are ([`ages`]).

mod ages;
mod passed;
mod sieve;

use std::sync::Arc;

use prometheus::{IntCounterVec, Opts, Registry};

pub(super) use self::sieve::Sieve;
use self::sieve::is_search;
use super::{Handler, HandlerError, Request, permission::Permission};
use crate::{
    access::{Same, same_feed},
    config::changes::FeedName,
    guard::{Guards, Objection, Unreadable},
    ident::FeedRef,
    route::{
        Derived, DerivedRoute, Document, DocumentRoute, OdataResource, Package, PackageRoute, Protocol,
        Subject, Target, npm_version,
    },
};

/// The guards of the gate, and what they did.
#[derive(Clone)]
pub struct Guarding {
    guards: Arc<Guards>,
    refusals: IntCounterVec,
}

/// What is asked for, as far as rules are about it.
struct Wanted {
    /// `None` where only the service knows.
    name: Option<String>,
    protocol: Protocol,
    version: Version,
    /// What it is called in a refusal that can name no package.
    shown: String,
}

/// Which versions of a package are asked for.
enum Version {
    /// What is told of all of them.
    All,
    One(String),
    /// One, and only the service knows which.
    Unread,
}

/// The configured feeds that are the one that is asked, and those of which nobody knows.
#[derive(Hash)]
struct Asked {
    here: Vec<FeedName>,
    unknown: Vec<FeedName>,
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
    pub(super) async fn guard_document(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<(), HandlerError> {
        if self.guards_nothing() {
            return Ok(());
        }
        if let Some(wanted) = Wanted::of_document(&route.document) {
            return self.guard(request, &route.feed, &wanted).await;
        }
        if is_search(&route.document) {
            self.learn_feeds(request, &route.feed).await;
        }
        Ok(())
    }

    /// The same for the bytes of a version.
    pub(super) async fn guard_package(
        &self,
        request: &Request,
        route: &PackageRoute,
    ) -> Result<(), HandlerError> {
        if self.guards_nothing() {
            return Ok(());
        }
        self.guard(request, &route.feed, &Wanted::of_package(route)).await
    }

    /// An error where a guard keeps away the version of which a packument has just shown nothing.
    pub(super) async fn guard_manifest(&self, route: &DerivedRoute) -> Result<(), HandlerError> {
        let wanted = match &route.derived {
            Derived::Manifest(name, version) if !self.guards_nothing() => {
                Wanted { version: Version::One(version.clone()), ..Wanted::all(name.as_str(), Protocol::Npm) }
            }
            _ => return Ok(()),
        };
        // Of unknown age is what there is not.
        let objection = self.objection(&route.feed, &self.asked_feeds(&route.feed), &wanted).await;
        self.judged(objection.filter(|objection| !matches!(objection, Objection::Unknown { .. })))
    }

    /// Why what `target` is is kept from builds, as far as is known without asking the service.
    pub(super) async fn objection_to(&self, target: &Target) -> Option<Objection> {
        let (feed, wanted) = match target {
            Target::Document(route) => (&route.feed, Wanted::of_document(&route.document)?),
            Target::Package(route) => (&route.feed, Wanted::of_package(route)),
            Target::Derived(route) => match route.derived.subject()? {
                Subject::Npm(name) => (&route.feed, Wanted::all(name.as_str(), Protocol::Npm)),
                _ => return None,
            },
            Target::Passthrough(route) => return self.objection_to_passed(route).await,
            Target::Audit(_) => return None,
        };
        self.objection(feed, &self.asked_feeds(feed), &wanted).await
    }

    async fn guard(&self, request: &Request, feed: &FeedRef, wanted: &Wanted) -> Result<(), HandlerError> {
        self.learn_feeds(request, feed).await;
        let asked = self.asked_feeds(feed);
        let mut objection = self.objection(feed, &asked, wanted).await;
        if matches!(objection, None | Some(Objection::Unknown { .. })) {
            let lacks = self.lacks_ages(feed, &asked, wanted).await;
            let learned = if lacks { self.learn_ages(request, feed, wanted).await } else { Ok(()) };
            // What was unknown and is not lacked any more was learned by another request between the two looks.
            if lacks || objection.is_some() {
                objection = self.objection(feed, &asked, wanted).await;
            }
            if let (Some(Objection::Unknown { .. }), Err(error)) = (&objection, learned) {
                // Whether it is refused shows when its age can be asked.
                return Err(error);
            }
        }
        if let Some(Objection::Young { .. }) = objection
            && self.permission(request, feed).await? != Permission::Granted
        {
            // That the version is there is not for everybody.
            objection = Some(wanted.unknown());
        }
        self.judged(objection)
    }

    async fn objection(&self, feed: &FeedRef, asked: &Asked, wanted: &Wanted) -> Option<Objection> {
        let unknown_if = |concerned: bool| concerned.then(|| wanted.unknown());
        let Some(name) = &wanted.name else {
            return unknown_if(self.guards().concern(wanted.protocol, |feed| asked.is(feed)));
        };
        let policy = self.guards().policy(name, wanted.protocol, |feed| asked.is(feed));
        let to_name = policy.to_name();
        match &wanted.version {
            _ if to_name.is_some() => to_name,
            Version::All => None,
            Version::Unread => unknown_if(policy.judges_versions()),
            Version::One(version) => {
                let released = self.released(feed, &policy, wanted.protocol, name, version).await;
                policy.to_version(version, released, self.now())
            }
        }
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

    /// Learns which feeds configured names mean, where `feed` may be one of them by another spelling.
    async fn learn_feeds(&self, request: &Request, feed: &FeedRef) {
        let asked = self.asked_feeds(feed);
        // What was learned a while ago is asked for again.
        let may_be = |name: &&FeedName| {
            let one = name.feed();
            let is_guid = one.feed.is_guid() || feed.feed.is_guid();
            asked.unknown.contains(name)
                || one.org == feed.org
                    && one.spelling() != feed.spelling()
                    && (is_guid || one.feed == feed.feed)
        };
        for name in self.guards().feeds().filter(may_be).map(FeedName::feed) {
            self.learn_named(request, name).await;
        }
    }

    /// Which feeds of the configuration `feed` is, by any of its spellings.
    fn asked_feeds(&self, feed: &FeedRef) -> Asked {
        let whole = whole(feed);
        let learned = (feed.key() != feed.spelling()).then(|| feed.whole_key().to_owned());
        let identity = |one: &FeedRef| match &learned {
            Some(learned) if one.spelling() == whole.spelling() => Some(learned.clone()),
            _ => self.known_identity(one),
        };
        let mut asked = Asked { here: Vec::new(), unknown: Vec::new() };
        for name in self.guards().feeds() {
            match same_feed(name.feed(), feed, identity) {
                Same::Yes => asked.here.push(name.clone()),
                Same::Unknown => asked.unknown.push(name.clone()),
                Same::No => {}
            }
        }
        asked
    }
}

// === impl Asked ===

impl Asked {
    /// Whether the configured feed is the one that is asked.
    fn is(&self, feed: &FeedName) -> Option<bool> {
        if self.unknown.contains(feed) { None } else { Some(self.here.contains(feed)) }
    }
}

// === impl Wanted ===

impl Wanted {
    fn all(name: &str, protocol: Protocol) -> Self {
        Self { name: plain(name), protocol, version: Version::All, shown: name.to_owned() }
    }

    fn unknown(&self) -> Objection {
        Objection::Unknown { package: self.shown.clone() }
    }

    /// `None` for what is of no single package.
    fn of_document(document: &Document) -> Option<Self> {
        let (name, protocol, version) = named(document)?;
        let version = version.map_or(Version::All, Version::One);
        Some(Self { version, ..Self::all(&name, protocol) })
    }

    fn of_package(route: &PackageRoute) -> Self {
        let protocol = route.package.protocol();
        let version = match &route.package {
            Package::Npm { name, file } => npm_version(name, file),
            Package::Nuget { version, .. } => Some(version.as_str()),
            Package::ById { .. } => None,
        };
        let version = version.map_or(Version::Unread, |version| Version::One(version.to_owned()));
        Self { name: name_of(&route.subject()), protocol, version, shown: route.key() }
    }
}

/// The package that a subject is; `None` where it may be any.
fn name_of(subject: &Subject) -> Option<String> {
    match subject {
        Subject::Npm(name) => plain(name.as_str()),
        Subject::Nuget(id) => plain(id.as_str()),
        Subject::Nugets | Subject::Feed | Subject::Fixed => None,
    }
}

/// A name that has no other reading: front ends on Windows cut dots off the end of a path segment.
fn plain(name: &str) -> Option<String> {
    (!name.split('/').any(|part| part.ends_with('.'))).then(|| name.to_owned())
}

/// The same feed without its view, with the identity that it has been given.
fn whole(feed: &FeedRef) -> FeedRef {
    let whole = FeedRef::new(feed.org.clone(), feed.project.clone(), feed.feed.clone(), None);
    if feed.key() == feed.spelling() { whole } else { whole.identified(feed.whole_key()) }
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
