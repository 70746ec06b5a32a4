//! Metadata: fresh from the store, refreshed behind the answer, or fetched while the caller waits.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    CacheStatus, Fetched, Handler, HandlerError, Reply, Request,
    asking::Urgency,
    keep::{accept, expected},
    permission::Permission,
    wishes::Wishes,
};
use crate::{
    access::{Audience, Caller, Standing},
    cache::{Assessment, Entry, Generation, Landing, Usability, assess},
    config::Mode,
    document::representation::{Form, Representation, joined, negotiate_form},
    route::{Document, DocumentClass, DocumentRoute},
    throttle::Asker,
    upstream::{Answer, Refused, Service, Target, UpstreamRequest},
};

/// Documents are private and always asked for again; the entity tag makes that cheap.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A representation for one request, and what it was made from.
pub(super) struct Represented {
    /// The document.
    pub(super) entry: Arc<Entry>,
    /// What is sent of it.
    pub(super) representation: Arc<Representation>,
    /// How it came about.
    pub(super) cache: CacheStatus,
}

/// The copy of a document that a request gets, with its body when that is at hand.
pub(super) struct Obtained {
    pub(super) entry: Arc<Entry>,
    pub(super) body: Option<Bytes>,
    pub(super) cache: CacheStatus,
}

// === impl Handler ===

