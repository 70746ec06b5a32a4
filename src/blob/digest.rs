//! What a download is checked against, and the hashing that the check needs.
//!
//! Bytes are trusted when their length, their VSO hash and, where a packument named it, their SHA-512 or SHA-1
//! agree with what was promised before the first byte arrived. Digests that nobody promised are not computed.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha1::Sha1;
use sha2::{Digest, Sha512};

use super::{Digests, VsoHasher};
use crate::ident::StorageId;

/// What is known of a blob before its bytes arrive. Whatever is `None` is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its id. Only ids of whole files can be checked; others are opaque (facts §1.1).
    pub storage_id: Option<StorageId>,
    /// Its length in bytes.
    pub length: Option<u64>,
    /// SHA-1, as in npm's `dist.shasum`.
    pub sha1: Option<[u8; 20]>,
    /// SHA-512, as in npm's `dist.integrity`.
    pub sha512: Option<[u8; 64]>,
}

/// The first way in which bytes are not what was promised. The labels of [`Mismatch::as_str`] are a closed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Too few bytes, or at least `got`, which is too many.
    #[error("length is {got}, expected {expected}")]
    Length {
        /// Bytes promised.
        expected: u64,
        /// Bytes seen.
        got: u64,
    },
    /// The VSO hash is another.
    #[error("storage id is {got}, expected {expected}")]
    StorageId {
        /// The id promised.
        expected: StorageId,
        /// The id of the bytes.
        got: StorageId,
    },
    /// The SHA-1 is another; both in the form of an npm `integrity`.
    #[error("digest is {got}, expected {expected}")]
    Sha1 {
        /// The digest promised.
        expected: String,
        /// The digest of the bytes.
        got: String,
    },
    /// The SHA-512 is another; both in the form of an npm `integrity`.
    #[error("digest is {got}, expected {expected}")]
    Sha512 {
        /// The digest promised.
        expected: String,
        /// The digest of the bytes.
        got: String,
    },
}

/// The running hashes of one download.
#[derive(Debug, Clone)]
pub struct Hashing {
    length: u64,
    vso: VsoHasher,
    sha1: Option<Sha1>,
    sha512: Option<Sha512>,
}

// === impl Expected ===

impl Expected {
    /// Checks the hashes of a whole blob; its id and the digests that were computed.
    ///
    /// The id is always our own VSO hash: for a promised id that is opaque it is the only identity there is.
    pub fn check(&self, hashing: Hashing) -> Result<(StorageId, Digests), Mismatch> {
        let (got, length) = (hashing.length, self.length);
        if let Some(expected) = length.filter(|expected| *expected != got) {
            return Err(Mismatch::Length { expected, got });
        }
        let got = hashing.vso.finish();
        if let Some(expected) = self.storage_id.filter(|id| id.is_file() && *id != got) {
            return Err(Mismatch::StorageId { expected, got });
        }
        let sha1 = hashing.sha1.map(|hash| hash.finalize().into());
        if self.sha1.is_some() && self.sha1 != sha1 {
            let (expected, got) = (integrity("sha1", self.sha1), integrity("sha1", sha1));
            return Err(Mismatch::Sha1 { expected, got });
        }
        let sha512 = hashing.sha512.map(|hash| hash.finalize().into());
        if self.sha512.is_some() && self.sha512 != sha512 {
            let (expected, got) = (integrity("sha512", self.sha512), integrity("sha512", sha512));
            return Err(Mismatch::Sha512 { expected, got });
        }
        Ok((got, Digests { sha1, sha512 }))
    }
}

// === impl Mismatch ===

impl Mismatch {
    /// A label for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::StorageId { .. } => "storage_id",
            Self::Sha1 { .. } => "sha1",
            Self::Sha512 { .. } => "sha512",
        }
    }
}

// === impl Hashing ===

