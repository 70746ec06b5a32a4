//! Mounts: other origins below a path of the gate, cached by the book.
//!
//! [`crate::policy`] decides by headers and times alone; here the origin is asked, responses are kept on their way to
//! the client ([`keeping`]), and stored ones are sent ([`showing`]). A mount knows no feeds and no verdicts: whoever is
//! let in ([`entry`]) may read it, as far as its origin's headers let a shared cache tell. A credential of a client goes
//! to the mount's origin, unless the gate has its own there, and what came of it is another's only if the origin says
//! so (RFC 9111 §3.5). Each mount keeps what it shows, also where two lead to one URL.
//!
//! Several requests for the same response wait for one ([`crowd`]). A write's body is read whole before it is sent, up to
//! [`WRITE_MOST`].

mod crowd;
mod entry;
mod keeping;
mod showing;

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{CacheStatus, HandlerError, Reply, ReplyBody};
use crate::{
    access::{Caller, Gateway},
    blob::Blob,
    cache::{Asked, Kept, Owner, ResponseKey, Responses},
    clock::Clock,
    config,
    policy::{
        Directives, Reuse, Standby, Stored, freshen, may_store, reuse, selecting, standby, storable,
        validators,
    },
    route::{MountPaths, Mounted},
    upstream::{Credential, Mirrored, MirroredRequest, UpstreamError, UpstreamResponse},
};
use crowd::{Crowds, Lead};
use keeping::Keeping;

/// Largest body of a write to a mount, in bytes: it is held in memory.
pub const WRITE_MOST: u64 = 16 << 20;
/// The conditions and parts that a client asks for, which a validation of the gate's own replaces.
const OWN_CONDITIONS: [HeaderName; 4] =
    [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE, header::IF_RANGE];
/// Conditions that are for the origin (RFC 9110 §13.1.1, §13.1.4): what is stored may not be its current state.
const FOR_THE_ORIGIN: [HeaderName; 2] = [header::IF_MATCH, header::IF_UNMODIFIED_SINCE];

/// Answers requests below mounts. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Mounts {
    paths: MountPaths,
    origins: Arc<[config::Mount]>,
    /// Whose responses are those of each of them.
    owners: Arc<[Owner]>,
    /// The gate's own for each of them.
    credentials: Arc<[Option<Credential>]>,
    gateway: Arc<Gateway>,
    mirrored: Mirrored,
    responses: Responses,
    clock: Clock,
    /// What is being validated behind an answer.
    refreshing: Arc<Mutex<HashSet<ResponseKey>>>,
    crowds: Crowds,
}

/// A request below a mount.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// Method.
    pub method: Method,
    /// Which mount, and the path below it.
    pub mounted: Mounted,
    /// The client's headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub caller: Caller,
    /// From where.
    pub address: Option<IpAddr>,
}

/// A request whose caller is let in, without what is for the gate alone or for one hop.
pub struct Admitted(MountRequest);

/// A stored response whose body is there.
#[derive(Clone)]
struct Usable {
    head: Stored,
    /// `None` for an empty body.
    blob: Option<Blob>,
}

/// What an origin answered, and when.
struct Exchange {
    response: UpstreamResponse,
    requested_at: SystemTime,
    received_at: SystemTime,
    /// From before it was asked.
    asked: Asked,
}

/// Why the origin is asked, for `Cache-Status`.
#[derive(Clone, Copy)]
enum Cause {
    Miss,
    Stale,
    Demanded,
}

/// What is validated behind an answer, until that is over.
struct Refreshing {
    keys: Arc<Mutex<HashSet<ResponseKey>>>,
    key: ResponseKey,
}

// === impl Mounts ===

