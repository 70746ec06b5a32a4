//! Changes of a running service: the one way for all of them, and those of tests, addressed as
//! `organisation[/project]/feed`.
//!
//! An address or a package that does not exist is a mistake of the test, so these fail loudly.

use std::sync::Arc;

use super::{FeedState, Operation, OrganisationState, PackageEntry, Protocol, World};
use crate::content::artifact::Artifact;
use crate::content::npm::NpmPackage;
use crate::content::nuget::NugetPackage;
use crate::content::organisation::Scope;

// === impl World ===

impl World {
    /// Changes a feed. Deleted versions stand among the others meanwhile; the change log is brought up to date after.
    pub(crate) fn edit<T>(
        &mut self,
        (organisation, feed): (usize, usize),
        change: impl FnOnce(&mut FeedState) -> T,
    ) -> T {
        self.revision += 1;
        let feed = &mut self.organisations[organisation].feeds[feed];
        feed.settle();
        feed.show_recycled();
        let outcome = change(feed);
        feed.settle();
        outcome
    }

    pub(crate) fn add_npm(&mut self, feed: &str, package: &NpmPackage) {
        let seed = self.seed;
        self.edit(self.locate(feed), |feed| feed.add_npm(seed, package));
    }

    pub(crate) fn add_nuget(&mut self, feed: &str, package: &NugetPackage) {
        let seed = self.seed;
        self.edit(self.locate(feed), |feed| feed.add_nuget(seed, package));
    }

    /// Applies an operation to one version.
    pub(crate) fn operate(
        &mut self,
        feed: &str,
        (protocol, name, version): (Protocol, &str, &str),
        operation: &Operation,
    ) {
        let found = self.feed(feed).package(protocol, name);
        let key = found.and_then(|found| found.version(version).map(|version| found.key_of(version)));
        let key = key.unwrap_or_else(|| panic!("no {name} {version} in {feed}"));
        self.edit(self.locate(feed), |feed| feed.apply(&key, operation));
    }

    /// Gives a feed another name. Credentials that were narrowed to it follow.
    pub(crate) fn rename(&mut self, (organisation, feed): (usize, usize), name: &str) {
        let organisation = &mut self.organisations[organisation];
        let old = std::mem::replace(&mut organisation.feeds[feed].own.name, name.to_owned());
        let narrowed = organisation.tokens.iter_mut().filter_map(|token| token.feeds.as_mut()).flatten();
        narrowed.filter(|own| own.eq_ignore_ascii_case(&old)).for_each(|own| name.clone_into(own));
        organisation.touch(feed);
        self.revision += 1;
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

    /// The file of a version, deleted ones included.
    pub(crate) fn artifact(
        &self,
        feed: &str,
        protocol: Protocol,
        name: &str,
        version: &str,
    ) -> Arc<Artifact> {
        let package = self.package(feed, protocol, name);
        let found = package.version(version).unwrap_or_else(|| panic!("no {name} {version} in {feed}"));
        Arc::clone(found.release.artifact())
    }

    pub(crate) fn package(&self, feed: &str, protocol: Protocol, name: &str) -> PackageEntry<'_> {
        let found = self.feed(feed).package(protocol, name);
        found.unwrap_or_else(|| panic!("no {name} in {feed}"))
    }

    pub(crate) fn feed(&self, address: &str) -> &FeedState {
        let (organisation, feed) = self.locate(address);
        &self.organisations[organisation].feeds[feed]
    }

    /// The feed for a change: whatever was rendered before is void from here on. Versions that are changed through
    /// this enter the log with the next change of the feed or the next look at its log.
    pub(crate) fn feed_mut(&mut self, address: &str) -> &mut FeedState {
        let (organisation, feed) = self.locate(address);
        self.revision += 1;
        let feed = &mut self.organisations[organisation].feeds[feed];
        feed.settle();
        feed
    }

    /// The feed for a look at its log.
    pub(crate) fn settled(&mut self, (organisation, feed): (usize, usize)) -> &FeedState {
        let feed = &mut self.organisations[organisation].feeds[feed];
        feed.settle();
        feed
    }

    pub(crate) fn locate(&self, address: &str) -> (usize, usize) {
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

// === impl OrganisationState ===

impl OrganisationState {
    /// Gives a feed the next token of changes of feeds.
    pub(crate) fn touch(&mut self, feed: usize) {
        self.feed_token += 1;
        self.feeds[feed].token = self.feed_token;
    }
}
