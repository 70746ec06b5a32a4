//! Packages of a feed and their versions, with the filters of the documents; the recycle bin is the same with deleted
//! versions only.
//!
//! The older and the newer documents differ about one package (`Packages/{id}`): since generation 5 it shows, with
//! `includeAllVersions`, listed releases only unless `isListed` or `isRelease` says otherwise. Both are followed.
//! `isCached` and `directUpstreamId` find nothing, as nothing here comes from an upstream source that is described.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{FeedUrls, version};
use crate::content::version::is_prerelease;
use crate::service::error::{self, Refusal};
use crate::service::reply::Reply;
use crate::service::visit::{Place, Visit};
use crate::world::{FeedState, Named, PackageEntry, Protocol, VersionEntry};

const DEFAULT_TOP: usize = 1000;

/// Which versions are wanted.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    view: Option<Named>,
    listed: Option<bool>,
    released: Option<bool>,
    /// `None`: deleted ones as well.
    deleted: Option<bool>,
}

/// How much is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    pub(super) urls: bool,
    pub(super) descriptions: bool,
    all_versions: bool,
}

/// The parameters of a list of packages.
struct Search {
    protocol: Option<String>,
    words: Option<String>,
    normalised: Option<String>,
    /// Asks for what does not occur here.
    hopeless: bool,
    top_versions: bool,
    top: usize,
    skip: usize,
}

/// A package with the versions that are shown of it.
type Found<'f> = (PackageEntry<'f>, Vec<VersionEntry<'f>>);

/// Answers below `Packages/` or, `recycled`, below `RecycleBin/Packages/`.
pub(super) async fn answer(
    visit: &Visit<'_>,
    place: &Place,
    path: &[&str],
    recycled: bool,
) -> Result<Reply, Refusal> {
    let path: Vec<String> = path.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        [] => list(visit, place, recycled).await,
        [package] => one(visit, place, package, recycled).await,
        [package, "versions"] => versions(visit, place, package, recycled).await,
        [package, "versions", number] => one_version(visit, place, (package, number), recycled).await,
        [package, "versions", number, "provenance"] if !recycled => {
            super::particulars::provenance(visit, place, package, number)
        }
        _ => Err(Refusal::NoRoute),
    }
}

async fn list(visit: &Visit<'_>, place: &Place, recycled: bool) -> Result<Reply, Refusal> {
    let search = Search::new(visit)?;
    let filter = Filter::new(visit, place, recycled);
    let (detail, urls) = (Detail::new(visit), FeedUrls::new(visit, place));
    let render = move |feed: &FeedState| -> Vec<Value> {
        let found = search.find(feed, &filter, detail.all_versions);
        found.iter().map(|(package, shown)| describe(feed, (package, shown), detail, &urls)).collect()
    };
    let packages = visit.render(place, render).await;
    Ok(visit.json(200, &json!({ "count": packages.len(), "value": packages })))
}

async fn one(visit: &Visit<'_>, place: &Place, spelling: &str, recycled: bool) -> Result<Reply, Refusal> {
    let mut filter = Filter::new(visit, place, recycled);
    let (detail, urls) = (Detail::new(visit), FeedUrls::new(visit, place));
    let strict = visit.api_generation() >= 5 && detail.all_versions && !recycled;
    let missing = error::no_package(spelling, &place.own.name);
    let spelling = spelling.to_owned();
    let render = move |feed: &FeedState| {
        let package = by_guid(feed, &spelling)?;
        let nuget = package.protocol == Protocol::Nuget;
        if !nuget && filter.listed.is_some() {
            return None;
        }
        if nuget && strict {
            filter.listed = filter.listed.or(Some(true));
            filter.released = filter.released.or(Some(true));
        }
        let (package, shown) = filter.apply(package, detail.all_versions)?;
        Some(describe(feed, (&package, &shown), detail, &urls))
    };
    let described = visit.render(place, render).await.ok_or(missing)?;
    Ok(visit.json(200, &described))
}

