//! NuGet's side of the REST: paths, the JSON of a version, content.

use serde_json::{Map, Value, json};

use super::{Call, Route, Target, is};
use crate::clock;
use crate::log::Listener;
use crate::service::error::Refusal;
use crate::service::nuget::NugetUrls;
use crate::service::reply::Reply;
use crate::world::NugetRelease;

/// Reads the segments below `nuget/`.
pub(crate) fn parse(path: &[&str]) -> Option<Route> {
    match path {
        [batch] if is(batch, "packagesbatch") => Some(Route::Batch),
        [bin, batch] if is(bin, "recyclebin") && is(batch, "packagesbatch") => Some(Route::RecycledBatch),
        [bin, packages, name, versions, version]
            if is(bin, "recyclebin") && is(packages, "packages") && is(versions, "versions") =>
        {
            Some(Route::Recycled(Target::new(*name, version)))
        }
        [packages, name, upstreaming] if is(packages, "packages") && is(upstreaming, "upstreaming") => {
            Some(Route::Upstreaming((*name).to_owned()))
        }
        [packages, name, versions, version, rest @ ..]
            if is(packages, "packages") && is(versions, "versions") =>
        {
            match rest {
                [] => Some(Route::Version(Target::new(*name, version))),
                [content] if is(content, "content") => Some(Route::Content(Target::new(*name, version))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The package JSON; `id` is the display name, by analogy with npm's in the seeds.
pub(super) fn describe(name: &str, release: &NugetRelease) -> Map<String, Value> {
    let fields = [
        ("id", json!(name)),
        ("name", json!(name)),
        ("version", json!(release.version)),
        ("listed", json!(!release.unlisted)),
        ("deletedDate", json!(release.presence.deleted.map(clock::precise))),
    ];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// Redirects to the flat container, in GUID form (facts §4.2); a server of one's own sends the bytes.
pub(super) async fn content(call: &Call<'_>, target: &Target) -> Result<Reply, Refusal> {
    let (artifact, file, path) = call.visit.look(&call.place, |feed| {
        let (package, version) = call.live(feed, target)?;
        let (id, number) = (package.key, version.normalised);
        let file = format!("{id}.{number}.nupkg");
        let path = format!("v3/flat2/{id}/{number}/{file}");
        Ok::<_, Refusal>((version.release.artifact().clone(), file, path))
    })?;
    if call.visit.service.settings.server {
        return call.visit.redirect(&artifact, &file).await;
    }
    if call.visit.request.method != "GET" {
        return Err(Refusal::Method);
    }
    Ok(Reply::empty(303).header("Location", format!("{}{path}", urls(call).base)))
}

fn urls(call: &Call<'_>) -> NugetUrls {
    let place = &call.place;
    let project = place.project.as_ref().map_or(String::new(), |project| format!("/{}", project.guid));
    let view = place.view.as_ref().map_or(String::new(), |view| format!("@{}", view.guid));
    let base = call.visit.base_of(Listener::Pkgs);
    NugetUrls { base: format!("{base}{project}/_packaging/{}{view}/nuget/", place.own.guid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_documents_is_read() {
        let target = || Target::new("Feed.Client", "0.1.4");
        let rows = [
            ("packages/Feed.Client/versions/0.1.4", Some(Route::Version(target()))),
            ("Packages/Feed.Client/Versions/0.1.4", Some(Route::Version(target()))),
            ("packages/Feed.Client/versions/0.1.4/content", Some(Route::Content(target()))),
            ("packages/Feed.Client/upstreaming", Some(Route::Upstreaming("Feed.Client".into()))),
            ("packagesbatch", Some(Route::Batch)),
            ("RecycleBin/packages/Feed.Client/versions/0.1.4", Some(Route::Recycled(target()))),
            ("RecycleBin/packagesBatch", Some(Route::RecycledBatch)),
            ("Feed.Client/versions/0.1.4", None),
            ("packages/Feed.Client/versions/0.1.4/readme", None),
            ("packages/Feed.Client", None),
        ];
        for (path, expected) in rows {
            assert_eq!(parse(&path.split('/').collect::<Vec<_>>()), expected, "{path}");
        }
    }
}
