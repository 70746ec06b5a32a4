//! What to do for each kind of request: lookup, permission, fetch, fill. No Pingora types.
//!
//! A handler asks `access` where the caller stands, `cache` and `blob` what is stored, and `upstream` for the
//! rest. One fetch per object runs at a time, in a task of its own; the callers wait for its result. An
//! object that was fetched with one caller's credential reaches another only after the service let that
//! other caller read the feed.

mod admission;
mod archives;
mod arriving;
mod asking;
mod audit;
mod changes;
mod derived;
mod discovery;
mod document;
mod drill;
mod errand;
mod error;
mod explain;
mod guard;
mod hit;
mod identify;
mod inventory;
mod keep;
mod lately;
mod listing;
mod metrics;
mod missing;
mod modes;
mod mount;
mod outage;
mod package;
mod passthrough;
mod permission;
mod pins;
mod rehearsal;
mod reply;
mod represent;
mod verify;
mod wishes;

use std::{
    net::IpAddr,
    num::NonZero,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use archives::{Archives, ImportError, Imported, Wanted, feed_of};
pub use changes::Following;
pub use errand::{Errand, Errands, Fate, Refreshed, Report, Seen};
pub use error::HandlerError;
pub use explain::{ExplainError, Explainer, Explanation, Question};
pub use guard::Guarding;
pub use hit::{Edition, Hit, Lookup};
pub use inventory::{Filter, Object, Purged};
pub use lately::{Ended, FeedTimes, Lately, Refused};
pub use metrics::HandlerMetrics;
pub use modes::Modes;
pub use mount::{Admitted, MountRequest, Mounts, WRITE_MOST};
pub use pins::{PinError, PinReport, Pinned, Pinning};
pub use reply::{CacheStatus, PackageBody, Reply, ReplyBody};
pub use verify::{Verification, Verified};

use crate::{
    access::{Access, Attempts, Caller, Gateway, Unknown},
    blob::BlobStore,
    cache::{
        Coalescer, DocumentCache, Entry, Flown, Generations, Identities, NegativeCache, PackageIndex, Pins,
        Sightings,
    },
    clock::Clock,
    config,
    document::{
        representation::Representation,
        rewrite::{PublicBase, ServiceHosts},
    },
    guard::Unreadable,
    ident::{FeedRef, Name},
    route::{Derived, DerivedRoute, DocumentClass, Effect, Protocol, Route, Target},
    throttle::{Client, Throttle},
    upstream::{Advisories, Azure, Breaks, Refusal, Service},
};
use outage::OutageMemory;

/// Documents above this many bytes are worked on as many at a time as there are cores.
const LARGE: u64 = 1 << 20;

/// A request, as the edge understood it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// What is asked for.
    pub route: Route,
    /// The client's headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub caller: Caller,
    /// From where, as far as the connection tells.
    pub address: Option<IpAddr>,
    /// What the gate's own URLs look like to this client.
    pub base: PublicBase,
    /// When the request came.
    pub received_at: SystemTime,
    /// Whether nobody waits for the answer: it is asked for ahead of time.
    pub ahead: bool,
}

/// What the edge is to do.
pub enum Outcome {
    /// Send this answer.
    Reply(Reply),
    /// The answer depends on the request's body: read it and call [`Handler::answer_body`].
    Body {
        /// Most bytes that are taken, as they come over the wire.
        limit: u64,
    },
    /// Let Pingora forward the request itself: writes, and what else is never looked at.
    Forward(Forward),
}

/// Where a forwarded request goes.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Which host of the service.
    pub service: Service,
    /// Whose.
    pub org: Name,
    /// Path and query below the organisation, percent-encoded.
    pub path: String,
    /// What it changes when it goes through.
    pub effect: Option<Effect>,
    /// Whose turn it takes.
    pub client: Client,
    /// The credential that goes with it.
    pub authorization: Option<HeaderValue>,
    /// Whether that is the gate's own.
    pub by_gate: bool,
    /// To whom a refusal of the credential is counted, if nothing was known of it.
    pub stranger: Option<Unknown>,
}

/// The kinds of request, for labels and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteClass {
    /// A cacheable document.
    Document(DocumentClass),
    /// The bytes of an npm package.
    NpmPackage,
    /// The bytes of a NuGet package.
    NugetPackage,
    /// Made from a packument, or of the verdict.
    Derived,
    /// `npm audit`.
    Audit,
    /// Passed through.
    Passthrough,
    /// Below a mount.
    Mount,
    /// Refused before it was understood.
    Unknown,
}

