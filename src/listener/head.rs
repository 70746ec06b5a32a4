//! The head of an HTTP/1 request, checked byte by byte as it comes (RFC 9112 §2 to §6).
//!
//! Stricter than the standard where it leaves a choice: what two parsers could read in two ways is refused, and so
//! are upgrades and the methods of tunnels and traces. What the target and the headers mean is for others.

use std::ops::Range;

use super::framing::{FramingError, TOO_LARGE};
use crate::config::ClientLimits;

/// Longest method: the longest registered one has 17 letters (RFC 9110 §16.1).
const METHOD: usize = 24;
/// Bytes looked at together.
const BLOCK: usize = 16;

/// How the end of a request's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// After that many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// A head that is being read.
#[derive(Debug, Default)]
pub struct Head {
    /// Bytes looked at so far.
    scanned: usize,
    /// Where the present line begins.
    line: usize,
    /// Whether the byte before was a CR.
    after_cr: bool,
    /// Whether an empty line came before the request line.
    began_empty: bool,
    request: Option<RequestLine>,
    fields: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Debug, Clone)]
struct RequestLine {
    is_head: bool,
    is_old: bool,
    authority: Option<Range<usize>>,
}

/// Whether a byte of a line is one of its text.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// How many bytes at the front are text.
fn plain_length(bytes: &[u8]) -> usize {
    // Without a way out of the inner loop the compiler looks at all of a block at once.
    let is_text = |block: &&[u8]| block.iter().fold(true, |so_far, &byte| so_far & is_plain(byte));
    let blocks = BLOCK * bytes.chunks_exact(BLOCK).take_while(is_text).count();
    let rest = &bytes[blocks..];
    blocks + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

// === impl Head ===

impl Head {
    /// Whether nothing of it has come; an empty line before it is nothing.
    pub fn is_untouched(&self) -> bool {
        self.request.is_none() && self.scanned == self.line
    }

    /// Whether it is of a `HEAD` request, whose answer has no body.
    pub fn asks_head(&self) -> bool {
        self.request.as_ref().is_some_and(|line| line.is_head)
    }

    /// Looks at what is new in `bytes`, which begin where the head does; its length and its body once it is whole.
    pub fn advance(
        &mut self,
        bytes: &[u8],
        limits: &ClientLimits,
    ) -> Result<Option<(usize, Body)>, FramingError> {
        loop {
            if !self.after_cr {
                let rest = bytes.get(self.scanned..).unwrap_or_default();
                self.scanned += plain_length(rest);
                self.within(limits)?;
            }
            let Some(&byte) = bytes.get(self.scanned) else { return Ok(None) };
            let at = self.scanned;
            self.scanned += 1;
            self.within(limits)?;
            match byte {
                b'\n' if !self.after_cr => return Err(FramingError::ambiguous("a line ends without CR")),
                _ if self.after_cr && byte != b'\n' => {
                    return Err(FramingError::ambiguous("a CR that ends no line"));
                }
                b'\r' => self.after_cr = true,
                b'\n' => {
                    self.after_cr = false;
                    let line = self.line..at - 1;
                    self.line = self.scanned;
                    if self.ends(bytes, line, limits)? {
                        return self.whole(bytes).map(|body| Some((self.scanned, body)));
                    }
                }
                _ if is_plain(byte) => {}
                _ => return Err(FramingError::ambiguous("a control character in the head")),
            }
        }
    }

    fn within(&self, limits: &ClientLimits) -> Result<(), FramingError> {
        if self.request.is_none() && (self.scanned - self.line) as u64 > limits.request_line {
            return Err(FramingError::large_head(414, "the request line is too long (limits.request_line)"));
        }
        if self.scanned as u64 > limits.header_size {
            return Err(FramingError::large_head(431, "the head is too long (limits.header_size)"));
        }
        Ok(())
    }

    /// Takes a line; whether it is the one that ends the head.
    fn ends(
        &mut self,
        bytes: &[u8],
        line: Range<usize>,
        limits: &ClientLimits,
    ) -> Result<bool, FramingError> {
        let text = &bytes[line.clone()];
        match (&self.request, text.is_empty()) {
            // RFC 9112 §2.2: some clients end the body before with one that is not part of it.
            (None, true) if !self.began_empty => self.began_empty = true,
            (None, true) => return Err(FramingError::ambiguous("empty lines before the request line")),
            (None, false) => self.request = Some(request_line(text, line.start)?),
            (Some(_), true) => return Ok(true),
            (Some(_), false) => {
                self.fields += 1;
                if self.fields > limits.headers {
                    return Err(FramingError::large_head(431, "too many header lines (limits.headers)"));
                }
                self.field(text, line.start)?;
            }
        }
        Ok(false)
    }

    fn field(&mut self, text: &[u8], start: usize) -> Result<(), FramingError> {
        let (name, value) = field_line(text)?;
        if name.eq_ignore_ascii_case(b"host") {
            if !is_authority(value) {
                return Err(FramingError::host("Host is not a host name or address with perhaps a port"));
            }
            let begin = start + text.len() - text[name.len() + 1..].trim_ascii_start().len();
            if self.host.replace(begin..begin + value.len()).is_some() {
                return Err(FramingError::ambiguous("more than one Host"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(content_length(value)?).is_some() {
                return Err(FramingError::ambiguous("more than one Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if std::mem::replace(&mut self.is_chunked, true) || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::ambiguous("Transfer-Encoding other than one `chunked`"));
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            return Err(FramingError::ambiguous("Upgrade is not supported"));
        }
        Ok(())
    }

    /// What only the whole head tells.
    fn whole(&self, bytes: &[u8]) -> Result<Body, FramingError> {
        let Some(request) = &self.request else { return Ok(Body::None) };
        if self.is_chunked && self.length.is_some() {
            return Err(FramingError::ambiguous("both Content-Length and Transfer-Encoding"));
        }
        if self.is_chunked && request.is_old {
            return Err(FramingError::ambiguous("Transfer-Encoding with HTTP/1.0"));
        }
        match (&request.authority, &self.host) {
            (Some(authority), Some(host)) if bytes[authority.clone()] != bytes[host.clone()] => {
                return Err(FramingError::ambiguous("the target and Host name two authorities"));
            }
            // RFC 9112 §3.2: whatever the target says.
            (_, None) if !request.is_old => return Err(FramingError::host("HTTP/1.1 without Host")),
            _ => {}
        }
        Ok(match self.length {
            _ if self.is_chunked => Body::Chunked,
            None | Some(0) => Body::None,
            Some(length) => Body::Length(length),
        })
    }
}

/// `method SP target SP version` with single spaces (RFC 9112 §3).
fn request_line(text: &[u8], start: usize) -> Result<RequestLine, FramingError> {
    let mut parts = text.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FramingError::ambiguous("the request line is not method, target and version"));
    };
    if method.is_empty() || method.len() > METHOD || !method.iter().all(|&byte| is_token(byte)) {
        return Err(FramingError::ambiguous("the method is not a token"));
    }
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(FramingError::ambiguous("the version is not HTTP/1.1 or HTTP/1.0")),
    };
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(FramingError::method("CONNECT and TRACE are not for this gate"));
    }
    let authority = authority(method, target)?.map(|range| {
        let offset = start + method.len() + 1;
        range.start + offset..range.end + offset
    });
    Ok(RequestLine { is_head: method == b"HEAD", is_old, authority })
}

/// Where the authority of an absolute target stands; none in the other forms (RFC 9112 §3.2).
fn authority(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, FramingError> {
    if target.iter().any(|byte| matches!(byte, b'\t' | b'#')) {
        return Err(FramingError::ambiguous("the target has a tab or a fragment"));
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let schemes = [&b"http://"[..], b"https://"];
    let scheme = schemes
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(start) = scheme.map(|scheme| scheme.len()) else {
        return Err(FramingError::ambiguous("the target is neither a path nor a URL"));
    };
    let rest = &target[start..];
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !is_authority(&rest[..length]) {
        return Err(FramingError::ambiguous("the target's authority is not a host"));
    }
    Ok(Some(start..start + length))
}

/// A name or address, and perhaps a port (RFC 9110 §4.2.3, §4.2.4). Nothing at all is for others to judge.
pub fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if text[at] == b':' => (&text[..at], &text[at + 1..]),
        _ => (text, &b""[..]),
    };
    let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let is_host = match bare {
        Some(address) => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')),
    };
    let port = std::str::from_utf8(port).unwrap_or("not text");
    is_host
        && (text.is_empty() || !host.is_empty())
        && (port.is_empty()
            || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()))
}

/// Name and value of a field line (RFC 9112 §5): no space before the colon, no continuation.
pub fn field_line(text: &[u8]) -> Result<(&[u8], &[u8]), FramingError> {
    if matches!(text.first(), Some(b' ' | b'\t')) {
        return Err(FramingError::ambiguous("a header is continued on a second line"));
    }
    let colon = text.iter().position(|&byte| byte == b':');
    let (name, value) = text.split_at(colon.ok_or(FramingError::ambiguous("a header without a colon"))?);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(FramingError::ambiguous("a header's name is not a token"));
    }
    Ok((name, value[1..].trim_ascii()))
}

/// Digits only, once (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Result<u64, FramingError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::ambiguous("Content-Length is not a number"));
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(TOO_LARGE)
}

