//! Tests of the door: what must hold for any text and for any route.

use std::collections::HashMap;

use proptest::{
    collection::vec,
    option, prop_assert, prop_assert_eq, prop_oneof, proptest,
    sample::select,
    strategy::{Just, Strategy},
};

use http::Method;

use super::{
    Audit, AuditRoute, Collections, Derived, DerivedRoute, Document, DocumentRoute, Format, Hive, Odata,
    OdataResource, Package, PackageRoute, Protocol, Rest, Subject, Target, canonical::rest_segment,
    generous::generously_read, parse, parse_for,
};
use crate::ident::{FeedRef, Name, NpmName, NugetId, NugetVersion};

const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

/// Names that are likely to be mistaken for something else.
fn name() -> impl Strategy<Value = Name> {
    let odd = select(vec![
        "-",
        "npm",
        "Feed",
        "my feed",
        "_packaging",
        "a.b",
        "Ärger",
        "feeds",
        GUID,
        "a;b=c",
        "a+b",
    ]);
    prop_oneof![odd.prop_map(str::to_owned), "[a-zA-Z0-9][a-zA-Z0-9 ._-]{0,8}[a-z]"]
        .prop_map(|text| Name::parse(&text).unwrap())
}

fn feed() -> impl Strategy<Value = FeedRef> {
    let is_project = |name: &Name| !name.as_str().starts_with('_');
    let project = option::of(name().prop_filter("no underscore", is_project));
    (name_of_org(), project, name(), option::of(name()))
        .prop_map(|(org, project, feed, view)| FeedRef::new(org, project, feed, view))
}

fn name_of_org() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9][a-zA-Z0-9-]{0,8}".prop_map(|text| Name::parse(&text).unwrap())
}

fn npm_name() -> impl Strategy<Value = NpmName> {
    let odd = select(vec![
        "-",
        "registry",
        "npm",
        "@registry/-",
        "@a/-",
        "index.json",
        "~!'()*",
        "packages",
        "@a/packages",
        "versions",
        "@versions/versions",
        "RecycleBin",
        "dist-tags",
    ]);
    let any = "(@[a-zA-Z0-9-]{1,5}/)?[a-zA-Z0-9-][a-zA-Z0-9._~-]{0,6}";
    prop_oneof![odd.prop_map(str::to_owned), any].prop_map(|text| NpmName::parse(&text).unwrap())
}

fn nuget_id() -> impl Strategy<Value = NugetId> {
    let odd = select(vec!["page", "index", "index.json", "1.0.0", "-", "packages", "package"])
        .prop_map(str::to_owned);
    prop_oneof![odd, "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,6}[a-z0-9]"]
        .prop_map(|text| NugetId::parse(&text).unwrap())
}

fn version() -> impl Strategy<Value = NugetVersion> {
    r"[0-9]{1,2}(\.[0-9]{1,2}){0,3}(-[a-zA-Z][a-zA-Z0-9-]{0,4}(\.[0-9])?)?"
        .prop_map(|text| NugetVersion::parse(&text).unwrap())
}

fn query() -> impl Strategy<Value = String> {
    vec(select(vec!["q", "=", "&", "/", "?", "%", "%20", "%c3%a9", "%41", "é", "+", " "]), 0..8)
        .prop_map(|pieces| super::query::parameters(&pieces.concat()).join("&"))
}

fn guid() -> impl Strategy<Value = String> {
    select(vec![GUID, "00000000-0000-0000-0000-000000000001"]).prop_map(str::to_owned)
}

fn npm_version() -> impl Strategy<Value = String> {
    r"[0-9]{1,2}\.[0-9]\.[0-9](-[a-zA-Z][a-zA-Z0-9-]{0,4}(\.[0-9])?)?(\+[a-z0-9]{1,3})?"
}

/// A package and its version as REST names them, and its subject.
fn npm_item() -> impl Strategy<Value = (String, String, Subject)> {
    let package = prop_oneof![
        npm_name().prop_map(|name| (name.to_string(), Subject::Npm(name))),
        guid().prop_map(|guid| (guid, Subject::Feed)),
    ];
    (package, prop_oneof![npm_version(), guid()])
        .prop_map(|((package, subject), version)| (package, version, subject))
}

