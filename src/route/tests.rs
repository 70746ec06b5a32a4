//! Tests of the door: every spelling and every refusal, in tables.

use std::collections::HashSet;

use http::Method;

use super::{
    Collections, Document, DocumentClass, HostStyle, Protocol, RouteError, Target, parse, parse_for,
};
use crate::ident::FeedRef;

const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

/// One line for a target: its kind, its key or feed and host, and the path that goes upstream.
fn describe(target: &Target) -> String {
    let path = target.upstream_path();
    match target {
        Target::Document(route) => format!("{} {} {path}", route.class().as_str(), route.key()),
        Target::Package(route) => format!("package {} {path}", route.key()),
        Target::Derived(route) => format!("derived {} {path}", route.feed.key()),
        Target::Audit(route) => format!("audit {} {path}", route.feed.key()),
        Target::Passthrough(route) => {
            let host = if route.feeds_host { "feeds" } else { "pkgs" };
            format!("{host} {} {path}", route.feed.as_ref().map_or("-", FeedRef::key))
        }
    }
}

/// Checks that a target on the gate's own host reads as `expected`, and that its canonical path reads the same.
fn check(target: &str, expected: &str) {
    let route = parse(Some("gate:8080"), target).unwrap_or_else(|error| panic!("{target}: {error}"));
    assert_eq!(describe(&route.target), expected, "{target}");
    assert_eq!(route.style, HostStyle::Path);
    let again = parse(None, &format!("/{}{}", route.org, route.target.upstream_path())).unwrap();
    assert_eq!(describe(&again.target), expected, "again: {target}");
    assert_eq!(again, route);
}

#[test]
fn every_spelling_of_a_packument_is_one_document() {
    let plain = "packument org/-/feed/npm/packument/left-pad /_packaging/feed/npm/registry/left-pad";
    for target in [
        "/org/_packaging/feed/npm/registry/left-pad",
        "/org/_packaging/feed/npm/registry/left-pad/",
        "/org/_packaging/feed/npm/registry/left-pad?",
        "/org/_packaging/feed/npm/registry/left-pad?&",
        "/org/_packaging/feed/npm/left-pad",
        "/org/_packaging/feed/npm//registry//left-pad",
        "//org/_packaging/feed/npm/registry/left-pad//",
        "/org/_Packaging/feed/NPM/Registry/left-pad",
        "/org/%5Fpackaging/feed/npm/registry/left%2dpad",
        "/org/DefaultCollection/_packaging/feed/npm/registry/left-pad",
        "/org/defaultcollection/_packaging/feed/npm/registry/left-pad",
        "/org/DefaultCollection/defaultCollection/_packaging/feed/npm/registry/left-pad",
        "http://pkgs.dev.azure.com/org/_packaging/feed/npm/registry/left-pad",
        "HTTPS://gate:8443/org/_packaging/feed/npm/registry/left-pad",
    ] {
        check(target, plain);
    }
    let scoped = "packument org/my project/feed@release/npm/packument/@types/node \
                  /my%20project/_packaging/feed@release/npm/registry/@types%2fnode";
    for target in [
        "/org/my%20project/_packaging/feed@release/npm/registry/@types/node",
        "/org/my%20project/_packaging/feed%40release/npm/registry/@types%2fnode",
        "/org/my%20project/_packaging/feed@release/npm/registry/@types%2Fnode/",
        "/org/my%20project/_packaging/feed@release/npm/registry/%40types%2fnode",
        "/org/my%20project/_packaging/feed@release/npm/registry/%40types/node",
        "/org/my%20project/_packaging/feed@release/npm/%40types%2Fnode",
        "/org/DEFAULTCOLLECTION/%6Dy%20project/_packaging/feed@release/npm/registry/@types%2fnode",
    ] {
        check(target, scoped);
    }
}

#[test]
fn names_keep_their_case_upstream_while_the_feeds_key_folds_it() {
    let rows = [
        (
            "/Org/Pro/_packaging/Feed@View/npm/registry/JSONStream",
            "packument org/pro/feed@view/npm/packument/JSONStream /Pro/_packaging/Feed@View/npm/registry/JSONStream",
        ),
        (
            &format!("/org/{GUID}/_packaging/{GUID}@{GUID}/nuget/v3/index.json"),
            &format!(
                "service_index org/{GUID}/{GUID}@{GUID}/nuget/index \
                 /{GUID}/_packaging/{GUID}@{GUID}/nuget/v3/index.json"
            ),
        ),
        (
            "/org/%C3%84/_packaging/f/npm/registry/a",
            "packument org/ä/f/npm/packument/a /%C3%84/_packaging/f/npm/registry/a",
        ),
        (
            "/org/Ä/_packaging/f/npm/registry/a",
            "packument org/ä/f/npm/packument/a /%C3%84/_packaging/f/npm/registry/a",
        ),
        (
            "/org/_packaging/npm/npm/registry/npm",
            "packument org/-/npm/npm/packument/npm /_packaging/npm/npm/registry/npm",
        ),
        (
            "/org/_packaging/_packaging/npm/registry/registry",
            "packument org/-/_packaging/npm/packument/registry /_packaging/_packaging/npm/registry/registry",
        ),
        (
            "/org/-/_packaging/f/npm/registry/-",
            "packument org/%2d/f/npm/packument/- /-/_packaging/f/npm/registry/-",
        ),
    ];
    for (target, expected) in rows {
        check(target, expected);
    }
}

#[test]
fn every_spelling_of_an_npm_tarball_is_one_package() {
    let scoped = "package o/-/f/npm/tarball/@s/n/-/n-1.0.0.tgz /_packaging/f/npm/registry/@s/n/-/n-1.0.0.tgz";
    for tail in [
        "registry/@s/n/-/n-1.0.0.tgz",
        "registry/@s%2fn/-/n-1.0.0.tgz",
        "registry/%40s%2Fn/-/n-1.0.0.tgz",
        "registry/@s/n/-/@s/n-1.0.0.tgz",
        "registry/@s/n/-/@s%2fn-1.0.0.tgz",
        "registry/@s%2fn/-/%40s%2Fn-1.0.0.tgz",
        "registry/@s/n/-/n-1.0.0.tgz?cache=no",
        "@s/n/-/n-1%2e0.0.tgz",
    ] {
        check(&format!("/o/_packaging/f/npm/{tail}"), scoped);
    }
    let rows = [
        ("a/-/a-1.0.0.tgz", "a/-/a-1.0.0.tgz"),
        ("-/-/--0.0.1.tgz", "-/-/--0.0.1.tgz"),
        ("a/-/other-file.tgz", "a/-/other-file.tgz"),
    ];
    for (tail, key) in rows {
        let expected = format!("package o/-/f/npm/tarball/{key} /_packaging/f/npm/registry/{tail}");
        check(&format!("/o/_packaging/f/npm/registry/{tail}"), &expected);
    }
    check(
        "/o/_packaging/f/npm/registry/a/-/a-1.0.0+b.tgz",
        "package o/-/f/npm/tarball/a/-/a-1.0.0+b.tgz /_packaging/f/npm/registry/a/-/a-1.0.0%2Bb.tgz",
    );
}

