//! What a test says about a NuGet package, and the real nupkg that is made of it.

use std::sync::Arc;

use bytes::Bytes;

use super::artifact::Recipe;
use super::nupkg::{self, Dependency, Nuspec};
use super::seed::Seed;

/// What the zip container adds to the filler, about.
const NUPKG_OVERHEAD: usize = 1_600;

/// A NuGet package of a feed; the id keeps its letter case for display.
#[derive(Clone, Debug)]
pub struct NugetPackage {
    pub(crate) id: String,
    pub(crate) versions: Vec<(String, NugetVersion)>,
}

/// One version of a NuGet package.
#[derive(Clone, Debug, Default)]
pub struct NugetVersion {
    pub(crate) views: Vec<String>,
    pub(crate) unlisted: bool,
    pub(crate) unsaved: bool,
    size: usize,
    dependencies: Vec<Dependency>,
    files: Vec<(String, Bytes)>,
    description: Option<String>,
    salt: String,
}

// === impl NugetPackage ===

impl NugetPackage {
    /// A package without versions.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), versions: Vec::new() }
    }

    /// Adds a version, spelled as its author would (`1.0`, `2.0.0-RC1`); URLs carry the normal form.
    pub fn version(mut self, version: &str, content: NugetVersion) -> Self {
        self.versions.push((version.to_owned(), content));
        self
    }

    /// Adds the versions `1.0.0`, `1.0.1` and so on, `count` in all, alike in content.
    pub fn versions(mut self, count: usize, content: &NugetVersion) -> Self {
        self.versions.extend((0..count).map(|patch| (format!("1.0.{patch}"), content.clone())));
        self
    }
}

// === impl NugetVersion ===

impl NugetVersion {
    /// A version of about two kilobytes that every target framework from net45 on can install.
    pub fn new() -> Self {
        Self::default()
    }

    /// The approximate size of the nupkg in bytes; the filler does not compress.
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// Adds a dependency for every framework.
    pub fn dependency(mut self, id: &str, range: &str) -> Self {
        self.dependencies.push(Dependency { id: id.to_owned(), range: range.to_owned(), framework: None });
        self
    }

    /// Adds a file, such as `tools/install.txt`.
    pub fn file(mut self, path: &str, bytes: impl Into<Bytes>) -> Self {
        self.files.push((path.to_owned(), bytes.into()));
        self
    }

    /// The description in the nuspec.
    pub fn description(mut self, text: &str) -> Self {
        self.description = Some(text.to_owned());
        self
    }

    /// Makes the bytes differ from those of the same id and version elsewhere.
    pub fn salt(mut self, salt: &str) -> Self {
        salt.clone_into(&mut self.salt);
        self
    }

    /// Puts the version into a view beside `local`.
    pub fn promoted_to(mut self, view: &str) -> Self {
        self.views.push(view.to_owned());
        self
    }

    /// Unlists the version: still in flat2, `listed: false` in the registration, absent from search.
    pub fn unlisted(mut self) -> Self {
        self.unlisted = true;
        self
    }

    /// Known from an upstream source and not saved yet, see [`crate::NpmVersion::unsaved`].
    pub fn unsaved(mut self) -> Self {
        self.unsaved = true;
        self
    }

    /// The nuspec as data.
    pub(crate) fn nuspec(&self, id: &str, version: &str) -> Nuspec {
        Nuspec {
            id: id.to_owned(),
            version: version.to_owned(),
            authors: "Contoso".to_owned(),
            description: self.description.clone().unwrap_or_else(|| format!("Simulated package {id}")),
            tags: "simulated".to_owned(),
            dependencies: self.dependencies.clone(),
            ..Nuspec::default()
        }
    }

    /// How to make the nupkg.
    pub(crate) fn recipe(&self, seed: Seed, id: &str, version: &str) -> Recipe {
        let (content, nuspec) = (self.clone(), self.nuspec(id, version));
        let label = format!("nuget/{}/{version}/{}", id.to_ascii_lowercase(), self.salt);
        Arc::new(move || {
            let mut files: Vec<(String, Vec<u8>)> =
                content.files.iter().map(|(path, bytes)| (path.clone(), bytes.to_vec())).collect();
            files.push(("lib/net45/_._".to_owned(), Vec::new()));
            files.push(("content/about.txt".to_owned(), label.clone().into_bytes()));
            let used: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
            let filler = content.size.saturating_sub(NUPKG_OVERHEAD + used);
            if filler > 0 {
                files.push(("content/filler.bin".to_owned(), seed.noise(&label).bytes(filler)));
            }
            nupkg::write(&nuspec, &files).into()
        })
    }
}