fn nuget_item() -> impl Strategy<Value = (String, String, Subject)> {
    let package = prop_oneof![
        nuget_id().prop_map(|id| (id.to_string(), Subject::Nuget(id))),
        guid().prop_map(|guid| (guid, Subject::Feed)),
    ];
    (package, prop_oneof![version().prop_map(|version| version.to_string()), guid()])
        .prop_map(|((package, subject), version)| (package, version, subject))
}

fn rest() -> impl Strategy<Value = Rest> {
    let feeds = prop_oneof![
        select(vec!["", "packages", "views"]).prop_map(str::to_owned),
        (guid(), guid(), 0..4_usize).prop_map(|(package, version, parts)| {
            let rest = ["/versions", &format!("/{version}"), "/provenance"][..parts].concat();
            format!("packages/{package}{rest}")
        }),
        name().prop_map(|view| format!("views/{}", super::canonical::view_segment(&view))),
    ];
    let place = prop_oneof![
        feeds.prop_map(|path| (true, Subject::Feed, path, Format::Json)),
        npm_item().prop_map(|(name, version, subject)| {
            (false, subject, format!("npm/{name}/versions/{}", rest_segment(&version)), Format::Json)
        }),
        npm_item().prop_map(|(name, version, subject)| {
            let path = format!("npm/packages/{name}/versions/{}/readme", rest_segment(&version));
            (false, subject, path, Format::Text)
        }),
        nuget_item().prop_map(|(id, version, subject)| {
            (false, subject, format!("nuget/packages/{id}/versions/{version}"), Format::Json)
        }),
    ];
    (place, query(), option::of("[0-9]\\.[0-9](-preview)?")).prop_map(
        |((feeds_host, subject, path, format), query, api_version)| Rest {
            feeds_host,
            subject,
            path,
            query,
            api_version,
            format,
        },
    )
}

fn odata() -> impl Strategy<Value = Odata> {
    let count = proptest::bool::ANY;
    let resource = prop_oneof![
        Just(OdataResource::Service),
        Just(OdataResource::Metadata),
        (nuget_id(), version()).prop_map(|(id, version)| OdataResource::Entry(id, version)),
        nuget_id().prop_map(OdataResource::Versions),
        count.prop_map(|count| OdataResource::Packages { count }),
        count.prop_map(|count| OdataResource::Search { count }),
    ];
    (resource, query()).prop_map(|(resource, query)| Odata { resource, query })
}

fn derived() -> impl Strategy<Value = Derived> {
    let tag = || select(vec!["latest", "next-1", "rc(1)", "a.b", "v"]).prop_map(str::to_owned);
    // A package called `-` has no manifests: `-/…` is the registry's own.
    let name = || npm_name().prop_filter("not -", |name| name.as_str() != "-");
    prop_oneof![
        (name(), prop_oneof![npm_version(), tag()]).prop_map(|(name, spec)| Derived::Manifest(name, spec)),
        npm_name().prop_map(Derived::DistTags),
        (npm_name(), tag()).prop_map(|(name, tag)| Derived::DistTag(name, tag)),
        Just(Derived::Ping),
        Just(Derived::Whoami),
    ]
}

fn document() -> impl Strategy<Value = Document> {
    let hive = select(vec![Hive::SemVer1, Hive::SemVer2]);
    prop_oneof![
        npm_name().prop_map(Document::Packument),
        Just(Document::ServiceIndex),
        nuget_id().prop_map(Document::VersionList),
        (nuget_id(), version()).prop_map(|(id, version)| Document::Nuspec(id, version)),
        (hive.clone(), nuget_id()).prop_map(|(hive, id)| Document::RegistrationIndex(hive, id)),
        (hive.clone(), nuget_id(), version(), version())
            .prop_map(|(hive, id, lower, upper)| Document::RegistrationPage(hive, id, lower, upper)),
        (hive, nuget_id(), version())
            .prop_map(|(hive, id, version)| Document::RegistrationLeaf(hive, id, version)),
        query().prop_map(Document::Search),
        "[a-z][a-z.]{0,8}".prop_map(Document::Vulnerabilities),
        odata().prop_map(Document::Odata),
        rest().prop_map(Document::Rest),
        rest().prop_map(Document::Rest),
    ]
}

