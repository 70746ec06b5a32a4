//! A gate that goes through a request without asking the service: how what would happen is known beforehand.
//!
//! [`Handler::rehearse`] answers a request with a copy of the gate that shares everything stored and known, and runs the
//! very code that answers clients; there is no second account of the decisions. Only where that code would put a question
//! to the service the copy goes another way: it notes the question, and takes for given either that the service answers
//! well, or that it gives no answer. What follows from a good answer (the caller may read the feed, the document is here)
//! is supposed for the rest of the rehearsal. It ends where the bytes of an answer would be made or fetched.
//!
//! What the service really answers is not known beforehand: which feed a new spelling means, or that there is no such
//! package. Nothing is written: what the code would remember of an outage, or take of an allowance, it does to copies.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    CacheStatus, Fetched, Handler, HandlerError, Outcome, Request,
    document::{Obtained, Represented, key, service},
    service_of,
};
use crate::{
    cache::{Body, Entry, Origin},
    ident::{FeedRef, Name},
    route::{Document, DocumentRoute, PackageRoute},
    upstream::Service,
};

/// What is taken for given of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supposed {
    /// It answers well.
    Answers,
    /// It cannot be reached.
    Silent,
}

/// What the service would be asked while the client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The feed's service index: which feed it is, and whether the caller may read it.
    Feed,
    /// The document.
    Document,
    /// Where the bytes of a package are, and for the bytes unless they are stored under another name.
    Package,
    /// The request itself, whatever it is.
    Request,
}

/// How a request would end.
#[derive(Debug)]
pub(super) enum End {
    /// With an object, or an answer of the gate's own.
    Reply(CacheStatus),
    /// With a refusal.
    Refused(HandlerError),
    /// It would be forwarded as it is.
    Forwarded,
    /// Its body would be read, and be the question.
    Body,
}

/// What a rehearsal came to.
#[derive(Debug)]
pub(super) struct Rehearsed {
    /// What the service would be asked, in this order.
    pub(super) questions: Vec<Question>,
    /// Whether a document would be fetched behind the answer.
    pub(super) behind: bool,
    /// How it would end.
    pub(super) end: End,
}

/// One rehearsal under way.
pub(super) struct Rehearsal {
    supposed: Supposed,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    questions: Vec<Question>,
    behind: bool,
    /// Feeds that the caller may read by a supposed answer.
    allowed: HashSet<String>,
    /// Documents that are here by one.
    documents: HashMap<String, Arc<Entry>>,
    /// Where the rehearsal ended.
    end: Option<CacheStatus>,
}

// === impl Rehearsal ===

impl Rehearsal {
    fn new(supposed: Supposed) -> Self {
        Self { supposed, notes: Mutex::default() }
    }

    /// Whether the caller may read `feed` by a supposed answer.
    pub(super) fn allows(&self, feed: &FeedRef) -> bool {
        let notes = self.notes.lock();
        !notes.allowed.is_empty() && notes.allowed.contains(feed.key())
    }

    /// The document that is here by a supposed answer.
    fn document(&self, key: &str) -> Option<Arc<Entry>> {
        self.notes.lock().documents.get(key).cloned()
    }

    /// A document would be fetched behind the answer.
    pub(super) fn fetched_behind(&self) {
        self.notes.lock().behind = true;
    }

    fn ask(&self, question: Question) -> Result<(), HandlerError> {
        let mut notes = self.notes.lock();
        if !notes.questions.contains(&question) {
            notes.questions.push(question);
        }
        match self.supposed {
            Supposed::Answers => Ok(()),
            Supposed::Silent => Err(HandlerError::Unavailable("supposed".to_owned())),
        }
    }

    /// Ends the rehearsal: an answer would be made from here on.
    fn end(&self, cache: CacheStatus) -> HandlerError {
        self.notes.lock().end = Some(cache);
        HandlerError::Internal("a rehearsal has ended".to_owned())
    }
}

// === impl Handler ===

