//! `pnpm-lock.yaml`, versions 6 and 9.
//!
//! Both list packages by `name@version`, in version 6 with a slash before and peers in parentheses behind it. From
//! pnpm 11 on the file may begin with a document of its own for the tools that pnpm itself needs: it is read too.

use std::collections::HashMap;

use super::{Entry, Found, Mistake, clip, split_spec, tree::Node};

/// Reads the file's documents.
pub(super) fn read(documents: &[Node]) -> Result<Found, Mistake> {
    let mut found = Found::default();
    if documents.is_empty() {
        return Err(Mistake::at(1, "is empty"));
    }
    for document in documents {
        document.table()?;
        let version = document.text_at("lockfileVersion")?.unwrap_or_default();
        if !["6", "9"].contains(&version.split('.').next().unwrap_or_default()) {
            let line = document.get("lockfileVersion").map_or(document.line, |node| node.line);
            return Err(Mistake::at(line, format!("lockfileVersion {:?} must be 6 or 9", clip(version))));
        }
        let optional = optional(document)?;
        for (key, entry) in document.table_at("packages")? {
            entry.table()?;
            read_package(&mut found, key, entry, optional.get(key.as_str()).copied().unwrap_or_default())?;
        }
    }
    Ok(found)
}

/// Version 9 says in `snapshots`, for each set of peers, whether a package is optional: it is when all are.
fn optional(document: &Node) -> Result<HashMap<&str, bool>, Mistake> {
    let mut optional = HashMap::new();
    for (key, snapshot) in document.table_at("snapshots")? {
        *optional.entry(without_peers(key)).or_insert(true) &= snapshot.flag("optional");
    }
    Ok(optional)
}

fn read_package(found: &mut Found, key: &str, entry: &Node, optional: bool) -> Result<(), Mistake> {
    let spec = without_peers(key.strip_prefix('/').unwrap_or(key));
    let Some(resolution) = entry.get("resolution") else {
        return Err(Mistake::at(entry.line, format!("{} has no `resolution`", clip(key))));
    };
    let (name, version) = split_spec(spec).unwrap_or((spec, ""));
    // Where the key holds a place, these fields tell.
    let name = entry.text_at("name")?.unwrap_or(name);
    if let Some(place) = place(resolution)? {
        found.foreign(name, place);
        return Ok(());
    }
    if resolution.get("directory").is_some() || version.starts_with("file:") || version.starts_with("link:") {
        return Ok(());
    }
    let version = entry.text_at("version")?.unwrap_or(version);
    let entry_of = Entry {
        resolved: resolution.text_at("tarball")?,
        integrity: resolution.text_at("integrity")?,
        optional: optional || entry.flag("optional"),
    };
    found.npm(entry.line, name, version, entry_of)
}

/// Where a package comes from that is in no registry.
fn place(resolution: &Node) -> Result<Option<&str>, Mistake> {
    if let Some(repository) = resolution.text_at("repo")? {
        return Ok(Some(repository));
    }
    let kind = resolution.text_at("type")?;
    Ok(kind.filter(|kind| *kind != "directory"))
}

fn without_peers(key: &str) -> &str {
    key.split('(').next().unwrap_or_default()
}