fn package() -> impl Strategy<Value = Package> {
    prop_oneof![
        (npm_name(), "[a-zA-Z0-9-][a-zA-Z0-9.+~-]{0,8}\\.tgz")
            .prop_map(|(name, file)| Package::Npm { name, file }),
        (nuget_id(), version()).prop_map(|(id, version)| Package::Nuget { id, version }),
        by_id(Protocol::Npm, npm_item()),
        by_id(Protocol::Nuget, nuget_item()),
    ]
}

fn by_id(
    protocol: Protocol,
    item: impl Strategy<Value = (String, String, Subject)>,
) -> impl Strategy<Value = Package> {
    let is_by_id = |(package, version, _): &(String, String, Subject)| {
        [package, version].into_iter().any(|text| super::value::guid(text).is_some())
    };
    item.prop_filter("a GUID", is_by_id).prop_map(move |(package, version, _)| Package::ById {
        protocol,
        package,
        version,
    })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        (feed(), document()).prop_map(|(feed, document)| Target::Document(DocumentRoute { feed, document })),
        (feed(), document()).prop_map(|(feed, document)| Target::Document(DocumentRoute { feed, document })),
        (feed(), package()).prop_map(|(feed, package)| Target::Package(PackageRoute { feed, package })),
        (feed(), derived()).prop_map(|(feed, derived)| Target::Derived(DerivedRoute { feed, derived })),
        (feed(), select(vec![Audit::Bulk, Audit::Quick, Audit::Full]))
            .prop_map(|(feed, audit)| Target::Audit(AuditRoute { feed, audit })),
    ]
}

