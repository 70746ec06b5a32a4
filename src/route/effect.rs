//! What a write changes, read off its path and method: the least that must be dropped so that no read after it is old.
//!
//! Where a path is not known well enough, more is dropped: a package named by a GUID may be any of its feed, an
//! unknown route may change all of it.

#[cfg(test)]
mod tests;

use http::Method;

use super::{
    Derived, Document, DocumentRoute, Format, OdataResource, Package, PackageRoute, PassthroughRoute,
    Protocol, Rest, Target,
    value::{Named, npm_package, nuget_package},
};
use crate::ident::{FeedRef, NpmName, NugetId};

/// What of a feed a document tells of, or a write changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One npm package. As a write's: the feed's listings and searches too.
    Npm(NpmName),
    /// One NuGet package. As a write's: the feed's listings and searches too.
    Nuget(NugetId),
    /// All NuGet packages and the listings. As a write's: a push, which says only in its body what it pushes.
    Nugets,
    /// As a document's: a listing, a search, or a package named by a GUID. As a write's: anything in the feed.
    Feed,
    /// As a document's: nothing that a write to packages changes. As that of a request passed through: nothing that
    /// is kept, whatever its method (a login, metrics asked for with POST). No write's.
    Fixed,
}

/// What a write changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The feed; `None` for a write to the organisation as such.
    pub feed: Option<FeedRef>,
    /// What of it.
    pub subject: Subject,
    /// Whether versions may be gone (or back), so that which bytes a version has must be asked again.
    pub bytes: bool,
    /// Whether the feed itself may be renamed or gone.
    pub identity: bool,
}

/// `Allow` of what is only read.
const READ: &str = "GET, HEAD";

/// Methods that change nothing (RFC 9110 §9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

// === impl Target ===

impl Target {
    /// What a request with `method` changes; `None` when it only reads.
    pub fn effect(&self, method: &Method) -> Option<Effect> {
        if is_safe(method) {
            return None;
        }
        match self {
            Self::Document(route) => Some(route.effect(method)),
            Self::Package(PackageRoute { feed, package }) => {
                Some(Effect::of(feed, package.subject(), *method == Method::DELETE))
            }
            Self::Derived(route) => Some(Effect::of(&route.feed, route.derived.subject()?, false)),
            Self::Audit(_) | Self::Passthrough(PassthroughRoute { subject: Subject::Fixed, .. }) => None,
            Self::Passthrough(PassthroughRoute { feed, subject, feeds_host, .. }) => Some(Effect {
                feed: feed.clone(),
                subject: subject.clone(),
                bytes: true,
                identity: *feeds_host,
            }),
        }
    }

    /// The methods of what is known, for a 405's `Allow` (RFC 9110 §15.5.6); `None` where only the service
    /// knows them.
    pub fn allow(&self) -> Option<&'static str> {
        match self {
            Self::Document(route) => Some(route.document.allow()),
            Self::Package(_) => Some(READ),
            Self::Derived(route) => Some(match route.derived {
                Derived::Manifest(..) | Derived::Ping | Derived::Whoami => READ,
                Derived::DistTags(_) => "GET, HEAD, PUT, POST",
                Derived::DistTag(..) => "GET, HEAD, PUT, POST, DELETE",
            }),
            Self::Audit(_) => Some("POST"),
            Self::Passthrough(_) => None,
        }
    }
}

// === impl DocumentRoute ===

impl DocumentRoute {
    /// A PATCH in REST can take a version out of a view, or an upstream out of a feed, so it counts as a removal.
    fn effect(&self, method: &Method) -> Effect {
        let subject = match self.document.subject() {
            Subject::Fixed if self.document.is_push_target() => Subject::Nugets,
            Subject::Fixed => Subject::Feed,
            subject => subject,
        };
        let rest = if let Document::Rest(rest) = &self.document { Some(rest) } else { None };
        let bytes = *method == Method::DELETE || (rest.is_some() && *method == Method::PATCH);
        let identity = rest.is_some_and(Rest::tells_names);
        Effect { identity, ..Effect::of(&self.feed, subject, bytes) }
    }
}

// === impl Effect ===

impl Effect {
    fn of(feed: &FeedRef, subject: Subject, bytes: bool) -> Self {
        Self { feed: Some(feed.clone()), subject, bytes, identity: false }
    }
}

// === impl PackageRoute ===

impl PackageRoute {
    /// What of the feed the bytes are of.
    pub fn subject(&self) -> Subject {
        self.package.subject()
    }
}

// === impl Package ===

impl Package {
    /// What of a feed the bytes are of; a package that is named by a GUID may be any.
    fn subject(&self) -> Subject {
        match self {
            Self::Npm { name, .. } => Subject::Npm(name.clone()),
            Self::Nuget { id, .. } => Subject::Nuget(id.clone()),
            Self::ById { protocol, package, .. } => match protocol {
                Protocol::Npm => npm_package(None, package).map_or(Subject::Feed, Named::npm_subject),
                Protocol::Nuget => nuget_package(package).map_or(Subject::Feed, Named::nuget_subject),
            },
        }
    }
}

// === impl Derived ===

impl Derived {
    /// The package that the answer tells of; `None` when it tells of the caller.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Self::Manifest(name, _) | Self::DistTags(name) | Self::DistTag(name, _) => {
                Some(Subject::Npm(name.clone()))
            }
            Self::Ping | Self::Whoami => None,
        }
    }
}

// === impl Document ===

impl Document {
    /// What of the feed the document tells of.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Packument(name) => Subject::Npm(name.clone()),
            Self::ServiceIndex | Self::Vulnerabilities(_) => Subject::Fixed,
            Self::VersionList(id)
            | Self::Nuspec(id, _)
            | Self::RegistrationIndex(_, id)
            | Self::RegistrationPage(_, id, ..)
            | Self::RegistrationLeaf(_, id, _) => Subject::Nuget(id.clone()),
            Self::Search(_) => Subject::Feed,
            Self::Odata(odata) => match &odata.resource {
                OdataResource::Service | OdataResource::Metadata => Subject::Fixed,
                OdataResource::Entry(id, _) | OdataResource::Versions(id) => Subject::Nuget(id.clone()),
                OdataResource::Packages { .. } | OdataResource::Search { .. } => Subject::Feed,
            },
            Self::Rest(rest) => rest.subject.clone(),
        }
    }

    /// Whether NuGet packages are pushed to it: `PUT v2/`.
    fn is_push_target(&self) -> bool {
        matches!(self, Self::Odata(odata) if odata.resource == OdataResource::Service)
    }

    fn allow(&self) -> &'static str {
        match self {
            Self::Packument(_) => "GET, HEAD, PUT",
            Self::Rest(rest) => rest.allow(),
            document if document.is_push_target() => "GET, HEAD, PUT",
            _ => READ,
        }
    }
}

// === impl Rest ===

impl Rest {
    /// Whether the name of the feed or of a view of it is in the document, so that a write may rename or remove one.
    fn tells_names(&self) -> bool {
        self.feeds_host && matches!(self.path.split('/').next(), Some("" | "views"))
    }

    fn allow(&self) -> &'static str {
        match (self.feeds_host, self.format, self.path.as_str()) {
            (true, _, "views") => "GET, HEAD, POST",
            (true, _, _) if self.tells_names() => "GET, HEAD, PATCH, DELETE",
            (true, _, _) | (false, Format::Xml | Format::Text, _) => READ,
            (false, Format::Json, _) => "GET, HEAD, PATCH, DELETE",
        }
    }
}
