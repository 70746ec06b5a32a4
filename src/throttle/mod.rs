//! What the service may be asked at once.
//!
//! For now a fixed cap on requests in flight for each [`Class`] of host, with a bounded wait. Waiting and
//! arithmetic stay apart so that the adaptive budget can replace the cap without touching its callers.

use std::time::Duration;

/// Which budget a request upstream draws on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The service's API hosts (`pkgs`, `feeds`): the ones with limits per identity and per address.
    Api,
    /// The blob hosts behind the redirect.
    Blob,
}

/// Limits of [`Throttle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most requests in flight to the API hosts.
    pub api_in_flight: usize,
    /// Most downloads in flight from the blob hosts.
    pub blob_in_flight: usize,
    /// Longest wait for a permit.
    pub queue_timeout: Duration,
}
