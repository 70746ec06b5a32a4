//! Routes written out again: the one spelling that goes upstream, and the keys under which answers are kept.
//!
//! A path written here is read back as the same route (a property test holds it), and a key is never a path: it
//! starts with [`FeedRef::key`], which has no `/` beyond its own two, then `npm`, `nuget` or `rest` and a word for
//! the kind, so that no document has the key of another or of a package.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Audit, AuditRoute, Derived, DerivedRoute, Document, DocumentClass, DocumentRoute, Format, Hive, Odata,
    OdataResource, Package, PackageRoute, PassthroughRoute, Protocol, Rest, Target, npm_version,
};
use crate::ident::{FeedRef, Name};

/// What is escaped in a path segment: all but what `encodeURIComponent` leaves alone.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');
/// The same in REST paths, where a scoped npm name is two segments (facts §5.2).
const REST_SEGMENT: &AsciiSet = &SEGMENT.remove(b'/').remove(b'@');

// === impl Target ===

impl Target {
    /// Path and query below the organisation, in the one spelling that goes upstream.
    ///
    /// Complete for every method: a publish to a packument's path needs nothing that is not in it.
    pub fn upstream_path(&self) -> String {
        match self {
            Self::Document(route) => route.upstream_path(),
            Self::Package(route) => route.upstream_path(),
            Self::Derived(route) => route.upstream_path(),
            Self::Audit(route) => route.upstream_path(),
            Self::Passthrough(route) => route.upstream_path().to_owned(),
        }
    }

    /// The feed that the path names.
    pub fn feed(&self) -> Option<&FeedRef> {
        match self {
            Self::Document(route) => Some(&route.feed),
            Self::Package(route) => Some(&route.feed),
            Self::Derived(route) => Some(&route.feed),
            Self::Audit(route) => Some(&route.feed),
            Self::Passthrough(route) => route.feed.as_ref(),
        }
    }

    /// The same, to be identified.
    pub fn feed_mut(&mut self) -> Option<&mut FeedRef> {
        match self {
            Self::Document(route) => Some(&mut route.feed),
            Self::Package(route) => Some(&mut route.feed),
            Self::Derived(route) => Some(&mut route.feed),
            Self::Audit(route) => Some(&mut route.feed),
            Self::Passthrough(route) => route.feed.as_mut(),
        }
    }

    /// Whether the request belongs on the feeds host, else on the pkgs host.
    pub fn is_on_feeds_host(&self) -> bool {
        match self {
            Self::Document(route) => route.is_on_feeds_host(),
            Self::Passthrough(route) => route.feeds_host,
            Self::Package(_) | Self::Derived(_) | Self::Audit(_) => false,
        }
    }
}

// === impl DocumentRoute ===

impl DocumentRoute {
    /// Path and query below the organisation.
    pub fn upstream_path(&self) -> String {
        match &self.document {
            Document::Rest(rest) => rest_path(&self.feed, rest),
            document => format!("{}/{}", feed_path(&self.feed), document_path(document)),
        }
    }

    /// The part of the path up to the feed, `[/{project}]/_packaging/{feed}[@{view}]`, as URLs in the service's
    /// npm and v2 documents repeat it (facts §3.1, §4.3).
    pub fn feed_path(&self) -> String {
        feed_path(&self.feed)
    }

    /// Whether the document is on the feeds host.
    pub fn is_on_feeds_host(&self) -> bool {
        matches!(&self.document, Document::Rest(rest) if rest.feeds_host)
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
            Self::Search(_)
            | Self::Odata(Odata {
                resource: OdataResource::Search { .. } | OdataResource::Packages { .. },
                ..
            }) => DocumentClass::Search,
            Self::Vulnerabilities(_) => DocumentClass::Vulnerabilities,
            Self::Odata(_) => DocumentClass::Odata,
            Self::Rest(rest) if rest.feeds_host => DocumentClass::Feeds,
            Self::Rest(_) => DocumentClass::Rest,
        }
    }

    /// What the document is written in.
    pub fn format(&self) -> Format {
        match self {
            Self::Odata(Odata {
                resource: OdataResource::Search { count: true } | OdataResource::Packages { count: true },
                ..
            }) => Format::Text,
            Self::Nuspec(..) | Self::Odata(_) => Format::Xml,
            Self::Rest(rest) => rest.format,
            Self::Packument(_)
            | Self::ServiceIndex
            | Self::VersionList(_)
            | Self::RegistrationIndex(..)
            | Self::RegistrationPage(..)
            | Self::RegistrationLeaf(..)
            | Self::Search(_)
            | Self::Vulnerabilities(_) => Format::Json,
        }
    }

    /// Whether URLs in the document repeat the spelling of the feed in the request (facts §3.1, §4.3); those in
    /// others name it by its GUIDs.
    pub fn repeats_spelling(&self) -> bool {
        matches!(self, Self::Packument(_) | Self::Odata(_))
    }
}

// === impl DocumentClass ===

