//! Deleted versions: out of the readers' sight, in the way of writers.
//!
//! A version that vanishes from a feed, whoever took it away, goes to its package's recycled ones; its number stays
//! taken for ever (facts §0.9). Readers look at `releases` and never meet them. For the time of a change they stand
//! among the others, so that whoever publishes finds the number taken and whoever restores finds the version.

use std::sync::Arc;

use super::{FeedState, Npm, Nuget, Presence};
use crate::clock;
use crate::content::version;

/// What the two protocols' versions have in common here.
trait Recyclable: Clone {
    fn number(&self) -> &str;
    fn presence(&self) -> &Presence;
    fn presence_mut(&mut self) -> &mut Presence;
}

// === impl FeedState ===

impl FeedState {
    /// Puts deleted versions among the others.
    pub(super) fn show_recycled(&mut self) {
        for package in self.npm.values_mut().filter(|package| !package.recycled.is_empty()) {
            let package = Arc::make_mut(package);
            package.releases.append(&mut package.recycled);
        }
        for package in self.nuget.values_mut().filter(|package| !package.recycled.is_empty()) {
            let package = Arc::make_mut(package);
            package.releases.append(&mut package.recycled);
            package.releases.sort_by(|left, right| version::compare(&left.normalised, &right.normalised));
        }
    }

    /// Puts deleted versions apart again.
    pub(super) fn hide_recycled(&mut self) {
        for package in self.npm.values_mut() {
            if package.releases.iter().any(|release| release.presence.is_gone()) {
                let Npm { releases, recycled, .. } = Arc::make_mut(package);
                recycled.extend(releases.extract_if(.., |release| release.presence.is_gone()));
            }
        }
        for package in self.nuget.values_mut() {
            if package.releases.iter().any(|release| release.presence.is_gone()) {
                let Nuget { releases, recycled, .. } = Arc::make_mut(package);
                recycled.extend(releases.extract_if(.., |release| release.presence.is_gone()));
            }
        }
    }

    /// Keeps what `before` had and `self` has no more.
    pub(super) fn recycle_vanished_npm(&mut self, name: &str, before: &Npm) {
        let now = self.npm.get(name).map(Arc::as_ref);
        let (held, gone) = now.map_or((&[][..], &[][..]), |now| (&now.releases, &now.recycled));
        let vanished = vanished([&before.releases, &before.recycled], [held, gone]);
        if !vanished.is_empty() {
            self.npm_mut(name).recycled.extend(vanished);
        }
    }

    /// Keeps what `before` had and `self` has no more.
    pub(super) fn recycle_vanished_nuget(&mut self, key: &str, before: &Nuget) {
        let now = self.nuget.get(key).map(Arc::as_ref);
        let (held, gone) = now.map_or((&[][..], &[][..]), |now| (&now.releases, &now.recycled));
        let vanished = vanished([&before.releases, &before.recycled], [held, gone]);
        if !vanished.is_empty() {
            let package = Arc::make_mut(self.nuget.entry(key.to_owned()).or_default());
            package.id.clone_from(&before.id);
            package.recycled.extend(vanished);
        }
    }
}

/// The versions of `before` whose numbers are not in `now`, marked as deleted. What was never saved is forgotten.
fn vanished<R: Recyclable>(before: [&[R]; 2], now: [&[R]; 2]) -> Vec<R> {
    let numbers: std::collections::HashSet<&str> =
        now.into_iter().flatten().map(Recyclable::number).collect();
    let gone = before.into_iter().flatten();
    let gone = gone.filter(|release| !release.presence().unsaved && !numbers.contains(release.number()));
    gone.cloned()
        .map(|mut release| {
            release.presence_mut().deleted.get_or_insert_with(clock::now);
            release
        })
        .collect()
}

// === impl NpmRelease ===

impl Recyclable for super::NpmRelease {
    fn number(&self) -> &str {
        &self.version
    }

    fn presence(&self) -> &Presence {
        &self.presence
    }

    fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }
}

// === impl NugetRelease ===

impl Recyclable for super::NugetRelease {
    fn number(&self) -> &str {
        &self.normalised
    }

    fn presence(&self) -> &Presence {
        &self.presence
    }

    fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::npm::{NpmPackage, NpmVersion};
    use crate::content::nuget::{NugetPackage, NugetVersion};
    use crate::content::organisation::Feed;
    use crate::content::seed::Seed;
    use crate::world::Protocol;

    fn feed() -> FeedState {
        let npm = NpmPackage::new("left-pad")
            .version("1.2.0", NpmVersion::new())
            .version("1.3.0", NpmVersion::new())
            .version("9.0.0", NpmVersion::new().unsaved());
        let nuget = NugetPackage::new("Contoso.Core").version("1.0", NugetVersion::new());
        FeedState::build(Seed(7), "contoso", &Feed::new("main").npm(npm).nuget(nuget)).unwrap()
    }

    #[test]
    fn what_vanishes_is_deleted_and_its_number_stays_taken() {
        let mut feed = feed();
        feed.npm_mut("left-pad").releases.retain(|release| release.version == "1.2.0");
        feed.nuget.clear();
        feed.settle();
        let rows = [
            (Protocol::Npm, "left-pad", "1.2.0", Some(false)),
            (Protocol::Npm, "left-pad", "1.3.0", Some(true)),
            (Protocol::Npm, "left-pad", "9.0.0", None),
            (Protocol::Nuget, "contoso.core", "1.0.0", Some(true)),
        ];
        for (protocol, name, version, expected) in rows {
            let package = feed.package(protocol, name).unwrap();
            let gone = package.version(version).map(|own| own.release.presence().is_gone());
            assert_eq!(gone, expected, "{name} {version}");
        }
        assert!(feed.npm["left-pad"].release("1.3.0", None).is_none(), "readers don't see it");
        feed.show_recycled();
        assert!(feed.npm["left-pad"].release("1.3.0", None).is_some(), "writers do");
        assert_eq!(feed.nuget["contoso.core"].id, "Contoso.Core");
    }

    #[test]
    fn showing_and_hiding_changes_nothing() {
        let mut feed = feed();
        feed.npm.clear();
        feed.settle();
        let token = feed.changes.latest;
        feed.show_recycled();
        feed.settle();
        assert_eq!(feed.changes.latest, token);
        assert_eq!(feed.npm["left-pad"].recycled.len(), 2);
    }
}
