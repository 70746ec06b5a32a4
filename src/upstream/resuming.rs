//! `Resuming`: a download that breaks in the middle goes on where it broke.
//!
//! ```text
//!  GET url            200, total 40 MB     ├─────────────✗ reset at 13 MB
//!  GET url  bytes=13- 206, 13-40/40                      ├────────✗ stalls at 22 MB
//!  GET url  bytes=22- 403, signature expired
//!  ask the service where the package is: the same storage id, a new url
//!  GET url' bytes=22- 206, 22-40/40                               ├───────────────┤
//! ```
//!
//! The bytes are named by their hash, so any place that the service gives for the same storage id will do; the
//! hash of the whole is still checked by whoever stores it, and a resumed download that was pieced together
//! wrongly fails there. Bytes that were handed on are never handed on again. Tries are bounded: a few in a row
//! that bring nothing, or too slowly, and in all as many as grow with the size. The requests themselves go through the same
//! wrappers as all others, so each has a permit of its own and is repeated when it gets no answer.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::time::sleep;

use super::{BlobLocation, BodyStream, Phase, UpstreamError, UpstreamResponse, body::is_coded};
use crate::redact::SignedUrl;

/// Most resumptions in a row that bring no byte.
const BARREN: u32 = 3;
/// Most resumptions of a small download; a larger one gets one more for each MiB. A line that breaks more often
/// is better left alone.
const FEW: u64 = 16;
/// Most resumptions in a row that end because their host sends too slowly, after less than [`LITTLE`].
const SLOW: u32 = 3;
const LITTLE: u64 = 64 << 10;
/// Pause before the second resumption in a row that brought nothing; the first one is at once.
const PAUSE: Duration = Duration::from_millis(250);
/// Most bytes that are received a second time and dropped, from a host that does not know ranges.
const CHEAP: u64 = 1 << 20;

/// Where the bytes come from.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// Asks `url` for the bytes that `part` names: 200, 206 if there is a part, else an error.
    async fn open(&self, url: &SignedUrl, part: Option<Part>) -> Result<UpstreamResponse, UpstreamError>;

    /// Asks the service again where the bytes are.
    async fn relocate(&self) -> Result<BlobLocation, UpstreamError>;
}

/// What is still missing of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Offset of the first byte; not 0.
    pub(super) first: u64,
    /// The entity tag of the bytes before, if it is strong (RFC 9110 §13.1.5).
    pub(super) tag: Option<HeaderValue>,
}

/// Counts resumptions. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Resumes {
    tries: IntCounterVec,
    downloads: IntCounter,
    saved: IntCounter,
}

/// A body that goes on after a break.
pub(super) struct Resuming<S> {
    source: S,
    location: BlobLocation,
    resumes: Resumes,
    current: Box<dyn BodyStream>,
    /// Strong entity tag at the current URL.
    tag: Option<HeaderValue>,
    /// Length of the whole, when it was told.
    total: Option<u64>,
    /// Bytes handed on.
    position: u64,
    /// Bytes of `current` that were handed on before.
    skip: u64,
    barren: u32,
    tries: u64,
    slow: u32,
    /// Bytes handed on since the last resumption.
    brought: u64,
    end: Option<Result<(), UpstreamError>>,
}

/// How a resumption ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    SameUrl,
    NewUrl,
    Failed,
}

/// Why a resumption failed.
#[derive(Debug)]
enum Obstacle {
    /// The next one may succeed.
    Passing(UpstreamError),
    /// These bytes cannot be had any more.
    Lasting(UpstreamError),
}

/// "Content-Range: bytes first-last/length", or `*` for a length that is not known (RFC 9110 §14.4).
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    length: Option<u64>,
}

// === impl Resumes ===

impl Resumes {
    /// Registers the metrics; fails if they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let tries = Opts::new(
            "feedgate_upstream_resumptions_total",
            "Times that a download which broke was taken up again, by where, or could not be.",
        );
        let resumes = Self {
            tries: IntCounterVec::new(tries, &["outcome"])?,
            downloads: IntCounter::new(
                "feedgate_upstream_resumed_downloads_total",
                "Downloads that broke on the way and were received to their end all the same.",
            )?,
            saved: IntCounter::new(
                "feedgate_upstream_resumed_bytes_total",
                "Bytes that were not received a second time because a download was taken up where it broke.",
            )?,
        };
        registry.register(Box::new(resumes.tries.clone()))?;
        registry.register(Box::new(resumes.downloads.clone()))?;
        registry.register(Box::new(resumes.saved.clone()))?;
        for outcome in [Outcome::SameUrl, Outcome::NewUrl, Outcome::Failed] {
            resumes.tries.with_label_values(&[outcome.as_str()]).inc_by(0);
        }
        Ok(resumes)
    }

    fn count(&self, outcome: Outcome) {
        self.tries.with_label_values(&[outcome.as_str()]).inc();
    }
}

