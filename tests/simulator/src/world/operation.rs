//! What can be done to a version, the same for both protocols (facts §5.2).

use std::sync::Arc;

use super::{FeedState, Presence, Protocol, VersionKey};
use crate::clock;

/// A change of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Sets npm's message, or takes it away.
    Deprecate(Option<String>),
    /// Lists or unlists a NuGet version.
    List(bool),
    /// Puts the version into the view of that name.
    Promote(String),
    /// To the recycle bin.
    Delete,
    /// Back from the recycle bin.
    Restore,
    /// Out of the feed for good.
    Purge,
    /// From an upstream source into the feed.
    Save,
}

/// The parts of a version that operations change.
struct Levers<'a> {
    presence: &'a mut Presence,
    deprecated: Option<&'a mut Option<String>>,
    unlisted: Option<&'a mut bool>,
}

// === impl Operation ===

impl Operation {
    /// Whether the operation makes sense for a version in this state.
    pub(crate) fn suits(&self, presence: &Presence) -> bool {
        match self {
            Self::Deprecate(_) | Self::List(_) | Self::Promote(_) | Self::Delete => !presence.is_gone(),
            Self::Restore => presence.deleted.is_some() && presence.purged.is_none(),
            Self::Purge => presence.purged.is_none(),
            Self::Save => presence.unsaved,
        }
    }

    fn apply(&self, levers: Levers<'_>) {
        let presence = levers.presence;
        match self {
            Self::Deprecate(message) => {
                if let Some(deprecated) = levers.deprecated {
                    deprecated.clone_from(message);
                }
            }
            Self::List(listed) => {
                if let Some(unlisted) = levers.unlisted {
                    *unlisted = !listed;
                }
            }
            Self::Promote(view) if presence.is_in(view) || view.eq_ignore_ascii_case("local") => {}
            Self::Promote(view) => presence.views.push(view.clone()),
            Self::Delete => presence.deleted = Some(clock::now()),
            Self::Restore => presence.deleted = None,
            Self::Purge => {
                let now = clock::now();
                presence.deleted.get_or_insert(now);
                presence.purged = Some(now);
            }
            Self::Save => presence.unsaved = false,
        }
    }
}

// === impl FeedState ===

impl FeedState {
    /// Applies an operation to a version, wherever it lies. A key of nothing does nothing.
    pub(crate) fn apply(&mut self, key: &VersionKey, operation: &Operation) {
        if let Some(levers) = self.levers(key) {
            operation.apply(levers);
        }
    }

    fn levers(&mut self, key: &VersionKey) -> Option<Levers<'_>> {
        match key.protocol {
            Protocol::Npm => {
                let package = Arc::make_mut(self.npm.get_mut(&key.package)?);
                let mut releases = package.releases.iter_mut().chain(&mut package.recycled);
                let release = releases.find(|release| release.version == key.version)?;
                let deprecated = Some(&mut release.deprecated);
                Some(Levers { presence: &mut release.presence, deprecated, unlisted: None })
            }
            Protocol::Nuget => {
                let package = Arc::make_mut(self.nuget.get_mut(&key.package)?);
                let mut releases = package.releases.iter_mut().chain(&mut package.recycled);
                let release = releases.find(|release| release.normalised == key.version)?;
                let unlisted = Some(&mut release.unlisted);
                Some(Levers { presence: &mut release.presence, deprecated: None, unlisted })
            }
        }
    }
}
