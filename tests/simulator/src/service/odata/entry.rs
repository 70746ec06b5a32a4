//! One package version as OData sees it: a row of named, typed properties.
//!
//! The list of properties is that of public v2 galleries, as far as a nuspec can fill it; which of them the service
//! sends is not written down anywhere but for the few in facts §4.3.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::clock;
use crate::content::nupkg::Dependency;
use crate::content::version;
use crate::service::registration::is_semver2;
use crate::world::{Named, Nuget, NugetRelease};

/// Unlisted versions are known by this moment of publication.
const UNLISTED: &str = "1900-01-01T00:00:00";

/// Every property with its EDM type, in the order of an entry.
pub(super) const PROPERTIES: [(&str, &str); 31] = [
    ("Id", "Edm.String"),
    ("Version", "Edm.String"),
    ("NormalizedVersion", "Edm.String"),
    ("Authors", "Edm.String"),
    ("Copyright", "Edm.String"),
    ("Created", "Edm.DateTime"),
    ("Dependencies", "Edm.String"),
    ("Description", "Edm.String"),
    ("DownloadCount", "Edm.Int32"),
    ("GalleryDetailsUrl", "Edm.String"),
    ("IconUrl", "Edm.String"),
    ("IsLatestVersion", "Edm.Boolean"),
    ("IsAbsoluteLatestVersion", "Edm.Boolean"),
    ("IsPrerelease", "Edm.Boolean"),
    ("Language", "Edm.String"),
    ("LastUpdated", "Edm.DateTime"),
    ("LicenseUrl", "Edm.String"),
    ("Listed", "Edm.Boolean"),
    ("MinClientVersion", "Edm.String"),
    ("Owners", "Edm.String"),
    ("PackageHash", "Edm.String"),
    ("PackageHashAlgorithm", "Edm.String"),
    ("PackageSize", "Edm.Int64"),
    ("ProjectUrl", "Edm.String"),
    ("Published", "Edm.DateTime"),
    ("ReleaseNotes", "Edm.String"),
    ("RequireLicenseAcceptance", "Edm.Boolean"),
    ("Summary", "Edm.String"),
    ("Tags", "Edm.String"),
    ("Title", "Edm.String"),
    ("VersionDownloadCount", "Edm.Int32"),
];

/// The value of a property or of a part of a filter. A moment is a text, which sorts like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(i64),
    Null,
}

/// A version with what depends on its neighbours.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) id: &'a str,
    pub(super) release: &'a NugetRelease,
    is_latest: bool,
    is_absolute_latest: bool,
}

/// Whether there is a property of this name; letter case counts.
pub(super) fn is_property(name: &str) -> bool {
    PROPERTIES.iter().any(|(own, _)| *own == name)
}

/// The versions of the packages that a view shows, lowest first; those of SemVer 2.0.0 only if wanted.
pub(super) fn entries<'a>(packages: &'a [Arc<Nuget>], view: Option<&Named>, semver2: bool) -> Vec<Entry<'a>> {
    packages.iter().flat_map(|package| entries_of(package, view, semver2)).collect()
}

fn entries_of<'a>(package: &'a Nuget, view: Option<&Named>, semver2: bool) -> Vec<Entry<'a>> {
    let suits = |release: &&NugetRelease| semver2 || !is_semver2(&release.version);
    let shown: Vec<&NugetRelease> = package.shown(view).filter(suits).collect();
    let last = |wanted: &dyn Fn(&NugetRelease) -> bool| {
        shown.iter().rposition(|release| !release.unlisted && wanted(release))
    };
    let absolute_latest = last(&|_| true);
    let latest = last(&|release| !version::is_prerelease(&release.version));
    let entry = |(at, release): (usize, &&'a NugetRelease)| Entry {
        id: &package.id,
        release,
        is_latest: latest == Some(at),
        is_absolute_latest: absolute_latest == Some(at),
    };
    shown.iter().enumerate().map(entry).collect()
}

// === impl Entry ===