// === impl Resuming ===

impl<S: Source> Resuming<S> {
    /// Makes the body of `response`, which is the whole (200) at `location`, one that goes on after a break.
    pub(super) fn wrap(
        response: UpstreamResponse,
        source: S,
        location: BlobLocation,
        resumes: Resumes,
    ) -> UpstreamResponse
    where
        S: 'static,
    {
        let body = Self {
            source,
            location,
            resumes,
            current: response.body,
            tag: strong_tag(&response.headers),
            total: content_length(&response.headers),
            position: 0,
            skip: 0,
            barren: 0,
            tries: 0,
            slow: 0,
            brought: 0,
            end: None,
        };
        UpstreamResponse { body: Box::new(body), ..response }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            let broken = match self.current.next().await {
                Ok(Some(bytes)) => match self.fresh(bytes)? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => continue,
                },
                Ok(None) if self.total.is_none_or(|total| self.position == total) => return Ok(None),
                Ok(None) => self.wrong_length(self.position),
                Err(error) => error,
            };
            if !is_break(&broken) {
                return Err(broken);
            }
            if self.is_too_slow(&broken) {
                return Err(self.give_up(broken));
            }
            self.resume(broken).await?;
        }
    }

    /// What of `bytes` was not handed on before.
    fn fresh(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, UpstreamError> {
        let old = self.skip.min(bytes.len() as u64);
        self.skip -= old;
        // At most `bytes.len()`, so it fits.
        let bytes = bytes.split_off(usize::try_from(old).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return Ok(None);
        }
        let position = self.position + bytes.len() as u64;
        if self.total.is_some_and(|total| position > total) {
            return Err(self.wrong_length(position));
        }
        self.brought += bytes.len() as u64;
        (self.position, self.barren) = (position, 0);
        Ok(Some(bytes))
    }

    /// Whether the host trickles, and did so whenever it was asked for the rest: each time takes as long as a stall.
    fn is_too_slow(&mut self, broken: &UpstreamError) -> bool {
        let brought = std::mem::take(&mut self.brought);
        let trickled = matches!(broken, UpstreamError::Timeout { .. }) && brought < LITTLE;
        self.slow = if trickled { self.slow + 1 } else { 0 };
        self.slow > SLOW
    }

    /// Finds a body that goes on where the last one ended, or says why that one did.
    async fn resume(&mut self, broken: UpstreamError) -> Result<(), UpstreamError> {
        let mut why = broken;
        loop {
            let most = FEW + (self.total.unwrap_or_default() >> 20);
            if self.barren == BARREN || self.tries == most {
                return Err(self.give_up(why));
            }
            sleep(PAUSE * self.barren).await;
            (self.barren, self.tries) = (self.barren + 1, self.tries + 1);
            tracing::debug!(url = %self.location.url, at = self.position, reason = %why, "download resumed");
            match self.reopen().await {
                Ok(outcome) => {
                    self.resumes.count(outcome);
                    self.resumes.saved.inc_by(self.position - self.skip);
                    return Ok(());
                }
                Err(Obstacle::Passing(error)) => why = error,
                Err(Obstacle::Lasting(error)) => return Err(self.give_up(error)),
            }
        }
    }

    fn give_up(&self, error: UpstreamError) -> UpstreamError {
        self.resumes.count(Outcome::Failed);
        error
    }

    async fn reopen(&mut self) -> Result<Outcome, Obstacle> {
        match self.source.open(&self.location.url, self.part()).await {
            Err(UpstreamError::Link { .. }) => {
                self.relocate().await?;
                let response = self.source.open(&self.location.url, self.part()).await;
                self.accept(response.map_err(Obstacle::of)?)?;
                Ok(Outcome::NewUrl)
            }
            response => {
                self.accept(response.map_err(Obstacle::of)?)?;
                Ok(Outcome::SameUrl)
            }
        }
    }

    fn part(&self) -> Option<Part> {
        (self.position > 0).then(|| Part { first: self.position, tag: self.tag.clone() })
    }

    /// The URL is no longer good. Another one is, if it leads to the same content.
    async fn relocate(&mut self) -> Result<(), Obstacle> {
        let location = self.source.relocate().await.map_err(Obstacle::of)?;
        if location.storage_id.is_none() || location.storage_id != self.location.storage_id {
            return Err(self.lasting("the service now gives other content"));
        }
        // Another copy of the same bytes may have another tag.
        (self.location, self.tag) = (location, None);
        Ok(())
    }

    fn accept(&mut self, response: UpstreamResponse) -> Result<(), Obstacle> {
        let tag = strong_tag(&response.headers);
        if is_coded(&response.headers) {
            return Err(self.lasting("the rest came with a content coding"));
        }
        if tag.is_some() && self.tag.is_some() && tag != self.tag {
            return Err(self.lasting("the content has changed"));
        }
        let (skip, total) = match response.status {
            StatusCode::PARTIAL_CONTENT => (0, self.rest_of(&response.headers)?),
            // "If the validator does not match, the server SHOULD ignore the Range header field" (RFC 9110 §14.2);
            // so does one that has no ranges.
            _ if self.position > CHEAP => return Err(self.lasting("the host sends the whole again")),
            _ => (self.position, content_length(&response.headers)),
        };
        if total.is_some() && self.total.is_some() && total != self.total {
            return Err(self.lasting("the length has changed"));
        }
        (self.skip, self.total) = (skip, self.total.or(total));
        self.tag = self.tag.take().or(tag);
        self.current = response.body;
        Ok(())
    }

    /// The total length, if `headers` are those of a part from the current position on. A server may send less of it
    /// than was asked for (RFC 9110 §14.2); then the rest is one more resumption.
    fn rest_of(&self, headers: &HeaderMap) -> Result<Option<u64>, Obstacle> {
        let range =
            headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.to_str().ok()?));
        match range {
            Some(range) if range.first == self.position => match range.length.or(self.total) {
                None => Err(self.lasting("nobody says how long the whole is")),
                length => Ok(length),
            },
            _ => Err(self.lasting("another part came than was asked for")),
        }
    }

    fn lasting(&self, reason: &str) -> Obstacle {
        let reason = format!("{reason}, so the download cannot go on");
        Obstacle::Lasting(UpstreamError::Broken { host: self.host(), reason })
    }

    fn wrong_length(&self, received: u64) -> UpstreamError {
        let announced = self.total.unwrap_or_default();
        UpstreamError::Length { host: self.host(), announced, received }
    }

    fn host(&self) -> String {
        self.location.url.authority().to_owned()
    }
}

