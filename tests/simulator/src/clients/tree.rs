//! What a client has put on disk, in a form that two runs can be compared in.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Files that a client writes about its own run, not about the packages: they hold the registry's address, its
/// port or the time. They are left out rather than rewritten, since no package brings a file of these names.
const NOTES: [&str; 6] = [
    ".package-lock.json",            // npm: addresses
    ".modules.yaml",                 // pnpm: store path, time
    ".pnpm-workspace-state-v1.json", // pnpm: time
    ".yarn-integrity",               // Yarn 1: addresses
    ".yarn-state.yml",               // Yarn 4: times
    ".pnpm/lock.yaml",               // pnpm: addresses
];

/// Every file and link below a directory, by its path from there: a file as the SHA-256 of its bytes in hex, a
/// link as `-> target`. Directories show only through what is in them; the clients' own notes are left out
/// (see the constant). Links are not followed. Reads all of it, so this blocks its thread for a while.
pub fn tree(dir: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = path.strip_prefix(dir).map_err(io::Error::other)?;
            if NOTES.iter().any(|note| name == Path::new(note)) {
                continue;
            }
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                found.insert(name.to_owned(), format!("-> {}", fs::read_link(&path)?.display()));
            } else {
                found.insert(name.to_owned(), format!("{:x}", Sha256::digest(fs::read(&path)?)));
            }
        }
    }
    Ok(found)
}
