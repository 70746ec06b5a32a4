//! NuGet registrations (facts §4.2): all versions of a package with their metadata, inlined or in pages.
//!
//! The service has been seen to inline everything; paging is in the protocol, so a cache must cope with it, and here a
//! package with many versions gets pages.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::error::{self, Refusal};
use super::nuget::{self, JSON, NugetUrls};
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::clock;
use crate::content::nupkg::Dependency;
use crate::content::version;
use crate::world::{Named, Nuget, NugetRelease};

/// One package's registration, seen through a view.
struct Registration {
    package: Arc<Nuget>,
    view: Option<Named>,
    urls: NugetUrls,
    semver2: bool,
    page_size: usize,
}

/// What a path below `registrations2/{id}/` asks for.
enum Document {
    Index,
    Page { lower: String, upper: String },
    Leaf(String),
}

/// Answers for (id, segments below it, whether SemVer 2.0.0 versions are shown).
pub(crate) async fn answer(
    visit: &Visit<'_>,
    place: &Place,
    urls: NugetUrls,
    (id, path, semver2): (&str, &[&str], bool),
) -> Result<Reply, Refusal> {
    let document = Document::parse(path).ok_or(Refusal::NoRoute)?;
    let registration = Registration {
        package: nuget::package(visit, place, id)?,
        view: place.view.clone(),
        urls,
        semver2,
        page_size: visit.service.settings.registration_page,
    };
    let key = format!("{} {}", registration.folder(), path.join("/"));
    let render = move || registration.render(&document).map(|value| Bytes::from(value.to_string()));
    let rendered = visit.service.document(key, place.revision, render).await;
    Ok(Reply::document(JSON, rendered.ok_or_else(|| error::no_package(id, &place.own.name))?))
}

// === impl Document ===

impl Document {
    fn parse(path: &[&str]) -> Option<Self> {
        let stem = |file: &str| file.strip_suffix(".json").map(str::to_owned);
        match *path {
            ["index.json"] => Some(Self::Index),
            ["page", lower, upper] => Some(Self::Page { lower: lower.to_owned(), upper: stem(upper)? }),
            [leaf] => stem(leaf).map(Self::Leaf),
            _ => None,
        }
    }
}

// === impl Registration ===

impl Registration {
    /// The document, or nothing if it does not exist.
    fn render(&self, document: &Document) -> Option<Value> {
        let shown: Vec<_> =
            self.package.shown(self.view.as_ref()).filter(|release| self.shows(release)).collect();
        let pages: Vec<&[&NugetRelease]> = shown.chunks(self.page_size).collect();
        match document {
            Document::Index if shown.is_empty() => None,
            Document::Index => Some(self.index(&pages)),
            Document::Page { lower, upper } => {
                let is_it = |page: &&&[&NugetRelease]| bounds(page) == (lower, upper);
                pages.iter().find(is_it).map(|page| self.page(page, pages.len() > 1, true))
            }
            Document::Leaf(version) => {
                shown.iter().find(|release| release.normalised == *version).map(|release| self.leaf(release))
            }
        }
    }

    fn shows(&self, release: &NugetRelease) -> bool {
        self.semver2 || !is_semver2(&release.version)
    }

    fn folder(&self) -> String {
        self.urls.registration(&self.package.id, self.semver2)
    }

    fn index(&self, pages: &[&[&NugetRelease]]) -> Value {
        let split = pages.len() > 1;
        let items: Vec<Value> = pages.iter().map(|page| self.page(page, split, !split)).collect();
        json!({
            "@id": format!("{}index.json", self.folder()),
            "@type": ["catalog:CatalogRoot", "PackageRegistration", "catalog:Permalink"],
            "count": items.len(),
            "items": items,
        })
    }

    /// A page of its own (`paged`) or one inside the index; with its versions or only pointed to.
    fn page(&self, releases: &[&NugetRelease], paged: bool, with_items: bool) -> Value {
        let (lower, upper) = bounds(releases);
        let folder = self.folder();
        let id = if paged {
            format!("{folder}page/{lower}/{upper}.json")
        } else {
            format!("{folder}index.json#page/{lower}/{upper}")
        };
        let mut page = json!({
            "@id": id,
            "@type": "catalog:CatalogPage",
            "count": releases.len(),
            "lower": lower,
            "upper": upper,
            "parent": format!("{folder}index.json"),
        });
        if with_items {
            page["items"] = releases.iter().map(|release| self.item(release)).collect();
        }
        page
    }

