//! Where a locked npm package came from, by the URL that the lockfile remembers.

use percent_encoding::percent_decode_str;

use super::Integrity;
use crate::{
    ident::NpmName,
    route::{self, PackageRoute, Target},
};

/// Schemes of what lies in the checkout.
const CHECKOUT: [&str; 6] = ["file:", "link:", "workspace:", "portal:", "patch:", "root:"];

/// Who serves a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A registry.
    Registry,
    /// Nobody: it lies in the checkout.
    Checkout,
    /// Something else: a git server, or any URL.
    Elsewhere,
}

// === impl Origin ===

impl Origin {
    /// The origin of what was resolved to `url`.
    pub(super) fn of(url: &str) -> Self {
        if CHECKOUT.iter().any(|scheme| url.starts_with(scheme)) || !url.contains(':') {
            return Self::Checkout;
        }
        if tarball(url).is_some() { Self::Registry } else { Self::Elsewhere }
    }
}

/// Name and file of a tarball's URL, when it is made as registries make it: `…/{name}/-/{file}.tgz`.
pub(super) fn tarball(url: &str) -> Option<(NpmName, String)> {
    let path = path(url)?;
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let (package, file) = path.rsplit_once("/-/")?;
    // Some registries repeat the scope before the file's name.
    let file = file.rsplit('/').next().filter(|file| file.strip_suffix(".tgz").is_some())?;
    let mut segments = package.rsplit('/');
    let bare = segments.next()?;
    let scope = segments.next().filter(|scope| scope.starts_with('@'));
    let name = scope.map_or_else(|| bare.to_owned(), |scope| format!("{scope}/{bare}"));
    Some((NpmName::parse(&name).ok()?, file.to_owned()))
}

/// Name and version that such a URL names.
pub(super) fn package(url: &str) -> Option<(NpmName, String)> {
    let (name, file) = tarball(url)?;
    let version = route::npm_version(&name, &file)?.to_owned();
    Some((name, version))
}

/// The package that a URL of a feed names, at whatever host.
pub(super) fn package_at(url: &str) -> Option<PackageRoute> {
    let host = url.split_once("://")?.1.split('/').next();
    match route::parse(host, path(url)?).ok()?.target {
        Target::Package(route) => Some(route),
        Target::Document(_) | Target::Derived(_) | Target::Audit(_) | Target::Passthrough(_) => None,
    }
}

/// The path of an http URL, without query and fragment.
pub(super) fn path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let path = rest.get(rest.find('/')?..)?;
    path.split(['?', '#']).next()
}

/// The SHA-1 that Yarn 1 writes behind the URL.
pub(super) fn sha1_of(url: &str) -> Option<Integrity> {
    let (_, digits) = url.rsplit_once('#')?;
    let mut digest = [0; 20];
    if digits.len() != 40 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..40).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(Integrity::of_sha1(digest))
}

/// Whether `version` can be one of `name`.
pub(super) fn is_npm_version(name: &NpmName, version: &str) -> bool {
    route::npm_version(name, &file_of(name, version)).is_some()
}

/// The file that a registry makes of a version.
pub(super) fn file_of(name: &NpmName, version: &str) -> String {
    format!("{}-{version}.tgz", name.bare())
}

#[cfg(test)]
mod tests {
    use super::{Origin, sha1_of, tarball};

    #[test]
    fn registries_are_known_by_their_urls() {
        for (url, expected) in [
            ("https://r.example/left-pad/-/left-pad-1.3.0.tgz", Some(("left-pad", "left-pad-1.3.0.tgz"))),
            (
                "http://r.example/o/_packaging/f/npm/registry/@a/b/-/b-1.0.0.tgz#1f",
                Some(("@a/b", "b-1.0.0.tgz")),
            ),
            ("https://r.example/@a%2fb/-/b-1.0.0.tgz", Some(("@a/b", "b-1.0.0.tgz"))),
            ("https://r.example/@a/b/-/@a/b-1.0.0.tgz?x=y", Some(("@a/b", "b-1.0.0.tgz"))),
            ("https://codeload.example/a/b/tar.gz/0123", None),
            ("https://r.example/-/x.tgz", None),
            ("https://r.example/a/-/x.zip", None),
            ("git+ssh://git@example/a/-/b.tgz", None),
            ("https://r.example", None),
        ] {
            let found = tarball(url);
            let found = found.as_ref().map(|(name, file)| (name.as_str(), file.as_str()));
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn the_checkout_is_told_from_elsewhere() {
        for (url, origin) in [
            ("file:../x.tgz", Origin::Checkout),
            ("packages/a", Origin::Checkout),
            ("git+ssh://git@example/a.git#1f", Origin::Elsewhere),
            ("github:a/b#1f", Origin::Elsewhere),
            ("https://codeload.example/a/b/tar.gz/0123", Origin::Elsewhere),
            ("https://r.example/a/-/a-1.0.0.tgz", Origin::Registry),
        ] {
            assert_eq!(Origin::of(url), origin, "{url}");
        }
    }

    #[test]
    fn a_sha1_is_read_from_the_fragment() {
        let digits = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let found = sha1_of(&format!("https://r.example/a/-/a-1.0.0.tgz#{digits}")).unwrap();
        assert_eq!(found.to_string(), "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
        assert_eq!(sha1_of("https://r.example/a.git#0123"), None);
        assert_eq!(sha1_of(&format!("x#{}", "é".repeat(20))), None);
    }
}
