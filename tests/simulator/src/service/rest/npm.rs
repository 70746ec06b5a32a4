//! npm's side of the REST: paths, the JSON of a version, content and readme.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Call, Route, Target, is};
use crate::clock;
use crate::service::error::Refusal;
use crate::service::reply::Reply;
use crate::world::{NpmRelease, Operation, Release};

/// Reads the segments below `npm/`, in the order of the seeds and in that of the later documents (facts §5.3).
pub(crate) fn parse(path: &[&str]) -> Option<Route> {
    match path {
        [batch] if is(batch, "packagesbatch") => Some(Route::Batch),
        [bin, batch] if is(bin, "recyclebin") && is(batch, "packagesbatch") => Some(Route::RecycledBatch),
        [bin, packages, rest @ ..] if is(bin, "recyclebin") && is(packages, "packages") => {
            match version(rest)? {
                (target, []) => Some(Route::Recycled(target)),
                _ => None,
            }
        }
        [scope, packages, name, versions, version, content]
            if scope.starts_with('@')
                && is(packages, "packages")
                && is(versions, "versions")
                && is(content, "content") =>
        {
            Some(Route::Content(Target::new(format!("{scope}/{name}"), version)))
        }
        [packages, rest @ ..] if is(packages, "packages") && below_packages(rest).is_some() => {
            below_packages(rest)
        }
        rest => match version(rest)? {
            (target, []) => Some(Route::Version(target)),
            (target, [content]) if is(content, "content") => Some(Route::Deprecation(target)),
            _ => None,
        },
    }
}

fn below_packages(path: &[&str]) -> Option<Route> {
    match name(path)? {
        (name, [upstreaming]) if is(upstreaming, "upstreaming") => Some(Route::Upstreaming(name)),
        _ => match version(path)? {
            (target, [content]) if is(content, "content") => Some(Route::Content(target)),
            (target, [readme]) if is(readme, "readme") => Some(Route::Readme(target)),
            _ => None,
        },
    }
}

/// A package's name and what follows. The scope has its `@` already (facts §5.3); its slash may have been encoded.
fn name<'p>(path: &'p [&'p str]) -> Option<(String, &'p [&'p str])> {
    match path {
        [scope, name, rest @ ..] if scope.starts_with('@') && !scope.contains('/') => {
            Some((format!("{scope}/{name}"), rest))
        }
        [name, rest @ ..] => Some(((*name).to_owned(), rest)),
        [] => None,
    }
}

fn version<'p>(path: &'p [&'p str]) -> Option<(Target, &'p [&'p str])> {
    match name(path)? {
        (name, [versions, version, rest @ ..]) if is(versions, "versions") => {
            Some((Target::new(name, version), rest))
        }
        _ => None,
    }
}

/// The package JSON of the seeds.
pub(super) fn describe(name: &str, release: &NpmRelease) -> Map<String, Value> {
    let fields = [
        ("id", json!(name)),
        ("name", json!(name)),
        ("version", json!(release.version)),
        ("unpublishedDate", json!(release.presence.deleted.map(clock::precise))),
        ("deprecateMessage", json!(release.deprecated)),
    ];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// Redirects to the blob as the tarball's own route does, and saves like it (facts §3.3).
pub(super) async fn content(call: &Call<'_>, target: &Target) -> Result<Reply, Refusal> {
    let (artifact, key, name, unsaved) = call.visit.look(&call.place, |feed| {
        let (package, version) = call.live(feed, target)?;
        let artifact = Arc::clone(version.release.artifact());
        let unsaved = version.release.presence().unsaved;
        Ok::<_, Refusal>((artifact, package.key_of(&version), package.name.to_owned(), unsaved))
    })?;
    if unsaved {
        call.visit.may_ingest(&name)?;
    }
    let reply = call.visit.redirect(&artifact, &NpmRelease::file_name(&name, &key.version)).await?;
    if unsaved {
        call.visit.change(&call.place, |feed| feed.apply(&key, &Operation::Save));
    }
    Ok(reply)
}

/// The packument's readme, or a short invented one; its type is invented too.
pub(super) fn readme(call: &Call<'_>, target: &Target) -> Result<Reply, Refusal> {
    call.visit.look(&call.place, |feed| {
        let (package, version) = call.live(feed, target)?;
        let own = feed.npm.get(package.key).and_then(|own| own.fields.get("readme"));
        let text = own.and_then(Value::as_str).map_or_else(
            || {
                let Release::Npm(release) = version.release else { return String::new() };
                let description = release.manifest.get("description").and_then(Value::as_str);
                format!("# {}\n\n{}\n", package.name, description.unwrap_or_default())
            },
            str::to_owned,
        );
        Ok(Reply::new(200, "text/markdown; charset=utf-8", text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_documents_is_read() {
        let plain = || Target::new("bootstrap", "3.3.6");
        let scoped = || Target::new("@myscope/bootstrap", "3.3.6");
        let rows = [
            ("bootstrap/versions/3.3.6", Some(Route::Version(plain()))),
            ("bootstrap/Versions/3.3.6", Some(Route::Version(plain()))),
            ("@myscope/bootstrap/versions/3.3.6", Some(Route::Version(scoped()))),
            ("bootstrap/versions/3.3.6/content", Some(Route::Deprecation(plain()))),
            ("@myscope/bootstrap/versions/3.3.6/content", Some(Route::Deprecation(scoped()))),
            ("packages/bootstrap/versions/3.3.6/content", Some(Route::Content(plain()))),
            ("packages/@myscope/bootstrap/versions/3.3.6/content", Some(Route::Content(scoped()))),
            ("@myscope/packages/bootstrap/versions/3.3.6/content", Some(Route::Content(scoped()))),
            ("packages/bootstrap/versions/3.3.6/readme", Some(Route::Readme(plain()))),
            (
                "packages/@myscope/bootstrap/upstreaming",
                Some(Route::Upstreaming("@myscope/bootstrap".into())),
            ),
            ("packagesBatch", Some(Route::Batch)),
            ("RecycleBin/packages/@myscope/bootstrap/versions/3.3.6", Some(Route::Recycled(scoped()))),
            ("RecycleBin/PackagesBatch", Some(Route::RecycledBatch)),
            ("packages/versions/3.3.6", Some(Route::Version(Target::new("packages", "3.3.6")))),
            ("@s/packages/versions/1.0.0", Some(Route::Version(Target::new("@s/packages", "1.0.0")))),
            ("bootstrap/versions", None),
            ("bootstrap/versions/3.3.6/other", None),
            ("packages", None),
        ];
        for (path, expected) in rows {
            assert_eq!(parse(&path.split('/').collect::<Vec<_>>()), expected, "{path}");
        }
    }

    #[test]
    fn an_encoded_slash_of_a_scope_is_as_good() {
        let expected = Some(Route::Version(Target::new("@myscope/bootstrap", "3.3.6")));
        assert_eq!(parse(&["@myscope/bootstrap", "versions", "3.3.6"]), expected);
    }
}
