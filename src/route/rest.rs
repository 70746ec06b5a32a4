//! Grammar of the pkgs host's REST, the paths below `_apis/packaging/feeds/{feed}/{npm|nuget}` (facts §5.2, §5.3).
//!
//! Content named by names is the package of the protocol's own route: its bytes are the same, and the service
//! throttles the REST route ("not intended for bulk downloads", seed 000). Its query has no effect.
//! Tolerated are the seeds' oddities: a trailing slash, both orders of `packages` and the scope, an `@` too many, and
//! `/content` behind a version that is patched.

use super::{
    Document, Format, Package, Protocol, Rest, Subject, api_version,
    canonical::rest_segment,
    path::Segment,
    place::{Found, Place, Reading, Unread},
    value::{Named, npm_package, npm_package_version, nuget_package, nuget_package_version},
};
use crate::ident::{NpmName, NugetId};

/// Reads the segments below `npm/`.
pub(super) fn npm(tail: &[Segment<'_>], place: &Place<'_, '_>) -> Reading {
    let pieces: Vec<&str> = tail.iter().flat_map(|segment| segment.text.split('/')).collect();
    match *pieces.as_slice() {
        [batch] if is(batch, "packagesbatch") => Ok(Found::Other(Subject::Feed)),
        [bin, batch] if is(bin, "RecycleBin") && is(batch, "packagesbatch") => {
            Ok(Found::Other(Subject::Feed))
        }
        [bin, packages, ref below @ ..] if is(bin, "RecycleBin") && is(packages, "packages") => {
            npm_other(after_scope(below))
        }
        _ => below_packages(&pieces)
            .and_then(|(scope, below)| npm_below_packages(scope, below, place))
            .unwrap_or_else(|| npm_version(after_scope(&pieces), place)),
    }
}

/// Reads the segments below `nuget/`.
pub(super) fn nuget(tail: &[Segment<'_>], place: &Place<'_, '_>) -> Reading {
    let pieces: Vec<&str> = tail.iter().map(|segment| &*segment.text).collect();
    match *pieces.as_slice() {
        [batch] if is(batch, "packagesbatch") => Ok(Found::Other(Subject::Nugets)),
        [bin, batch] if is(bin, "RecycleBin") && is(batch, "packagesbatch") => {
            Ok(Found::Other(Subject::Nugets))
        }
        [bin, packages, id, ..] if is(bin, "RecycleBin") && is(packages, "packages") => nuget_other(id),
        [packages, id, ref rest @ ..] if is(packages, "packages") => match *rest {
            [versions, version] if is(versions, "versions") => nuget_version(id, version, place),
            [versions, version, content] if is(versions, "versions") && is(content, "content") => {
                nuget_content(nuget_package(id)?, version)
            }
            _ => nuget_other(id),
        },
        _ => Err(Unread::Unknown),
    }
}

fn is(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word)
}

/// The scope, if one is in front, and what follows it.
fn after_scope<'a, 'p>(pieces: &'a [&'p str]) -> (Option<&'p str>, &'a [&'p str]) {
    match pieces {
        [scope, below @ ..] if scope.starts_with('@') => (Some(*scope), below),
        _ => (None, pieces),
    }
}

/// The scope and what follows `packages`; the scope may be on either side (facts §5.3).
fn below_packages<'a, 'p>(pieces: &'a [&'p str]) -> Option<(Option<&'p str>, &'a [&'p str])> {
    let (before, pieces) = after_scope(pieces);
    let (packages, below) = pieces.split_first()?;
    let (after, below) = after_scope(below);
    let scope = before.or(after);
    (is(packages, "packages") && (before.is_none() || after.is_none())).then_some((scope, below))
}

/// What follows `packages`; `None` where that is itself the name of a package.
fn npm_below_packages(scope: Option<&str>, below: &[&str], place: &Place<'_, '_>) -> Option<Reading> {
    match *below {
        [name, versions, version, content] if is(versions, "versions") && is(content, "content") => {
            Some(npm_package(scope, name).and_then(|package| npm_content(package, version)))
        }
        [name, versions, version, readme] if is(versions, "versions") && is(readme, "readme") => {
            Some(npm_package(scope, name).and_then(|package| npm_readme(package, version, place)))
        }
        [_, upstreaming] if is(upstreaming, "upstreaming") => Some(npm_other((scope, below))),
        [_, versions, _] if is(versions, "versions") => Some(npm_other((scope, below))),
        _ => None,
    }
}

/// `{name}/versions/{version}`, and the same with `/content`, which only PATCH has (facts §5.3).
fn npm_version((scope, pieces): (Option<&str>, &[&str]), place: &Place<'_, '_>) -> Reading {
    let (name, version, content) = match *pieces {
        [name, versions, version] if is(versions, "versions") => (name, version, false),
        [name, versions, version, content] if is(versions, "versions") && is(content, "content") => {
            (name, version, true)
        }
        _ => return Err(Unread::Unknown),
    };
    let (package, version) = (npm_package(scope, name)?, npm_package_version(version)?);
    let subject = package.clone().npm_subject();
    if content && *place.method != http::Method::PATCH {
        return Ok(Found::Other(subject));
    }
    let path = format!("npm/{package}/versions/{}", rest_segment(&version.to_string()));
    Ok(document(place, subject, path, Format::Json))
}

fn npm_readme(package: Named<NpmName>, version: &str, place: &Place<'_, '_>) -> Reading {
    let version = npm_package_version(version)?.to_string();
    let path = format!("npm/packages/{package}/versions/{}/readme", rest_segment(&version));
    Ok(document(place, package.npm_subject(), path, Format::Text))
}

fn npm_content(package: Named<NpmName>, version: &str) -> Reading {
    Ok(Found::Package(match (package, npm_package_version(version)?) {
        (Named::Name(name), Named::Name(version)) => {
            let file = format!("{}-{version}.tgz", name.bare());
            Package::Npm { name, file }
        }
        (package, version) => by_id(Protocol::Npm, &package.to_string(), &version.to_string()),
    }))
}

/// A path about one package that is passed through.
fn npm_other((scope, pieces): (Option<&str>, &[&str])) -> Reading {
    let name = pieces.first().ok_or(Unread::Unknown)?;
    Ok(Found::Other(npm_package(scope, name)?.npm_subject()))
}

fn nuget_version(id: &str, version: &str, place: &Place<'_, '_>) -> Reading {
    let (package, version) = (nuget_package(id)?, nuget_package_version(version)?);
    let path = format!("nuget/packages/{package}/versions/{version}");
    Ok(document(place, package.nuget_subject(), path, Format::Json))
}

fn nuget_content(package: Named<NugetId>, version: &str) -> Reading {
    Ok(Found::Package(match (package, nuget_package_version(version)?) {
        (Named::Name(id), Named::Name(version)) => Package::Nuget { id, version },
        (package, version) => by_id(Protocol::Nuget, &package.to_string(), &version.to_string()),
    }))
}

/// A path about one package that is passed through.
fn nuget_other(id: &str) -> Reading {
    Ok(Found::Other(nuget_package(id)?.nuget_subject()))
}

fn by_id(protocol: Protocol, package: &str, version: &str) -> Package {
    Package::ById { protocol, package: package.to_owned(), version: version.to_owned() }
}

fn document(place: &Place<'_, '_>, subject: Subject, path: String, format: Format) -> Found {
    let (query, api_version) = api_version::split(place.query);
    Found::Document(Document::Rest(Rest { feeds_host: false, subject, path, query, api_version, format }))
}
