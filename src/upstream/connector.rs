//! The gate's only use of Pingora as a client: connections, their pool, and HTTP/1.1 on the wire.
//!
//! HTTP/1.1 and not h2 on purpose: the service explains its refusals in the reason phrase (facts §4.5), which
//! h2 does not have. No timeouts in here: [`super::http`] puts one around each call.

use std::{collections::HashSet, iter, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use pingora::{
    Error, ErrorType,
    connectors::{ConnectorOptions, TransportConnector},
    http::RequestHeader,
    protocols::{Stream, http::v1::client::HttpSession},
    tls::{RootCertStore, load_ca_file_into_store, load_platform_certs_incl_env_into_store},
    upstreams::peer::{HttpPeer, Peer},
};
use tokio::runtime::Handle;

use super::outgoing::Outgoing;
use crate::{
    config::upstream::{Scheme, Upstream},
    lanes,
};

/// How long an idle connection is kept. Below the 120 s after which the service's front ends close theirs
/// by default, so that the gate seldom meets a connection that is about to end.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Most keys of the pool that are remembered: hosts with their addresses on each lane.
const MOST_KEPT: usize = 10_000;
/// Most informational heads before the final one (RFC 9110 §15.2 allows any number).
pub const MAX_INFORMATIONAL: usize = 8;
/// Most fields of a head, and most bytes of their names and values. The service sends some 30, of 3 KiB in all. Pingora
/// has bounds of its own for what is read at all: 256, and 1 MiB.
const MAX_FIELDS: usize = 128;
const MAX_FIELD_BYTES: usize = 64 << 10;

/// Why connections cannot be made at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The CA file cannot be read, or is not PEM with certificates.
    #[error("CA file `{path}`: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's certificates cannot be read, or there are none while the service is asked over TLS.
    #[error("certificates of the system: {0}")]
    SystemCertificates(String),
}

/// Makes, keeps and hands out connections.
pub(super) struct Connector {
    transport: Arc<TransportConnector>,
    /// Keys of the pool under which there may be a connection.
    kept: Mutex<HashSet<u64>>,
}

/// One connection with at most one exchange on it.
pub(super) struct Connection {
    session: HttpSession,
    peer: HttpPeer,
    /// Where it was made.
    lane: Option<usize>,
}

/// The head of a final response.
pub(super) struct Head {
    /// Status.
    pub(super) status: StatusCode,
    /// Reason phrase, when it is not the standard one.
    pub(super) reason: Option<String>,
    /// Every header.
    pub(super) headers: HeaderMap,
    /// How the body's end is known.
    pub(super) framing: Framing,
}

/// How the end of a body is known (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunks with a last one.
    Chunked,
    /// The end of the connection.
    Close,
}

/// Why an exchange failed. The text never holds bytes of the response: they may be a signed URL.
#[derive(Debug)]
pub(super) struct Failure {
    /// What kind of failure it is.
    pub(super) kind: FailureKind,
    /// What happened.
    pub(super) reason: String,
}

/// Kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The connection ended.
    Closed,
    /// What came is not HTTP.
    Protocol,
    /// The head is larger than is taken.
    Head,
}

// === impl Connector ===

impl Connector {
    /// Reads the authorities to trust. Pingora would panic over them, so they are read here first.
    pub(super) fn new(settings: &Upstream) -> Result<Self, HttpError> {
        let mut options = ConnectorOptions::new(settings.keepalive_connections);
        match &settings.ca_file {
            Some(path) => options.ca_file = Some(checked_ca_file(path)?),
            None => check_system_certificates(settings)?,
        }
        let transport = Arc::new(TransportConnector::new(Some(options)));
        Ok(Self { transport, kept: Mutex::default() })
    }

    /// An idle connection to `peer`: of this lane, whose thread is awake when something comes on it, or else of another.
    pub(super) async fn reuse(&self, peer: HttpPeer) -> Option<Connection> {
        let own = (lanes::here(), None);
        let others = lanes::others().into_iter().map(|(lane, runtime)| (Some(lane), Some(runtime)));
        for (lane, runtime) in iter::once(own).chain(others) {
            let peer = on_lane(peer.clone(), lane);
            if let Some(stream) = self.take(&peer, runtime).await {
                return Some(Connection::new(stream, peer, lane));
            }
        }
        None
    }

    /// A new connection; the error is fit for a log.
    pub(super) async fn connect(&self, peer: HttpPeer) -> Result<Connection, String> {
        let lane = lanes::here();
        let peer = on_lane(peer, lane);
        let stream = Box::pin(self.transport.new_stream(&peer)).await.map_err(|error| unconnected(&error))?;
        Ok(Connection::new(stream, peer, lane))
    }

