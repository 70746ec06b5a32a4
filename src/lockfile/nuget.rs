//! NuGet's three: `packages.lock.json`, `packages.config` and `project.assets.json`.

use roxmltree::Document;

use super::{Found, Integrity, Locked, LockedPackage, Mistake, clip, tree::Node};
use crate::ident::{NugetId, NugetVersion};

/// Reads a `packages.lock.json`: dependencies by target framework.
pub(super) fn read_lock(root: &Node) -> Result<Found, Mistake> {
    let mut found = Found::default();
    root.table()?;
    for (_, target) in root.table_at("dependencies")? {
        for (id, entry) in target.table()? {
            entry.table()?;
            if entry.text_at("type")? == Some("Project") {
                continue;
            }
            let version = entry.text_at("resolved")?;
            let version =
                version.ok_or_else(|| Mistake::at(entry.line, format!("{}: has no `resolved`", clip(id))))?;
            found.nuget(entry.line, id, version, entry.text_at("contentHash")?)?;
        }
    }
    Ok(found)
}

/// Reads a `project.assets.json`: what the last restore has put together, and what it only downloaded.
pub(super) fn read_assets(root: &Node) -> Result<Found, Mistake> {
    let mut found = Found::default();
    root.table()?;
    for (key, entry) in root.table_at("libraries")? {
        if entry.text_at("type")? != Some("package") {
            continue;
        }
        let (id, version) = key
            .split_once('/')
            .ok_or_else(|| Mistake::at(entry.line, format!("{:?} is not `id/version`", clip(key))))?;
        found.nuget(entry.line, id, version, entry.text_at("sha512")?)?;
    }
    let frameworks = root.get("project").map_or(Ok(&[][..]), |project| project.table_at("frameworks"))?;
    for list in frameworks.iter().filter_map(|(_, framework)| framework.get("downloadDependencies")) {
        for entry in list.list()? {
            let [Some(id), Some(range)] = [entry.text_at("name")?, entry.text_at("version")?] else {
                return Err(Mistake::at(entry.line, "has no `name` or no `version`"));
            };
            // `[1.0.0, 1.0.0]`: exactly this one.
            let version = range.trim_start_matches('[').split([',', ']']).next().unwrap_or_default();
            found.nuget(entry.line, id, version, None)?;
        }
    }
    Ok(found)
}

/// Reads a `packages.config`.
pub(super) fn read_config(text: &str) -> Result<Found, Mistake> {
    let mut found = Found::default();
    let document = Document::parse(text).map_err(|error| {
        Mistake::at(usize::try_from(error.pos().row).unwrap_or(1), format!("is not XML: {error}"))
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "packages" {
        return Err(Mistake::at(1, "its root must be `packages`"));
    }
    for package in root.children().filter(|node| node.tag_name().name() == "package") {
        let line = usize::try_from(document.text_pos_at(package.range().start).row).unwrap_or(1);
        let [Some(id), Some(version)] = ["id", "version"].map(|name| package.attribute(name)) else {
            return Err(Mistake::at(line, "a package needs `id` and `version`"));
        };
        found.nuget(line, id, version, None)?;
    }
    Ok(found)
}

// === impl Found ===

impl Found {
    fn nuget(&mut self, line: usize, id: &str, version: &str, hash: Option<&str>) -> Result<(), Mistake> {
        let refuse = |rule: String| Mistake::at(line, format!("{}: {rule}", clip(id)));
        let version = NugetVersion::parse(version).map_err(|error| refuse(error.to_string()))?;
        let integrity = hash.map(Integrity::of_nuget).transpose().map_err(refuse)?;
        let id = NugetId::parse(id).map_err(|error| Mistake::at(line, error.to_string()))?;
        let package = LockedPackage::Nuget { id, version };
        self.packages.push(Locked { package, integrity, resolved: None, optional: false });
        Ok(())
    }
}
