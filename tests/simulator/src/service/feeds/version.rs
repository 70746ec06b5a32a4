//! The JSON of a version: the minimal form inside packages, and the full one.

use serde_json::{Map, Value, json};

use super::FeedUrls;
use super::packages::Detail;
use crate::clock;
use crate::world::{FeedState, NpmRelease, NugetRelease, PackageEntry, Release, VersionEntry};

/// `MinimalPackageVersion`: first the fields of the seeds, then the later ones. `storageId` is the file's real one; a
/// deleted version has none (facts §1.4: may be so).
pub(super) fn minimal(
    feed: &FeedState,
    package: &PackageEntry<'_>,
    version: &VersionEntry<'_>,
    detail: Detail,
) -> Map<String, Value> {
    let presence = version.release.presence();
    let gone = presence.is_gone();
    let storage_id = (!gone).then(|| version.release.artifact().digests().storage_id.clone());
    let mut fields = vec![
        ("id", json!(version.guid())),
        ("normalizedVersion", json!(version.normalised)),
        ("version", json!(version.version)),
        ("isLatest", json!(is_latest(package, version))),
        ("isListed", json!(version.release.listed() && !gone)),
        ("storageId", json!(storage_id)),
        ("views", json!(views(feed, version))),
        ("publishDate", json!(clock::precise(version.release.published()))),
    ];
    if gone {
        fields.push(("isDeleted", json!(true)));
    }
    if detail.descriptions {
        fields.push(("packageDescription", json!(description(version.release))));
    }
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// `PackageVersion`.
pub(super) fn full(
    feed: &FeedState,
    package: &PackageEntry<'_>,
    version: &VersionEntry<'_>,
    detail: Detail,
    urls: &FeedUrls,
) -> Value {
    let traits = match version.release {
        Release::Npm(release) => npm(package.name, release),
        Release::Nuget(release) => nuget(package.key, release),
    };
    let mut fields = vec![
        ("author", json!(traits.author)),
        ("description", json!(description(version.release))),
        ("protocolMetadata", json!({ "schemaVersion": 1, "data": traits.metadata })),
        ("tags", json!(traits.tags)),
    ];
    let url = urls.version(package.guid, version.guid());
    if detail.urls {
        fields.push(("url", json!(url)));
    }
    fields.push(("dependencies", json!(traits.dependencies)));
    if detail.urls {
        let links = json!({
            "self": { "href": url },
            "feed": { "href": urls.feed },
            "package": { "href": urls.package(package.guid) },
        });
        fields.push(("_links", links));
    }
    fields.push(("files", json!([file(&traits.file, version.release)])));
    fields.push(("sourceChain", json!([])));
    if let Some(deleted) = version.release.presence().deleted {
        fields.push(("deletedDate", json!(clock::precise(deleted))));
    }
    let mut described: Map<String, Value> =
        fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
    described.extend(minimal(feed, package, version, detail));
    Value::Object(described)
}

/// What the protocols tell each in its way.
struct Traits {
    author: String,
    tags: Vec<String>,
    dependencies: Vec<Value>,
    metadata: Value,
    file: String,
}

fn npm(name: &str, release: &NpmRelease) -> Traits {
    let manifest = &release.manifest;
    let author = match manifest.get("author") {
        Some(Value::String(name)) => name.clone(),
        Some(author) => author["name"].as_str().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    let tags = manifest.get("keywords").and_then(Value::as_array).into_iter().flatten();
    let dependencies = manifest.get("dependencies").and_then(Value::as_object).into_iter().flatten();
    let dependency = |(name, range): (&String, &Value)| json!({ "packageName": name, "versionRange": range });
    Traits {
        author,
        tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
        dependencies: dependencies.map(dependency).collect(),
        metadata: json!({ "license": manifest.get("license"), "deprecated": release.deprecated }),
        file: NpmRelease::file_name(name, &release.version),
    }
}

fn nuget(key: &str, release: &NugetRelease) -> Traits {
    let nuspec = &release.nuspec;
    let dependency = |own: &crate::content::nupkg::Dependency| {
        let mut described = json!({ "packageName": own.id, "versionRange": interval(&own.range) });
        if let Some(framework) = &own.framework {
            described["group"] = json!(framework);
        }
        described
    };
    Traits {
        author: nuspec.authors.clone(),
        tags: nuspec.tags.split_whitespace().map(str::to_owned).collect(),
        dependencies: nuspec.dependencies.iter().map(dependency).collect(),
        metadata: json!({ "requireLicenseAcceptance": false }),
        file: format!("{key}.{}.nupkg", release.normalised),
    }
}

/// A nuspec's bare version means "at least".
fn interval(range: &str) -> String {
    match range.chars().next() {
        None => "(, )".to_owned(),
        Some('[' | '(') => range.to_owned(),
        Some(_) => format!("[{range}, )"),
    }
}

fn file(name: &str, release: Release<'_>) -> Value {
    let digests = release.artifact().digests();
    let metadata = json!({ "schemaVersion": 1, "data": { "size": digests.length } });
    json!({ "name": name, "children": [], "protocolMetadata": metadata })
}

fn description(release: Release<'_>) -> String {
    match release {
        Release::Npm(release) => {
            let own = release.manifest.get("description").and_then(Value::as_str);
            own.unwrap_or_default().to_owned()
        }
        Release::Nuget(release) => release.nuspec.description.clone(),
    }
}

/// The highest of all that are there, listed or not, prerelease or not.
fn is_latest(package: &PackageEntry<'_>, version: &VersionEntry<'_>) -> bool {
    let there = |own: &&VersionEntry<'_>| {
        let presence = own.release.presence();
        !presence.is_gone() && !presence.unsaved
    };
    package.versions.iter().find(there).is_some_and(|highest| highest.normalised == version.normalised)
}

fn views(feed: &FeedState, version: &VersionEntry<'_>) -> Vec<Value> {
    let presence = version.release.presence();
    let own = feed.views.iter().filter(|view| presence.shows_in(Some(view)));
    own.map(|view| json!({ "id": view.guid, "name": view.name, "url": null, "type": kind(&view.name) }))
        .collect()
}

/// The type of a view: the one that every feed has is made by the service.
pub(super) fn kind(view: &str) -> &'static str {
    if view.eq_ignore_ascii_case("local") { "implicit" } else { "release" }
}
