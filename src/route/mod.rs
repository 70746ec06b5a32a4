//! From a request line to a [`Route`]: every spelling that the service accepts ends in one value.
//!
//! Pure: no I/O, no clock, no configuration. A request that is not recognised is passed through as it is;
//! one whose path escapes, double-encodes or is not UTF-8 is refused.
//!
//! A route says what is addressed, and the handler decides what a GET, HEAD, PUT or DELETE of it means (a PUT to a
//! packument's path is a publish). The method is asked only where one path means two things: a PATCH of
//! `npm/{name}/versions/{version}/content` is one of the path without `/content` (seed 000), and
//! `v2/package/{id}/{version}` is a download or a deletion. The `Accept` header chooses a representation of what
//! is addressed, and for REST the version of the API: [`Target::negotiate`].
//!
//! `path` takes the target apart and refuses what no grammar may see, `place` reads the prefix up to the feed, and
//! one file for each grammar reads what follows: `npm`, `nuget`, `odata` (NuGet v2), `rest` and `feeds`. `value` has
//! the rules for GUIDs, names and versions in them, `api_version` those of REST's versions. `canonical` writes routes
//! out again; `effect` says what a write changes and which methods a route has.

mod api_version;
mod canonical;
mod collections;
mod effect;
mod feeds;
#[cfg(test)]
mod generous;
mod key;
mod mount;
mod npm;
mod nuget;
mod odata;
mod path;
mod place;
#[cfg(test)]
mod properties;
mod query;
mod rest;
#[cfg(test)]
mod tests;
mod value;

use http::Method;
use percent_encoding::percent_decode_str;

use self::{
    path::{CanonicalPath, Rule, Segment},
    place::{Found, Organisation, Place, Reading, Tree, Unread},
};
use crate::ident::{FeedRef, Name, NpmName, NugetId, NugetVersion};

pub use self::{
    collections::Collections,
    effect::{Effect, Subject},
    key::ObjectKey,
    mount::{MountPaths, Mounted},
    npm::npm_version,
};

/// How the request named the organisation; decides what the gate's own URLs look like in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostStyle {
    /// `http://gate/{org}/…`, or Host `pkgs.dev.azure.com` / `feeds.dev.azure.com` with the same path.
    Path,
    /// Host is `{org}.pkgs.visualstudio.com` or `{org}.feeds.visualstudio.com` (DNS override).
    Subdomain,
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// How the organisation was named.
    pub style: HostStyle,
    /// The organisation.
    pub org: Name,
    /// What is asked of it.
    pub target: Target,
}

/// What is asked of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A metadata document that may be cached.
    Document(DocumentRoute),
    /// The bytes of one package version.
    Package(PackageRoute),
    /// What npm's registry has and the service lacks: made from the packument, or of the verdict.
    Derived(DerivedRoute),
    /// A question about known vulnerabilities (`npm audit`).
    Audit(AuditRoute),
    /// Anything else: sent on and never stored.
    Passthrough(PassthroughRoute),
}

/// A cacheable document of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DocumentRoute {
    /// Whose.
    pub feed: FeedRef,
    /// Which.
    pub document: Document,
}

/// The documents that may be cached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Document {
    /// `npm/registry/{name}`.
    Packument(NpmName),
    /// `nuget/v3/index.json`.
    ServiceIndex,
    /// `nuget/v3/flat2/{id}/index.json`.
    VersionList(NugetId),
    /// `nuget/v3/flat2/{id}/{version}/{id}.nuspec`.
    Nuspec(NugetId, NugetVersion),
    /// `nuget/v3/registrations2[-semver2]/{id}/index.json`.
    RegistrationIndex(Hive, NugetId),
    /// `…/{id}/page/{lower}/{upper}.json`.
    RegistrationPage(Hive, NugetId, NugetVersion, NugetVersion),
    /// `…/{id}/{version}.json`.
    RegistrationLeaf(Hive, NugetId, NugetVersion),
    /// `nuget/v3/query2/?{query}`; the query without the `?`, order and repeats as sent, escapes in one spelling.
    Search(String),
    /// `nuget/v3/vulnerabilities/{file}.json`; the file's name without `.json`, lower-cased.
    Vulnerabilities(String),
    /// NuGet v2, below `nuget/v2/`.
    Odata(Odata),
    /// A document of the REST API.
    Rest(Rest),
}