    fn item(&self, release: &NugetRelease) -> Value {
        let folder = self.folder();
        json!({
            "@id": format!("{folder}{}.json", release.normalised),
            "@type": "Package",
            "catalogEntry": self.entry(release),
            "packageContent": self.urls.nupkg(&self.package, release),
            "registration": format!("{folder}index.json"),
        })
    }

    fn entry(&self, release: &NugetRelease) -> Value {
        let nuspec = &release.nuspec;
        json!({
            "@id": format!("{}{}.json", self.folder(), release.normalised),
            "@type": "PackageDetails",
            "authors": nuspec.authors,
            "dependencyGroups": self.dependency_groups(&nuspec.dependencies),
            "description": nuspec.description,
            "iconUrl": nuspec.icon_url,
            "id": self.package.id,
            "language": "",
            "licenseUrl": nuspec.license_url,
            "listed": !release.unlisted,
            "minClientVersion": "",
            "packageContent": self.urls.nupkg(&self.package, release),
            "projectUrl": nuspec.project_url,
            "published": clock::iso(release.published).replace('Z', ".0000000Z"),
            "requireLicenseAcceptance": false,
            "summary": nuspec.summary,
            "tags": nuspec.tags.split_whitespace().collect::<Vec<_>>(),
            "title": nuspec.title,
            "version": release.version,
        })
    }

    /// Dependencies by target framework, in the order of the nuspec.
    fn dependency_groups(&self, dependencies: &[Dependency]) -> Vec<Value> {
        let same = |one: &Dependency, other: &Dependency| one.framework == other.framework;
        let groups = dependencies.chunk_by(same).map(|group| {
            let own: Vec<Value> = group.iter().map(|dependency| self.dependency(dependency)).collect();
            let mut described = json!({ "@type": "PackageDependencyGroup", "dependencies": own });
            if let Some(framework) = &group[0].framework {
                described["targetFramework"] = json!(framework);
            }
            described
        });
        groups.collect()
    }

    fn dependency(&self, dependency: &Dependency) -> Value {
        let registration = self.urls.registration(&dependency.id, self.semver2);
        json!({
            "@type": "PackageDependency",
            "id": dependency.id,
            "range": interval(&dependency.range),
            "registration": format!("{registration}index.json"),
        })
    }

    /// The short document about one version.
    fn leaf(&self, release: &NugetRelease) -> Value {
        let folder = self.folder();
        json!({
            "@id": format!("{folder}{}.json", release.normalised),
            "@type": ["Package", "http://schema.nuget.org/catalog#Permalink"],
            "catalogEntry": self.entry(release),
            "listed": !release.unlisted,
            "packageContent": self.urls.nupkg(&self.package, release),
            "published": clock::iso(release.published).replace('Z', ".0000000Z"),
            "registration": format!("{folder}index.json"),
        })
    }
}

fn bounds<'a>(page: &[&'a NugetRelease]) -> (&'a String, &'a String) {
    (&page[0].normalised, &page[page.len() - 1].normalised)
}

/// Build metadata, or a prerelease label in parts: what older clients can't read.
pub(crate) fn is_semver2(version: &str) -> bool {
    let labels = version.split_once('-').map_or("", |(_, labels)| labels);
    version.contains('+') || (version::is_prerelease(version) && labels.contains('.'))
}

/// A nuspec's bare version means "at least" and is written as an interval here.
fn interval(range: &str) -> String {
    match range.chars().next() {
        None => "(, )".to_owned(),
        Some('[' | '(') => range.to_owned(),
        Some(_) => format!("[{range}, )"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_versions_become_intervals() {
        for (given, expected) in
            [("", "(, )"), ("1.0", "[1.0, )"), ("[1.0,2.0)", "[1.0,2.0)"), ("(,2.0]", "(,2.0]")]
        {
            assert_eq!(interval(given), expected);
        }
    }

    #[test]
    fn versions_of_the_second_standard_are_recognised() {
        let rows = [("1.0.0", false), ("1.0.0-rc1", false), ("1.0.0-rc.1", true), ("1.0.0+build", true)];
        for (version, expected) in rows {
            assert_eq!(is_semver2(version), expected, "{version}");
        }
    }
}
