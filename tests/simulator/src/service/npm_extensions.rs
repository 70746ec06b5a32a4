//! What an ordinary npm registry has beside packuments, tarballs and publication: dist-tags, deprecation, unpublishing.
//!
//! Facts §3 has no evidence for these at the service, so they are there only if the builder says so, and answer as
//! public registries do: CouchDB revisions, 409 when one is stale, 201 for a changed document. A version that was
//! unpublished can be published again, which the real service never allows (facts §0.9).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::{self, Refusal};
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::world::FeedState;

/// What such a route is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// `-/package/{name}/dist-tags[/{tag}]`
    DistTags { name: String, tag: Option<String> },
    /// `{name}/-rev/{revision}`
    Package { name: String, revision: String },
    /// `{name}/-/{file}/-rev/{revision}`
    Tarball { name: String, version: String, revision: String },
}

/// The document that a client sends back after having changed it.
pub(crate) struct Rewrite {
    pub(crate) versions: Map<String, Value>,
    pub(crate) tags: Map<String, Value>,
    /// The revision it was made from.
    pub(crate) revision: Option<String>,
    /// Versions that are not in it are to go.
    pub(crate) removes: bool,
}

/// Answers on the routes that the builder has switched on.
pub(crate) fn answer(visit: &Visit<'_>, place: &Place, extension: &Extension) -> Result<Reply, Refusal> {
    if !visit.service.settings.npm_extensions {
        return Err(Refusal::NoRoute);
    }
    match (extension, visit.request.method.as_str()) {
        (Extension::DistTags { name, tag: None }, "GET" | "HEAD") => tags(visit, place, name),
        (Extension::DistTags { name, tag: Some(tag) }, "PUT") => set_tag(visit, place, name, tag),
        (Extension::DistTags { name, tag: Some(tag) }, "DELETE") => remove_tag(visit, place, name, tag),
        (Extension::Package { name, revision }, "PUT") => {
            let document: Value = body(visit)?;
            let table = |field: &str| document[field].as_object().cloned().unwrap_or_default();
            let (versions, tags) = (table("versions"), table("dist-tags"));
            let revision = Some(revision.clone());
            rewrite(visit, place, name, &Rewrite { versions, tags, revision, removes: true })
        }
        (Extension::Package { name, revision }, "DELETE") => {
            remove(visit, place, name, revision, |feed| feed.forget_npm(name))
        }
        (Extension::Tarball { name, version, revision }, "DELETE") => {
            // The version has gone with the document by now; only a client of its own order leaves it until here.
            remove(visit, place, name, revision, |feed| feed.retain_npm(name, |own| own != version))
        }
        _ => Err(Refusal::Method),
    }
}

/// Takes over what a client may change in a document: deprecations, tags and, if asked for, the loss of versions.
pub(crate) fn rewrite(
    visit: &Visit<'_>,
    place: &Place,
    name: &str,
    rewrite: &Rewrite,
) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    visit.change(place, |feed| {
        check_revision(feed, place, name, rewrite.revision.as_deref())?;
        let known =
            |version: &str| feed.npm.get(name).is_some_and(|own| own.release(version, None).is_some());
        if let Some(stranger) = rewrite.versions.keys().find(|version| !known(version)) {
            return Err(malformed(&format!("{name}@{stranger} has no attachment")));
        }
        if rewrite.removes {
            feed.retain_npm(name, |version| rewrite.versions.contains_key(version));
        }
        for (version, manifest) in &rewrite.versions {
            let message = manifest["deprecated"].as_str().filter(|message| !message.is_empty());
            feed.deprecate_npm(name, version, message);
        }
        feed.retag_npm(name, &rewrite.tags);
        Ok(changed(201, feed, name))
    })
}

fn tags(visit: &Visit<'_>, place: &Place, name: &str) -> Result<Reply, Refusal> {
    let package = visit.look(place, |feed| feed.npm.get(name).map(Arc::clone));
    let tags = package.and_then(|package| package.shown_tags(place.view.as_ref()));
    let tags = tags.ok_or_else(|| error::no_package(name, &place.own.name))?;
    Ok(Reply::new(200, "application/json", Value::Object(tags).to_string()))
}

/// The body is the version as a JSON text.
fn set_tag(visit: &Visit<'_>, place: &Place, name: &str, tag: &str) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    let version: String = body(visit)?;
    visit.change(place, |feed| {
        let package = feed.npm.get(name);
        if package.is_none_or(|package| package.release(&version, None).is_none()) {
            return Err(error::no_package(&format!("{name}@{version}"), &place.own.name));
        }
        feed.tag_npm(name, tag, &version);
        Ok(changed(201, feed, name))
    })
}

fn remove_tag(visit: &Visit<'_>, place: &Place, name: &str, tag: &str) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    if tag == "latest" {
        return Err(malformed("the tag 'latest' can't be removed"));
    }
    visit.change(place, |feed| {
        if feed.untag_npm(name, tag) {
            return Ok(changed(200, feed, name));
        }
        Err(error::no_package(&format!("{name}@{tag}"), &place.own.name))
    })
}

fn remove(
    visit: &Visit<'_>,
    place: &Place,
    name: &str,
    revision: &str,
    change: impl FnOnce(&mut FeedState),
) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    visit.change(place, |feed| {
        check_revision(feed, place, name, Some(revision))?;
        change(feed);
        Ok(changed(200, feed, name))
    })
}

fn check_revision(feed: &FeedState, place: &Place, name: &str, given: Option<&str>) -> Result<(), Refusal> {
    let package = feed
        .npm
        .get(name)
        .filter(|package| package.releases.iter().any(|release| !release.presence.is_gone()))
        .ok_or_else(|| error::no_package(name, &place.own.name))?;
    match given {
        Some(given) if given != package.revision() => Err(Refusal::Refused {
            status: 409,
            message: "Document update conflict.".to_owned(),
            type_key: "PackageConflictException",
        }),
        _ => Ok(()),
    }
}

fn changed(status: u16, feed: &FeedState, name: &str) -> Reply {
    let revision = feed.npm.get(name).map(|package| package.revision());
    let body = json!({ "ok": true, "id": name, "rev": revision });
    Reply::new(status, "application/json", body.to_string())
}

fn body<T: serde::de::DeserializeOwned>(visit: &Visit<'_>) -> Result<T, Refusal> {
    serde_json::from_slice(&visit.request.body).map_err(|_| malformed("the body is not what was expected"))
}

fn malformed(message: &str) -> Refusal {
    Refusal::Refused { status: 400, message: message.to_owned(), type_key: "InvalidPackageException" }
}
