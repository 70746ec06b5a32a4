//! Reads the body of a request whose answer depends on it, up to a limit.
//!
//! Such a body is held in memory until its answer is known. All of them together take [`MOST`] at most, and those of one
//! client half of that: who comes when there is no room is told to come later, and waits for nobody. A place is taken as
//! the bytes come, so that a body that is only announced takes none.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use parking_lot::Mutex;
use pingora::{http::RequestHeader, proxy::Session};

use crate::{handler::HandlerError, listener::client_of};

/// How long a client may take for the whole body: 16 MiB in it are 280 KB a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes that are read of a body that nobody asked for before its request is answered.
const UNASKED: usize = 64 << 10;

/// Most bytes of all bodies that are held at once.
const MOST: u64 = 256 << 20;

/// The memory for bodies of requests. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Uploads {
    held: Arc<Mutex<Held>>,
    most: u64,
}

#[derive(Default)]
struct Held {
    all: u64,
    by_client: HashMap<Option<IpAddr>, u64>,
}

/// A body in memory, and its place there until this is dropped.
pub(super) struct Upload {
    bytes: Bytes,
    _place: Place,
}

/// A body on its way into memory.
struct Growing {
    bytes: BytesMut,
    limit: u64,
    place: Place,
}

/// Bytes that a client has taken.
struct Place {
    uploads: Uploads,
    client: Option<IpAddr>,
    length: u64,
}

// === impl Uploads ===

impl Default for Uploads {
    fn default() -> Self {
        Self { held: Arc::default(), most: MOST }
    }
}

impl Uploads {
    /// The body of a request of `client`, at most `limit` bytes.
    ///
    /// # Errors
    /// [`HandlerError::TooLarge`] and [`HandlerError::Crowded`], before anything is read when the length is announced;
    /// [`HandlerError::Body`] when it does not come whole and in time.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        client: Option<IpAddr>,
        limit: u64,
    ) -> Result<Upload, HandlerError> {
        let headers = &session.req_header().headers;
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(HandlerError::TooLarge { limit });
        }
        let client = client.map(client_of);
        if announced.is_some_and(|length| !self.has_room(client, length)) {
            return Err(HandlerError::Crowded);
        }
        if waits(session.req_header()) {
            let told = session.as_downstream_mut().write_continue_response().await;
            told.map_err(|_| HandlerError::Body("did not come".to_owned()))?;
        }
        let whole = tokio::time::timeout(PATIENCE, self.read_whole(session, client, limit)).await;
        whole.unwrap_or_else(|_| Err(HandlerError::Body("did not come in time".to_owned())))
    }

    async fn read_whole(
        &self,
        session: &mut Session,
        client: Option<IpAddr>,
        limit: u64,
    ) -> Result<Upload, HandlerError> {
        let mut body = self.begin(client, limit);
        loop {
            let next = session.as_downstream_mut().read_request_body().await;
            match next.map_err(|_| HandlerError::Body("ended early".to_owned()))? {
                Some(bytes) => body.take(&bytes)?,
                None => return Ok(Upload { bytes: body.bytes.freeze(), _place: body.place }),
            }
        }
    }

    fn begin(&self, client: Option<IpAddr>, limit: u64) -> Growing {
        let place = Place { uploads: self.clone(), client, length: 0 };
        Growing { bytes: BytesMut::new(), limit, place }
    }

    fn has_room(&self, client: Option<IpAddr>, more: u64) -> bool {
        self.held.lock().has_room(client, more, self.most)
    }
}

// === impl Held ===

impl Held {
    fn has_room(&self, client: Option<IpAddr>, more: u64, most: u64) -> bool {
        let own = self.by_client.get(&client).copied().unwrap_or_default();
        self.all + more <= most && own + more <= most / 2
    }
}

// === impl Upload ===

impl Upload {
    /// Its bytes.
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
        self.place.grow(bytes.len() as u64)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

// === impl Place ===

impl Place {
    fn grow(&mut self, more: u64) -> Result<(), HandlerError> {
        let Uploads { held, most } = &self.uploads;
        let mut held = held.lock();
        if !held.has_room(self.client, more, *most) {
            return Err(HandlerError::Crowded);
        }
        held.all += more;
        *held.by_client.entry(self.client).or_default() += more;
        self.length += more;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.uploads.held.lock();
        held.all -= self.length;
        if let Some(own) = held.by_client.get_mut(&self.client) {
            *own -= self.length;
            if *own == 0 {
                held.by_client.remove(&self.client);
            }
        }
    }
}

/// Whether the client sends its body when it is told to (RFC 9110 §10.1.1): other expectations mean nothing here, and
/// before HTTP/1.1 none does.
pub(super) fn waits(request: &RequestHeader) -> bool {
    request.version >= Version::HTTP_11 && expects(request)
}

/// Whether it says so, in whatever version.
pub(super) fn expects(request: &RequestHeader) -> bool {
    let expected = request.headers.get_all(header::EXPECT).iter();
    let mut members = expected.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
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
    use std::{net::IpAddr, sync::Arc};

    use super::Uploads;
    use crate::handler::HandlerError;

    #[test]
    fn bodies_together_take_no_more_than_their_memory_and_leave_it_again() {
        let uploads = Uploads { held: Arc::default(), most: 20 };
        let client = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let begin = |last| uploads.begin(client(last), 9);
        let crowded = |taken: Result<(), HandlerError>| matches!(taken, Err(HandlerError::Crowded));
        let (mut one, mut again, mut other, mut third) = (begin(1), begin(1), begin(2), begin(3));
        one.take(b"123456").unwrap();
        again.take(b"1234").unwrap();
        assert!(crowded(again.take(b"5")), "a client has half");
        assert!(matches!(one.take(b"7890"), Err(HandlerError::TooLarge { limit: 9 })));
        other.take(b"123456789").unwrap();
        third.take(b"1").unwrap();
        assert!(crowded(third.take(b"2")), "all have it together");
        assert!(!uploads.has_room(client(4), 1));
        drop(one);
        assert!(uploads.has_room(client(4), 6) && !uploads.has_room(client(4), 7));
        drop((again, other, third));
        let held = uploads.held.lock();
        assert_eq!((held.all, held.by_client.len()), (0, 0));
    }
}
