//! The stream of bytes from an HTTP/1 client, cut into requests and let through only as far as it is checked.
//!
//! Whoever parses it afterwards sees well-formed requests and nothing else, so that there is one reading of where
//! each ends. In the place of a head that is refused stands one that says so ([`REFUSED`]): the refusal is answered
//! as any request is, in its turn behind the requests before it, with an id, a log line and a body.
//!
//! What is read from here is one request after the other: of the next one nothing is to be had before
//! [`Messages::begin`], however much a client sends ahead.

use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

use super::{
    chunks::Chunks,
    framing::{FramingError, TOO_SLOW},
    head::{Body, Head},
};
use crate::config::ClientLimits;

/// The header of a head that stands in for one that was refused. A client that sends it itself achieves nothing: it
/// means something only on a connection of which a head was refused.
pub const REFUSED: &str = "feedgate-refused";

/// Largest buffer that stays when nothing is in it, in bytes.
const KEPT: usize = 8 << 10;

/// The requests of one connection.
#[derive(Debug)]
pub struct Messages {
    /// What came and was not taken yet.
    buffer: BytesMut,
    /// How much of it, from its front, is checked.
    checked: usize,
    /// That, by request: the first is the one that is read now.
    portions: VecDeque<usize>,
    expected: Expected,
    /// Heads let through.
    heads: u64,
}

/// What comes next.
#[derive(Debug)]
enum Expected {
    Head(Head),
    Bytes(u64),
    Chunks(Chunks),
    /// Nothing: a head was refused.
    Nothing,
    /// Nothing: a body was refused.
    Broken(FramingError),
}

/// Whom or what a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The first byte of the next request; so many have come.
    Request(u64),
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Nothing more.
    Nothing,
}

// === impl Messages ===

