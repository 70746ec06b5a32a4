//! The VSO hash: the service's content identity, computed while the bytes stream past.
//!
//! One SHA-256 pass over the bytes plus one over the page hashes (1/2048 of them), in constant memory. Dedup
//! ids (last byte 01 and 02) are not computed here: their chunk borders are content-defined, so they are
//! opaque to the gate.
//!
//! ```text
//! page hash  = SHA-256(page)                         page  = 64 KiB, the last of a blob may be short
//! block hash = SHA-256(page hash, page hash, …)      block = 32 pages, the last of a blob may be short
//! rolling id = SHA-256(rolling id | block hash | 01 for the last block, else 00), from a fixed seed
//! storage id = rolling id | 00
//! ```

use sha2::{Digest, Sha256};

use crate::ident::StorageId;

/// Bytes per page (facts §1.1).
const PAGE: usize = 64 * 1024;
/// Pages per block (facts §1.1).
const PAGES_PER_BLOCK: usize = 32;
/// What the rolling id starts as; used raw, not hashed (facts §1.1).
const SEED: &[u8] = b"VSO Content Identifier Seed";

/// Computes a [`StorageId`] from bytes that arrive in slices of any size.
#[derive(Debug, Clone, Default)]
pub struct VsoHasher {
    /// The rolling id after the blocks so far; none before the first is closed.
    rolling: Option<[u8; 32]>,
    block: Block,
}

/// The block that is being read. Its last page stays open until one more byte arrives, so that whoever
/// closes it knows whether it was the blob's last.
#[derive(Debug, Clone, Default)]
struct Block {
    page_hashes: Sha256,
    closed_pages: usize,
    page: Sha256,
    page_length: usize,
}

// === impl VsoHasher ===

impl VsoHasher {
    /// A hasher that has seen no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the blob.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.block.is_full() {
                self.roll(false);
            }
            bytes = self.block.take_from(bytes);
        }
    }

    /// The id of all bytes seen.
    pub fn finish(mut self) -> StorageId {
        StorageId::of_file(self.roll(true))
    }

    fn roll(&mut self, last: bool) -> [u8; 32] {
        let block_hash = std::mem::take(&mut self.block).finish();
        let rolling = Sha256::new()
            .chain_update(self.rolling.as_ref().map_or(SEED, |id| &id[..]))
            .chain_update(block_hash)
            .chain_update([u8::from(last)])
            .finalize()
            .into();
        self.rolling = Some(rolling);
        rolling
    }
}

// === impl Block ===

impl Block {
    fn is_full(&self) -> bool {
        self.closed_pages == PAGES_PER_BLOCK - 1 && self.page_length == PAGE
    }

    /// Takes bytes up to the end of a page; the rest is returned.
    fn take_from<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.page_length == PAGE {
            self.close_page();
        }
        let (now, later) = bytes.split_at(bytes.len().min(PAGE - self.page_length));
        self.page.update(now);
        self.page_length += now.len();
        later
    }

    fn close_page(&mut self) {
        self.page_hashes.update(self.page.finalize_reset());
        self.page_length = 0;
        self.closed_pages += 1;
    }

    /// The block hash. A block without pages (the empty blob) is SHA-256 of nothing.
    fn finish(mut self) -> [u8; 32] {
        if self.page_length > 0 {
            self.close_page();
        }
        self.page_hashes.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use serde_json::Value;

    use super::{Block, VsoHasher};
    use crate::ident::StorageId;

    const VECTORS: &str = include_str!("../../tests/data/vso-hash-vectors.json");
    const BLOCK: usize = 2 * 1024 * 1024;

    fn input(vector: &Value) -> Vec<u8> {
        let number = |name: &str| vector[name].as_u64().map(|n| usize::try_from(n).unwrap());
        match (number("identity"), number("zeros"), vector["text"].as_str()) {
            (Some(length), ..) => identity(length),
            (_, Some(length), _) => vec![0; length],
            (.., Some(text)) => text.as_bytes().to_vec(),
            _ => panic!("vector without input: {vector}"),
        }
    }

    fn identity(length: usize) -> Vec<u8> {
        (0..=255).cycle().take(length).collect()
    }

    fn sliced<'a>(mut bytes: &'a [u8], mut next_size: impl FnMut() -> usize) -> VsoHasher {
        let mut hasher = VsoHasher::new();
        while !bytes.is_empty() {
            let (slice, rest): (&'a [u8], _) = bytes.split_at(next_size().min(bytes.len()));
            hasher.update(slice);
            bytes = rest;
        }
        hasher
    }

    fn vectors(list: &str, expected: &str) -> Vec<(Vec<u8>, String)> {
        let all: Value = serde_json::from_str(VECTORS).unwrap();
        let list = all[list].as_array().unwrap();
        list.iter().map(|vector| (input(vector), vector[expected].as_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn published_ids_come_out_in_any_slice_size() {
        let vectors = vectors("blob_ids", "storage_id");
        assert_eq!(vectors.len(), 15);
        for (bytes, expected) in &vectors {
            for size in [1000, 65_535, 65_536, 65_537, 2_097_153, 3_000_001, usize::MAX] {
                let id = sliced(bytes, || size).finish().to_string();
                assert_eq!(&id, expected, "{} bytes in slices of {size}", bytes.len());
            }
            let mut random = StdRng::seed_from_u64(7);
            let id = sliced(bytes, || random.random_range(1..200_000)).finish().to_string();
            assert_eq!(&id, expected, "{} bytes in random slices", bytes.len());
        }
    }

    #[test]
    fn published_ids_come_out_byte_by_byte() {
        for (bytes, expected) in vectors("blob_ids", "storage_id") {
            // One byte past the first block crosses every border there is; longer inputs add only time.
            if bytes.len() <= BLOCK + 1 {
                assert_eq!(sliced(&bytes, || 1).finish().to_string(), expected, "{} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn published_block_hashes_come_out() {
        let vectors = vectors("block_hashes", "block_hash");
        assert_eq!(vectors.len(), 7);
        for (bytes, expected) in vectors {
            let mut block = Block::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                rest = block.take_from(rest);
            }
            let hash = StorageId::of_file(block.finish()).to_string();
            assert_eq!(hash, expected + "00", "{} bytes", bytes.len());
        }
    }

    #[test]
    fn empty_slices_change_nothing() {
        let mut hasher = VsoHasher::new();
        hasher.update(b"");
        hasher.update(&identity(BLOCK));
        hasher.update(b"");
        assert_eq!(hasher.finish(), sliced(&identity(BLOCK), || BLOCK).finish());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn slicing_never_matters(
            length in 0..3 * BLOCK,
            sizes in prop::collection::vec(1..300_000_usize, 1..12),
        ) {
            let bytes = identity(length);
            let mut sizes = sizes.iter().cycle();
            let id = sliced(&bytes, || *sizes.next().unwrap()).finish();
            prop_assert_eq!(id, sliced(&bytes, || usize::MAX).finish());
        }
    }
}