/// A character of a token (RFC 9110 §5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::{Body, Head};
    use crate::{config::ClientLimits, listener::FramingError};

    fn read(text: &str) -> Result<Option<(usize, Body)>, FramingError> {
        Head::default().advance(text.as_bytes(), &ClientLimits::default())
    }

    fn refused(text: &str) -> u16 {
        let whole = read(text);
        // Byte by byte it is the same.
        let mut head = Head::default();
        let stepwise = (1..=text.len())
            .find_map(|end| head.advance(&text.as_bytes()[..end], &ClientLimits::default()).transpose());
        assert_eq!(stepwise, whole.transpose(), "{text:?}");
        whole.expect_err(text).status
    }

    #[test]
    fn plain_heads_tell_where_their_body_ends() {
        let rows = [
            ("GET / HTTP/1.1\r\nHost: g\r\n\r\n", Body::None),
            ("\r\nGET / HTTP/1.0\r\n\r\n", Body::None),
            ("PUT /a HTTP/1.1\r\nhost:g\r\ncontent-length: \t0012 \r\n\r\n", Body::Length(12)),
            ("PUT /a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: Chunked\r\n\r\n", Body::Chunked),
            ("GET http://g:80/a HTTP/1.1\r\nHost: g:80\r\n\r\n", Body::None),
            ("GET http://g/a HTTP/1.0\r\n\r\n", Body::None),
            ("GET /a HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", Body::None),
            ("OPTIONS * HTTP/1.1\r\nHost: g\r\nX:\r\n\r\n", Body::None),
        ];
        for (text, body) in rows {
            assert_eq!(read(&format!("{text}GET")), Ok(Some((text.len(), body))), "{text:?}");
            assert_eq!(read(&text[..text.len() - 1]), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn a_head_beyond_a_limit_is_refused_before_it_ends() {
        assert_eq!(refused(&format!("GET /{}", "a".repeat(9000))), 414);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(33_000))), 431);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(101))), 431);
        assert_eq!(refused(&format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n", "9".repeat(30))), 413);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\rX", "GET /\0", "GET / HTTP/1.1\r\nA : b\r\n"] {
            assert_eq!(refused(text), 400, "{text:?}");
        }
        for host in [":80", "[]", "[::1", "[:::1]", "[1.2.3.4]", "[::1%25eth0]"] {
            assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
        }
        assert_eq!(refused("GET http://g/a HTTP/1.1\r\nA: b\r\n\r\n"), 400);
        assert_eq!(refused("TRACE / HTTP/1.1\r\n"), 405);
        assert_eq!(refused("CONNECT g:443 HTTP/1.1\r\n"), 405);
    }
}