    /// Takes a connection back. It is closed unless its exchange is complete and the server keeps it open.
    pub(super) async fn release(&self, connection: Connection) {
        let Connection { mut session, peer, lane } = connection;
        session.respect_keepalive();
        let Some(stream) = session.reuse().await else { return };
        let (transport, key) = (Arc::clone(&self.transport), peer.reuse_hash());
        let release = move || transport.release_stream(stream, key, Some(POOL_IDLE));
        match lanes::others().into_iter().find(|(other, _)| Some(*other) == lane) {
            None => release(),
            // Only the end of the gate keeps it from being done.
            Some((_, runtime)) => drop(runtime.spawn(async move { release() }).await),
        }
        let mut kept = self.kept.lock();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key);
    }

    /// Takes an idle connection out of the pool. It is watched on its own lane, and who takes it on another thread can
    /// come before the watcher lets go of it, which loses it: so it is taken there.
    async fn take(&self, peer: &HttpPeer, runtime: Option<Handle>) -> Option<Stream> {
        let key = peer.reuse_hash();
        if !self.kept.lock().contains(&key) {
            return None;
        }
        let taken = match runtime {
            None => self.transport.reused_stream(peer).await,
            Some(runtime) => {
                let (transport, peer) = (Arc::clone(&self.transport), peer.clone());
                runtime.spawn(async move { transport.reused_stream(&peer).await }).await.ok().flatten()
            }
        };
        if taken.is_none() {
            self.kept.lock().remove(&key);
        }
        taken
    }
}

// === impl Connection ===

impl Connection {
    fn new(stream: Stream, peer: HttpPeer, lane: Option<usize>) -> Self {
        Self { session: HttpSession::new_with_options(stream, &peer), peer, lane }
    }

    /// Writes the request and waits for the final head.
    pub(super) async fn ask(&mut self, outgoing: &Outgoing) -> Result<Head, Failure> {
        let request = wire(outgoing).map_err(|e| Failure::new(&e))?;
        self.session.write_request_header(Box::new(request)).await.map_err(|e| Failure::new(&e))?;
        if !outgoing.body.is_empty() {
            self.session.write_body(&outgoing.body).await.map_err(|e| Failure::new(&e))?;
            self.session.finish_body().await.map_err(|e| Failure::new(&e))?;
        }
        for _ in 0..=MAX_INFORMATIONAL {
            self.session.read_response().await.map_err(|e| Failure::new(&e))?;
            match self.session.get_status() {
                Some(StatusCode::SWITCHING_PROTOCOLS) => return Err(Failure::protocol("unasked upgrade")),
                Some(status) if status.is_informational() => {}
                _ => return self.head(),
            }
        }
        Err(Failure::protocol("too many informational responses"))
    }

    /// The next bytes of the body; `None` after its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.session.read_body_bytes().await.map_err(|e| Failure::new(&e))
    }

    fn head(&mut self) -> Result<Head, Failure> {
        let done = self.session.is_body_done();
        let head = self.session.resp_header().ok_or_else(|| Failure::protocol("no head"))?;
        check_size(&head.headers)?;
        let reason = head.get_reason_phrase().filter(|reason| !reason.is_empty());
        let framing = if done { Framing::Empty } else { framing(&head.headers)? };
        Ok(Head {
            status: head.status,
            reason: reason
                .filter(|reason| Some(*reason) != head.status.canonical_reason())
                .map(str::to_owned),
            headers: head.headers.clone(),
            framing,
        })
    }
}

/// The peer as the pool knows those connections that were made on a lane.
fn on_lane(mut peer: HttpPeer, lane: Option<usize>) -> HttpPeer {
    peer.group_key ^= lane.map_or(0, |lane| lane as u64 + 1);
    peer
}

// === impl Failure ===

impl Failure {
    fn new(error: &Error) -> Self {
        let kind = match error.root_etype() {
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => FailureKind::Closed,
            ErrorType::InvalidHTTPHeader if is_over_size(error) => {
                return Self {
                    kind: FailureKind::Head,
                    reason: "more fields or bytes than are read".to_owned(),
                };
            }
            _ => FailureKind::Protocol,
        };
        // Pingora's own contexts quote the response, so only the kind and a foreign cause are told.
        let cause = error.root_cause();
        let reason = match cause.downcast_ref::<Error>() {
            Some(error) => error.reason_str().to_owned(),
            None => format!("{}: {cause}", error.reason_str()),
        };
        Self { kind, reason }
    }

    fn protocol(reason: &str) -> Self {
        Self { kind: FailureKind::Protocol, reason: reason.to_owned() }
    }
}

