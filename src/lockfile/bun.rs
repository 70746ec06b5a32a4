//! `bun.lock`: JSON with comments and trailing commas.
//!
//! A package is a list: `name@version`, the tarball's URL (empty for the usual one), what is known of it, its integrity.
//! What comes from elsewhere has a place for the version and no URL: what is known of it comes second.

use super::{
    Entry, Found, Mistake, clip,
    origin::{self, Origin},
    split_spec,
    tree::{Node, Value},
};

/// What a package says when it is for some platforms only.
const PLATFORMS: [&str; 3] = ["os", "cpu", "libc"];

/// Reads the file's root.
pub(super) fn read(root: &Node) -> Result<Found, Mistake> {
    let mut found = Found::default();
    root.table()?;
    let version = root.text_at("lockfileVersion")?.unwrap_or_default();
    if !["0", "1"].contains(&version) {
        let line = root.get("lockfileVersion").map_or(root.line, |node| node.line);
        return Err(Mistake::at(line, format!("lockfileVersion {:?} must be 0 or 1", clip(version))));
    }
    for (key, entry) in root.table_at("packages")? {
        let refuse = |rule: &str| Mistake::at(entry.line, format!("{}: {rule}", clip(key)));
        let Value::List(parts) = &entry.value else { return Err(refuse("must be a list")) };
        let spec = parts.first().ok_or_else(|| refuse("is an empty list"))?.text()?;
        let (name, version) = split_spec(spec).ok_or_else(|| refuse("is not `name@version`"))?;
        let second_is_text = parts.get(1).is_none_or(|part| matches!(part.value, Value::Text(_)));
        if version.contains(':') || !second_is_text {
            let integrity = parts.get(2).map(Node::text).transpose()?;
            found.placed(entry.line, name, Entry { resolved: Some(version), integrity, optional: false })?;
            continue;
        }
        let [_, url, known, rest @ ..] = parts.as_slice() else {
            return Err(refuse("must have at least three parts"));
        };
        if known.flag("bundled") {
            continue;
        }
        let url = Some(url.text()?)
            .filter(|url| Origin::of(url) == Origin::Registry && origin::path(url).is_some());
        let integrity = rest.first().map(Node::text).transpose()?.filter(|text| !text.is_empty());
        let optional = PLATFORMS.iter().any(|platform| known.get(platform).is_some());
        found.npm(entry.line, name, version, Entry { resolved: url, integrity, optional })?;
    }
    Ok(found)
}
