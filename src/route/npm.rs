//! Grammar of the npm registry, the paths below `_packaging/{feed}/npm/` (facts §3).
//!
//! What npm's registry has and the service lacks (one version's manifest, dist-tags, ping, whoami, audit) is recognised, so
//! that the gate can answer it. Left out, so passed through: search, logins, and `-rev` paths, by which npm unpublishes.
//! An unknown query on a packument passes through as well (npm asks `?write=true` before it publishes and must see
//! the present state); one on a tarball is ignored, since the bytes of a version never change.

use super::{
    Audit, Derived, Document, Package, Subject,
    path::Segment,
    place::{Found, Place, Reading, Unread},
    query,
    value::{is_npm_tag, is_npm_version, npm_name},
};
use crate::ident::NpmName;

/// Reads the segments below `npm/`.
pub(super) fn recognise(tail: &[Segment<'_>], place: &Place<'_, '_>) -> Reading {
    let pieces: Vec<&str> = below_base(tail).iter().flat_map(|segment| segment.text.split('/')).collect();
    match *pieces.as_slice() {
        // A package is called `-`, and only its tarballs have a second one.
        ["-", first, ref rest @ ..] if first != "-" => of_registry(first, rest),
        [scope, name, ref rest @ ..] if is_scope(scope) => {
            Ok(of_package(scoped(scope, name)?, Some(scope), rest, place))
        }
        [name, ref rest @ ..] => Ok(of_package(unscoped(name)?, None, rest, place)),
        [] => Err(Unread::Unknown),
    }
}

/// The version that a tarball's file name holds, when it is made as the registry makes it:
/// `{name without scope}-{version}.tgz`.
pub fn npm_version<'f>(name: &NpmName, file: &'f str) -> Option<&'f str> {
    let version = file.strip_prefix(name.bare())?.strip_prefix('-')?.strip_suffix(".tgz")?;
    is_npm_version(version).then_some(version)
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

/// What follows a package's name.
fn of_package(name: NpmName, scope: Option<&str>, rest: &[&str], place: &Place<'_, '_>) -> Found {
    let plain = query::is_without_effect(place.query, &[]);
    match *rest {
        [] if plain => Found::Document(Document::Packument(name)),
        ["-", file] if is_file(file) => tarball(name, file),
        // Some clients repeat the scope before the file's name; the service's own URLs don't.
        ["-", again, file] if scope == Some(again) && is_file(file) => tarball(name, file),
        [spec] if plain && (is_npm_version(spec) || is_npm_tag(spec)) => {
            Found::Derived(Derived::Manifest(name, spec.to_owned()))
        }
        _ => Found::Other(Subject::Npm(name)),
    }
}

fn tarball(name: NpmName, file: &str) -> Found {
    Found::Package(Package::Npm { name, file: file.to_owned() })
}

/// What follows `-/`. The query of a ping says nothing (npm sends `?write=true`), nor does that of an audit.
fn of_registry(first: &str, rest: &[&str]) -> Reading {
    match (first, rest) {
        ("ping", []) => Ok(Found::Derived(Derived::Ping)),
        ("whoami", []) => Ok(Found::Derived(Derived::Whoami)),
        ("npm", ["v1", "security", "advisories", "bulk"]) => Ok(Found::Audit(Audit::Bulk)),
        ("npm", ["v1", "security", "audits", "quick"]) => Ok(Found::Audit(Audit::Quick)),
        ("npm", ["v1", "security", "audits"]) => Ok(Found::Audit(Audit::Full)),
        ("package", [scope, name, rest @ ..]) if is_scope(scope) => {
            Ok(about_package(scoped(scope, name)?, rest))
        }
        ("package", [name, rest @ ..]) => Ok(about_package(unscoped(name)?, rest)),
        // Logins, tokens, hooks, search: nothing of a package.
        ("all" | "npm" | "user" | "v1", _) => Ok(Found::Other(Subject::Fixed)),
        _ => Err(Unread::Unknown),
    }
}

/// What follows `-/package/{name}`.
fn about_package(name: NpmName, rest: &[&str]) -> Found {
    match *rest {
        ["dist-tags"] => Found::Derived(Derived::DistTags(name)),
        ["dist-tags", tag] if is_npm_tag(tag) => Found::Derived(Derived::DistTag(name, tag.to_owned())),
        _ => Found::Other(Subject::Npm(name)),
    }
}

fn scoped(scope: &str, name: &str) -> Result<NpmName, Unread> {
    npm_name(&format!("{scope}/{name}"))
}

/// A text that is no name may be a word of a route that we don't know: passed through, not refused.
fn unscoped(name: &str) -> Result<NpmName, Unread> {
    NpmName::parse(name).map_err(|_| Unread::Unknown)
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
