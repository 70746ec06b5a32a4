//! Grammar of NuGet v3, the paths below `_packaging/{feed}/nuget/` (facts §4.2).
//!
//! Ids and versions are normalised, so `flat2/Foo/1.0/Foo.1.0.nupkg` is `flat2/foo/1.0.0/foo.1.0.0.nupkg`. A file
//! that does not agree with the id and version before it is nothing that we know, and passes through; so do
//! the v2 paths and anything that is not JSON, nuspec or nupkg.

use super::{Document, Hive, Package, path::Segment, place::Found, query};
use crate::ident::{NugetId, NugetVersion};

/// Parameters that NuGet clients put on every URL of a source. Outside of search they change nothing: which
/// versions a document lists is decided by the hive in its path.
const WITHOUT_EFFECT: [&str; 1] = ["semverlevel"];

/// Reads the segments below `nuget/`.
pub(super) fn recognise(tail: &[Segment<'_>], query: &str) -> Option<Found> {
    let (version, below) = tail.split_first()?;
    if version.is("v2") {
        return super::odata::recognise(below, query);
    }
    if !version.is("v3") {
        return None;
    }
    let texts: Vec<&str> = below.iter().map(|segment| &*segment.text).collect();
    let (resource, rest) = texts.split_first()?;
    match (resource.to_ascii_lowercase().as_str(), rest) {
        ("index.json", []) => document(Document::ServiceIndex, query),
        ("query2", []) => Some(Found::Document(Document::Search(query::canonical(query)))),
        ("vulnerabilities", [file]) => document(vulnerabilities(file)?, query),
        ("flat2", [id, rest @ ..]) => flat(NugetId::parse(id).ok()?, rest, query),
        ("registrations2", [id, rest @ ..]) => {
            document(registration(Hive::SemVer1, NugetId::parse(id).ok()?, rest)?, query)
        }
        ("registrations2-semver2", [id, rest @ ..]) => {
            document(registration(Hive::SemVer2, NugetId::parse(id).ok()?, rest)?, query)
        }
        _ => None,
    }
}

fn document(document: Document, query: &str) -> Option<Found> {
    query::is_without_effect(query, &WITHOUT_EFFECT).then_some(Found::Document(document))
}

fn flat(id: NugetId, rest: &[&str], query: &str) -> Option<Found> {
    match *rest {
        [index] if index.eq_ignore_ascii_case("index.json") => document(Document::VersionList(id), query),
        [version, file] => flat_file(id, NugetVersion::parse(version).ok()?, file, query),
        _ => None,
    }
}

/// `{id}.nuspec` or `{id}.{version}.nupkg`. A query on the latter is ignored: its bytes never change.
fn flat_file(id: NugetId, version: NugetVersion, file: &str, query: &str) -> Option<Found> {
    let file = file.to_ascii_lowercase();
    let rest = file.strip_prefix(id.as_str())?.strip_prefix('.')?;
    if rest == "nuspec" {
        return document(Document::Nuspec(id, version), query);
    }
    let agrees = NugetVersion::parse(rest.strip_suffix(".nupkg")?).ok()? == version;
    agrees.then_some(Found::Package(Package::Nuget { id, version }))
}

fn registration(hive: Hive, id: NugetId, rest: &[&str]) -> Option<Document> {
    match *rest {
        [file] => match json_stem(file)?.as_str() {
            "index" => Some(Document::RegistrationIndex(hive, id)),
            version => Some(Document::RegistrationLeaf(hive, id, NugetVersion::parse(version).ok()?)),
        },
        [page, lower, file] if page.eq_ignore_ascii_case("page") => {
            let lower = NugetVersion::parse(lower).ok()?;
            let upper = NugetVersion::parse(&json_stem(file)?).ok()?;
            Some(Document::RegistrationPage(hive, id, lower, upper))
        }
        _ => None,
    }
}

/// The three files that are known are literals, so their names are lower-cased like any other literal.
fn vulnerabilities(file: &str) -> Option<Document> {
    let stem = json_stem(file)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let sound = !stem.is_empty() && !stem.starts_with('.') && stem.bytes().all(allowed);
    sound.then_some(Document::Vulnerabilities(stem))
}

fn json_stem(file: &str) -> Option<String> {
    file.to_ascii_lowercase().strip_suffix(".json").map(str::to_owned)
}
