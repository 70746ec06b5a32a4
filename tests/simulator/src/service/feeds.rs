//! The feeds host (facts §5.4): feeds by name or GUID, as much as a cache needs to learn which is which.

use serde_json::{Value, json};

use super::error::{self, Refusal};
use super::reply::Reply;
use super::visit::Visit;
use crate::wire::request::decode;
use crate::world::FeedState;

/// Answers below `_apis/packaging/` of the feeds host.
pub(crate) fn answer(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    let rest: Vec<String> = visit.location.rest.iter().map(|segment| decode(segment)).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    match rest[..] {
        [packaging, feeds] if is(packaging, "packaging") && is(feeds, "feeds") => list(visit),
        [packaging, feeds, feed] if is(packaging, "packaging") && is(feeds, "feeds") => one(visit, feed),
        _ => Err(Refusal::NoRoute),
    }
}

fn is(segment: &str, literal: &str) -> bool {
    segment.eq_ignore_ascii_case(literal)
}

/// The feeds that the caller may read, in this project or in none.
fn list(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    if !visit.caller.is_valid() {
        return Err(visit.not_signed_in());
    }
    let world = visit.service.world.read();
    let organisation = &world.organisations[visit.organisation];
    let project = visit.location.project.as_deref();
    let in_scope = |feed: &&FeedState| match (project, &feed.project) {
        (None, _) => true,
        (Some(asked), Some(own)) => own.answers_to(asked),
        (Some(_), None) => false,
    };
    let own = organisation.feeds.iter().filter(in_scope).filter(|feed| visit.admit(feed).is_ok());
    let feeds: Vec<Value> = own.map(|feed| describe(visit, feed)).collect();
    Ok(json_reply(visit, &json!({ "count": feeds.len(), "value": feeds })))
}

fn one(visit: &Visit<'_>, spelling: &str) -> Result<Reply, Refusal> {
    // A view may be named as in protocol URLs.
    let (spelling, view) =
        spelling.split_once('@').map_or((spelling, None), |(feed, view)| (feed, Some(view)));
    let world = visit.service.world.read();
    let (_, feed) = visit.find_feed(&world.organisations[visit.organisation], spelling)?;
    let mut described = describe(visit, feed);
    if let Some(view) = view {
        let view = feed.view(view).ok_or_else(|| error::no_view(view, spelling))?;
        described["viewId"] = json!(view.guid);
        described["viewName"] = json!(view.name);
    }
    Ok(json_reply(visit, &described))
}

fn json_reply(visit: &Visit<'_>, value: &Value) -> Reply {
    let version = visit.api_version().unwrap_or_else(|| "7.1-preview.1".to_owned());
    let content_type = format!("application/json; charset=utf-8; api-version={version}");
    let mut reply = Reply::new(200, "application/json", value.to_string());
    reply.headers = vec![("Content-Type".into(), content_type.into())];
    reply
}

fn describe(visit: &Visit<'_>, feed: &FeedState) -> Value {
    let project = feed.project.as_ref();
    let scope = project.map_or(String::new(), |project| format!("/{}", project.guid));
    let origin = visit.origin();
    let organisation = &visit.location.organisation;
    let url = format!("{origin}/{organisation}{scope}/_apis/Packaging/Feeds/{}", feed.own.guid);
    let default_view = feed.view("local").map(|view| view.guid);
    json!({
        "id": feed.own.guid,
        "name": feed.own.name,
        "fullyQualifiedId": feed.own.guid,
        "fullyQualifiedName": feed.own.name,
        "project": project.map(|project| json!({ "id": project.guid, "name": project.name })),
        "view": null,
        "viewId": null,
        "viewName": null,
        "defaultViewId": default_view,
        "upstreamEnabled": true,
        "upstreamSources": [],
        "capabilities": "defaultCapabilities",
        "hideDeletedPackageVersions": true,
        "badgesEnabled": false,
        "isReadOnly": false,
        "url": url,
        "_links": { "self": { "href": url }, "packages": { "href": format!("{url}/Packages") } },
    })
}
