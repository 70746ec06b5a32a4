//! Archives: what one gate has stored, as one file that another takes over, where no network joins the two.
//!
//! An archive is a tar (POSIX ustar) that any tool lists:
//!
//! ```text
//! manifest.json            what is in it: identities of feeds, packages, documents
//! objects/{digest}         the bytes of each, in the manifest's order, each once
//! SHA256                   digest of every byte before its own header
//! ```
//!
//! A package's bytes are named by their storage id and a document's by its SHA-256, so each object proves itself; the last
//! entry proves the rest. [`Reading`] takes an archive piece by piece and believes nothing: entries are known by the place that the
//! manifest gives them and never by a path, and whatever is missing, too much, out of order or changed by a bit is
//! refused. This module does no I/O and knows no store.

mod reading;
mod tar;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use reading::{ArchiveError, Reading, Verified};

/// Version of the form.
pub const VERSION: u32 = 1;
/// Name of the first entry.
const MANIFEST: &str = "manifest.json";
/// Name of the last entry.
const DIGEST: &str = "SHA256";

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Seconds since 1970 when it was made.
    pub created: u64,
    /// Identities of feeds by their spellings.
    pub identities: BTreeMap<String, String>,
    /// Packages.
    pub packages: Vec<PackageItem>,
    /// Documents.
    pub documents: Vec<DocumentItem>,
    /// The objects that follow, in their order.
    pub objects: Vec<Object>,
}

/// A package version and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageItem {
    /// Its path at the gate, where the feed is named by its identity.
    pub path: String,
    /// The storage id of its bytes.
    pub object: String,
    /// Seconds since 1970 when the service named it.
    pub named_at: u64,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentItem {
    /// Its path at the gate, where the feed is named by its identity.
    pub path: String,
    /// Whether it was sent to callers without a credential.
    pub anonymous: bool,
    /// The SHA-256 of its body.
    pub object: String,
    /// Seconds since 1970 when the service sent it.
    pub fetched_at: u64,
    /// The service's `Content-Type`, where it is kept.
    pub content_type: String,
    /// The spelling of the feed in its URLs, where it is kept.
    pub spelling: String,
}

/// Bytes of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// A storage id (66 hex digits) or a SHA-256 (64).
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

/// Writes an archive: gives what comes before, between and after the objects.
pub struct Writing {
    whole: Sha256,
}

// === impl Writing ===

impl Writing {
    /// Begins an archive: the bytes up to the first object.
    ///
    /// # Errors
    /// When the manifest cannot be written as JSON.
    pub fn begin(manifest: &Manifest) -> Result<(Self, Vec<u8>), serde_json::Error> {
        let text = serde_json::to_vec_pretty(manifest)?;
        let mut writing = Self { whole: Sha256::new() };
        let mut bytes = tar::header(MANIFEST, text.len() as u64);
        bytes.extend_from_slice(&text);
        bytes.resize(bytes.len() + tar::padding(text.len() as u64), 0);
        writing.pass(&bytes);
        Ok((writing, bytes))
    }

    /// What comes before an object.
    pub fn before(&mut self, object: &Object) -> Vec<u8> {
        let header = tar::header(&path(&object.name), object.length);
        self.pass(&header);
        header
    }

    /// Takes note of bytes of an object.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
    }

    /// What comes after an object.
    pub fn after(&mut self, object: &Object) -> Vec<u8> {
        let padding = vec![0; tar::padding(object.length)];
        self.pass(&padding);
        padding
    }

    /// Ends the archive: the bytes after the last object.
    pub fn end(self) -> Vec<u8> {
        let digest = hex(&self.whole.finalize());
        let mut bytes = tar::header(DIGEST, digest.len() as u64);
        bytes.extend_from_slice(digest.as_bytes());
        bytes.resize(bytes.len() + tar::padding(digest.len() as u64) + tar::END, 0);
        bytes
    }
}

fn path(name: &str) -> String {
    format!("objects/{name}")
}

/// Lower-case digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
