//! Takes an archive piece by piece, and verifies every byte of it.

use std::{collections::HashSet, str::FromStr as _};

use sha2::{Digest as _, Sha256};

use super::{DIGEST, MANIFEST, Manifest, Object, VERSION, hex, path, tar};
use crate::{blob::VsoHasher, ident::StorageId};

/// Largest manifest, in bytes: some hundred thousand packages.
const MOST: u64 = 128 << 20;

/// Why an archive is refused; with the byte from its start where that was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the archive: {rule}")]
pub struct ArchiveError {
    /// The byte, from 0.
    pub at: u64,
    /// What does not hold.
    pub rule: String,
}

/// An archive that is whole and unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What is in it.
    pub manifest: Manifest,
    /// Where each of its objects begins.
    pub places: Vec<u64>,
}

/// An archive being read.
pub struct Reading {
    /// Bytes that were taken.
    at: u64,
    /// Of everything before the last entry.
    whole: Sha256,
    part: Part,
    /// The bytes of a part that is judged as a whole.
    held: Vec<u8>,
    manifest: Manifest,
    places: Vec<u64>,
    most: u64,
}

/// What comes next.
enum Part {
    /// A header of the entry that is due.
    Header,
    /// The manifest, of that length.
    Manifest(u64),
    /// So many more bytes of the object that is due.
    Object(u64, Naming),
    /// Zeros, and then a header.
    Padding(usize),
    /// The digest, and then zeros.
    Digest,
    /// Zeros, and then nothing.
    End(usize),
}

/// The digest by which an object is named.
enum Naming {
    Storage(Box<VsoHasher>),
    Sha256(Sha256),
}

// === impl Reading ===

