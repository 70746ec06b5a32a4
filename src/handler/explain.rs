//! What the gate would do with a request now, and why: for operators who wonder what a build ran into.
//!
//! What *would happen* is a [rehearsal](super::rehearsal) of the request by the code that answers clients, so it cannot
//! differ from what then happens. Around it stand the [facts] that the decision was made from, each read off where
//! the decision reads it. Nothing is asked of the service, and no credential or signature is in an explanation.

mod facts;
mod would;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method, header};
use serde::Serialize;

use super::{
    Handler, Request, RouteClass,
    archives::feed_of,
    rehearsal::{Rehearsed, Supposed},
};
use crate::{
    access::{Audience, Caller, CallerKey},
    config::changes::FeedName,
    document::{representation::joined, rewrite::PublicBase},
    ident::{FeedRef, NpmName, NugetId, NugetVersion},
    route::{self, Collections, Document, DocumentRoute, HostStyle, Package, PackageRoute, Route, Target},
};

pub use facts::{CallerFacts, FeedFacts, Freshness, Guarded, ServiceFacts, Stored};
pub use would::Would;

/// What an explanation's documents would name as the gate's own URL: none is made.
const ORIGIN: &str = "http://localhost";
/// Longest time that one explanation takes: a download that has just begun may not have told its length yet.
const LONGEST: Duration = Duration::from_secs(5);

/// Explains requests. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Explainer {
    handler: Handler,
    key: Arc<CallerKey>,
    collections: Arc<Collections>,
}

/// What is to be explained.
pub struct Question {
    /// A URL or path as a client asks it, or `package`, or `package@version`.
    pub what: String,
    /// Where a package is looked for; every feed that has it stored, if none is given.
    pub feed: Option<FeedName>,
    /// The method of a URL.
    pub method: Method,
    /// More headers of the request.
    pub headers: HeaderMap,
    /// From where it comes, if that matters.
    pub address: Option<IpAddr>,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Nothing is stored of a package, and no feed is named.
    #[error("nothing is stored of `{0}` in any feed; name the feed in which it is asked for")]
    Nowhere(String),
    /// It took too long.
    #[error("a download that has just begun has not told its length; ask again")]
    Slow,
}

/// What is known of a request, and what would happen to it now.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The path below the gate, in its canonical spelling.
    pub path: String,
    /// The kind of request, as in metrics and the log.
    pub route: &'static str,
    /// The name under which it is stored, and by which the log calls it.
    pub key: Option<String>,
    /// Paths that are known to mean the same object.
    pub spellings: Vec<String>,
    /// The feed.
    pub feed: Option<FeedFacts>,
    /// Who asks, and whether that one may read the feed.
    pub caller: CallerFacts,
    /// What is stored.
    pub stored: Option<Stored>,
    /// How long the document is used, and what says so.
    pub freshness: Option<Freshness>,
    /// The guard or pin that refuses it.
    pub guard: Option<Guarded>,
    /// How the gate stands with the service.
    pub service: ServiceFacts,
    /// What would happen, if the service answers well where it is asked.
    pub would: Would,
    /// What would happen if it cannot be reached; nothing where it is not asked.
    pub unreachable: Option<Would>,
}

// === impl Explainer ===

impl Explainer {
    /// Explains what `handler` does, to callers whose credentials are hashed with `key`.
    pub fn new(handler: Handler, key: Arc<CallerKey>, collections: Arc<Collections>) -> Self {
        Self { handler, key, collections }
    }

    /// What the gate would do, for `authorization`; several things for a package.
    ///
    /// # Errors
    /// When there is nothing to explain.
    pub async fn explain(
        &self,
        question: Question,
        authorization: Option<&http::HeaderValue>,
    ) -> Result<Vec<Explanation>, ExplainError> {
        let mut headers = question.headers.clone();
        headers.remove(header::AUTHORIZATION);
        let caller = self.key.caller(authorization);
        let is_url = question.what.contains("://") || question.what.starts_with('/');
        let routes = if is_url {
            vec![self.read(&question)?]
        } else {
            self.handler.find(&question.what, question.feed.as_ref(), caller.audience()).await?
        };
        let mut explained = Vec::new();
        for route in routes {
            let request = self.request(&question, route, headers.clone(), caller.clone());
            let one = tokio::time::timeout(LONGEST, self.handler.explained(request)).await;
            explained.push(one.map_err(|_| ExplainError::Slow)?);
        }
        Ok(explained)
    }

    fn read(&self, question: &Question) -> Result<Route, ExplainError> {
        let route = route::parse_for(&self.collections, &question.method, None, &question.what);
        let mut route = route.map_err(|error| ExplainError::Unreadable(error.to_string()))?;
        route.target.negotiate(joined(&question.headers, &header::ACCEPT).as_deref());
        Ok(route)
    }

    fn request(&self, question: &Question, route: Route, headers: HeaderMap, caller: Caller) -> Request {
        Request {
            method: question.method.clone(),
            route,
            headers,
            caller,
            address: question.address,
            base: PublicBase::Path { origin: ORIGIN.to_owned() },
            received_at: self.handler.now(),
            ahead: false,
        }
    }
}

// === impl Handler ===

