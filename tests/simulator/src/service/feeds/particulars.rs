//! The smaller resources of a feed: views, permissions, retention, provenance and the badge.
//!
//! Views can be looked at and renamed; making and deleting them is left out. Values are invented where nobody shows
//! any; what matters to a cache is that the routes are there and who may read them.

use serde_json::{Value, json};

use super::packages::by_guid;
use super::{FeedUrls, version};
use crate::service::error::{self, Refusal};
use crate::service::reply::Reply;
use crate::service::visit::{Place, Visit, user_guid};
use crate::world::{FeedState, Named};

/// `views`.
pub(super) fn views(visit: &Visit<'_>, place: &Place) -> Result<Reply, Refusal> {
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let urls = FeedUrls::new(visit, place);
    let views: Vec<Value> =
        visit.look(place, |feed| feed.views.iter().map(|view| describe(feed, view, &urls)).collect());
    Ok(visit.json(200, &json!({ "count": views.len(), "value": views })))
}

/// `views/{view}`, by name or GUID.
pub(super) fn view(visit: &Visit<'_>, place: &Place, spelling: &str) -> Result<Reply, Refusal> {
    let urls = FeedUrls::new(visit, place);
    let missing = || error::no_view(spelling, &place.own.name);
    let described = match visit.request.method.as_str() {
        "GET" | "HEAD" => visit.look(place, |feed| {
            feed.view(spelling).map(|view| describe(feed, view, &urls)).ok_or_else(missing)
        }),
        "PATCH" => {
            visit.admit_writer()?;
            let body = visit.body()?;
            let is_local =
                visit.look(place, |feed| feed.view(spelling).is_some_and(|view| view.name == "local"));
            if is_local {
                return Err(super::feed::malformed("the implicit view keeps its name"));
            }
            visit.change(place, |feed| {
                let old = feed.view(spelling).ok_or_else(missing)?.clone();
                let name = body["name"].as_str().unwrap_or(&old.name).to_owned();
                feed.rename_view(&old.name, &name);
                Ok(describe(feed, &Named { name, ..old }, &urls))
            })
        }
        _ => Err(Refusal::Method),
    };
    Ok(visit.json(200, &described?))
}

fn describe(feed: &FeedState, view: &Named, urls: &FeedUrls) -> Value {
    let url = format!("{}/Views/{}", urls.feed, view.guid);
    json!({
        "id": view.guid,
        "name": view.name,
        "url": url,
        "_links": { "self": { "href": url }, "feed": { "href": urls.feed } },
        "type": version::kind(&view.name),
        "visibility": if feed.public { "organization" } else { "collection" },
    })
}

/// `permissions`: everybody who has a credential of the organisation.
pub(super) fn permissions(visit: &Visit<'_>) -> Reply {
    let world = visit.service.world.read();
    let tokens = &world.organisations[visit.organisation].tokens;
    let permission = tokens.iter().map(|token| {
        let user = user_guid(&token.label);
        json!({
            "role": "contributor",
            "identityDescriptor": format!("Microsoft.IdentityModel.Claims.ClaimsIdentity;{user}"),
            "displayName": token.label,
        })
    });
    let permissions: Vec<Value> = permission.collect();
    visit.json(200, &json!({ "count": permissions.len(), "value": permissions }))
}

/// `retentionpolicies`: the documented limit (facts §7.3).
pub(super) fn retention(visit: &Visit<'_>) -> Reply {
    visit.json(200, &json!({ "countLimit": 5000, "daysToKeepRecentlyDownloadedPackages": 30 }))
}

/// `packages/{package}/versions/{version}/provenance`.
pub(super) fn provenance(
    visit: &Visit<'_>,
    place: &Place,
    package: &str,
    number: &str,
) -> Result<Reply, Refusal> {
    let found = visit.look(place, |feed| {
        let package = by_guid(feed, package)?;
        let own = package.version_of_guid(number).filter(|own| !own.release.presence().is_gone())?;
        Some(json!({
            "feedId": feed.own.guid,
            "packageId": package.guid,
            "packageVersionId": own.guid(),
            "provenance": {
                "provenanceSource": "",
                "publisherUserIdentity": user_guid("publisher"),
                "userAgent": "simulator",
                "data": {},
            },
        }))
    });
    let found = found.ok_or_else(|| error::no_package(&format!("{package} {number}"), &place.own.name))?;
    Ok(visit.json(200, &found))
}

/// The badge of a package's newest version. Whoever may read the feed sees it: on a public feed, everybody.
pub(super) fn badge(visit: &Visit<'_>, place: &Place, package: &str) -> Result<Reply, Refusal> {
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let text = visit.look(place, |feed| {
        let package = by_guid(feed, package)?;
        let shown = package.versions.iter().find(|own| {
            let presence = own.release.presence();
            !presence.is_gone() && !presence.unsaved && presence.shows_in(place.view.as_ref())
        })?;
        Some(format!("{} {}", package.name, shown.version))
    });
    let text = text.ok_or_else(|| error::no_package(package, &place.own.name))?;
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"200\" height=\"20\"><text x=\"4\" y=\"14\">{text}</text></svg>\n"
    );
    Ok(Reply::new(200, "image/svg+xml", svg))
}
