//! From a [`Reply`] to the wire: conditions, ranges, HEAD, framing, and an unclean end for what is not whole.
//!
//! `Content-Length` is always sent, so a client can tell a body that was cut off; when the bytes fail half
//! way the connection is closed and never ended as if it were complete.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::{Error, ErrorType, Result, http::ResponseHeader, proxy::Session};
use tokio::time::Instant;

use super::{
    context::RequestContext,
    range::{Multipart, Selection, content_range, resolve, unsatisfied_range},
};
use crate::{
    blob::fill::FillReader,
    document::{conditional::if_none_match, representation::joined},
    handler::{PackageBody, Reply, ReplyBody},
    listener::Facts,
};

/// Bytes of a document for one write.
const WRITE: usize = 256 << 10;
/// Most bytes of a download in progress for one write when hundreds follow it. With 200 clients of a package of 50 MB,
/// memory grew by 43 MB at 64 KiB and by 19 MB at 16 KiB.
const SHARED_READ: usize = 16 << 10;
/// The same when up to [`FEW`] do: a piece as it came.
const FILLING_READ: usize = 64 << 10;
/// Followers who get the larger pieces.
const FEW: usize = 16;
/// How long one write may take before the client counts as gone; with the largest pieces that is anybody who takes
/// less than some 4 KiB a second.
pub const STALL: Duration = Duration::from_secs(60);
/// The request's id, in every answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How the answer came about (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What is left of a request once its head was read.
pub(super) struct Asked<'a> {
    /// Method.
    pub(super) method: &'a Method,
    /// Headers.
    pub(super) headers: &'a HeaderMap,
}

/// What is sent after the head.
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    Parts(PackageBody, Vec<(Bytes, std::ops::Range<u64>)>, Bytes),
    Stream(Box<dyn crate::upstream::BodyStream>),
}

/// Reads one body from front to back.
enum Source {
    Stored(std::sync::Arc<dyn crate::blob::ReadAt>),
    Filling(FillReader),
}

// === impl Source ===

impl Source {
    /// Most bytes to read at a time.
    fn largest(&self) -> usize {
        match self {
            Self::Stored(_) => usize::MAX,
            Self::Filling(reader) if reader.fill().readers() <= FEW => FILLING_READ,
            Self::Filling(_) => SHARED_READ,
        }
    }
}

/// Sends `reply` as the answer to the request of `session`.
pub async fn send(session: &mut Session, context: &mut RequestContext, reply: Reply) -> Result<()> {
    let request = session.req_header();
    let asked = Asked { method: &request.method, headers: &request.headers };
    context.cache = reply.cache;
    context.tier = reply.tier();
    context.answering(&reply.headers, matches!(reply.body, ReplyBody::Package(_)));
    let reason = reply.reason.clone();
    let (status, mut headers, payload) = shape(&asked, reply, context);
    context.status = Some(status);
    let silent = *asked.method == Method::HEAD || matches!(payload, Payload::Nothing);
    if matches!(payload, Payload::Stream(_)) && !headers.contains_key(header::CONTENT_LENGTH) {
        delimit(session, &mut headers);
    }
    let mut head = head(status, headers);
    if let Some(reason) = reason.as_deref().filter(|reason| is_reason_phrase(reason)) {
        head.set_reason_phrase(Some(reason))?;
    }
    if let Some(facts) = Facts::of(session.as_downstream()) {
        facts.dating.set(head.headers.get(header::DATE).map(HeaderValue::as_bytes));
    }
    session.write_response_header(Box::new(head), silent).await?;
    if silent { Ok(()) } else { send_payload(session, context, payload).await }
}

/// The headers go over as they are: building the head one by one would keep the case of each name beside it.
fn head(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    parts.into()
}

