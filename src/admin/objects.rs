//! `GET /admin/v1/objects` and `POST /admin/v1/purge`: what is stored of what, and away with it.
//!
//! Both take the same filter: `feed` (`org/feed` or `org/project/feed`, names or GUIDs), `package` (a name with `*`, with
//! versions behind an `@`), `protocol` and `storage_id`; all that is given must hold. A purge without any is refused.
//! Responses of mounts belong to no feed and are not among what is found.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    exchange::{Answer, Request, seconds},
    problem::Problem,
    router::Route,
};
use crate::{
    blob::BlobError,
    config::changes::FeedName,
    disk::off_thread,
    handler::{Filter, Handler, Object},
    ident::FeedRef,
    route::{ObjectKey, Protocol},
};

/// Objects in an answer unless the request says otherwise, and at most.
const USUAL: usize = 100;
const MOST: usize = 10_000;

/// Looks into the store at a time: each waits for a thread.
const AT_ONCE: usize = 32;

/// Which objects are meant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) feed: Option<String>,
    pub(super) package: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) storage_id: Option<String>,
    pub(super) limit: Option<usize>,
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// The routes of objects.
pub(super) fn routes(handler: &Handler) -> Vec<Route> {
    vec![
        Route::waiting(Method::GET, "/admin/v1/objects", handler, |handler, request| async move {
            Answer::json(&list(&handler, &request.query()?).await?)
        }),
        Route::waiting(Method::POST, "/admin/v1/purge", handler, |handler, request: Request| async move {
            Answer::json(&purge(&handler, &request.json()?).await?)
        }),
    ]
}

/// Up to so many objects that are meant.
pub(super) async fn list(handler: &Handler, asked: &Asked) -> Result<Value, Problem> {
    let (objects, is_more) = handler.objects(&asked.filter()?, asked.limit()?).await.map_err(failed)?;
    Ok(json!({ "objects": shown_all(handler, &objects).await?, "more": is_more }))
}

/// Drops what is meant, or tells what that would be.
pub(super) async fn purge(handler: &Handler, asked: &Asked) -> Result<Value, Problem> {
    let filter = asked.filter()?;
    if filter.is_empty() {
        return Err(Problem::invalid("a purge needs `feed`, `package`, `protocol` or `storage_id`"));
    }
    let most = asked.limit()?;
    let purged = handler.purge(&filter, asked.dry_run).await.map_err(failed)?;
    let documents = purged.objects.iter().filter(|object| object.is_document).count();
    if !asked.dry_run {
        tracing::info!(
            target: "admin",
            ?asked, packages = purged.objects.len() - documents, documents, blobs = purged.blobs.len(), "purged"
        );
    }
    let told = &purged.objects[..purged.objects.len().min(most)];
    Ok(json!({
        "dry_run": asked.dry_run,
        "packages": purged.objects.len() - documents,
        "documents": documents,
        "blobs": purged.blobs.len(),
        "bytes": purged.bytes,
        "shared_blobs": purged.shared,
        "objects": shown_all(handler, told).await?,
        "more": told.len() < purged.objects.len(),
    }))
}

// === impl Asked ===

impl Asked {
    /// What was asked for, read.
    ///
    /// # Errors
    /// 400 with the rule that is broken.
    pub(super) fn filter(&self) -> Result<Filter, Problem> {
        let storage_id = self.storage_id.as_ref().map(|text| text.parse()).transpose();
        let package = self.package.as_ref().map(|text| text.parse()).transpose();
        Ok(Filter {
            feed: self.feed.as_deref().map(feed).transpose()?,
            package: package.map_err(|rule| Problem::invalid(format!("`package` {rule}")))?,
            protocol: self.protocol.as_deref().map(protocol).transpose()?,
            storage_id: storage_id.map_err(|rule| Problem::invalid(format!("`storage_id`: {rule}")))?,
        })
    }

    fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(USUAL) {
            limit @ 1..=MOST => Ok(limit),
            limit => Err(Problem::invalid(format!("`limit` is {limit}; it must be from 1 to {MOST}"))),
        }
    }
}

/// Reads `organisation/feed` or `organisation/project/feed`.
pub(super) fn feed(text: &str) -> Result<FeedRef, Problem> {
    let name: Result<FeedName, _> = text.parse();
    name.map(|name| name.feed().clone()).map_err(|rule| Problem::invalid(format!("`feed` {rule}")))
}

/// For `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
pub(super) fn failed(error: BlobError) -> Problem {
    Problem::internal(&error)
}

fn protocol(text: &str) -> Result<Protocol, Problem> {
    let known = [Protocol::Npm, Protocol::Nuget].into_iter().find(|known| known.as_str() == text);
    known.ok_or_else(|| Problem::invalid(format!("`protocol` is `{text}`; it must be npm or nuget")))
}

pub(super) async fn shown_all(handler: &Handler, objects: &[Object]) -> Result<Vec<Value>, Problem> {
    let (own, looked_for) = (handler.clone(), objects.to_vec());
    let look = move || looked_for.iter().map(|object| own.is_pinned(object)).collect::<Vec<_>>();
    let pinned = off_thread("look up pins", look).await.map_err(|error| Problem::internal(&error))?;
    let all = objects.iter().zip(pinned).map(|(object, pinned)| with_bytes(handler, object, pinned));
    let all: Vec<_> = all.collect();
    stream::iter(all).buffered(AT_ONCE).try_collect().await
}

async fn with_bytes(handler: &Handler, object: &Object, pinned: bool) -> Result<Value, Problem> {
    let mut one = shown(handler, object);
    one["pinned"] = json!(pinned);
    if let Some(id) = &object.id {
        let stat = handler.parts().blobs.stat(id).await.map_err(failed)?;
        one["bytes"] = json!(stat.map(|stat| stat.length));
    }
    Ok(one)
}

/// An object, without what the store knows of its blob.
fn shown(handler: &Handler, object: &Object) -> Value {
    let key = ObjectKey::read(object.bare());
    let age = handler.parts().clock.now().duration_since(object.since).unwrap_or_default().as_secs();
    json!({
        "kind": if object.is_document { "document" } else { "package" },
        "key": object.key,
        "feed": key.map(|key| key.feed),
        "protocol": key.and_then(|key| key.protocol).map(Protocol::as_str),
        "package": key.and_then(|key| key.package),
        "version": key.and_then(|key| key.version()),
        "path": key.and_then(|key| key.path()),
        "storage_id": object.id.map(|id| id.to_string()),
        "since": seconds(object.since),
        "age": age,
    })
}