async fn versions(
    visit: &Visit<'_>,
    place: &Place,
    spelling: &str,
    recycled: bool,
) -> Result<Reply, Refusal> {
    let filter = Filter::of_versions(visit, place, recycled);
    let (detail, urls) = (Detail::new(visit), FeedUrls::new(visit, place));
    let missing = error::no_package(spelling, &place.own.name);
    let spelling = spelling.to_owned();
    let render = move |feed: &FeedState| {
        let (package, shown) = filter.apply(by_guid(feed, &spelling)?, true)?;
        let described = shown.iter().map(|own| version::full(feed, &package, own, detail, &urls));
        Some(described.collect::<Vec<_>>())
    };
    let versions = visit.render(place, render).await.ok_or(missing)?;
    Ok(visit.json(200, &json!({ "count": versions.len(), "value": versions })))
}

async fn one_version(
    visit: &Visit<'_>,
    place: &Place,
    (package, number): (&str, &str),
    recycled: bool,
) -> Result<Reply, Refusal> {
    let filter = Filter::of_versions(visit, place, recycled);
    let (detail, urls) = (Detail::new(visit), FeedUrls::new(visit, place));
    let missing = error::no_package(&format!("{package} {number}"), &place.own.name);
    let (package, number) = (package.to_owned(), number.to_owned());
    let render = move |feed: &FeedState| {
        let package = by_guid(feed, &package)?;
        let own = package.version_of_guid(&number).filter(|version| filter.suits(version))?;
        Some(version::full(feed, &package, own, detail, &urls))
    };
    let described = visit.render(place, render).await.ok_or(missing)?;
    Ok(visit.json(200, &described))
}

/// Packages have no other spelling here than their GUID.
pub(super) fn by_guid<'f>(feed: &'f FeedState, spelling: &str) -> Option<PackageEntry<'f>> {
    feed.package_of_guid(Uuid::parse_str(spelling).ok()?)
}

/// The JSON of a package, with those versions of it.
fn describe(
    feed: &FeedState,
    (package, shown): (&PackageEntry<'_>, &[VersionEntry<'_>]),
    detail: Detail,
    urls: &FeedUrls,
) -> Value {
    let versions: Vec<Value> =
        shown.iter().map(|own| Value::Object(version::minimal(feed, package, own, detail))).collect();
    let mut described = outline(package);
    if detail.urls {
        described.insert("url".to_owned(), json!(urls.package(package.guid)));
    }
    described.insert("versions".to_owned(), json!(versions));
    if detail.urls {
        described.insert("_links".to_owned(), links(package, urls));
    }
    Value::Object(described)
}

/// The JSON of a package without its versions.
pub(super) fn outline(package: &PackageEntry<'_>) -> Map<String, Value> {
    let fields = [
        ("id", json!(package.guid)),
        ("normalizedName", json!(package.key)),
        ("name", json!(package.name)),
        ("protocolType", json!(package.protocol.name())),
    ];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

pub(super) fn links(package: &PackageEntry<'_>, urls: &FeedUrls) -> Value {
    json!({
        "self": { "href": urls.package(package.guid) },
        "feed": { "href": urls.feed },
        "versions": { "href": urls.versions(package.guid) },
    })
}

// === impl Filter ===

impl Filter {
    fn new(visit: &Visit<'_>, place: &Place, recycled: bool) -> Self {
        let deleted = match (recycled, visit.flag("includeDeleted")) {
            (true, _) => Some(true),
            (false, Some(true)) => None,
            (false, _) => Some(false),
        };
        let (listed, released) = (visit.flag("isListed"), visit.flag("isRelease"));
        Self { view: place.view.clone(), listed, released, deleted }
    }

    /// For the lists of versions, which call the switch `isDeleted`.
    fn of_versions(visit: &Visit<'_>, place: &Place, recycled: bool) -> Self {
        let deleted = Some(recycled || visit.flag("isDeleted").unwrap_or(false));
        Self { deleted, ..Self::new(visit, place, recycled) }
    }

    fn suits(&self, version: &VersionEntry<'_>) -> bool {
        let presence = version.release.presence();
        let same = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        presence.purged.is_none()
            && !presence.unsaved
            && presence.shows_in(self.view.as_ref())
            && same(self.deleted, presence.deleted.is_some())
            && same(self.listed, version.release.listed())
            && same(self.released, !is_prerelease(version.version))
    }

    /// The versions that suit, or only the highest of them; nothing when there is none.
    fn apply<'f>(&self, package: PackageEntry<'f>, all: bool) -> Option<Found<'f>> {
        let suiting = package.versions.iter().filter(|version| self.suits(version)).copied();
        let shown: Vec<_> = suiting.take(if all { usize::MAX } else { 1 }).collect();
        (!shown.is_empty()).then_some((package, shown))
    }
}

