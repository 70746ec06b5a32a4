//! Routing is total, reads its own canonical form back as the same route, and never leaves the feed that it names.
//!
//! Input: a byte for method, host and collections; a request target; behind a line feed perhaps an `Accept`.

use std::sync::LazyLock;

use feedgate::{
    ident::{FeedRef, Name},
    route::{Collections, HostStyle, Route, Target, parse_for},
};
use http::Method;

use crate::generous::generously_read;

const METHODS: [Method; 4] = [Method::GET, Method::PATCH, Method::PUT, Method::DELETE];
const HOSTS: [Option<&str>; 8] = [
    None,
    Some("gate:4873"),
    Some("pkgs.dev.azure.com"),
    Some("feeds.dev.azure.com."),
    Some("Org.pkgs.visualstudio.com:443"),
    Some("org.feeds.visualstudio.com"),
    Some(".pkgs.visualstudio.com"),
    Some("\u{e4}:x"),
];
/// The longest message; the path in it is cut to 200 characters, each of at most ten when escaped.
const LONGEST_MESSAGE: usize = 5000;

static COLLECTIONS: LazyLock<[Collections; 2]> = LazyLock::new(|| {
    let names = ["DefaultCollection", "My Collection"].map(|name| Name::parse(name).expect("a name"));
    [Collections::default(), Collections::new([(&names[0], Some("azure")), (&names[1], None)])]
});

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (target, accept) =
        text.split_once('\n').map_or((text, None), |(target, accept)| (target, Some(accept)));
    let method = &METHODS[usize::from(choice & 3)];
    let collections = &COLLECTIONS[usize::from(choice >> 5 & 1)];
    let host = HOSTS[usize::from(choice >> 2 & 7)];
    match parse_for(collections, method, host, target) {
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && text.len() < LONGEST_MESSAGE, "{text}");
        }
        Ok(route) => {
            stays(&route.target);
            is_read_back(collections, method, &route);
            let mut negotiated = route.clone();
            negotiated.target.negotiate(accept);
            let path = |route: &Route| route.target.upstream_path().split('?').next().map(str::to_owned);
            assert_eq!(path(&negotiated), path(&route));
            is_read_back(collections, method, &negotiated);
        }
    }
}

/// The path that goes upstream is the same route, at the host that it goes to.
fn is_read_back(collections: &Collections, method: &Method, route: &Route) {
    let Route { style, org, target } = route;
    let path = target.upstream_path();
    let before_query = path.split('?').next().unwrap_or_default();
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
    assert!(!before_query.contains("//") && !path.contains(['#', '\\']), "{path:?}");
    let kind = if target.is_on_feeds_host() { "feeds" } else { "pkgs" };
    let (host, whole) = match style {
        HostStyle::Path => (format!("{kind}.dev.azure.com"), format!("/{}{path}", written(org))),
        HostStyle::Subdomain => (format!("{org}.{kind}.visualstudio.com"), path.clone()),
    };
    let again = parse_for(collections, method, Some(&host), &whole);
    let again = again.unwrap_or_else(|error| panic!("{host} {whole} is refused: {error}"));
    assert_eq!(again.target.upstream_path(), path);
    if !matches!(target, Target::Passthrough(_)) {
        assert_eq!(&again, route);
    }
    assert_eq!((again.target.feed(), &again.org, again.style), (target.feed(), org, *style));
}

/// A collection's name may have a space.
fn written(org: &Name) -> String {
    org.as_str().replace(' ', "%20")
}

/// However generously the path is read, it leads into the feed that the route names.
fn stays(target: &Target) {
    let path = target.upstream_path();
    let segments = generously_read(&path);
    let Some(feed) = target.feed() else { return };
    let FeedRef { project, feed: name, view, .. } = feed;
    let view = view.as_ref().map_or(String::new(), |view| format!("@{}", view.as_str().to_lowercase()));
    let name = format!("{}{view}", name.as_str().to_lowercase());
    let project = project.as_ref().map(|project| project.as_str().to_lowercase());
    let trees: [&[&str]; 4] = [
        &["_packaging"],
        &["_apis", "packaging", "feeds"],
        &["_apis", "packaging", "feedchanges"],
        &["_apis", "public", "packaging", "feeds"],
    ];
    let is_below = |tree: &&[&str]| {
        let place: Vec<&str> =
            project.as_deref().into_iter().chain(tree.iter().copied()).chain([&*name]).collect();
        segments.starts_with(&place.iter().map(|&segment| segment.to_owned()).collect::<Vec<_>>())
    };
    assert!(trees.iter().any(is_below), "{path} is not in {feed:?}");
}
