//! From a request line to a [`Route`]: every spelling that the service accepts ends in one value.
//!
//! Pure: no I/O, no clock, no configuration. A request that is not recognised is passed through as it is;
//! one whose path escapes, double-encodes or is not UTF-8 is refused.

use crate::ident::{FeedRef, Name, NpmName, NugetId, NugetVersion};

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

/// The documents of the npm and NuGet v3 protocols that may be cached.
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
    /// `nuget/v3/query2/?{query}`; the query, kept as it was sent (without the `?`).
    Search(String),
    /// `nuget/v3/vulnerabilities/{file}.json`; the file's name without `.json`.
    Vulnerabilities(String),
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
}

/// A request that is sent on as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PassthroughRoute {
    /// The feed, when the path names one.
    pub feed: Option<FeedRef>,
    /// Whether it belongs on the feeds host (`_apis/packaging/Feeds`, `feedchanges`), else on the pkgs host.
    pub feeds_host: bool,
    /// Path and query below the organisation, percent-encoded as it came, `DefaultCollection` removed.
    pub path: String,
}

/// Why a request line is refused; always the client's mistake (400).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The path has `..`, an encoded slash or dot segment where none may be, a NUL or a control character.
    #[error("path `{0}` leaves its place: {1}")]
    Escape(String, &'static str),
    /// A `%` that starts no valid escape, a doubly encoded character, or bytes that are not UTF-8.
    #[error("path `{0}` is badly encoded: {1}")]
    Encoding(String, &'static str),
    /// A name in the path is not valid.
    #[error("path `{0}`: {1}")]
    Name(String, String),
    /// The path does not begin with an organisation.
    #[error("path `{0}` names no organisation")]
    NoOrganisation(String),
}
