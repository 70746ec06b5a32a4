//! What changed: in a feed's packages (`packagechanges`) and among the feeds (`feedchanges`), facts §5.4.
//!
//! A token counts what it is a token of: changes strictly after it are told. A feed's own token moves when the feed is
//! made, renamed, described or deleted, not with its packages; `latestPackageContinuationToken` does that.

use serde_json::{Value, json};

use super::packages::{Detail, links, outline};
use super::{FeedUrls, feed, version};
use crate::service::error::Refusal;
use crate::service::reply::Reply;
use crate::service::visit::{Place, Visit};
use crate::world::{Change, FeedState};

const DEFAULT_BATCH: usize = 1000;
const MAX_BATCH: usize = 2000;

/// `Feeds/{feed}/packagechanges`.
pub(super) async fn packages(visit: &Visit<'_>, place: &Place) -> Result<Reply, Refusal> {
    let (token, batch) = bookmark(visit);
    let urls = FeedUrls::new(visit, place);
    let own = format!("{}/packagechanges", urls.feed);
    let render = move |feed: &FeedState| {
        let changes: Vec<&Change> = feed.changes.after(token).take(batch).collect();
        let next = changes.last().map_or(token, |change| change.token);
        let described: Vec<Value> =
            changes.into_iter().filter_map(|change| package_change(feed, change, &urls)).collect();
        (next, described)
    };
    let (next, changes) = visit.render(place, render).await;
    let body = json!({
        "_links": {
            "self": { "href": format!("{own}?continuationToken={token}&batchSize={batch}") },
            "next": { "href": format!("{own}?continuationToken={next}&batchSize={batch}") },
        },
        "count": changes.len(),
        "nextPackageContinuationToken": next,
        "packageChanges": changes,
    });
    Ok(visit.json(200, &body))
}

fn package_change(feed: &FeedState, change: &Change, urls: &FeedUrls) -> Option<Value> {
    let package = feed.package(change.key.protocol, &change.key.package)?;
    let own = package.version(&change.key.version)?;
    let mut described = outline(&package);
    described.insert("url".to_owned(), json!(urls.package(package.guid)));
    described.insert("_links".to_owned(), links(&package, urls));
    Some(json!({
        "package": described,
        "packageVersionChange": {
            "changeType": change.kind.name(),
            "continuationToken": change.token,
            "packageVersion": version::full(feed, &package, own, Detail::full(), urls),
        },
    }))
}

/// `feedchanges`: the feeds that the caller may read, in the order of their latest changes; deleted ones with
/// `includeDeleted`.
pub(super) fn feeds(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let (token, batch) = bookmark(visit);
    settle(visit);
    let world = visit.service.world.read();
    let all = &world.organisations[visit.organisation].feeds;
    let mut told = feed::readable(visit, all)?;
    if visit.flag("includeDeleted") == Some(true) {
        told.extend(all.iter().filter(|feed| feed.deleted && visit.admit(feed).is_ok()));
    }
    told.retain(|feed| feed.token > token);
    told.sort_by_key(|feed| feed.token);
    told.truncate(batch);
    let next = told.last().map_or(token, |feed| feed.token);
    let changes: Vec<Value> = told.into_iter().map(|feed| feed_change(visit, feed)).collect();
    let own = format!("{}/_apis/Packaging/FeedChanges", visit.base_of(visit.request.listener));
    let body = json!({
        "_links": {
            "self": { "href": format!("{own}?continuationToken={token}&batchSize={batch}") },
            "next": { "href": format!("{own}?continuationToken={next}&batchSize={batch}") },
        },
        "count": changes.len(),
        "nextFeedContinuationToken": next,
        "feedChanges": changes,
    });
    Ok(visit.json(200, &body))
}

/// `feedchanges/{feed}`: did anything change?
pub(super) fn feed(visit: &Visit<'_>, spelling: &str) -> Result<Reply, Refusal> {
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let place = visit.rest_place(spelling)?;
    settle(visit);
    Ok(visit.json(200, &visit.look(&place, |feed| feed_change(visit, feed))))
}

fn feed_change(visit: &Visit<'_>, own: &FeedState) -> Value {
    json!({
        "changeType": if own.deleted { "delete" } else { "addOrUpdate" },
        "feed": feed::describe(visit, own),
        "feedContinuationToken": own.token,
        "latestPackageContinuationToken": own.changes.latest,
    })
}

/// Brings all logs of the organisation up to date.
fn settle(visit: &Visit<'_>) {
    let mut world = visit.service.world.write();
    let feeds = world.organisations[visit.organisation].feeds.len();
    for feed in 0..feeds {
        world.settled((visit.organisation, feed));
    }
}

/// The token to go on from, and how many changes at most.
fn bookmark(visit: &Visit<'_>) -> (u64, usize) {
    let batch = visit.number("batchSize").unwrap_or(DEFAULT_BATCH).clamp(1, MAX_BATCH);
    (visit.number("continuationToken").unwrap_or(0), batch)
}
