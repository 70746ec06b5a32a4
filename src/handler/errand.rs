//! Errands: what an operator has the gate ask for in a client's stead, each thing by the path that the client would ask.
//!
//! A *warm-up* asks for all that a build will need, in the throttle's lowest class; what it leaves behind (packages,
//! documents, identities, the verdict on the credential) is what the build itself would have left, and nobody else may
//! read it without a verdict of his own. A *drill* asks for the same of a gate that takes the service to be down, so
//! that what it reports is what a client would have got. A [*refresh*](Errands::refresh) asks the service once more for
//! documents that are stored. None has a way of its own through the handlers.
//!
//! Every byte of a package is read and checked against the lockfile's own digest, also where it is stored already.

mod body;
mod metrics;
mod refresh;
mod report;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use prometheus::Registry;

use super::{Handler, HandlerError, Outcome, Request};
use crate::{
    access::{Caller, CallerKey, Standing},
    document::rewrite::PublicBase,
    lockfile::Need,
    route::{self, Collections, Package, PackageRoute, Target},
};

pub use refresh::Refreshed;
pub use report::{Fate, Report, Seen};

/// Things that are asked for at the same time; the throttle lets through what the service bears.
const AT_ONCE: usize = 16;
/// Tries of a thing for which there was no answer, or a refusal for load.
const TRIES: u32 = 5;
/// Longest wait between them.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What documents of an errand name as the gate's own URL: nobody reads them.
const ORIGIN: &str = "http://localhost";

/// Runs errands. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Errands {
    handler: Handler,
    key: Arc<CallerKey>,
    collections: Arc<Collections>,
    metrics: metrics::Metrics,
}

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Whether all is there, and what is not is fetched.
    WarmUp,
    /// Whether all would be there if the service were down.
    Drill,
    /// What the service says of it now.
    Refresh,
}

// === impl Errands ===