/// What the handlers are built from.
pub struct Parts {
    /// The service.
    pub service: Azure,
    /// What it may be asked.
    pub throttle: Throttle,
    /// Hosts whose URLs are rewritten.
    pub hosts: Arc<ServiceHosts>,
    /// Documents.
    pub documents: DocumentCache,
    /// What there is not.
    pub missing: NegativeCache<Refusal>,
    /// Which package is which blob.
    pub packages: PackageIndex,
    /// Which feed a spelling means.
    pub identities: Identities,
    /// What is kept from builds.
    pub guarding: Guarding,
    /// When versions were first seen.
    pub sightings: Sightings,
    /// What operators want kept.
    pub pins: Pins,
    /// What writes have made old.
    pub generations: Generations,
    /// Whose changes are followed.
    pub changes: Following,
    /// Bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// Verdicts.
    pub access: Access,
    /// Who may use the gate's own credentials.
    pub gateway: Arc<Gateway>,
    /// Refusals that addresses caused.
    pub attempts: Attempts,
    /// Freshness of documents.
    pub metadata: config::Metadata,
    /// Patience with the service.
    pub outage: config::Outage,
    /// Which of its hosts are dead.
    pub breaks: Breaks,
    /// Whether it is asked.
    pub modes: Modes,
    /// What is kept from a registry of advisories.
    pub audit: config::AuditSettings,
    /// That registry.
    pub advisories: Option<Advisories>,
    /// Longest wait for the head of a package, all tries together.
    pub head_patience: Duration,
    /// Time of day.
    pub clock: Clock,
    /// Counters.
    pub metrics: HandlerMetrics,
}

/// Answers requests. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Handler {
    parts: Arc<Parts>,
    outage: Arc<OutageMemory>,
    fetches: Arc<Coalescer<Result<Fetched, HandlerError>>>,
    builds: Arc<Coalescer<Result<Option<Arc<Representation>>, Unreadable>>>,
    locations: Arc<Coalescer<package::Located>>,
    downloads: Arc<Coalescer<package::Located>>,
    arriving: Arc<arriving::Arriving>,
    revalidations: Arc<wishes::Revalidations>,
    drills: Arc<drill::Drills>,
    lately: Lately,
    /// Whether it only goes through what it would do.
    rehearsal: Option<Arc<rehearsal::Rehearsal>>,
    /// Whether the service is taken to be down.
    pretends: bool,
    /// Room for work on large documents: it takes a few times their size in memory, and a core.
    workbench: Arc<Semaphore>,
}

/// A document that just came from the service.
#[derive(Debug, Clone)]
struct Fetched {
    entry: Arc<Entry>,
    body: Bytes,
    /// The feed it is of; identified, when it is the document that tells the identity.
    feed: FeedRef,
}

fn reads(request: &Request) -> bool {
    matches!(request.method, Method::GET | Method::HEAD)
}

