//! Reads an answer to its end and checks it.

use crate::{
    blob::ReadAt,
    handler::{HandlerError, PackageBody, Reply, ReplyBody},
    lanes,
    lockfile::{Checking, Integrity, nuget_content_hash},
};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// Largest signed package whose content hash is worked out: it is held in memory for that.
const MOST: u64 = 512 << 20;

/// What was read.
pub(super) struct Read {
    /// Its length in bytes.
    pub(super) length: u64,
    /// Whether it is what the lockfile says, as far as it says anything.
    pub(super) holds: bool,
    /// Whether it is kept.
    pub(super) is_stored: bool,
}

/// Reads the body of `reply` and checks it against `integrity`.
pub(super) async fn read(
    reply: Reply,
    integrity: Option<&Integrity>,
    is_nuget: bool,
) -> Result<Read, HandlerError> {
    let mut checking = integrity.map(Integrity::check);
    let (length, is_stored, mut whole) = match reply.body {
        ReplyBody::Bytes(bytes) => (bytes.len() as u64, true, Vec::new()),
        ReplyBody::Stream { .. } => return Err(HandlerError::Internal("a stream for an errand".to_owned())),
        ReplyBody::Package(PackageBody::Stored(blob)) => {
            let length = blob.stat.length;
            let whole = read_blob(&*blob.bytes, length, &mut checking, is_nuget).await?;
            (length, true, whole)
        }
        ReplyBody::Package(PackageBody::Filling { fill, length }) => {
            let mut reader = fill.reader(0)?;
            let (mut offset, mut whole) = (0, Vec::new());
            while offset < length {
                let piece = reader.read_at(offset, PIECE).await?;
                if piece.is_empty() {
                    break;
                }
                offset += piece.len() as u64;
                take(&piece, length, &mut checking, is_nuget, &mut whole);
            }
            drop(reader);
            (length, fill.finished().await?.stored, whole)
        }
    };
    let mut holds = checking.is_none_or(Checking::holds);
    if !holds && let Some(integrity) = integrity {
        holds = content_holds(std::mem::take(&mut whole), integrity.clone()).await;
    }
    Ok(Read { length, holds, is_stored })
}

async fn read_blob(
    blob: &dyn ReadAt,
    length: u64,
    checking: &mut Option<Checking<'_>>,
    is_nuget: bool,
) -> Result<Vec<u8>, HandlerError> {
    let (mut offset, mut whole) = (0, Vec::new());
    while offset < length {
        let piece = blob.read_at(offset, PIECE).await;
        let piece = piece.map_err(|error| HandlerError::Unavailable(error.to_string()))?;
        offset += piece.len() as u64;
        take(&piece, length, checking, is_nuget, &mut whole);
    }
    Ok(whole)
}

fn take(piece: &[u8], length: u64, checking: &mut Option<Checking<'_>>, is_nuget: bool, whole: &mut Vec<u8>) {
    if let Some(checking) = checking {
        checking.update(piece);
        if is_nuget && length <= MOST {
            whole.extend_from_slice(piece);
        }
    }
}

/// NuGet's lockfiles speak of a signed package as it was before it was signed.
async fn content_holds(package: Vec<u8>, integrity: Integrity) -> bool {
    let length = package.len();
    let work = move || nuget_content_hash(&package, &integrity);
    lanes::aside(length, work).await.unwrap_or(false)
}