// === impl Detail ===

impl Detail {
    fn new(visit: &Visit<'_>) -> Self {
        Self {
            urls: visit.flag("includeUrls").unwrap_or(true),
            descriptions: visit.flag("includeDescription").unwrap_or(false),
            all_versions: visit.flag("includeAllVersions").unwrap_or(false),
        }
    }

    /// Everything.
    pub(super) fn full() -> Self {
        Self { urls: true, descriptions: true, all_versions: true }
    }
}

// === impl Search ===

impl Search {
    /// A normalised name needs a protocol and excludes a query (seed 003).
    fn new(visit: &Visit<'_>) -> Result<Self, Refusal> {
        let text = |name: &str| visit.request.parameter(name).filter(|text| !text.is_empty());
        let search = Self {
            protocol: text("protocolType"),
            words: text("packageNameQuery").map(|words| words.to_ascii_lowercase()),
            normalised: text("normalizedPackageName"),
            hopeless: visit.flag("isCached") == Some(true) || text("directUpstreamId").is_some(),
            top_versions: visit.flag("getTopPackageVersions").unwrap_or(false),
            top: visit.number("$top").or_else(|| visit.number("%24top")).unwrap_or(DEFAULT_TOP),
            skip: visit.number("$skip").or_else(|| visit.number("%24skip")).unwrap_or(0),
        };
        let lonely = search.normalised.is_some() && search.protocol.is_none();
        if lonely || (search.normalised.is_some() && search.words.is_some()) {
            let message = "normalizedPackageName goes with protocolType and not with packageNameQuery";
            return Err(super::feed::malformed(message));
        }
        Ok(search)
    }

    fn find<'f>(&self, feed: &'f FeedState, filter: &Filter, all: bool) -> Vec<Found<'f>> {
        let found = feed.packages().filter(|package| self.matches(package));
        let found = found.filter_map(|package| filter.apply(package, all));
        if self.top_versions && all {
            return self.page_versions(found.collect());
        }
        found.skip(self.skip).take(self.top).collect()
    }

    fn matches(&self, package: &PackageEntry<'_>) -> bool {
        let is_same = |own: &str, asked: &String| own.eq_ignore_ascii_case(asked);
        let name = package.name.to_ascii_lowercase();
        !self.hopeless
            && self.protocol.as_ref().is_none_or(|asked| is_same(package.protocol.name(), asked))
            && self.words.as_ref().is_none_or(|words| name.contains(words.as_str()))
            && self.normalised.as_ref().is_none_or(|asked| is_same(package.key, asked))
    }

    /// Counts versions instead of packages.
    fn page_versions<'f>(&self, found: Vec<Found<'f>>) -> Vec<Found<'f>> {
        let all = found.iter().flat_map(|(_, shown)| shown.iter().map(VersionEntry::guid));
        let page: HashSet<Uuid> = all.skip(self.skip).take(self.top).collect();
        let cut = found.into_iter().map(|(package, mut shown)| {
            shown.retain(|version| page.contains(&version.guid()));
            (package, shown)
        });
        cut.filter(|(_, shown)| !shown.is_empty()).collect()
    }
}
