//! The change log of a feed (facts §5.4, `packagechanges`): which versions changed, in order, each with its latest
//! change only.
//!
//! Changes are found by comparison with what was there before, not reported by who makes them: whatever alters a
//! feed, by REST, by a protocol or by a test, is noticed by [`FeedState::settle`], which runs around every change and
//! before every look at the log. Packages are compared by pointer, so only those that were touched cost anything.
//!
//! Versions known from an upstream source only are no part of the feed and not logged until they are saved. Dist-tags
//! belong to no version: moving one is not logged (whether the service does is not known).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{FeedState, Npm, Nuget, Presence, Protocol, VersionKey};
use crate::content::artifact::Artifact;

/// What changed in a feed so far.
#[derive(Clone, Default)]
pub(crate) struct ChangeLog {
    npm: BTreeMap<String, Arc<Npm>>,
    nuget: BTreeMap<String, Arc<Nuget>>,
    /// The token of the latest change; 0 before the first.
    pub(crate) latest: u64,
    by_token: BTreeMap<u64, Change>,
    by_version: HashMap<VersionKey, u64>,
}

/// The latest change of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) token: u64,
    pub(crate) key: VersionKey,
    pub(crate) kind: ChangeKind,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    AddOrUpdate,
    Delete,
    PermanentDelete,
}

/// As much of a version as is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark<'a> {
    version: &'a str,
    artifact: *const Artifact,
    deprecated: Option<&'a str>,
    unlisted: bool,
    presence: &'a Presence,
}

// === impl FeedState ===

impl FeedState {
    /// Brings the recycled versions and the log up to date. Nothing is done where nothing changed.
    pub(crate) fn settle(&mut self) {
        self.hide_recycled();
        let before = Arc::clone(&self.changes);
        let npm: Vec<String> = touched(&before.npm, &self.npm);
        let nuget: Vec<String> = touched(&before.nuget, &self.nuget);
        if npm.is_empty() && nuget.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for name in &npm {
            let old = before.npm.get(name).map(Arc::as_ref);
            if let Some(old) = old {
                self.recycle_vanished_npm(name, old);
            }
            let new = self.npm.get(name).map(Arc::as_ref);
            found.extend(differences(Protocol::Npm, name, marks_npm(old), marks_npm(new)));
        }
        for key in &nuget {
            let old = before.nuget.get(key).map(Arc::as_ref);
            if let Some(old) = old {
                self.recycle_vanished_nuget(key, old);
            }
            let new = self.nuget.get(key).map(Arc::as_ref);
            found.extend(differences(Protocol::Nuget, key, marks_nuget(old), marks_nuget(new)));
        }
        drop(before);
        let log = Arc::make_mut(&mut self.changes);
        for (key, kind) in found {
            log.enter(key, kind);
        }
        remember(&mut log.npm, &self.npm, npm);
        remember(&mut log.nuget, &self.nuget, nuget);
    }
}

/// Takes over what was touched.
fn remember<P>(log: &mut BTreeMap<String, Arc<P>>, now: &BTreeMap<String, Arc<P>>, touched: Vec<String>) {
    for key in touched {
        match now.get(&key) {
            Some(package) => log.insert(key, Arc::clone(package)),
            None => log.remove(&key),
        };
    }
}

/// Keys of packages that are not the very same in both.
fn touched<P>(before: &BTreeMap<String, Arc<P>>, now: &BTreeMap<String, Arc<P>>) -> Vec<String> {
    let same = |name: &String, own: &Arc<P>| before.get(name).is_some_and(|old| Arc::ptr_eq(old, own));
    let changed = now.iter().filter(|(name, own)| !same(name, own)).map(|(name, _)| name);
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    changed.chain(gone).cloned().collect()
}

fn marks_npm(package: Option<&Npm>) -> Vec<Mark<'_>> {
    let releases = package.into_iter().flat_map(|package| package.releases.iter().chain(&package.recycled));
    let mark = releases.map(|release| Mark {
        version: &release.version,
        artifact: Arc::as_ptr(&release.artifact),
        deprecated: release.deprecated.as_deref(),
        unlisted: false,
        presence: &release.presence,
    });
    mark.collect()
}

fn marks_nuget(package: Option<&Nuget>) -> Vec<Mark<'_>> {
    let releases = package.into_iter().flat_map(|package| package.releases.iter().chain(&package.recycled));
    let mark = releases.map(|release| Mark {
        version: &release.normalised,
        artifact: Arc::as_ptr(&release.artifact),
        deprecated: None,
        unlisted: release.unlisted,
        presence: &release.presence,
    });
    mark.collect()
}

/// What became of every version that is not as it was.
fn differences(
    protocol: Protocol,
    package: &str,
    before: Vec<Mark<'_>>,
    now: Vec<Mark<'_>>,
) -> Vec<(VersionKey, ChangeKind)> {
    let before: HashMap<&str, Mark<'_>> = before.into_iter().map(|mark| (mark.version, mark)).collect();
    let changed = now.into_iter().filter(|mark| before.get(mark.version) != Some(mark));
    let saved = changed.filter(|mark| !mark.presence.unsaved);
    let entry = saved.map(|mark| {
        let (package, version) = (package.to_owned(), mark.version.to_owned());
        (VersionKey { protocol, package, version }, ChangeKind::of(mark.presence))
    });
    entry.collect()
}

// === impl ChangeLog ===

impl ChangeLog {
    fn enter(&mut self, key: VersionKey, kind: ChangeKind) {
        self.latest += 1;
        let token = self.latest;
        if let Some(earlier) = self.by_version.insert(key.clone(), token) {
            self.by_token.remove(&earlier);
        }
        self.by_token.insert(token, Change { token, key, kind });
    }

    /// The changes after a token, oldest first.
    pub(crate) fn after(&self, token: u64) -> impl Iterator<Item = &Change> {
        self.by_token.range(token.saturating_add(1)..).map(|(_, change)| change)
    }
}

// === impl ChangeKind ===

impl ChangeKind {
    fn of(presence: &Presence) -> Self {
        match (presence.purged, presence.deleted) {
            (Some(_), _) => Self::PermanentDelete,
            (None, Some(_)) => Self::Delete,
            (None, None) => Self::AddOrUpdate,
        }
    }

    /// As the service writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AddOrUpdate => "addOrUpdate",
            Self::Delete => "delete",
            Self::PermanentDelete => "permanentDelete",
        }
    }
}
