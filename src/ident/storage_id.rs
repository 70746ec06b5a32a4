//! The service's content identity: a VSO hash (32 bytes) and an algorithm byte, 66 hex digits.

use std::{fmt, str::FromStr};

/// Algorithm byte of a whole file's VSO hash; the only kind whose value can be computed from the bytes.
const FILE: u8 = 0x00;
/// Highest algorithm byte in use (facts §1.1: 00 file, 01 dedup chunk, 02 dedup node).
const HIGHEST_ALGORITHM: u8 = 0x02;

/// A `storageId`: 32 hash bytes and one algorithm byte, written as 66 upper-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId([u8; 33]);

/// Why a text is not a [`StorageId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage id `{0}` is not 66 hex digits that end in 00, 01 or 02")]
pub struct StorageIdError(String);

impl StorageId {
    /// The id of a file whose VSO hash is `hash`.
    pub fn of_file(hash: [u8; 32]) -> Self {
        let mut bytes = [FILE; 33];
        bytes[..32].copy_from_slice(&hash);
        Self(bytes)
    }

    /// Reads the 33 raw bytes, as stored.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 33] = bytes.try_into().ok()?;
        (bytes[32] <= HIGHEST_ALGORITHM).then_some(Self(bytes))
    }

    /// The 33 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    /// Whether the id can be checked against bytes (it ends in 00).
    pub fn is_file(&self) -> bool {
        self.0[32] == FILE
    }
}

impl FromStr for StorageId {
    type Err = StorageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || StorageIdError(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 66 {
            return Err(error());
        }
        let mut bytes = [0; 33];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or_else(error)?;
            let low = char::from(pair[1]).to_digit(16).ok_or_else(error)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| error())?;
        }
        Self::from_bytes(&bytes).ok_or_else(error)
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::StorageId;

    const ID: &str = "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";

    #[test]
    fn reads_either_case_and_writes_upper_case() {
        let id: StorageId = ID.to_lowercase().parse().unwrap();
        assert_eq!(id.to_string(), ID);
        assert!(id.is_file());
        assert_eq!(StorageId::from_bytes(id.as_bytes()), Some(id));
    }

    #[test]
    fn refuses_other_lengths_digits_and_algorithms() {
        let bad = [&ID[2..], "", &ID.replace('E', "é"), &ID.replace('E', "G"), &format!("{}03", &ID[..64])];
        for text in bad {
            assert!(text.parse::<StorageId>().is_err(), "{text}");
        }
    }
}