/// Spells a path anew: escapes some characters that need none, in either case, and doubles some slashes.
fn respell(path: &str, choices: &[u8]) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let text =
        percent_encoding::percent_decode_str(&path.replace("%2f", "/")).decode_utf8().unwrap().into_owned();
    let mut spelled = String::new();
    for (byte, choice) in text.bytes().zip(choices.iter().cycle()) {
        let bare = byte.is_ascii_alphanumeric() || b"-._~@!'()*".contains(&byte);
        let piece = match (byte, choice % 4) {
            (b'/', 0) => "//".to_owned(),
            (b'/', _) => "/".to_owned(),
            (byte, 0) => format!("%{byte:02X}"),
            (byte, 2 | 3) if bare => char::from(byte).to_string(),
            (byte, _) => format!("%{byte:02x}"),
        };
        spelled.push_str(&piece);
    }
    spelled + &query.map_or(String::new(), |query| format!("?{query}"))
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(host in option::of(".{0,40}"), target in "(/|https?://)?.{0,200}") {
        if let Err(error) = parse(host.as_deref(), &target) {
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn a_route_is_read_back_from_its_own_path(target in target()) {
        let org = target.feed().unwrap().org.clone();
        let path = target.upstream_path();
        let route = parse(None, &format!("/{org}{path}")).unwrap();
        prop_assert_eq!(&route.target, &target);
        prop_assert_eq!(route.target.upstream_path(), path.clone());
        let subdomain = parse(Some(&format!("{org}.pkgs.visualstudio.com")), &path).unwrap();
        prop_assert_eq!(&subdomain.target, &target);
        if target.is_on_feeds_host() {
            let feeds = parse(Some("feeds.dev.azure.com"), &format!("/{org}{path}")).unwrap();
            prop_assert_eq!(feeds.target, target.clone());
            let feeds = parse(Some(&format!("{org}.feeds.visualstudio.com")), &path).unwrap();
            prop_assert_eq!(feeds.target, target);
        }
    }

    #[test]
    fn an_accept_header_changes_nothing_but_the_version_and_the_route_is_still_read_back(
        target in target(),
        accept in prop_oneof![
            Just("application/json;api-version=7.1-Preview.1".to_owned()),
            ".{0,40}",
            "application/json;(api-version=.{0,8};?|[a-z]{1,4}=.{0,4};?){0,3}",
        ],
    ) {
        let org = target.feed().unwrap().org.clone();
        let mut negotiated = target.clone();
        negotiated.negotiate(Some(&accept));
        let path = negotiated.upstream_path();
        let before = target.upstream_path();
        prop_assert_eq!(path.split('?').next(), before.split('?').next());
        let again = parse(None, &format!("/{org}{path}")).unwrap().target;
        if matches!(negotiated, Target::Passthrough(_)) {
            prop_assert_eq!(again.upstream_path(), path);
        } else {
            prop_assert_eq!(again, negotiated);
        }
    }

    #[test]
    fn another_spelling_is_the_same_route(
        target in target(),
        choices in vec(0..8_u8, 1..60),
        collection in select(vec!["", "/DefaultCollection", "/defaultcollection"]),
    ) {
        let org = target.feed().unwrap().org.clone();
        let spelled = respell(&target.upstream_path(), &choices);
        let route = parse(None, &format!("/{org}{collection}{spelled}"));
        prop_assert_eq!(route.map(|route| route.target), Ok(target), "{}", spelled);
    }

    #[test]
    fn different_things_have_different_keys(targets in vec(target(), 2..30)) {
        let mut seen: HashMap<String, Target> = HashMap::new();
        for target in targets {
            let key = match &target {
                Target::Document(route) => route.key(),
                Target::Package(route) => route.key(),
                Target::Derived(_) | Target::Audit(_) | Target::Passthrough(_) => continue,
            };
            let other = seen.entry(key).or_insert_with(|| target.clone());
            prop_assert_eq!(&*other, &target);
        }
    }

    #[test]
    fn a_request_passed_through_is_read_back_from_its_own_path(
        pieces in vec(select(vec![
            "/", "/", "/", "_apis", "packaging", "Feeds", "_packaging", "f", "f@v", "npm", "nuget", "DefaultCollection", "@s%2fn", "-",
            "%41", "%25", "é", " ", "registry", "v3", "public", "feedchanges", "a", "?", "x=%zz", "&", "\"", "v2", "package", "packages",
            "versions", "/versions/1.0.0", "/content", "Packages(Id='a',Version='1')", "views", GUID, "id=a", "version=1", "api-version=1",
        ]), 0..16),
        prefix in select(vec!["", "/_apis/packaging/feeds/f/npm/", "/_packaging/f/nuget/v2/", "/_apis/packaging/Feeds/f/packages/"]),
        method in select(vec![Method::GET, Method::PATCH, Method::DELETE]),
        feeds in proptest::bool::ANY,
    ) {
        let host = if feeds { "feeds.dev.azure.com" } else { "gate" };
        if let Ok(route) = parse_for(&Collections::default(), &method, Some(host), &format!("/org{prefix}/{}", pieces.concat())) {
            let path = route.target.upstream_path();
            let before_query = path.split('?').next().unwrap_or_default();
            prop_assert!(path.is_ascii() && path.starts_with('/') && !before_query.contains("//"), "{}", path);
            prop_assert_eq!(parse_for(&Collections::default(), &method, Some(host), &format!("/org{path}")), Ok(route));
        }
    }

    #[test]
    fn no_path_leaves_the_feed_that_was_read_from_it(
        pieces in vec(select(vec![
            "/", "/", "/", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%25", "%252e", "2e", "@s", "a", "npm", "nuget/v3", "registry",
            "-", "a.tgz", "flat2", "index.json", " ", "%20", "%00", ";", "other", "_packaging", "?", "é", "%c0%ae",
            "/packages/", "/versions/1.0.0", "/content", "/views/", GUID, "v2", "Packages(Id='a',Version='1')",
        ]), 0..14),
        tree in select(vec!["_packaging", "_apis/packaging/feeds"]),
    ) {
        let target = format!("/org/p/{tree}/mine{}", pieces.concat());
        if let Ok(route) = parse(None, &target) {
            let feed = route.target.feed().unwrap();
            let segments = generously_read(&route.target.upstream_path());
            let view = feed.view.as_ref().map_or(String::new(), |view| format!("@{}", view.folded()));
            let name = format!("{}{view}", feed.feed.folded());
            let protocol = ["p", "_packaging", &name];
            let rest = ["p", "_apis", "packaging", "feeds", &name];
            prop_assert!(feed.feed.folded().starts_with("mine"), "{}", target);
            prop_assert!(segments.starts_with(&protocol.map(str::to_owned)) || segments.starts_with(&rest.map(str::to_owned)), "{}", target);
        }
    }
}
