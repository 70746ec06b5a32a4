//! What the operator may set: read once at the start, validated, every mistake reported at once.
//!
//! Precedence: environment over file over default. A variable `FEEDGATE_STORE__CAPACITY` sets
//! `store.capacity`: two underscores stand for the dot. Secrets are not
//! configuration: the file names the variable that holds one.

pub mod access;
mod admin;
pub mod audit;
pub mod changes;
mod credential;
mod egress;
mod feed;
mod guard;
mod keys;
mod limits;
pub mod listener;
pub mod mount;
pub mod organisation;
pub mod outage;
pub mod retry;
mod sections;
pub mod server;
mod settings;
pub mod store;
mod text_enum;
pub mod throttle;
pub mod trace;
pub mod units;
pub mod upstream;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

pub use self::{
    access::Access,
    admin::Admin,
    audit::AuditSettings,
    changes::Changes,
    credential::Credential,
    egress::Proxy,
    feed::FeedSettings,
    guard::{Guard, Guarded, Pin},
    keys::Problem,
    limits::ClientLimits,
    listener::{Forwarded, Listener, TlsFiles},
    mount::Mount,
    organisation::{AccessMode, Organisation},
    outage::{FeedMode, Mode, Outage},
    retry::Retry,
    sections::{Freshness, Listen, Log, LogFormat, LogLevel, Metadata, PublicUrl},
    server::Server,
    settings::{Setting, Settings},
    store::StoreSettings,
    throttle::{PerSecond, Throttle},
    trace::TraceSettings,
    upstream::Upstream,
};
use keys::{Findings, Keys};

/// Start of the names of environment variables that set a key.
const ENVIRONMENT_PREFIX: &str = "FEEDGATE_";

/// The validated configuration; nothing in it means "use the default".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// `[listen]`.
    pub listen: Listen,
    /// `[[listener]]`.
    pub listeners: Vec<Listener>,
    /// `[limits]`.
    pub limits: ClientLimits,
    /// `[admin]`.
    pub admin: Admin,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// `[retry]`.
    pub retry: Retry,
    /// `[throttle]`.
    pub throttle: Throttle,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[metadata]`.
    pub metadata: Metadata,
    /// `[[changes]]`.
    pub changes: Vec<Changes>,
    /// `[access]`.
    pub access: Access,
    /// `[[organisation]]`.
    pub organisations: Vec<Organisation>,
    /// `[outage]`.
    pub outage: Outage,
    /// `[[feed]]`.
    pub feeds: Vec<FeedSettings>,
    /// `[[mount]]`.
    pub mounts: Vec<Mount>,
    /// `[[guard]]`.
    pub guards: Vec<Guard>,
    /// `[[pin]]`.
    pub pins: Vec<Pin>,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[log]`.
    pub log: Log,
    /// `[trace]`.
    pub trace: TraceSettings,
}

/// A configuration with the value of every key, for printing.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The typed configuration.
    pub config: Config,
    /// Every key with its value in force.
    pub settings: Settings,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// Keys or values that break a rule, all of them.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

// === impl Config ===

impl Config {
    /// Reads `path` (or nothing but defaults) and lays the environment over it.
    pub fn load(path: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
        let text = match path {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        };
        Self::parse(&text, environment)
    }

    /// Reads the text of a configuration file and lays the environment over it.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
        let mut root: Table =
            text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax(e.to_string()))?;
        let mut findings = Findings::default();
        overlay(&mut root, environment, &mut findings.problems);
        let config = Self::read(&mut root, &mut findings, environment);
        organisation::check(&config, &mut findings);
        for (key, value) in root {
            // What is in a table is told by no key that is known.
            let value = if value.is_table() || value.is_array() {
                "a table".to_owned()
            } else {
                keys::shorten(&value)
            };
            findings.problems.push(Problem { key, value, rule: "is not a known table".into() });
        }
        if findings.problems.is_empty() {
            Ok(Loaded { config, settings: findings.settings })
        } else {
            Err(ConfigError::Invalid(findings.problems))
        }
    }

    fn read(root: &mut Table, findings: &mut Findings, environment: &BTreeMap<String, String>) -> Self {
        Self {
            listen: Listen::read(Keys::take(root, "listen", findings)),
            listeners: Listener::read_all(root, findings),
            limits: ClientLimits::read(Keys::take(root, "limits", findings)),
            admin: Admin::read(Keys::take(root, "admin", findings), environment),
            upstream: Upstream {
                servers: Server::read_all(root, findings),
                ..Upstream::read(Keys::take(root, "upstream", findings), environment)
            },
            retry: Retry::read(Keys::take(root, "retry", findings)),
            throttle: Throttle::read(Keys::take(root, "throttle", findings)),
            store: StoreSettings::read(Keys::take(root, "store", findings)),
            metadata: Metadata::read(Keys::take(root, "metadata", findings)),
            changes: Changes::read_all(root, findings, environment),
            access: Access::read(Keys::take(root, "access", findings)),
            organisations: Organisation::read_all(root, findings, environment),
            outage: Outage::read(Keys::take(root, "outage", findings)),
            mounts: Mount::read_all(root, findings, environment),
            feeds: FeedSettings::read_all(root, findings),
            guards: Guard::read_all(root, findings),
            pins: Pin::read_all(root, findings),
            audit: AuditSettings::read(Keys::take(root, "audit", findings)),
            log: Log::read(Keys::take(root, "log", findings)),
            trace: TraceSettings::read(Keys::take(root, "trace", findings), environment),
        }
    }
}

fn overlay(root: &mut Table, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    'variables: for (name, value) in environment {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let path: Vec<_> = key.split("__").map(str::to_lowercase).collect();
        let [tables @ .., last] = path.as_slice() else { continue };
        if tables.is_empty() {
            continue;
        }
        if path.iter().any(String::is_empty) {
            let (value, rule) = (value.chars().take(120).collect(), "has a part without a name".to_owned());
            problems.push(Problem { key: name.clone(), value, rule });
            continue;
        }
        let mut table = &mut *root;
        for name in tables {
            let inner = table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
            // Something else in a table's place is a mistake of the file; it is reported when it is read.
            let Value::Table(inner) = inner else { continue 'variables };
            table = inner;
        }
        table.insert(last.clone(), environment_value(value));
    }
}

/// Numbers, booleans and lists are written as in the file; everything else is a string.
fn environment_value(text: &str) -> Value {
    let parsed: Option<Table> = format!("v = {text}").parse().ok();
    match parsed.and_then(|mut table| table.remove("v")) {
        Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