impl Errands {
    /// Errands for callers whose credentials are hashed with `key`. Registers the metrics of warm-ups.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn new(
        handler: Handler,
        key: Arc<CallerKey>,
        collections: Arc<Collections>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self { handler, key, collections, metrics: metrics::Metrics::new(registry)? })
    }

    /// The caller who sends this `Authorization`.
    pub fn caller(&self, authorization: Option<&HeaderValue>) -> Caller {
        self.key.caller(authorization)
    }

    /// Asks for `needs` on behalf of `caller`; `each` hears of every thing when it is known.
    pub async fn run(
        &self,
        errand: Errand,
        needs: Vec<Need>,
        caller: &Caller,
        each: impl Fn(&Seen),
    ) -> Report {
        let handler = match errand {
            Errand::WarmUp | Errand::Refresh => self.handler.clone(),
            Errand::Drill => self.handler.as_if_down(),
        };
        let (handler, each) = (&handler, &each);
        let mut seen: Vec<(usize, Seen)> = stream::iter(needs.into_iter().enumerate())
            .map(|(index, need)| async move {
                let seen = self.see(handler, errand, need, caller).await;
                if errand == Errand::WarmUp {
                    self.metrics.count(&seen);
                }
                each(&seen);
                (index, seen)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        seen.sort_unstable_by_key(|(index, _)| *index);
        Report { seen: seen.into_iter().map(|(_, seen)| seen).collect() }
    }

    /// From now on and for so long, `caller` is answered as if the service were down; zero ends that.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn enforce(&self, caller: &Caller, time: Duration) -> Result<(), &'static str> {
        self.handler.drills.enforce(caller, time)
    }

    async fn see(&self, handler: &Handler, errand: Errand, need: Need, caller: &Caller) -> Seen {
        let mut seen = Seen::new(&need);
        let mut request = match self.request(&need.path, caller, errand) {
            Ok(request) => request,
            Err(reason) => {
                seen.fail(Fate::Failed, reason);
                return seen;
            }
        };
        for attempt in 1.. {
            let Err(error) = see_once(handler, &mut request, &need, &mut seen).await else { break };
            let wait = wait_after(&error).filter(|_| errand != Errand::Drill && attempt < TRIES);
            let Some(wait) = wait else {
                let (fate, reason) = fate_of(handler, errand, &request, &error);
                seen.fail(fate, reason);
                break;
            };
            tokio::time::sleep(wait.max(Duration::from_secs(1) * attempt).min(LONGEST_WAIT)).await;
        }
        seen
    }

    fn request(&self, path: &str, caller: &Caller, errand: Errand) -> Result<Request, String> {
        let route = route::parse_for(&self.collections, &Method::GET, None, path);
        let route = route.map_err(|error| error.to_string())?;
        if !matches!(route.target, Target::Document(_) | Target::Package(_)) {
            return Err(format!("path `{path}` names neither a package nor a document that is kept"));
        }
        let wish = (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(Request {
            method: Method::GET,
            route,
            headers: HeaderMap::from_iter((errand == Errand::Refresh).then_some(wish)),
            caller: caller.clone(),
            address: None,
            base: PublicBase::Path { origin: ORIGIN.to_owned() },
            received_at: self.handler.now(),
            ahead: errand != Errand::Drill,
        })
    }
}

/// Asks once, reads all, and notes what was seen; an error is no word on the thing.
async fn see_once(
    handler: &Handler,
    request: &mut Request,
    need: &Need,
    seen: &mut Seen,
) -> Result<(), HandlerError> {
    let Outcome::Reply(reply) = handler.answer(request).await? else {
        return Err(HandlerError::Internal("no answer to a GET".to_owned()));
    };
    if reply.status != StatusCode::OK {
        return Err(HandlerError::Unavailable(format!("answered {}", reply.status)));
    }
    seen.fate = if reply.cache.is_hit() { Fate::Stored } else { Fate::Fetched };
    if let Target::Document(route) = &request.route.target {
        let freshness = handler.freshness(route);
        seen.date(&reply, freshness.fresh + freshness.stale_if_error);
    }
    let is_nuget =
        matches!(&request.route.target, Target::Package(PackageRoute { package: Package::Nuget { .. }, .. }));
    let read = body::read(reply, need.integrity.as_ref(), is_nuget).await?;
    seen.bytes = read.length;
    seen.is_checked = need.integrity.is_some();
    if !read.holds {
        seen.fail(Fate::Mismatch, "the bytes are not those of the lockfile's integrity".to_owned());
    } else if !read.is_stored {
        seen.fail(Fate::Failed, "it could not be stored".to_owned());
    }
    Ok(())
}

/// How long to stay away before another try is worth it; `None` when none is.
fn wait_after(error: &HandlerError) -> Option<Duration> {
    match error {
        HandlerError::Failing { retry_after, .. } => Some(retry_after.unwrap_or_default()),
        HandlerError::Throttled(shed) => Some(shed.pause_left),
        HandlerError::Unavailable(_) | HandlerError::Timeout(_) => Some(Duration::ZERO),
        _ => None,
    }
}

/// What became of a thing for which there is no answer, and why.
fn fate_of(handler: &Handler, errand: Errand, request: &Request, error: &HandlerError) -> (Fate, String) {
    let unknown = |feed| matches!(handler.standing(&request.caller, feed), Standing::Unknown);
    match error {
        HandlerError::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND => {
            (Fate::Missing, error.to_string())
        }
        // It is stored; there is no word on it.
        HandlerError::Offline | HandlerError::Dead(_) if errand == Errand::Refresh => {
            (Fate::Failed, error.to_string())
        }
        HandlerError::Offline if request.route.target.feed().is_some_and(unknown) => {
            let reason = "the service has not let this credential read the feed, or too long ago";
            (Fate::Refused, reason.to_owned())
        }
        HandlerError::Refused(_) => (Fate::Refused, error.to_string()),
        HandlerError::Offline => (Fate::Missing, "it is not stored, or too old".to_owned()),
        HandlerError::Dead(_) => (Fate::Missing, error.to_string()),
        _ => (Fate::Failed, error.to_string()),
    }
}
