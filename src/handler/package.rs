//! Package bytes: from the store, from a download in progress, or from a new one.
//!
//! The service names the content in its redirect, so asking *where* a package is (one small request) often
//! ends in bytes that are stored already. A download is followed by everybody who wants the same content,
//! whatever package, feed or organisation leads there: each of them was let through by the service itself.

mod located;
mod reply;

use std::sync::Arc;

use futures::{FutureExt as _, future::join};
use http::{Method, header};
use tokio::time::Instant;

pub(super) use self::{
    located::{Found, Located},
    reply::reply,
};

use super::{
    CacheStatus, Handler, HandlerError, PackageBody, Reply, Request,
    asking::Urgency,
    permission::{Permission, is_denial},
    wishes::Wishes,
};
use crate::{
    access::{Caller, Standing},
    blob::{
        Blob, BlobKind, BlobStore, Expected,
        fill::{Fill, FillError, FillWriter, Finished},
        published_digests,
    },
    cache::Landing,
    document::packument::{Dist, dist_of},
    ident::StorageId,
    lanes,
    route::{Document, DocumentRoute, Package, PackageRoute},
    throttle::{Interest, Priority},
    upstream::{
        BodyStream, Located as Location, Refused, Service, Target, UpstreamError, UpstreamRequest,
        UpstreamResponse, body::is_coded,
    },
};

/// Tries of one request: a signed URL that is no longer good, or bytes that fail their check, are worth one more. That the
/// service does not say where they are is not: it was asked as often as that is worth.
const TRIES: usize = 2;
/// What no package is.
const EMPTY: &str = "the service sent nothing where a package was due";

// === impl Handler ===

impl Handler {
    /// Answers GET and HEAD of a package.
    pub(super) async fn package(
        &self,
        request: &Request,
        route: &PackageRoute,
    ) -> Result<Reply, HandlerError> {
        self.guard_package(request, route).await?;
        let key = self.package_key(route);
        // In this order: a download that ends is written down before it is gone from here.
        let arriving = self.arriving.get(&key);
        let stored = self.stored(route).await;
        if Wishes::of(&request.headers).only_if_cached {
            self.permission_unasked(request, &route.feed)?;
            let found = match (stored, arriving) {
                (Some(found), _) => Some(found),
                (None, Some((fill, id))) => self.follow_or_stored(request, route, fill, id).await,
                (None, None) => None,
            };
            return Ok(reply(request, route, found.ok_or(HandlerError::OnlyIfCached)?));
        }
        if stored.is_none() && arriving.is_none() {
            self.screen_anonymous(request, &route.feed).await?;
        } else if self.permission(request, &route.feed).await? == Permission::Granted {
            if let Some(found) = stored {
                return Ok(reply(request, route, found));
            }
            if let Some((fill, id)) = arriving
                && let Some(found) = self.follow_or_stored(request, route, fill, id).await
            {
                return Ok(reply(request, route, found));
            }
            return Ok(reply(request, route, self.obtain(request, route, &key).await?));
        }
        match (self.obtain(request, route, &key).await, stored) {
            (Err(error), Some(stored)) if self.grace_covers(request, &route.feed, &error) => {
                Ok(reply(request, route, stored))
            }
            (found, _) => Ok(reply(request, route, found?)),
        }
    }

    /// Removals so far of what `route` is.
    pub(super) fn removals(&self, route: &PackageRoute) -> u64 {
        self.parts.generations.current(&route.feed, &route.subject()).removals
    }

    /// Whether a download of the package is under way.
    pub(super) fn is_arriving(&self, route: &PackageRoute) -> bool {
        self.arriving.get(&self.package_key(route)).is_some()
    }

    /// The name of everything under way for a package: nobody follows what began before a removal.
    fn package_key(&self, route: &PackageRoute) -> String {
        format!("{}\n{}", route.key(), self.removals(route))
    }

    async fn stored(&self, route: &PackageRoute) -> Option<Found> {
        let entry = self.parts.packages.get(&route.key()).await?;
        if entry.removals != self.removals(route) {
            return None;
        }
        let blob = self.open(&entry.id).await?;
        let cache = CacheStatus::Hit { ttl: None };
        Some(Found {
            body: PackageBody::Stored(blob),
            id: Some(entry.id),
            named_at: Some(entry.named_at),
            cache,
        })
    }