/// The host that a request is forwarded to.
fn service_of(target: &Target) -> Service {
    if target.is_on_feeds_host() { Service::Feeds } else { Service::Pkgs }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

// === impl Handler ===

impl Handler {
    /// Builds the handlers.
    pub fn new(parts: Parts) -> Self {
        Self {
            outage: Arc::new(OutageMemory::new(parts.outage.cooldown)),
            parts: Arc::new(parts),
            fetches: Arc::default(),
            builds: Arc::default(),
            locations: Arc::default(),
            downloads: Arc::default(),
            arriving: Arc::default(),
            revalidations: Arc::default(),
            drills: Arc::default(),
            lately: Lately::default(),
            rehearsal: None,
            pretends: false,
            workbench: Arc::new(Semaphore::new(cores())),
        }
    }

    /// Answers one request. Its feed is identified on the way, as far as the service tells.
    pub async fn answer(&self, request: &mut Request) -> Result<Outcome, HandlerError> {
        let answer = match self.for_caller(&request.caller) {
            Some(drilling) => drilling.answer_whoever(request).await,
            None => self.answer_whoever(request).await,
        };
        answer.map_err(|error| admission::of_gate(request, error))
    }

    async fn answer_whoever(&self, request: &mut Request) -> Result<Outcome, HandlerError> {
        if let Some(allow) = request.route.target.allow()
            && !allow.split(", ").any(|method| method == request.method.as_str())
        {
            return Err(HandlerError::Method { method: request.method.to_string(), allow });
        }
        if reads(request)
            && let Target::Derived(DerivedRoute { derived: Derived::Ping, .. }) = request.route.target
        {
            return Ok(Outcome::Reply(derived::pong()));
        }
        self.admit(request).await?;
        let stranger = self.stranger(request);
        let answer = match stranger {
            None => self.answer_known(request, None).await,
            Some(who) => self.answer_stranger(request, who).await,
        };
        if let (Some(who), Err(error)) = (stranger, &answer) {
            self.note_attempt(&who, error);
        }
        answer
    }

    /// Answers a caller who may ask. `stranger` is one of whom nothing was known.
    async fn answer_known(
        &self,
        request: &mut Request,
        stranger: Option<Unknown>,
    ) -> Result<Outcome, HandlerError> {
        let reads = reads(request);
        if let Target::Audit(_) = request.route.target {
            let outcome = audit::intake(&request.method)?;
            // Before the body: who may not read the feed has nothing to upload.
            return self.identify(request).await.map(|()| outcome);
        }
        let effect = request.route.target.effect(&request.method);
        if effect.is_some() || !matches!(request.route.target, Target::Passthrough(_)) {
            self.identify(request).await?;
        }
        let request = &*request;
        if !reads || matches!(request.route.target, Target::Passthrough(_)) {
            self.may_ask(&request.caller, request.route.target.feed())?;
        }
        if let Some(route) = discovery::listing(request) {
            return self.list_routes(request, route).await.map(Outcome::Reply);
        }
        if !reads {
            self.reachable(request).await?;
            let client = asking::client(&self.parts.throttle, request);
            return Ok(Outcome::Forward(Forward::new(request, client, stranger)));
        }
        self.turn_away_denied(request)?;
        let reply = match &request.route.target {
            Target::Document(route) => self.document(request, route).await,
            Target::Package(route) => self.package(request, route).await,
            Target::Passthrough(route) => self.guarded_passthrough(request, route).await,
            Target::Derived(route) => self.derived(request, route).await,
            // Its question is in a body, see above.
            Target::Audit(_) => Err(HandlerError::Internal("an audit without a body".to_owned())),
        };
        reply.map(Outcome::Reply)
    }

    /// Answers a request for which [`Handler::answer`] said [`Outcome::Body`]. `body` is as it came over the wire.
    pub async fn answer_body(&self, request: &Request, body: Bytes) -> Result<Outcome, HandlerError> {
        let own = self.for_caller(&request.caller);
        match &request.route.target {
            Target::Audit(route) => {
                let report = own.as_ref().unwrap_or(self).audit(request, route, body).await;
                report.map(Outcome::Reply).map_err(|error| admission::of_gate(request, error))
            }
            _ => Err(HandlerError::Internal("a body that was not asked for".to_owned())),
        }
    }

    /// The service answered a forwarded request; a refusal of the credential is counted.
    pub fn answered(&self, forward: &Forward, status: StatusCode) {
        // A 403 may be about the package: a version that is there already (facts §6).
        if let Some(who) = forward.stranger.filter(|_| status == StatusCode::UNAUTHORIZED) {
            self.parts.attempts.refused(&who);
        }
    }

    /// A write went through, or may have: what it may have changed is asked for anew from now on.
    pub async fn written(&self, forward: &Forward) {
        let Some(effect) = &forward.effect else { return };
        tracing::debug!(path = forward.path.split('?').next(), ?effect, "write");
        self.parts.generations.raise(&forward.org, effect).await;
        if let Some(feed) = effect.feed.as_ref().filter(|_| effect.identity) {
            self.parts.identities.forget(feed);
        }
    }

    /// Package downloads that are not over and stored yet.
    pub fn arriving(&self) -> usize {
        self.arriving.count()
    }

    /// How much work was shared, by what was done.
    pub fn flown(&self) -> [(&'static str, Flown); 4] {
        [
            ("document", self.fetches.flown()),
            ("representation", self.builds.flown()),
            ("location", self.locations.flown()),
            ("download", self.downloads.flown()),
        ]
    }

    /// What happened lately.
    pub fn lately(&self) -> &Lately {
        &self.lately
    }

    /// The handlers' parts, for figures.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Waits for room to work on a document of `length` bytes; small ones need none.
    async fn room(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        if length <= LARGE { None } else { Arc::clone(&self.workbench).acquire_owned().await.ok() }
    }

    fn now(&self) -> SystemTime {
        self.parts.clock.now()
    }
}

// === impl Forward ===

impl Forward {
    fn new(request: &Request, client: Client, stranger: Option<Unknown>) -> Self {
        let Route { org, target, .. } = &request.route;
        let service = service_of(target);
        let effect = target.effect(&request.method);
        let caller = &request.caller;
        Self {
            service,
            org: org.clone(),
            path: target.upstream_path(),
            effect,
            client,
            authorization: caller.authorization().cloned(),
            by_gate: caller.is_gate(),
            stranger,
        }
    }
}

// === impl RouteClass ===

impl RouteClass {
    /// The class of a target.
    pub fn of(target: &Target) -> Self {
        match target {
            Target::Document(route) => Self::Document(route.class()),
            Target::Package(route) => match route.package.protocol() {
                Protocol::Npm => Self::NpmPackage,
                Protocol::Nuget => Self::NugetPackage,
            },
            Target::Derived(_) => Self::Derived,
            Target::Audit(_) => Self::Audit,
            Target::Passthrough(_) => Self::Passthrough,
        }
    }

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document(class) => class.as_str(),
            Self::NpmPackage => "npm_package",
            Self::NugetPackage => "nuget_package",
            Self::Derived => "derived",
            Self::Audit => "audit",
            Self::Passthrough => "passthrough",
            Self::Mount => "mount",
            Self::Unknown => "unknown",
        }
    }
}