impl Handler {
    /// What answering `request` comes to, if the service does as `supposed`. The request's feed and caller become what
    /// they are known to be.
    pub(super) async fn rehearse(&self, request: &mut Request, supposed: Supposed) -> Rehearsed {
        let rehearsal = Arc::new(Rehearsal::new(supposed));
        let copy = Self {
            rehearsal: Some(Arc::clone(&rehearsal)),
            outage: Arc::new(self.outage.copied()),
            revalidations: Arc::new(self.revalidations.copied()),
            locations: Arc::default(),
            downloads: Arc::default(),
            ..self.clone()
        };
        let outcome = copy.answer(request).await;
        let Notes { questions, behind, end, .. } = std::mem::take(&mut *rehearsal.notes.lock());
        let end = match (outcome, end) {
            (Ok(Outcome::Reply(reply)), _) => End::Reply(reply.cache),
            (Ok(Outcome::Forward(_)), _) if supposed == Supposed::Silent => {
                End::Refused(HandlerError::Unavailable("supposed".to_owned()))
            }
            (Ok(Outcome::Forward(_)), _) => End::Forwarded,
            (Ok(Outcome::Body { .. }), _) => End::Body,
            (Err(HandlerError::Internal(_)), Some(cache)) => End::Reply(cache),
            (Err(error), _) => End::Refused(error),
        };
        Rehearsed { questions, behind, end }
    }

    /// A document: one that a rehearsal supposes to be here, else what is stored.
    pub(super) async fn known_entry(&self, key: &str) -> Option<Arc<Entry>> {
        match self.rehearsal.as_ref().and_then(|rehearsal| rehearsal.document(key)) {
            Some(supposed) => Some(supposed),
            None => self.parts.documents.entry(key).await,
        }
    }

    /// Asks for a document in a rehearsal.
    pub(super) fn suppose_document(
        &self,
        rehearsal: &Rehearsal,
        request: &Request,
        route: &DocumentRoute,
    ) -> Result<Fetched, HandlerError> {
        let feed = &route.feed;
        self.may_ask(&request.caller, Some(feed))?;
        self.alive(service(route), &feed.org)?;
        let index = route.document == Document::ServiceIndex;
        rehearsal.ask(if index { Question::Feed } else { Question::Document })?;
        let (fetched_at, generation) = (self.now(), self.generation(route));
        let (body, origin) = (Body::Memory(Bytes::new()), Origin::default());
        let entry = Arc::new(Entry { fetched_at, digest: [0; 32], length: 0, body, generation, origin });
        let mut notes = rehearsal.notes.lock();
        notes.allowed.insert(feed.key().to_owned());
        notes.documents.insert(key(route, request.caller.audience()), Arc::clone(&entry));
        Ok(Fetched { entry, body: Bytes::new(), feed: feed.clone() })
    }

    /// Asks for a package in a rehearsal, which ends with that.
    pub(super) fn suppose_package(&self, rehearsal: &Rehearsal, route: &PackageRoute) -> HandlerError {
        let asked =
            self.alive(Service::Pkgs, &route.feed.org).and_then(|()| rehearsal.ask(Question::Package));
        asked.err().unwrap_or_else(|| rehearsal.end(CacheStatus::Miss { collapsed: false }))
    }

    /// An error where the request itself would be put to the service in a rehearsal, which ends with that.
    pub(super) fn in_earnest(&self, service: Service, org: &Name) -> Result<(), HandlerError> {
        let Some(rehearsal) = &self.rehearsal else { return Ok(()) };
        self.alive(service, org)?;
        rehearsal.ask(Question::Request)?;
        Err(rehearsal.end(CacheStatus::Bypass))
    }

    /// Ends a rehearsal where a document's representation would be made.
    pub(super) async fn would_represent(
        &self,
        rehearsal: &Rehearsal,
        request: &Request,
        route: &DocumentRoute,
        obtained: Obtained,
    ) -> Result<Represented, HandlerError> {
        let Obtained { entry, mut cache, .. } = obtained;
        let in_memory = matches!(entry.body, Body::Memory(_));
        if !in_memory && !self.parts.documents.has_body(&entry).await {
            cache = self.missing(request, route).await?.cache;
        }
        Err(rehearsal.end(cache))
    }

    /// An error where the service's host is known to be dead for more than a moment, so that who sends it a body does
    /// not wait for that.
    pub(super) async fn reachable(&self, request: &Request) -> Result<(), HandlerError> {
        let service = service_of(&request.route.target);
        if self.rehearsal.is_some() {
            return self.alive(service, &request.route.org);
        }
        Ok(self.parts.breaks.wait_for(service, &request.route.org).await?)
    }

    /// An error where the service's host is known to be dead.
    fn alive(&self, service: Service, org: &Name) -> Result<(), HandlerError> {
        let dead = self.parts.breaks.is_dead(service, org);
        if dead { Err(HandlerError::Dead(org.to_string())) } else { Ok(()) }
    }
}
