//! What a write changes, read off its path and method: the least that must be dropped so that no read after it is old.
//!
//! Where a path is not known well enough, more is dropped: a package named by a GUID may be any of its feed, an
//! unknown route may change all of it.

use http::Method;

use super::{
    Derived, Document, DocumentRoute, OdataResource, Package, PackageRoute, PassthroughRoute, Target,
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
    /// As a document's: nothing that a write to packages changes. No write's.
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
        let deletes = *method == Method::DELETE;
        match self {
            Self::Audit(_) => None,
            Self::Document(DocumentRoute { feed, document }) => {
                let push =
                    matches!(document, Document::Odata(odata) if odata.resource == OdataResource::Service);
                let subject = match document.subject() {
                    Subject::Fixed if push => Subject::Nugets,
                    Subject::Fixed => Subject::Feed,
                    subject => subject,
                };
                let whole_feed =
                    matches!(document, Document::Rest(rest) if rest.feeds_host && rest.path.is_empty());
                Some(Effect { feed: Some(feed.clone()), subject, bytes: deletes, identity: whole_feed })
            }
            Self::Package(PackageRoute { feed, package }) => {
                let subject = package.subject();
                Some(Effect { feed: Some(feed.clone()), subject, bytes: deletes, identity: false })
            }
            Self::Derived(route) => {
                let subject = match &route.derived {
                    Derived::Manifest(name, _) | Derived::DistTags(name) | Derived::DistTag(name, _) => {
                        Subject::Npm(name.clone())
                    }
                    Derived::Ping | Derived::Whoami => Subject::Feed,
                };
                Some(Effect { feed: Some(route.feed.clone()), subject, bytes: false, identity: false })
            }
            Self::Passthrough(PassthroughRoute { feed, subject, feeds_host, .. }) => Some(Effect {
                feed: feed.clone(),
                subject: subject.clone(),
                bytes: true,
                identity: *feeds_host,
            }),
        }
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
    /// What of a feed the bytes are of; one that is named by a GUID may be of anything.
    fn subject(&self) -> Subject {
        match self {
            Self::Npm { name, .. } => Subject::Npm(name.clone()),
            Self::Nuget { id, .. } => Subject::Nuget(id.clone()),
            Self::ById { .. } => Subject::Feed,
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
}
