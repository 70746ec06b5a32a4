//! HTTP caching by the book: what a shared cache may store, reuse, freshen and must forget (RFC 9111).
//!
//! For whatever the gate knows nothing better about than its headers: mounts of other origins. Pure: headers and
//! times in, decisions out; `now` is passed in. What is stored where, and who asks the origin, is not known here.
//!
//! A module of our own, and not the crate `http-cache-semantics` (which knows no targeted fields, no
//! `stale-if-error`, no `must-understand`, no field names in `no-cache` and `private`, and stores only statuses of its
//! list) and not pingora-cache (which would bring a second storage, a second way to the origin and a second
//! collapsing of requests beside ours). So mounts use the gate's one pipeline: its client, its blobs, its database.
//!
//! Where a field is malformed the cautious reading wins: an `Age`, a lifetime or a date that cannot be read makes a
//! response stale, never fresh (§4.2.1, §5.3). Left out: storing and combining partial content (§3.3, §3.4), which is
//! optional; parts of a *complete* response are served.

mod directives;
mod freshen;
mod lifetime;
mod reuse;
mod storing;
#[cfg(test)]
mod tests;
mod vary;

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

pub use directives::Directives;
pub use freshen::{end_to_end, freshen, storable};
pub use lifetime::{age, http_date, lifetime};
pub use reuse::{Reuse, Standby, reuse, standby, validators};
pub use storing::{Refusal, may_store};
pub use vary::{Selecting, selecting, selects};

/// A response as it is stored, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Status.
    pub status: StatusCode,
    /// Reason phrase, when it is not the standard one.
    pub reason: Option<String>,
    /// The headers that may be stored ([`storable`]).
    pub headers: HeaderMap,
    /// The request's fields that `Vary` names.
    pub selecting: Selecting,
    /// When the request was sent that brought or last validated it.
    pub requested_at: SystemTime,
    /// When its head came.
    pub received_at: SystemTime,
}
