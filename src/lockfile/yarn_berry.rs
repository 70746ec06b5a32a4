//! `yarn.lock` of Yarn 2 and later.
//!
//! Its checksums are of Yarn's own zip of a package and not of what a registry sends, so that nothing can be checked
//! against them before the client has made that zip.

use percent_encoding::percent_decode_str;

use super::{Entry, Found, Mistake, clip, split_spec, tree::Node};

/// The entry that only Yarn 2 and later write.
const METADATA: &str = "__metadata";
/// The place of a tarball that is not where registries have it, in a resolution.
const ARCHIVE: &str = "__archiveUrl=";

/// Whether a `yarn.lock` is one of these.
pub(super) fn is_one(text: &str) -> bool {
    text.lines().any(|line| line.starts_with(METADATA))
}

/// Reads the file's only document.
pub(super) fn read(documents: &[Node]) -> Result<Found, Mistake> {
    let mut found = Found::default();
    let [document] = documents else {
        return Err(Mistake::at(1, "must have one document"));
    };
    for (key, entry) in document.table()?.iter().filter(|(key, _)| key != METADATA) {
        entry.table()?;
        let refuse = |rule: &str| Mistake::at(entry.line, format!("{}: {rule}", clip(key)));
        let resolution = entry.text_at("resolution")?.ok_or_else(|| refuse("has no `resolution`"))?;
        let (name, place) =
            split_spec(resolution).ok_or_else(|| refuse("its resolution is not `name@protocol:place`"))?;
        let Some(place) = place.strip_prefix("npm:") else {
            found.placed(entry.line, name, Entry { resolved: Some(place), ..Entry::default() })?;
            continue;
        };
        let (version, bindings) = place.split_once("::").unwrap_or((place, ""));
        let archive = bindings.split('&').find_map(|binding| binding.strip_prefix(ARCHIVE));
        let archive = archive.map(|url| percent_decode_str(url).decode_utf8_lossy());
        let optional = entry.get("conditions").is_some();
        found.npm(
            entry.line,
            name,
            version,
            Entry { resolved: archive.as_deref(), integrity: None, optional },
        )?;
    }
    Ok(found)
}
