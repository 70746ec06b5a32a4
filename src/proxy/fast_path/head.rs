//! The head of an ordinary read, as it came.

use std::{cell::RefCell, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::listener::Facts;

/// Headers of an ordinary request; one with more is left to the session.
const MOST: usize = 48;
/// What can make a difference to a hit. The handler is shown nothing else, so nothing else does.
const MATTERS: [&str; 5] = ["accept", "accept-encoding", "authorization", "host", "if-none-match"];
/// What a proxy says of its client. The first is of one request and makes no other difference.
const FORWARDED: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
/// What is the session's business: bodies, wishes, ranges, traces, and how the connection goes on.
const DECLINED: [&str; 14] = [
    "cache-control",
    "content-length",
    "expect",
    "feedgate-refused",
    "if-modified-since",
    "if-range",
    "keep-alive",
    "pragma",
    "range",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
];

thread_local! {
    /// Where keys are put together.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The head of an ordinary read.
pub(super) struct Head<'a> {
    /// Its bytes; no body follows.
    pub(super) length: usize,
    /// Whether the client wants the connection closed after the answer.
    pub(super) closes: bool,
    /// Whether it is `HEAD`, else `GET`.
    pub(super) without_body: bool,
    /// Path and query, as they were written.
    pub(super) target: &'a str,
    /// What matters, by place in [`MATTERS`] and behind it [`FORWARDED`].
    fields: Vec<(u8, &'a [u8])>,
}

// === impl Head ===

impl<'a> Head<'a> {
    /// Reads it; none when it is no ordinary one. `forwarded` tells whether what a proxy says is believed.
    pub(super) fn read(request: &'a [u8], forwarded: bool) -> Option<Self> {
        let mut parsed = [httparse::EMPTY_HEADER; MOST];
        let mut head = httparse::Request::new(&mut parsed);
        let httparse::Status::Complete(length) = head.parse(request).ok()? else { return None };
        let without_body = match (head.method?, head.version?) {
            ("GET", 1) => false,
            ("HEAD", 1) => true,
            _ => return None,
        };
        let target = head.path.filter(|target| target.starts_with('/'))?;
        let (mut fields, mut closes) = (Vec::with_capacity(8), false);
        for field in head.headers.iter() {
            let is = |name: &&str| field.name.eq_ignore_ascii_case(name);
            if let Some(place) = MATTERS.iter().position(is) {
                fields.push((u8::try_from(place).ok()?, field.value));
            } else if field.name.eq_ignore_ascii_case("connection") {
                let close = field.value.eq_ignore_ascii_case(b"close");
                (close || field.value.eq_ignore_ascii_case(b"keep-alive")).then_some(())?;
                closes |= close;
            } else if DECLINED.iter().any(is) {
                return None;
            } else if forwarded && let Some(place) = FORWARDED.iter().position(is) {
                fields.push((u8::try_from(MATTERS.len() + place).ok()?, field.value));
            }
        }
        Some(Self { length, closes, without_body, target, fields })
    }

    /// Calls `with` with all that can make a difference, in one piece.
    pub(super) fn with_key<T>(&self, is_tls: bool, with: impl FnOnce(&[u8]) -> T) -> T {
        KEY.with_borrow_mut(|key| {
            key.clear();
            key.extend([u8::from(self.without_body), u8::from(is_tls)]);
            key.extend_from_slice(self.target.as_bytes());
            for (place, value) in &self.fields {
                if usize::from(*place) != MATTERS.len() {
                    // No value holds a line feed, and no target.
                    key.extend([b'\n', *place]);
                    key.extend_from_slice(value);
                }
            }
            with(key)
        })
    }

    /// What matters, for those who read headers by name.
    pub(super) fn headers(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        for (place, value) in &self.fields {
            let name = MATTERS.iter().chain(&FORWARDED).nth(usize::from(*place))?;
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?);
        }
        Some(headers)
    }

    /// Who asks.
    pub(super) fn client(&self, facts: &Facts) -> Option<IpAddr> {
        if facts.believes_headers() {
            return Some(facts.asker(&self.headers()?).address);
        }
        Some(facts.client.ip().to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::Head;

    fn key(text: &str) -> Option<Vec<u8>> {
        Some(Head::read(text.as_bytes(), true)?.with_key(false, <[u8]>::to_vec))
    }

    #[test]
    fn what_makes_no_difference_is_not_in_the_key() {
        let of = |lines: &str| key(&format!("GET /a HTTP/1.1\r\nHost: g\r\n{lines}\r\n"));
        let plain = of("").unwrap();
        for same in [
            "User-Agent: npm\r\n",
            "npm-session: 1\r\nConnection: Keep-Alive\r\n",
            "Connection: close\r\n",
            "X-Forwarded-For: 1.2.3.4\r\n",
        ] {
            assert_eq!(of(same).as_ref(), Some(&plain), "{same}");
        }
        let others = [
            "Accept: a\r\n",
            "ACCEPT-encoding: a\r\n",
            "Authorization: a\r\n",
            "Host: a\r\n",
            "If-None-Match: a\r\n",
            "X-Forwarded-Host: a\r\n",
            "X-Forwarded-Proto: a\r\n",
            "Accept: a\r\nAccept: a\r\n",
        ];
        let keys: Vec<_> = others.iter().map(|lines| of(lines).unwrap()).chain([plain]).collect();
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{:?}", others.get(index));
        }
    }

    #[test]
    fn what_is_not_ordinary_is_declined() {
        for lines in [
            "Cache-Control: no-cache\r\n",
            "pragma: x\r\n",
            "Range: bytes=0-1\r\n",
            "If-Range: x\r\n",
            "Content-Length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n",
            "Connection: keep-alive, te\r\n",
            "Connection: close\r\nConnection: te\r\n",
            "Traceparent: x\r\n",
            "Upgrade: x\r\n",
            "feedgate-refused: 1\r\n",
        ] {
            assert_eq!(key(&format!("GET /a HTTP/1.1\r\nHost: g\r\n{lines}\r\n")), None, "{lines}");
        }
        for line in ["POST /a HTTP/1.1", "GET /a HTTP/1.0", "GET http://g/a HTTP/1.1", "OPTIONS * HTTP/1.1"] {
            assert_eq!(key(&format!("{line}\r\nHost: g\r\n\r\n")), None, "{line}");
        }
        let many = "x-more: 1\r\n".repeat(50);
        assert_eq!(key(&format!("GET /a HTTP/1.1\r\nHost: g\r\n{many}\r\n")), None);
    }
}
