//! The npm registry routes (facts §3): packuments, tarball redirects, and the way to the rest. What the service lacks is
//! 404 here as well.

use std::sync::Arc;

use super::error::{self, Refusal};
use super::npm_audit::{self, Audit};
use super::npm_extensions::{self, Extension};
use super::npm_publish;
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::wire::request::decode;
use crate::world::{NpmRelease, PackumentForm};

/// What a path below `npm/registry/` asks for.
#[derive(Debug, PartialEq, Eq)]
enum NpmRoute {
    Packument(String),
    Tarball { name: String, version: String },
    Extension(Extension),
    Audit(Audit),
}

pub(crate) async fn answer(visit: &Visit<'_>, place: &Place, rest: &[&str]) -> Result<Reply, Refusal> {
    let (name, version) = match (parse(rest).ok_or(Refusal::NoRoute)?, visit.request.method.as_str()) {
        (NpmRoute::Packument(name), "GET" | "HEAD") => return packument(visit, place, name).await,
        (NpmRoute::Packument(name), "PUT") => return npm_publish::publish(visit, place, &name).await,
        (NpmRoute::Extension(extension), _) => return npm_extensions::answer(visit, place, &extension),
        (NpmRoute::Audit(audit), _) => return npm_audit::answer(visit, audit),
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
    if let Some(path) = path.strip_prefix("-/") {
        return parse_special(path);
    }
    let (path, revision) = match path.split_once("/-rev/") {
        Some((path, revision)) => (path, Some(revision.to_owned())),
        None => (path.as_str(), None),
    };
    let (name, file) = match path.split_once("/-/") {
        Some((name, file)) => (name, Some(file)),
        None => (path, None),
    };
    let name = package_name(name)?;
    let version = match file {
        Some(file) => Some(version_of(file, &name)?),
        None => None,
    };
    Some(match (version, revision) {
        (None, None) => NpmRoute::Packument(name),
        (None, Some(revision)) => NpmRoute::Extension(Extension::Package { name, revision }),
        (Some(version), None) => NpmRoute::Tarball { name, version },
        (Some(version), Some(revision)) => {
            NpmRoute::Extension(Extension::Tarball { name, version, revision })
        }
    })
}

/// Routes below `-/`; those that are not here are not at the service (facts §3).
fn parse_special(path: &str) -> Option<NpmRoute> {
    match path {
        "npm/v1/security/advisories/bulk" => return Some(NpmRoute::Audit(Audit::Bulk)),
        "npm/v1/security/audits" | "npm/v1/security/audits/quick" => {
            return Some(NpmRoute::Audit(Audit::Tree));
        }
        _ => {}
    }
    let (name, rest) = path.strip_prefix("package/")?.split_once("/dist-tags")?;
    let tag = match rest {
        "" => None,
        tag => Some(tag.strip_prefix('/')?.to_owned()),
    };
    Some(NpmRoute::Extension(Extension::DistTags { name: package_name(name)?, tag }))
}

fn package_name(text: &str) -> Option<String> {
    let (scoped, slashes) = (text.starts_with('@'), text.matches('/').count());
    let good = !text.is_empty() && !text.starts_with('-') && slashes == usize::from(scoped);
    good.then(|| text.to_owned())
}

/// The version in a tarball's file name, which is without the scope.
fn version_of(file: &str, name: &str) -> Option<String> {
    let base = name.rsplit('/').next()?;
    file.strip_prefix(base)?.strip_prefix('-')?.strip_suffix(".tgz").map(str::to_owned)
}

/// Always the full document, whatever `Accept` says; no ETag (facts §3.1).
async fn packument(visit: &Visit<'_>, place: &Place, name: String) -> Result<Reply, Refusal> {
    let missing = error::no_package(&name, &place.own.name);
    let package =
        visit.look(place, |feed| feed.npm.get(&name).map(Arc::clone)).ok_or_else(|| missing.clone())?;
    let base = format!("{}/npm/registry/", place.spelled);
    let settings = &visit.service.settings;
    let form = PackumentForm { integrity: settings.integrity, revision: settings.npm_extensions };
    let view = place.view.clone();
    let render = {
        let base = base.clone();
        move || package.packument(&base, view.as_ref(), form)
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
        let tags = |name: &str, tag: Option<&str>| {
            let (name, tag) = (name.to_owned(), tag.map(str::to_owned));
            Some(NpmRoute::Extension(Extension::DistTags { name, tag }))
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
            (
                "registry/@contoso%2fui/-rev/3-abc",
                Some(NpmRoute::Extension(Extension::Package {
                    name: "@contoso/ui".to_owned(),
                    revision: "3-abc".to_owned(),
                })),
            ),
            (
                "registry/@contoso/ui/-/ui-2.0.0.tgz/-rev/3-abc",
                Some(NpmRoute::Extension(Extension::Tarball {
                    name: "@contoso/ui".to_owned(),
                    version: "2.0.0".to_owned(),
                    revision: "3-abc".to_owned(),
                })),
            ),
            ("registry/-/package/@contoso%2fui/dist-tags", tags("@contoso/ui", None)),
            ("registry/-/package/left-pad/dist-tags/next", tags("left-pad", Some("next"))),
            ("registry/-/package/left-pad/dist-tagsnext", None),
            ("registry/-/npm/v1/security/audits/quick", Some(NpmRoute::Audit(Audit::Tree))),
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
