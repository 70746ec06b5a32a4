//! What an errand has found out.

use std::time::Duration;

use http::header;

use crate::{handler::Reply, lockfile::Need};

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was there.
    Stored,
    /// It was fetched.
    Fetched,
    /// The service has no such thing; or in a drill, the gate has not.
    Missing,
    /// The service refuses the caller; or in a drill, nothing tells that it would let it read.
    Refused,
    /// It is there, and is not what the lockfile says.
    Mismatch,
    /// No word on it, or it could not be kept.
    Failed,
}

/// One thing and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is called.
    pub label: String,
    /// Its path at the gate.
    pub path: String,
    /// Whether some builds do without it.
    pub optional: bool,
    /// What became of it.
    pub fate: Fate,
    /// Why, where it is not there.
    pub reason: Option<String>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Whether they were checked against a digest of the lockfile.
    pub is_checked: bool,
    /// Of a document: seconds since the service sent it.
    pub age: Option<u64>,
    /// Of a document: seconds for which it may stand in yet while the service is down.
    pub good_for: Option<u64>,
}

/// All that an errand has seen, in the order in which it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Each thing.
    pub seen: Vec<Seen>,
}

// === impl Fate ===

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 6] =
        [Self::Stored, Self::Fetched, Self::Missing, Self::Refused, Self::Mismatch, Self::Failed];

    /// Its name in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Fetched => "fetched",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Mismatch => "mismatch",
            Self::Failed => "failed",
        }
    }

    /// Whether a build would get the thing.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Stored | Self::Fetched)
    }
}

// === impl Seen ===

impl Seen {
    pub(super) fn new(need: &Need) -> Self {
        Self {
            label: need.label.clone(),
            path: need.path.clone(),
            optional: need.optional,
            fate: Fate::Failed,
            reason: None,
            bytes: 0,
            is_checked: false,
            age: None,
            good_for: None,
        }
    }

    pub(super) fn fail(&mut self, fate: Fate, reason: String) {
        (self.fate, self.reason) = (fate, Some(reason));
    }

    /// Notes how old a document is, of a kind that may be `usable` for so long from when it was sent.
    pub(super) fn date(&mut self, reply: &Reply, usable: Duration) {
        self.age = reply.headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok());
        self.good_for = self.age.map(|age| usable.as_secs().saturating_sub(age));
    }
}

// === impl Report ===

impl Report {
    /// How many ended so.
    pub fn count(&self, fate: Fate) -> usize {
        self.seen.iter().filter(|seen| seen.fate == fate).count()
    }
}