impl Mounts {
    /// The mounts of a configuration, each with the gate's own credential for its origin; `gateway` knows whom it lets
    /// in.
    pub fn new(
        mounts: Vec<(config::Mount, Option<Credential>)>,
        mirrored: Mirrored,
        responses: Responses,
        gateway: Arc<Gateway>,
        clock: Clock,
    ) -> Self {
        let (origins, credentials): (Vec<_>, Vec<_>) = mounts.into_iter().unzip();
        Self {
            paths: MountPaths::new(origins.iter().map(|mount| mount.path.clone())),
            owners: origins.iter().map(entry::owner).collect(),
            origins: origins.into(),
            credentials: credentials.into(),
            gateway,
            mirrored,
            responses,
            clock,
            refreshing: Arc::default(),
            crowds: Crowds::default(),
        }
    }

    /// Keeps the gate's own credentials; ends when the set is dropped.
    pub fn keep_credentials(&self, tasks: &mut JoinSet<()>) {
        for credential in self.credentials.iter().flatten() {
            tasks.spawn(credential.clone().keep());
        }
    }

    /// Where they are.
    pub fn paths(&self) -> &MountPaths {
        &self.paths
    }

    /// Answers one request, whose body is whole.
    ///
    /// # Errors
    /// The origin gives no answer and nothing stored may stand in; or only what is stored was asked for.
    pub async fn answer(&self, Admitted(request): &Admitted, body: Bytes) -> Result<Reply, HandlerError> {
        let (mount, owner) = self.find(request)?;
        let url = format!("{}{}{}", mount.upstream.origin, mount.upstream.prefix, request.mounted.path);
        let work = Work { mounts: self, mount, request, key: ResponseKey { owner, url } };
        if matches!(request.method, Method::GET | Method::HEAD) {
            work.read().await
        } else {
            work.write(body).await
        }
    }

    fn find(&self, request: &MountRequest) -> Result<(&config::Mount, Owner), HandlerError> {
        let index = request.mounted.index;
        let found = self.origins.get(index).zip(self.owners.get(index).copied());
        found.ok_or_else(|| HandlerError::Internal("a mount that does not exist".to_owned()))
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

/// One request being answered.
struct Work<'a> {
    mounts: &'a Mounts,
    mount: &'a config::Mount,
    request: &'a MountRequest,
    /// What responses are stored by: the URL at the origin, and the mount.
    key: ResponseKey,
}

// === impl Work ===

impl Work<'_> {
    async fn read(&self) -> Result<Reply, HandlerError> {
        let headers = &self.request.headers;
        let only_stored = Directives::of_request(headers).has("only-if-cached");
        let Some(usable) = self.usable().await else {
            return if only_stored { Err(HandlerError::OnlyIfCached) } else { self.ask_together(None).await };
        };
        match reuse(&usable.head, headers, self.mount.ttl, self.mounts.now()) {
            Reuse::Fresh { left } => Ok(self.show(usable, CacheStatus::Hit { ttl: Some(left) })),
            Reuse::Stale { left } => {
                self.refresh_behind(&usable);
                Ok(self.show(usable, CacheStatus::StaleRefreshing { ttl: left }))
            }
            Reuse::Validate { .. } if only_stored => Err(HandlerError::OnlyIfCached),
            Reuse::Validate { demanded: true } => self.validate(usable, Cause::Demanded, None).await,
            Reuse::Validate { demanded: false } => self.ask_together(Some(usable)).await,
        }
    }

    /// The stored response that the request selects, with its body.
    async fn usable(&self) -> Option<Usable> {
        let headers = &self.request.headers;
        if FOR_THE_ORIGIN.iter().any(|name| headers.contains_key(name)) {
            return None;
        }
        let Kept { head, body } = self.mounts.responses.select(&self.key, headers).await?;
        let blob = match &body {
            Some(id) => Some(self.mounts.responses.open(id).await?),
            None => None,
        };
        Some(Usable { head, blob })
    }

    async fn miss(&self, lead: Option<Lead>) -> Result<Reply, HandlerError> {
        let exchange = self.ask(None, Bytes::new()).await?;
        self.take(exchange, Cause::Miss, lead).await
    }

