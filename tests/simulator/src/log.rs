//! The record of every request, and the counters that tests and benches assert on.
//!
//! Credentials never stand in the log: an `Authorization` header is shown as its kind and the label of its token.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One of the service's three front doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    /// Protocol routes (`_packaging`) and package-type REST.
    Pkgs,
    /// Feed management REST.
    Feeds,
    /// Package bytes behind signed URLs.
    Blob,
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The door it came through.
    pub listener: Listener,
    /// The method, as sent.
    pub method: String,
    /// The path, as sent (still percent-encoded), without the query.
    pub path: String,
    /// The query without `?`; empty when there was none.
    pub query: String,
    /// Names in lower case. `authorization` shows kind and label only, such as `Basic alice` or `Bearer ?`.
    pub headers: Vec<(String, String)>,
    /// Length of the request's body in bytes, without its framing; 0 if it was refused before it was read.
    pub body_length: u64,
    /// The status sent; 0 while nothing is.
    pub status: u16,
    /// Body bytes handed to the socket, framing included.
    pub bytes_sent: u64,
    /// When the head had arrived.
    pub at: Instant,
    /// When its answer was about to be sent; `None` while it is not.
    pub answered_at: Option<Instant>,
    /// The `Retry-After` of its answer, if that had one in seconds.
    pub retry_after: Option<Duration>,
    /// Whether the whole, honest reply was handed to the socket.
    pub completed: bool,
    /// Which connection it came on; numbers count up over the whole simulator.
    pub connection: u64,
}

/// Something that a client of the real service must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is.
    pub kind: ViolationKind,
    /// The door at which it happened.
    pub listener: Listener,
    /// The path of the request.
    pub path: String,
    /// The offending header's name, in lower case.
    pub header: String,
}

/// Kinds of violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// A credential or a cookie reached the blob host (facts §0.4).
    CredentialAtBlobHost,
    /// Another header that has no business at the blob host (facts §8).
    StrangeHeaderAtBlobHost,
    /// A browser's `Sec-Fetch-*` header reached the service.
    BrowserHeader,
}

/// The place of a request in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    era: u64,
    index: usize,
}

/// The log itself, and the counters beside it.
#[derive(Default)]
pub(crate) struct Log {
    entries: Mutex<Entries>,
    /// Off: entries are not kept (long benches), counters still run.
    pub(crate) keeps_entries: bool,
    pub(crate) accepted: AtomicU64,
    /// Those of them whose TLS session is that of an earlier one.
    pub(crate) resumed: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) in_flight: Gauge,
}

/// A number that goes up and down, and its highest value.
#[derive(Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

/// Counts one more while it lives.
pub(crate) struct Counted<'a>(&'a Gauge);

#[derive(Default)]
struct Entries {
    era: u64,
    requests: Vec<Logged>,
    violations: Vec<Violation>,
}

// === impl Logged ===

impl Logged {
    /// The value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The storage id (upper case) in the path of a request at the blob host.
    pub fn storage_id(&self) -> Option<String> {
        let name = self.path.rsplit('/').next()?.strip_suffix(".blob")?;
        (self.listener == Listener::Blob).then(|| name.to_ascii_uppercase())
    }
}

// === impl Log ===

impl Log {
    pub(crate) fn new(keeps_entries: bool) -> Self {
        Self { keeps_entries, ..Self::default() }
    }

    pub(crate) fn begin(&self, logged: Logged) -> Ticket {
        let mut entries = self.entries.lock();
        entries.requests.push(logged);
        Ticket { era: entries.era, index: entries.requests.len() - 1 }
    }

    pub(crate) fn finish(&self, ticket: Ticket, status: u16, bytes_sent: u64, completed: bool) {
        let mut entries = self.entries.lock();
        if entries.era != ticket.era {
            return;
        }
        let logged = &mut entries.requests[ticket.index];
        (logged.status, logged.bytes_sent, logged.completed) = (status, bytes_sent, completed);
        logged.answered_at.get_or_insert_with(Instant::now);
    }

    pub(crate) fn ask_to_wait(&self, ticket: Ticket, wait: Duration) {
        let mut entries = self.entries.lock();
        if entries.era == ticket.era {
            entries.requests[ticket.index].retry_after = Some(wait);
        }
    }

    pub(crate) fn violation(&self, violation: Violation) {
        self.entries.lock().violations.push(violation);
    }

    pub(crate) fn requests(&self) -> Vec<Logged> {
        self.entries.lock().requests.clone()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Logged) -> bool) -> usize {
        self.entries.lock().requests.iter().filter(|logged| wanted(logged)).count()
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.entries.lock().violations.clone()
    }

    pub(crate) fn blob_downloads(&self) -> BTreeMap<String, usize> {
        let entries = self.entries.lock();
        let mut downloads = BTreeMap::new();
        let answered = |logged: &&Logged| logged.method == "GET" && matches!(logged.status, 200 | 206);
        for id in entries.requests.iter().filter(answered).filter_map(Logged::storage_id) {
            *downloads.entry(id).or_default() += 1;
        }
        downloads
    }

    /// Forgets entries and violations; requests under way are not entered later.
    pub(crate) fn clear(&self) {
        let mut entries = self.entries.lock();
        *entries = Entries { era: entries.era + 1, ..Entries::default() };
        self.in_flight.peak.store(self.in_flight.now.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

// === impl Gauge ===

impl Gauge {
    pub(crate) fn count(&self) -> Counted<'_> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        Counted(self)
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::SeqCst)
    }
}

// === impl Counted ===

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}
