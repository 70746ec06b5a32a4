//! Archives are read back as they were written, and no other.

use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};
use sha2::{Digest as _, Sha256};

use super::{DocumentItem, Manifest, Object, PackageItem, Reading, VERSION, Verified, Writing, hex, tar};
use crate::blob::VsoHasher;

fn storage(bytes: &[u8]) -> String {
    let mut hasher = VsoHasher::new();
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// A package and a document.
fn manifest(package: &[u8], document: &[u8]) -> Manifest {
    let object = |name: &String, bytes: &[u8]| Object { name: name.clone(), length: bytes.len() as u64 };
    let (one, two) = (storage(package), hex(&Sha256::digest(document)));
    Manifest {
        version: VERSION,
        created: 1,
        identities: [("contoso/-/main".to_owned(), "contoso/-/guid".to_owned())].into(),
        objects: vec![object(&one, package), object(&two, document)],
        packages: vec![PackageItem { path: "/contoso/a".to_owned(), object: one, named_at: 2 }],
        documents: vec![DocumentItem {
            path: "/contoso/b".to_owned(),
            anonymous: false,
            object: two,
            fetched_at: 3,
            content_type: String::new(),
            spelling: String::new(),
        }],
    }
}

fn write(manifest: &Manifest, bodies: &[&[u8]]) -> Vec<u8> {
    let (mut writing, mut archive) = Writing::begin(manifest).unwrap();
    for (object, body) in manifest.objects.iter().zip(bodies) {
        archive.extend(writing.before(object));
        writing.pass(body);
        archive.extend_from_slice(body);
        archive.extend(writing.after(object));
    }
    archive.extend(writing.end());
    archive
}

fn read(archive: &[u8], pieces: usize) -> Result<Verified, String> {
    let mut reading = Reading::new(1 << 20);
    for piece in archive.chunks(pieces) {
        reading.take(piece).map_err(|error| error.to_string())?;
    }
    reading.finish().map_err(|error| error.to_string())
}

#[test]
fn an_archive_is_read_back_in_pieces_of_any_size() {
    let (package, document) = (vec![7; 1500], b"{}".to_vec());
    let manifest = manifest(&package, &document);
    let archive = write(&manifest, &[&package, &document]);
    for pieces in [1, 2, 511, 512, 513, 4096, archive.len()] {
        let verified = read(&archive, pieces).unwrap();
        assert_eq!(verified.manifest, manifest);
        for (place, body) in verified.places.iter().zip([&package, &document]) {
            let place = usize::try_from(*place).unwrap();
            assert_eq!(&archive[place..place + body.len()], body);
        }
    }
    assert_eq!(archive.len() % tar::BLOCK, 0);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let (package, document) = (vec![7; 700], b"{}".to_vec());
    let archive = write(&manifest(&package, &document), &[&package, &document]);
    for length in 0..archive.len() {
        assert!(read(&archive[..length], 4096).is_err(), "{length} of {} bytes", archive.len());
    }
    for at in 0..archive.len() {
        let mut changed = archive.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(read(&changed, 4096).is_err(), "byte {at}");
    }
    assert!(read(&[archive, vec![0]].concat(), 4096).unwrap_err().contains("follow the end"));
}

#[test]
fn a_manifest_that_does_not_hold_is_refused_with_the_rule() {
    let (package, document): (&[u8], &[u8]) = (b"package", b"{}");
    let check = |change: fn(&mut Manifest), rule: &str| {
        let mut manifest = manifest(package, document);
        change(&mut manifest);
        let error = read(&write(&manifest, &[package, document]), 4096).unwrap_err();
        assert!(error.contains(rule), "{rule}: {error}");
    };
    check(|manifest| manifest.version = 2, "version is 2");
    check(|manifest| manifest.objects[0].length = 2 << 20, "more than 1048576 bytes");
    check(|manifest| manifest.objects[1].length = u64::MAX, "more than 1048576 bytes");
    check(|manifest| manifest.objects[0].name = "../../etc/passwd".to_owned(), "neither by a storage id");
    check(|manifest| manifest.objects.push(manifest.objects[0].clone()), "there twice");
    check(|manifest| manifest.packages[0].object = "x".to_owned(), "not there");
    check(|manifest| manifest.packages[0].object = manifest.objects[1].name.clone(), "not there");
    check(|manifest| manifest.documents.clear(), "nothing names");
    check(|manifest| manifest.objects.swap(0, 1), "another digest");
    let swapped = write(&manifest(package, document), &[b"changed", document]);
    assert!(read(&swapped, 4096).unwrap_err().contains("another digest"));
    assert!(read(&[0; 512], 4096).unwrap_err().contains("no header"));
    let other = [tar::header("a", 1), vec![0; 512]].concat();
    assert!(read(&other, 4096).unwrap_err().contains("begins with"));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in vec(any::<u8>(), 0..2000), pieces in 1_usize..600) {
        prop_assert!(read(&bytes, pieces).is_err());
    }

    #[test]
    fn a_header_is_read_back(name in "[a-z0-9/]{1,99}", size in 0_u64..1 << 33) {
        let header = tar::header(&name, size);
        prop_assert_eq!(tar::read(&header), Some((name.as_str(), size)));
    }
}