impl DocumentClass {
    /// Every class, for configuration and for registering metrics.
    pub const ALL: [Self; 10] = [
        Self::ServiceIndex,
        Self::Packument,
        Self::VersionList,
        Self::Registration,
        Self::Nuspec,
        Self::Search,
        Self::Vulnerabilities,
        Self::Odata,
        Self::Rest,
        Self::Feeds,
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
            Self::Odata => "odata",
            Self::Rest => "rest",
            Self::Feeds => "feeds",
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
            Package::ById { protocol, package, version } => {
                let (package, version) = (rest_segment(package), rest_segment(version));
                let rest = format!("{}/packages/{package}/versions/{version}/content", protocol.as_str());
                format!("{}/{rest}", rest_feed_path(&self.feed))
            }
        }
    }

    /// The key of the package's bytes in this feed.
    pub fn key(&self) -> String {
        let feed = self.feed.key();
        match &self.package {
            Package::Npm { name, file } => format!("{feed}/npm/tarball/{name}/-/{file}"),
            Package::Nuget { id, version } => format!("{feed}/nuget/nupkg/{id}/{version}"),
            Package::ById { protocol, package, version } => {
                format!("{feed}/{}/content/{package}/-/{version}", protocol.as_str())
            }
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
            Self::ById { .. } => None,
        }
    }

    /// Which protocol the package is of.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Npm { .. } => Protocol::Npm,
            Self::Nuget { .. } => Protocol::Nuget,
            Self::ById { protocol, .. } => *protocol,
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// Its word in paths and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Nuget => "nuget",
        }
    }
}

// === impl DerivedRoute ===

impl DerivedRoute {
    /// Path below the organisation.
    pub fn upstream_path(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let below = match &self.derived {
            Derived::Manifest(name, spec) => format!("{}/{}", name.path_segment(), encode(spec)),
            Derived::DistTags(name) => format!("-/package/{}/dist-tags", name.path_segment()),
            Derived::DistTag(name, tag) => {
                format!("-/package/{}/dist-tags/{}", name.path_segment(), encode(tag))
            }
            Derived::Ping => "-/ping".to_owned(),
            Derived::Whoami => "-/whoami".to_owned(),
        };
        format!("{}/npm/registry/{below}", feed_path(&self.feed))
    }
}

// === impl AuditRoute ===

impl AuditRoute {
    /// Path below the organisation.
    pub fn upstream_path(&self) -> String {
        format!("{}/npm/registry/{}", feed_path(&self.feed), self.audit.path())
    }
}

// === impl Audit ===

impl Audit {
    /// Path below a registry, without a slash before it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Bulk => "-/npm/v1/security/advisories/bulk",
            Self::Quick => "-/npm/v1/security/audits/quick",
            Self::Full => "-/npm/v1/security/audits",
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

/// `[/{project}]/_apis/packaging/feeds/{feed}[@{view}]`.
fn rest_feed_path(feed: &FeedRef) -> String {
    feed_path(feed).replacen("/_packaging/", "/_apis/packaging/feeds/", 1)
}

/// A view in a REST path: lower case, since the service compares names without it (facts §2).
pub(super) fn view_segment(view: &Name) -> String {
    utf8_percent_encode(view.folded(), SEGMENT).to_string()
}

/// A segment of a REST path, or a scoped npm name, which is two.
pub(super) fn rest_segment(text: &str) -> String {
    utf8_percent_encode(text, REST_SEGMENT).to_string()
}

fn rest_path(feed: &FeedRef, rest: &Rest) -> String {
    let slash = if rest.path.is_empty() { "" } else { "/" };
    let version = rest.api_version.as_ref().map(|version| format!("api-version={version}"));
    let query: Vec<String> =
        Some(rest.query.clone()).filter(|query| !query.is_empty()).into_iter().chain(version).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{slash}{}{mark}{}", rest_feed_path(feed), rest.path, query.join("&"))
}

fn odata_path(odata: &Odata) -> String {
    let (resource, first) = match &odata.resource {
        OdataResource::Service => (String::new(), None),
        OdataResource::Metadata => ("$metadata".to_owned(), None),
        OdataResource::Entry(id, version) => (format!("Packages(Id='{id}',Version='{version}')"), None),
        OdataResource::Versions(id) => ("FindPackagesById()".to_owned(), Some(format!("id='{id}'"))),
        OdataResource::Packages { count } => (format!("Packages(){}", count_path(*count)), None),
        OdataResource::Search { count } => (format!("Search(){}", count_path(*count)), None),
    };
    let query: Vec<String> =
        first.into_iter().chain(Some(odata.query.clone()).filter(|query| !query.is_empty())).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("nuget/v2/{resource}{mark}{}", query.join("&"))
}

fn count_path(count: bool) -> &'static str {
    if count { "/$count" } else { "" }
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
        Document::Odata(odata) => odata_path(odata),
        Document::Rest(rest) => rest.path.clone(),
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
        Document::Odata(odata) => odata_path(odata).replacen("nuget/v2/", "nuget/v2:", 1),
        Document::Rest(rest) => {
            let host = if rest.feeds_host { "feeds" } else { "pkgs" };
            let version = rest.api_version.as_deref().unwrap_or_default();
            format!("rest/{host}/{version}/{}?{}", rest.path, rest.query)
        }
    }
}
