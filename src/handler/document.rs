//! Metadata: fresh from the store, refreshed behind the answer, or fetched while the caller waits.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{CacheStatus, Fetched, Handler, HandlerError, Reply, Request, permission::Permission};
use crate::{
    access::{Audience, Caller, Standing},
    cache::{Assessment, Entry, Generation, Landing, Origin, Usability, assess},
    config::Freshness,
    document::representation::{Form, Representation, negotiate_form},
    route::{Document, DocumentClass, DocumentRoute, Format},
    upstream::{
        Answer, Expect, Refused, Service, Target, UpstreamError, UpstreamRequest, UpstreamResponse,
        body::read_document,
    },
};

/// Bodies above this are checked, rewritten and compressed off the I/O threads: 64 KiB take some 100 µs.
pub(super) const INLINE: usize = 64 << 10;

/// Documents are private and always asked for again; the entity tag makes that cheap.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

// === impl Handler ===

impl Handler {
    /// Answers GET and HEAD of a document.
    pub(super) async fn document(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Reply, HandlerError> {
        let Some(entry) = self.entry(route, request.caller.audience()) else {
            return self.missing_document(request, route).await;
        };
        let permission = self.permission(request, &route.feed).await?;
        let assessment = assess(self.policy(route.class()), entry.fetched_at, self.now());
        let ttl = assessment.ttl;
        if permission == Permission::Undecided {
            let own = self.fetch_as(&request.caller, route, &request.headers).await;
            return match own {
                Err(error) if self.grace_covers(request, &route.feed, &error) => {
                    self.stored_reply(request, route, &entry, CacheStatus::StaleOnError { ttl }).await
                }
                own => {
                    let cache = CacheStatus::Refreshed { collapsed: false };
                    self.fetched_reply(request, route, own?, cache).await
                }
            };
        }
        if entry.generation != self.generation(route) {
            return self.rewritten_or_stale(request, route, &entry, assessment).await;
        }
        match assessment.usability {
            Usability::Fresh => {
                self.stored_reply(request, route, &entry, CacheStatus::Hit { ttl: Some(ttl) }).await
            }
            Usability::StaleWhileRevalidate => {
                self.refresh_behind(&request.caller, route, &request.headers);
                self.stored_reply(request, route, &entry, CacheStatus::StaleRefreshing { ttl }).await
            }
            Usability::StaleIfError => self.refreshed_or_stale(request, route, &entry, assessment).await,
            Usability::Expired => {
                let (fetched, collapsed) = self.fetch_shared(&request.caller, route, &request.headers).await;
                self.fetched_reply(request, route, fetched?, CacheStatus::Refreshed { collapsed }).await
            }
        }
    }

    /// Fetches with the caller's own credential: the answer is the caller's verdict too.
    pub(super) async fn fetch_as(
        &self,
        caller: &Caller,
        route: &DocumentRoute,
        headers: &HeaderMap,
    ) -> Result<Fetched, HandlerError> {
        self.fetch(&hex(caller), caller, route, headers).await.0
    }

    /// The stored document, unless a write took away what it tells of.
    pub(super) fn entry(&self, route: &DocumentRoute, audience: Audience) -> Option<Arc<Entry>> {
        let entry = self.parts.documents.entry(&key(route, audience))?;
        (entry.generation.removals == self.generation(route).removals).then_some(entry)
    }

    /// The generation of a document that is asked for now.
    pub(super) fn generation(&self, route: &DocumentRoute) -> Generation {
        self.parts.generations.current(&route.feed, &route.document.subject())
    }

    async fn missing_document(
        &self,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Reply, HandlerError> {
        self.screen_anonymous(request, &route.feed).await?;
        let caller = &request.caller;
        let (fetched, collapsed) = match self.standing(caller, &route.feed) {
            Standing::Denied(refusal) => return Err(HandlerError::Refused(refusal)),
            Standing::Allowed => self.fetch_shared(caller, route, &request.headers).await,
            Standing::Grace | Standing::Unknown => {
                (self.fetch_as(caller, route, &request.headers).await, false)
            }
        };
        self.fetched_reply(request, route, fetched?, CacheStatus::Miss { collapsed }).await
    }

    /// A document that a write has changed: whoever wrote waits for the new one however long it takes, and only
    /// when the service fails does the old one stand in, as long as one that is stale may.
    async fn rewritten_or_stale(
        &self,
        request: &Request,
        route: &DocumentRoute,
        entry: &Arc<Entry>,
        assessment: Assessment,
    ) -> Result<Reply, HandlerError> {
        let (fetched, collapsed) = self.fetch_shared(&request.caller, route, &request.headers).await;
        match fetched {
            Err(error) if error.is_outage() && assessment.usability != Usability::Expired => {
                let stale = CacheStatus::StaleOnError { ttl: assessment.ttl };
                self.stored_reply(request, route, entry, stale).await
            }
            fetched => {
                self.fetched_reply(request, route, fetched?, CacheStatus::Refreshed { collapsed }).await
            }
        }
    }

    async fn refreshed_or_stale(
        &self,
        request: &Request,
        route: &DocumentRoute,
        entry: &Arc<Entry>,
        assessment: Assessment,
    ) -> Result<Reply, HandlerError> {
        let stale = CacheStatus::StaleOnError { ttl: assessment.ttl };
        if self.outage.suspected() {
            return self.stored_reply(request, route, entry, stale).await;
        }
        match self.patiently(self.fetch_shared(&request.caller, route, &request.headers)).await {
            Some((Ok(fetched), collapsed)) => {
                self.fetched_reply(request, route, fetched, CacheStatus::Refreshed { collapsed }).await
            }
            Some((Err(error), _)) if !error.is_outage() => Err(error),
            Some((Err(_), _)) | None => self.stored_reply(request, route, entry, stale).await,
        }
    }

    fn refresh_behind(&self, caller: &Caller, route: &DocumentRoute, headers: &HeaderMap) {
        if self.outage.suspected() {
            return;
        }
        let generation = self.generation(route);
        let work = || self.clone().fetching(caller.clone(), route.clone(), headers.clone(), generation);
        self.fetches.start(&flight("", caller, route, generation), work);
    }

    /// Fetches for everybody who may read the feed now. A refusal is the business of the caller whose credential
    /// was used; the others ask with their own, as does a caller whose permission has lapsed: it is good for
    /// what is stored, not for what another's credential is fetching.
    async fn fetch_shared(
        &self,
        caller: &Caller,
        route: &DocumentRoute,
        headers: &HeaderMap,
    ) -> (Result<Fetched, HandlerError>, bool) {
        if !matches!(self.standing(caller, &route.feed), Standing::Allowed) {
            return (self.fetch_as(caller, route, headers).await, false);
        }
        match self.fetch("", caller, route, headers).await {
            (Err(HandlerError::Refused(_)), true) => (self.fetch_as(caller, route, headers).await, false),
            other => other,
        }
    }

    /// `own` is empty for a fetch that others may share, and else tells whose it is.
    async fn fetch(
        &self,
        own: &str,
        caller: &Caller,
        route: &DocumentRoute,
        headers: &HeaderMap,
    ) -> (Result<Fetched, HandlerError>, bool) {
        let generation = self.generation(route);
        let work = || self.clone().fetching(caller.clone(), route.clone(), headers.clone(), generation);
        let (landed, joined) = self.fetches.run(&flight(own, caller, route, generation), work).await;
        (landed.unwrap_or_else(|| Err(HandlerError::Internal("a fetch died".to_owned()))), joined)
    }

    async fn fetching(
        self,
        caller: Caller,
        route: DocumentRoute,
        headers: HeaderMap,
        generation: Generation,
    ) -> Landing<Result<Fetched, HandlerError>> {
        let fetched = self.fetch_once(&caller, &route, headers, generation).await;
        match &fetched {
            Ok(fetched) => self.parts.access.allow(&caller, &fetched.feed, self.now()),
            Err(HandlerError::Refused(refusal)) => self.note_refusal(&caller, &route.feed, refusal),
            Err(_) => {}
        }
        Landing::now(fetched)
    }

    async fn fetch_once(
        &self,
        caller: &Caller,
        route: &DocumentRoute,
        mut headers: HeaderMap,
        generation: Generation,
    ) -> Result<Fetched, HandlerError> {
        let expect = expected(route.document.format());
        headers.insert(header::ACCEPT, accept(expect));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let request = UpstreamRequest {
            method: Method::GET,
            target: Target::Service {
                service: if route.is_on_feeds_host() { Service::Feeds } else { Service::Pkgs },
                org: route.feed.org.clone(),
                path: route.upstream_path(),
            },
            headers,
            authorization: caller.authorization().cloned(),
        };
        match self.settle(self.parts.service.document(request, expect).await)? {
            Answer::Success(response) => self.keep(caller.audience(), route, generation, response).await,
            Answer::Refused(refused) => {
                if matches!(refused, Refused::NotFound(_)) {
                    self.parts.documents.remove(&key(route, caller.audience()));
                }
                Err(self.refused(refused))
            }
        }
    }

    /// Notes whether the service could be reached.
    pub(super) fn settle<T>(&self, result: Result<T, UpstreamError>) -> Result<T, HandlerError> {
        match &result {
            Ok(_) => self.outage.answered(),
            Err(
                UpstreamError::Connect { .. } | UpstreamError::Broken { .. } | UpstreamError::Timeout { .. },
            ) => self.outage.failed(),
            Err(_) => {}
        }
        result.map_err(HandlerError::from)
    }

    /// The error for an answer that is not the object.
    pub(super) fn refused(&self, refused: Refused) -> HandlerError {
        // A refusal for load concerns everything; another 5xx may be about this one route only.
        if matches!(refused, Refused::Busy { .. }) {
            self.outage.failed();
        }
        match refused {
            Refused::Unauthorized(refusal)
            | Refused::Forbidden(refusal)
            | Refused::NotFound(refusal)
            | Refused::Rejected(refusal) => HandlerError::Refused(Arc::new(refusal)),
            Refused::Busy { retry_after, refusal } => {
                HandlerError::Failing { retry_after, refusal: Arc::new(refusal) }
            }
            Refused::Failed(refusal) => {
                HandlerError::Failing { retry_after: None, refusal: Arc::new(refusal) }
            }
        }
    }

    async fn keep(
        &self,
        audience: Audience,
        route: &DocumentRoute,
        generation: Generation,
        response: UpstreamResponse,
    ) -> Result<Fetched, HandlerError> {
        let (limit, origin) = (self.parts.max_document, origin(route, &response));
        let body = self.settle(read_document(response, limit).await)?;
        let expect = expected(route.document.format());
        let body = super::represent::checked(expect, body).await.map_err(|error| {
            self.parts.metrics.integrity("document");
            tracing::warn!(%error, key = route.key(), "the service sent a document that is not one");
            HandlerError::Integrity(error.to_string())
        })?;
        let mut route = route.clone();
        if route.document == Document::ServiceIndex {
            route.feed = self.learn(&route.feed, &body);
        }
        let key = key(&route, audience);
        let entry = self.parts.documents.put(&key, body.clone(), self.now(), generation, origin).await;
        Ok(Fetched { entry, body, feed: route.feed })
    }

    async fn stored_reply(
        &self,
        request: &Request,
        route: &DocumentRoute,
        entry: &Arc<Entry>,
        cache: CacheStatus,
    ) -> Result<Reply, HandlerError> {
        if let Some(representation) = self.represent(request, route, entry, None).await {
            return Ok(document_reply(request, entry, &representation, cache));
        }
        self.parts.documents.remove(&key(route, request.caller.audience()));
        self.missing_document(request, route).await
    }

    async fn fetched_reply(
        &self,
        request: &Request,
        route: &DocumentRoute,
        fetched: Fetched,
        cache: CacheStatus,
    ) -> Result<Reply, HandlerError> {
        let Fetched { entry, body, .. } = fetched;
        let representation = self.represent(request, route, &entry, Some(body)).await;
        let representation =
            representation.ok_or_else(|| HandlerError::Internal("no representation".to_owned()))?;
        Ok(document_reply(request, &entry, &representation, cache))
    }

    fn policy(&self, class: DocumentClass) -> &Freshness {
        let metadata = &self.parts.metadata;
        match class {
            DocumentClass::ServiceIndex => &metadata.service_index,
            DocumentClass::Packument => &metadata.packument,
            DocumentClass::VersionList => &metadata.version_list,
            DocumentClass::Registration => &metadata.registration,
            DocumentClass::Nuspec => &metadata.nuspec,
            DocumentClass::Search => &metadata.search,
            DocumentClass::Vulnerabilities => &metadata.vulnerabilities,
            DocumentClass::Odata => &metadata.odata,
            DocumentClass::Rest => &metadata.rest,
            DocumentClass::Feeds => &metadata.feeds,
        }
    }
}

fn document_reply(
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
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        negotiate_form(accept)
    } else {
        Form::Full
    }
}

/// The name of a fetch: of one document, one generation, and by whose credential (`own`).
fn flight(own: &str, caller: &Caller, route: &DocumentRoute, generation: Generation) -> String {
    let Generation { removals, changes } = generation;
    format!("{}\n{own}\n{removals}.{changes}", key(route, caller.audience()))
}

/// What to remember of the exchange.
fn origin(route: &DocumentRoute, response: &UpstreamResponse) -> Origin {
    let own = matches!(route.document, Document::Odata(_) | Document::Rest(_));
    let kind = response.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.filter(|kind| own && kind.len() < 256).unwrap_or_default();
    let spelling = if route.document.repeats_spelling() {
        format!("{}{}", route.feed.org, route.feed_path())
    } else {
        String::new()
    };
    Origin { content_type: kind.to_owned(), spelling }
}

fn expected(format: Format) -> Expect {
    match format {
        Format::Json => Expect::Json,
        Format::Xml => Expect::Xml,
        Format::Text => Expect::Bytes,
    }
}

fn accept(expect: Expect) -> HeaderValue {
    HeaderValue::from_static(match expect {
        Expect::Xml => "application/xml, application/atom+xml, text/xml, */*",
        Expect::Json => "application/json",
        Expect::Bytes | Expect::Any => "*/*",
    })
}

pub(super) fn hex(caller: &Caller) -> String {
    use std::fmt::Write as _;
    caller.id().as_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