    /// Asks whether a stored response is still good. One without a validator is asked for anew.
    async fn validate(
        &self,
        usable: Usable,
        cause: Cause,
        lead: Option<Lead>,
    ) -> Result<Reply, HandlerError> {
        let conditions = Some(validators(&usable.head));
        let conditions = conditions.filter(|fields| self.request.method == Method::GET && !fields.is_empty());
        let validates = conditions.is_some();
        let stand_in = |reason| standby(&usable.head, reason, &self.request.headers, self.mounts.now());
        match self.ask(conditions, Bytes::new()).await {
            Err(error) => match stand_in(Standby::Unreachable) {
                Some(ttl) => {
                    tracing::debug!(%error, url = self.key.url, "a stale response stands in");
                    Ok(self.show(usable, CacheStatus::StaleOnError { ttl }))
                }
                None => Err(error.into()),
            },
            Ok(exchange) if validates && exchange.response.status == StatusCode::NOT_MODIFIED => {
                let fresh = self.freshened(usable, exchange, lead).await;
                Ok(self.show(fresh, cause.stored(false)))
            }
            Ok(exchange) if matches!(exchange.response.status.as_u16(), 500 | 502..=504) => {
                match stand_in(Standby::Failing) {
                    Some(ttl) => Ok(self.show(usable, CacheStatus::StaleOnError { ttl })),
                    None => self.take(exchange, cause, lead).await,
                }
            }
            Ok(exchange) => self.take(exchange, cause, lead).await,
        }
    }

    /// A stored response with what its validation said, kept so if it may still be stored (RFC 9111 §4.3.4).
    async fn freshened(&self, usable: Usable, exchange: Exchange, lead: Option<Lead>) -> Usable {
        let headers = freshen(&usable.head.headers, &exchange.response.headers);
        let Exchange { requested_at, received_at, asked: asking, .. } = exchange;
        let head = Stored { headers, requested_at, received_at, ..usable.head };
        let asked = &self.request.headers;
        let kept = Kept { head, body: usable.blob.as_ref().map(|blob| blob.id) };
        match may_store(&Method::GET, asked, kept.head.status, &kept.head.headers) {
            Ok(()) => {
                self.mounts.responses.keep(&self.key, &kept, &asking).await;
                if let Some(lead) = lead {
                    lead.stored();
                }
            }
            Err(_) => self.mounts.responses.forget(&self.key.url).await,
        }
        Usable { head: kept.head, ..usable }
    }

    fn refresh_behind(&self, usable: &Usable) {
        if !self.mounts.refreshing.lock().insert(self.key.clone()) {
            return;
        }
        let over = Refreshing { keys: Arc::clone(&self.mounts.refreshing), key: self.key.clone() };
        let (mounts, mount, key) = (self.mounts.clone(), self.mount.clone(), self.key.clone());
        let mut request = MountRequest { method: Method::GET, ..self.request.clone() };
        for name in &OWN_CONDITIONS {
            request.headers.remove(name);
        }
        let usable = usable.clone();
        tokio::spawn(async move {
            let work = Work { mounts: &mounts, mount: &mount, request: &request, key };
            if let Ok(Reply { body: ReplyBody::Stream { mut body, .. }, .. }) =
                work.validate(usable, Cause::Stale, None).await
            {
                // It is kept while it is read; one that breaks is not, and the next request asks again.
                while let Ok(Some(_)) = body.next().await {}
            }
            drop(over);
        });
    }

    /// Sends the request on; with `conditions` in the place of the client's own.
    async fn ask(&self, conditions: Option<HeaderMap>, body: Bytes) -> Result<Exchange, UpstreamError> {
        let mut headers = self.request.headers.clone();
        if let Some(conditions) = conditions {
            for name in &OWN_CONDITIONS {
                headers.remove(name);
            }
            headers.extend(conditions);
        }
        self.authorize(&mut headers).await?;
        let (asked, requested_at) = (self.mounts.responses.ask(&self.key.url), self.mounts.now());
        let path = self.request.mounted.path.clone();
        let outgoing = MirroredRequest { method: self.request.method.clone(), path, headers, body };
        let mut response = self.mounts.mirrored.send(&self.mount.upstream, outgoing).await?;
        self.without_session(&mut response);
        Ok(Exchange { response, requested_at, received_at: self.mounts.now(), asked })
    }

