//! Reads the body of a request whose answer depends on it, up to a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::proxy::Session;

use crate::handler::HandlerError;

/// How long a client may take for the whole body: 16 MiB in it are 280 KB a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes that are read of a body that nobody asked for before its request is answered.
const UNASKED: usize = 64 << 10;

/// The body of the request, at most `limit` bytes.
///
/// # Errors
/// [`HandlerError::TooLarge`], before anything is read when the length is announced; [`HandlerError::Body`] when it does
/// not come whole and in time.
pub async fn read(session: &mut Session, limit: u64) -> Result<Bytes, HandlerError> {
    let headers = &session.req_header().headers;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(HandlerError::TooLarge { limit });
    }
    if headers.contains_key(header::EXPECT) {
        let told = session.as_downstream_mut().write_continue_response().await;
        told.map_err(|_| HandlerError::Body("did not come".to_owned()))?;
    }
    let whole = tokio::time::timeout(PATIENCE, read_whole(session, limit)).await;
    whole.unwrap_or_else(|_| Err(HandlerError::Body("did not come in time".to_owned())))
}

/// Reads past the start of a body that nobody asked for, so that one that is not what its framing says is refused and
/// not answered. What is longer is read after the answer.
///
/// # Errors
/// [`HandlerError::Body`] when it does not come whole and in time.
pub async fn skip(session: &mut Session) -> Result<(), HandlerError> {
    // Who waits to be told to send it is not told.
    if session.req_header().headers.contains_key(header::EXPECT) {
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

async fn read_whole(session: &mut Session, limit: u64) -> Result<Bytes, HandlerError> {
    let mut whole = BytesMut::new();
    loop {
        let next = session.as_downstream_mut().read_request_body().await;
        let Some(bytes) = next.map_err(|_| HandlerError::Body("ended early".to_owned()))? else {
            return Ok(whole.freeze());
        };
        if (whole.len() + bytes.len()) as u64 > limit {
            return Err(HandlerError::TooLarge { limit });
        }
        whole.extend_from_slice(&bytes);
    }
}
