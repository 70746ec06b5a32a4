//! Chance with a seed: GUIDs, filler bytes and correlation ids are the same in every run of one seed.
//!
//! A dozen lines of splitmix64 rather than a generator crate, whose streams may change between versions.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The seed of one simulator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(pub(crate) u64);

/// An endless stream of reproducible bits (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Noise(u64);

// === impl Seed ===

impl Seed {
    /// The GUID (version 5) of a named thing, such as `feed/contoso/main`. Names differ in letter case only: same GUID.
    pub(crate) fn guid(self, name: &str) -> Uuid {
        let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, &self.0.to_be_bytes());
        Uuid::new_v5(&space, name.to_ascii_lowercase().as_bytes())
    }

    /// The stream that belongs to a label.
    pub(crate) fn noise(self, label: &str) -> Noise {
        let digest = Sha256::new().chain_update(self.0.to_be_bytes()).chain_update(label).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Noise(u64::from_be_bytes(first))
    }
}

// === impl Noise ===

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// `length` bytes that no compressor makes smaller.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    pub(crate) fn guid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_always_gives_the_same_things() {
        assert_eq!(Seed(7).guid("feed/Main"), Seed(7).guid("feed/main"));
        assert_ne!(Seed(7).guid("feed/main"), Seed(8).guid("feed/main"));
        assert_eq!(Seed(7).noise("a").bytes(13), Seed(7).noise("a").bytes(13));
        assert_ne!(Seed(7).noise("a").bytes(13), Seed(7).noise("b").bytes(13));
    }
}
