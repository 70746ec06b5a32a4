//! The NuGet v3 routes (facts §4.1, §4.2): service index, flat container, vulnerabilities, and the way to the rest.
//!
//! v2 is not here but in `odata`; both lead to the same files.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::error::{self, Refusal};
use super::reply::Reply;
use super::visit::{Place, Visit};
use super::{nuget_query, odata, registration};
use crate::wire::request::decode;
use crate::world::{Nuget, NugetRelease};

pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// The URLs of one feed's NuGet resources: always in GUID form, whatever was asked (facts §0.5).
#[derive(Clone, Debug)]
pub(crate) struct NugetUrls {
    /// `.../_packaging/{feed GUID}[@{view GUID}]/nuget/`
    pub(crate) base: String,
}

pub(crate) async fn answer(visit: &Visit<'_>, place: &Place, rest: &[&str]) -> Result<Reply, Refusal> {
    let rest: Vec<String> = rest.iter().map(|segment| decode(segment)).collect();
    if let [version, rest @ ..] = &rest[..]
        && version.eq_ignore_ascii_case("v2")
    {
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        return odata::answer(visit, place, &rest).await;
    }
    let rest: Vec<String> = rest.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let ["v3", rest @ ..] = &rest[..] else { return Err(Refusal::NoRoute) };
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let urls = NugetUrls::new(visit, place);
    match *rest {
        ["index.json"] => service_index(visit, place, urls).await,
        ["flat2", id, "index.json"] => versions(visit, place, id).await,
        ["flat2", id, version, file] => flat_file(visit, place, id, version, file).await,
        ["registrations2", id, ref document @ ..] => {
            registration::answer(visit, place, urls, (id, document, false)).await
        }
        ["registrations2-semver2", id, ref document @ ..] => {
            registration::answer(visit, place, urls, (id, document, true)).await
        }
        ["query2"] => Ok(nuget_query::answer(visit, place, &urls)),
        ["vulnerabilities", document] => vulnerabilities(document, &urls),
        _ => Err(Refusal::NoRoute),
    }
}

/// The package by any spelling of its id.
pub(crate) fn package(visit: &Visit<'_>, place: &Place, id: &str) -> Result<Arc<Nuget>, Refusal> {
    let found = visit.look(place, |feed| feed.nuget_package(id).map(Arc::clone));
    found.ok_or_else(|| error::no_package(id, &place.own.name))
}

async fn service_index(visit: &Visit<'_>, place: &Place, urls: NugetUrls) -> Result<Reply, Refusal> {
    let key = format!("index {}", urls.base);
    let (revision, place) = (place.revision, place.clone());
    let organisation = format!("{}{}/", visit.origin(), visit.location.root);
    let render = move || Some(Bytes::from(render_index(&place, &urls, &organisation).to_string()));
    let document = visit.service.document(key, revision, render).await;
    Ok(Reply::document(JSON, document.ok_or(Refusal::NoRoute)?))
}

fn render_index(place: &Place, urls: &NugetUrls, organisation: &str) -> Value {
    let resource = |kind: &str, path: &str| json!({ "@id": format!("{}{path}", urls.base), "@type": kind });
    let mut resources = vec![
        resource("PackagePublish/2.0.0", "v2/"),
        resource("LegacyGallery/2.0.0", "v2/"),
        resource("RegistrationsBaseUrl/3.0.0-beta", "v3/registrations2/"),
        resource("RegistrationsBaseUrl/3.6.0", "v3/registrations2-semver2/"),
        resource("RegistrationsBaseUrl/Versioned", "v3/registrations2-semver2/"),
        resource("SearchQueryService/3.0.0-beta", "v3/query2/"),
        resource("PackageBaseAddress/3.0.0", "v3/flat2/"),
        resource("VulnerabilityInfo/6.7.0", "v3/vulnerabilities/index.json"),
        json!({ "@id": organisation, "@type": "VssBaseUrl" }),
        json!({ "@id": format!("urn:uuid:{}", place.own.guid), "@type": "VssFeedId", "label": place.own.name }),
    ];
    let (guid, label) = match &place.view {
        Some(view) => {
            (format!("{}@{}", place.own.guid, view.guid), format!("{}@{}", place.own.name, view.name))
        }
        None => (place.own.guid.to_string(), place.own.name.clone()),
    };
    let qualified = format!("com.visualstudio.feeds.feedview:{guid}");
    resources.push(json!({ "@id": qualified, "@type": "VssQualifiedFeedViewId", "label": label }));
    if let Some(project) = &place.project {
        let id = format!("urn:uuid:{}", project.guid);
        resources.push(json!({ "@id": id, "@type": "AzureDevOpsProjectId", "label": project.name }));
    }
    json!({
        "@context": {
            "@vocab": "http://schema.nuget.org/services#",
            "comment": "http://www.w3.org/2000/01/rdf-schema#comment",
            "label": "http://www.w3.org/2000/01/rdf-schema#label",
        },
        "resources": resources,
        "version": "3.0.0-beta",
    })
}