impl Handler {
    /// Answers GET and HEAD of a document.
    pub(super) async fn document(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Reply, HandlerError> {
        let Represented { entry, representation, cache } = self.represented(request, route).await?;
        Ok(document_reply(request, &entry, &representation, cache))
    }

    /// The representation of a document that `request` may have.
    pub(super) async fn represented(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Represented, HandlerError> {
        self.guard_document(request, route).await?;
        let obtained = self.obtained(request, route).await?;
        if let Some(rehearsal) = &self.rehearsal {
            return self.would_represent(rehearsal, request, route, obtained).await;
        }
        let Obtained { entry, body, cache } = obtained;
        let stored = body.is_none();
        if let Some(representation) = self.represent(request, route, &entry, body).await? {
            return Ok(Represented { entry, representation, cache });
        }
        if stored {
            // The body is lost, so the entry is of no use.
            self.parts.documents.remove(&key(route, request.caller.audience())).await;
        }
        let Obtained { entry, body, cache } = self.missing(request, route).await?;
        let representation = self.represent(request, route, &entry, body).await?;
        let representation =
            representation.ok_or_else(|| HandlerError::Internal("no representation".to_owned()))?;
        Ok(Represented { entry, representation, cache })
    }

    /// The copy of a document that `request` gets: the stored one or a new one.
    pub(super) async fn obtained(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Obtained, HandlerError> {
        let wishes = Wishes::of(&request.headers);
        if wishes.only_if_cached {
            return self.obtained_unasked(request, route, wishes).await;
        }
        let Some(entry) = self.entry(route, request.caller.audience()).await else {
            return self.missing(request, route).await;
        };
        let permission = self.permission(request, &route.feed).await?;
        let assessment = self.assessed(route, &entry);
        let Assessment { usability, ttl, .. } = assessment;
        if permission == Permission::Undecided {
            return match self.fetch_as(request, route, Urgency::Needed).await {
                Err(error) if self.grace_covers(request, &route.feed, &error) => {
                    Ok(Obtained::stored(entry, self.stale(route, ttl)))
                }
                own => Ok(Obtained::fetched(own?, CacheStatus::Refreshed { collapsed: false })),
            };
        }
        if entry.generation != self.generation(route) {
            return self.rewritten_or_stale(request, route, entry, assessment).await;
        }
        let usable = matches!(usability, Usability::Fresh | Usability::StaleWhileRevalidate);
        if usable && wishes.revalidate && (request.ahead || self.may_revalidate(&request.caller, route)) {
            return self.refreshed_or_stale(request, route, entry, true).await;
        }
        match usability {
            Usability::Fresh => {
                if assessment.is_ripe(&self.freshness(route), entry.digest[0]) {
                    self.refresh_behind(request, route);
                }
                Ok(Obtained::stored(entry, CacheStatus::Hit { ttl: Some(ttl) }))
            }
            Usability::StaleWhileRevalidate if self.mode(&route.feed) == Mode::Offline => {
                Ok(Obtained::stored(entry, CacheStatus::Offline { ttl }))
            }
            Usability::StaleWhileRevalidate => {
                self.refresh_behind(request, route);
                Ok(Obtained::stored(entry, CacheStatus::StaleRefreshing { ttl }))
            }
            Usability::StaleIfError => self.refreshed_or_stale(request, route, entry, false).await,
            Usability::Expired => {
                let (fetched, collapsed) = self.fetch_shared(request, route, Urgency::Needed).await;
                Ok(Obtained::fetched(fetched?, CacheStatus::Refreshed { collapsed }))
            }
        }
    }

    /// The stored copy, for a caller who wants nothing that the service would have to be asked for.
    async fn obtained_unasked(
        &self,
        request: &Request,
        route: &DocumentRoute,
        wishes: Wishes,
    ) -> Result<Obtained, HandlerError> {
        self.permission_unasked(request, &route.feed)?;
        let entry = self.entry(route, request.caller.audience()).await.filter(|_| !wishes.revalidate);
        let entry = entry.filter(|entry| entry.generation == self.generation(route));
        let entry = entry.ok_or(HandlerError::OnlyIfCached)?;
        let Assessment { usability, ttl, .. } = self.assessed(route, &entry);
        let cache = match usability {
            Usability::Fresh => CacheStatus::Hit { ttl: Some(ttl) },
            Usability::StaleWhileRevalidate => CacheStatus::StaleRefreshing { ttl },
            Usability::StaleIfError if self.suspects(service(route), &route.feed) => self.stale(route, ttl),
            Usability::StaleIfError | Usability::Expired => return Err(HandlerError::OnlyIfCached),
        };
        Ok(Obtained::stored(entry, cache))
    }

    /// Whether the service is asked because a client wants it: always when it is being asked already, else as
    /// often as the document's allowance lets.
    fn may_revalidate(&self, caller: &Caller, route: &DocumentRoute) -> bool {
        let generation = self.generation(route);
        self.fetches.in_flight(&flight("", caller, route, generation))
            || self.revalidations.take(&key(route, caller.audience()))
    }

    /// Fetches with the caller's own credential: the answer is the caller's verdict too.
    pub(super) async fn fetch_as(
        &self,
        request: &Request,
        route: &DocumentRoute,
        urgency: Urgency,
    ) -> Result<Fetched, HandlerError> {
        self.fetch(&hex(&request.caller), request, route, urgency).await.0
    }

    /// The stored document, unless a write took away what it tells of.
    pub(super) async fn entry(&self, route: &DocumentRoute, audience: Audience) -> Option<Arc<Entry>> {
        let entry = self.known_entry(&key(route, audience)).await?;
        (entry.generation.removals == self.generation(route).removals).then_some(entry)
    }

    /// The generation of a document that is asked for now.
    pub(super) fn generation(&self, route: &DocumentRoute) -> Generation {
        self.parts.generations.current(&route.feed, &route.document.subject())
    }

    /// How usable `entry` is by its age.
    pub(super) fn assessed(&self, route: &DocumentRoute, entry: &Entry) -> Assessment {
        let mut assessment = assess(&self.freshness(route), entry.fetched_at, self.now());
        if assessment.usability != Usability::Fresh && self.mode(&route.feed) == Mode::Strict {
            assessment.usability = Usability::Expired;
        }
        assessment
    }

    pub(super) async fn missing(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Obtained, HandlerError> {
        if Wishes::of(&request.headers).only_if_cached {
            return Err(HandlerError::OnlyIfCached);
        }
        self.screen_anonymous(request, &route.feed).await?;
        let caller = &request.caller;
        if !Wishes::of(&request.headers).revalidate
            && let Some(refusal) =
                self.known_missing(caller, &Self::document_sought(route, self.generation(route)))
        {
            return Err(HandlerError::Refused(refusal));
        }
        let (fetched, collapsed) = match self.standing(caller, &route.feed) {
            Standing::Denied(refusal) => return Err(HandlerError::Refused(refusal)),
            Standing::Allowed => self.fetch_shared(request, route, Urgency::Needed).await,
            // The service index is the very question that permission is; a feed whose index just gave no word is
            // not asked for it again.
            Standing::Grace | Standing::Unknown
                if route.document == Document::ServiceIndex || !route.feed.is_identified() =>
            {
                (self.fetch_as(request, route, Urgency::Needed).await, false)
            }
            // Asked first, two callers who begin at the same moment still have one fetch.
            Standing::Grace | Standing::Unknown => match self.permission(request, &route.feed).await? {
                Permission::Granted => self.fetch_shared(request, route, Urgency::Needed).await,
                Permission::Undecided => (self.fetch_as(request, route, Urgency::Needed).await, false),
            },
        };
        Ok(Obtained::fetched(fetched?, CacheStatus::Miss { collapsed }))
    }

    /// A document that a write has changed: whoever wrote waits for the new one however long it takes, and only
    /// when the service fails does the old one stand in, as long as one that is stale may.
    async fn rewritten_or_stale(
        &self,
        request: &Request,
        route: &DocumentRoute,
        entry: Arc<Entry>,
        assessment: Assessment,
    ) -> Result<Obtained, HandlerError> {
        let (fetched, collapsed) = self.fetch_shared(request, route, Urgency::Needed).await;
        match fetched {
            Err(error) if error.is_outage() && assessment.usability != Usability::Expired => {
                Ok(Obtained::stored(entry, self.stale(route, assessment.ttl)))
            }
            fetched => Ok(Obtained::fetched(fetched?, CacheStatus::Refreshed { collapsed })),
        }
    }

    /// `forced`: the copy is fresh, and the client wants the service to be asked all the same.
    async fn refreshed_or_stale(
        &self,
        request: &Request,
        route: &DocumentRoute,
        entry: Arc<Entry>,
        forced: bool,
    ) -> Result<Obtained, HandlerError> {
        let stale = self.stale(route, self.assessed(route, &entry).ttl);
        if self.suspects(service(route), &route.feed) {
            return Ok(Obtained::stored(entry, stale));
        }
        let work = self.fetch_shared(request, route, Urgency::Wished);
        let patience = async {
            if request.ahead || self.mode(&route.feed) == Mode::Strict {
                return Some(work.await);
            }
            self.patiently(&route.key(), &route.feed, work).await
        };
        match patience.await {
            Some((Ok(fetched), collapsed)) => {
                let cache = if forced {
                    CacheStatus::Demanded { collapsed }
                } else {
                    CacheStatus::Refreshed { collapsed }
                };
                Ok(Obtained::fetched(fetched, cache))
            }
            Some((Err(error), _)) if !error.is_outage() || self.mode(&route.feed) == Mode::Strict => {
                Err(error)
            }
            Some((Err(_), _)) | None => Ok(Obtained::stored(entry, stale)),
        }
    }

    /// Not while the budget is tight: whoever waits needs what is left of it. Nor for a feed that is offline.
    fn refresh_behind(&self, request: &Request, route: &DocumentRoute) {
        let caller = &request.caller;
        if self.suspects(service(route), &route.feed)
            || self.mode(&route.feed) == Mode::Offline
            || self.is_tight(&route.feed.org, caller.authorization())
        {
            return;
        }
        if let Some(rehearsal) = &self.rehearsal {
            return rehearsal.fetched_behind();
        }
        let (generation, urgency) = (self.generation(route), Urgency::Behind);
        let work = |interest| {
            let asker = self.asker(request, interest, urgency);
            self.clone().fetching(request.clone(), route.clone(), generation, asker, true)
        };
        self.fetches.start(
            &flight("", caller, route, generation),
            request.priority(urgency.priority()),
            work,
        );
    }

    /// Fetches for everybody who may read the feed now. A refusal is the business of the caller whose credential
    /// was used; the others ask with their own, as does a caller whose permission has lapsed: it is good for
    /// what is stored, not for what another's credential is fetching.
    async fn fetch_shared(
        &self,
        request: &Request,
        route: &DocumentRoute,
        urgency: Urgency,
    ) -> (Result<Fetched, HandlerError>, bool) {
        if !matches!(self.standing(&request.caller, &route.feed), Standing::Allowed) {
            return (self.fetch_as(request, route, urgency).await, false);
        }
        match self.fetch("", request, route, urgency).await {
            (Err(HandlerError::Refused(_)), true) => (self.fetch_as(request, route, urgency).await, false),
            other => other,
        }
    }

    /// `own` is empty for a fetch that others may share, and else tells whose it is.
    async fn fetch(
        &self,
        own: &str,
        request: &Request,
        route: &DocumentRoute,
        urgency: Urgency,
    ) -> (Result<Fetched, HandlerError>, bool) {
        if let Some(rehearsal) = &self.rehearsal {
            return (self.suppose_document(rehearsal, request, route), false);
        }
        loop {
            let generation = self.generation(route);
            let flight = flight(own, &request.caller, route, generation);
            let work = |interest| {
                let asker = self.asker(request, interest, urgency);
                self.clone().fetching(request.clone(), route.clone(), generation, asker, own.is_empty())
            };
            let (landed, joined) =
                self.fetches.run(&flight, request.priority(urgency.priority()), work).await;
            let landed = landed.unwrap_or_else(|| Err(HandlerError::Internal("a fetch died".to_owned())));
            // The others had all left, and it gave up just when this one came.
            if joined && landed.as_ref().is_err_and(HandlerError::is_abandoned) {
                continue;
            }
            return (landed, joined);
        }
    }

    async fn fetching(
        self,
        request: Request,
        route: DocumentRoute,
        generation: Generation,
        asker: Asker,
        shared: bool,
    ) -> Landing<Result<Fetched, HandlerError>> {
        if shared && let Some(fetched) = self.landed_since(&request, &route, generation).await {
            return Landing::now(Ok(fetched));
        }
        let fetched = self.fetch_once(&request, &route, generation, asker).await;
        match &fetched {
            Ok(fetched) => self.parts.access.allow(&request.caller, &fetched.feed, self.now()),
            Err(HandlerError::Refused(refusal)) => self.note_refusal(&request.caller, &route.feed, refusal),
            Err(_) => {}
        }
        Landing::now(fetched)
    }

    /// What another fetch brought after `request` had come, or had looked: this one found nothing just before, and the
    /// other had landed when this one would have joined it.
    async fn landed_since(
        &self,
        request: &Request,
        route: &DocumentRoute,
        generation: Generation,
    ) -> Option<Fetched> {
        let entry = self.parts.documents.entry(&key(route, request.caller.audience())).await?;
        let since = entry.fetched_at > request.received_at;
        // Who finds a fresh copy asks for another only by his own wish.
        let fresh = || !Wishes::of(&request.headers).revalidate && self.fresh(route, &entry).is_some();
        let landed = entry.generation == generation && (since || fresh());
        let entry = landed.then_some(entry)?;
        let body = self.parts.documents.body(&entry).await?;
        Some(Fetched { entry, body, feed: route.feed.clone() })
    }

    async fn fetch_once(
        &self,
        request: &Request,
        route: &DocumentRoute,
        generation: Generation,
        asker: Asker,
    ) -> Result<Fetched, HandlerError> {
        self.may_ask(&request.caller, Some(&route.feed))?;
        let expect = expected(route.document.format());
        let (learning, caller) = (self.learning(route), &request.caller);
        let mut headers = request.headers.clone();
        headers.insert(header::ACCEPT, accept(expect));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let target = Target::Service {
            service: service(route),
            org: route.feed.org.clone(),
            path: route.upstream_path(),
        };
        let request = UpstreamRequest {
            headers,
            authorization: caller.authorization().cloned(),
            ..UpstreamRequest::get(target, asker)
        };
        let answer = self.settle(self.parts.service.document(request, expect).await)?;
        self.heard(service(route), &route.feed.org, answer.refused());
        match answer {
            Answer::Success(response) => {
                let fetched = self.keep(caller.audience(), route, generation, response).await?;
                if let Some(learning) = learning {
                    self.learn_listed(learning, fetched.body.clone()).await;
                }
                Ok(fetched)
            }
            Answer::Refused(refused) => {
                if let Refused::NotFound(refusal) = &refused {
                    self.gone(caller, route, generation, refusal).await;
                }
                Err(HandlerError::from(refused))
            }
        }
    }
}

// === impl Obtained ===

impl Obtained {
    fn stored(entry: Arc<Entry>, cache: CacheStatus) -> Self {
        Self { entry, body: None, cache }
    }

    fn fetched(fetched: Fetched, cache: CacheStatus) -> Self {
        Self { entry: fetched.entry, body: Some(fetched.body), cache }
    }
}

pub(super) fn document_reply(
    request: &Request,
    entry: &Entry,
    representation: &Representation,
    cache: CacheStatus,
) -> Reply {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, representation.content_type.clone());
    headers.insert(header::ETAG, representation.etag.clone());
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if let Some(coding) = representation.encoding.content_encoding() {
        headers.insert(header::CONTENT_ENCODING, coding);
    }
    let age = request.received_at.duration_since(entry.fetched_at).unwrap_or_default();
    headers.insert(header::AGE, age.as_secs().into());
    Reply::bytes(StatusCode::OK, headers, representation.body.clone(), cache)
}

/// The key of a document for callers with, or without, a credential.
pub(super) fn key(route: &DocumentRoute, audience: Audience) -> String {
    format!("{}:{}", audience.letter(), route.key())
}

/// The form that a client asks for; only packuments have two.
pub(super) fn form(class: DocumentClass, headers: &HeaderMap) -> Form {
    if class == DocumentClass::Packument {
        negotiate_form(joined(headers, &header::ACCEPT).as_deref())
    } else {
        Form::Full
    }
}

/// The name of a fetch: of one document, one generation, and by whose credential (`own`).
fn flight(own: &str, caller: &Caller, route: &DocumentRoute, generation: Generation) -> String {
    let Generation { removals, changes } = generation;
    format!("{}\n{own}\n{removals}.{changes}", key(route, caller.audience()))
}

/// The host that has a document.
pub(super) fn service(route: &DocumentRoute) -> Service {
    if route.is_on_feeds_host() { Service::Feeds } else { Service::Pkgs }
}

pub(super) fn hex(caller: &Caller) -> String {
    crate::archive::hex(caller.id().as_bytes())
}
