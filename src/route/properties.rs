//! Tests of the door: what must hold for any text and for any route.

use std::collections::HashMap;

use proptest::{
    collection::vec,
    option, prop_assert, prop_assert_eq, prop_oneof, proptest,
    sample::select,
    strategy::{Just, Strategy},
};

use super::{Document, DocumentRoute, Hive, Package, PackageRoute, Target, parse};
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
    let odd = select(vec!["-", "registry", "npm", "@registry/-", "@a/-", "index.json", "~!'()*"]);
    let any = "(@[a-zA-Z0-9-]{1,5}/)?[a-zA-Z0-9-][a-zA-Z0-9._~-]{0,6}";
    prop_oneof![odd.prop_map(str::to_owned), any].prop_map(|text| NpmName::parse(&text).unwrap())
}

fn nuget_id() -> impl Strategy<Value = NugetId> {
    let odd = select(vec!["page", "index", "index.json", "1.0.0", "-"]).prop_map(str::to_owned);
    prop_oneof![odd, "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,6}[a-z0-9]"]
        .prop_map(|text| NugetId::parse(&text).unwrap())
}

fn version() -> impl Strategy<Value = NugetVersion> {
    r"[0-9]{1,2}(\.[0-9]{1,2}){0,3}(-[a-zA-Z][a-zA-Z0-9-]{0,4}(\.[0-9])?)?"
        .prop_map(|text| NugetVersion::parse(&text).unwrap())
}

fn query() -> impl Strategy<Value = String> {
    vec(select(vec!["q", "=", "&", "/", "?", "%", "%20", "%c3%a9", "%41", "é", "+", " "]), 0..8)
        .prop_map(|pieces| pieces.concat())
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
        query().prop_map(|query| Document::Search(super::query::canonical(&query))),
        "[a-z][a-z.]{0,8}".prop_map(Document::Vulnerabilities),
    ]
}

fn package() -> impl Strategy<Value = Package> {
    prop_oneof![
        (npm_name(), "[a-zA-Z0-9-][a-zA-Z0-9.+~-]{0,8}\\.tgz")
            .prop_map(|(name, file)| Package::Npm { name, file }),
        (nuget_id(), version()).prop_map(|(id, version)| Package::Nuget { id, version }),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        (feed(), document()).prop_map(|(feed, document)| Target::Document(DocumentRoute { feed, document })),
        (feed(), package()).prop_map(|(feed, package)| Target::Package(PackageRoute { feed, package })),
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

/// Path segments as the most generous reader would see them: decoded until nothing changes, backslashes as slashes,
/// dot segments resolved (RFC 3986 §5.2.4).
fn generously_read(path: &str) -> Vec<String> {
    let mut text = path.split('?').next().unwrap_or_default().to_owned();
    loop {
        let next = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            break;
        }
        text = next;
    }
    let mut segments = Vec::new();
    for segment in text.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        match segment.trim_end_matches([' ', '.']) {
            "" if segment.trim_end() == "." => {}
            "" => drop(segments.pop()),
            _ => segments.push(segment.to_lowercase()),
        }
    }
    segments
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
        prop_assert_eq!(subdomain.target, target);
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
            "%41", "%25", "é", " ", "registry", "v3", "public", "feedchanges", "a", "?", "x=%zz", "&", "\"",
        ]), 0..16),
        feeds in proptest::bool::ANY,
    ) {
        let host = if feeds { "feeds.dev.azure.com" } else { "gate" };
        if let Ok(route) = parse(Some(host), &format!("/org/{}", pieces.concat())) {
            let path = route.target.upstream_path();
            let before_query = path.split('?').next().unwrap_or_default();
            prop_assert!(path.is_ascii() && path.starts_with('/') && !before_query.contains("//"), "{}", path);
            prop_assert_eq!(parse(Some(host), &format!("/org{path}")), Ok(route));
        }
    }

    #[test]
    fn no_path_leaves_the_feed_that_was_read_from_it(
        pieces in vec(select(vec![
            "/", "/", "/", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%25", "%252e", "2e", "@s", "a", "npm", "nuget/v3", "registry",
            "-", "a.tgz", "flat2", "index.json", " ", "%20", "%00", ";", "other", "_packaging", "?", "é", "%c0%ae",
        ]), 0..14),
    ) {
        let target = format!("/org/p/_packaging/mine{}", pieces.concat());
        if let Ok(route) = parse(None, &target) {
            let feed = route.target.feed().unwrap();
            let segments = generously_read(&route.target.upstream_path());
            let view = feed.view.as_ref().map_or(String::new(), |view| format!("@{}", view.folded()));
            let place = ["p", "_packaging", &format!("{}{view}", feed.feed.folded())];
            prop_assert!(feed.feed.folded().starts_with("mine"), "{}", target);
            prop_assert_eq!(&segments[..3], place, "{}", target);
        }
    }
}
