//! The one kind of tar entry that archives have: a plain file with a short name (POSIX.1-2017, `pax`, ustar interchange format).

/// Length of a header, and of the unit to which data is filled up.
pub(super) const BLOCK: usize = 512;
/// Zeros at the end of an archive.
pub(super) const END: usize = 2 * BLOCK;
/// Length of the name's field.
const NAME: usize = 100;
/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The header of a file of `size` bytes.
pub(super) fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, text: &str| {
        for (byte, letter) in header.iter_mut().skip(at).zip(text.bytes()) {
            *byte = letter;
        }
    };
    put(0, name);
    // Mode, user and group; sizes beyond eleven octal digits (8 GiB) do not occur: the store takes no such blob.
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum = checksum(&header);
    for (byte, letter) in header.iter_mut().skip(CHECKSUM.start).zip(format!("{sum:06o}\0 ").bytes()) {
        *byte = letter;
    }
    header
}

/// Name and size of a header that [`header`] wrote; any other is none.
pub(super) fn read(block: &[u8]) -> Option<(&str, u64)> {
    let name = block.get(..NAME)?;
    let name = std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()?;
    let digits = std::str::from_utf8(block.get(124..135)?).ok()?;
    let size = u64::from_str_radix(digits, 8).ok()?;
    (header(name, size) == block).then_some((name, size))
}

/// Zeros behind `size` bytes.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

/// The sum of all bytes, where those of the checksum count as spaces.
fn checksum(header: &[u8]) -> u32 {
    let byte =
        |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    header.iter().enumerate().map(byte).sum()
}
