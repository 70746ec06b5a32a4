//! The service's content identity ("VSO hash", facts §1.1), computed over whole buffers.
//!
//! Written independently of the gate's own hasher, so that the two check each other. Speed is no goal here.

use std::fmt::Write;

use sha2::{Digest, Sha256};

const PAGE: usize = 65_536;
const BLOCK: usize = 32 * PAGE;
const ROLLING_SEED: &[u8] = b"VSO Content Identifier Seed";

/// The 66 upper-case hex digits that name `bytes`.
pub(crate) fn storage_id(bytes: &[u8]) -> String {
    let mut rolling = ROLLING_SEED.to_vec();
    let mut blocks = bytes.chunks(BLOCK).peekable();
    loop {
        // The empty blob has one block without pages.
        let block = blocks.next().unwrap_or_default();
        let last = blocks.peek().is_none();
        let roll = Sha256::new().chain_update(&rolling).chain_update(block_hash(block));
        rolling = roll.chain_update([u8::from(last)]).finalize().to_vec();
        if last {
            break;
        }
    }
    rolling.push(0);
    rolling.iter().fold(String::with_capacity(66), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn block_hash(block: &[u8]) -> [u8; 32] {
    let hash = block.chunks(PAGE).fold(Sha256::new(), |hash, page| hash.chain_update(Sha256::digest(page)));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(length: usize) -> Vec<u8> {
        (0_u8..=255).cycle().take(length).collect()
    }

    #[test]
    fn known_answers_of_the_public_sources_hold() {
        let rows: [(Vec<u8>, &str); 9] = [
            (identity(0), "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00"),
            (identity(1), "3DA32150B5E69B54E7AD1765D9573BC5E6E05D3B6529556C1B4A436A76A511F400"),
            (identity(65_536), "85840E1CB7CBFD78B464921C54C96F68C19066F20860EFA8CCE671B40BA5162300"),
            (identity(65_537), "D92A37C547F9D5B6B7B791A24F587DA8189CCA14EBC8511D2482E7448763E2BD00"),
            (identity(2_097_151), "1C3C73F7E829E84A5BA05631195105FB49E033FA23BDA6D379B3E46B5D73EF3700"),
            (identity(2_097_152), "6DAE3ED3E623AED293297C289C3D20A53083529138B7631E99920EF0D93AF3CD00"),
            (identity(2_097_153), "1F9F3C008EA37ECB65BC5FB14A420CEBB3CA72A9601EC056709A6B431F91807100"),
            (identity(4_194_305), "B9A44A420593FA18453B3BE7B63922DF43C93FF52D88F2CAB26FE1FADBA7003100"),
            (b"Hello World".to_vec(), "E87891E21CD24671B953BAB6A2D6F9C91049C67F9EA0E5015620C3DBC766EDC500"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(storage_id(&bytes), expected, "{} bytes", bytes.len());
        }
    }
}
