//! Ordinary hits, in one look: stored, in memory, fresh, and the caller may have it now.
//!
//! The short way through the decisions of `document` and `package`. What is to be looked up for a request is worked out
//! once ([`Lookup`]) and can be kept; each use looks anew at everything that may have changed ([`Handler::hit`]). It holds
//! when every decision falls as it does for an ordinary hit, and gives up at the first that does not: then nothing was
//! asked, begun or counted, and the request goes the whole way. So nothing is decided here that the whole way would
//! decide otherwise, and a test holds it to that.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::{Arc, Weak},
    time::SystemTime,
};

use bytes::Bytes;
use futures::FutureExt as _;

use super::{
    CacheStatus, Handler, PackageBody, Reply, Request,
    document::{document_reply, key},
    package::{self, Found},
    reads,
    represent::representation_key,
    wishes::Wishes,
};
use crate::{
    access::{Asking, Caller, Standing},
    blob::Blob,
    cache::{Assessment, Counters, Entry, Known, RepresentationKey, Usability},
    config::access::Rights,
    document::representation::Representation,
    ident::{FeedRef, StorageId},
    redact::Secret,
    route::{DocumentRoute, PackageRoute, Target},
};

/// What is to be looked up for a read that may be a hit.
pub struct Lookup {
    /// The request; its feed is identified.
    request: Request,
    /// As whom the service would be asked, where that is not who asks.
    gate: Option<Caller>,
    /// The gate token that who asks shows.
    token: Option<Secret<String>>,
    /// The feed as the client spelled it, where its identity had to be learned.
    spelled: Option<FeedRef>,
    object: Object,
}

#[expect(clippy::large_enum_variant, reason = "it lies in one box with the rest of the lookup")]
enum Object {
    /// With the entry for which the representation was named: another one may want another.
    Document {
        route: DocumentRoute,
        key: String,
        entry: Weak<Entry>,
        representation: RepresentationKey,
        counters: Counters,
    },
    Package {
        route: Arc<PackageRoute>,
        key: String,
        counters: Counters,
    },
}

/// An ordinary hit.
pub struct Hit {
    /// When the service sent it.
    since: SystemTime,
    /// Seconds that it stays fresh; packages never change.
    ttl: Option<i64>,
    content: Content,
}

/// What was found.
enum Content {
    Document(Arc<Entry>, Arc<Representation>),
    Package(Arc<PackageRoute>, Blob),
}

/// Names the bytes of a hit without keeping them; the name is not used again for others while it is held.
#[derive(Debug, Clone)]
pub enum Edition {
    /// One representation of one document.
    Document(Weak<Representation>),
    /// The bytes of a package.
    Package(StorageId),
}

// === impl Lookup ===

impl Lookup {
    /// The request; its feed is identified.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The canonical key of what is asked for.
    pub fn key(&self) -> String {
        match &self.object {
            Object::Document { route, .. } => route.key(),
            Object::Package { key, .. } => key.clone(),
        }
    }

    /// The answer to its request as any other is made.
    pub fn reply(&self, hit: &Hit, now: SystemTime) -> Reply {
        let request = Request { received_at: now, ..self.request.clone() };
        let cache = hit.cache();
        match &hit.content {
            Content::Document(entry, representation) => {
                document_reply(&request, entry, representation, cache)
            }
            Content::Package(route, blob) => {
                let (body, id) = (PackageBody::Stored(blob.clone()), Some(blob.id));
                package::reply(&request, route, Found { body, id, named_at: Some(hit.since), cache })
            }
        }
    }
}

// === impl Hit ===

impl Hit {
    /// Whether its bytes are those of `edition`.
    pub fn is_of(&self, edition: &Edition) -> bool {
        match (&self.content, edition) {
            (Content::Document(_, one), Edition::Document(other)) => {
                std::ptr::eq(Arc::as_ptr(one), other.as_ptr())
            }
            (Content::Package(_, one), Edition::Package(other)) => one.id == *other,
            (Content::Document(..), Edition::Package(_)) | (Content::Package(..), Edition::Document(_)) => {
                false
            }
        }
    }

    /// What its bytes are.
    pub fn edition(&self) -> Edition {
        match &self.content {
            Content::Document(_, representation) => Edition::Document(Arc::downgrade(representation)),
            Content::Package(_, blob) => Edition::Package(blob.id),
        }
    }

    /// Its bytes, all at hand.
    pub fn body(&self) -> Option<Bytes> {
        match &self.content {
            Content::Document(_, representation) => Some(representation.body.clone()),
            Content::Package(_, blob) => {
                let length = usize::try_from(blob.stat.length).ok()?;
                let whole = blob.bytes.read_at(0, length.max(1)).now_or_never()?.ok()?;
                (whole.len() == length).then_some(whole)
            }
        }
    }

    /// How it is told of.
    pub fn cache(&self) -> CacheStatus {
        CacheStatus::Hit { ttl: self.ttl }
    }

    /// Whether it is the bytes of a package.
    pub fn is_package(&self) -> bool {
        matches!(self.content, Content::Package(..))
    }

    /// Seconds since the service sent it, at `now`.
    pub fn age(&self, now: SystemTime) -> u64 {
        now.duration_since(self.since).unwrap_or_default().as_secs()
    }
}

// === impl Edition ===

impl PartialEq for Edition {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Document(one), Self::Document(other)) => Weak::ptr_eq(one, other),
            (Self::Package(one), Self::Package(other)) => one == other,
            (Self::Document(_), Self::Package(_)) | (Self::Package(_), Self::Document(_)) => false,
        }
    }
}

impl Eq for Edition {}

