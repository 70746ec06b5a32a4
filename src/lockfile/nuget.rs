//! NuGet's three: `packages.lock.json`, `packages.config` and `project.assets.json`.

use std::fmt;

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

use super::{
    Found, Integrity, Locked, LockedPackage, Mistake, clip,
    tree::{Lines, Node},
};
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
    let (mut found, lines) = (Found::default(), Lines::of(text));
    let mut reader = Reader::from_str(text);
    let (mut depth, mut has_root) = (0, false);
    loop {
        let line = lines.at(usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX));
        let event = reader.read_event().map_err(|error| not_xml(line, error))?;
        let (tag, levels) = match event {
            Event::Start(tag) => (tag, 1),
            Event::Empty(tag) => (tag, 0),
            Event::End(_) => {
                depth -= 1;
                continue;
            }
            Event::DocType(_) => return Err(not_xml(line, "it has a DTD")),
            Event::Eof if depth > 0 || !has_root => return Err(not_xml(line, "it ends too early")),
            Event::Eof => return Ok(found),
            _ => continue,
        };
        match (depth, tag.local_name().as_ref()) {
            (0, "packages") if !has_root => has_root = true,
            (0, _) => return Err(Mistake::at(line, "its root must be `packages`")),
            (1, "package") => found.configured(line, &tag)?,
            _ => {}
        }
        depth += levels;
    }
}

/// The reason may quote a tag, which may be most of the file.
fn not_xml(line: usize, why: impl fmt::Display) -> Mistake {
    let why = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Mistake::at(line, format!("is not XML: {}", clip(&why)))
}

// === impl Found ===

impl Found {
    /// Takes a package of a `packages.config`.
    fn configured(&mut self, line: usize, tag: &BytesStart<'_>) -> Result<(), Mistake> {
        let (mut id, mut version) = (None, None);
        // Without the crate's check for doubles, whose time grows with the square of their number.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| not_xml(line, error))?;
            let place = match attribute.key.as_ref() {
                "id" => &mut id,
                "version" => &mut version,
                _ => continue,
            };
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            *place = Some(value.map_err(|error| not_xml(line, error))?);
        }
        let (Some(id), Some(version)) = (id, version) else {
            return Err(Mistake::at(line, "a package needs `id` and `version`"));
        };
        self.nuget(line, &id, &version, None)
    }

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