impl Reading {
    /// Begins to read an archive whose objects have at most `most` bytes together.
    pub fn new(most: u64) -> Self {
        Self {
            at: 0,
            whole: Sha256::new(),
            part: Part::Header,
            held: Vec::new(),
            manifest: Manifest::default(),
            places: Vec::new(),
            most,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ArchiveError`]; nothing more is to be taken then.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let taken = match &self.part {
                Part::Header => self.hold(bytes, tar::BLOCK, Self::header)?,
                Part::Manifest(length) => {
                    let length = usize::try_from(*length).unwrap_or(usize::MAX);
                    self.hold(bytes, length, Self::manifest)?
                }
                Part::Object(..) => self.object(bytes)?,
                Part::Padding(_) | Part::End(_) => self.zeros(bytes)?,
                Part::Digest => self.hold(bytes, 64, Self::digest)?,
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The archive, when all of it was taken.
    ///
    /// # Errors
    /// [`ArchiveError`], when it is cut off.
    pub fn finish(self) -> Result<Verified, ArchiveError> {
        match self.part {
            Part::End(0) => Ok(Verified { manifest: self.manifest, places: self.places }),
            _ => Err(ArchiveError { at: self.at, rule: "it ends here, before its end".to_owned() }),
        }
    }

    fn refuse(&self, rule: impl Into<String>) -> ArchiveError {
        ArchiveError { at: self.at, rule: rule.into() }
    }

    /// Collects `length` bytes and has them judged.
    fn hold(
        &mut self,
        bytes: &[u8],
        length: usize,
        judge: fn(&mut Self, &[u8]) -> Result<Part, ArchiveError>,
    ) -> Result<usize, ArchiveError> {
        let taken = bytes.len().min(length - self.held.len());
        self.held.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.at += taken as u64;
        if self.held.len() == length {
            let held = std::mem::take(&mut self.held);
            self.part = judge(self, &held)?;
        }
        Ok(taken)
    }

    /// A header must be that of the entry that is due.
    fn header(&mut self, block: &[u8]) -> Result<Part, ArchiveError> {
        let Some((name, size)) = tar::read(block) else {
            return Err(self.refuse("is no header of an archive"));
        };
        if self.manifest.version == 0 {
            if name != MANIFEST || size == 0 || size > MOST {
                return Err(self.refuse(format!("an archive begins with `{MANIFEST}` of 1 to {MOST} bytes")));
            }
            self.whole.update(block);
            return Ok(Part::Manifest(size));
        }
        let due = self.manifest.objects.get(self.places.len());
        let (due_name, due_size) =
            due.map_or((DIGEST.to_owned(), 64), |object| (path(&object.name), object.length));
        if name != due_name || size != due_size {
            return Err(self.refuse(format!("`{due_name}` of {due_size} bytes is due here")));
        }
        let Some(object) = due else { return Ok(Part::Digest) };
        let naming = Naming::of(object);
        self.whole.update(block);
        self.places.push(self.at);
        if size == 0 { self.named(naming) } else { Ok(Part::Object(size, naming)) }
    }

    fn manifest(&mut self, text: &[u8]) -> Result<Part, ArchiveError> {
        let manifest: Manifest =
            serde_json::from_slice(text).map_err(|error| self.refuse(format!("the manifest: {error}")))?;
        if manifest.version != VERSION {
            let rule = format!("the manifest's version is {}, and {VERSION} is read here", manifest.version);
            return Err(self.refuse(rule));
        }
        let sum = manifest.objects.iter().try_fold(0_u64, |sum, object| sum.checked_add(object.length));
        if sum.is_none_or(|sum| sum > self.most) {
            return Err(self.refuse(format!("its objects have more than {} bytes", self.most)));
        }
        check(&manifest).map_err(|rule| self.refuse(format!("the manifest: {rule}")))?;
        self.manifest = manifest;
        self.whole.update(text);
        Ok(padded(text.len() as u64))
    }

    fn object(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let Part::Object(left, naming) = &mut self.part else { return Ok(0) };
        let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let piece = bytes.get(..taken).unwrap_or_default();
        naming.update(piece);
        self.whole.update(piece);
        self.at += taken as u64;
        *left -= taken as u64;
        if *left == 0
            && let Part::Object(_, naming) = std::mem::replace(&mut self.part, Part::Header)
        {
            self.part = self.named(naming)?;
        }
        Ok(taken)
    }

    /// The object that was read must have its name.
    fn named(&mut self, naming: Naming) -> Result<Part, ArchiveError> {
        let object = self.manifest.objects.get(self.places.len() - 1);
        let Some(object) = object else { return Err(self.refuse("is no object")) };
        let (name, length) = (object.name.clone(), object.length);
        if naming.finish() != name {
            return Err(self.refuse(format!("the bytes of object {name} have another digest")));
        }
        Ok(padded(length))
    }

    fn digest(&mut self, digest: &[u8]) -> Result<Part, ArchiveError> {
        let own = hex(&std::mem::take(&mut self.whole).finalize());
        if digest != own.as_bytes() {
            return Err(self.refuse("the archive was changed: its digest is another"));
        }
        Ok(Part::End(tar::padding(digest.len() as u64) + tar::END))
    }

    fn zeros(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let (left, ends) = match self.part {
            Part::Padding(left) => (left, false),
            Part::End(left) => (left, true),
            _ => return Ok(0),
        };
        if left == 0 {
            return Err(self.refuse("bytes follow the end of the archive"));
        }
        let taken = bytes.len().min(left);
        let piece = bytes.get(..taken).unwrap_or_default();
        if piece.iter().any(|byte| *byte != 0) {
            return Err(self.refuse("zeros are due here"));
        }
        self.at += taken as u64;
        if !ends {
            self.whole.update(piece);
        }
        self.part = match (left - taken, ends) {
            (left, true) => Part::End(left),
            (0, false) => Part::Header,
            (left, false) => Part::Padding(left),
        };
        Ok(taken)
    }
}

// === impl Naming ===

impl Naming {
    fn of(object: &Object) -> Self {
        if object.name.len() == 64 {
            Self::Sha256(Sha256::new())
        } else {
            Self::Storage(Box::new(VsoHasher::new()))
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Storage(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Storage(hasher) => hasher.finish().to_string(),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
        }
    }
}

fn padded(length: u64) -> Part {
    match tar::padding(length) {
        0 => Part::Header,
        padding => Part::Padding(padding),
    }
}

/// Whether everything that the manifest names is in the archive, and nothing else.
fn check(manifest: &Manifest) -> Result<(), String> {
    let mut objects = HashSet::new();
    for Object { name, .. } in &manifest.objects {
        let is_sha256 =
            name.len() == 64 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let is_storage = StorageId::from_str(name).is_ok_and(|id| id.is_file() && id.to_string() == *name);
        if !is_sha256 && !is_storage {
            return Err(format!("object {name:?} is named neither by a storage id nor by a SHA-256"));
        }
        if !objects.insert(name.as_str()) {
            return Err(format!("object {name} is there twice"));
        }
    }
    let named = manifest.packages.iter().map(|item| (&item.path, &item.object, 66));
    let named = named.chain(manifest.documents.iter().map(|item| (&item.path, &item.object, 64)));
    let mut wanted = HashSet::new();
    for (path, object, length) in named {
        if object.len() != length || !objects.contains(object.as_str()) {
            return Err(format!("{path:?} names the object {object:?}, which is not there"));
        }
        wanted.insert(object.as_str());
    }
    if wanted.len() != objects.len() {
        return Err("it has objects that nothing names".to_owned());
    }
    Ok(())
}