/// All versions, listed or not, lowest first, in normal form.
async fn versions(visit: &Visit<'_>, place: &Place, id: &str) -> Result<Reply, Refusal> {
    let package = package(visit, place, id)?;
    let view = place.view.clone();
    let render = move || {
        let versions: Vec<&str> =
            package.shown(view.as_ref()).map(|release| release.normalised.as_str()).collect();
        (!versions.is_empty()).then(|| Bytes::from(json!({ "versions": versions }).to_string()))
    };
    let document =
        visit.service.document(format!("flat {} {id}", place.spelled), place.revision, render).await;
    Ok(Reply::document(JSON, document.ok_or_else(|| error::no_package(id, &place.own.name))?))
}

async fn flat_file(
    visit: &Visit<'_>,
    place: &Place,
    id: &str,
    version: &str,
    file: &str,
) -> Result<Reply, Refusal> {
    if file == format!("{id}.{version}.nupkg") {
        return nupkg(visit, place, id, version).await;
    }
    let package = package(visit, place, id)?;
    let release = package.release(version, place.view.as_ref());
    let release = release.ok_or_else(|| no_version(place, id, version))?;
    if file == format!("{id}.nuspec") {
        return Ok(Reply::new(200, "application/xml", release.nuspec_text.clone()));
    }
    Err(Refusal::NoRoute)
}

/// The redirect to the file; an unsaved version is saved by it (facts §3.3).
pub(crate) async fn nupkg(
    visit: &Visit<'_>,
    place: &Place,
    id: &str,
    version: &str,
) -> Result<Reply, Refusal> {
    let package = package(visit, place, id)?;
    let release = package.release(version, place.view.as_ref());
    let release = release.ok_or_else(|| no_version(place, id, version))?;
    if release.presence.unsaved {
        visit.may_ingest(id)?;
    }
    let file = format!("{}.{}.nupkg", id.to_ascii_lowercase(), release.normalised);
    let reply = visit.redirect(&release.artifact, &file).await?;
    if release.presence.unsaved {
        visit.change(place, |feed| {
            let mut saved: NugetRelease = release.clone();
            saved.presence.unsaved = false;
            feed.put_nuget(saved);
        });
    }
    Ok(reply)
}

fn no_version(place: &Place, id: &str, version: &str) -> Refusal {
    error::no_package(&format!("{id} {version}"), &place.own.name)
}

fn vulnerabilities(document: &str, urls: &NugetUrls) -> Result<Reply, Refusal> {
    let page = |name: &str, file: &str| {
        let id = format!("{}v3/vulnerabilities/{file}", urls.base);
        json!({ "@name": name, "@id": id, "@updated": "2024-01-01T00:00:00.0000000Z", "comment": "" })
    };
    let body = match document {
        "index.json" => {
            json!([page("base", "vulnerabilitybase.json"), page("update", "vulnerabilityupdate.json")])
        }
        "vulnerabilitybase.json" | "vulnerabilityupdate.json" => json!({}),
        _ => return Err(Refusal::NoRoute),
    };
    Ok(Reply::new(200, JSON, body.to_string()))
}

// === impl NugetUrls ===

impl NugetUrls {
    fn new(visit: &Visit<'_>, place: &Place) -> Self {
        let project = place.project.as_ref().map_or(String::new(), |project| format!("/{}", project.guid));
        let view = place.view.as_ref().map_or(String::new(), |view| format!("@{}", view.guid));
        let (origin, root, feed) = (visit.origin(), &visit.location.root, place.own.guid);
        Self { base: format!("{origin}{root}{project}/_packaging/{feed}{view}/nuget/") }
    }

    pub(crate) fn nupkg(&self, package: &Nuget, release: &NugetRelease) -> String {
        let (id, version) = (package.id.to_ascii_lowercase(), &release.normalised);
        format!("{}v3/flat2/{id}/{version}/{id}.{version}.nupkg", self.base)
    }

    /// The folder of a package's registration, with the slash at its end.
    pub(crate) fn registration(&self, id: &str, semver2: bool) -> String {
        let flavour = if semver2 { "registrations2-semver2" } else { "registrations2" };
        format!("{}v3/{flavour}/{}/", self.base, id.to_ascii_lowercase())
    }
}