/// A document of NuGet v2 (`OData`, facts §4.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Odata {
    /// Which.
    pub resource: OdataResource,
    /// The query without the `?`, order and repeats as sent, escapes in one spelling; without the parameters that
    /// `resource` holds.
    pub query: String,
}

/// The resources of NuGet v2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OdataResource {
    /// `v2/`: the list of entity sets.
    Service,
    /// `v2/$metadata`.
    Metadata,
    /// `v2/Packages(Id='…',Version='…')`.
    Entry(NugetId, NugetVersion),
    /// `v2/FindPackagesById()?id='…'`.
    Versions(NugetId),
    /// `v2/Packages`, `v2/Packages()`, with a filter in the query; or how many there are, `…/$count`.
    Packages {
        /// Only their number.
        count: bool,
    },
    /// `v2/Search()`; or how many are found, `…/$count`.
    Search {
        /// Only their number.
        count: bool,
    },
}

/// A document of the REST API about a feed or something in it (facts §5.2, §5.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rest {
    /// Whether it belongs on the feeds host, else on the pkgs host.
    pub feeds_host: bool,
    /// What of the feed it tells of.
    pub subject: Subject,
    /// Path below `_apis/packaging/feeds/{feed}`, percent-encoded, literals in lower case, without slashes at its
    /// ends; empty for the feed itself.
    pub path: String,
    /// The query without the `?` and without `api-version`, order and repeats as sent, escapes in one spelling.
    pub query: String,
    /// The version of the API that the query asks for, or else the `Accept` header (facts §5.1), lower case.
    pub api_version: Option<String>,
    /// What comes back.
    pub format: Format,
}

/// What a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON.
    Json,
    /// XML.
    Xml,
    /// Text for people (a readme), or a bare number; it is not looked into.
    Text,
}

/// Kinds of documents: each has its own freshness in the configuration and its own metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentClass {
    /// NuGet's service index.
    ServiceIndex,
    /// npm's packument.
    Packument,
    /// NuGet's list of versions of one id.
    VersionList,
    /// NuGet's registration index, page or leaf.
    Registration,
    /// NuGet's nuspec of one version.
    Nuspec,
    /// NuGet's search.
    Search,
    /// NuGet's vulnerability files.
    Vulnerabilities,
    /// NuGet v2 entries and lists; its searches count as [`DocumentClass::Search`].
    Odata,
    /// REST of the pkgs host: one version, its readme.
    Rest,
    /// REST of the feeds host: feed, views, packages, versions.
    Feeds,
}

/// Which registration hive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hive {
    /// `registrations2`.
    SemVer1,
    /// `registrations2-semver2`.
    SemVer2,
}

/// The bytes of one package version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PackageRoute {
    /// Whose.
    pub feed: FeedRef,
    /// Which.
    pub package: Package,
}

/// A package version and its file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Package {
    /// `npm/registry/{name}/-/{file}`; the file as written, it holds the version.
    Npm {
        /// Package name.
        name: NpmName,
        /// File name, e.g. `left-pad-1.3.0.tgz`.
        file: String,
    },
    /// `nuget/v3/flat2/{id}/{version}/{id}.{version}.nupkg`.
    Nuget {
        /// Package id.
        id: NugetId,
        /// Package version.
        version: NugetVersion,
    },
    /// `_apis/packaging/feeds/{feed}/{npm|nuget}/packages/{package}/versions/{version}/content` where the package or
    /// the version is named by a GUID, so that the protocol's own route cannot be told. With names it is one of
    /// the above.
    ById {
        /// Which protocol.
        protocol: Protocol,
        /// Name or GUID; a GUID and a NuGet id in lower case.
        package: String,
        /// Version or GUID; a GUID in lower case.
        version: String,
    },
}

/// The package protocols whose packages are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// npm.
    Npm,
    /// NuGet.
    Nuget,
}

