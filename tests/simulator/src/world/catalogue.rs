//! Packages and versions as REST speaks of them: both protocols alike, by name or by GUID, deleted ones included.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{FeedState, Npm, NpmRelease, Nuget, NugetRelease, Presence};
use crate::content::artifact::Artifact;
use crate::content::seed::Seed;
use crate::content::version;

/// A package protocol of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Npm,
    Nuget,
}

/// Names a version inside a feed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VersionKey {
    pub(crate) protocol: Protocol,
    /// The npm name, or the NuGet id in lower case.
    pub(crate) package: String,
    /// In normal form.
    pub(crate) version: String,
}

/// A package of a feed.
pub(crate) struct PackageEntry<'a> {
    pub(crate) protocol: Protocol,
    /// As its author spells it.
    pub(crate) name: &'a str,
    /// Under which the feed keeps it: the npm name, or the NuGet id in lower case.
    pub(crate) key: &'a str,
    pub(crate) guid: Uuid,
    /// Deleted versions included, highest first.
    pub(crate) versions: Vec<VersionEntry<'a>>,
}

/// A version of a package.
#[derive(Clone, Copy)]
pub(crate) struct VersionEntry<'a> {
    seed: Seed,
    package: Uuid,
    /// As its author spells it.
    pub(crate) version: &'a str,
    pub(crate) normalised: &'a str,
    pub(crate) release: Release<'a>,
}

/// What a protocol knows of a version.
#[derive(Clone, Copy)]
pub(crate) enum Release<'a> {
    Npm(&'a NpmRelease),
    Nuget(&'a NugetRelease),
}

// === impl Protocol ===

impl Protocol {
    /// As the feeds host writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Npm => "Npm",
            Self::Nuget => "NuGet",
        }
    }
}

// === impl FeedState ===

impl FeedState {
    /// All packages of both protocols, also those whose versions are all deleted.
    pub(crate) fn packages(&self) -> impl Iterator<Item = PackageEntry<'_>> {
        let npm = self.npm.iter().map(|(key, package)| self.npm_entry(key, package));
        npm.chain(self.nuget.iter().map(|(key, package)| self.nuget_entry(key, package)))
    }

    /// The package by name (NuGet: in any letter case) or GUID.
    pub(crate) fn package(&self, protocol: Protocol, spelling: &str) -> Option<PackageEntry<'_>> {
        match protocol {
            Protocol::Npm => {
                let (key, package) = self.find(protocol, &self.npm, spelling)?;
                Some(self.npm_entry(key, package))
            }
            Protocol::Nuget => {
                let (key, package) = self.find(protocol, &self.nuget, &spelling.to_ascii_lowercase())?;
                Some(self.nuget_entry(key, package))
            }
        }
    }

    fn find<'f, P>(
        &self,
        protocol: Protocol,
        packages: &'f BTreeMap<String, P>,
        spelling: &str,
    ) -> Option<(&'f String, &'f P)> {
        packages.get_key_value(spelling).or_else(|| {
            let guid = Uuid::parse_str(spelling).ok()?;
            packages.iter().find(|(key, _)| self.package_guid(protocol, key) == guid)
        })
    }

    /// The package of that GUID, whatever its protocol.
    pub(crate) fn package_of_guid(&self, guid: Uuid) -> Option<PackageEntry<'_>> {
        let spelling = guid.to_string();
        self.package(Protocol::Npm, &spelling).or_else(|| self.package(Protocol::Nuget, &spelling))
    }

    /// The GUID that the feed gives a package.
    pub(crate) fn package_guid(&self, protocol: Protocol, key: &str) -> Uuid {
        self.seed.guid(&format!("package/{}/{}/{}", self.own.guid, protocol.name(), caseful(key)))
    }

    fn npm_entry<'a>(&self, key: &'a str, package: &'a Arc<Npm>) -> PackageEntry<'a> {
        let (seed, guid) = (self.seed, self.package_guid(Protocol::Npm, key));
        let releases = package.releases.iter().chain(&package.recycled);
        let entry = |release: &'a NpmRelease| VersionEntry {
            seed,
            package: guid,
            version: &release.version,
            normalised: &release.version,
            release: Release::Npm(release),
        };
        let versions = sorted(releases.map(entry).collect());
        PackageEntry { protocol: Protocol::Npm, name: &package.name, key, guid, versions }
    }

    fn nuget_entry<'a>(&self, key: &'a str, package: &'a Arc<Nuget>) -> PackageEntry<'a> {
        let (seed, guid) = (self.seed, self.package_guid(Protocol::Nuget, key));
        let releases = package.releases.iter().chain(&package.recycled);
        let entry = |release: &'a NugetRelease| VersionEntry {
            seed,
            package: guid,
            version: &release.version,
            normalised: &release.normalised,
            release: Release::Nuget(release),
        };
        let versions = sorted(releases.map(entry).collect());
        PackageEntry { protocol: Protocol::Nuget, name: &package.id, key, guid, versions }
    }
}

/// Marks capitals, since GUIDs are made of names in lower case and npm has names that differ in case only.
fn caseful(name: &str) -> String {
    name.chars()
        .flat_map(|letter| letter.is_ascii_uppercase().then_some('^').into_iter().chain([letter]))
        .collect()
}

fn sorted(mut versions: Vec<VersionEntry<'_>>) -> Vec<VersionEntry<'_>> {
    versions.sort_by(|left, right| version::compare(right.normalised, left.normalised));
    versions
}

// === impl PackageEntry ===

impl<'a> PackageEntry<'a> {
    /// The version by number in any spelling, or by GUID.
    pub(crate) fn version(&self, spelling: &str) -> Option<&VersionEntry<'a>> {
        let number = match self.protocol {
            Protocol::Npm => spelling.to_owned(),
            Protocol::Nuget => version::nuget_normalised(spelling),
        };
        let by_number = self.versions.iter().find(|version| version.normalised == number);
        by_number.or_else(|| self.version_of_guid(spelling))
    }

    /// The version by GUID alone.
    pub(crate) fn version_of_guid(&self, spelling: &str) -> Option<&VersionEntry<'a>> {
        let guid = Uuid::parse_str(spelling).ok()?;
        self.versions.iter().find(|version| version.guid() == guid)
    }

    /// What names a version of this package inside the feed.
    pub(crate) fn key_of(&self, version: &VersionEntry<'_>) -> VersionKey {
        let (package, version) = (self.key.to_owned(), version.normalised.to_owned());
        VersionKey { protocol: self.protocol, package, version }
    }
}

// === impl VersionEntry ===

impl VersionEntry<'_> {
    /// Computed when asked for: a package may have thousands of versions.
    pub(crate) fn guid(&self) -> Uuid {
        self.seed.guid(&format!("version/{}/{}", self.package, caseful(self.normalised)))
    }
}

// === impl Release ===

impl<'a> Release<'a> {
    pub(crate) fn presence(self) -> &'a Presence {
        match self {
            Self::Npm(release) => &release.presence,
            Self::Nuget(release) => &release.presence,
        }
    }

    pub(crate) fn artifact(self) -> &'a Arc<Artifact> {
        match self {
            Self::Npm(release) => &release.artifact,
            Self::Nuget(release) => &release.artifact,
        }
    }

    /// Seconds since the epoch.
    pub(crate) fn published(self) -> u64 {
        match self {
            Self::Npm(release) => release.ingested,
            Self::Nuget(release) => release.published,
        }
    }

    /// npm has no unlisted versions.
    pub(crate) fn listed(self) -> bool {
        match self {
            Self::Npm(_) => true,
            Self::Nuget(release) => !release.unlisted,
        }
    }
}
