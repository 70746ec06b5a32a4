//! NuGet's content hash of a signed package: SHA-512 of the archive as it was before its signature was put in.
//!
//! Lockfiles hold this hash, so that a package has one whoever signed it; of an unsigned package it is the SHA-512 of the
//! file. The signature is one more entry of the zip: its data, its record in the central directory, and what the end
//! record and later records say of places and counts are left out or counted back (NuGet.Client,
//! `SignedPackageArchiveUtility.GetPackageContentHash`). Zip64 is not read: signed packages have none.

use super::Integrity;

/// Name of the signature in a package.
const SIGNATURE: &[u8] = b".signature.p7s";
/// Begins a record of the central directory (APPNOTE 4.3.12), whose fixed part has 46 bytes.
const RECORD: &[u8] = b"PK\x01\x02";
const RECORD_LENGTH: usize = 46;
/// Begins the end record (APPNOTE 4.3.16), of 22 bytes and a comment of at most 65,535.
const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;

/// A file of the archive.
struct File<'p> {
    /// Where its local header is.
    offset: usize,
    /// Its record in the central directory.
    record: &'p [u8],
    is_signature: bool,
}

/// Whether `package` is a signed one whose content is what `integrity` says.
pub fn nuget_content_hash(package: &[u8], integrity: &Integrity) -> bool {
    let mut checking = integrity.check();
    unsigned(package, |bytes| checking.update(bytes)).is_some() && checking.holds()
}

/// Gives the package without its signature piece by piece; `None` when it is not signed or no zip.
fn unsigned(package: &[u8], mut put: impl FnMut(&[u8])) -> Option<()> {
    let end = package.len().checked_sub(END_LENGTH)?;
    let first = end.saturating_sub(usize::from(u16::MAX));
    let end = (first..=end).rev().find(|at| package.get(*at..).is_some_and(|rest| rest.starts_with(END)))?;
    let tail = package.get(end..)?;
    let (size, start) = (number(tail, 12)?, number(tail, 16)?);
    let directory = package.get(start..start.checked_add(size)?)?;
    let mut files = files(directory)?;
    let signature = files.iter().position(|file| file.is_signature)?;
    let (signature, signature_record) = (files.get(signature)?.offset, files.get(signature)?.record.len());
    // In the order of the directory first: the records are given so.
    let records: Vec<(usize, &[u8])> =
        files.iter().filter(|file| !file.is_signature).map(|file| (file.offset, file.record)).collect();
    files.sort_by_key(|file| file.offset);
    let ends = files.iter().skip(1).map(|file| file.offset).chain([start]);
    let mut removed = 0;
    put(package.get(..files.first()?.offset)?);
    for (file, end) in files.iter().zip(ends.collect::<Vec<_>>()) {
        let data = package.get(file.offset..end)?;
        if file.is_signature {
            removed = data.len();
        } else {
            put(data);
        }
    }
    for (offset, record) in records {
        if offset > signature {
            put(record.get(..42)?);
            put(&u32::try_from(offset.checked_sub(removed)?).ok()?.to_le_bytes());
            put(record.get(RECORD_LENGTH..)?);
        } else {
            put(record);
        }
    }
    put(tail.get(..8)?);
    for at in [8, 10] {
        let count = u16::from_le_bytes(tail.get(at..at + 2)?.try_into().ok()?);
        put(&count.checked_sub(1)?.to_le_bytes());
    }
    put(&u32::try_from(size.checked_sub(signature_record)?).ok()?.to_le_bytes());
    put(&u32::try_from(start.checked_sub(removed)?).ok()?.to_le_bytes());
    put(tail.get(20..)?);
    Some(())
}

/// The files of a central directory.
fn files(mut directory: &[u8]) -> Option<Vec<File<'_>>> {
    let mut files = Vec::new();
    while !directory.is_empty() {
        let lengths = [28, 30, 32].map(|at| short(directory, at));
        let [Some(name), Some(extra), Some(comment)] = lengths else { return None };
        let (record, rest) = directory.split_at_checked(RECORD_LENGTH + name + extra + comment)?;
        let named = record.get(RECORD_LENGTH..RECORD_LENGTH + name)?;
        if !record.starts_with(RECORD) {
            return None;
        }
        files.push(File { offset: number(record, 42)?, record, is_signature: named == SIGNATURE });
        directory = rest;
    }
    Some(files)
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use proptest::{collection::vec, prelude::any, proptest};
    use sha2::{Digest as _, Sha512};

    use super::{Integrity, SIGNATURE, nuget_content_hash, unsigned};

    /// Name and data.
    type Entry = (&'static [u8], &'static [u8]);

    /// A zip of uncompressed files, with a comment.
    fn zip(files: &[Entry]) -> Vec<u8> {
        let (mut archive, mut directory) = (Vec::new(), Vec::new());
        let length = |text: &[u8]| u16::try_from(text.len()).unwrap().to_le_bytes();
        for (name, data) in files {
            let offset = u32::try_from(archive.len()).unwrap().to_le_bytes();
            archive.extend([b"PK\x03\x04", &[0; 22][..], &length(name), &[0; 2], name, data].concat());
            directory.extend([b"PK\x01\x02", &[0; 24][..], &length(name), &[0; 12], &offset, name].concat());
        }
        let (count, comment) = (u16::try_from(files.len()).unwrap().to_le_bytes(), b"a comment");
        let place = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let end =
            [b"PK\x05\x06", &[0; 4][..], &count, &count, &place(directory.len()), &place(archive.len())];
        [archive, directory, end.concat(), length(comment).to_vec(), comment.to_vec()].concat()
    }

    #[test]
    fn a_signed_package_has_the_hash_that_it_had_before() {
        let (one, two): (Entry, Entry) = ((b"a.nuspec", b"<x/>"), (b"lib/a.dll", b"MZ..."));
        let signature: Entry = (SIGNATURE, b"0123456789");
        let before = zip(&[one, two]);
        let hash = Integrity::of_nuget(&BASE64.encode(Sha512::digest(&before))).unwrap();
        for signed in [zip(&[one, two, signature]), zip(&[one, signature, two]), zip(&[signature, one, two])]
        {
            assert!(nuget_content_hash(&signed, &hash));
        }
        assert!(!nuget_content_hash(&before, &hash), "it is not signed, so that its own hash counts");
        assert!(!nuget_content_hash(&zip(&[one, signature]), &hash));
        assert!(!nuget_content_hash(b"no zip", &hash));
        for length in 0..before.len() {
            assert_eq!(unsigned(&before[..length], |_| ()), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in vec(any::<u8>(), 0..200), at in 0_usize..300, mark in 0_usize..3) {
            let signed = zip(&[(b"a", b"b"), (SIGNATURE, b"c")]);
            let _ = unsigned(&bytes, |_| ());
            bytes.extend(signed);
            let length = bytes.len();
            bytes[at % length] = [0, 1, 255][mark];
            let _ = unsigned(&bytes, |_| ());
        }
    }
}