/// A question that npm's registry answers and the service does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DerivedRoute {
    /// Whose.
    pub feed: FeedRef,
    /// Which.
    pub derived: Derived,
}

/// What is made from a packument, or of the verdict (issue list of facts §3, §9.17).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Derived {
    /// `npm/registry/{name}/{version or tag}`.
    Manifest(NpmName, String),
    /// `npm/registry/-/package/{name}/dist-tags`.
    DistTags(NpmName),
    /// `npm/registry/-/package/{name}/dist-tags/{tag}`: the tag is written to.
    DistTag(NpmName, String),
    /// `npm/registry/-/ping`.
    Ping,
    /// `npm/registry/-/whoami`.
    Whoami,
}

/// `npm/registry/-/npm/v1/security/…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuditRoute {
    /// Whose.
    pub feed: FeedRef,
    /// Which form of the question.
    pub audit: Audit,
}

/// The forms of `npm audit`'s question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audit {
    /// `advisories/bulk`: names and versions.
    Bulk,
    /// `audits/quick`: a dependency tree.
    Quick,
    /// `audits`: the same for a full report.
    Full,
}

/// A request that is sent on as it came, but for `DefaultCollection`, empty segments and raw bytes that no URI has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PassthroughRoute {
    /// The feed, when the path names one.
    pub feed: Option<FeedRef>,
    /// Whether it belongs on the feeds host (`_apis/packaging/Feeds`, `feedchanges`), else on the pkgs host.
    pub feeds_host: bool,
    /// Path and query below the organisation, percent-encoded as it came, `DefaultCollection` removed.
    pub path: String,
    /// What of the feed a write there may change.
    pub subject: Subject,
    /// The protocol of the packages that it may be about, below that protocol's own routes or as bytes. Read off the
    /// words of the path alone, so it may be there without a feed.
    pub protocol: Option<Protocol>,
}

/// Why a request line is refused; always the client's mistake (400).
///
/// The path is shown without its query, cut to 200 characters and with control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The path has a dot segment, an encoded slash where none may be, a backslash or a control character; or
    /// the query has a control character.
    #[error("path `{0}` leaves its place: {1}")]
    Escape(String, &'static str),
    /// The path has a `%` that starts no escape, a doubly encoded character or a fragment; path or query are
    /// not UTF-8; or the authority of an absolute form holds user information (RFC 9110 §4.2.4).
    #[error("path `{0}` is badly encoded: {1}")]
    Encoding(String, &'static str),
    /// A name, version or GUID in the path or query is not valid; with the value and the rule that it breaks.
    #[error("path `{0}`: {1}")]
    Name(String, String),
    /// Neither the Host nor the path's first segment is the name of an organisation.
    #[error("path `{0}` names no organisation")]
    NoOrganisation(String),
}

/// Reads a Host and a request target in origin form (`/path?query`) or absolute form (`http://host/path?query`),
/// whose authority then replaces `host` (RFC 9112 §3.2.2), as what a GET or HEAD of it addresses.
///
/// # Errors
/// [`RouteError`], when the target could be read in more than one way, names no organisation, or holds a value that
/// what it addresses can't have.
pub fn parse(host: Option<&str>, target: &str) -> Result<Route, RouteError> {
    parse_for(&Collections::default(), &Method::GET, host, target)
}

/// The same for any method, where the first segment may be one of `collections`, with or without their directory
/// before it.
///
/// # Errors
/// As [`parse`].
pub fn parse_for(
    collections: &Collections,
    method: &Method,
    host: Option<&str>,
    target: &str,
) -> Result<Route, RouteError> {
    let Some((authority, rest)) = path::split_authority(target) else {
        return Err(RouteError::NoOrganisation(path::shown(target.split('?').next().unwrap_or_default())));
    };
    let path = CanonicalPath::parse(rest)?;
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(path.refuse(Rule::Encoding("the authority holds user information")));
    }
    let organisation = Organisation::find(collections, authority.or(host), &path)?;
    let place = Place::find(method, &path, &organisation)?;
    let target = target_of(&path, &organisation, place)?;
    Ok(Route { style: organisation.style, org: organisation.name, target })
}