/// A body of unknown length is sent in chunks: ended by the connection's end, a torn one would look whole.
fn delimit(session: &mut Session, headers: &mut HeaderMap) {
    if session.req_header().version >= Version::HTTP_11 {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else {
        session.set_keepalive(None);
    }
}

/// Status, headers and what follows them, by the conditions and ranges of the request.
pub(super) fn shape(
    asked: &Asked<'_>,
    reply: Reply,
    context: &RequestContext,
) -> (StatusCode, HeaderMap, Payload) {
    let mut headers = reply.headers;
    let mut status = reply.status;
    if let Ok(id) = HeaderValue::from_str(&context.id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(value) = reply.cache.header() {
        // Behind those of the caches before this one (RFC 9211 §2).
        headers.append(CACHE_STATUS, value);
    }
    if let Some(value) = reply.cache.x_cache() {
        headers.insert(HeaderName::from_static("x-cache"), value);
    }
    if status == StatusCode::OK && not_modified(asked, &headers) {
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_DISPOSITION);
        return (StatusCode::NOT_MODIFIED, headers, Payload::Nothing);
    }
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return (status, headers, Payload::Nothing);
    }
    let payload = match reply.body {
        ReplyBody::Bytes(body) => {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
            Payload::Bytes(body)
        }
        ReplyBody::Stream { body, length } => {
            if let Some(length) = length {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            Payload::Stream(body)
        }
        ReplyBody::Package(body) => select(asked, &mut status, &mut headers, body),
    };
    (status, headers, payload)
}

/// Narrows a package to the ranges asked for (RFC 9110 §14).
fn select(asked: &Asked<'_>, status: &mut StatusCode, headers: &mut HeaderMap, body: PackageBody) -> Payload {
    let length = body.length();
    let etag = text(headers, &header::ETAG).unwrap_or_default().to_owned();
    let range = if *asked.method == Method::GET { text(asked.headers, &header::RANGE) } else { None };
    match resolve(range, text(asked.headers, &header::IF_RANGE), &etag, length) {
        Selection::Whole => {
            headers.insert(header::CONTENT_LENGTH, length.into());
            Payload::Parts(body, vec![(Bytes::new(), 0..length)], Bytes::new())
        }
        Selection::Single(part) => {
            *status = StatusCode::PARTIAL_CONTENT;
            headers.insert(header::CONTENT_RANGE, content_range(&part, length));
            headers.insert(header::CONTENT_LENGTH, (part.end - part.start).into());
            Payload::Parts(body, vec![(Bytes::new(), part)], Bytes::new())
        }
        Selection::Multi(parts) => {
            *status = StatusCode::PARTIAL_CONTENT;
            let octets = HeaderValue::from_static("application/octet-stream");
            let kind = headers.insert(header::CONTENT_TYPE, octets.clone()).unwrap_or(octets);
            let multipart = Multipart::new(parts, length, kind, uuid::Uuid::new_v4().as_u128());
            headers.insert(header::CONTENT_TYPE, multipart.content_type());
            headers.insert(header::CONTENT_LENGTH, multipart.content_length().into());
            Payload::Parts(body, multipart.parts().collect(), multipart.tail())
        }
        Selection::Unsatisfiable => {
            *status = StatusCode::RANGE_NOT_SATISFIABLE;
            headers.insert(header::CONTENT_RANGE, unsatisfied_range(length));
            headers.insert(header::CONTENT_LENGTH, 0.into());
            headers.remove(header::CONTENT_DISPOSITION);
            Payload::Nothing
        }
    }
}

async fn send_payload(session: &mut Session, context: &mut RequestContext, payload: Payload) -> Result<()> {
    match payload {
        Payload::Nothing => Ok(()),
        Payload::Bytes(mut body) => {
            while body.len() > WRITE {
                write(session, context, body.split_to(WRITE), false).await?;
            }
            write(session, context, body, true).await
        }
        Payload::Stream(mut body) => {
            while let Some(bytes) = body.next().await.map_err(|error| broken(&error))? {
                write(session, context, bytes, false).await?;
            }
            session.write_response_body(None, true).await
        }
        Payload::Parts(body, parts, tail) => {
            for (head, range) in parts {
                if !head.is_empty() {
                    write(session, context, head, false).await?;
                }
                send_range(session, context, &body, range).await?;
            }
            if !tail.is_empty() {
                write(session, context, tail, false).await?;
            }
            session.write_response_body(None, true).await
        }
    }
}

async fn send_range(
    session: &mut Session,
    context: &mut RequestContext,
    body: &PackageBody,
    range: std::ops::Range<u64>,
) -> Result<()> {
    let mut source = match body {
        PackageBody::Stored(blob) => Source::Stored(blob.bytes.clone()),
        PackageBody::Filling { fill, length } => {
            if range != (0..*length) {
                // A part of a body could be complete before the whole of it is checked.
                fill.verified().await.map_err(|error| broken(&error))?;
            }
            let reader = fill.reader(range.start).map_err(|error| broken(&error))?;
            Source::Filling(reader)
        }
    };
    let (mut offset, mut pieces) = (range.start, context.outflow.pieces());
    while offset < range.end {
        let most = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
        let most = most.min(pieces.next()).min(source.largest());
        let bytes = match &mut source {
            Source::Stored(bytes) => bytes.read_at(offset, most).await.map_err(|error| broken(&error))?,
            Source::Filling(reader) => reader.read_at(offset, most).await.map_err(|error| broken(&error))?,
        };
        if bytes.is_empty() {
            return Err(Error::explain(ErrorType::InternalError, "the body ended early"));
        }
        offset += bytes.len() as u64;
        let begun = Instant::now();
        write(session, context, bytes, false).await?;
        pieces.taken(begun.elapsed());
    }
    Ok(())
}

async fn write(session: &mut Session, context: &mut RequestContext, bytes: Bytes, end: bool) -> Result<()> {
    context.sent += bytes.len() as u64;
    session.write_response_body(Some(bytes), end).await
}

/// Whether the client has what it asks for (RFC 9110 §13.1.2): a condition on anything but a read was for whoever
/// did it.
fn not_modified(asked: &Asked<'_>, headers: &HeaderMap) -> bool {
    if !matches!(*asked.method, Method::GET | Method::HEAD) {
        return false;
    }
    match text(headers, &header::ETAG) {
        Some(etag) => if_none_match(joined(asked.headers, &header::IF_NONE_MATCH).as_deref(), etag),
        None => false,
    }
}

/// The text of a body that broke never reaches the client: its head was sent.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed")]
fn broken(error: &dyn std::error::Error) -> Box<Error> {
    Error::explain(ErrorType::InternalError, error.to_string())
}

fn is_reason_phrase(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
