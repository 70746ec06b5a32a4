//! Feeds themselves: the list, one feed, and making, changing and deleting them.

use serde_json::{Value, json};

use super::FeedUrls;
use crate::content::organisation::Feed;
use crate::service::error::Refusal;
use crate::service::reply::Reply;
use crate::service::visit::Visit;
use crate::world::FeedState;

/// `Feeds`: list or make.
pub(super) fn collection(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    match visit.request.method.as_str() {
        "GET" | "HEAD" => list(visit),
        "POST" => create(visit),
        _ => Err(Refusal::Method),
    }
}

/// `Feeds/{feed}`: look, change or delete.
pub(super) fn answer(visit: &Visit<'_>, spelling: &str) -> Result<Reply, Refusal> {
    match visit.request.method.as_str() {
        "GET" | "HEAD" => one(visit, spelling),
        "PATCH" => update(visit, spelling),
        "DELETE" => delete(visit, spelling),
        _ => Err(Refusal::Method),
    }
}

/// The feeds that the caller may read, in this project or in none.
fn list(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    let world = visit.service.world.read();
    let feeds: Vec<Value> = readable(visit, &world.organisations[visit.organisation].feeds)?
        .into_iter()
        .map(|feed| describe(visit, feed))
        .collect();
    Ok(visit.json(200, &json!({ "count": feeds.len(), "value": feeds })))
}

/// Those of `feeds` that are in the request's project (without one: all) and open to the caller.
pub(super) fn readable<'f>(visit: &Visit<'_>, feeds: &'f [FeedState]) -> Result<Vec<&'f FeedState>, Refusal> {
    if !visit.caller.is_valid() {
        return Err(visit.not_signed_in());
    }
    let project = visit.location.project.as_deref();
    let in_scope = |feed: &&FeedState| match (project, &feed.project) {
        (None, _) => true,
        (Some(asked), Some(own)) => own.answers_to(asked),
        (Some(_), None) => false,
    };
    let own = feeds.iter().filter(|feed| !feed.deleted).filter(in_scope);
    Ok(own.filter(|feed| visit.admit(feed).is_ok()).collect())
}

fn one(visit: &Visit<'_>, spelling: &str) -> Result<Reply, Refusal> {
    let place = visit.rest_place(spelling)?;
    let mut described = visit.look(&place, |feed| describe(visit, feed));
    if let Some(view) = place.view {
        described["viewId"] = json!(view.guid);
        described["viewName"] = json!(view.name);
    }
    Ok(visit.json(200, &described))
}

/// POST: a feed with the usual views, in the request's project. 201, or 409 if the name is taken.
fn create(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    if !visit.caller.is_valid() {
        return Err(visit.not_signed_in());
    }
    visit.admit_writer()?;
    let body = visit.body()?;
    let name = name_in(&body).ok_or_else(|| malformed("a feed needs a name"))?;
    let mut world = visit.service.world.write();
    let (seed, organisation) = (world.seed, &mut world.organisations[visit.organisation]);
    let project = visit.location.project.as_deref();
    if organisation.feed(project, name).is_some() {
        return Err(taken(name));
    }
    let described = project.iter().fold(Feed::new(name), |feed, project| feed.project(project));
    let mut feed = FeedState::build(seed, &organisation.own.name, &described)
        .map_err(|error| malformed(&error.to_string()))?;
    feed.description = body["description"].as_str().map(str::to_owned);
    // A feed that was renamed or deleted keeps the GUID that its first name gave it.
    let number = organisation.feeds.len();
    if organisation.feeds.iter().any(|other| other.own.guid == feed.own.guid) {
        feed.own.guid = seed.guid(&format!("feed/{}/{number}", feed.own.guid));
    }
    organisation.feeds.push(feed);
    organisation.touch(number);
    let reply = describe(visit, &organisation.feeds[number]);
    world.revision += 1;
    Ok(visit.json(201, &reply))
}

/// PATCH: name and description; other properties are taken and forgotten.
fn update(visit: &Visit<'_>, spelling: &str) -> Result<Reply, Refusal> {
    let place = visit.rest_place(spelling)?;
    visit.admit_writer()?;
    let body = visit.body()?;
    let mut world = visit.service.world.write();
    let organisation = &mut world.organisations[visit.organisation];
    if let Some(description) = body["description"].as_str() {
        organisation.feeds[place.feed].description = Some(description.to_owned());
        organisation.touch(place.feed);
    }
    if let Some(name) = name_in(&body).filter(|name| *name != place.own.name) {
        let project = visit.location.project.as_deref();
        if organisation.feed(project, name).is_some_and(|(other, _)| other != place.feed) {
            return Err(taken(name));
        }
        world.rename((visit.organisation, place.feed), name);
    }
    Ok(visit.json(200, &describe(visit, &world.organisations[visit.organisation].feeds[place.feed])))
}

fn delete(visit: &Visit<'_>, spelling: &str) -> Result<Reply, Refusal> {
    let place = visit.rest_place(spelling)?;
    visit.admit_writer()?;
    let mut world = visit.service.world.write();
    let organisation = &mut world.organisations[visit.organisation];
    organisation.feeds[place.feed].deleted = true;
    organisation.touch(place.feed);
    world.revision += 1;
    Ok(Reply::empty(204))
}

fn name_in(body: &Value) -> Option<&str> {
    body["name"].as_str().filter(|name| !name.is_empty())
}

fn taken(name: &str) -> Refusal {
    let message = format!("A feed named '{name}' already exists.");
    Refusal::refused(409, "FeedNameAlreadyExistsException", message)
}

pub(super) fn malformed(message: &str) -> Refusal {
    Refusal::refused(400, "InvalidFeedPropertyException", message)
}

/// The JSON of a feed.
pub(super) fn describe(visit: &Visit<'_>, feed: &FeedState) -> Value {
    let project = feed.project.as_ref();
    let base = visit.base_of(visit.request.listener);
    let url = FeedUrls::of(&base, project.map(|project| project.guid), feed.own.guid).feed;
    json!({
        "id": feed.own.guid,
        "name": feed.own.name,
        "description": feed.description,
        "fullyQualifiedId": feed.own.guid,
        "fullyQualifiedName": feed.own.name,
        "project": project.map(|project| json!({ "id": project.guid, "name": project.name })),
        "view": null,
        "viewId": null,
        "viewName": null,
        "defaultViewId": feed.view("local").map(|view| view.guid),
        "upstreamEnabled": true,
        "upstreamSources": [],
        "capabilities": "defaultCapabilities",
        "hideDeletedPackageVersions": true,
        "badgesEnabled": true,
        "isReadOnly": false,
        "url": url,
        "_links": {
            "self": { "href": url },
            "packages": { "href": format!("{url}/Packages") },
            "permissions": { "href": format!("{url}/Permissions") },
        },
    })
}
