//! The record of a stored blob, as it lies in the database; written last, it is what makes a blob exist.
//!
//! Versions 1 and 2, integers big-endian:
//!
//! ```text
//! 0     1     2      3         4        12        20         28       +20          +64      +4 for each page
//! | ver | kind | place | digests | length | created | last use | [SHA-1] | [SHA-512] | [sums] |
//! ```
//!
//! Version 2 is of a blob in a file and has the sums of all its pages (see `pages.rs`), version 1 has none: chunks are
//! checked by the database's seals, and files stored before there were sums are checked by `feedgate verify` only.
//! Times are milliseconds since 1970. Bit 0 of `digests` stands for SHA-1, bit 1 for SHA-512. Bytes that do
//! not read exactly like this are no record: the blob counts as missing and is removed. A later version is
//! read beside this one, never in place of it; the golden test below holds version 1 still.

use super::{
    BlobKind, BlobStat, Digests, Tier,
    pages::{self, Sums},
};

const WITHOUT_SUMS: u8 = 1;
const WITH_SUMS: u8 = 2;
const FIXED: usize = 28;
const SHA1: u8 = 0b01;
const SHA512: u8 = 0b10;

/// Where a blob's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the database, in chunks.
    Chunks,
    /// In a file of its own.
    File,
}

impl Place {
    /// The tier that reads are counted for.
    pub(super) fn tier(self) -> Tier {
        match self {
            Self::Chunks => Tier::Database,
            Self::File => Tier::File,
        }
    }
}

/// What the database knows of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What callers see.
    pub stat: BlobStat,
    /// Where the bytes are.
    pub place: Place,
    /// When it was stored, in milliseconds since 1970.
    pub created: u64,
    /// When it was last used, as far as written down; the time in its key in the eviction order.
    pub used: u64,
    /// Checksums of a file's pages; empty for chunks and for files that were stored without.
    pub sums: Sums,
}

// === impl Record ===

impl Record {
    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        let Digests { sha1, sha512 } = &self.stat.digests;
        let mut bytes = Vec::with_capacity(FIXED + 84 + 4 * self.sums.len());
        bytes.push(if self.sums.is_empty() { WITHOUT_SUMS } else { WITH_SUMS });
        bytes.push(match self.stat.kind {
            BlobKind::Package => 0,
            BlobKind::Document => 1,
        });
        bytes.push(match self.place {
            Place::Chunks => 0,
            Place::File => 1,
        });
        bytes.push(u8::from(sha1.is_some()) * SHA1 + u8::from(sha512.is_some()) * SHA512);
        for number in [self.stat.length, self.created, self.used] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend(sha1.iter().flatten());
        bytes.extend(sha512.iter().flatten());
        bytes.extend(self.sums.iter().flat_map(|sum| sum.to_be_bytes()));
        bytes
    }

    /// Reads what [`Record::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_at_checked(FIXED)?;
        let &[version @ (WITHOUT_SUMS | WITH_SUMS), kind, place, present, ..] = fixed else { return None };
        let number = |at: usize| Some(u64::from_be_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
        let kind = match kind {
            0 => BlobKind::Package,
            1 => BlobKind::Document,
            _ => return None,
        };
        let place = match place {
            0 => Place::Chunks,
            1 => Place::File,
            _ => return None,
        };
        let (digests, rest) = decode_digests(present, rest)?;
        let stat = BlobStat { length: number(4)?, kind, digests };
        let sums = decode_sums(rest)?;
        let due = if version == WITH_SUMS { pages::count(stat.length) } else { 0 };
        let whole = sums.len() == due && (version == WITHOUT_SUMS || (place == Place::File && due > 0));
        whole.then_some(Self { stat, place, created: number(12)?, used: number(20)?, sums })
    }
}

/// The digests, and what is behind them.
fn decode_digests(present: u8, mut bytes: &[u8]) -> Option<(Digests, &[u8])> {
    let mut digests = Digests::default();
    if present & !(SHA1 | SHA512) != 0 {
        return None;
    }
    if present & SHA1 != 0 {
        let (sha1, rest) = bytes.split_first_chunk()?;
        digests.sha1 = Some(*sha1);
        bytes = rest;
    }
    if present & SHA512 != 0 {
        let (sha512, rest) = bytes.split_first_chunk()?;
        digests.sha512 = Some(*sha512);
        bytes = rest;
    }
    Some((digests, bytes))
}

fn decode_sums(bytes: &[u8]) -> Option<Sums> {
    let (sums, rest) = bytes.as_chunks();
    rest.is_empty().then(|| sums.iter().map(|sum| u32::from_be_bytes(*sum)).collect())
}

#[cfg(test)]
mod tests {
    use super::{BlobKind, BlobStat, Digests, Place, Record};

    fn record(kind: BlobKind, place: Place, digests: Digests) -> Record {
        let stat = BlobStat { length: 0x0102_0304, kind, digests };
        Record { stat, place, created: 0x0198_0000_0000, used: 0x0198_0000_0001, sums: [].into() }
    }

    #[test]
    fn version_1_reads_and_writes_its_golden_bytes() {
        let times = "0000000001020304 0000019800000000 0000019800000001";
        let (one, two) = ("11".repeat(20), "22".repeat(64));
        let sha1 = Digests { sha1: Some([0x11; 20]), sha512: None };
        let sha512 = Digests { sha1: None, sha512: Some([0x22; 64]) };
        let both = Digests { sha1: sha1.sha1, sha512: sha512.sha512 };
        let rows = [
            (record(BlobKind::Package, Place::Chunks, both), format!("01000003 {times} {one}{two}")),
            (record(BlobKind::Package, Place::File, sha1), format!("01000101 {times} {one}")),
            (record(BlobKind::Document, Place::Chunks, sha512), format!("01010002 {times} {two}")),
            (record(BlobKind::Document, Place::File, Digests::default()), format!("01010100 {times}")),
        ];
        for (record, golden) in rows {
            let golden = bytes(&golden);
            assert_eq!(record.encode(), golden);
            assert_eq!(Record::decode(&golden), Some(record));
        }
    }

    #[test]
    fn version_2_reads_and_writes_its_golden_bytes() {
        let mut record = record(BlobKind::Package, Place::File, Digests::default());
        record.stat.length = 0x1_0001;
        record.sums = [0xAABB_CCDD, 2].into();
        let golden = bytes("02000100 0000000000010001 0000019800000000 0000019800000001 AABBCCDD 00000002");
        assert_eq!(record.encode(), golden);
        assert_eq!(Record::decode(&golden), Some(record));
        for length in 0..golden.len() {
            assert_eq!(Record::decode(&golden[..length]), None, "cut to {length}");
        }
        let mut chunks = golden;
        chunks[2] = 0;
        assert_eq!(Record::decode(&chunks), None, "chunks have no sums");
    }

    #[test]
    fn anything_else_is_no_record() {
        let digests = Digests { sha1: Some([1; 20]), sha512: Some([2; 64]) };
        let good = record(BlobKind::Package, Place::File, digests).encode();
        for length in 0..good.len() {
            assert_eq!(Record::decode(&good[..length]), None, "cut to {length}");
        }
        assert_eq!(Record::decode(&[&good[..], &[0]].concat()), None, "a byte too many");
        for (at, value) in [(0, 0), (0, 2), (0, 3), (1, 2), (2, 2), (3, 0), (3, 1), (3, 7)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Record::decode(&bad), None, "{value} at {at}");
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }
}