const NUGET: &[(&str, &str, &str, &str)] = &[
    ("index.json", "service_index", "index", "index.json"),
    ("INDEX.json/", "service_index", "index", "index.json"),
    ("index.json?semVerLevel=2.0.0", "service_index", "index", "index.json"),
    ("flat2/Foo.Bar/index.json", "version_list", "versions/foo.bar", "flat2/foo.bar/index.json"),
    ("Flat2/foo.bar/Index.Json", "version_list", "versions/foo.bar", "flat2/foo.bar/index.json"),
    ("flat2/Foo/1.0/Foo.nuspec", "nuspec", "nuspec/foo/1.0.0", "flat2/foo/1.0.0/foo.nuspec"),
    ("flat2/foo/1.0.0-RC/foo.nuspec", "nuspec", "nuspec/foo/1.0.0-rc", "flat2/foo/1.0.0-rc/foo.nuspec"),
    ("flat2/foo/1.0.0/foo.1.0.0.nupkg", "package", "nupkg/foo/1.0.0", "flat2/foo/1.0.0/foo.1.0.0.nupkg"),
    ("flat2/Foo/1.0/FOO.1.0.0.0.NUPKG", "package", "nupkg/foo/1.0.0", "flat2/foo/1.0.0/foo.1.0.0.nupkg"),
    ("flat2/f/1.0.0+a/f.1.0.nupkg?x=1", "package", "nupkg/f/1.0.0", "flat2/f/1.0.0/f.1.0.0.nupkg"),
    ("flat2/f/1.0.0%2Ba/f.1.0.0%2Bb.nupkg", "package", "nupkg/f/1.0.0", "flat2/f/1.0.0/f.1.0.0.nupkg"),
    ("flat2/f.1/0.0.1/f.1.0.0.1.nupkg", "package", "nupkg/f.1/0.0.1", "flat2/f.1/0.0.1/f.1.0.0.1.nupkg"),
    ("flat2/f/1.0.0.1/f.1.0.0.1.nupkg", "package", "nupkg/f/1.0.0.1", "flat2/f/1.0.0.1/f.1.0.0.1.nupkg"),
    (
        "registrations2/Foo/index.json",
        "registration",
        "registrations2/foo/index",
        "registrations2/foo/index.json",
    ),
    (
        "Registrations2-SemVer2/Foo/1.0.json",
        "registration",
        "registrations2-semver2/foo/leaf/1.0.0",
        "registrations2-semver2/foo/1.0.0.json",
    ),
    (
        "registrations2/foo/Page/1.0/2.0-RC.json",
        "registration",
        "registrations2/foo/page/1.0.0/2.0.0-rc",
        "registrations2/foo/page/1.0.0/2.0.0-rc.json",
    ),
    ("query2", "search", "search?", "query2/"),
    ("query2/", "search", "search?", "query2/"),
    ("query2?q=a&take=1", "search", "search?q=a&take=1", "query2/?q=a&take=1"),
    ("query2/?q=%61&take=1", "search", "search?q=a&take=1", "query2/?q=a&take=1"),
    ("vulnerabilities/index.json", "vulnerabilities", "vulnerabilities/index", "vulnerabilities/index.json"),
    (
        "Vulnerabilities/VulnerabilityBase.json",
        "vulnerabilities",
        "vulnerabilities/vulnerabilitybase",
        "vulnerabilities/vulnerabilitybase.json",
    ),
];

#[test]
fn nuget_documents_and_packages_are_normalised() {
    for (tail, class, key, path) in NUGET {
        let expected = format!("{class} o/p/f/nuget/{key} /p/_packaging/f/nuget/v3/{path}");
        check(&format!("/o/p/_packaging/f/nuget/v3/{tail}"), &expected);
    }
}

