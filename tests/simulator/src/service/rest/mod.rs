//! Package-type REST of the pkgs host (`_apis/packaging/feeds/{feed}/npm|nuget`, facts §5.2).
//!
//! What a path means differs by protocol (`npm`, `nuget`); what is done about a version does not (`version`, `batch`).
//! Names and versions may be GUIDs everywhere. Shapes and paths are those of the service's own documents; what these
//! don't tell is invented: `_links`, `sourceChain` and `permanentlyDeletedDate` stand in answers from generation 5 of
//! the REST versions on, a batch is all or nothing, and answers that nobody describes are 200 without a body.

mod batch;
pub(crate) mod npm;
pub(crate) mod nuget;
mod version;

use super::error::Refusal;
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::world::Protocol;

/// What a path below `npm/` or `nuget/` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Version(Target),
    /// The seeds' template of npm's deprecation ends in `/content` (facts §5.3).
    Deprecation(Target),
    Content(Target),
    Readme(Target),
    /// Of a package.
    Upstreaming(String),
    Batch,
    Recycled(Target),
    RecycledBatch,
}

/// A version as the caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A request about one protocol of one feed; the caller has been admitted to read it.
pub(crate) struct Call<'a> {
    pub(crate) visit: &'a Visit<'a>,
    pub(crate) place: Place,
    pub(crate) protocol: Protocol,
}

/// Answers for the segments below `_apis/`.
pub(crate) async fn answer(visit: &Visit<'_>, path: &[&str]) -> Result<Reply, Refusal> {
    let [packaging, feeds, feed, rest @ ..] = path else { return Err(Refusal::NoRoute) };
    if !is(packaging, "packaging") || !is(feeds, "feeds") {
        return Err(Refusal::NoRoute);
    }
    let place = visit.rest_place(feed)?;
    let (protocol, route) = match rest {
        [protocol, rest @ ..] if is(protocol, "npm") => (Protocol::Npm, npm::parse(rest)),
        [protocol, rest @ ..] if is(protocol, "nuget") => (Protocol::Nuget, nuget::parse(rest)),
        _ => return Err(Refusal::NoRoute),
    };
    let route = route.ok_or(Refusal::NoRoute)?;
    Call { visit, place, protocol }.answer(route).await
}

/// Literal segments are case-insensitive (facts §2).
pub(crate) fn is(segment: &str, literal: &str) -> bool {
    segment.eq_ignore_ascii_case(literal)
}

// === impl Call ===

impl Call<'_> {
    async fn answer(&self, route: Route) -> Result<Reply, Refusal> {
        match (route, self.visit.request.method.as_str()) {
            (Route::Version(target), "GET" | "HEAD") => self.show(&target),
            (Route::Version(target) | Route::Deprecation(target), "PATCH") => self.patch(&target),
            (Route::Version(target), "DELETE") => self.delete(&target),
            (Route::Content(target), "GET" | "HEAD") => match self.protocol {
                Protocol::Npm => npm::content(self, &target).await,
                Protocol::Nuget => nuget::content(self, &target).await,
            },
            (Route::Readme(target), "GET" | "HEAD") => npm::readme(self, &target),
            (Route::Upstreaming(name), "GET" | "HEAD") => Ok(self.upstreaming(&name)),
            (Route::Upstreaming(name), "PATCH") => self.set_upstreaming(&name),
            (Route::Batch, "POST") => self.batch(),
            (Route::Recycled(target), "GET" | "HEAD") => self.recycled(&target),
            (Route::Recycled(target), "PATCH") => self.restore(&target),
            (Route::Recycled(target), "DELETE") => self.purge(&target),
            (Route::RecycledBatch, "POST") => self.recycled_batch(),
            _ => Err(Refusal::Method),
        }
    }
}

// === impl Target ===

impl Target {
    pub(crate) fn new(name: impl Into<String>, version: &str) -> Self {
        Self { name: name.into(), version: version.to_owned() }
    }
}
