//! Reads the body of a request whose answer depends on it, up to a limit.
//!
//! Such a body is held in memory until its answer is known. All of them together take [`MOST`] at most: who comes when
//! there is no room is told to come later, and waits for nobody. A place is taken as the bytes come, so that a body that
//! is only announced takes none.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora::{http::RequestHeader, proxy::Session};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::handler::HandlerError;

/// How long a client may take for the whole body: 16 MiB in it are 280 KB a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes that are read of a body that nobody asked for before its request is answered.
const UNASKED: usize = 64 << 10;

/// Most bytes of all bodies that are held at once.
const MOST: usize = 256 << 20;

/// The memory for bodies of requests. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Uploads {
    room: Arc<Semaphore>,
}

/// A body in memory, and its place there.
pub(super) struct Upload {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A body on its way into memory.
struct Growing {
    bytes: BytesMut,
    limit: u64,
    place: OwnedSemaphorePermit,
}

// === impl Uploads ===

impl Default for Uploads {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MOST)) }
    }
}

impl Uploads {
    /// The body of the request, at most `limit` bytes.
    ///
    /// # Errors
    /// [`HandlerError::TooLarge`] and [`HandlerError::Crowded`], before anything is read when the length is announced;
    /// [`HandlerError::Body`] when it does not come whole and in time.
    pub(super) async fn read(&self, session: &mut Session, limit: u64) -> Result<Upload, HandlerError> {
        let headers = &session.req_header().headers;
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(HandlerError::TooLarge { limit });
        }
        if announced.is_some_and(|length| length > self.room.available_permits() as u64) {
            return Err(HandlerError::Crowded);
        }
        if waits(session.req_header()) {
            let told = session.as_downstream_mut().write_continue_response().await;
            told.map_err(|_| HandlerError::Body("did not come".to_owned()))?;
        }
        let whole = tokio::time::timeout(PATIENCE, self.read_whole(session, limit)).await;
        whole.unwrap_or_else(|_| Err(HandlerError::Body("did not come in time".to_owned())))
    }

    async fn read_whole(&self, session: &mut Session, limit: u64) -> Result<Upload, HandlerError> {
        let mut body = self.begin(limit)?;
        loop {
            let next = session.as_downstream_mut().read_request_body().await;
            match next.map_err(|_| HandlerError::Body("ended early".to_owned()))? {
                Some(bytes) => body.take(&bytes)?,
                None => return Ok(Upload { bytes: body.bytes.freeze(), _room: body.place }),
            }
        }
    }

    fn begin(&self, limit: u64) -> Result<Growing, HandlerError> {
        let place = Arc::clone(&self.room).try_acquire_many_owned(0).map_err(|_| HandlerError::Crowded)?;
        Ok(Growing { bytes: BytesMut::new(), limit, place })
    }
}

// === impl Upload ===

impl Upload {
    /// Its bytes; the place is kept until this is dropped.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

// === impl Growing ===

impl Growing {
    fn take(&mut self, bytes: &[u8]) -> Result<(), HandlerError> {
        if (self.bytes.len() + bytes.len()) as u64 > self.limit {
            return Err(HandlerError::TooLarge { limit: self.limit });
        }
        let more = u32::try_from(bytes.len()).ok();
        let more = more.and_then(|more| Arc::clone(self.place.semaphore()).try_acquire_many_owned(more).ok());
        self.place.merge(more.ok_or(HandlerError::Crowded)?);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Whether the client sends its body when it is told to (RFC 9110 §10.1.1): other expectations mean nothing here, and
/// before HTTP/1.1 none does.
pub(super) fn waits(request: &RequestHeader) -> bool {
    let expected = request.headers.get_all(header::EXPECT).iter();
    let mut members = expected.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    request.version >= Version::HTTP_11
        && members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads past the start of a body that nobody asked for, so that one that is not what its framing says is refused and
/// not answered. What is longer is read after the answer.
///
/// # Errors
/// [`HandlerError::Body`] when it does not come whole and in time.
pub async fn skip(session: &mut Session) -> Result<(), HandlerError> {
    // Who waits to be told to send it is not told.
    if waits(session.req_header()) {
        return Ok(());
    }
    let some = tokio::time::timeout(PATIENCE, skip_some(session)).await;
    some.unwrap_or_else(|_| Err(HandlerError::Body("did not come in time".to_owned())))
}

async fn skip_some(session: &mut Session) -> Result<(), HandlerError> {
    let mut length = 0;
    while length < UNASKED {
        let next = session.as_downstream_mut().read_request_body().await;
        let Some(bytes) = next.map_err(|_| HandlerError::Body("ended early".to_owned()))? else {
            return Ok(());
        };
        length += bytes.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::Uploads;
    use crate::handler::HandlerError;

    #[test]
    fn bodies_together_take_no_more_than_their_memory_and_leave_it_again() {
        let uploads = Uploads { room: Arc::new(Semaphore::new(10)) };
        let (mut one, mut other) = (uploads.begin(9).unwrap(), uploads.begin(9).unwrap());
        one.take(b"123456").unwrap();
        other.take(b"1234").unwrap();
        assert!(matches!(one.take(b"7"), Err(HandlerError::Crowded)));
        assert!(matches!(other.take(b"567890"), Err(HandlerError::TooLarge { limit: 9 })));
        drop(one);
        assert_eq!(uploads.room.available_permits(), 6);
        other.take(b"56789").unwrap();
        drop(other);
        assert_eq!(uploads.room.available_permits(), 10);
    }
}
