//! Grammar of the npm registry, the paths below `_packaging/{feed}/npm/` (facts §3).
//!
//! Left out, so passed through: everything below `-/` (search, ping, whoami, audit, dist-tags), `{name}/{version}` (the
//! service answers 404) and `{name}/-rev/…`. An unknown query on a packument passes through as well (npm asks
//! `?write=true` before it publishes and must see the present state); one on a tarball is ignored, since
//! the bytes of a version never change.

use super::{Document, Package, path::Segment, place::Found, query};
use crate::ident::NpmName;

/// Reads the segments below `npm/`.
pub(super) fn recognise(tail: &[Segment<'_>], query: &str) -> Option<Found> {
    let pieces: Vec<&str> = below_base(tail).iter().flat_map(|segment| segment.text.split('/')).collect();
    match *pieces.as_slice() {
        [name] => packument(name, query),
        [scope, name] if is_scope(scope) => packument(&format!("{scope}/{name}"), query),
        [name, "-", file] => tarball(name, file),
        [scope, name, "-", file] if is_scope(scope) => tarball(&format!("{scope}/{name}"), file),
        // Some clients repeat the scope before the file's name; the service's own URLs don't.
        [scope, name, "-", again, file] if is_scope(scope) && again == scope => {
            tarball(&format!("{scope}/{name}"), file)
        }
        _ => None,
    }
}

/// The version that a tarball's file name holds, when it is made as the registry makes it:
/// `{name without scope}-{version}.tgz`.
pub fn npm_version<'f>(name: &NpmName, file: &'f str) -> Option<&'f str> {
    let version = file.strip_prefix(name.bare())?.strip_prefix('-')?.strip_suffix(".tgz")?;
    let core = version.split(['-', '+']).next()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (core.split('.').count() == 3 && core.split('.').all(is_number)).then_some(version)
}

/// The documented base is `npm/registry/`. UNCERTAIN: an older base `npm/` shows in generated `.npmrc` files
/// (facts §3); it is read as the same registry. A package named `registry` can't be asked for there.
fn below_base<'s, 't>(tail: &'s [Segment<'t>]) -> &'s [Segment<'t>] {
    match tail {
        [first, below @ ..] if first.is("registry") => below,
        _ => tail,
    }
}

fn is_scope(text: &str) -> bool {
    text.starts_with('@')
}

fn packument(name: &str, query: &str) -> Option<Found> {
    let name = NpmName::parse(name).ok()?;
    query::is_without_effect(query, &[]).then_some(Found::Document(Document::Packument(name)))
}

fn tarball(name: &str, file: &str) -> Option<Found> {
    let name = NpmName::parse(name).ok()?;
    is_file(file).then(|| Found::Package(Package::Npm { name, file: file.to_owned() }))
}

/// Whether a file name is made of what names and versions are made of, and ends in `.tgz`.
fn is_file(file: &str) -> bool {
    let stem = file.strip_suffix(".tgz").unwrap_or_default();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!'()*+".contains(&b);
    !stem.is_empty() && !stem.starts_with('.') && stem.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::npm_version;
    use crate::ident::NpmName;

    #[test]
    fn a_version_is_read_from_files_that_the_registry_names() {
        let rows = [
            ("left-pad", "left-pad-1.3.0.tgz", Some("1.3.0")),
            ("@types/node", "node-20.1.0.tgz", Some("20.1.0")),
            ("a", "a-1.0.0-beta.1.tgz", Some("1.0.0-beta.1")),
            ("a", "a-1.0.0+build-2.tgz", Some("1.0.0+build-2")),
            ("-", "--0.0.1.tgz", Some("0.0.1")),
            ("JSONStream", "JSONStream-0.10.0.tgz", Some("0.10.0")),
            ("JSONStream", "jsonstream-0.10.0.tgz", None),
            ("a", "a-b-1.0.0.tgz", None),
            ("a", "b-1.0.0.tgz", None),
            ("a", "a-1.0.tgz", None),
            ("a", "a-1.0.0.0.tgz", None),
            ("a", "a-v1.0.0.tgz", None),
            ("a", "a-1..0.tgz", None),
            ("a", "a1.0.0.tgz", None),
            ("a", "a-1.0.0.tar", None),
            ("@types/node", "@types/node-20.1.0.tgz", None),
        ];
        for (name, file, version) in rows {
            assert_eq!(npm_version(&NpmName::parse(name).unwrap(), file), version, "{file}");
        }
    }
}
