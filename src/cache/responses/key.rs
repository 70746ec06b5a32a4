//! By what responses of mounts are stored: their URL at the origin, and whose they are.
//!
//! Two mounts may lead to one URL, and one of them may let in fewer callers, or ask with another credential: what one
//! keeps is never the other's to show. A write is about the URL, whoever keeps something of it, so the URL comes first
//! in the database's keys.

use sha2::{Digest as _, Sha256};

use crate::policy::Selecting;

/// Whose responses they are; the same for as long as a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 32]);

/// Which responses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResponseKey {
    /// Whose.
    pub owner: Owner,
    /// Of which URL at the origin.
    pub url: String,
}

/// Length of a record's key in the database: URL, owner, selecting fields.
const LENGTH: usize = 3 * 32;

// === impl Owner ===

impl Owner {
    /// Whoever is told apart by these parts, in this order.
    pub fn new(parts: &[&str]) -> Self {
        Self(digest(parts.iter().map(|part| part.as_bytes())))
    }
}

// === impl ResponseKey ===

impl ResponseKey {
    /// How its records' keys begin.
    pub(super) fn prefix(&self) -> Vec<u8> {
        [of_url(&self.url), self.owner.0].concat()
    }

    /// The key of its record for requests with these fields.
    pub(super) fn record(&self, selecting: &Selecting) -> Vec<u8> {
        let absent = [0];
        let fields = selecting.iter().flat_map(|(name, value)| {
            let is_there = if value.is_some() { &[1] } else { &absent };
            [name.as_str().as_bytes(), value.as_deref().unwrap_or_default(), is_there]
        });
        [self.prefix(), digest(fields).to_vec()].concat()
    }
}

/// How the keys of all records of a URL begin.
pub(super) fn of_url(url: &str) -> [u8; 32] {
    Sha256::digest(url).into()
}

/// Whether a record has no owner: it is from before owners were told apart, and nobody reads it.
pub(super) fn is_old(key: &[u8]) -> bool {
    key.len() != LENGTH
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, Owner, ResponseKey, of_url};

    #[test]
    fn a_record_is_found_by_its_url_and_by_its_owner() {
        let key = |owner: &[&str], url: &str| ResponseKey { owner: Owner::new(owner), url: url.to_owned() };
        let name: http::HeaderName = "a".parse().unwrap();
        let own = key(&["/a/", "open"], "https://o/x");
        let record = own.record(&vec![(name.clone(), None)]);
        assert_eq!(record.len(), LENGTH);
        assert!(record.starts_with(&own.prefix()) && record.starts_with(&of_url("https://o/x")));
        assert_ne!(record, own.record(&vec![(name, Some(Vec::new()))]));
        for other in [key(&["/a/o", "pen"], "https://o/x"), key(&["/a/", "open"], "https://o/y")] {
            assert!(!record.starts_with(&other.prefix()), "{other:?}");
        }
    }
}
