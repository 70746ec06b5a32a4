//! NuGet v2 (facts §4.3): lists and entries in Atom, the download behind them, push and unlisting.
//!
//! What the service answers is known for push, entry and download; the rest follows public v2 galleries. Guesses worth
//! knowing: `$metadata` and the service document (their bodies are written down nowhere), an empty feed instead of 404
//! for an unknown id, 204 for a deletion, and that SemVer 2.0.0 versions hide from clients that don't ask for them.

mod atom;
mod entry;
mod filter;
mod query;

use std::sync::Arc;

use bytes::Bytes;

use super::error::{self, Refusal};
use super::nuget_push;
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::content::version;
use crate::world::{Named, Nuget};
use atom::Feed;
use entry::{Entry, entries};
use query::{Query, unquoted};

const ATOM_FEED: &str = "application/atom+xml;type=feed;charset=utf-8";
const ATOM_ENTRY: &str = "application/atom+xml;type=entry;charset=utf-8";
const XML: &str = "application/xml;charset=utf-8";
const TEXT: &str = "text/plain;charset=utf-8";

/// What a path below `v2` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Service,
    Metadata,
    Download {
        id: String,
        version: String,
    },
    Entry {
        id: String,
        version: String,
    },
    /// A list, or only how long it is.
    List {
        set: Set,
        count: bool,
    },
}

/// The lists, each with its own idea of which versions are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Packages,
    FindPackagesById,
    Search,
}

/// Everything that a list is made of, to be rendered away from the async threads.
struct Listing {
    set: Set,
    packages: Vec<Arc<Nuget>>,
    view: Option<Named>,
    query: Query,
    base: String,
    page_size: usize,
}

/// Answers for the decoded segments below `v2`, in the letter case they were sent in.
pub(crate) async fn answer(visit: &Visit<'_>, place: &Place, rest: &[&str]) -> Result<Reply, Refusal> {
    let is_package = |segment: &str| segment.eq_ignore_ascii_case("package");
    match (visit.request.method.as_str(), rest) {
        ("PUT", []) => return nuget_push::push(visit, place).await,
        ("PUT", [one]) if is_package(one) => return nuget_push::push(visit, place).await,
        ("DELETE", [first, id, version]) if is_package(first) => return unlist(visit, place, id, version),
        ("DELETE", [id, version]) => return unlist(visit, place, id, version),
        _ => {}
    }
    let route = Route::parse(visit, rest).ok_or(Refusal::NoRoute)?;
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let base = format!("{}/nuget/v2", place.spelled);
    match route {
        Route::Service => Ok(Reply::new(200, XML, atom::service_document(&base))),
        Route::Metadata => Ok(Reply::new(200, XML, atom::metadata_document())),
        Route::Download { id, version } => download(visit, place, &id, &version).await,
        Route::Entry { id, version } => single(visit, place, base, (&id, &version)).await,
        Route::List { set, count } => list(visit, place, base, (set, count)).await,
    }
}

async fn download(visit: &Visit<'_>, place: &Place, id: &str, version: &str) -> Result<Reply, Refusal> {
    super::nuget::nupkg(visit, place, id, version).await
}

async fn single(
    visit: &Visit<'_>,
    place: &Place,
    base: String,
    (id, version): (&str, &str),
) -> Result<Reply, Refusal> {
    let package = super::nuget::package(visit, place, id)?;
    let (view, normalised) = (place.view.clone(), version::nuget_normalised(version));
    let key = format!("v2 entry {base} {id} {normalised}");
    let render = move || {
        let packages = [package];
        let all = entries(&packages, view.as_ref(), true);
        let found = all.iter().find(|entry| entry.release.normalised == normalised)?;
        Some(Bytes::from(atom::entry_document(found, &base)))
    };
    let document = visit.service.document(key, place.revision, render).await;
    let missing = || error::no_package(&format!("{id} {version}"), &place.own.name);
    Ok(data(Reply::document(ATOM_ENTRY, document.ok_or_else(missing)?)))
}

async fn list(
    visit: &Visit<'_>,
    place: &Place,
    base: String,
    (set, count): (Set, bool),
) -> Result<Reply, Refusal> {
    let query = Query::parse(visit.request)?;
    let packages = visit.look(place, |feed| match set {
        Set::FindPackagesById => feed.nuget_package(&query.id).into_iter().map(Arc::clone).collect(),
        Set::Packages | Set::Search => feed.nuget.values().map(Arc::clone).collect(),
    });
    let key = format!("v2 {set:?} {count} {base}?{}", visit.request.query);
    let (view, page_size) = (place.view.clone(), visit.service.settings.odata_page);
    let listing = Listing { set, packages, view, query, base, page_size };
    let render = move || {
        let picked = listing.picked();
        Some(Bytes::from(if count { picked.len().to_string() } else { listing.feed(&picked) }))
    };
    let document = visit.service.document(key, place.revision, render).await.ok_or(Refusal::NoRoute)?;
    Ok(data(Reply::document(if count { TEXT } else { ATOM_FEED }, document)))
}