/// Paths below the organisation that no grammar knows.
const UNKNOWN: &[&str] = &[
    "/_packaging/F/npm/registry",
    "/_packaging/f/npm/registry/",
    "/_packaging/f/npm/registry/left-pad?write=true",
    "/_packaging/f/npm/registry/left-pad/%5E1.3.0",
    "/_packaging/f/npm/registry/left-pad/1.x",
    "/_packaging/f/npm/registry/left-pad/1.3.0?write=true",
    "/_packaging/f/npm/registry/@s%2Fn/~1.3",
    "/_packaging/f/npm/registry/@s",
    "/_packaging/f/npm/registry/_session",
    "/_packaging/f/npm/registry/n%C3%A4me",
    "/_packaging/f/npm/registry/-/v1/search?text=a",
    "/_packaging/f/npm/registry/-/all",
    "/_packaging/f/npm/registry/-/user/org.couchdb.user:me",
    "/_packaging/f/npm/registry/-/npm/v1/user",
    "/_packaging/f/npm/registry/-/package/a/dist-tags/1.x",
    "/_packaging/f/npm/registry/-/package/a/access",
    "/_packaging/f/npm/registry/@s%2fn/-rev/3-abc",
    "/_packaging/f/npm/registry/a/-rev/3-abc",
    "/_packaging/f/npm/registry/a/-/a-1.0.0.tgz/-rev/3-abc",
    "/_packaging/f/npm/registry/a/-/a-1.0.0.tar.gz",
    "/_packaging/f/npm/registry/a/-/.tgz",
    "/_packaging/f/npm/registry/a/-/a%25-1.tgz",
    "/_packaging/f/npm/registry/@s/n/-/@other/n-1.0.0.tgz",
    "/_packaging/f/npm/registry/a/-/@s%2fa-1.0.0.tgz",
    "/_packaging/f/nuget/v3/index.json?write=true",
    "/_packaging/f/nuget/v3/flat2/foo/1.0.0/bar.1.0.0.nupkg",
    "/_packaging/f/nuget/v3/flat2/foo/1.0.0/foo.1.0.1.nupkg",
    "/_packaging/f/nuget/v3/flat2/foo/1.0.0/foo.1.0.0.snupkg",
    "/_packaging/f/nuget/v3/flat2/foo/1.0.0/bar.nuspec",
    "/_packaging/f/nuget/v3/flat2/%C3%A4/index.json",
    "/_packaging/f/nuget/v3/flat2/index.json",
    "/_packaging/f/nuget/v3/registrations2/foo/1.0.0.xml",
    "/_packaging/f/nuget/v3/vulnerabilities/.json",
    "/_packaging/f/nuget/v3/query2/more",
    "/_packaging/f/nuget/v3",
    "/_packaging/f/nuget/v2?id=foo",
    "/_packaging/f/nuget/v2/?id=a&id=b&version=1.0.0",
    "/_packaging/f/nuget/v2/package",
    "/_packaging/f/nuget/v2/package/foo",
    "/_packaging/f/nuget/v2/foo/1.0.0",
    "/_packaging/f/nuget/v2/Packages(Id='X')",
    "/_packaging/f/nuget/v2/Packages(Id='X',Version='1.0',Other='2')",
    "/_packaging/f/nuget/v2/Packages(Id='X',Version='1.0'",
    "/_packaging/f/nuget/v2/Packages(Id=X,Version=1.0)",
    "/_packaging/f/nuget/v2/Packages(Id='X',Version='1.0')/Download",
    "/_packaging/f/nuget/v2/FindPackagesById()",
    "/_packaging/f/nuget/v2/FindPackagesById()?id=X",
    "/_packaging/f/nuget/v2/FindPackagesById()?id='X'&id='Y'",
    "/_packaging/f/nuget/v2/FindPackagesById()/$count?id='X'",
    "/_packaging/f/nuget/v2/GetUpdates()?packageIds='a'",
    "/_packaging/f/nuget/v2/$batch",
    "/_packaging/f/pypi/simple/a/",
    "/_packaging/f/pypi/upload",
    "/_packaging/f/maven/v1/g/a/1/a-1.jar",
    "/_packaging/f/Cargo/index/config.json",
    "/_packaging/f/upack/packages/a/1.0.0",
    "/_packaging/f/symbols/a.pdb/0/a.pdb",
    "/_packaging/f",
];

#[test]
fn what_is_no_document_below_a_feed_passes_through_as_it_came() {
    for path in UNKNOWN {
        check(&format!("/o{path}"), &format!("pkgs o/-/f {path}"));
    }
}