    /// Passes a response on, and keeps it on the way if it may be; for those too who wait behind `lead`.
    async fn take(
        &self,
        exchange: Exchange,
        cause: Cause,
        lead: Option<Lead>,
    ) -> Result<Reply, HandlerError> {
        self.check_gate(exchange.response.status)?;
        let head = self.to_store(&exchange);
        let response = exchange.response;
        let length = response.headers.get(header::CONTENT_LENGTH);
        let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let headers = self.shown(&response.headers);
        let (mut body, mut cache) = (response.body, cause.unstored());
        if let Some(head) = head
            && let Some(draft) = self.mounts.responses.begin(length).await
        {
            let responses = self.mounts.responses.clone();
            // What must be validated before each use is no help to them.
            let lead = lead.filter(|_| self.is_fresh(&head));
            let keeping = Keeping::new(body, draft, responses, self.key.clone(), head, exchange.asked);
            let mut keeping = keeping.led_by(lead);
            if length == Some(0) || response.status == StatusCode::NO_CONTENT {
                // Nobody will read it.
                keeping.drain().await?;
            }
            (body, cache) = (Box::new(keeping), cause.stored(false));
        }
        let body = ReplyBody::Stream { body, length };
        Ok(Reply { status: response.status, reason: response.reason, headers, body, cache })
    }

    /// What is to be stored of a response; `None` when it may not be, or is of no use.
    fn to_store(&self, exchange: &Exchange) -> Option<Stored> {
        let UpstreamResponse { status, reason, headers, .. } = &exchange.response;
        let MountRequest { method, headers: asked, .. } = self.request;
        may_store(method, asked, *status, headers)
            .inspect_err(|refusal| tracing::debug!(url = self.key.url, ?refusal, "response not stored"))
            .ok()?;
        let own = self.referred(headers, &header::CONTENT_LOCATION).is_some_and(|url| url == self.key.url);
        if *method == Method::POST && !own {
            return None;
        }
        Some(Stored {
            status: *status,
            reason: reason.clone(),
            headers: storable(headers),
            selecting: selecting(asked, headers)?,
            requested_at: exchange.requested_at,
            received_at: exchange.received_at,
        })
    }

    /// Any other method: it goes to the origin, and one that may change something makes what is stored of its URLs
    /// invalid (RFC 9111 §4.4).
    async fn write(&self, body: Bytes) -> Result<Reply, HandlerError> {
        let safe = self.request.method.is_safe();
        let answer = self.ask(None, body).await;
        let status = answer.as_ref().map(|exchange| exchange.response.status);
        // Without an answer it may have gone through.
        let changed = status.as_ref().map_or(true, |status| status.is_success() || status.is_redirection());
        if changed && !safe {
            self.mounts.responses.forget(&self.key.url).await;
        }
        let mut exchange = answer?;
        if changed && !safe {
            for name in [header::LOCATION, header::CONTENT_LOCATION] {
                let other = self.referred(&exchange.response.headers, &name);
                if let Some(other) = other.filter(|other| *other != self.key.url) {
                    self.mounts.responses.forget(&other).await;
                }
            }
            exchange.asked.renew();
        }
        let reply = self.take(exchange, Cause::Miss, None).await?;
        Ok(Reply { cache: CacheStatus::Method, ..reply })
    }
}

// === impl Cause ===

impl Cause {
    /// `collapsed`: another request asked.
    fn stored(self, collapsed: bool) -> CacheStatus {
        match self {
            Self::Miss => CacheStatus::Miss { collapsed },
            Self::Stale => CacheStatus::Refreshed { collapsed },
            Self::Demanded => CacheStatus::Demanded { collapsed },
        }
    }

    fn unstored(self) -> CacheStatus {
        CacheStatus::Unstored { stale: !matches!(self, Self::Miss) }
    }
}

// === impl Refreshing ===

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}
