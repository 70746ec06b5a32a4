//! The npm registry routes (facts §3): packuments and tarball redirects. What the service lacks is 404 here as well.

use std::sync::Arc;

use super::error::{self, Refusal};
use super::npm_publish;
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::wire::request::decode;
use crate::world::NpmRelease;

/// What a path below `npm/registry/` asks for.
#[derive(Debug, PartialEq, Eq)]
enum NpmRoute {
    Packument(String),
    Tarball { name: String, version: String },
}

pub(crate) async fn answer(visit: &Visit<'_>, place: &Place, rest: &[&str]) -> Result<Reply, Refusal> {
    let (name, version) = match (parse(rest).ok_or(Refusal::NoRoute)?, visit.request.method.as_str()) {
        (NpmRoute::Packument(name), "GET" | "HEAD") => return packument(visit, place, name).await,
        (NpmRoute::Packument(name), "PUT") => return npm_publish::publish(visit, place, &name),
        (NpmRoute::Tarball { name, version }, "GET" | "HEAD") => (name, version),
        _ => return Err(Refusal::Method),
    };
    tarball(visit, place, &name, &version).await
}

/// Unsupported routes (`-/...`, `{name}/{version}`) have no parse.
fn parse(rest: &[&str]) -> Option<NpmRoute> {
    // `npm/` without `registry/` is a trace of an older base (facts §3).
    let rest = match rest {
        [first, rest @ ..] if first.eq_ignore_ascii_case("registry") => rest,
        rest => rest,
    };
    let path = rest.iter().map(|segment| decode(segment)).collect::<Vec<_>>().join("/");
    let (name, file) = match path.split_once("/-/") {
        Some((name, file)) => (name, Some(file)),
        None => (path.as_str(), None),
    };
    let (scoped, slashes) = (name.starts_with('@'), name.matches('/').count());
    if name.is_empty() || name.starts_with('-') || slashes != usize::from(scoped) {
        return None;
    }
    let Some(file) = file else { return Some(NpmRoute::Packument(name.to_owned())) };
    let base = name.rsplit('/').next()?;
    let version = file.strip_prefix(base)?.strip_prefix('-')?.strip_suffix(".tgz")?;
    Some(NpmRoute::Tarball { name: name.to_owned(), version: version.to_owned() })
}

/// Always the full document, whatever `Accept` says; no ETag (facts §3.1).
async fn packument(visit: &Visit<'_>, place: &Place, name: String) -> Result<Reply, Refusal> {
    let missing = error::no_package(&name, &place.own.name);
    let package =
        visit.look(place, |feed| feed.npm.get(&name).map(Arc::clone)).ok_or_else(|| missing.clone())?;
    let base = format!("{}/npm/registry/", place.spelled);
    let (view, with_integrity) = (place.view.clone(), visit.service.settings.integrity);
    let render = {
        let base = base.clone();
        move || package.packument(&base, view.as_ref(), with_integrity)
    };
    let document = visit.service.document(format!("npm {base} {name}"), place.revision, render).await;
    Ok(Reply::document("application/json", document.ok_or(missing)?))
}

async fn tarball(visit: &Visit<'_>, place: &Place, name: &str, version: &str) -> Result<Reply, Refusal> {
    let found = visit.look(place, |feed| {
        let release = feed.npm.get(name)?.release(version, place.view.as_ref())?;
        Some((Arc::clone(&release.artifact), release.presence.unsaved))
    });
    let missing = || error::no_package(&format!("{name}@{version}"), &place.own.name);
    let (artifact, unsaved) = found.ok_or_else(missing)?;
    if unsaved {
        visit.may_ingest(name)?;
    }
    let reply = visit.redirect(&artifact, &NpmRelease::file_name(name, version)).await?;
    if unsaved {
        visit.change(place, |feed| {
            let releases = &mut feed.npm_mut(name).releases;
            releases
                .iter_mut()
                .filter(|release| release.version == version)
                .for_each(|release| release.presence.unsaved = false);
        });
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tarballs_are_told_apart() {
        let packument = |name: &str| Some(NpmRoute::Packument(name.to_owned()));
        let tarball = |name: &str, version: &str| {
            Some(NpmRoute::Tarball { name: name.to_owned(), version: version.to_owned() })
        };
        let rows = [
            ("registry/left-pad", packument("left-pad")),
            ("left-pad", packument("left-pad")),
            ("registry/@contoso%2fui", packument("@contoso/ui")),
            ("registry/@contoso%2Fui", packument("@contoso/ui")),
            ("registry/@contoso/ui", packument("@contoso/ui")),
            ("registry/%40contoso%2fui", packument("@contoso/ui")),
            ("registry/left-pad/-/left-pad-1.3.0.tgz", tarball("left-pad", "1.3.0")),
            ("registry/@contoso/ui/-/ui-2.0.0-rc.1.tgz", tarball("@contoso/ui", "2.0.0-rc.1")),
            ("registry/left-pad/1.3.0", None),
            ("registry/left-pad/latest", None),
            ("registry/-/v1/search", None),
            ("registry/-/ping", None),
            ("registry", None),
        ];
        for (path, expected) in rows {
            assert_eq!(parse(&path.split('/').collect::<Vec<_>>()), expected, "{path}");
        }
    }
}
