//! Digests of lockfiles: npm's `integrity` (W3C Subresource Integrity) and NuGet's content hash.
//!
//! Of several algorithms the strongest counts, and of several digests of it any (SRI §3.3.4). Algorithms that are not
//! known count for nothing.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::clip;

/// What the bytes of a package are checked against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Integrity {
    algorithm: Algorithm,
    /// Any of them will do.
    digests: Vec<Vec<u8>>,
}

/// From the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// A check under way.
pub struct Checking<'i> {
    integrity: &'i Integrity,
    hash: Hash,
}

enum Hash {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

// === impl Integrity ===

impl Integrity {
    /// Reads an `integrity` of npm's clients; `None` when no algorithm in it is known.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn of_npm(text: &str) -> Result<Option<Self>, String> {
        let broken = |part: &str| format!("integrity {:?} is not `algorithm-base64`", clip(part));
        let mut best: Option<Self> = None;
        for part in text.split_ascii_whitespace() {
            let (name, rest) = part.split_once('-').ok_or_else(|| broken(part))?;
            let Some(algorithm) = Algorithm::named(name) else { continue };
            let digest =
                BASE64.decode(rest.split('?').next().unwrap_or_default()).map_err(|_| broken(part))?;
            if digest.len() != algorithm.length() {
                return Err(format!(
                    "integrity {:?} has {} bytes, not {}",
                    clip(part),
                    digest.len(),
                    algorithm.length()
                ));
            }
            match &mut best {
                Some(known) if known.algorithm == algorithm => known.digests.push(digest),
                Some(known) if known.algorithm > algorithm => {}
                Some(_) | None => best = Some(Self { algorithm, digests: vec![digest] }),
            }
        }
        Ok(best)
    }

    /// Reads a content hash of NuGet's: SHA-512 in base64.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn of_nuget(text: &str) -> Result<Self, String> {
        let digest = BASE64.decode(text).ok().filter(|digest| digest.len() == Algorithm::Sha512.length());
        let digest =
            digest.ok_or_else(|| format!("content hash {:?} is not a SHA-512 in base64", clip(text)))?;
        Ok(Self { algorithm: Algorithm::Sha512, digests: vec![digest] })
    }

    /// A SHA-1.
    pub(super) fn of_sha1(digest: [u8; 20]) -> Self {
        Self { algorithm: Algorithm::Sha1, digests: vec![digest.to_vec()] }
    }

    /// Begins a check.
    pub fn check(&self) -> Checking<'_> {
        let hash = match self.algorithm {
            Algorithm::Sha1 => Hash::Sha1(Sha1::new()),
            Algorithm::Sha256 => Hash::Sha256(Sha256::new()),
            Algorithm::Sha384 => Hash::Sha384(Sha384::new()),
            Algorithm::Sha512 => Hash::Sha512(Sha512::new()),
        };
        Checking { integrity: self, hash }
    }
}

/// In the form of npm's `integrity`.
impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digest) in self.digests.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{}-{}", self.algorithm.as_str(), BASE64.encode(digest))?;
        }
        Ok(())
    }
}

// === impl Algorithm ===

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|one| one.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest.
    fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

// === impl Checking ===

impl Checking<'_> {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hash {
            Hash::Sha1(hash) => hash.update(bytes),
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::Sha384(hash) => hash.update(bytes),
            Hash::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Whether the bytes are what was promised.
    pub fn holds(self) -> bool {
        let digest = match self.hash {
            Hash::Sha1(hash) => hash.finalize().to_vec(),
            Hash::Sha256(hash) => hash.finalize().to_vec(),
            Hash::Sha384(hash) => hash.finalize().to_vec(),
            Hash::Sha512(hash) => hash.finalize().to_vec(),
        };
        self.integrity.digests.contains(&digest)
    }
}

#[cfg(test)]
mod tests {
    use super::Integrity;

    /// Of `abc`.
    const SHA1: &str = "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
    const SHA256: &str = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    fn holds(integrity: &str, bytes: &[u8]) -> Option<bool> {
        let integrity = Integrity::of_npm(integrity).unwrap()?;
        let mut check = integrity.check();
        check.update(bytes);
        Some(check.holds())
    }

    #[test]
    fn the_strongest_algorithm_counts_and_any_digest_of_it() {
        assert_eq!(holds(SHA1, b"abc"), Some(true));
        assert_eq!(holds(SHA1, b"abd"), Some(false));
        let wrong = SHA1.replace("qZk", "aaa");
        assert_eq!(holds(&format!("{wrong} {SHA256}?opaque"), b"abc"), Some(true));
        assert_eq!(holds(&format!("{SHA256} {wrong}"), b"abc"), Some(true));
        assert_eq!(holds(&format!("{wrong} {SHA1}"), b"abc"), Some(true));
        assert_eq!(holds(&format!("{SHA1} {}", SHA256.replace("ung", "aaa")), b"abc"), Some(false));
        assert_eq!(holds("md5-AAAA", b"abc"), None);
        assert_eq!(holds("", b"abc"), None);
        let both = format!("{wrong} {SHA1}");
        assert_eq!(Integrity::of_npm(&both).unwrap().unwrap().to_string(), both);
    }

    #[test]
    fn what_is_no_digest_is_refused_with_the_rule() {
        for (text, rule) in
            [("sha512", "algorithm-base64"), ("sha1-%", "algorithm-base64"), ("sha1-AAAA", "3 bytes")]
        {
            assert!(Integrity::of_npm(text).unwrap_err().contains(rule), "{text}");
        }
        assert!(Integrity::of_nuget("AAAA").unwrap_err().contains("SHA-512"));
    }
}