    async fn open(&self, id: &StorageId) -> Option<Blob> {
        self.parts.blobs.open(id).await.unwrap_or_else(|error| {
            tracing::warn!(%error, %id, "stored blob unreadable");
            None
        })
    }

    async fn is_stored(&self, id: &StorageId) -> bool {
        self.parts.blobs.stat(id).await.is_ok_and(|stat| stat.is_some())
    }

    async fn obtain(
        &self,
        request: &Request,
        route: &PackageRoute,
        key: &str,
    ) -> Result<Found, HandlerError> {
        let (own, sought) = (own_flight(key, &request.caller), self.package_sought(route));
        if !Wishes::of(&request.headers).revalidate
            && let Some(refusal) = self.known_missing(&request.caller, &sought)
        {
            return Err(HandlerError::Refused(refusal));
        }
        let mut flight = match self.standing(&request.caller, &route.feed) {
            Standing::Denied(refusal) => return Err(HandlerError::Refused(refusal)),
            Standing::Allowed => key.to_owned(),
            Standing::Grace | Standing::Unknown => own.clone(),
        };
        // For all tries together: clients do not wait any longer for a head.
        let deadline = Instant::now() + self.parts.head_patience;
        let mut tries = TRIES;
        loop {
            let shared = flight != own;
            let work = |interest| {
                self.clone().locating(request.clone(), route.clone(), (deadline, shared), interest)
            };
            let (located, joined) =
                self.locations.run(&flight, request.priority(Priority::Package), work).await;
            let failure = match located.unwrap_or_else(Located::died) {
                Located::Failed(HandlerError::Refused(_)) if joined && shared => {
                    // Somebody else's credential was refused: ask with this caller's own.
                    flight.clone_from(&own);
                    continue;
                }
                Located::Unanswered(error) if !error.is_abandoned() => return Err(error),
                Located::Failed(error) | Located::Unanswered(error) => error,
                Located::Known(found) => return Ok(found),
                Located::Stored(blob) => return Ok(Found::stored(blob, joined)),
                Located::Filling { fill, id } => match self.follow(request, fill, id, joined).await {
                    Ok(found) => return Ok(found),
                    Err(error) => error,
                },
            };
            tries -= 1;
            if tries == 0 || !is_worth_another_try(&failure) || Instant::now() >= deadline {
                return Err(failure);
            }
            self.locations.drop_dead(&flight, Located::is_dead);
        }
    }

    /// What can no longer be followed may have been stored since.
    async fn follow_or_stored(
        &self,
        request: &Request,
        route: &PackageRoute,
        fill: Arc<Fill>,
        id: Option<StorageId>,
    ) -> Option<Found> {
        match self.follow(request, fill, id, true).await {
            Ok(found) => Some(found),
            Err(_) => self.stored(route).await,
        }
    }

    async fn follow(
        &self,
        request: &Request,
        fill: Arc<Fill>,
        id: Option<StorageId>,
        joined: bool,
    ) -> Result<Found, HandlerError> {
        if joined && !fill.joinable() {
            return Err(HandlerError::Unavailable("the download can no longer be joined".to_owned()));
        }
        // A part could be whole before the rest is checked, so it waits for the check, and a failed one is
        // still told by a status.
        let parts = request.method == Method::GET && request.headers.contains_key(header::RANGE);
        let length = match fill.wait_for_head().await? {
            Some(length) if !parts => length,
            Some(_) | None => fill.verified().await?,
        };
        // Whoever comes after the check is served from what is here, whether or not it is on disk yet.
        let is_here = joined && fill.verified().now_or_never().is_some();
        let cache =
            if is_here { CacheStatus::Hit { ttl: None } } else { CacheStatus::Miss { collapsed: joined } };
        Ok(Found { body: PackageBody::Filling { fill, length }, id, named_at: None, cache })
    }

