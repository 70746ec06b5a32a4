//! [`Http`]: one request to the service over a kept or new connection, and its body as a stream.
//!
//! Every wait has a limit, and a body a least rate over the time in which it is read: a client or store that is slow to
//! take it costs the service nothing. Redirects are not followed here, nothing is decoded and nothing is repeated, with
//! one exception: a kept connection that ends before the head comes was closed by the service in the
//! meantime (it cycles connections, facts §7.4), so an idempotent request is sent once more on a new one, at
//! once and on the same permit. Every other repeat is the business of [`super::Retrying`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, header};
use tokio::time::{Instant, timeout, timeout_at};

pub use super::connector::HttpError;
use super::{
    BodyStream, Phase, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
    connector::{Connection, Connector, Failure, FailureKind, Framing, Head},
    egress::Egress,
    outgoing::Outgoing,
    retrying::{Reason, Retries},
    sites::Sites,
};
use crate::{
    config::upstream::{Scheme, Upstream as Settings},
    patience::Patience,
    policy::end_to_end,
    throttle::Class,
};

/// Headers about the caller whose credential was used; nobody else may see them (facts §8).
const PERSONAL: [HeaderName; 2] = [header::SET_COOKIE, HeaderName::from_static("x-vss-userdata")];

/// The service over HTTP/1.1.
pub struct Http {
    connector: Arc<Connector>,
    pub(super) egress: Egress,
    sites: Sites,
    limits: Limits,
    retries: Option<Retries>,
    takes_unframed: bool,
}

#[derive(Clone, Copy)]
struct Limits {
    connect: Duration,
    first_byte: Duration,
    idle: Duration,
    min_rate: u64,
}

/// A body on its connection. The connection goes back to the pool after the last byte and is closed if the
/// stream is dropped before. After a failure every further read fails again: a short body never looks whole.
struct HttpBody {
    connector: Arc<Connector>,
    connection: Option<Connection>,
    failure: Option<UpstreamError>,
    framing: Framing,
    received: u64,
    patience: Patience,
    host: String,
}

// === impl Http ===

impl Http {
    /// Reads the authorities to trust; makes no connection.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        Ok(Self {
            connector: Arc::new(Connector::new(settings)?),
            egress: Egress::new(settings),
            sites: Sites::new(settings),
            limits: Limits {
                connect: settings.connect_timeout,
                first_byte: settings.first_byte_timeout,
                idle: settings.idle_timeout,
                min_rate: settings.min_rate,
            },
            retries: None,
            takes_unframed: false,
        })
    }

    /// Counts requests that were sent again because their kept connection had ended.
    #[must_use]
    pub fn counting(mut self, retries: Retries) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Takes bodies that end with their connection, also without TLS, where that end may be a break. A response with
    /// such a body counts as complete (RFC 9112 §8), and an old origin has no other kind.
    #[must_use]
    pub(super) fn taking_unframed(mut self) -> Self {
        self.takes_unframed = true;
        self
    }

    /// Sends what is ready to be written, and waits for the head of the response; `fresh` keeps it off connections
    /// that were used before.
    pub(super) async fn send(
        &self,
        outgoing: &Outgoing,
        fresh: bool,
        class: Class,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let (connection, head) = self.exchange(outgoing, fresh, class).await?;
        self.respond(outgoing, connection, head, self.takes_unframed).await
    }

    async fn exchange(
        &self,
        outgoing: &Outgoing,
        fresh: bool,
        class: Class,
    ) -> Result<(Connection, Head), UpstreamError> {
        let mut deadline = Instant::now() + self.limits.connect;
        let addresses = timeout_at(deadline, self.resolve(outgoing)).await;
        let addresses = addresses.map_err(|_| self.unconnected(outgoing))??;
        if !fresh && let Some(connection) = self.reuse(outgoing, &addresses).await {
            match self.ask(connection, outgoing).await? {
                Err(failure) if failure.kind == FailureKind::Closed && outgoing.may_be_repeated() => {
                    if let Some(retries) = &self.retries {
                        retries.count(class, Reason::KeptConnection);
                    }
                    deadline = Instant::now() + self.limits.connect;
                }
                answer => return answer.map_err(|failure| broken(outgoing.host(), failure)),
            }
        }
        let connection = self.connect(outgoing, &addresses, deadline).await?;
        self.ask(connection, outgoing).await?.map_err(|failure| broken(outgoing.host(), failure))
    }

    async fn resolve(&self, outgoing: &Outgoing) -> Result<Arc<[SocketAddr]>, UpstreamError> {
        let found = self.egress.addresses(&outgoing.origin).await;
        found.map_err(|reason| UpstreamError::Connect { host: outgoing.host(), reason })
    }

    async fn reuse(&self, outgoing: &Outgoing, addresses: &[SocketAddr]) -> Option<Connection> {
        for address in addresses {
            let kept = self.connector.reuse(self.egress.peer(&outgoing.origin, *address)).await;
            if kept.is_some() {
                return kept;
            }
        }
        None
    }

    /// No connection in time.
    fn unconnected(&self, outgoing: &Outgoing) -> UpstreamError {
        match self.egress.proxy(&outgoing.origin) {
            None => out_of_time(outgoing.host(), Phase::Connect),
            Some(proxy) => {
                let reason = format!("proxy {proxy} gave no connection in time");
                UpstreamError::Connect { host: outgoing.host(), reason }
            }
        }
    }

    /// Tries one address after the other. Each gets an even share of the time that is left, so that one
    /// without an answer (IPv6 that leads nowhere) does not use it all.
    async fn connect(
        &self,
        outgoing: &Outgoing,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<Connection, UpstreamError> {
        let mut last = None;
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let peer = self.egress.peer(&outgoing.origin, *address);
            match timeout(share, self.connector.connect(peer)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(reason)) => {
                    last = Some(UpstreamError::Connect { host: outgoing.host(), reason });
                }
                Err(_) => last = Some(self.unconnected(outgoing)),
            }
        }
        self.egress.forget(&outgoing.origin);
        Err(last.unwrap_or_else(|| out_of_time(outgoing.host(), Phase::Connect)))
    }

    /// The outer error is final; the inner one says whether the connection had ended.
    async fn ask(
        &self,
        mut connection: Connection,
        outgoing: &Outgoing,
    ) -> Result<Result<(Connection, Head), Failure>, UpstreamError> {
        let head = timeout(self.limits.first_byte, connection.ask(outgoing)).await;
        let head = head.map_err(|_| out_of_time(outgoing.host(), Phase::FirstByte))?;
        Ok(head.map(|head| (connection, head)))
    }

    async fn respond(
        &self,
        outgoing: &Outgoing,
        connection: Connection,
        head: Head,
        unframed: bool,
    ) -> Result<UpstreamResponse, UpstreamError> {
        // Without TLS the end of such a body cannot be told from a broken connection.
        let tellable = head.framing != Framing::Close || outgoing.origin.scheme == Scheme::Https;
        if !tellable && !unframed {
            let reason = "body without length or chunks".to_owned();
            return Err(broken(outgoing.host(), Failure { kind: FailureKind::Protocol, reason }));
        }
        let mut body = HttpBody {
            connector: Arc::clone(&self.connector),
            connection: Some(connection),
            failure: None,
            framing: head.framing,
            received: 0,
            patience: Patience::new(self.limits.idle, self.limits.min_rate),
            host: outgoing.host(),
        };
        if head.framing == Framing::Empty {
            body.finish().await;
        }
        let headers = end_to_end(&head.headers);
        Ok(UpstreamResponse { status: head.status, reason: head.reason, headers, body: Box::new(body) })
    }
}

