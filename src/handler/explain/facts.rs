//! The facts around a request: read off where the handlers read them, without asking the service.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::{Handler, Request, document::key as document_key};
use crate::{
    access::{Audience, Standing},
    cache::{Body, Known, Source},
    config::{self, Mode},
    ident::{FeedRef, StorageId},
    route::{Derived, DerivedRoute, Document, DocumentRoute, PackageRoute, Target},
    throttle::Class,
    upstream::Service,
};

/// A feed, as it is known.
#[derive(Debug, Serialize)]
pub struct FeedFacts {
    /// The name under which everything of it is kept.
    pub key: String,
    /// How sure it is which feed the spelling means: `known`, `old` (good while the service cannot be asked), `nothing`
    /// (the service knew no such feed a moment ago), `unknown` (it is asked first), or `guids` (spelled by its GUIDs).
    pub identity: &'static str,
    /// Every spelling of it and of its views that was asked for.
    pub spellings: Vec<String>,
}

/// Who asks.
#[derive(Debug, Serialize)]
pub struct CallerFacts {
    /// The hash of the credential, as in the log.
    pub id: String,
    /// With what the service is asked: `anonymous`, `own`, or `gate`.
    pub credential: &'static str,
    /// Whether the caller may read the feed: `allowed`, `grace` (the service said so, but not lately), `denied`, or
    /// `unknown`.
    pub standing: Option<&'static str>,
    /// The status of the service's refusal.
    pub denied_with: Option<u16>,
    /// Whether it is answered as if the service were down.
    pub drilled: bool,
}

/// What is stored.
#[derive(Debug, Serialize)]
pub struct Stored {
    /// `document` or `package`.
    pub what: &'static str,
    /// The blob that holds the bytes; of a document, compressed.
    pub storage_id: Option<String>,
    /// Length in bytes; of a document, as the service sent it.
    pub length: Option<u64>,
    /// Bytes that the blob has in the store; nothing when it is not there.
    pub blob_length: Option<u64>,
    /// Where the blob lies: `memory`, `database` or `file`; `filling` for a download in progress.
    pub tier: Option<&'static str>,
    /// SHA-256 of a document.
    pub sha256: Option<String>,
    /// Seconds since the service sent or named it.
    pub age: Option<u64>,
    /// When that was, in seconds since 1970.
    pub at: Option<u64>,
    /// What a write through the gate did to it since: `current`, `outdated`, `removed`.
    pub state: &'static str,
    /// Who named the content of a package: its `bytes`, or a `listing`.
    pub named_by: Option<&'static str>,
}

/// How long a document is used.
#[derive(Debug, Serialize)]
pub struct Freshness {
    /// The setting that says so.
    pub setting: String,
    /// The setting that says how long it is fresh, where changes of the feed are followed.
    pub followed: Option<&'static str>,
    /// Seconds that it is served without asking.
    pub fresh: f64,
    /// Seconds after that in which it is served while a new one is fetched behind.
    pub stale_while_revalidate: f64,
    /// Seconds after that first time in which it stands in when the service fails.
    pub stale_if_error: f64,
}

/// What a guard or pin says.
#[derive(Debug, Serialize)]
pub struct Guarded {
    /// The kind of rule, as in `feedgate_guard_refusals_total`.
    pub reason: &'static str,
    /// The sentence that the answer has.
    pub text: String,
}

/// How the gate stands with the service.
#[derive(Debug, Serialize)]
pub struct ServiceFacts {
    /// The host that has it: `pkgs` or `feeds`.
    pub host: &'static str,
    /// The mode of the feed.
    pub mode: &'static str,
    /// Whether the feed has that mode of its own.
    pub own_mode: bool,
    /// What is wrong: `dead` (the breaker of the host is open), `suspected` (stored copies are served without asking, after
    /// trouble a moment ago), `no_word` (the service gave none a moment ago on who may read the feed), `tight` (what nobody
    /// waits for is left for later).
    pub trouble: Vec<&'static str>,
    /// Seconds until anything is sent for this credential.
    pub pause: f64,
    /// Requests in flight, and how many there may be.
    pub in_flight: usize,
    /// How many there may be.
    pub in_flight_limit: usize,
    /// Requests that wait for a permit.
    pub queued: usize,
}

// === impl Handler ===

