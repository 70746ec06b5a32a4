//! What the operator may set, and the names of things that are counted apart.

use std::{fmt, time::Duration};

use crate::config;

use super::{
    bucket::Pace,
    budget::{BudgetLimits, RateLimits},
};

/// Kind of host that a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The service's API hosts (`pkgs`, `feeds`): the ones with limits per identity and per address.
    Api,
    /// The blob hosts behind the redirect.
    Blob,
}

/// Kind of work that a request is; each may have a fixed pace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// A document.
    Metadata,
    /// The bytes of a package, or the redirect to them.
    Download,
}

/// How urgent a request is; highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A client waits for metadata: everything else of its install comes after.
    Document,
    /// A client waits for bytes.
    Package,
    /// Nobody waits: a stored document is renewed.
    Refresh,
    /// Nobody has asked yet.
    WarmUp,
}

/// An upstream identity: a keyed hash of organisation and credential, or a blob host's. See
/// [`super::Throttle::identity`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(u64);

/// A client: a keyed hash of its credential, else of its address. See [`super::Throttle::client`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(u64);

/// Limits of [`super::Throttle`]. `[throttle]` of the configuration, with the reasons of the defaults there.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Most requests in flight to the API hosts, all identities together.
    pub api_in_flight: usize,
    /// Most of one identity.
    pub identity_in_flight: usize,
    /// Most downloads in flight from the blob hosts.
    pub blob_in_flight: usize,
    /// Requests per second to the API hosts to begin with, and after the first refusal.
    pub api_rate: f64,
    /// Most that is ever asked of them.
    pub api_rate_most: f64,
    /// Requests that may leave together after a rest, while nothing was refused yet.
    pub api_burst: usize,
    /// Fixed pace of metadata requests of one identity.
    pub metadata: Option<Pace>,
    /// Fixed pace of downloads of one identity.
    pub downloads: Option<Pace>,
    /// Bytes per second from the blob hosts.
    pub blob_bytes_per_second: Option<u64>,
    /// Most requests that wait.
    pub queue_length: usize,
    /// Longest wait for a permit, for those who give no deadline.
    pub queue_timeout: Duration,
    /// Longest pause that is kept, whatever the service says.
    pub longest_pause: Duration,
    /// Identities, and blob hosts, that are remembered.
    pub identities: usize,
}

// === impl Class ===

impl Class {
    /// Every class.
    pub const ALL: [Self; 2] = [Self::Api, Self::Blob];

    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Blob => "blob",
        }
    }
}

// === impl Priority ===

impl Priority {
    /// Every priority, highest first.
    pub const ALL: [Self; 4] = [Self::Document, Self::Package, Self::Refresh, Self::WarmUp];

    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Package => "package",
            Self::Refresh => "refresh",
            Self::WarmUp => "warm_up",
        }
    }

    /// Whether no client waits for it.
    pub fn is_background(self) -> bool {
        matches!(self, Self::Refresh | Self::WarmUp)
    }
}

// === impl Identity ===

impl Identity {
    /// The identity with this hash.
    pub fn new(hash: u64) -> Self {
        Self(hash)
    }
}

/// Eight digits of the keyed hash: enough to follow an identity through a log.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Client ===

impl Client {
    /// The client with this hash.
    pub fn new(hash: u64) -> Self {
        Self(hash)
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self::from(&config::Throttle::default())
    }
}

impl From<&config::Throttle> for Limits {
    fn from(section: &config::Throttle) -> Self {
        Self {
            api_in_flight: section.api_in_flight,
            identity_in_flight: section.identity_in_flight,
            blob_in_flight: section.blob_in_flight,
            api_rate: f64::from(section.api_rate.0),
            api_rate_most: f64::from(section.api_rate_most.0.max(section.api_rate.0)),
            api_burst: section.api_burst,
            metadata: pace(section.metadata_rate, section.metadata_burst),
            downloads: pace(section.download_rate, section.download_burst),
            blob_bytes_per_second: Some(section.blob_bytes_per_second).filter(|bytes| *bytes > 0),
            queue_length: section.queue_length,
            queue_timeout: section.queue_timeout,
            longest_pause: section.longest_pause,
            identities: section.identities,
        }
    }
}

fn pace(rate: config::PerSecond, burst: usize) -> Option<Pace> {
    #[expect(clippy::cast_precision_loss, reason = "bursts are small")]
    rate.limit().map(|per_second| Pace { per_second, burst: burst as f64 })
}

impl Limits {
    /// The budget of the gate's address.
    pub(super) fn gate(&self, class: Class) -> BudgetLimits {
        match class {
            Class::Api => self.budget(self.api_in_flight, Some(self.rate())),
            Class::Blob => self.budget(self.blob_in_flight, None),
        }
    }

    /// The budget of one identity.
    pub(super) fn identity(&self, class: Class) -> BudgetLimits {
        match class {
            Class::Api => BudgetLimits {
                metadata: self.metadata,
                downloads: self.downloads,
                ..self.budget(self.identity_in_flight.min(self.api_in_flight), Some(self.rate()))
            },
            Class::Blob => self.budget(self.blob_in_flight, None),
        }
    }

    fn rate(&self) -> RateLimits {
        #[expect(clippy::cast_precision_loss, reason = "bursts are small")]
        let burst = self.api_burst.max(1) as f64;
        RateLimits { safe: self.api_rate, most: self.api_rate_most, burst }
    }

    fn budget(&self, in_flight: usize, rate: Option<RateLimits>) -> BudgetLimits {
        BudgetLimits { in_flight, rate, metadata: None, downloads: None, longest_pause: self.longest_pause }
    }
}