#[async_trait]
impl Upstream for Http {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let outgoing = Outgoing::new(request, &self.sites)?;
        let (connection, head) = self.exchange(&outgoing, request.fresh, request.target.class()).await?;
        let unframed = self.takes_unframed || may_end_early(request, &head);
        let mut response = self.respond(&outgoing, connection, head, unframed).await?;
        for name in &PERSONAL {
            response.headers.remove(name);
        }
        Ok(response)
    }
}

// === impl HttpBody ===

impl HttpBody {
    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.connector.release(connection).await;
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        while let Some(connection) = &mut self.connection {
            match self.patience.wait(connection.chunk()).await {
                Some(Ok(Some(bytes))) if bytes.is_empty() => {}
                Some(Ok(Some(bytes))) => {
                    self.patience.moved(bytes.len());
                    self.received += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Some(Ok(None)) => self.finish().await,
                Some(Err(failure)) => return Err(self.ended_by(failure)),
                None => return Err(out_of_time(self.host.clone(), Phase::Idle)),
            }
        }
        Ok(None)
    }

    fn ended_by(&self, failure: Failure) -> UpstreamError {
        match self.framing {
            Framing::Length(announced)
                if failure.kind == FailureKind::Closed && self.received < announced =>
            {
                UpstreamError::Length { host: self.host.clone(), announced, received: self.received }
            }
            _ => broken(self.host.clone(), failure),
        }
    }
}

#[async_trait]
impl BodyStream for HttpBody {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let next = self.read().await;
        if let Err(failure) = &next {
            self.failure = Some(failure.clone());
            self.connection = None;
        }
        next
    }
}

/// Whether nothing is lost if the body of an answer has ended early and nobody can tell: its head says what matters, a
/// hash is checked, or it is JSON that is parsed to its end.
fn may_end_early(request: &UpstreamRequest, head: &Head) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = || kind.is_some_and(|kind| kind.starts_with("application/json"));
    !head.status.is_success() || request.hashed || (request.whole && is_json())
}

fn broken(host: String, failure: Failure) -> UpstreamError {
    let Failure { kind, reason } = failure;
    match kind {
        FailureKind::Closed | FailureKind::Protocol => UpstreamError::Broken { host, reason },
        FailureKind::Head => UpstreamError::Head { host, reason },
    }
}

fn out_of_time(host: String, phase: Phase) -> UpstreamError {
    UpstreamError::Timeout { host, phase }
}
