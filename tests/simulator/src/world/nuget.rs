//! NuGet packages of a feed. The documents about them are written in `service/`, since every one is full of URLs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{FIRST_INGESTION, FeedState, Named, Presence};
use crate::clock;
use crate::content::artifact::Artifact;
use crate::content::folder;
use crate::content::nuget::NugetPackage;
use crate::content::nupkg::{self, Nuspec};
use crate::content::seed::Seed;
use crate::content::version;

/// A NuGet package of a feed.
#[derive(Clone, Default)]
pub(crate) struct Nuget {
    /// The id as its author spells it.
    pub(crate) id: String,
    /// In order of precedence, lowest first.
    pub(crate) releases: Vec<NugetRelease>,
    /// Deleted versions.
    pub(crate) recycled: Vec<NugetRelease>,
}

/// A version of a NuGet package.
#[derive(Clone)]
pub(crate) struct NugetRelease {
    /// As its author spells it.
    pub(crate) version: String,
    /// As it stands in URLs.
    pub(crate) normalised: String,
    pub(crate) nuspec: Nuspec,
    pub(crate) nuspec_text: Bytes,
    pub(crate) unlisted: bool,
    pub(crate) presence: Presence,
    pub(crate) artifact: Arc<Artifact>,
    /// Seconds since the epoch.
    pub(crate) published: u64,
}

// === impl Nuget ===

impl Nuget {
    pub(crate) fn release(&self, version: &str, view: Option<&Named>) -> Option<&NugetRelease> {
        let normalised = version::nuget_normalised(version);
        self.shown(view).find(|release| release.normalised == normalised)
    }

    /// The versions that a view shows, lowest first.
    pub(crate) fn shown(&self, view: Option<&Named>) -> impl Iterator<Item = &NugetRelease> {
        self.releases.iter().filter(move |release| release.presence.shows_in(view))
    }
}

// === impl NugetRelease ===

impl NugetRelease {
    /// Reads a pushed nupkg.
    pub(crate) fn pushed(nupkg: Bytes) -> io::Result<Self> {
        let text = nupkg::read_nuspec(io::Cursor::new(&nupkg))?;
        Ok(Self::new(text, Arc::new(Artifact::kept(nupkg)), clock::now()))
    }

    fn new(nuspec_text: String, artifact: Arc<Artifact>, published: u64) -> Self {
        let nuspec = Nuspec::parse(&nuspec_text);
        Self {
            version: nuspec.version.clone(),
            normalised: version::nuget_normalised(&nuspec.version),
            nuspec,
            nuspec_text: nuspec_text.into(),
            unlisted: false,
            presence: Presence::default(),
            artifact,
            published,
        }
    }
}

// === impl FeedState ===

impl FeedState {
    /// Adds the versions of a described package; a version that exists already is replaced.
    pub(crate) fn add_nuget(&mut self, seed: Seed, described: &NugetPackage) {
        for (version, content) in &described.versions {
            let text = content.nuspec(&described.id, version).to_xml();
            let recipe = content.recipe(seed, &described.id, version);
            let mut release = NugetRelease::new(text, Arc::new(Artifact::made(recipe)), 0);
            release.unlisted = content.unlisted;
            release.presence =
                Presence { views: content.views.clone(), unsaved: content.unsaved, ..Presence::default() };
            self.put_nuget(release);
        }
    }

    pub(super) fn add_nuget_folder(&mut self, folder: &Path) -> io::Result<()> {
        for (path, text) in folder::nuget(folder)? {
            self.put_nuget(NugetRelease::new(text, Arc::new(Artifact::file(path)), 0));
        }
        Ok(())
    }

    /// Adds or replaces a version. A stamp of 0 gets the next hour of the deterministic calendar.
    pub(crate) fn put_nuget(&mut self, mut release: NugetRelease) {
        let id = release.nuspec.id.clone();
        let package = self.nuget.entry(id.to_ascii_lowercase()).or_default();
        let package = Arc::make_mut(package);
        package.id = id;
        if release.published == 0 {
            release.published = FIRST_INGESTION + 3600 * package.releases.len() as u64;
        }
        let lower =
            |existing: &NugetRelease| version::compare(&existing.normalised, &release.normalised).is_lt();
        let at = package.releases.partition_point(lower);
        match package.releases.get_mut(at) {
            Some(existing) if existing.normalised == release.normalised => *existing = release,
            _ => package.releases.insert(at, release),
        }
    }

    /// Takes a version out of the lists; `false` if there is none like this.
    pub(crate) fn unlist_nuget(&mut self, id: &str, version: &str) -> bool {
        let normalised = version::nuget_normalised(version);
        let package = self.nuget.get_mut(&id.to_ascii_lowercase()).map(Arc::make_mut);
        let mut releases = package.into_iter().flat_map(|package| &mut package.releases);
        let found = releases.find(|release| release.normalised == normalised);
        found.map(|release| release.unlisted = true).is_some()
    }

    pub(crate) fn nuget_package(&self, id: &str) -> Option<&Arc<Nuget>> {
        self.nuget.get(&id.to_ascii_lowercase())
    }
}
