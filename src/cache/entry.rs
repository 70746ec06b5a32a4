//! What is kept of a document: when it came, its digest, and where its body lies. Versioned on disk.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Generation;
use crate::ident::StorageId;

/// Version byte of the stored form; another one is unreadable and so a miss.
const VERSION: u8 = 2;
/// Length of the stored form's fixed part in bytes: version, milliseconds, digest, storage id, length, the two
/// halves of the generation, the length of the content type.
const FIXED: usize = 1 + 8 + 32 + 33 + 8 + 8 + 8 + 1;

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the service sent it.
    pub fetched_at: SystemTime,
    /// SHA-256 of its body as the service sent it, decompressed.
    pub digest: [u8; 32],
    /// Length of that body in bytes.
    pub length: u64,
    /// Where the body is.
    pub body: Body,
    /// When it was asked for, in writes.
    pub generation: Generation,
    /// What the request for it said, and the answer to it.
    pub origin: Origin,
}

/// What is remembered of the exchange that brought a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The answer's `Content-Type`, at most 255 bytes; empty when the gate sets its own.
    pub content_type: String,
    /// Organisation and path up to the feed as they were asked for, where the document's URLs repeat them.
    pub spelling: String,
}

/// Where a document's body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Gzipped, in the blob store under this id.
    Stored(StorageId),
    /// In memory only, since the store refused it.
    Memory(Bytes),
}

// === impl Entry ===

impl Entry {
    /// Bytes of memory that the body takes.
    pub(super) fn memory(&self) -> usize {
        let body = match &self.body {
            Body::Stored(_) => 0,
            Body::Memory(body) => body.len(),
        };
        body + self.origin.content_type.len() + self.origin.spelling.len()
    }

    /// The stored form; `None` when the body is in memory only.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let Body::Stored(id) = &self.body else { return None };
        let Origin { content_type, spelling } = &self.origin;
        let millis = self.fetched_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut stored = Vec::with_capacity(FIXED + content_type.len() + spelling.len());
        stored.push(VERSION);
        stored.extend_from_slice(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
        stored.extend_from_slice(&self.digest);
        stored.extend_from_slice(id.as_bytes());
        stored.extend_from_slice(&self.length.to_be_bytes());
        stored.extend_from_slice(&self.generation.removals.to_be_bytes());
        stored.extend_from_slice(&self.generation.changes.to_be_bytes());
        stored.push(u8::try_from(content_type.len()).ok()?);
        stored.extend_from_slice(content_type.as_bytes());
        stored.extend_from_slice(spelling.as_bytes());
        Some(stored)
    }

    /// Reads the stored form.
    pub fn decode(stored: &[u8]) -> Option<Self> {
        let (fixed, text) = stored.split_at_checked(FIXED)?;
        if fixed[0] != VERSION {
            return None;
        }
        let number = |at: usize| Some(u64::from_be_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
        let (content_type, spelling) = text.split_at_checked(usize::from(fixed[FIXED - 1]))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Self {
            fetched_at: UNIX_EPOCH.checked_add(Duration::from_millis(number(1)?))?,
            digest: fixed.get(9..41)?.try_into().ok()?,
            body: Body::Stored(StorageId::from_bytes(fixed.get(41..74)?)?),
            length: number(74)?,
            generation: Generation { removals: number(82)?, changes: number(90)? },
            origin: Origin { content_type: text(content_type)?, spelling: text(spelling)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Entry, FIXED, Generation, Origin};
    use crate::ident::StorageId;
    use std::time::{Duration, UNIX_EPOCH};

    fn entry() -> Entry {
        Entry {
            fetched_at: UNIX_EPOCH + Duration::from_millis(0x0102_0304_0506),
            digest: [0xAA; 32],
            length: 9,
            body: Body::Stored(StorageId::of_file([0xBB; 32])),
            generation: Generation { removals: 1, changes: 2 },
            origin: Origin { content_type: "a/b".to_owned(), spelling: "o/f".to_owned() },
        }
    }

    #[test]
    fn the_stored_form_is_fixed() {
        let mut golden = vec![2, 0, 0, 1, 2, 3, 4, 5, 6];
        golden.extend([0xAA; 32]);
        golden.extend([0xBB; 32]);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 0, 9]);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        golden.extend([3, b'a', b'/', b'b', b'o', b'/', b'f']);
        assert_eq!(entry().encode(), Some(golden.clone()));
        assert_eq!(Entry::decode(&golden), Some(entry()));
    }

    #[test]
    fn anything_else_is_unreadable() {
        let good = entry().encode().unwrap();
        for length in 0..FIXED + 3 {
            assert_eq!(Entry::decode(&good[..length]), None);
        }
        let mut other_version = good;
        other_version[0] = 1;
        assert_eq!(Entry::decode(&other_version), None);
    }
}
