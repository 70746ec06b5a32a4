//! What is read from the store is written back byte for byte, and anything else is no record.
//!
//! Input: a byte for the kind of record, and its bytes. That every record that can be read has one form only is more
//! than `decode(encode(x)) = x`: it says so of each record that the fuzzer can make.

use feedgate::{
    blob::record::Record,
    cache::{Entry, Kept, PackageEntry},
    ident::StorageId,
};

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    match choice & 3 {
        0 => round(bytes, Record::decode(bytes), Record::encode, Record::decode),
        1 => {
            let encode = |entry: &Entry| entry.encode().expect("its body is in the store");
            round(bytes, Entry::decode(bytes), encode, Entry::decode);
        }
        2 => round(bytes, PackageEntry::decode(bytes), |entry| entry.encode().to_vec(), PackageEntry::decode),
        _ => {
            let found = Kept::decode(bytes);
            if let Some(kept) = &found {
                // A name may be written in capitals, and fields of one name apart: those two forms are one.
                assert_eq!(Kept::decode(&kept.encode()).as_ref(), Some(kept));
                assert_eq!(kept.encode().len(), bytes.len());
            }
        }
    }
    if let Some(id) = StorageId::from_bytes(bytes) {
        assert_eq!(id.as_bytes(), bytes);
    }
}

fn round<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    found: Option<T>,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Option<T>,
) {
    if let Some(record) = found {
        assert_eq!(encode(&record), bytes, "{record:?}");
        assert_eq!(decode(bytes), Some(record));
    }
}