    /// Asks where a package is. `shared`: whoever may read the feed may have what comes of it, and so what is stored.
    async fn locating(
        self,
        request: Request,
        route: PackageRoute,
        (deadline, shared): (Instant, bool),
        interest: Interest,
    ) -> Landing<Located> {
        // Nothing was there when the request looked; another flight may have landed since.
        if shared && let Some(found) = self.stored(&route).await {
            return Landing::now(Located::Known(found));
        }
        let (key, removals) = (self.package_key(&route), self.removals(&route));
        if let Err(error) = self.may_ask(&request.caller, Some(&route.feed)) {
            return Landing::now(Located::Failed(error));
        }
        if let Some(rehearsal) = &self.rehearsal {
            return Landing::now(Located::Failed(self.suppose_package(rehearsal, &route)));
        }
        // As of before the question: a write meanwhile may have changed the answer.
        let sought = self.package_sought(&route);
        let asked = self.asked(&request, &route, deadline, interest.clone());
        let location = match self.settle(self.parts.service.locate(asked.clone()).await) {
            Ok(Location::Refused(refused)) => {
                if let Refused::NotFound(refusal) = &refused {
                    self.note_missing(&request.caller, &sought, refusal);
                }
                self.heard(Service::Pkgs, &route.feed.org, Some(&refused));
                if is_denial(refused.refusal().status) {
                    // It may be about this one package (facts §3.3): ask about the feed again. Any other
                    // answer says nothing of rights, and in an outage the permission is still needed.
                    self.parts.access.forget(&request.caller, &route.feed);
                }
                return Landing::now(Located::Failed(HandlerError::from(refused)));
            }
            Err(error) => return Landing::now(Located::Unanswered(error)),
            Ok(location) => location,
        };
        self.note_present(&request.caller, &sought);
        self.heard(Service::Pkgs, &route.feed.org, None);
        self.parts.access.allow(&request.caller, &route.feed, self.now());
        let located = self.fetch_located((&request, &route), &key, location, (&asked, &interest)).await;
        match &located {
            Located::Stored(blob) => {
                self.remember(&route.key(), blob.id, removals).await;
                Landing::now(located)
            }
            Located::Known(_) | Located::Failed(_) | Located::Unanswered(_) => Landing::now(located),
            Located::Filling { fill, id } => {
                self.arriving.insert(&key, fill, *id);
                let linger = self.clone().concluding(Arc::clone(fill), route, key, removals).boxed();
                Landing { value: located, linger: Some(linger) }
            }
        }
    }

    async fn fetch_located(
        &self,
        (request, route): (&Request, &PackageRoute),
        key: &str,
        location: Location,
        (question, waiters): (&UpstreamRequest, &Interest),
    ) -> Located {
        match location {
            Location::Refused(refused) => Located::Failed(HandlerError::from(refused)),
            Location::Direct(response) if is_document(&response) => Located::Failed(HandlerError::Integrity(
                "the service sent a document where a package was due".to_owned(),
            )),
            Location::Direct(response) => self.fill(response, None, self.dist(request, route).await.as_ref()),
            Location::Redirect(location) => {
                let id = location.storage_id;
                if let Some(id) = &id
                    && let Some(blob) = self.open(id).await
                {
                    return Located::Stored(blob);
                }
                let flight = id.map_or_else(|| key.to_owned(), |id| id.to_string());
                self.downloads.drop_dead(&flight, Located::is_dead);
                let (handler, wanted) = (self.clone(), (request.clone(), route.clone()));
                let work = |interest| {
                    let asker = self.asker(request, interest, Urgency::Needed);
                    let again = UpstreamRequest { asker, ..question.clone() };
                    async move {
                        // Another download of it may have ended since. Whether is not asked by opening it: that it is
                        // not there has been counted.
                        if let Some(id) = &id
                            && handler.is_stored(id).await
                            && let Some(blob) = handler.open(id).await
                        {
                            return Landing::now(Located::Stored(blob));
                        }
                        // The packument is read while the blob host is asked.
                        let response = handler.parts.service.package(location, again);
                        let (response, dist) = join(response, handler.dist(&wanted.0, &wanted.1)).await;
                        let located = match handler.settle(response) {
                            Ok(response) => handler.fill(response, id, dist.as_ref()),
                            Err(error) => Located::Failed(error),
                        };
                        Landing { linger: located.lingering(), value: located }
                    }
                };
                self.downloads.run_for(&flight, waiters, work).await.0.unwrap_or_else(Located::died)
            }
        }
    }

