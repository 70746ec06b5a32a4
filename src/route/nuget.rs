//! Grammar of NuGet v3, the paths below `_packaging/{feed}/nuget/` (facts §4.2).
//!
//! Ids and versions are normalised, so `flat2/Foo/1.0/Foo.1.0.nupkg` is `flat2/foo/1.0.0/foo.1.0.0.nupkg`. A file
//! that does not agree with the id and version before it is nothing that we know, and passes through; so does
//! anything that is not JSON, nuspec or nupkg. What stands where an id or a version must stand and is none is refused.

use super::{
    Document, Hive, Package,
    path::Segment,
    place::{Found, Place, Reading, Unread},
    query,
    value::{nuget_id, nuget_version},
};
use crate::ident::{NugetId, NugetVersion};

/// Parameters that NuGet clients put on every URL of a source. Outside of search they change nothing: which
/// versions a document lists is decided by the hive in its path.
const WITHOUT_EFFECT: [&str; 1] = ["semverlevel"];

/// Reads the segments below `nuget/`.
pub(super) fn recognise(tail: &[Segment<'_>], place: &Place<'_, '_>) -> Reading {
    let (version, below) = tail.split_first().ok_or(Unread::Unknown)?;
    let texts: Vec<&str> = below.iter().map(|segment| &*segment.text).collect();
    if version.is("v2") {
        return super::odata::recognise(&texts, place);
    }
    let (resource, rest) = texts.split_first().filter(|_| version.is("v3")).ok_or(Unread::Unknown)?;
    match (resource.to_ascii_lowercase().as_str(), rest) {
        ("index.json", []) => document(Document::ServiceIndex, place.query),
        ("query2", []) => Ok(Found::Document(Document::Search(query::canonical(place.query)))),
        ("vulnerabilities", [file]) => document(vulnerabilities(file)?, place.query),
        ("flat2", [id, rest @ ..]) => flat(id, rest, place.query),
        ("registrations2", [id, rest @ ..]) => document(registration(Hive::SemVer1, id, rest)?, place.query),
        ("registrations2-semver2", [id, rest @ ..]) => {
            document(registration(Hive::SemVer2, id, rest)?, place.query)
        }
        _ => Err(Unread::Unknown),
    }
}

fn document(document: Document, query: &str) -> Reading {
    let plain = query::is_without_effect(query, &WITHOUT_EFFECT);
    if plain { Ok(Found::Document(document)) } else { Err(Unread::Unknown) }
}

fn flat(id: &str, rest: &[&str], query: &str) -> Reading {
    match *rest {
        [index] if index.eq_ignore_ascii_case("index.json") => {
            document(Document::VersionList(nuget_id(id)?), query)
        }
        [version, file] => flat_file(nuget_id(id)?, nuget_version(version)?, file, query),
        _ => Err(Unread::Unknown),
    }
}

/// `{id}.nuspec` or `{id}.{version}.nupkg`. A query on the latter is ignored: its bytes never change.
fn flat_file(id: NugetId, version: NugetVersion, file: &str, query: &str) -> Reading {
    let file = file.to_ascii_lowercase();
    let rest = file.strip_prefix(id.as_str()).and_then(|rest| rest.strip_prefix('.'));
    if rest == Some("nuspec") {
        return document(Document::Nuspec(id, version), query);
    }
    let named = rest.and_then(|rest| rest.strip_suffix(".nupkg")).map(NugetVersion::parse);
    if named == Some(Ok(version.clone())) {
        return Ok(Found::Package(Package::Nuget { id, version }));
    }
    Err(Unread::Unknown)
}

fn registration(hive: Hive, id: &str, rest: &[&str]) -> Result<Document, Unread> {
    match *rest {
        [file] => match json_stem(file)?.as_str() {
            "index" => Ok(Document::RegistrationIndex(hive, nuget_id(id)?)),
            version => Ok(Document::RegistrationLeaf(hive, nuget_id(id)?, nuget_version(version)?)),
        },
        [page, lower, file] if page.eq_ignore_ascii_case("page") => {
            let upper = nuget_version(&json_stem(file)?)?;
            Ok(Document::RegistrationPage(hive, nuget_id(id)?, nuget_version(lower)?, upper))
        }
        _ => Err(Unread::Unknown),
    }
}

/// The three files that are known are literals, so their names are lower-cased like any other literal.
fn vulnerabilities(file: &str) -> Result<Document, Unread> {
    let stem = json_stem(file)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let sound = !stem.is_empty() && !stem.starts_with('.') && stem.bytes().all(allowed);
    if sound { Ok(Document::Vulnerabilities(stem)) } else { Err(Unread::Unknown) }
}

fn json_stem(file: &str) -> Result<String, Unread> {
    file.to_ascii_lowercase().strip_suffix(".json").map(str::to_owned).ok_or(Unread::Unknown)
}