impl Messages {
    /// The requests of a connection that begins.
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            checked: 0,
            portions: VecDeque::new(),
            expected: Expected::Head(Head::default()),
            heads: 0,
        }
    }

    /// The next request is read from now on; whether the one before was read whole.
    pub fn begin(&mut self) -> bool {
        let ends = self.portions.len() > 1 || !matches!(self.waits(), Waits::Body);
        ends && self.portions.pop_front().unwrap_or(0) == 0
    }

    /// Whether something of a request behind the present one is here.
    pub fn is_ahead(&self) -> bool {
        self.portions.len() > 1
    }

    /// Where to put what comes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// What is checked of the present request and not taken yet.
    pub fn ready(&self) -> &[u8] {
        &self.buffer[..self.portions.front().copied().unwrap_or(0)]
    }

    /// Takes what is checked of the present request, at most `most` bytes.
    pub fn take(&mut self, most: usize, into: impl FnOnce(&[u8])) {
        let ready = self.ready();
        let length = ready.len().min(most);
        into(&ready[..length]);
        self.buffer.advance(length);
        self.checked -= length;
        if let Some(portion) = self.portions.front_mut() {
            *portion -= length;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            // A large upload leaves no large buffer behind.
            self.buffer = BytesMut::new();
        }
    }

    /// What is waited for.
    pub fn waits(&self) -> Waits {
        match &self.expected {
            Expected::Head(head) if head.is_untouched() => Waits::Request(self.heads),
            Expected::Head(_) => Waits::Head,
            Expected::Bytes(_) | Expected::Chunks(_) => Waits::Body,
            Expected::Nothing | Expected::Broken(_) => Waits::Nothing,
        }
    }

    /// Why the present body is refused, if it is.
    pub fn broken(&self) -> Option<FramingError> {
        if let Expected::Broken(error) = &self.expected { Some(*error) } else { None }
    }

    /// Checks what has come since; why nothing more can come, if that is so.
    pub fn check(&mut self, limits: &ClientLimits) -> Option<FramingError> {
        let error = self.advance(limits).err()?;
        self.refuse(error);
        Some(error)
    }

    /// Gives up waiting for the rest of the present request.
    pub fn too_slow(&mut self) -> FramingError {
        self.refuse(TOO_SLOW);
        TOO_SLOW
    }

    fn advance(&mut self, limits: &ClientLimits) -> Result<(), FramingError> {
        while self.checked < self.buffer.len() {
            let new = &self.buffer[self.checked..];
            match &mut self.expected {
                Expected::Head(head) => {
                    let Some((length, body)) = head.advance(new, limits)? else { return Ok(()) };
                    self.checked += length;
                    self.portions.push_back(length);
                    self.heads += 1;
                    self.expected = match body {
                        Body::None => Expected::Head(Head::default()),
                        Body::Length(length) => Expected::Bytes(length),
                        Body::Chunked => Expected::Chunks(Chunks::new()),
                    };
                }
                Expected::Bytes(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(new.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.expected = Expected::Head(Head::default());
                    }
                    self.checked += length;
                    self.lengthen(length);
                }
                Expected::Chunks(chunks) => {
                    let (length, end) = chunks.advance(new)?;
                    self.checked += length;
                    self.lengthen(length);
                    if end {
                        self.expected = Expected::Head(Head::default());
                    }
                }
                Expected::Nothing | Expected::Broken(_) => {
                    // Nobody reads it.
                    self.buffer.truncate(self.checked);
                }
            }
        }
        Ok(())
    }

    /// The request that came last goes on.
    fn lengthen(&mut self, length: usize) {
        if let Some(portion) = self.portions.back_mut() {
            *portion += length;
        }
    }

    fn refuse(&mut self, error: FramingError) {
        self.buffer.truncate(self.checked);
        let Expected::Head(head) = &self.expected else {
            self.expected = Expected::Broken(error);
            return;
        };
        let method = if head.asks_head() { "HEAD" } else { "GET" };
        let stand_in =
            format!("{method} / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n{REFUSED}: 1\r\n\r\n");
        self.buffer.extend_from_slice(stand_in.as_bytes());
        self.portions.push_back(stand_in.len());
        self.checked = self.buffer.len();
        self.heads += 1;
        self.expected = Expected::Nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::{Messages, REFUSED, Waits};
    use crate::config::ClientLimits;

    /// What is let through of `text`, and how many bytes at a time it came in makes no difference.
    fn through(text: &str) -> (String, Waits) {
        let run = |step: usize| {
            let mut messages = Messages::new();
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(step) {
                messages.buffer().extend_from_slice(piece);
                messages.check(&ClientLimits::default());
                messages.take(usize::MAX, |bytes| out.extend_from_slice(bytes));
                while messages.is_ahead() {
                    assert!(messages.begin());
                    messages.take(usize::MAX, |bytes| out.extend_from_slice(bytes));
                }
            }
            (String::from_utf8(out).unwrap(), messages.waits())
        };
        let whole = run(text.len());
        assert_eq!(whole, run(1), "{text:?}");
        whole
    }

    #[test]
    fn whole_requests_pass_as_they_are() {
        let text = "PUT /a HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: g\r\n\r\n\
                    POST /c HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        assert_eq!(through(text), (text.to_owned(), Waits::Request(3)));
        let half = &text[..text.len() - 2];
        assert_eq!(through(half).1, Waits::Body);
        let cut = "GET /a HTTP/1.1\r\nHost: g\r\n\r\nGET /b";
        assert_eq!(through(cut), (cut.trim_end_matches("GET /b").to_owned(), Waits::Head));
    }

    #[test]
    fn a_refused_head_is_replaced_and_nothing_comes_after_it() {
        let (first, bad) = ("GET /a HTTP/1.1\r\nHost: g\r\n\r\n", "HEAD /b HTTP/1.1\r\nHost : g\r\n\r\n");
        let (out, waits) = through(&format!("{first}{bad}{first}"));
        let rest = out.strip_prefix(first).unwrap();
        assert!(rest.starts_with("HEAD / HTTP/1.1\r\n") && rest.contains(REFUSED), "{rest}");
        assert_eq!((rest.matches("HTTP/1.1").count(), waits), (1, Waits::Nothing));
    }

    #[test]
    fn of_the_next_request_nothing_is_read_before_it_begins() {
        let (one, two) =
            ("PUT /a HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n", "GET /b HTTP/1.1\r\nHost: g\r\n\r\n");
        let mut messages = Messages::new();
        let take = |messages: &mut Messages| {
            let mut out = Vec::new();
            messages.take(usize::MAX, |bytes| out.extend_from_slice(bytes));
            String::from_utf8(out).unwrap()
        };
        assert!(messages.begin());
        messages.buffer().extend_from_slice(format!("{one}a").as_bytes());
        assert!(messages.check(&ClientLimits::default()).is_none());
        assert_eq!(take(&mut messages), format!("{one}a"));
        assert!(!messages.begin(), "the body has not come");
        messages.buffer().extend_from_slice(format!("b{two}{two}").as_bytes());
        assert!(messages.check(&ClientLimits::default()).is_none());
        assert_eq!((messages.is_ahead(), take(&mut messages)), (true, "b".to_owned()));
        for ahead in [true, false] {
            assert!(messages.begin());
            assert_eq!((messages.is_ahead(), take(&mut messages)), (ahead, two.to_owned()));
        }
        assert!(messages.begin());
        assert_eq!((messages.is_ahead(), messages.ready()), (false, &b""[..]));
    }

    #[test]
    fn a_refused_body_ends_where_it_is_refused() {
        let head = "PUT /a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut messages = Messages::new();
        messages.buffer().extend_from_slice(format!("{head}5\r\nhelloGET / HTTP/1.1\r\n\r\n").as_bytes());
        assert!(messages.check(&ClientLimits::default()).is_some());
        assert_eq!((messages.ready(), messages.waits()), (head.as_bytes(), Waits::Nothing));
        assert!(messages.broken().is_some());
    }
}
