//! Bodies that are needed whole: read up to a limit, and decoded.
//!
//! Packages do not pass here: they are streamed.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, header};
use tokio::time::timeout;

use super::{BodyStream, UpstreamError, UpstreamResponse};
use crate::lanes;

/// Encoded bodies above this many bytes are decoded off the async threads: below it takes under a
/// millisecond, which is less than the trip costs.
const DECODE_INLINE: usize = 64 << 10;
/// How many times as long documents are without their coding, about.
const UNFOLDS: usize = 8;

/// Content that is unfolded between two looks at how much it has become.
const PIECE: u64 = 64 << 10;
/// What any body may unfold to. Below it a bomb costs little: sixteen of a gigabyte made the process grow by 5 MB, and by
/// 130 MB at 8 MiB.
const UNFOLDS_FREELY: u64 = 2 << 20;
/// How many times its size a longer body may become: JSON that repeats itself comes to 10 to 60 times, and a bomb to
/// 150 (the fastest of compressors) to 1,032 (the most that deflate can do).
const RATIO: u64 = 100;

/// What stands between a body and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

/// A body of which a part was read before its reader comes. The reader gets it from its first byte on.
#[derive(Default)]
pub(super) struct ReadAhead {
    read: VecDeque<Bytes>,
    failure: Option<UpstreamError>,
    rest: Option<Box<dyn BodyStream>>,
}

/// The body of `response`, decoded. `limit` bounds both the bytes that are received and those that come of
/// them, so a small body cannot unfold into a large one.
///
/// Fails with [`UpstreamError::TooLarge`] beyond `limit` bytes, and with [`UpstreamError::Encoding`] for a
/// coding other than gzip and for a body that does not follow it.
pub async fn read_document(response: UpstreamResponse, limit: u64) -> Result<Bytes, UpstreamError> {
    // Before the body is read: one that cannot be decoded is of no use.
    Coding::of(&response.headers)?;
    let body = read_to_end(response.body, limit).await?;
    decoded(&response.headers, body, limit).await
}

/// A body that came with `headers`, decoded; errors as of [`read_document`].
pub async fn decoded(headers: &HeaderMap, body: Bytes, limit: u64) -> Result<Bytes, UpstreamError> {
    match Coding::of(headers)? {
        Coding::Identity => Ok(body),
        Coding::Gzip if body.len() <= DECODE_INLINE => gunzip(&body, limit),
        Coding::Gzip => lanes::aside(body.len() * UNFOLDS, move || gunzip(&body, limit))
            .await
            .unwrap_or_else(|| Err(UpstreamError::Encoding("it was not decoded to its end".to_owned()))),
    }
}

/// Whether a body that came with `headers` is something else than its content.
pub fn is_coded(headers: &HeaderMap) -> bool {
    !matches!(Coding::of(headers), Ok(Coding::Identity))
}

/// A whole body of at most `limit` bytes, else [`UpstreamError::TooLarge`].
pub async fn read_to_end(mut body: Box<dyn BodyStream>, limit: u64) -> Result<Bytes, UpstreamError> {
    let Some(first) = body.next().await? else { return Ok(Bytes::new()) };
    check(first.len(), limit)?;
    let Some(second) = body.next().await? else { return Ok(first) };
    let mut whole = BytesMut::from(first.as_ref());
    let mut next = Some(second);
    while let Some(bytes) = next {
        check(whole.len() + bytes.len(), limit)?;
        whole.extend_from_slice(&bytes);
        next = body.next().await?;
    }
    Ok(whole.freeze())
}

/// What of a body can be had within `limit` bytes and `patience`, decoded: for the text of a refusal, of which a part
/// is better than nothing.
pub(super) async fn read_some(
    mut body: Box<dyn BodyStream>,
    headers: &HeaderMap,
    limit: usize,
    patience: Duration,
) -> Bytes {
    let mut some = BytesMut::new();
    let reading = async {
        while let Ok(Some(bytes)) = body.next().await {
            let room = limit - some.len();
            some.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if some.len() == limit {
                break;
            }
        }
    };
    // What came until then is what there is of it.
    let _ = timeout(patience, reading).await;
    decoded_some(&some.freeze(), headers, limit)
}

