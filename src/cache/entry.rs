//! What is kept of a document: when it came, its digest, and where its body lies. Versioned on disk.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::ident::StorageId;

/// Version byte of the stored form; another one is unreadable and so a miss.
const VERSION: u8 = 1;
/// Length of the stored form in bytes: version, milliseconds, digest, storage id, length.
const STORED: usize = 1 + 8 + 32 + 33 + 8;

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
        match &self.body {
            Body::Stored(_) => 0,
            Body::Memory(body) => body.len(),
        }
    }

    /// The stored form; `None` when the body is in memory only.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let Body::Stored(id) = &self.body else { return None };
        let millis = self.fetched_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut stored = Vec::with_capacity(STORED);
        stored.push(VERSION);
        stored.extend_from_slice(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
        stored.extend_from_slice(&self.digest);
        stored.extend_from_slice(id.as_bytes());
        stored.extend_from_slice(&self.length.to_be_bytes());
        Some(stored)
    }

    /// Reads the stored form.
    pub(super) fn decode(stored: &[u8]) -> Option<Self> {
        let stored: &[u8; STORED] = stored.try_into().ok()?;
        if stored[0] != VERSION {
            return None;
        }
        let number = |at: usize| Some(u64::from_be_bytes(stored.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            fetched_at: UNIX_EPOCH.checked_add(Duration::from_millis(number(1)?))?,
            digest: stored.get(9..41)?.try_into().ok()?,
            body: Body::Stored(StorageId::from_bytes(stored.get(41..74)?)?),
            length: number(74)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Entry, STORED};
    use crate::ident::StorageId;
    use std::time::{Duration, UNIX_EPOCH};

    fn entry() -> Entry {
        Entry {
            fetched_at: UNIX_EPOCH + Duration::from_millis(0x0102_0304_0506),
            digest: [0xAA; 32],
            length: 9,
            body: Body::Stored(StorageId::of_file([0xBB; 32])),
        }
    }

    #[test]
    fn the_stored_form_is_fixed() {
        let mut golden = vec![1, 0, 0, 1, 2, 3, 4, 5, 6];
        golden.extend([0xAA; 32]);
        golden.extend([0xBB; 32]);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(entry().encode(), Some(golden.clone()));
        assert_eq!(Entry::decode(&golden), Some(entry()));
    }

    #[test]
    fn anything_else_is_unreadable() {
        let good = entry().encode().unwrap();
        for length in 0..STORED {
            assert_eq!(Entry::decode(&good[..length]), None);
        }
        let mut other_version = good;
        other_version[0] = 2;
        assert_eq!(Entry::decode(&other_version), None);
    }
}
