//! `[[feed]]`: a feed with settings of its own.

use toml::Table;

use super::{
    changes::FeedName,
    keys::{Findings, Keys},
    organisation::AccessMode,
    outage::{FeedMode, Mode},
};

/// The name of the tables.
const TABLE: &str = "feed";

/// What one feed has of its own; `None` is the setting of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSettings {
    /// Which feed, by names or GUIDs.
    pub name: FeedName,
    /// Whether the service is asked.
    pub mode: Option<Mode>,
    /// With whose credential it is asked.
    pub access: Option<AccessMode>,
}

// === impl FeedSettings ===

impl FeedSettings {
    pub(super) fn read_all(root: &mut Table, findings: &mut Findings) -> Vec<Self> {
        Keys::each_once(root, TABLE, findings, ("name", |one| &one.name), Self::read)
    }

    fn read(mut keys: Keys<'_>) -> Option<Self> {
        let name = keys.required("name", str::parse);
        let mode = keys.optional("mode", None);
        let access = keys.optional("access", None);
        keys.finish();
        Some(Self { name: name?, mode, access })
    }

    /// The feed with its own mode, if it has one.
    pub fn own_mode(&self) -> Option<FeedMode> {
        self.mode.map(|mode| FeedMode { name: self.name.clone(), mode })
    }
}