impl Hash for Edition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Document(document) => document.as_ptr().hash(state),
            Self::Package(id) => id.hash(state),
        }
    }
}

// === impl Handler ===

impl Handler {
    /// What is to be looked up for `request`; none when it cannot be an ordinary hit.
    pub fn lookup(&self, mut request: Request) -> Option<Lookup> {
        let plain = reads(&request) && Wishes::of(&request.headers) == Wishes::default();
        if !plain || !self.guards_nothing() {
            return None;
        }
        let feed = request.route.target.feed_mut()?;
        let spelled = (!feed.is_identified()).then(|| feed.clone());
        if spelled.is_some() {
            let Known::Identity(identity) = self.parts.identities.get(feed, self.now()) else { return None };
            *feed = feed.clone().identified(&identity);
        }
        let Request { route, caller, .. } = &request;
        let feed = route.target.feed()?;
        let identity = |feed: &FeedRef| self.known_identity(feed);
        let gate = self.parts.gateway.stand_in(&route.org, spelled.as_ref().unwrap_or(feed), identity)?;
        let asks = gate.as_ref().unwrap_or(caller);
        // Before anything is looked at: who may not read the feed must not learn from the time it takes what is stored.
        if !matches!(self.parts.access.standing(asks, feed, self.now()), Standing::Allowed) {
            return None;
        }
        let asking = asking(&request, request.address, spelled.as_ref().unwrap_or(feed));
        let token = request.caller.token();
        self.parts.gateway.lets_in((asking, token.as_ref()), gate.is_some(), identity, self.now())?;
        let audience = asks.audience();
        let object = match &route.target {
            Target::Document(route) => {
                let key = key(route, audience);
                let entry = self.parts.documents.entry_in_memory(&key)?;
                let representation = representation_key(&request, route, &entry, None);
                let (entry, counters) =
                    (Arc::downgrade(&entry), Counters::of(feed, &route.document.subject()));
                Object::Document { route: route.clone(), key, entry, representation, counters }
            }
            Target::Package(route) => Object::Package {
                route: Arc::new(route.clone()),
                key: route.key(),
                counters: Counters::of(feed, &route.subject()),
            },
            Target::Derived(_) | Target::Audit(_) | Target::Passthrough(_) => return None,
        };
        Some(Lookup { request, gate, token, spelled, object })
    }

    /// What [`Handler::answer`] would find at `now` for a client at `address`, without waiting for anything; none if that
    /// is not sure.
    pub fn hit(&self, lookup: &Lookup, address: IpAddr, now: SystemTime) -> Option<Hit> {
        let Lookup { request, gate, token, spelled, object } = lookup;
        let feed = request.route.target.feed()?;
        let same = spelled.as_ref().is_none_or(|spelled| self.parts.identities.confirms(spelled, feed, now));
        let caller = gate.as_ref().unwrap_or(&request.caller);
        if !same
            || self.drills(&request.caller)
            || !matches!(self.parts.access.standing(caller, feed, now), Standing::Allowed)
        {
            return None;
        }
        let asking = asking(request, Some(address), spelled.as_ref().unwrap_or(feed));
        let identity = |feed: &FeedRef| self.known_identity(feed);
        let by = self.parts.gateway.lets_in((asking, token.as_ref()), gate.is_some(), identity, now)?;
        let hit = match object {
            Object::Document { route, key, entry, representation, counters } => {
                self.document_hit(route, key, entry, (representation, counters))
            }
            Object::Package { route, key, counters } => self.package_hit(route, key, counters),
        }?;
        self.parts.gateway.count(by);
        self.parts.metrics.verdict(&Standing::Allowed);
        Some(hit)
    }

    fn document_hit(
        &self,
        route: &DocumentRoute,
        key: &str,
        known: &Weak<Entry>,
        (representation, counters): (&RepresentationKey, &Counters),
    ) -> Option<Hit> {
        let entry = self.parts.documents.entry_in_memory(key)?;
        if !std::ptr::eq(Arc::as_ptr(&entry), known.as_ptr())
            || entry.generation != self.parts.generations.read(counters)
        {
            return None;
        }
        let assessment = self.fresh(route, &entry)?;
        let ready = self.parts.documents.representation_in_memory(representation)?;
        let since = entry.fetched_at;
        Some(Hit { since, ttl: Some(assessment.ttl), content: Content::Document(entry, ready) })
    }

    /// The age of a copy that is served with nothing asked, not even behind the answer as for a ripe one; none for any
    /// other.
    pub(super) fn fresh(&self, route: &DocumentRoute, entry: &Entry) -> Option<Assessment> {
        let assessment = self.assessed(route, entry);
        let ripe = assessment.is_ripe(&self.freshness(route), entry.digest[0]);
        (assessment.usability == Usability::Fresh && !ripe).then_some(assessment)
    }

    fn package_hit(&self, route: &Arc<PackageRoute>, key: &str, counters: &Counters) -> Option<Hit> {
        let entry = self.parts.packages.get_in_memory(key)?;
        if entry.removals != self.parts.generations.read(counters).removals {
            return None;
        }
        let blob = self.parts.blobs.open_in_memory(&entry.id)?;
        Some(Hit { since: entry.named_at, ttl: None, content: Content::Package(Arc::clone(route), blob) })
    }
}

fn asking<'a>(request: &'a Request, address: Option<IpAddr>, feed: &'a FeedRef) -> Asking<'a> {
    Asking {
        caller: &request.caller,
        address,
        org: &request.route.org,
        feed: Some(feed),
        needs: Rights::Read,
        headers: &request.headers,
    }
}