impl Handler {
    pub(super) fn feed_facts(&self, feed: &FeedRef) -> FeedFacts {
        let identity = match self.parts.identities.get(feed, self.now()) {
            Known::Identity(_) => "known",
            Known::Old(_) => "old",
            Known::Nothing => "nothing",
            Known::Unknown if feed.key() == feed.spelling() && feed.is_identified() => "guids",
            Known::Unknown => "unknown",
        };
        let spellings = self.parts.identities.spellings_of(feed.whole_key());
        let spellings = spellings.into_iter().map(|(spelling, _)| spelling).collect();
        FeedFacts { key: feed.key().to_owned(), identity, spellings }
    }

    /// The paths of the same object under every spelling of its feed.
    pub(super) fn spellings(&self, target: &Target) -> Vec<String> {
        let Some(feed) = target.feed() else { return Vec::new() };
        let key = feed.key();
        let same = self.parts.identities.spellings_of(feed.whole_key());
        let same = same.into_iter().filter(|(_, identity)| *identity == key);
        let spelled = |(spelling, _): (String, String)| {
            let (mut target, feed) = (target.clone(), super::feed_of(&spelling)?);
            let org = feed.org.clone();
            // What is passed through keeps the path of the request.
            if matches!(target, Target::Passthrough(_)) {
                return None;
            }
            *target.feed_mut()? = feed;
            Some(format!("/{org}{}", target.upstream_path()))
        };
        same.filter_map(spelled).collect()
    }

    pub(super) fn caller_facts(&self, request: &Request) -> CallerFacts {
        let caller = &request.caller;
        let standing = request.route.target.feed().map(|feed| self.standing(caller, feed));
        let (word, denied_with) = match &standing {
            Some(Standing::Allowed) => (Some("allowed"), None),
            Some(Standing::Grace) => (Some("grace"), None),
            Some(Standing::Denied(refusal)) => (Some("denied"), Some(refusal.status.as_u16())),
            Some(Standing::Unknown) => (Some("unknown"), None),
            None => (None, None),
        };
        let credential = match caller.audience() {
            _ if caller.is_gate() => "gate",
            Audience::Anonymous => "anonymous",
            Audience::Authenticated => "own",
        };
        let drilled = self.for_caller(caller).is_some();
        CallerFacts { id: caller.id().to_string(), credential, standing: word, denied_with, drilled }
    }

    pub(super) async fn stored_facts(&self, request: &Request) -> Option<Stored> {
        match &request.route.target {
            Target::Document(route) => self.stored_document(route, request.caller.audience()).await,
            Target::Package(route) => self.stored_package(route).await,
            Target::Derived(route) => self.stored_document(&whole(route)?, request.caller.audience()).await,
            Target::Audit(_) | Target::Passthrough(_) => None,
        }
    }

    pub(super) fn freshness_facts(&self, target: &Target) -> Option<Freshness> {
        let route = match target {
            Target::Document(route) => route.clone(),
            Target::Derived(route) => whole(route)?,
            Target::Package(_) | Target::Audit(_) | Target::Passthrough(_) => return None,
        };
        let config::Freshness { fresh, stale_while_revalidate, stale_if_error } = self.freshness(&route);
        let followed = fresh != self.policy(route.class()).fresh;
        Some(Freshness {
            setting: format!("metadata.{}", route.class().as_str()),
            followed: followed.then_some("changes.fresh"),
            fresh: fresh.as_secs_f64(),
            stale_while_revalidate: stale_while_revalidate.as_secs_f64(),
            stale_if_error: stale_if_error.as_secs_f64(),
        })
    }

    pub(super) async fn guard_facts(&self, target: &Target) -> Option<Guarded> {
        if self.guards_nothing() {
            return None;
        }
        let objection = self.objection_to(target).await?;
        Some(Guarded { reason: objection.reason(), text: objection.to_string() })
    }

