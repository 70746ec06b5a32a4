//! NuGet search (`query2`, facts §4.2): the feed's own packages, never those of upstream sources.

use serde_json::{Value, json};

use super::nuget::{JSON, NugetUrls};
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::content::version;
use crate::world::{Nuget, NugetRelease};

const DEFAULT_TAKE: usize = 20;

/// The parameters of a search.
struct Search {
    words: String,
    skip: usize,
    take: usize,
    prerelease: bool,
}

pub(crate) fn answer(visit: &Visit<'_>, place: &Place, urls: &NugetUrls) -> Reply {
    let number = |name: &str| visit.request.parameter(name).and_then(|text| text.parse().ok());
    let search = Search {
        words: visit.request.parameter("q").unwrap_or_default().replace('+', " ").to_ascii_lowercase(),
        skip: number("skip").unwrap_or(0),
        take: number("take").unwrap_or(DEFAULT_TAKE),
        prerelease: visit
            .request
            .parameter("prerelease")
            .is_some_and(|value| value.eq_ignore_ascii_case("true")),
    };
    let found: Vec<Value> = visit.look(place, |feed| {
        let packages = feed.nuget.iter().filter(|(id, _)| search.matches(id));
        packages.filter_map(|(_, package)| search.describe(package, place, urls)).collect()
    });
    let total = found.len();
    let data: Vec<Value> = found.into_iter().skip(search.skip).take(search.take).collect();
    Reply::new(200, JSON, json!({ "totalHits": total, "data": data }).to_string())
}

// === impl Search ===

impl Search {
    fn matches(&self, id: &str) -> bool {
        self.words.split_whitespace().all(|word| id.contains(word.trim_start_matches("packageid:")))
    }

    /// Unlisted versions are not found; a package without any other neither.
    fn describe(&self, package: &Nuget, place: &Place, urls: &NugetUrls) -> Option<Value> {
        let suits = |release: &&NugetRelease| {
            !release.unlisted && (self.prerelease || !version::is_prerelease(&release.version))
        };
        let releases: Vec<&NugetRelease> = package.shown(place.view.as_ref()).filter(suits).collect();
        let newest = releases.last()?;
        let folder = urls.registration(&package.id, true);
        let versions = releases.iter().map(|release| {
            json!({ "@id": format!("{folder}{}.json", release.normalised), "version": release.version, "downloads": 0 })
        });
        let nuspec = &newest.nuspec;
        Some(json!({
            "@id": format!("{folder}index.json"),
            "@type": "Package",
            "authors": [nuspec.authors],
            "description": nuspec.description,
            "iconUrl": nuspec.icon_url,
            "id": package.id,
            "licenseUrl": nuspec.license_url,
            "projectUrl": nuspec.project_url,
            "registration": "",
            "summary": nuspec.summary,
            "tags": nuspec.tags.split_whitespace().collect::<Vec<_>>(),
            "title": nuspec.title,
            "version": newest.version,
            "versions": versions.collect::<Vec<_>>(),
        }))
    }
}
