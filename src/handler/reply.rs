//! What the handlers answer with; `proxy` turns it into bytes on the wire.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::{
    blob::{Blob, Tier, fill::Fill},
    upstream::BodyStream,
};

/// An answer, not yet narrowed by conditions, ranges or HEAD.
pub struct Reply {
    /// Status before conditions and ranges.
    pub status: StatusCode,
    /// Reason phrase of the service, where it says more than the standard one.
    pub reason: Option<String>,
    /// Headers of the representation; framing is added later.
    pub headers: HeaderMap,
    /// The body.
    pub body: ReplyBody,
    /// How the answer came about.
    pub cache: CacheStatus,
}

/// Where an answer's bytes come from.
pub enum ReplyBody {
    /// Ready bytes.
    Bytes(Bytes),
    /// Bytes of a package: ranges apply.
    Package(PackageBody),
    /// Passed on as they arrive, with the length that the service announced.
    Stream {
        /// The body.
        body: Box<dyn BodyStream>,
        /// Its length in bytes, when announced.
        length: Option<u64>,
    },
}

/// A package's bytes, stored or still arriving.
#[derive(Clone)]
pub enum PackageBody {
    /// All there.
    Stored(Blob),
    /// Being downloaded; its length is known.
    Filling {
        /// The download.
        fill: Arc<Fill>,
        /// Length in bytes.
        length: u64,
    },
}

/// How an answer came about: the value of `Cache-Status` (RFC 9211), of the log field and of the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheStatus {
    /// From the store, fresh.
    Hit {
        /// Seconds that it stays fresh.
        ttl: Option<i64>,
    },
    /// From the store, stale, a refresh runs behind it.
    StaleRefreshing {
        /// Seconds of freshness left: negative.
        ttl: i64,
    },
    /// From the store, stale, because the service did not answer.
    StaleOnError {
        /// Seconds of freshness left: negative.
        ttl: i64,
    },
    /// From the store, stale, because the service is not asked (mode `offline`).
    Offline {
        /// Seconds of freshness left: negative.
        ttl: i64,
    },
    /// Asked of the service: nothing was stored.
    Miss {
        /// Whether another request's fetch was used.
        collapsed: bool,
    },
    /// Asked of the service: the stored copy was too old.
    Refreshed {
        /// Whether another request's fetch was used.
        collapsed: bool,
    },
    /// Asked of the service, because the client wants that of a copy that is fresh.
    Demanded {
        /// Whether another request's fetch was used.
        collapsed: bool,
    },
    /// Asked of the origin, and its answer is not stored.
    Unstored {
        /// Whether a stored copy was too old, as against there being none.
        stale: bool,
    },
    /// Never stored: a route that is passed through.
    Bypass,
    /// Never stored: a method other than GET and HEAD.
    Method,
    /// Made by the gate itself: an error, or an answer that needs no object.
    Local,
}

// === impl Reply ===

impl Reply {
    /// Where the bytes of the answer lie, as a label: a tier of the store, `filling` for a download in
    /// progress, `none` for what never was in the store.
    pub fn tier(&self) -> &'static str {
        match &self.body {
            ReplyBody::Package(PackageBody::Stored(blob)) => blob.tier.as_str(),
            ReplyBody::Package(PackageBody::Filling { .. }) => "filling",
            ReplyBody::Bytes(_) if self.cache.is_hit() => Tier::Memory.as_str(),
            ReplyBody::Bytes(_) | ReplyBody::Stream { .. } => "none",
        }
    }

    /// An answer with ready bytes.
    pub fn bytes(status: StatusCode, headers: HeaderMap, body: Bytes, cache: CacheStatus) -> Self {
        Self { status, reason: None, headers, body: ReplyBody::Bytes(body), cache }
    }
}

// === impl PackageBody ===

impl PackageBody {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Stored(blob) => blob.stat.length,
            Self::Filling { length, .. } => *length,
        }
    }
}

// === impl CacheStatus ===

impl CacheStatus {
    /// Every label, for metrics that start at zero.
    pub const LABELS: [&'static str; 9] =
        ["hit", "stale", "stale_error", "offline", "miss", "refreshed", "bypass", "method", "local"];

    /// The label of metrics and of the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::StaleRefreshing { .. } => "stale",
            Self::StaleOnError { .. } => "stale_error",
            Self::Offline { .. } => "offline",
            Self::Miss { .. } | Self::Unstored { .. } => "miss",
            Self::Refreshed { .. } | Self::Demanded { .. } => "refreshed",
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Local => "local",
        }
    }

    /// Whether the answer came out of the store.
    pub fn is_hit(self) -> bool {
        matches!(
            self,
            Self::Hit { .. }
                | Self::StaleRefreshing { .. }
                | Self::StaleOnError { .. }
                | Self::Offline { .. }
        )
    }

    /// Whether the answer is what the service sent to another request.
    pub fn is_collapsed(self) -> bool {
        match self {
            Self::Miss { collapsed } | Self::Refreshed { collapsed } | Self::Demanded { collapsed } => {
                collapsed
            }
            Self::Hit { .. }
            | Self::StaleRefreshing { .. }
            | Self::StaleOnError { .. }
            | Self::Offline { .. }
            | Self::Bypass
            | Self::Method
            | Self::Unstored { .. }
            | Self::Local => false,
        }
    }

    /// The member of `Cache-Status` for this gate (RFC 9211 §2); nothing for answers of its own.
    pub fn header(self) -> Option<HeaderValue> {
        if self == Self::Local {
            return None;
        }
        HeaderValue::from_str(&self.to_string()).ok()
    }

    /// The value of `X-Cache`, for people and for tools that know no RFC 9211.
    pub fn x_cache(self) -> Option<HeaderValue> {
        let text = match self {
            Self::Hit { .. } => "HIT",
            Self::StaleRefreshing { .. } | Self::StaleOnError { .. } | Self::Offline { .. } => "STALE",
            Self::Miss { .. } | Self::Unstored { .. } | Self::Refreshed { .. } | Self::Demanded { .. } => {
                "MISS"
            }
            Self::Bypass | Self::Method => "BYPASS",
            Self::Local => return None,
        };
        Some(HeaderValue::from_static(text))
    }
}

/// The member of `Cache-Status` for this gate (RFC 9211 §2).
impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collapsed = |on: bool| if on { "; collapsed" } else { "" };
        match *self {
            Self::Hit { ttl: None } => f.write_str("feedgate; hit"),
            Self::Hit { ttl: Some(ttl) } | Self::StaleRefreshing { ttl } => {
                write!(f, "feedgate; hit; ttl={ttl}")
            }
            Self::StaleOnError { ttl } => write!(f, "feedgate; hit; ttl={ttl}; detail=stale-if-error"),
            Self::Offline { ttl } => write!(f, "feedgate; hit; ttl={ttl}; detail=offline"),
            Self::Miss { collapsed: on } => write!(f, "feedgate; fwd=uri-miss; stored{}", collapsed(on)),
            Self::Refreshed { collapsed: on } => write!(f, "feedgate; fwd=stale; stored{}", collapsed(on)),
            Self::Demanded { collapsed: on } => write!(f, "feedgate; fwd=request; stored{}", collapsed(on)),
            Self::Unstored { stale: false } => f.write_str("feedgate; fwd=uri-miss"),
            Self::Unstored { stale: true } => f.write_str("feedgate; fwd=stale"),
            Self::Bypass => f.write_str("feedgate; fwd=bypass"),
            Self::Method => f.write_str("feedgate; fwd=method"),
            Self::Local => f.write_str("feedgate"),
        }
    }
}
