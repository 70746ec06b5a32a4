//! Changes that a test makes to a running service, addressed as `organisation[/project]/feed`.
//!
//! An address or a package that does not exist is a mistake of the test, so these fail loudly.

use std::sync::Arc;

use super::{FeedState, NpmRelease, NugetRelease, World};
use crate::content::artifact::Artifact;
use crate::content::npm::NpmPackage;
use crate::content::nuget::NugetPackage;
use crate::content::organisation::Scope;

// === impl World ===

impl World {
    pub(crate) fn add_npm(&mut self, feed: &str, package: &NpmPackage) {
        let seed = self.seed;
        self.feed_mut(feed).add_npm(seed, package);
    }

    pub(crate) fn add_nuget(&mut self, feed: &str, package: &NugetPackage) {
        let seed = self.seed;
        self.feed_mut(feed).add_nuget(seed, package);
    }

    /// Removes one version; the package goes with its last one.
    pub(crate) fn remove_npm(&mut self, feed: &str, name: &str, version: &str) {
        let feed = self.feed_mut(feed);
        let package = feed.npm_mut(name);
        package.releases.retain(|release| release.version != version);
        if package.releases.is_empty() {
            feed.npm.remove(name);
        }
    }

    /// Removes one version; the package goes with its last one.
    pub(crate) fn remove_nuget(&mut self, feed: &str, id: &str, version: &str) {
        let feed = self.feed_mut(feed);
        let key = id.to_ascii_lowercase();
        let package = Arc::make_mut(feed.nuget.get_mut(&key).expect("the package exists"));
        package.releases.retain(|release| release.version != version);
        if package.releases.is_empty() {
            feed.nuget.remove(&key);
        }
    }

    pub(crate) fn npm_release_mut(&mut self, feed: &str, name: &str, version: &str) -> &mut NpmRelease {
        let releases = &mut self.feed_mut(feed).npm_mut(name).releases;
        let found = releases.iter_mut().find(|release| release.version == version);
        found.unwrap_or_else(|| panic!("no {name}@{version} in {feed}"))
    }

    pub(crate) fn nuget_release_mut(&mut self, feed: &str, id: &str, version: &str) -> &mut NugetRelease {
        let packages = &mut self.feed_mut(feed).nuget;
        let package = packages.get_mut(&id.to_ascii_lowercase()).map(Arc::make_mut);
        let mut releases = package.into_iter().flat_map(|package| &mut package.releases);
        let found = releases.find(|release| release.version == version);
        found.unwrap_or_else(|| panic!("no {id} {version} in {feed}"))
    }

    /// Changes what every credential of that label may do.
    pub(crate) fn set_scope(&mut self, label: &str, scope: Scope) {
        let tokens = self.organisations.iter_mut().flat_map(|organisation| &mut organisation.tokens);
        let matching: Vec<_> = tokens.filter(|token| token.label == label).collect();
        assert!(!matching.is_empty(), "no credential is labelled {label}");
        for token in matching {
            token.scope = scope;
        }
        self.revision += 1;
    }

    pub(crate) fn npm_artifact(&self, feed: &str, name: &str, version: &str) -> Arc<Artifact> {
        let package = self.feed(feed).npm.get(name);
        let release = package.and_then(|package| package.release(version, None));
        Arc::clone(&release.unwrap_or_else(|| panic!("no {name}@{version} in {feed}")).artifact)
    }

    pub(crate) fn nuget_artifact(&self, feed: &str, id: &str, version: &str) -> Arc<Artifact> {
        let package = self.feed(feed).nuget_package(id);
        let release = package.and_then(|package| package.release(version, None));
        Arc::clone(&release.unwrap_or_else(|| panic!("no {id} {version} in {feed}")).artifact)
    }

    pub(crate) fn feed(&self, address: &str) -> &FeedState {
        let (organisation, feed) = self.locate(address);
        &self.organisations[organisation].feeds[feed]
    }

    /// The feed for a change: whatever was rendered before is void from here on.
    pub(crate) fn feed_mut(&mut self, address: &str) -> &mut FeedState {
        let (organisation, feed) = self.locate(address);
        self.revision += 1;
        &mut self.organisations[organisation].feeds[feed]
    }

    fn locate(&self, address: &str) -> (usize, usize) {
        let parts: Vec<&str> = address.split('/').collect();
        let (organisation, project, feed) = match parts[..] {
            [organisation, feed] => (organisation, None, feed),
            [organisation, project, feed] => (organisation, Some(project), feed),
            _ => panic!("{address} is not organisation[/project]/feed"),
        };
        let found = self.organisation(organisation);
        let found = found.and_then(|(index, own)| own.feed(project, feed).map(|(feed, _)| (index, feed)));
        found.unwrap_or_else(|| panic!("no feed {address}"))
    }
}
