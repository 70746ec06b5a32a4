//! Answers that are at hand: the listener writes them itself, and no session is made for their requests.
//!
//! A session of Pingora's costs more than a look into memory. It is worth that where bodies are read, the service is
//! asked or pieces are streamed; here an answer is one head and one body, ready now. What is not is declined, and then
//! the session gets the request as if nobody had looked at it.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{Facts, MemoryFile};

/// Has answers at hand.
pub trait FastPath: Send + Sync + 'static {
    /// What is remembered of an answer until it is sent.
    type Note: Send;

    /// The answer to `request`, the well-formed head of one that came over HTTP/1 and what of its body came with it.
    /// None declines it, and then nothing was done. The answer ends the connection if `is_last`.
    fn answer(&self, request: &[u8], facts: &Facts, is_last: bool) -> Option<Answer<Self::Note>>;

    /// An answer went out, or broke off with an error. `sent` bytes of its body were taken.
    fn over(&self, note: Self::Note, sent: u64, error: Option<io::Error>);
}

/// An answer.
#[derive(Debug)]
pub struct Answer<N> {
    /// Bytes of the request, which has no body.
    pub length: usize,
    /// Status line and headers, with the empty line behind them.
    pub head: Vec<u8>,
    /// The body.
    pub body: Body,
    /// Whether it ends the connection.
    pub is_last: bool,
    /// What is remembered.
    pub note: N,
}

/// What follows the head.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes to be written.
    Bytes(Bytes),
    /// Bytes that the kernel has, for a connection without TLS.
    File(Arc<MemoryFile>),
}

// === impl Body ===

impl Body {
    /// Its length in bytes.
    pub fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(file) => file.length(),
        }
    }
}
