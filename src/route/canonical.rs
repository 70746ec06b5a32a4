//! Routes written out again: the one spelling that goes upstream, and the keys under which answers are kept.
//!
//! A path written here is read back as the same route (a property test holds it), and a key is never a path: it
//! starts with [`FeedRef::key`], which has no `/` beyond its own two, then `npm` or `nuget` and a word for the
//! kind, so that no document has the key of another or of a package.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Document, DocumentClass, DocumentRoute, Hive, Package, PackageRoute, PassthroughRoute, Target,
    npm_version,
};
use crate::ident::{FeedRef, Name};

/// What is escaped in a path segment: all but what `encodeURIComponent` leaves alone.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');

// === impl Target ===

impl Target {
    /// Path and query below the organisation, in the one spelling that goes upstream.
    ///
    /// Complete for every method: a publish to a packument's path needs nothing that is not in it.
    pub fn upstream_path(&self) -> String {
        match self {
            Self::Document(route) => route.upstream_path(),
            Self::Package(route) => route.upstream_path(),
            Self::Passthrough(route) => route.upstream_path().to_owned(),
        }
    }

    /// The feed that the path names.
    pub fn feed(&self) -> Option<&FeedRef> {
        match self {
            Self::Document(route) => Some(&route.feed),
            Self::Package(route) => Some(&route.feed),
            Self::Passthrough(route) => route.feed.as_ref(),
        }
    }

    /// Whether the request belongs on the feeds host, else on the pkgs host.
    pub fn is_on_feeds_host(&self) -> bool {
        matches!(self, Self::Passthrough(route) if route.feeds_host)
    }
}

// === impl DocumentRoute ===

impl DocumentRoute {
    /// Path and query below the organisation.
    pub fn upstream_path(&self) -> String {
        format!("{}/{}", feed_path(&self.feed), document_path(&self.document))
    }

    /// The key of the document: the same for every spelling of it, another for every other document or feed.
    pub fn key(&self) -> String {
        format!("{}/{}", self.feed.key(), document_key(&self.document))
    }

    /// The kind of document, for freshness and metrics.
    pub fn class(&self) -> DocumentClass {
        self.document.class()
    }
}

// === impl Document ===

impl Document {
    /// The kind of document, for freshness and metrics.
    pub fn class(&self) -> DocumentClass {
        match self {
            Self::Packument(_) => DocumentClass::Packument,
            Self::ServiceIndex => DocumentClass::ServiceIndex,
            Self::VersionList(_) => DocumentClass::VersionList,
            Self::Nuspec(..) => DocumentClass::Nuspec,
            Self::RegistrationIndex(..) | Self::RegistrationPage(..) | Self::RegistrationLeaf(..) => {
                DocumentClass::Registration
            }
            Self::Search(_) => DocumentClass::Search,
            Self::Vulnerabilities(_) => DocumentClass::Vulnerabilities,
        }
    }
}

// === impl DocumentClass ===

impl DocumentClass {
    /// Every class, for configuration and for registering metrics.
    pub const ALL: [Self; 7] = [
        Self::ServiceIndex,
        Self::Packument,
        Self::VersionList,
        Self::Registration,
        Self::Nuspec,
        Self::Search,
        Self::Vulnerabilities,
    ];

    /// The name in the configuration and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceIndex => "service_index",
            Self::Packument => "packument",
            Self::VersionList => "version_list",
            Self::Registration => "registration",
            Self::Nuspec => "nuspec",
            Self::Search => "search",
            Self::Vulnerabilities => "vulnerabilities",
        }
    }
}

// === impl Hive ===

impl Hive {
    /// The hive's name in a path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SemVer1 => "registrations2",
            Self::SemVer2 => "registrations2-semver2",
        }
    }
}

// === impl PackageRoute ===

