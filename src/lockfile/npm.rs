//! `package-lock.json` and `npm-shrinkwrap.json`, versions 1 to 3.
//!
//! Versions 2 and 3 list every folder below `node_modules`; version 1 nests packages as they lie in one another.

use super::{Entry, Found, Mistake, clip, split_spec, tree::Node};

/// What stands before a package's name in the keys of versions 2 and 3.
const FOLDER: &str = "node_modules/";

/// Reads the file's root.
pub(super) fn read(root: &Node) -> Result<Found, Mistake> {
    root.table()?;
    // The shrinkwraps of npm before 5 have no version, and the form of version 1.
    match root.text_at("lockfileVersion")?.unwrap_or("1") {
        "2" | "3" if root.get("packages").is_some() => folders(root),
        "1" | "2" => nested(root),
        other => {
            let rule =
                format!("lockfileVersion {:?} must be 1, 2 or 3, with `packages` from 2 on", clip(other));
            Err(Mistake::at(root.get("lockfileVersion").map_or(1, |node| node.line), rule))
        }
    }
}

fn folders(root: &Node) -> Result<Found, Mistake> {
    let mut found = Found::default();
    for (folder, entry) in root.table_at("packages")? {
        entry.table()?;
        let Some((_, name)) = folder.rsplit_once(FOLDER) else { continue };
        if entry.flag("link") || entry.flag("inBundle") {
            continue;
        }
        let resolved = entry.text_at("resolved")?;
        // The folder has the alias, where there is one.
        let name = entry.text_at("name")?.unwrap_or(name);
        let version = match (entry.text_at("version")?, resolved) {
            (Some(version), _) => version,
            // Optional peers that are not installed have an entry and no version.
            (None, None) => continue,
            // What is from no registry needs none in its package.json.
            (None, Some(_)) => "",
        };
        found.npm(entry.line, name, version, with(entry, resolved)?)?;
    }
    Ok(found)
}

fn nested(root: &Node) -> Result<Found, Mistake> {
    let mut found = Found::default();
    let mut tables = vec![root.table_at("dependencies")?];
    while let Some(table) = tables.pop() {
        for (key, entry) in table {
            tables.push(entry.table().and_then(|_| entry.table_at("dependencies"))?);
            if entry.flag("bundled") {
                continue;
            }
            let written = entry.text_at("version")?;
            let written =
                written.ok_or_else(|| Mistake::at(entry.line, format!("{} has no version", clip(key))))?;
            let (name, version) =
                written.strip_prefix("npm:").and_then(split_spec).unwrap_or((key.as_str(), written));
            // What is from no registry has its place for a version.
            let resolved = if version.contains(':') { Some(version) } else { entry.text_at("resolved")? };
            found.npm(entry.line, name, version, with(entry, resolved)?)?;
        }
    }
    Ok(found)
}

fn with<'t>(entry: &'t Node, resolved: Option<&'t str>) -> Result<Entry<'t>, Mistake> {
    let optional = entry.flag("optional") || entry.flag("devOptional");
    Ok(Entry { resolved, integrity: entry.text_at("integrity")?, optional })
}