impl Handler {
    async fn explained(&self, request: Request) -> Explanation {
        let mut known = request.clone();
        let would = self.rehearse(&mut known, Supposed::Answers).await;
        let unreachable =
            if would.questions.is_empty() && !matches!(would.end, super::rehearsal::End::Forwarded) {
                None
            } else {
                Some(self.rehearse(&mut request.clone(), Supposed::Silent).await)
            };
        let target = &known.route.target;
        let service = self.service_facts(&known);
        let told = |rehearsed: &Rehearsed| would::told(self, &known, &service, rehearsed);
        let (would, unreachable) = (told(&would), unreachable.as_ref().map(told));
        Explanation {
            method: known.method.to_string(),
            path: path(&known.route),
            route: RouteClass::of(target).as_str(),
            key: facts::key(target),
            spellings: self.spellings(target),
            feed: target.feed().map(|feed| self.feed_facts(feed)),
            caller: self.caller_facts(&known),
            stored: self.stored_facts(&known).await,
            freshness: self.freshness_facts(target),
            guard: self.guard_facts(target).await,
            service,
            would,
            unreachable,
        }
    }

    /// What of a package there is to explain: its document and, where a version is named, its bytes.
    async fn find(
        &self,
        what: &str,
        feed: Option<&FeedName>,
        audience: Audience,
    ) -> Result<Vec<Route>, ExplainError> {
        let (name, version) = match what.get(1..).and_then(|rest| rest.rsplit_once('@')) {
            Some((_, version)) => (&what[..what.len() - version.len() - 1], Some(version)),
            None => (what, None),
        };
        let unreadable = || {
            let rule = "must be a URL, a path that begins with `/`, a package, or package@version";
            ExplainError::Unreadable(format!("`{what}` {rule}"))
        };
        let objects = [npm_objects(name, version), nuget_objects(name, version)];
        let objects: Vec<_> = objects.into_iter().flatten().collect();
        if objects.is_empty() {
            return Err(unreadable());
        }
        let feeds = feed.map_or_else(|| self.known_feeds(), |feed| vec![feed.feed().clone()]);
        let mut all = Vec::new();
        let mut stored = Vec::new();
        for feed in &feeds {
            for objects in &objects {
                let targets: Vec<_> = objects.iter().map(|object| object.of(feed)).collect();
                let mut is_stored = false;
                for target in &targets {
                    is_stored |= self.holds(target, audience).await;
                }
                let list = if is_stored { &mut stored } else { &mut all };
                list.extend(targets.into_iter().map(|target| Route {
                    style: HostStyle::Path,
                    org: feed.org.clone(),
                    target,
                }));
            }
        }
        match (stored.is_empty(), feed) {
            (false, _) => Ok(stored),
            (true, Some(_)) => Ok(all),
            (true, None) => Err(ExplainError::Nowhere(what.to_owned())),
        }
    }

    /// One spelling of each feed that is known, by names where there are some.
    fn known_feeds(&self) -> Vec<FeedRef> {
        let mut feeds: Vec<(String, FeedRef)> = Vec::new();
        for (spelling, identity) in self.parts.identities.all() {
            let whole = identity.split('@').next().unwrap_or_default().to_owned();
            let Some(FeedRef { org, project, feed, .. }) = feed_of(&spelling) else { continue };
            let spelled = FeedRef::new(org, project, feed, None);
            match feeds.iter_mut().find(|(known, _)| *known == whole) {
                Some((_, held)) if held.feed.is_guid() && !spelled.feed.is_guid() => *held = spelled,
                Some(_) => {}
                None => feeds.push((whole, spelled)),
            }
        }
        feeds.into_iter().map(|(_, feed)| feed).collect()
    }

    /// Whether anything of `target` is stored, of whatever age.
    async fn holds(&self, target: &Target, audience: Audience) -> bool {
        let mut target = target.clone();
        if let Some(feed) = target.feed_mut() {
            *feed = self.identified_now(feed);
        }
        match &target {
            Target::Document(route) => self.entry(route, audience).await.is_some(),
            Target::Package(route) => self.parts.packages.get(&route.key()).await.is_some(),
            _ => false,
        }
    }
}

/// A document or the bytes of a version, of any feed.
enum Object {
    Document(Document),
    Package(Package),
}

impl Object {
    fn of(&self, feed: &FeedRef) -> Target {
        let feed = feed.clone();
        match self {
            Self::Document(document) => Target::Document(DocumentRoute { feed, document: document.clone() }),
            Self::Package(package) => Target::Package(PackageRoute { feed, package: package.clone() }),
        }
    }
}

fn npm_objects(name: &str, version: Option<&str>) -> Option<Vec<Object>> {
    let name = NpmName::parse(name).ok()?;
    let file = version.map(|version| format!("{}-{version}.tgz", name.bare()));
    let document = Object::Document(Document::Packument(name.clone()));
    let package = file.map(|file| Object::Package(Package::Npm { name, file }));
    Some([document].into_iter().chain(package).collect())
}

fn nuget_objects(id: &str, version: Option<&str>) -> Option<Vec<Object>> {
    let id = NugetId::parse(id).ok()?;
    let version = version.map(NugetVersion::parse).transpose().ok()?;
    let document = Object::Document(Document::VersionList(id.clone()));
    let package = version.map(|version| Object::Package(Package::Nuget { id, version }));
    Some([document].into_iter().chain(package).collect())
}

/// The path below the gate.
fn path(route: &Route) -> String {
    format!("/{}{}", route.org, route.target.upstream_path())
}