    /// Starts a download's own task, which goes on when the client leaves.
    fn fill(&self, response: UpstreamResponse, id: Option<StorageId>, dist: Option<&Dist>) -> Located {
        let length =
            response.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // Plain bytes were asked for; a coded body is not the package.
        let wrong = match length {
            _ if is_coded(&response.headers) => Some("the package came with a content coding"),
            Some(0) => Some(EMPTY),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Located::Failed(HandlerError::Integrity(wrong.to_owned()));
        }
        let published = dist.map(|dist| published_digests(dist.integrity.as_deref(), dist.shasum.as_deref()));
        let published = published.unwrap_or_default();
        let expected = Expected { storage_id: id, length, sha1: published.sha1, sha512: published.sha512 };
        let (writer, fill) = Fill::unstored(expected);
        tokio::spawn(pump(response.body, writer, Arc::clone(&self.parts.blobs)));
        Located::Filling { fill, id }
    }

    /// What the service is asked to learn where a package is.
    fn asked(
        &self,
        request: &Request,
        route: &PackageRoute,
        deadline: Instant,
        interest: Interest,
    ) -> UpstreamRequest {
        let target = Target::Service {
            service: Service::Pkgs,
            org: route.feed.org.clone(),
            path: route.upstream_path(),
        };
        UpstreamRequest {
            headers: request.headers.clone(),
            authorization: request.caller.authorization().cloned(),
            deadline: Some(deadline),
            ..UpstreamRequest::get(target, self.asker(request, interest, Urgency::Needed))
        }
    }

    async fn concluding(self, fill: Arc<Fill>, route: PackageRoute, flight: String, removals: u64) {
        let finished = fill.finished().await;
        self.conclude(finished, &route.key(), removals).await;
        self.arriving.remove(&flight, &fill);
    }

    async fn conclude(&self, finished: Result<Finished, FillError>, key: &str, removals: u64) {
        match finished {
            Ok(finished) if finished.stored => {
                self.remember(key, finished.id, removals).await;
            }
            Ok(_) => {
                self.parts.metrics.unstored();
                tracing::warn!(key, "package served but not stored");
            }
            Err(error) => {
                match &error {
                    FillError::Mismatch(mismatch) => self.parts.metrics.integrity(mismatch.as_str()),
                    error => self.parts.metrics.failed(error.as_str()),
                }
                tracing::warn!(%error, key, "download failed; nothing was stored");
            }
        }
    }

    /// What the packument says of the file, when it is known.
    async fn dist(&self, request: &Request, route: &PackageRoute) -> Option<Dist> {
        let Package::Npm { name, file } = &route.package else { return None };
        let packument =
            DocumentRoute { feed: route.feed.clone(), document: Document::Packument(name.clone()) };
        let entry = self.entry(&packument, request.caller.audience()).await?;
        let _room = self.room(entry.length).await;
        let body = self.parts.documents.body(&entry).await?;
        let file = file.clone();
        lanes::aside(body.len(), move || dist_of(&body, &file)).await.flatten()
    }
}

/// Whether an answer that came without a redirect, and so without a content hash, says itself that it is no package.
fn is_document(response: &UpstreamResponse) -> bool {
    let kind =
        response.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json") || kind.starts_with("text/")
}

async fn pump(mut body: Box<dyn BodyStream>, mut writer: FillWriter, store: Arc<dyn BlobStore>) {
    // The store makes room while the first bytes are on their way, to clients too.
    writer.begin_behind(store, BlobKind::Package);
    let mut is_empty = true;
    loop {
        match body.next().await {
            Ok(Some(bytes)) => {
                is_empty = false;
                if writer.push(bytes).await.is_err() {
                    return;
                }
            }
            Ok(None) if is_empty => return writer.fail(FillError::Upstream(EMPTY.to_owned())),
            Ok(None) => {
                // The outcome is the fill's; `concluding` reports it.
                let _ = writer.finish().await;
                return;
            }
            Err(error) => return writer.fail(failure(&error)),
        }
    }
}

fn failure(error: &UpstreamError) -> FillError {
    FillError::Upstream(error.to_string())
}

fn own_flight(key: &str, caller: &Caller) -> String {
    format!("{key}\n{}", super::document::hex(caller))
}

fn is_worth_another_try(error: &HandlerError) -> bool {
    matches!(error, HandlerError::Unavailable(_) | HandlerError::Integrity(_)) || error.is_abandoned()
}
