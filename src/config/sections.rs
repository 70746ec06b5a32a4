//! The typed sections of the configuration and their defaults, each with its reason.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    egress::Proxy, keys::Keys, store, store::StoreSettings, text_enum::text_enum, upstream::Upstream,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// `[listen]`: where clients reach the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 takes a free one. Loopback by default: private packages behind it.
    pub address: SocketAddr,
    /// Scheme, host and port that clients use, when it is not what their `Host` header says (behind a TLS
    /// terminator or a rename), e.g. `https://packages.example.com`.
    pub public_url: Option<PublicUrl>,
    /// Threads that serve requests; 0 is one for each core.
    pub threads: usize,
    /// Longest time that stopping waits for requests in progress.
    pub drain_timeout: Duration,
    /// Largest body of a request, in bytes. The service takes files of 500 MiB (facts §7.3), and npm publishes a
    /// file in base64 inside of a JSON document: 4/3 of its size, 667 MiB, and the package's metadata beside it.
    pub max_body: u64,
}

/// An origin: scheme, host and optional port, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// How long one class of documents is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Served without asking the service.
    pub fresh: Duration,
    /// After that: served at once and refreshed behind the answer (RFC 5861 §3).
    pub stale_while_revalidate: Duration,
    /// After the fresh time: served when the service cannot answer (RFC 5861 §4).
    pub stale_if_error: Duration,
}

/// `[metadata]`: documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Memory for representations that are ready to be sent, in bytes.
    pub memory: u64,
    /// How long "there is no such document" is believed, for the caller who was told so; zero asks each time. Short,
    /// since a version that was just published must show (facts §8.1).
    pub negative_ttl: Duration,
    /// NuGet service index: changes when the service does.
    pub service_index: Freshness,
    /// npm packument.
    pub packument: Freshness,
    /// NuGet `flat2/{id}/index.json`.
    pub version_list: Freshness,
    /// NuGet registration index, page and leaf.
    pub registration: Freshness,
    /// NuGet nuspec: one version's never changes (facts §0.9).
    pub nuspec: Freshness,
    /// NuGet search.
    pub search: Freshness,
    /// NuGet vulnerability lists.
    pub vulnerabilities: Freshness,
    /// NuGet v2 entries and lists of versions.
    pub odata: Freshness,
    /// REST of the pkgs host: one version, its readme.
    pub rest: Freshness,
    /// REST of the feeds host: feed, views, packages, versions.
    pub feeds: Freshness,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text for people or JSON for collectors.
    pub format: LogFormat,
    /// Least important level that is written.
    pub level: LogLevel,
    /// One in so many answers from the store has a line in the access log; every other answer has one.
    pub hits_per_line: usize,
}

text_enum! {
    /// Form of a log line.
    pub enum LogFormat {
        /// One line of text.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

text_enum! {
    /// Level of a log line.
    pub enum LogLevel {
        /// Only what needs a person.
        Error = "error",
        /// What may need one.
        Warn = "warn",
        /// Requests and life cycle.
        Info = "info",
        /// Decisions.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

// === impl Listen ===

impl Default for Listen {
    fn default() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 4873));
        Self { address, public_url: None, threads: 0, drain_timeout: 30 * SECOND, max_body: 700 << 20 }
    }
}

impl Listen {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let section = Self {
            address: keys.parsed("address", default.address),
            public_url: keys.optional("public_url", default.public_url),
            threads: keys.count("threads", default.threads, 0..=1024),
            drain_timeout: keys.span("drain_timeout", default.drain_timeout, Duration::ZERO),
            max_body: keys.size("max_body", default.max_body, 1 << 10),
        };
        keys.finish();
        section
    }
}

// === impl PublicUrl ===

impl PublicUrl {
    /// Scheme, host and port, no slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, authority)| authority);
        authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(authority, |(host, _)| host)
    }
}

impl std::str::FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be http:// or https://, a host and perhaps a port, without a path";
        let uri: http::Uri = text.parse().map_err(|_| RULE)?;
        let path = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority))
                if matches!(path, "" | "/") && !authority.as_str().contains('@') =>
            {
                Ok(Self(format!("{scheme}://{authority}")))
            }
            _ => Err(RULE),
        }
    }
}

impl std::fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Freshness ===

impl Freshness {
    const fn new(fresh: Duration, stale_while_revalidate: Duration, stale_if_error: Duration) -> Self {
        Self { fresh, stale_while_revalidate, stale_if_error }
    }

    fn read(mut keys: Keys<'_>, default: Self) -> Self {
        let section = Self {
            fresh: keys.span("fresh", default.fresh, Duration::ZERO),
            stale_while_revalidate: keys.span(
                "stale_while_revalidate",
                default.stale_while_revalidate,
                Duration::ZERO,
            ),
            stale_if_error: keys.span("stale_if_error", default.stale_if_error, Duration::ZERO),
        };
        keys.finish();
        section
    }
}