impl PassthroughRoute {
    /// What the path addresses without its query, where that is recognised.
    pub fn without_query(&self) -> Option<Target> {
        let (feed, (path, _)) = (self.feed.as_ref()?, self.path.split_once('?')?);
        let mut target = parse(None, &format!("/{}{path}", feed.org)).ok()?.target;
        if matches!(target, Target::Passthrough(_)) {
            return None;
        }
        feed.clone_into(target.feed_mut()?);
        Some(target)
    }

    /// Whether it is for packages of any names below npm's registry: `-/v1/search` or `-/all`.
    pub fn is_npm_search(&self) -> bool {
        let path = percent_decode_str(self.path.split('?').next().unwrap_or_default()).decode_utf8_lossy();
        let words: Vec<&str> = path.split('/').collect();
        self.protocol == Some(Protocol::Npm)
            && self.subject == Subject::Fixed
            && words.windows(2).any(|pair| pair[0] == "-" && matches!(pair[1], "all" | "v1"))
    }

    /// Whether npm asks so for what it is going to write back (`?write=true`).
    pub fn is_before_a_write(&self) -> bool {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        query::parameters(query) == ["write=true"]
    }
}

fn target_of(
    path: &CanonicalPath<'_>,
    organisation: &Organisation,
    place: Place<'_, '_>,
) -> Result<Target, RouteError> {
    // The host counts where the path does not tell: a client that started at one of the service's hosts has every
    // URL rewritten to that one.
    let feeds_host = matches!(place.tree, Tree::Feeds | Tree::FeedsOther)
        || organisation.feeds_host && place.tree == Tree::Other;
    let found = match if feeds_host { feeds::recognise(&place) } else { recognise(&place) } {
        Err(Unread::Malformed(reason)) => return Err(path.refuse_name(&reason)),
        Err(Unread::Unknown) => Found::Other(Subject::Feed),
        Ok(found) => found,
    };
    Ok(match (found, place.feed) {
        (Found::Document(document), Some(feed)) => Target::Document(DocumentRoute { feed, document }),
        (Found::Package(package), Some(feed)) => Target::Package(PackageRoute { feed, package }),
        (Found::Derived(derived), Some(feed)) => Target::Derived(DerivedRoute { feed, derived }),
        (Found::Audit(audit), Some(feed)) => Target::Audit(AuditRoute { feed, audit }),
        (found, feed) => {
            let (written, protocol) = (path.written_from(organisation.below), protocol_of(path));
            let subject = if let Found::Other(subject) = found { subject } else { Subject::Feed };
            Target::Passthrough(PassthroughRoute { feed, feeds_host, path: written, subject, protocol })
        }
    })
}

/// The protocol of the packages that an unknown path may be about.
fn protocol_of(path: &CanonicalPath<'_>) -> Option<Protocol> {
    let bytes = path.segments.last().is_some_and(|last| last.is("content"));
    let is_place = |word: &Segment<'_>| word.is("_packaging") || (bytes && word.is("feeds"));
    let at = path.segments.windows(4).position(|part| is_place(&part[0]) && !part[3].is("registry"));
    let at = at.or_else(|| path.segments.windows(5).position(|part| is_place(&part[0])))?;
    let word = path.segments.get(at + 2)?;
    [("npm", Protocol::Npm), ("nuget", Protocol::Nuget)]
        .into_iter()
        .find_map(|(own, protocol)| word.is(own).then_some(protocol))
}

/// Hands the segments below a feed's protocol to that protocol's grammar.
fn recognise(place: &Place<'_, '_>) -> Reading {
    let (protocol, tail) = place.tail.split_first().ok_or(Unread::Unknown)?;
    match (place.tree, protocol.text.to_ascii_lowercase().as_str()) {
        (Tree::Rest, "npm") => rest::npm(tail, place),
        (Tree::Rest, "nuget") => rest::nuget(tail, place),
        (Tree::Protocol, "npm") => npm::recognise(tail, place),
        (Tree::Protocol, "nuget") => nuget::recognise(tail, place),
        _ => Err(Unread::Unknown),
    }
}