impl Hashing {
    /// Hashing that computes what `expected` will be checked against.
    pub fn new(expected: &Expected) -> Self {
        Self {
            length: 0,
            vso: VsoHasher::new(),
            sha1: expected.sha1.map(|_| Sha1::new()),
            sha512: expected.sha512.map(|_| Sha512::new()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.vso.update(bytes);
        if let Some(hash) = &mut self.sha1 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha512 {
            hash.update(bytes);
        }
    }

    /// Bytes seen so far.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// The one digest that an npm client would check, from `dist.integrity` and `dist.shasum`.
///
/// npm takes the strongest algorithm of `integrity` and looks at `shasum` only when there is no `integrity`. Of
/// its algorithms SHA-512 and SHA-1 are in use. Where one algorithm has several different hashes, any of them
/// may be the right one, so that algorithm promises nothing here. Malformed hashes are skipped.
pub fn published_digests(integrity: Option<&str>, shasum: Option<&str>) -> Digests {
    let integrity = integrity.unwrap_or_default();
    if let Some(sha512) = only_hash(integrity, "sha512-") {
        return Digests { sha1: None, sha512: Some(sha512) };
    }
    let sha1 = only_hash(integrity, "sha1-").or_else(|| from_hex(shasum?.trim()));
    Digests { sha1, sha512: None }
}

/// The hash after `prefix` in a list of SRI hashes: `alg-base64[?option…]`, separated by white space.
fn only_hash<const N: usize>(integrity: &str, prefix: &str) -> Option<[u8; N]> {
    let decode = |text: &str| BASE64.decode(text.split('?').next()?).ok()?.try_into().ok();
    let mut hashes = integrity.split_ascii_whitespace().filter_map(|hash| decode(hash.strip_prefix(prefix)?));
    let first = hashes.next()?;
    hashes.all(|other| other == first).then_some(first)
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (char::from(pair[0]).to_digit(16)?, char::from(pair[1]).to_digit(16)?);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

fn integrity<const N: usize>(algorithm: &str, digest: Option<[u8; N]>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| format!("{algorithm}-{}", BASE64.encode(digest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The VSO hash of `Hello World` (facts §1.3).
    const HELLO_ID: &str = "E87891E21CD24671B953BAB6A2D6F9C91049C67F9EA0E5015620C3DBC766EDC500";
    const HELLO_SHASUM: &str = "0a4d55a8d778e5022fab701977c5d840bbc486d0";
    const HELLO_SHA1: &str = "sha1-Ck1VqNd45QIvq3AZd8XYQLvEhtA=";
    const HELLO_SHA512: &str =
        "sha512-LHT9F+2v2A6ER7DUZ0HuJDt+t03SFJoKsbkkb7MDgvJ+hT2FhXGeDmfL2g2qj1FnEGRhXWRa4nrLFb+xRH9Fmw==";

    fn hello() -> Expected {
        let promised = |integrity| published_digests(Some(integrity), None);
        Expected {
            storage_id: Some(HELLO_ID.parse().unwrap()),
            length: Some(11),
            sha1: promised(HELLO_SHA1).sha1,
            sha512: promised(HELLO_SHA512).sha512,
        }
    }

    fn check(expected: &Expected, bytes: &[u8]) -> Result<(StorageId, Digests), Mismatch> {
        let mut hashing = Hashing::new(expected);
        bytes.chunks(3).for_each(|slice| hashing.update(slice));
        assert_eq!(hashing.length(), bytes.len() as u64);
        expected.check(hashing)
    }

    #[test]
    fn right_bytes_pass_with_the_promised_digests() {
        let (id, digests) = check(&hello(), b"Hello World").unwrap();
        assert_eq!(id.to_string(), HELLO_ID);
        assert_eq!(digests, Digests { sha1: hello().sha1, sha512: hello().sha512 });
    }

    #[test]
    fn digests_that_nobody_promised_are_not_computed() {
        let (id, digests) = check(&Expected::default(), b"Hello World").unwrap();
        assert_eq!((id.to_string().as_str(), digests), (HELLO_ID, Digests::default()));
    }

    #[test]
    fn wrong_bytes_fail_at_the_first_promise_that_they_break() {
        let all = hello();
        let without_id = Expected { storage_id: None, ..hello() };
        let sha512_only = Expected { sha1: None, ..without_id.clone() };
        let rows = [
            (&all, "Hello Worl", "length", "length is 10, expected 11"),
            (&all, "Hello World!", "length", "length is 12, expected 11"),
            (&all, "Hello Word!", "storage_id", "storage id is "),
            (&without_id, "Hello Word!", "sha1", "digest is sha1-"),
            (&sha512_only, "Hello Word!", "sha512", "digest is sha512-"),
        ];
        for (expected, bytes, label, text) in rows {
            let mismatch = check(expected, bytes.as_bytes()).unwrap_err();
            assert_eq!(mismatch.as_str(), label, "{bytes}");
            assert!(mismatch.to_string().starts_with(text), "{mismatch}");
        }
    }

    #[test]
    fn opaque_ids_are_not_checked_and_not_used() {
        for algorithm in ["01", "02"] {
            let opaque = format!("{}{algorithm}", "AB".repeat(32)).parse().unwrap();
            let expected = Expected { storage_id: Some(opaque), ..Expected::default() };
            let (id, _) = check(&expected, b"Hello World").unwrap();
            assert_eq!(id.to_string(), HELLO_ID);
        }
    }

    #[test]
    fn published_digests_follow_npm() {
        let (sha1, sha512) = (hello().sha1, hello().sha512);
        let other = format!("sha512-{}", BASE64.encode([7; 64]));
        let rows = [
            (Some(HELLO_SHA512.to_owned()), None, (None, sha512)),
            (Some(format!("{HELLO_SHA512}?foo?bar")), Some(HELLO_SHASUM), (None, sha512)),
            (Some(format!("{HELLO_SHA1} {HELLO_SHA512}")), None, (None, sha512)),
            (Some(format!(" {HELLO_SHA512}\n{HELLO_SHA512} ")), None, (None, sha512)),
            (Some(format!("{HELLO_SHA512} {other}")), None, (None, None)),
            (Some(HELLO_SHA1.to_owned()), None, (sha1, None)),
            (None, Some(HELLO_SHASUM), (sha1, None)),
            (None, Some("0A4D55A8D778E5022FAB701977C5D840BBC486D0"), (sha1, None)),
            (Some("sha512-AAAA sha1-!!".to_owned()), Some("0a4d"), (None, None)),
            (Some("sha512".to_owned()), Some(&HELLO_SHASUM.replace('d', "g")), (None, None)),
            (None, None, (None, None)),
        ];
        for (integrity, shasum, (sha1, sha512)) in rows {
            let digests = published_digests(integrity.as_deref(), shasum);
            assert_eq!(digests, Digests { sha1, sha512 }, "{integrity:?} {shasum:?}");
        }
    }
}