/// `nuget delete`: the version stays, and is no longer listed.
fn unlist(visit: &Visit<'_>, place: &Place, id: &str, version: &str) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    if visit.change(place, |feed| feed.unlist_nuget(id, version)) {
        return Ok(Reply::empty(204));
    }
    Err(error::no_package(&format!("{id} {version}"), &place.own.name))
}

fn data(reply: Reply) -> Reply {
    reply.header("DataServiceVersion", "2.0;")
}

// === impl Route ===

impl Route {
    fn parse(visit: &Visit<'_>, rest: &[&str]) -> Option<Self> {
        match rest {
            [] => {
                let parameter = |name| visit.request.parameter(name).map(|value| unquoted(&value));
                match (parameter("id"), parameter("version")) {
                    (Some(id), Some(version)) => Some(Self::Download { id, version }),
                    _ => Some(Self::Service),
                }
            }
            ["$metadata"] => Some(Self::Metadata),
            [resource] => Self::resource(resource),
            [resource, "$count"] => match Self::resource(resource)? {
                Self::List { set, .. } => Some(Self::List { set, count: true }),
                _ => None,
            },
            _ => None,
        }
    }

    /// `Search`, `Search()` or `Packages(Id='X',Version='1.2.3')`.
    fn resource(text: &str) -> Option<Self> {
        let (name, arguments) = match text.split_once('(') {
            Some((name, arguments)) => (name, arguments.strip_suffix(')')?),
            None => (text, ""),
        };
        let set = Set::parse(name)?;
        if arguments.is_empty() {
            return Some(Self::List { set, count: false });
        }
        let argument = |wanted: &str| {
            let mut pairs = arguments.split(',').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| unquoted(value.trim()))
        };
        let (id, version) = (argument("Id")?, argument("Version")?);
        (set == Set::Packages).then_some(Self::Entry { id, version })
    }
}

// === impl Set ===

impl Set {
    fn parse(name: &str) -> Option<Self> {
        let sets = [Self::Packages, Self::FindPackagesById, Self::Search];
        sets.into_iter().find(|set| set.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Packages => "Packages",
            Self::FindPackagesById => "FindPackagesById",
            Self::Search => "Search",
        }
    }
}

// === impl Listing ===

impl Listing {
    /// Every entry of the list, on whatever page.
    fn picked(&self) -> Vec<Entry<'_>> {
        let mut all = entries(&self.packages, self.view.as_ref(), self.query.semver2);
        if self.set == Set::Search {
            all.retain(|entry| {
                let release = entry.release;
                let known = self.query.prerelease || !version::is_prerelease(&release.version);
                known && !release.unlisted && entry.is_about(&self.query.search_term)
            });
        }
        self.query.pick(all)
    }

    fn feed(&self, picked: &[Entry<'_>]) -> String {
        let (query, title) = (&self.query, self.set.name());
        let rest = &picked[query.skip.min(picked.len())..];
        let (taken, more) = query.page(rest.len(), self.page_size);
        let operation = if self.set == Set::Packages { "Packages" } else { &format!("{title}()") };
        let feed = Feed {
            title,
            entries: &rest[..taken],
            count: query.with_count.then_some(picked.len()),
            next: more.then(|| format!("{}/{operation}?{}", self.base, query.next(taken))),
        };
        atom::feed_document(&feed, &self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_told_apart() {
        let list = |set| Some(Route::List { set, count: false });
        let entry = |id: &str| Some(Route::Entry { id: id.to_owned(), version: "1.2.3".to_owned() });
        let rows = [
            ("Packages", list(Set::Packages)),
            ("packages()", list(Set::Packages)),
            ("FindPackagesById()", list(Set::FindPackagesById)),
            ("Search()", list(Set::Search)),
            ("Packages(Id='Contoso.Utility',Version='1.2.3')", entry("Contoso.Utility")),
            ("Packages(Version='1.2.3', Id='a')", entry("a")),
            ("Packages(Id='a')", None),
            ("Packages(Id='a',Version='1.2.3'", None),
            ("Search(Id='a',Version='1.2.3')", None),
            ("GetUpdates()", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Route::resource(text), expected, "{text}");
        }
    }
}
