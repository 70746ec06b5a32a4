//! npm package files: writing generated ones and reading what the service reads from real ones.

use std::io::{self, Read};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

/// Above this size the filler dominates, and deflating what can't get smaller only costs time.
const STORE_ONLY_FROM: usize = 64 * 1024;
/// npm gives every entry of a tarball this moment (1985-10-26T08:15:00Z), for the sake of equal bytes.
const ENTRY_TIME: u64 = 499_162_500;

/// Facts of a tarball that are not in its `package.json`; npm publishes them beside the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// An `npm-shrinkwrap.json` lies at the root.
    pub(crate) shrinkwrap: bool,
    /// A `binding.gyp` lies at the root, so npm builds the package on installation.
    pub(crate) native: bool,
}

/// Packs `entries` (path below `package/`, bytes) as npm would.
pub(crate) fn write(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let total: usize = entries.iter().map(|(_, bytes)| bytes.len()).sum();
    let level = if total > STORE_ONLY_FROM { Compression::none() } else { Compression::fast() };
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::with_capacity(total + 4096), level));
    for (path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(ENTRY_TIME);
        archive
            .append_data(&mut header, format!("package/{path}"), bytes.as_slice())
            .expect("memory does not fail");
    }
    let encoder = archive.into_inner().expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

/// The `package.json` at the root of a tarball; stops reading as soon as it is found.
pub(crate) fn read_manifest(compressed: impl Read) -> io::Result<Map<String, Value>> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(compressed));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if below_root(&entry.path_bytes()) == Some(b"package.json".to_vec()) {
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
            return serde_json::from_slice(text).map_err(io::Error::other);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no package.json at the root of the tarball"))
}

/// Looks through the whole tarball for what `package.json` does not tell. Unreadable rest: nothing found.
pub(crate) fn read_traits(compressed: &[u8]) -> Traits {
    let mut traits = Traits::default();
    let mut archive = tar::Archive::new(MultiGzDecoder::new(compressed));
    let Ok(entries) = archive.entries() else { return traits };
    for entry in entries.map_while(Result::ok) {
        match below_root(&entry.path_bytes()).as_deref() {
            Some(b"npm-shrinkwrap.json") => traits.shrinkwrap = true,
            Some(b"binding.gyp") => traits.native = true,
            _ => {}
        }
    }
    traits
}

/// The path without its first folder, which is nearly always, but not always, `package`.
fn below_root(path: &[u8]) -> Option<Vec<u8>> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    path.iter().position(|byte| *byte == b'/').map(|slash| path[slash + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_tarball_reads_back() {
        let manifest = br#"{"name":"left-pad","version":"1.3.0"}"#.to_vec();
        let entries = [
            ("index.js".to_owned(), b"module.exports = 1".to_vec()),
            ("package.json".to_owned(), manifest),
            ("npm-shrinkwrap.json".to_owned(), b"{}".to_vec()),
        ];
        let packed = write(&entries);
        assert_eq!(packed, write(&entries), "the same entries give the same bytes");
        let manifest = read_manifest(packed.as_slice()).unwrap();
        assert_eq!(manifest["version"], "1.3.0");
        assert_eq!(read_traits(&packed), Traits { shrinkwrap: true, native: false });
    }
}