/// Like [`read_some`], within `patience`, and the body stays as it is for whoever reads it next.
pub(super) async fn peek(response: &mut UpstreamResponse, limit: usize, patience: Duration) -> Bytes {
    let body = std::mem::replace(&mut response.body, Box::new(ReadAhead::default()));
    let mut ahead = ReadAhead { rest: Some(body), ..ReadAhead::default() };
    // A text that does not come in time is judged by what there is of it.
    let _ = timeout(patience, ahead.fill(limit)).await;
    let text: Vec<u8> = ahead.read.iter().flatten().copied().take(limit).collect();
    response.body = Box::new(ahead);
    decoded_some(&text.into(), &response.headers, limit)
}

fn decoded_some(some: &Bytes, headers: &HeaderMap, limit: usize) -> Bytes {
    match Coding::of(headers) {
        Ok(Coding::Identity) => some.clone(),
        Ok(Coding::Gzip) => unfold(some, limit as u64).0.into(),
        Err(_) => Bytes::new(),
    }
}

// === impl ReadAhead ===

impl ReadAhead {
    /// A body that was read to its end.
    pub(super) fn whole(body: Bytes) -> Self {
        Self { read: Some(body).filter(|body| !body.is_empty()).into_iter().collect(), ..Self::default() }
    }

    async fn fill(&mut self, limit: usize) {
        let mut length = 0;
        while let Some(rest) = self.rest.as_mut().filter(|_| length < limit) {
            match rest.next().await {
                Ok(Some(bytes)) => {
                    length += bytes.len();
                    self.read.push_back(bytes);
                }
                Ok(None) => self.rest = None,
                Err(error) => (self.failure, self.rest) = (Some(error), None),
            }
        }
    }
}

#[async_trait]
impl BodyStream for ReadAhead {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if let Some(bytes) = self.read.pop_front() {
            return Ok(Some(bytes));
        }
        match (&self.failure, &mut self.rest) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(rest)) => rest.next().await,
            (None, None) => Ok(None),
        }
    }
}

// === impl Coding ===

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, UpstreamError> {
        let mut coding = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let text = value.to_str().unwrap_or("not text").trim();
            match (coding, text.to_ascii_lowercase().as_str()) {
                (_, "" | "identity") => {}
                (Self::Identity, "gzip" | "x-gzip") => coding = Self::Gzip,
                _ => {
                    return Err(UpstreamError::Encoding(format!("content coding `{text}` is not gzip")));
                }
            }
        }
        Ok(coding)
    }
}

fn check(length: usize, limit: u64) -> Result<(), UpstreamError> {
    if length as u64 > limit { Err(UpstreamError::TooLarge { limit }) } else { Ok(()) }
}

fn gunzip(body: &[u8], limit: u64) -> Result<Bytes, UpstreamError> {
    let (content, outcome) = unfold(body, limit.saturating_add(1));
    check(content.len(), limit)?;
    outcome.map_err(|error| UpstreamError::Encoding(error.to_string()))?;
    Ok(content.into())
}

/// At most `limit` bytes of content, and whether the coding was followed up to there.
fn unfold(body: &[u8], limit: u64) -> (Vec<u8>, io::Result<()>) {
    let mut decoder = MultiGzDecoder::new(body);
    let mut content = Vec::new();
    loop {
        let room = limit.saturating_sub(content.len() as u64).min(PIECE);
        match decoder.by_ref().take(room).read_to_end(&mut content) {
            Ok(0) => return (content, Ok(())),
            Ok(_) => {}
            Err(error) => return (content, Err(error)),
        }
        let taken = (body.len() - decoder.get_ref().len()) as u64;
        if content.len() as u64 > UNFOLDS_FREELY.max(taken.saturating_mul(RATIO)) {
            let error = format!("it unfolds to more than {RATIO} times its size");
            return (content, Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
    }
}

#[cfg(test)]
mod tests;
