//! Reads that are passed through, held against the rules by what can be read off their paths.
//!
//! What the gate does not recognise the service may: a name that is written in a way that is not known here, a query that
//! it ignores. So where a rule may be about the answer, an unknown query is left out and the request answered as the one
//! without it, and what is still not known is refused. One query is known: npm asks for a packument with `?write=true`
//! before it writes it back, and versions that were left out would be lost then. It gets all of them, unless the name is
//! refused as such; their bytes are refused as ever.

use std::time::SystemTime;

use bytes::Bytes;
use http::Method;

use super::{
    super::{Handler, HandlerError, Reply, ReplyBody, Request},
    Version, Wanted, name_of,
};
use crate::{
    guard::{Objection, Unreadable, filter_npm_search},
    ident::FeedRef,
    route::{Document, PassthroughRoute, Protocol, Subject, Target},
};

/// What a request that is passed through is for.
enum Meant {
    /// Nothing that rules are about.
    Nothing,
    /// A package, or who knows what.
    Wanted(Wanted),
    /// What is recognised without the query.
    Target(Box<Target>),
}

// === impl Handler ===

impl Handler {
    /// Answers GET and HEAD of a route that is passed through, unless a rule is against it.
    pub(in crate::handler) async fn guarded_passthrough(
        &self,
        request: &Request,
        route: &PassthroughRoute,
    ) -> Result<Reply, HandlerError> {
        let Some(protocol) = route.protocol.filter(|_| !self.guards_nothing()) else {
            return self.passthrough(request, route).await;
        };
        let mut known = request.clone();
        self.identify(&mut known).await?;
        let Target::Passthrough(route) = &known.route.target else {
            return Err(HandlerError::Internal("a route became another".to_owned()));
        };
        if let Some(feed) = &route.feed {
            self.learn_feeds(&known, feed).await;
        }
        if let Meant::Target(target) = Meant::of(route, protocol)
            && self.is_ruled(&target)
        {
            return match *target {
                Target::Document(route) => self.document(&known, &route).await,
                Target::Package(route) => self.package(&known, &route).await,
                Target::Derived(route) => self.derived(&known, &route).await,
                Target::Audit(_) | Target::Passthrough(_) => {
                    Err(HandlerError::Internal("nothing that is named".to_owned()))
                }
            };
        }
        self.judged(self.objection_to_passed(route).await)?;
        let reply = self.passthrough(request, route).await?;
        match &route.feed {
            Some(feed) if route.is_npm_search() => self.without_refused(reply, feed, &request.method),
            _ => Ok(reply),
        }
    }

    /// What npm's search finds without what rules keep from builds. Versions of any age stay: whoever installs one asks for
    /// its own document.
    fn without_refused(
        &self,
        mut reply: Reply,
        feed: &FeedRef,
        method: &Method,
    ) -> Result<Reply, HandlerError> {
        let asked = self.asked_feeds(feed);
        if !self.guards().concern(Protocol::Npm, |feed| asked.is(feed)) {
            return Ok(reply);
        }
        let refuses = |name: &str, version: Option<&str>| {
            let policy = self.guards().policy(name, Protocol::Npm, |feed| asked.is(feed));
            let old = Some(SystemTime::UNIX_EPOCH);
            policy.to_name().is_some()
                || version.is_some_and(|version| policy.to_version(version, old, self.now()).is_some())
        };
        reply.body = match reply.body {
            ReplyBody::Bytes(body) => {
                let left = filter_npm_search(&body, refuses);
                let left = left.map_err(|why| self.unreadable("npm's search".to_owned(), why))?;
                ReplyBody::Bytes(left.map_or(body, Bytes::from))
            }
            // Its length is that of something else.
            ReplyBody::Stream { body, .. } if *method == Method::HEAD => {
                ReplyBody::Stream { body, length: None }
            }
            ReplyBody::Stream { .. } | ReplyBody::Package(_) => {
                return Err(self.unreadable("npm's search".to_owned(), Unreadable::not_json()));
            }
        };
        Ok(reply)
    }

    /// Why what is passed through is kept from builds.
    pub(super) async fn objection_to_passed(&self, route: &PassthroughRoute) -> Option<Objection> {
        match (Meant::of(route, route.protocol?), &route.feed) {
            (Meant::Nothing, _) => None,
            (Meant::Target(target), _) => Box::pin(self.objection_to(&target)).await,
            (Meant::Wanted(wanted), Some(feed)) => {
                self.objection(feed, &self.asked_feeds(feed), &wanted).await
            }
            (Meant::Wanted(wanted), None) => {
                let concerned = self.guards().concern(wanted.protocol, |_| None);
                concerned.then_some(Objection::Unknown { package: wanted.shown })
            }
        }
    }

    /// Whether any rule is for the package that `target` is of.
    fn is_ruled(&self, target: &Target) -> bool {
        let (Some(feed), Some((name, protocol))) = (target.feed(), named(target)) else { return false };
        let asked = self.asked_feeds(feed);
        !self.guards().policy(&name, protocol, |feed| asked.is(feed)).is_free()
    }
}

// === impl Meant ===

impl Meant {
    fn of(route: &PassthroughRoute, protocol: Protocol) -> Self {
        let shown = route.path.split('?').next().unwrap_or_default().to_owned();
        let wanted = |name, version| Self::Wanted(Wanted { name, protocol, version, shown: shown.clone() });
        let target = match &route.subject {
            Subject::Fixed => return Self::Nothing,
            // A download whose query names nothing, or more than one thing.
            Subject::Nugets => return wanted(None, Version::Unread),
            _ => route.without_query(),
        };
        match target {
            Some(Target::Document(own)) if is_of_no_package(&own.document) => Self::Nothing,
            Some(target) if let Some((name, _)) = named(&target) => {
                let writes = route.is_before_a_write();
                if writes { wanted(Some(name), Version::All) } else { Self::Target(Box::new(target)) }
            }
            _ => wanted(name_of(&route.subject), Version::Unread),
        }
    }
}

fn named(target: &Target) -> Option<(String, Protocol)> {
    let wanted = match target {
        Target::Document(route) => Wanted::of_document(&route.document)?,
        Target::Package(route) => Wanted::of_package(route),
        Target::Derived(route) => return Some((name_of(&route.derived.subject()?)?, Protocol::Npm)),
        Target::Audit(_) | Target::Passthrough(_) => return None,
    };
    Some((wanted.name?, wanted.protocol))
}

/// A search is one with its query, and so is NuGet v2's root where it is passed through: its query names something.
fn is_of_no_package(document: &Document) -> bool {
    matches!(document, Document::ServiceIndex | Document::Vulnerabilities(_))
}
