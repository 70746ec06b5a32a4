//! `npm publish`: a CouchDB-style document with the tarball inside (facts §3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::error::Refusal;
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::world::{FeedState, NpmRelease};

/// Adds the versions of the document. A version that exists is refused with 403, not 409.
pub(crate) fn publish(visit: &Visit<'_>, place: &Place, name: &str) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    let document: Value =
        serde_json::from_slice(&visit.request.body).map_err(|_| malformed("the body is not JSON"))?;
    let versions = document["versions"].as_object().ok_or_else(|| malformed("there is no version"))?;
    let tarballs =
        versions.keys().map(|version| tarball(&document, name, version)).collect::<Result<Vec<_>, _>>()?;
    visit.change(place, |feed| {
        let exists =
            |version: &&String| feed.npm.get(name).is_some_and(|own| own.release(version, None).is_some());
        if let Some(version) = versions.keys().find(exists) {
            return Err(already(&place.own.name, &NpmRelease::file_name(name, version)));
        }
        for ((version, manifest), tarball) in versions.iter().zip(tarballs) {
            feed.put_npm(name, NpmRelease::published(version, own_manifest(manifest), tarball));
        }
        set_tags(feed, name, &document["dist-tags"]);
        Ok(Reply::new(200, "application/json", "{}"))
    })
}

fn tarball(document: &Value, name: &str, version: &str) -> Result<Bytes, Refusal> {
    // npm names the attachment with the scope, other clients without it: the version tells them apart.
    let suffix = format!("-{version}.tgz");
    let attachments = document["_attachments"].as_object().into_iter().flatten();
    let own = attachments.into_iter().find(|(file, _)| file.ends_with(&suffix)).map(|(_, own)| own);
    let text = own.and_then(|own| own["data"].as_str());
    let text = text.ok_or_else(|| malformed(&format!("{name}@{version} has no attachment")))?;
    STANDARD.decode(text).map(Bytes::from).map_err(|_| malformed("the attachment is not base64"))
}

/// The manifest without what the service writes itself.
fn own_manifest(manifest: &Value) -> Map<String, Value> {
    let mut manifest = manifest.as_object().cloned().unwrap_or_default();
    manifest.retain(|field, _| field != "dist" && field != "_id");
    manifest
}

fn set_tags(feed: &mut FeedState, name: &str, tags: &Value) {
    let package = feed.npm_mut(name);
    for (tag, version) in tags.as_object().into_iter().flatten() {
        package.tags.retain(|(own, _)| own != tag);
        package.tags.push((tag.clone(), version.as_str().unwrap_or_default().to_owned()));
    }
}

fn already(feed: &str, file: &str) -> Refusal {
    let message = format!("The feed '{feed}' already contains file '{file}' in package.");
    Refusal::Refused { status: 403, message, type_key: "PackageAlreadyExistsException" }
}

fn malformed(message: &str) -> Refusal {
    Refusal::Refused { status: 400, message: message.to_owned(), type_key: "InvalidPackageException" }
}