    pub(super) fn service_facts(&self, request: &Request) -> ServiceFacts {
        let (target, org) = (&request.route.target, &request.route.org);
        let host = if target.is_on_feeds_host() { Service::Feeds } else { Service::Pkgs };
        let (feed, throttle) = (target.feed(), &self.parts.throttle);
        let authorization = request.caller.authorization();
        let identity = throttle.identity(org.as_str(), authorization.map(http::HeaderValue::as_bytes));
        let (class, figures) = (Class::Api as usize, throttle.snapshot());
        let mode = self.mode_of(feed);
        let trouble = [
            ("dead", self.parts.breaks.is_dead(host, org)),
            ("suspected", mode == Mode::Fallback && self.outage.suspects(host, org)),
            ("no_word", feed.is_some_and(|feed| self.outage.gave_no_word(feed.key()))),
            ("tight", self.is_tight(org, authorization)),
        ];
        ServiceFacts {
            host: if host == Service::Feeds { "feeds" } else { "pkgs" },
            mode: mode.as_str(),
            own_mode: feed.is_some_and(|feed| self.has_own_mode(feed)),
            trouble: trouble.into_iter().filter_map(|(word, holds)| holds.then_some(word)).collect(),
            pause: throttle.pause_left(Class::Api, identity).as_secs_f64(),
            in_flight: figures.gate[class].in_flight,
            in_flight_limit: figures.gate[class].in_flight_limit,
            queued: figures.queued[class].iter().sum(),
        }
    }

    async fn stored_document(&self, route: &DocumentRoute, audience: Audience) -> Option<Stored> {
        let entry = self.parts.documents.entry(&document_key(route, audience)).await?;
        let id = match &entry.body {
            Body::Stored(id) => Some(*id),
            Body::Memory(_) => None,
        };
        let now = self.generation(route);
        let state = match (entry.generation.removals == now.removals, entry.generation == now) {
            (false, _) => "removed",
            (true, false) => "outdated",
            (true, true) => "current",
        };
        let (blob_length, tier) = match id {
            Some(id) => self.blob_facts(&id).await,
            None => (None, Some("memory")),
        };
        let age = self.now().duration_since(entry.fetched_at).unwrap_or_default();
        Some(Stored {
            what: "document",
            storage_id: id.map(|id| id.to_string()),
            length: Some(entry.length),
            blob_length,
            tier,
            sha256: Some(crate::archive::hex(&entry.digest)),
            age: Some(age.as_secs()),
            at: seconds(entry.fetched_at),
            state,
            named_by: None,
        })
    }

    async fn stored_package(&self, route: &PackageRoute) -> Option<Stored> {
        let filling = self.is_arriving(route);
        let Some(entry) = self.parts.packages.get(&route.key()).await else {
            let state = "current";
            return filling.then_some(Stored { tier: Some("filling"), state, ..Stored::package() });
        };
        let (blob_length, tier) = self.blob_facts(&entry.id).await;
        let age = self.now().duration_since(entry.named_at).unwrap_or_default();
        Some(Stored {
            storage_id: Some(entry.id.to_string()),
            length: blob_length,
            blob_length,
            tier: tier.or(filling.then_some("filling")),
            age: Some(age.as_secs()),
            at: seconds(entry.named_at),
            state: if entry.removals == self.removals(route) { "current" } else { "removed" },
            named_by: Some(match entry.source {
                Source::Bytes => "bytes",
                Source::Listing => "listing",
            }),
            ..Stored::package()
        })
    }

    /// The length of a blob and its tier, if it is there. That counts as use, like the rehearsal's own look.
    async fn blob_facts(&self, id: &StorageId) -> (Option<u64>, Option<&'static str>) {
        let opened = self.parts.blobs.open(id).await.ok().flatten();
        opened.map(|blob| (blob.stat.length, blob.tier.as_str())).unzip()
    }
}

// === impl Stored ===

impl Stored {
    fn package() -> Self {
        Self {
            what: "package",
            storage_id: None,
            length: None,
            blob_length: None,
            tier: None,
            sha256: None,
            age: None,
            at: None,
            state: "current",
            named_by: None,
        }
    }
}

/// The name under which a target is kept, as the log has it.
pub(super) fn key(target: &Target) -> Option<String> {
    match target {
        Target::Document(route) => Some(route.key()),
        Target::Package(route) => Some(route.key()),
        Target::Derived(route) => whole(route).map(|route| route.key()),
        Target::Audit(_) | Target::Passthrough(_) => None,
    }
}

/// The document that a derived route is cut out of.
pub(super) fn whole(route: &DerivedRoute) -> Option<DocumentRoute> {
    let (Derived::Manifest(name, _) | Derived::DistTags(name) | Derived::DistTag(name, _)) = &route.derived
    else {
        return None;
    };
    Some(DocumentRoute { feed: route.feed.clone(), document: Document::Packument(name.clone()) })
}

fn seconds(at: SystemTime) -> Option<u64> {
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}