impl PackageRoute {
    /// Path below the organisation.
    pub fn upstream_path(&self) -> String {
        let feed = feed_path(&self.feed);
        match &self.package {
            Package::Npm { name, file } => {
                format!("{feed}/npm/registry/{name}/-/{}", utf8_percent_encode(file, SEGMENT))
            }
            Package::Nuget { id, version } => {
                format!("{feed}/nuget/v3/flat2/{id}/{version}/{id}.{version}.nupkg")
            }
        }
    }

    /// The key of the package's bytes in this feed.
    pub fn key(&self) -> String {
        let feed = self.feed.key();
        match &self.package {
            Package::Npm { name, file } => format!("{feed}/npm/tarball/{name}/-/{file}"),
            Package::Nuget { id, version } => format!("{feed}/nuget/nupkg/{id}/{version}"),
        }
    }
}

// === impl Package ===

impl Package {
    /// The version, when it can be told: always for NuGet, for npm if the file is named as the registry names it.
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Npm { name, file } => npm_version(name, file),
            Self::Nuget { version, .. } => Some(version.as_str()),
        }
    }
}

// === impl PassthroughRoute ===

impl PassthroughRoute {
    /// Path and query below the organisation.
    pub fn upstream_path(&self) -> &str {
        &self.path
    }
}

/// `[/{project}]/_packaging/{feed}[@{view}]`.
fn feed_path(feed: &FeedRef) -> String {
    let encode = |name: &Name| utf8_percent_encode(name.as_str(), SEGMENT).to_string();
    let project = feed.project.as_ref().map_or(String::new(), |project| format!("/{}", encode(project)));
    let view = feed.view.as_ref().map_or(String::new(), |view| format!("@{}", encode(view)));
    format!("{project}/_packaging/{}{view}", encode(&feed.feed))
}

/// The part below the feed. Ids, versions and npm names hold nothing that needs an escape.
fn document_path(document: &Document) -> String {
    match document {
        Document::Packument(name) => format!("npm/registry/{}", name.path_segment()),
        Document::ServiceIndex => "nuget/v3/index.json".to_owned(),
        Document::VersionList(id) => format!("nuget/v3/flat2/{id}/index.json"),
        Document::Nuspec(id, version) => format!("nuget/v3/flat2/{id}/{version}/{id}.nuspec"),
        Document::RegistrationIndex(hive, id) => format!("nuget/v3/{}/{id}/index.json", hive.as_str()),
        Document::RegistrationPage(hive, id, lower, upper) => {
            format!("nuget/v3/{}/{id}/page/{lower}/{upper}.json", hive.as_str())
        }
        Document::RegistrationLeaf(hive, id, version) => {
            format!("nuget/v3/{}/{id}/{version}.json", hive.as_str())
        }
        Document::Search(query) if query.is_empty() => "nuget/v3/query2/".to_owned(),
        Document::Search(query) => format!("nuget/v3/query2/?{query}"),
        Document::Vulnerabilities(file) => format!("nuget/v3/vulnerabilities/{file}.json"),
    }
}

fn document_key(document: &Document) -> String {
    match document {
        Document::Packument(name) => format!("npm/packument/{name}"),
        Document::ServiceIndex => "nuget/index".to_owned(),
        Document::VersionList(id) => format!("nuget/versions/{id}"),
        Document::Nuspec(id, version) => format!("nuget/nuspec/{id}/{version}"),
        Document::RegistrationIndex(hive, id) => format!("nuget/{}/{id}/index", hive.as_str()),
        Document::RegistrationPage(hive, id, lower, upper) => {
            format!("nuget/{}/{id}/page/{lower}/{upper}", hive.as_str())
        }
        Document::RegistrationLeaf(hive, id, version) => {
            format!("nuget/{}/{id}/leaf/{version}", hive.as_str())
        }
        Document::Search(query) => format!("nuget/search?{query}"),
        Document::Vulnerabilities(file) => format!("nuget/vulnerabilities/{file}"),
    }
}