/// Why there is no connection; what a proxy did is told as it is.
fn unconnected(error: &Error) -> String {
    match &error.context {
        Some(context) if *error.etype() == ErrorType::ConnectProxyFailure => context.as_str().to_owned(),
        _ => error.to_string(),
    }
}

fn wire(outgoing: &Outgoing) -> Result<RequestHeader, Box<Error>> {
    let count = Some(outgoing.headers.len());
    let mut request = RequestHeader::build_no_case(outgoing.method.clone(), outgoing.path.as_bytes(), count)?;
    for (name, value) in &outgoing.headers {
        request.append_header(name.clone(), value.clone())?;
    }
    Ok(request)
}

/// Whether Pingora stopped reading a head for its size, which it tells by texts alone.
fn is_over_size(error: &Error) -> bool {
    let context = error.context.as_ref().map_or("", |context| context.as_str());
    context.starts_with("Response header larger than") || error.root_cause().to_string() == "too many headers"
}

fn check_size(headers: &HeaderMap) -> Result<(), Failure> {
    head_excess(headers).map_or(Ok(()), |reason| Err(Failure { kind: FailureKind::Head, reason }))
}

/// What the head of an answer has more of than is taken.
pub fn head_excess(headers: &HeaderMap) -> Option<String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_FIELDS {
        Some(format!("{} fields; at most {MAX_FIELDS} are taken", headers.len()))
    } else if bytes > MAX_FIELD_BYTES {
        Some(format!("fields of {bytes} bytes; at most {MAX_FIELD_BYTES} are taken"))
    } else {
        None
    }
}

/// Pingora has already refused lengths that disagree, and dropped the length beside `Transfer-Encoding`. Of codings only
/// chunks were asked for (RFC 9112 §7.4): a body in another one would be taken for what it is not.
fn framing(headers: &HeaderMap) -> Result<Framing, Failure> {
    let mut codings = headers.get_all(http::header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => return Ok(Framing::Chunked),
        (Some(_), _) => return Err(Failure::protocol("a transfer coding other than `chunked`")),
    }
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let first = length.and_then(|value| value.split(',').next()?.trim().parse().ok());
    Ok(first.map_or(Framing::Close, Framing::Length))
}

fn checked_ca_file(path: &Path) -> Result<String, HttpError> {
    let shown = path.display().to_string();
    let bad = |reason: String| HttpError::CaFile { path: shown.clone(), reason };
    let text = path.to_str().ok_or_else(|| bad("its name is not UTF-8".into()))?;
    let mut store = RootCertStore::empty();
    load_ca_file_into_store(text, &mut store).map_err(|e| bad(e.to_string()))?;
    if store.is_empty() {
        return Err(bad("it has no certificate".into()));
    }
    Ok(text.to_owned())
}

fn check_system_certificates(settings: &Upstream) -> Result<(), HttpError> {
    let bad = |reason: &dyn ToString| HttpError::SystemCertificates(reason.to_string());
    let mut store = RootCertStore::empty();
    load_platform_certs_incl_env_into_store(&mut store).map_err(|e| bad(&e))?;
    let servers = settings.servers.iter().map(|server| server.url.base().origin.scheme);
    let mut schemes = [settings.pkgs.scheme(), settings.feeds.scheme()].into_iter().chain(servers);
    let over_tls = schemes.any(|scheme| scheme == Scheme::Https);
    if over_tls && store.is_empty() {
        return Err(bad(&"there are none; install the system's CA bundle or set `upstream.ca_file`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_end_of_a_body_is_told_by_coding_then_length_then_close() {
        let rows = [
            (&[("transfer-encoding", "chunked"), ("content-length", "5")][..], Some(Framing::Chunked)),
            (&[("transfer-encoding", "Chunked")], Some(Framing::Chunked)),
            (&[("transfer-encoding", "gzip, chunked")], None),
            (&[("transfer-encoding", "xchunked"), ("content-length", "5")], None),
            (&[("transfer-encoding", "")], None),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], None),
            (&[("content-length", "5")], Some(Framing::Length(5))),
            (&[("content-length", "5, 5")], Some(Framing::Length(5))),
            (&[], Some(Framing::Close)),
        ];
        for (headers, expected) in rows {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(framing(&map).ok(), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_bad_ca_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: Option<&str>| {
            let path = folder.path().join("ca.pem");
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = Connector::new(&Upstream { ca_file: Some(path), ..Upstream::default() }).err();
            assert!(error.is_some_and(|e| e.to_string().contains("ca.pem")), "{content:?}");
        };
        check(None);
        check(Some(""));
        check(Some("no certificate"));
        check(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    }
}