impl Entry<'_> {
    /// The value of a property. Hash and size may make or read the package file: not for async threads.
    pub(super) fn value(&self, property: &str) -> Value {
        let (release, nuspec) = (self.release, &self.release.nuspec);
        match property {
            "Id" => text(self.id),
            "Version" => text(&release.version),
            "NormalizedVersion" => Value::Text(version::nuget_displayed(&release.version)),
            "Authors" | "Owners" => text(&nuspec.authors),
            "Dependencies" => Value::Text(dependencies(&nuspec.dependencies)),
            "Description" => text(&nuspec.description),
            "DownloadCount" | "VersionDownloadCount" => Value::Number(0),
            "IconUrl" => optional(&nuspec.icon_url),
            "IsLatestVersion" => Value::Flag(self.is_latest),
            "IsAbsoluteLatestVersion" => Value::Flag(self.is_absolute_latest),
            "IsPrerelease" => Value::Flag(version::is_prerelease(&release.version)),
            "LicenseUrl" => optional(&nuspec.license_url),
            "Listed" => Value::Flag(!release.unlisted),
            "PackageHash" => text(release.artifact.digests().integrity.trim_start_matches("sha512-")),
            "PackageHashAlgorithm" => text("SHA512"),
            "PackageSize" => Value::Number(i64::try_from(release.artifact.digests().length).unwrap_or(0)),
            "ProjectUrl" => optional(&nuspec.project_url),
            "Published" if release.unlisted => text(UNLISTED),
            "Created" | "LastUpdated" | "Published" => Value::Text(self.moment()),
            "RequireLicenseAcceptance" => Value::Flag(false),
            "Summary" => optional(&nuspec.summary),
            "Tags" => text(&nuspec.tags),
            "Title" => text(if nuspec.title.is_empty() { self.id } else { &nuspec.title }),
            _ => Value::Null,
        }
    }

    /// When the version was published, `2024-01-01T00:00:00.000Z`.
    pub(super) fn moment(&self) -> String {
        clock::iso(self.release.published).replace('Z', ".000Z")
    }

    /// `Packages(Id='X',Version='1.2.3')`
    pub(super) fn key(&self) -> String {
        let version = version::nuget_displayed(&self.release.version);
        format!("Packages(Id='{}',Version='{version}')", self.id)
    }

    /// Whether a search for these words finds it.
    pub(super) fn is_about(&self, words: &str) -> bool {
        let nuspec = &self.release.nuspec;
        let texts = [self.id, &nuspec.title, &nuspec.description, &nuspec.tags];
        let found = |word: &str| texts.iter().any(|text| text.to_lowercase().contains(word));
        words.to_lowercase().split_whitespace().all(found)
    }

    /// The order by one property; versions go by precedence.
    pub(super) fn order(&self, other: &Self, property: &str) -> Ordering {
        match property {
            "Version" | "NormalizedVersion" => {
                version::compare(&self.release.normalised, &other.release.normalised)
            }
            _ => self.value(property).order(&other.value(property)).unwrap_or(Ordering::Equal),
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn optional(given: &str) -> Value {
    if given.is_empty() { Value::Null } else { text(given) }
}

/// `id:range:framework`, joined by `|`.
fn dependencies(all: &[Dependency]) -> String {
    let one = |dependency: &Dependency| {
        let framework = dependency.framework.as_deref().map_or(String::new(), short_framework);
        format!("{}:{}:{framework}", dependency.id, dependency.range)
    };
    all.iter().map(one).collect::<Vec<_>>().join("|")
}

/// `.NETFramework4.5` as `net45`, `.NETStandard2.0` as `netstandard2.0`; short forms stay.
fn short_framework(long: &str) -> String {
    match long.strip_prefix(".NETFramework") {
        Some(number) => format!("net{}", number.replace('.', "")),
        None => long.trim_start_matches('.').to_ascii_lowercase(),
    }
}

// === impl Value ===

impl Value {
    /// Values of one kind have an order; texts compare without letter case.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => Some(left.to_lowercase().cmp(&right.to_lowercase())),
            (Self::Flag(left), Self::Flag(right)) => Some(left.cmp(right)),
            (Self::Number(left), Self::Number(right)) => Some(left.cmp(right)),
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            _ => None,
        }
    }

    /// As it stands in XML.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Null => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_one_text() {
        let dependency = |framework: Option<&str>| Dependency {
            id: "A".to_owned(),
            range: "[1.0, )".to_owned(),
            framework: framework.map(str::to_owned),
        };
        let rows = [
            (vec![], ""),
            (vec![None], "A:[1.0, ):"),
            (
                vec![Some(".NETFramework4.5"), Some(".NETStandard2.0")],
                "A:[1.0, ):net45|A:[1.0, ):netstandard2.0",
            ),
            (vec![Some("net472")], "A:[1.0, ):net472"),
        ];
        for (frameworks, expected) in rows {
            let all: Vec<_> = frameworks.iter().map(|framework| dependency(*framework)).collect();
            assert_eq!(dependencies(&all), expected);
        }
    }
}
