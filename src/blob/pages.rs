//! Checksums of a file's pages, so that no byte is sent that is not the one that was stored.
//!
//! The content hash speaks of the whole and is known only at the end; a reader sends the beginning long before. CRC-32
//! of each page finds every flipped byte, every run of up to 32 wrong bits, and all but one in 2³² of anything else
//! that a disk does. It is no defence against somebody who may write to the store: the content hash is, at
//! `feedgate verify`.
//!
//! A page is 64 KiB, twice or four times as much in files above 64 and 128 MiB: few enough sums to lie in the record.

use std::sync::Arc;

/// Smallest page: also what sums are made of while a file grows.
const SMALLEST: u64 = 64 << 10;
/// Largest page: what a reader asks for at once.
const LARGEST: u64 = 256 << 10;
/// Pages of a file before they become larger.
const MANY: u64 = 1024;

/// Bytes of a page in a file of `length` bytes.
pub(super) fn page_size(length: u64) -> u64 {
    let mut size = SMALLEST;
    while size < LARGEST && length > size * MANY {
        size *= 2;
    }
    size
}

/// Checksums of pages, in order.
pub(super) type Sums = Arc<[u32]>;

/// Adds sums up while a file is written.
#[derive(Debug, Default)]
pub(super) struct Summing {
    /// Of every whole piece of [`SMALLEST`] bytes.
    whole: Vec<u32>,
    hasher: crc32fast::Hasher,
    filled: u64,
}

// === impl Summing ===

impl Summing {
    /// Takes the next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(SMALLEST - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.hasher.update(now);
            self.filled += now.len() as u64;
            bytes = later;
            if self.filled == SMALLEST {
                self.whole.push(std::mem::take(&mut self.hasher).finalize());
                self.filled = 0;
            }
        }
    }

    /// The sums of the pages of what was taken.
    pub(super) fn finish(&self) -> Sums {
        let length = self.whole.len() as u64 * SMALLEST + self.filled;
        let mut pieces: Vec<_> = self.whole.iter().map(|sum| (*sum, SMALLEST)).collect();
        pieces.extend((self.filled > 0).then(|| (self.hasher.clone().finalize(), self.filled)));
        let each = usize::try_from(page_size(length) / SMALLEST).unwrap_or(1);
        pieces.chunks(each).map(joined).collect()
    }
}

/// Whether `bytes`, which are the whole pages from the one at `from` of a file of `length` bytes, have their sums. A file
/// without sums was stored before there were any.
pub(super) fn hold(sums: &[u32], length: u64, from: u64, bytes: &[u8]) -> bool {
    let size = page_size(length);
    let first = usize::try_from(from / size).unwrap_or(usize::MAX);
    let mut pages = bytes.chunks(usize::try_from(size).unwrap_or(usize::MAX)).zip(first..);
    sums.is_empty() || pages.all(|(page, index)| sums.get(index) == Some(&crc32fast::hash(page)))
}

/// How many pages a file of `length` bytes has.
pub(super) fn count(length: u64) -> usize {
    usize::try_from(length.div_ceil(page_size(length))).unwrap_or(usize::MAX)
}

fn joined(pieces: &[(u32, u64)]) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    for (sum, length) in pieces {
        whole.combine(&crc32fast::Hasher::new_with_initial_len(*sum, *length));
    }
    whole.finalize()
}

#[cfg(test)]
mod tests {
    use super::{SMALLEST, Summing, count, hold, page_size};

    #[test]
    fn pages_grow_so_that_they_stay_few() {
        let mib = 1 << 20;
        let rows =
            [(0, 64, 0), (1, 64, 1), (64 * mib, 64, 1024), (64 * mib + 1, 128, 513), (500 * mib, 256, 2000)];
        for (length, kib, pages) in rows {
            assert_eq!((page_size(length), count(length)), (kib << 10, pages), "{length}");
        }
    }

    #[test]
    fn sums_are_of_the_pages_however_the_bytes_come() {
        // The last is of pages of 128 KiB.
        for length in [0, 1, SMALLEST, SMALLEST + 1, 5 * SMALLEST - 7, 64 * (1 << 20) + 5] {
            let bytes: Vec<u8> = (0..=250).cycle().take(usize::try_from(length).unwrap()).collect();
            let mut summing = Summing::default();
            bytes.chunks(100_003).for_each(|part| summing.update(part));
            let sums = summing.finish();
            let expected: Vec<_> =
                bytes.chunks(usize::try_from(page_size(length)).unwrap()).map(crc32fast::hash).collect();
            assert_eq!(&sums[..], expected, "{length}");
            assert_eq!(sums.len(), count(length));
        }
    }

    #[test]
    fn a_flipped_byte_is_found_in_its_page() {
        let length = 3 * SMALLEST + 10;
        let mut bytes = vec![7; usize::try_from(length).unwrap()];
        let mut summing = Summing::default();
        summing.update(&bytes);
        let sums = summing.finish();
        assert!(hold(&sums, length, 0, &bytes) && hold(&[], length, 0, &bytes));
        let second = usize::try_from(SMALLEST).unwrap();
        bytes[second + 5] ^= 1;
        assert!(hold(&sums, length, 0, &bytes[..second]));
        assert!(!hold(&sums, length, SMALLEST, &bytes[second..2 * second]));
        assert!(hold(&sums, length, 2 * SMALLEST, &bytes[2 * second..]));
        assert!(!hold(&sums, length, 0, &bytes) && !hold(&sums[..1], length, SMALLEST, &bytes[..second]));
    }
}