#[async_trait]
impl<S: Source> BodyStream for Resuming<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if let Some(end) = &self.end {
            return end.clone().map(|()| None);
        }
        let next = self.read().await;
        match &next {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.end = Some(Ok(()));
                self.resumes.downloads.inc_by(u64::from(self.tries > 0));
            }
            Err(error) => self.end = Some(Err(error.clone())),
        }
        next
    }
}

// === impl Outcome ===

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::SameUrl => "same_url",
            Self::NewUrl => "new_url",
            Self::Failed => "failed",
        }
    }
}

// === impl Obstacle ===

impl Obstacle {
    /// What a request that was repeated already, and failed, means for the next.
    fn of(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Connect { .. }
            | UpstreamError::Broken { .. }
            | UpstreamError::Timeout { .. }
            | UpstreamError::Length { .. }
            | UpstreamError::Dead { .. }
            | UpstreamError::Shed(_) => Self::Passing(error),
            UpstreamError::Download { status, .. } if status.is_server_error() || status.as_u16() == 429 => {
                Self::Passing(error)
            }
            _ => Self::Lasting(error),
        }
    }
}

// === impl ContentRange ===

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, length) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let (first, last) = (number(first)?, number(last)?);
        let length = if length.trim() == "*" { None } else { Some(number(length)?) };
        let fits = first <= last && length.is_none_or(|length| last < length);
        fits.then_some(Self { first, length })
    }
}

/// Whether more of the body may be had by asking again.
fn is_break(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Broken { .. } | UpstreamError::Timeout { phase: Phase::Idle, .. } => true,
        UpstreamError::Length { announced, received, .. } => received < announced,
        _ => false,
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// "A client MUST NOT generate an If-Range header field containing an entity tag that is marked as weak"
/// (RFC 9110 §13.1.5).
fn strong_tag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned()
}

#[cfg(test)]
mod tests;
