//! What is wrong with a head as a whole, whatever protocol brought it. HTTP/1 was read strictly before
//! ([`crate::listener`]); HTTP/2 has no framing headers, and those that a client sends would be turned into some.

use http::{HeaderMap, Method, header};

use crate::listener::{FramingError, TOO_LARGE};

/// Checks a request's method and framing headers, and the length of its body if it has one of at most `max_body`
/// bytes. A field that can be there once only, and decides what the request is, is there once.
pub fn check(method: &Method, headers: &HeaderMap, max_body: u64) -> Result<(), FramingError> {
    let refuse = |rule| Err(FramingError::ambiguous(rule));
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(FramingError::method("CONNECT and TRACE are not for this gate"));
    }
    if headers.contains_key(header::UPGRADE) {
        return refuse("Upgrade is not supported");
    }
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let codings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
    if lengths > 1 {
        return refuse("more than one Content-Length");
    }
    if lengths == 1 && codings > 0 {
        return refuse("both Content-Length and Transfer-Encoding");
    }
    if codings > 1 || headers.get(header::TRANSFER_ENCODING).is_some_and(|coding| coding != "chunked") {
        return refuse("Transfer-Encoding other than `chunked`");
    }
    let digits =
        |value: &http::HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let length = headers.get(header::CONTENT_LENGTH);
    if length.is_some_and(|value| !digits(value)) {
        return refuse("Content-Length is not a number");
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return refuse("more than one Host");
    }
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return refuse("more than one Authorization");
    }
    let length = length.and_then(|value| value.to_str().ok()).unwrap_or("0");
    if length.parse().is_ok_and(|length: u64| length <= max_body) { Ok(()) } else { Err(TOO_LARGE) }
}

#[cfg(test)]
mod tests {
    use super::check;
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    fn status(method: &Method, rows: &[(&'static str, &'static str)]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(method, &headers, 1000).err().map(|error| error.status)
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for rows in [
            &[("content-length", "1"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "xchunked")],
            &[("upgrade", "websocket")],
            &[("host", "a"), ("host", "b")],
            &[("authorization", "Basic YTph"), ("authorization", "Basic YTpi")],
        ] {
            assert_eq!(status(&Method::PUT, rows), Some(400), "{rows:?}");
        }
        assert_eq!(status(&Method::CONNECT, &[]), Some(405));
        assert_eq!(status(&Method::TRACE, &[]), Some(405));
    }

    #[test]
    fn plain_requests_pass() {
        assert_eq!(status(&Method::GET, &[("host", "gate")]), None);
        assert_eq!(status(&Method::PUT, &[("content-length", "12")]), None);
        assert_eq!(status(&Method::PUT, &[("transfer-encoding", "chunked")]), None);
    }

    #[test]
    fn a_body_is_too_large_above_the_limit() {
        let rows = [("0", None), ("1000", None), ("0001000", None), ("1001", Some(413))];
        for (length, expected) in rows {
            assert_eq!(status(&Method::PUT, &[("content-length", length)]), expected, "{length}");
        }
        let beyond_any_number = "99999999999999999999999999";
        assert_eq!(status(&Method::GET, &[("content-length", beyond_any_number)]), Some(413));
    }
}
