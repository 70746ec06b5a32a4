//! `npm publish`: a CouchDB-style document with the tarball inside (facts §3).
//!
//! Tarballs of hundreds of megabytes come this way, so the document is read away from the async threads, and its
//! attachment is decoded straight out of the request's body. A document without any attachment is `npm deprecate`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::Refusal;
use super::npm_extensions::{self, Rewrite};
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::world::NpmRelease;

/// The body of a publication.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default)]
    versions: Map<String, Value>,
    #[serde(default, rename = "dist-tags")]
    tags: Map<String, Value>,
    #[serde(rename = "_rev")]
    revision: Option<String>,
    #[serde(borrow, default, rename = "_attachments")]
    attachments: BTreeMap<String, Attachment<'a>>,
}

#[derive(Deserialize)]
struct Attachment<'a> {
    /// Base64; not a copy unless somebody escaped a letter of it.
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// What a document wants.
enum Wish {
    Publish { releases: Vec<NpmRelease>, tags: Map<String, Value> },
    Rewrite(Rewrite),
}

/// Adds the versions of the document. A version that exists is refused with 403, not 409.
pub(crate) async fn publish(visit: &Visit<'_>, place: &Place, name: &str) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    let (body, extended) = (visit.request.body.clone(), visit.service.settings.npm_extensions);
    let read = {
        let name = name.to_owned();
        move || Wish::read(&body, &name, extended)
    };
    let wish = tokio::task::spawn_blocking(read).await.expect("reading a document does not panic")?;
    match wish {
        Wish::Publish { releases, tags } => add(visit, place, name, (releases, &tags)),
        Wish::Rewrite(rewrite) => npm_extensions::rewrite(visit, place, name, &rewrite),
    }
}

fn add(
    visit: &Visit<'_>,
    place: &Place,
    name: &str,
    (releases, tags): (Vec<NpmRelease>, &Map<String, Value>),
) -> Result<Reply, Refusal> {
    visit.change(place, |feed| {
        let exists = |release: &&NpmRelease| {
            feed.npm.get(name).is_some_and(|own| own.release(&release.version, None).is_some())
        };
        if let Some(release) = releases.iter().find(exists) {
            return Err(already(&place.own.name, &NpmRelease::file_name(name, &release.version)));
        }
        for release in releases {
            feed.put_npm(name, release);
        }
        for (tag, version) in tags {
            feed.tag_npm(name, tag, version.as_str().unwrap_or_default());
        }
        Ok(Reply::new(200, "application/json", "{}"))
    })
}

/// The manifest without what the service writes itself.
fn own_manifest(manifest: &Value) -> Map<String, Value> {
    let mut manifest = manifest.as_object().cloned().unwrap_or_default();
    manifest.retain(|field, _| field != "dist" && field != "_id");
    manifest
}

fn already(feed: &str, file: &str) -> Refusal {
    let message = format!("The feed '{feed}' already contains file '{file}' in package.");
    Refusal::Refused { status: 403, message, type_key: "PackageAlreadyExistsException" }
}

fn malformed(message: &str) -> Refusal {
    Refusal::Refused { status: 400, message: message.to_owned(), type_key: "InvalidPackageException" }
}

// === impl Document ===

impl Document<'_> {
    fn tarball(&self, name: &str, version: &str) -> Result<Bytes, Refusal> {
        // npm names the attachment with the scope, other clients without it: the version tells them apart.
        let suffix = format!("-{version}.tgz");
        let own = self.attachments.iter().find(|(file, _)| file.ends_with(&suffix));
        let (_, own) = own.ok_or_else(|| malformed(&format!("{name}@{version} has no attachment")))?;
        let decoded = STANDARD.decode(own.data.as_bytes()).map(Bytes::from);
        decoded.map_err(|_| malformed("the attachment is not base64"))
    }
}

// === impl Wish ===

impl Wish {
    fn read(body: &Bytes, name: &str, extended: bool) -> Result<Self, Refusal> {
        let document: Document<'_> =
            serde_json::from_slice(body).map_err(|_| malformed("the body is not such a document"))?;
        if document.versions.is_empty() {
            return Err(malformed("there is no version"));
        }
        if extended && document.attachments.is_empty() {
            let Document { versions, tags, revision, .. } = document;
            return Ok(Self::Rewrite(Rewrite { versions, tags, revision, removes: false }));
        }
        let release = |(version, manifest): (&String, &Value)| {
            let tarball = document.tarball(name, version)?;
            Ok(NpmRelease::published(version, own_manifest(manifest), tarball))
        };
        let releases = document.versions.iter().map(release).collect::<Result<_, _>>()?;
        Ok(Self::Publish { releases, tags: document.tags })
    }
}