// === impl Metadata ===

impl Default for Metadata {
    fn default() -> Self {
        // A version published past the gate is seen after a minute at the latest, plus one answer from the
        // stale-while-revalidate window; a build that ran once runs for a week without the service.
        let changing = Freshness::new(MINUTE, MINUTE, 7 * DAY);
        let steady = Freshness::new(HOUR, DAY, 7 * DAY);
        Self {
            memory: 256 << 20,
            negative_ttl: 10 * SECOND,
            service_index: steady,
            packument: changing,
            version_list: changing,
            registration: changing,
            nuspec: Freshness::new(DAY, 7 * DAY, 30 * DAY),
            search: Freshness::new(30 * SECOND, Duration::ZERO, DAY),
            vulnerabilities: steady,
            odata: changing,
            // Tools read these after they have changed something; the protocols' documents serve the installs.
            rest: Freshness::new(15 * SECOND, 15 * SECOND, 7 * DAY),
            feeds: Freshness::new(15 * SECOND, 15 * SECOND, 7 * DAY),
        }
    }
}

impl Metadata {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let memory = keys.size("memory", default.memory, 1 << 20);
        let negative_ttl = keys.span("negative_ttl", default.negative_ttl, Duration::ZERO);
        let mut class = |name: &str, default: Freshness| Freshness::read(keys.inner(name), default);
        let section = Self {
            memory,
            negative_ttl,
            service_index: class("service_index", default.service_index),
            packument: class("packument", default.packument),
            version_list: class("version_list", default.version_list),
            registration: class("registration", default.registration),
            nuspec: class("nuspec", default.nuspec),
            search: class("search", default.search),
            vulnerabilities: class("vulnerabilities", default.vulnerabilities),
            odata: class("odata", default.odata),
            rest: class("rest", default.rest),
            feeds: class("feeds", default.feeds),
        };
        keys.finish();
        section
    }
}

// === impl Log ===

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info, hits_per_line: 1 }
    }
}

impl Log {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let section = Self {
            format: keys.parsed("format", default.format),
            level: keys.parsed("level", default.level),
            hits_per_line: keys.count("hits_per_line", default.hits_per_line, 1..=1_000_000),
        };
        keys.finish();
        section
    }
}

// === impl StoreSettings ===

impl Default for StoreSettings {
    fn default() -> Self {
        // 20 GiB hold the packages of several hundred projects.
        Self::new("feedgate-store", 20 << 30)
    }
}

impl StoreSettings {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let section = Self {
            path: keys.path("path", default.path),
            capacity: keys.size("capacity", default.capacity, store::SMALLEST_CAPACITY),
            spill: keys.size("spill", default.spill, 0),
            page_cache: keys.size("page_cache", default.page_cache, 0),
            hot_capacity: keys.size("hot_capacity", default.hot_capacity, 0),
            hot_largest: keys.size("hot_largest", default.hot_largest, 0),
            touch_granularity: keys.span("touch_granularity", default.touch_granularity, Duration::ZERO),
            free_reserve: keys.size("free_reserve", default.free_reserve, 0),
            scrub: keys.size("scrub", default.scrub, 0),
        };
        for mistake in section.mistakes() {
            let value = super::units::format_size(mistake.value);
            keys.problem(mistake.key, format!("\"{value}\""), mistake.reason.to_owned());
        }
        keys.finish();
        section
    }
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn read(mut keys: Keys<'_>, environment: &BTreeMap<String, String>) -> Self {
        let default = Self::default();
        let section = Self {
            pkgs: keys.parsed("pkgs", default.pkgs),
            feeds: keys.parsed("feeds", default.feeds),
            // In tables of their own.
            servers: Vec::new(),
            blob_hosts: keys.list("blob_hosts", default.blob_hosts),
            private_networks: keys.list("private_networks", default.private_networks),
            proxy: Proxy::read(&mut keys, environment),
            ca_file: keys.optional("ca_file", default.ca_file.map(FilePath)).map(|path| path.0),
            connect_timeout: keys.span("connect_timeout", default.connect_timeout, Duration::from_millis(1)),
            first_byte_timeout: keys.span(
                "first_byte_timeout",
                default.first_byte_timeout,
                Duration::from_millis(1),
            ),
            idle_timeout: keys.span("idle_timeout", default.idle_timeout, Duration::from_millis(1)),
            min_rate: keys.size("min_rate", default.min_rate, 1),
            document_timeout: keys.span(
                "document_timeout",
                default.document_timeout,
                Duration::from_millis(1),
            ),
            keepalive_connections: keys.count(
                "keepalive_connections",
                default.keepalive_connections,
                0..=100_000,
            ),
            max_document_size: keys.size("max_document_size", default.max_document_size, 1 << 10),
        };
        keys.finish();
        section
    }
}

/// A path that reads and writes itself like the other values.
struct FilePath(PathBuf);

impl std::str::FromStr for FilePath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl std::fmt::Display for FilePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}