#[test]
fn rest_paths_go_to_the_host_that_answers_them() {
    let rows = [
        ("feeds -", "/_apis/packaging/feeds"),
        ("feeds -", "/_apis/packaging/Feeds?api-version=7.1-preview.1"),
        ("feeds o/-/f@v", "/_apis/packaging/Feeds/f@v/permissions"),
        ("feeds o/p/f", "/p/_apis/Packaging/FEEDS/F/RecycleBin/Packages?$top=5"),
        ("feeds o/-/f", "/_apis/packaging/Feeds/f/packagechanges?continuationToken=5"),
        ("feeds o/-/f", "/_apis/packaging/Feeds/f/retentionpolicies"),
        ("feeds o/-/f", "/_apis/packaging/Feeds/f/packagemetricsbatch"),
        ("feeds o/-/f", "/_apis/packaging/Feeds/f/Packages/1/versionmetricsbatch"),
        ("feeds o/-/f", "/_apis/packaging/Feeds/f/Packages/1/badge"),
        ("feeds o/-/f", "/_apis/packaging/Feeds/f/views/v/more"),
        ("feeds -", "/_apis/packaging/feedchanges"),
        ("feeds o/-/f", "/_apis/packaging/feedchanges/f"),
        ("feeds o/-/f", "/_apis/packaging/feedchanges/f/packages"),
        ("feeds -", "/_apis/packaging/GlobalPermissions"),
        ("feeds o/p/f", "/p/_apis/public/packaging/Feeds/f/Packages/1/badge"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/n/versions/1.0.0/content?api-version=5.0"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/packages/@s%2fn/upstreaming"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/packages/n/versions/1.0.0"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/packagesbatch"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/RecycleBin/PackagesBatch"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/RecycleBin/packages/@s/n/versions/1.0.0"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/n/other/1.0.0"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/packages/@s/@s/n/versions/1.0.0/content"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm/@s/packages/@t/n/versions/1.0.0/content"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/npm"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/nuget/packages"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/nuget/packages/n"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/nuget/packages/n/versions/1.0.0/readme"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/nuget/packages/n/upstreaming"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/nuget/RecycleBin/packages/n/versions/1.0.0"),
        ("pkgs o/p/f", "/p/_apis/packaging/feeds/f/NuGet/packagesbatch"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/pypi/packages/a/versions/1/content"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/maven/a/b/1/c/content"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/upack/packages/a/versions/1"),
        ("pkgs o/-/f", "/_apis/packaging/feeds/f/cargo/packages/a/versions/1"),
        ("pkgs -", "/_apis/packaging/other"),
        ("pkgs -", "/_apis/resourceAreas"),
        ("pkgs -", "/_apis"),
        ("pkgs -", "/p/_git/r"),
        ("pkgs -", "/_git/_packaging/f/npm/registry/a"),
        ("pkgs -", "/p/team/_packaging/f/npm/registry/a"),
        ("pkgs -", "/_packaging"),
        ("pkgs -", "/"),
    ];
    for (place, path) in rows {
        check(&format!("/o{path}"), &format!("{place} {path}"));
    }
    check("/o", "pkgs - /");
    check("/o/DefaultCollection", "pkgs - /");
    check("/o//DefaultCollection//_apis//x/?", "pkgs - /_apis/x/");
    check("/o/_apis/a b/\"é\"?q=<é>", "pkgs - /_apis/a%20b/%22%C3%A9%22?q=%3C%C3%A9%3E");
}

#[test]
fn the_host_names_the_organisation_or_the_path_does() {
    use HostStyle::{Path, Subdomain};
    let packument = "/_packaging/f/npm/registry/a";
    let rows = [
        ("acme.pkgs.visualstudio.com", Subdomain, "acme", packument, "packument"),
        ("Acme.PKGS.VisualStudio.com:443", Subdomain, "Acme", packument, "packument"),
        (
            "acme.pkgs.visualstudio.com.",
            Subdomain,
            "acme",
            "/DefaultCollection/_packaging/f/npm/registry/a",
            "packument",
        ),
        ("acme.feeds.visualstudio.com", Subdomain, "acme", "/_apis/packaging/feeds", "feeds"),
        ("acme.feeds.visualstudio.com", Subdomain, "acme", "/_apis/x", "feeds"),
        ("acme.feeds.visualstudio.com", Subdomain, "acme", packument, "packument"),
        ("feeds.dev.azure.com", Path, "acme", "/acme/_packaging/f/npm/registry/a", "packument"),
        ("feeds.dev.azure.com", Path, "acme", "/acme/_apis/packaging/feeds/f/npm/x", "pkgs"),
        ("feeds.dev.azure.com", Path, "acme", "/acme/_apis/resourceAreas", "feeds"),
        ("acme.pkgs.visualstudio.com", Subdomain, "acme", "/", "pkgs"),
        ("pkgs.dev.azure.com", Path, "acme", "/acme/_packaging/f/npm/registry/a", "packument"),
        ("Pkgs.Dev.Azure.Com:8080", Path, "acme", "/acme/_packaging/f/npm/registry/a", "packument"),
        ("feeds.dev.azure.com:443", Path, "acme", "/acme/_apis/x", "feeds"),
        ("127.0.0.1:8080", Path, "acme", "/acme/_apis/x", "pkgs"),
        ("[::1]:8080", Path, "acme", "/acme/_apis/x", "pkgs"),
        ("acme.pkgs.visualstudio.com.example", Path, "acme", "/acme/_apis/x", "pkgs"),
        ("", Path, "acme", "/acme/_apis/x", "pkgs"),
        (
            "gate",
            Subdomain,
            "acme",
            "http://acme.pkgs.visualstudio.com/_packaging/f/npm/registry/a",
            "packument",
        ),
        ("acme.pkgs.visualstudio.com", Path, "gate", "https://gate/gate/_apis/x", "pkgs"),
        ("gate", Subdomain, "acme", "https://acme.feeds.visualstudio.com?x=1", "feeds"),
    ];
    for (host, style, org, target, kind) in rows {
        let route = parse(Some(host), target).unwrap();
        assert_eq!((route.style, route.org.as_str()), (style, org), "{host} {target}");
        assert_eq!(describe(&route.target).split(' ').next(), Some(kind), "{host} {target}");
    }
}

#[test]
fn a_request_without_an_organisation_is_refused() {
    let hosts = [(Some("gate"), "/"), (None, "//"), (None, ""), (None, "*"), (None, "gate:443")];
    let paths = [
        "/?x",
        "/favicon.ico",
        "/_packaging/f/npm/registry/a",
        "/-/ping",
        "/a%20b/_apis",
        "/ä/x",
        "http://gate",
    ];
    let subdomains = [".pkgs.visualstudio.com", "a.b.pkgs.visualstudio.com", "_.feeds.visualstudio.com"];
    let rows = hosts
        .into_iter()
        .chain(paths.map(|path| (None, path)))
        .chain(subdomains.map(|host| (Some(host), "/org/_apis")))
        .chain([(Some("acme.pkgs.visualstudio.com"), "*")]);
    for (host, target) in rows {
        let error = parse(host, target).unwrap_err();
        assert!(matches!(error, RouteError::NoOrganisation(_)), "{host:?} {target}: {error}");
    }
}

const REFUSED: &[(&str, &str)] = &[
    ("/../x", "dot segment"),
    ("/./x", "dot segment"),
    ("/_packaging/f/npm/registry/..", "dot segment"),
    ("/_packaging/f/../g/npm/registry/a", "dot segment"),
    ("/_packaging/f/%2e%2e/g/npm/registry/a", "dot segment"),
    ("/_packaging/f/%2E./g/npm/registry/a", "dot segment"),
    ("/_packaging/f/npm/registry/.%20", "dot segment"),
    ("/_packaging/f/npm/registry/..%20", "dot segment"),
    ("/_packaging/f/npm/registry/...", "dot segment"),
    ("/_packaging/f/..;/g/npm/registry/a", "dot segment"),
    ("/_packaging/f/npm/registry/@s%2f..%3Bx=y", "dot segment"),
    ("/_packaging/f/npm/registry/@s%2f..", "dot segment"),
    ("/_packaging/f/npm/registry/@s%2f%2e%2e", "dot segment"),
    ("/_packaging/f/npm/registry/..%2f..", "dot segment"),
    ("/_packaging/f/npm/registry/a%2fb", "encoded slash"),
    ("/_packaging/f/npm/registry/%2f", "encoded slash"),
    ("/_packaging/f/npm/registry/@s%2f", "encoded slash"),
    ("/_packaging/f/npm/registry/@%2fn", "encoded slash"),
    ("/_packaging/f/npm/registry/@s%2fn%2fx", "encoded slash"),
    ("/_packaging/f%2fg/npm/registry/a", "encoded slash"),
    ("/_packaging/@f%2fg/npm/registry/a", "encoded slash"),
    ("/_packaging%2ff/npm/registry/a", "encoded slash"),
    ("/_packaging/f/@npm%2fregistry/a", "encoded slash"),
    ("/@p%2fq/_packaging/f/npm/registry/a", "encoded slash"),
    ("/_packaging/f/nuget/v3/flat2/@a%2fb/index.json", "encoded slash"),
    ("/_apis/packaging/Feeds/f/packages/@s%2fn", "encoded slash"),
    ("/_apis/x%2Fy", "encoded slash"),
    ("/_packaging/f/npm/registry/a\\b", "backslash"),
    ("/_packaging/f/npm/registry/a%5cb", "backslash"),
    ("/_packaging/f/npm/registry/a%5C..", "backslash"),
    ("/_packaging/f/npm/registry/a%00", "control"),
    ("/_packaging/f/npm/registry/a\0", "control"),
    ("/_packaging/f/npm/registry/a%0d%0aHost:x", "control"),
    ("/_packaging/f/npm/registry/a%7f", "control"),
    ("/_packaging/f/npm/registry/a%C2%85", "control"),
    ("/_packaging/f/npm/registry/a%", "starts no escape"),
    ("/_packaging/f/npm/registry/a%2", "starts no escape"),
    ("/_packaging/f/npm/registry/%zz", "starts no escape"),
    ("/_packaging/f/npm/registry/%+1", "starts no escape"),
    ("/_packaging/f/npm/registry/%é", "starts no escape"),
    ("/_packaging/f/npm/registry/@s%252fn", "encoded twice"),
    ("/_packaging/f/%252e%252e/npm", "encoded twice"),
    ("/_packaging/f/npm/registry/%25%32%66", "encoded twice"),
    ("/_packaging/f%2540v/npm/registry/a", "encoded twice"),
    ("/_packaging/f/npm/registry/%ff", "not UTF-8"),
    ("/_packaging/f/npm/registry/%c0%ae%c0%ae", "not UTF-8"),
    ("/_packaging/f/npm/registry/%ed%a0%80", "not UTF-8"),
    ("/_packaging/f/npm/registry/a#b", "fragment"),
    ("/_packaging/f/npm/registry/a?b#c", "fragment"),
    ("/_packaging/f/nuget/v3/query2?q=%00", "control"),
    ("/_packaging/f/nuget/v3/query2?q=a\nb", "control"),
    ("/_packaging/f/nuget/v3/query2?q=%ff", "query are not UTF-8"),
    ("/_packaging/@v/npm/registry/a", "empty"),
    ("/_packaging/f@/npm/registry/a", "empty"),
    ("/_packaging/f@v@w/npm/registry/a", "not allowed"),
    ("/_packaging/f%3fx/npm/registry/a", "not allowed"),
    ("/_packaging/f%23x/npm/registry/a", "not allowed"),
    ("/p@q/_packaging/f/npm/registry/a", "not allowed"),
    ("/_apis/packaging/Feeds/f%3f/views", "not allowed"),
];

#[test]
fn a_path_that_two_readers_could_read_in_two_ways_is_refused_with_the_rule() {
    for (path, rule) in REFUSED {
        let error = parse(None, &format!("/org{path}")).unwrap_err().to_string();
        assert!(error.contains(rule), "{path}: {error}");
        assert!(
            error.contains("/org/") || error.contains("/org%") || error.contains("/org\\"),
            "{path}: {error}"
        );
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    let error = parse(None, "http://user:secret@gate/org/x").unwrap_err().to_string();
    assert!(error.contains("user information") && !error.contains("secret"), "{error}");
}

#[test]
fn an_error_shows_no_query_and_stays_short() {
    let long = format!("/org/{}/..?sig=secret", "é".repeat(1000));
    let error = parse(None, &long).unwrap_err().to_string();
    assert!(error.len() < 600, "{}", error.len());
    assert!(!error.contains("secret"), "{error}");
    assert!(!parse(None, "gate?sig=secret").unwrap_err().to_string().contains("secret"));
}

#[test]
fn a_query_is_data_and_may_hold_what_a_path_may_not() {
    let query = "q=../..%2f%5c%2525&r=100%&s=a/b\\c";
    check(&format!("/o/_apis/x?{query}"), "pkgs - /_apis/x?q=../..%2f%5c%2525&r=100%&s=a/b%5Cc");
}

#[test]
fn every_class_has_its_own_name() {
    let names: HashSet<_> = DocumentClass::ALL.iter().map(|class| class.as_str()).collect();
    assert_eq!(names.len(), DocumentClass::ALL.len());
}

#[test]
fn a_package_tells_its_version_when_it_can() {
    let rows = [
        ("npm/registry/@s/n/-/n-1.0.0-rc.1.tgz", Some("1.0.0-rc.1")),
        ("npm/registry/n/-/other.tgz", None),
        ("nuget/v3/flat2/n/1.0/n.1.0.nupkg", Some("1.0.0")),
    ];
    for (tail, version) in rows {
        let Target::Package(route) = parse(None, &format!("/o/_packaging/f/{tail}")).unwrap().target else {
            panic!("{tail} is no package");
        };
        assert_eq!(route.package.version(), version, "{tail}");
    }
}

/// REST documents of the pkgs host: spelling below `feeds/F/`, key, path below `feeds/F/`.
const REST: &[(&str, &str, &str)] = &[
    ("npm/Left/versions/1.0.0", "/npm/Left/versions/1.0.0?", "npm/Left/versions/1.0.0"),
    ("NPM/Left/Versions/1.0.0/", "/npm/Left/versions/1.0.0?", "npm/Left/versions/1.0.0"),
    (
        "npm/n/versions/1.0.0/?api-version=3.0-preview.1&showUnpublished=true",
        "3.0-preview.1/npm/n/versions/1.0.0?showUnpublished=true",
        "npm/n/versions/1.0.0?showUnpublished=true&api-version=3.0-preview.1",
    ),
    ("npm/@s/n/versions/1.0.0-RC.1", "/npm/@s/n/versions/1.0.0-RC.1?", "npm/@s/n/versions/1.0.0-RC.1"),
    ("npm/@s%2fn/versions/1.0.0", "/npm/@s/n/versions/1.0.0?", "npm/@s/n/versions/1.0.0"),
    ("npm/@@s/n/versions/1.0.0", "/npm/@s/n/versions/1.0.0?", "npm/@s/n/versions/1.0.0"),
    ("npm/%40%40s%2Fn/versions/1.0.0", "/npm/@s/n/versions/1.0.0?", "npm/@s/n/versions/1.0.0"),
    ("npm/n/versions/1.0.0+b", "/npm/n/versions/1.0.0%2Bb?", "npm/n/versions/1.0.0%2Bb"),
    ("npm/packages/versions/1.0.0", "/npm/packages/versions/1.0.0?", "npm/packages/versions/1.0.0"),
    ("npm/@s/packages/versions/1.0.0", "/npm/@s/packages/versions/1.0.0?", "npm/@s/packages/versions/1.0.0"),
    ("npm/RecycleBin/versions/1.0.0", "/npm/RecycleBin/versions/1.0.0?", "npm/RecycleBin/versions/1.0.0"),
    (
        "npm/packages/n/versions/1.0.0/ReadMe",
        "/npm/packages/n/versions/1.0.0/readme?",
        "npm/packages/n/versions/1.0.0/readme",
    ),
    (
        "npm/@s/packages/n/versions/1.0.0/readme",
        "/npm/packages/@s/n/versions/1.0.0/readme?",
        "npm/packages/@s/n/versions/1.0.0/readme",
    ),
    (
        "NuGet/Packages/Foo.Bar/versions/1.0-RC",
        "/nuget/packages/foo.bar/versions/1.0.0-rc?",
        "nuget/packages/foo.bar/versions/1.0.0-rc",
    ),
    (
        "nuget/packages/foo/versions/1.00.0.0/?showDeleted=true&API-Version=7.1-Preview.1",
        "7.1-preview.1/nuget/packages/foo/versions/1.0.0?showDeleted=true",
        "nuget/packages/foo/versions/1.0.0?showDeleted=true&api-version=7.1-preview.1",
    ),
];

#[test]
fn rest_documents_have_one_spelling() {
    for (tail, key, path) in REST {
        let expected = format!("rest o/p/f/rest/pkgs/{key} /p/_apis/packaging/feeds/F/{path}");
        check(&format!("/o/p/_apis/Packaging/Feeds/F/{tail}"), &expected);
        check(&format!("/o/DefaultCollection//p/_apis/packaging/feeds/F/{tail}"), &expected);
    }
    let upper = GUID.to_uppercase();
    for (tail, path) in [
        (format!("npm/{upper}/versions/{upper}"), format!("npm/{GUID}/versions/{GUID}")),
        (format!("npm/@s/{GUID}/versions/{upper}"), format!("npm/@s/{GUID}/versions/{GUID}")),
        (
            format!("nuget/packages/{upper}/versions/{upper}"),
            format!("nuget/packages/{GUID}/versions/{GUID}"),
        ),
        (format!("nuget/packages/A/versions/{upper}"), format!("nuget/packages/a/versions/{GUID}")),
    ] {
        let expected = format!("rest o/-/f/rest/pkgs//{path}? /_apis/packaging/feeds/f/{path}");
        check(&format!("/o/_apis/packaging/feeds/f/{tail}"), &expected);
    }
}

#[test]
fn content_by_names_is_the_package_of_the_protocol() {
    let npm = "package o/-/f/npm/tarball/@s/N/-/N-1.0.0.tgz /_packaging/f/npm/registry/@s/N/-/N-1.0.0.tgz";
    for tail in [
        "npm/packages/@s/N/versions/1.0.0/content",
        "npm/@s/packages/N/versions/1.0.0/content/?api-version=2.0-preview",
        "npm/packages/@s%2fN/versions/1.0.0/Content",
        "npm/packages/@@s/N/versions/1.0.0/content",
        "npm/%40s/Packages/N/Versions/1.0.0/content",
    ] {
        check(&format!("/o/_apis/packaging/feeds/f/{tail}"), npm);
    }
    let rows = [
        (
            "npm/packages/n/versions/1.0.0/content",
            "npm/tarball/n/-/n-1.0.0.tgz",
            "npm/registry/n/-/n-1.0.0.tgz",
        ),
        (
            "npm/packages/versions/versions/1.0.0/content",
            "npm/tarball/versions/-/versions-1.0.0.tgz",
            "npm/registry/versions/-/versions-1.0.0.tgz",
        ),
        (
            "nuget/packages/Foo/versions/1.0/content?sourceProtocolVersion=x",
            "nuget/nupkg/foo/1.0.0",
            "nuget/v3/flat2/foo/1.0.0/foo.1.0.0.nupkg",
        ),
    ];
    for (tail, key, path) in rows {
        let expected = format!("package o/-/f/{key} /_packaging/f/{path}");
        check(&format!("/o/_apis/packaging/feeds/f/{tail}"), &expected);
    }
}

#[test]
fn content_by_guid_keeps_its_own_route() {
    let upper = GUID.to_uppercase();
    let rows = [
        (format!("npm/packages/{upper}/versions/{upper}"), format!("npm/packages/{GUID}/versions/{GUID}")),
        (format!("npm/packages/{upper}/versions/1.0.0-A"), format!("npm/packages/{GUID}/versions/1.0.0-A")),
        (format!("npm/@s/packages/N/versions/{upper}"), format!("npm/packages/@s/N/versions/{GUID}")),
        (format!("nuget/packages/{upper}/versions/1.0-A"), format!("nuget/packages/{GUID}/versions/1.0.0-a")),
        (format!("nuget/packages/Foo/versions/{upper}"), format!("nuget/packages/foo/versions/{GUID}")),
    ];
    for (tail, path) in rows {
        let key = path.replacen("/packages/", "/content/", 1).replacen("/versions/", "/-/", 1);
        let expected = format!("package o/-/f/{key} /_apis/packaging/feeds/f/{path}/content");
        check(&format!("/o/_apis/packaging/feeds/f/{tail}/content?api-version=5.0"), &expected);
    }
}

#[test]
fn a_patch_of_content_is_one_of_the_version() {
    let base = "/o/_apis/packaging/feeds/f/npm";
    for version in ["/n/versions/1.0.0", "/@s/n/versions/1.0.0", "/packages/versions/1.0.0"] {
        let patch =
            |target: String| parse_for(&Collections::default(), &Method::PATCH, None, &target).unwrap();
        let plain = patch(format!("{base}{version}?api-version=5.0"));
        assert_eq!(patch(format!("{base}{version}/Content/?api-version=5.0")), plain, "{version}");
        assert_eq!(parse(None, &format!("{base}{version}?api-version=5.0")), Ok(plain));
        let read = parse(None, &format!("{base}{version}/content")).unwrap().target;
        assert!(matches!(read, Target::Passthrough(_)), "{version}: {read:?}");
    }
}

/// Documents of the feeds host: spelling below `Feeds/F`, api-version, path and query below `feeds/F`.
const FEEDS: &[(&str, &str, &str)] = &[
    ("", "", ""),
    ("/", "", ""),
    ("?includeDeletedUpstreams=true&api-version=5.0", "5.0", "?includeDeletedUpstreams=true"),
    ("/Packages", "", "/packages"),
    (
        "/packages/?protocolType=NuGet&normalizedPackageName=a&$top=5&%24skip=1&api-version=7.1",
        "7.1",
        "/packages?protocolType=NuGet&normalizedPackageName=a&$top=5&%24skip=1",
    ),
    ("/packages/{GUID}?includeAllVersions=true", "", "/packages/{guid}?includeAllVersions=true"),
    ("/Packages/{digits}/Versions", "", "/packages/{guid}/versions"),
    ("/Packages/%7B{GUID}%7D/versions/{GUID}/", "", "/packages/{guid}/versions/{guid}"),
    ("/Packages/{guid}/versions/{guid}/Provenance", "", "/packages/{guid}/versions/{guid}/provenance"),
    ("/Views", "", "/views"),
    ("/views/Release", "", "/views/release"),
    ("/views/{GUID}", "", "/views/{guid}"),
    ("/views/My%20View", "", "/views/my%20view"),
];

#[test]
fn feeds_documents_have_one_spelling_on_every_host() {
    let digits = GUID.replace('-', "");
    let filled = |text: &str| {
        let text = text.replace("{GUID}", &GUID.to_uppercase());
        text.replace("{guid}", GUID).replace("{digits}", &digits)
    };
    for (tail, version, below) in FEEDS {
        let (tail, below) = (filled(tail), filled(below));
        let (path, query) = below.split_once('?').unwrap_or((&below, ""));
        let key = format!("o/p/f/rest/feeds/{version}/{}?{query}", path.trim_start_matches('/'));
        let asked = if version.is_empty() { String::new() } else { format!("&api-version={version}") };
        let expected = format!("feeds {key} /p/_apis/packaging/feeds/F{below}{asked}");
        check(&format!("/o/p/_apis/packaging/Feeds/F{tail}"), &expected);
        for (host, prefix) in [
            ("feeds.dev.azure.com", "/o/p"),
            ("o.feeds.visualstudio.com", "/DefaultCollection/p"),
            ("o.pkgs.visualstudio.com", "/p"),
        ] {
            let route = parse(Some(host), &format!("{prefix}/_apis/packaging/feeds/F{tail}")).unwrap();
            assert_eq!(describe(&route.target), expected, "{host} {tail}");
        }
    }
}

/// NuGet v2: spelling below `v2`, class, and the rest of key and path.
const ODATA: &[(&str, &str, &str)] = &[
    ("", "odata", ""),
    ("/", "odata", ""),
    ("?", "odata", ""),
    ("/?semVerLevel=2.0.0", "odata", "?semVerLevel=2.0.0"),
    ("/$metadata", "odata", "$metadata"),
    ("/%24Metadata", "odata", "$metadata"),
    ("/Packages(Id='X.Y',Version='1.2')", "odata", "Packages(Id='x.y',Version='1.2.0')"),
    ("/packages(version='1.2.0.0',ID='x.Y')", "odata", "Packages(Id='x.y',Version='1.2.0')"),
    (
        "/Packages(%20Id%20=%20'X.Y'%20,%20Version%20=%20'1.2'%20)/",
        "odata",
        "Packages(Id='x.y',Version='1.2.0')",
    ),
    ("/Packages%28Id%3D%27x.y%27%2CVersion%3D%271.2%27%29", "odata", "Packages(Id='x.y',Version='1.2.0')"),
    (
        "/Packages(Id='a',Version='1.0-B+c')?$select=Id",
        "odata",
        "Packages(Id='a',Version='1.0.0-b')?$select=Id",
    ),
    ("/FindPackagesById()?id='X.Y'", "odata", "FindPackagesById()?id='x.y'"),
    ("/findpackagesbyid?ID=%27X.Y%27", "odata", "FindPackagesById()?id='x.y'"),
    (
        "/FindPackagesById()?$filter=IsLatestVersion&id='X'&semVerLevel=2.0.0&",
        "odata",
        "FindPackagesById()?id='x'&$filter=IsLatestVersion&semVerLevel=2.0.0",
    ),
    ("/Packages", "search", "Packages()"),
    (
        "/Packages()?$filter=(tolower(Id)%20eq%20'x')%20and%20(NormalizedVersion%20eq%20'1.2.3')",
        "search",
        "Packages()?$filter=(tolower(Id)%20eq%20'x')%20and%20(NormalizedVersion%20eq%20'1.2.3')",
    ),
    ("/Packages/$count?$filter=a", "search", "Packages()/$count?$filter=a"),
    (
        "/Search()?$filter=IsAbsoluteLatestVersion&searchTerm='it''s'&includePrerelease=true",
        "search",
        "Search()?$filter=IsAbsoluteLatestVersion&searchTerm='it''s'&includePrerelease=true",
    ),
    ("/search/$Count?searchTerm=''", "search", "Search()/$count?searchTerm=''"),
];

#[test]
fn odata_documents_have_one_spelling() {
    for (tail, class, rest) in ODATA {
        let expected = format!("{class} o/-/f/nuget/v2:{rest} /_packaging/f/nuget/v2/{rest}");
        check(&format!("/o/_packaging/f/NuGet/V2{tail}"), &expected);
    }
    let package =
        "package o/-/f/nuget/nupkg/x.y/1.2.0 /_packaging/f/nuget/v3/flat2/x.y/1.2.0/x.y.1.2.0.nupkg";
    for tail in [
        "?id=X.Y&version=1.2",
        "/?version=1.2.0.0&ID=x%2Ey",
        "?id=x.y&version=1.2.0+build&other=1",
        "/package/X.Y/1.2",
        "/Package/x.y/1.2.0/",
    ] {
        check(&format!("/o/_packaging/f/nuget/v2{tail}"), package);
    }
}

#[test]
fn what_the_service_lacks_of_an_npm_registry_is_recognised() {
    let rows = [
        ("left-pad/1.3.0", "derived", "left-pad/1.3.0"),
        ("left-pad/Latest/", "derived", "left-pad/Latest"),
        ("@s/n/1.0.0-rc.1", "derived", "@s%2fn/1.0.0-rc.1"),
        ("@s%2Fn/next", "derived", "@s%2fn/next"),
        ("n/1.0.0+b", "derived", "n/1.0.0%2Bb"),
        ("-/package/n/dist-tags", "derived", "-/package/n/dist-tags"),
        ("-/package/@s%2Fn/dist-tags/", "derived", "-/package/@s%2fn/dist-tags"),
        ("-/package/@s/n/dist-tags/beta", "derived", "-/package/@s%2fn/dist-tags/beta"),
        ("-/ping", "derived", "-/ping"),
        ("-/ping?write=true", "derived", "-/ping"),
        ("-/whoami", "derived", "-/whoami"),
        ("-/npm/v1/security/advisories/bulk", "audit", "-/npm/v1/security/advisories/bulk"),
        ("-/npm/v1/security/audits/quick", "audit", "-/npm/v1/security/audits/quick"),
        ("-/npm/v1/security/audits", "audit", "-/npm/v1/security/audits"),
    ];
    for (tail, kind, path) in rows {
        let expected = format!("{kind} o/-/f /_packaging/f/npm/registry/{path}");
        check(&format!("/o/_packaging/f/npm/registry/{tail}"), &expected);
        check(&format!("/o/_packaging/f/npm/{tail}"), &expected);
    }
}

/// A path below the organisation with a value that can't be, and the rule in the refusal.
const MALFORMED: &[(&str, &str)] = &[
    ("/_apis/packaging/feeds/f/npm/n/versions/latest", "npm version \"latest\" is not `number"),
    ("/_apis/packaging/feeds/f/npm/n/versions/1.0", "npm version \"1.0\""),
    ("/_apis/packaging/feeds/f/npm/n/versions/1.0/content", "npm version"),
    ("/_apis/packaging/feeds/f/npm/packages/n/versions/1.0.x/content", "npm version"),
    ("/_apis/packaging/feeds/f/npm/packages/n/versions/1.0.x/readme", "npm version"),
    (
        "/_apis/packaging/feeds/f/npm/.n/versions/1.0.0",
        "npm name \".n\" is not valid: a part of it begins with a dot",
    ),
    ("/_apis/packaging/feeds/f/npm/@/n/versions/1.0.0", "a part of it is empty"),
    ("/_apis/packaging/feeds/f/npm/@@@s/n/versions/1.0.0", "not allowed"),
    ("/_apis/packaging/feeds/f/npm/@a%20b/n/versions/1.0.0", "not allowed"),
    ("/_apis/packaging/feeds/f/npm/packages/n%C3%A4/upstreaming", "not allowed"),
    ("/_apis/packaging/feeds/f/npm/RecycleBin/packages/.n/versions/1.0.0", "begins with a dot"),
    ("/_apis/packaging/feeds/f/nuget/packages/a%20b/versions/1.0.0", "NuGet id \"a b\""),
    ("/_apis/packaging/feeds/f/nuget/packages/a/versions/latest", "NuGet version \"latest\" is not"),
    ("/_apis/packaging/feeds/f/nuget/packages/a/versions/1.0.0.0.0/content", "NuGet version"),
    ("/_apis/packaging/Feeds/f/packages/left-pad", "package id \"left-pad\" is not a GUID"),
    ("/_apis/packaging/Feeds/f/Packages/1/versions", "package id"),
    ("/_apis/packaging/Feeds/f/Packages/1/versions/2/provenance", "package id"),
    ("/_apis/packaging/Feeds/f/packages/{guid}/versions/1.0.0", "version id \"1.0.0\" is not a GUID"),
    ("/_apis/packaging/Feeds/f/views/a@b", "not allowed"),
    ("/_packaging/f/npm/registry/@.s/n", "begins with a dot"),
    ("/_packaging/f/npm/registry/@s/n%20/-/n-1.0.0.tgz", "not allowed"),
    ("/_packaging/f/npm/registry/-/package/@.s/n/dist-tags", "begins with a dot"),
    ("/_packaging/f/nuget/v3/flat2/a%20b/index.json", "NuGet id"),
    ("/_packaging/f/nuget/v3/flat2/foo/latest/foo.latest.nupkg", "NuGet version \"latest\""),
    ("/_packaging/f/nuget/v3/registrations2/foo/latest.json", "NuGet version"),
    ("/_packaging/f/nuget/v3/registrations2/foo/page/1.0/x.json", "NuGet version"),
    ("/_packaging/f/nuget/v2?id=a%20b&version=1.0", "NuGet id"),
    ("/_packaging/f/nuget/v2?id=a&version=new", "NuGet version"),
    ("/_packaging/f/nuget/v2/package/a/new", "NuGet version"),
    ("/_packaging/f/nuget/v2/Packages(Id='it''s',Version='1.0')", "NuGet id \"it's\""),
    ("/_packaging/f/nuget/v2/FindPackagesById()?id='a,b'", "NuGet id"),
];

#[test]
fn a_value_that_cannot_be_is_refused_with_its_rule() {
    for (path, rule) in MALFORMED {
        let error = parse(None, &format!("/org{}", path.replace("{guid}", GUID))).unwrap_err();
        assert!(matches!(error, RouteError::Name(..)), "{path}: {error}");
        assert!(error.to_string().contains(rule), "{path}: {error}");
    }
}

#[test]
fn what_is_passed_through_tells_the_protocol_that_it_may_be_about() {
    let rows = [
        ("/_packaging/f/npm/registry/a?x=1", Some(Protocol::Npm), Some("packument")),
        ("/p/_packaging/f/NPM/%40s%2fa?x", Some(Protocol::Npm), Some("packument")),
        ("/_packaging/f/npm/registry/a/1.0.0?x=1", Some(Protocol::Npm), Some("derived")),
        ("/_packaging/f/npm/a/-/a-1.0.0.TGZ", Some(Protocol::Npm), None),
        ("/_packaging/f/nuget/v3/flat2/a/index.json?x=1", Some(Protocol::Nuget), Some("versions")),
        ("/_packaging/f/%6euget/v3/autocomplete?q=a", Some(Protocol::Nuget), None),
        ("/_packaging/f/nuget/v2?id=a&version=1.0&id=a", Some(Protocol::Nuget), Some("service")),
        ("/p/t/_packaging/f/npm/registry/a", Some(Protocol::Npm), None),
        ("/_apis/packaging/feeds/f/npm/a/versions/1.0.0/content", Some(Protocol::Npm), None),
        ("/_apis/packaging/feeds/f/npm/packagesbatch", None, None),
        ("/_packaging/f/npm/registry/", None, None),
        ("/_packaging/f/nuget", None, None),
        ("/_packaging/f/pypi/simple/a", None, None),
        ("/_apis/projects?a=1", None, None),
    ];
    for (path, protocol, plain) in rows {
        let Target::Passthrough(route) = parse(None, &format!("/o{path}")).unwrap().target else {
            panic!("{path}")
        };
        assert_eq!(route.protocol, protocol, "{path}");
        let word = route.without_query().map(|target| match target {
            Target::Document(route) => match route.document {
                Document::Packument(_) => "packument",
                Document::VersionList(_) => "versions",
                _ => "service",
            },
            Target::Derived(_) => "derived",
            _ => "another",
        });
        assert_eq!(word, plain, "{path}");
    }
    for (query, write) in
        [("write=true", true), ("%77rite=true&", true), ("write=true&x", false), ("write=1", false)]
    {
        let path = format!("/o/_packaging/f/npm/registry/a?{query}");
        let Target::Passthrough(route) = parse(None, &path).unwrap().target else { panic!("{path}") };
        assert_eq!(route.is_before_a_write(), write, "{query}");
    }
}
