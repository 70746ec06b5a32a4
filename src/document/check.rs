//! Whether a body is what its route promises: JSON or XML that is complete, and no sign-in page.
//!
//! This is the gate's protection against storing a truncated document or an HTML page that came with
//! status 200 (facts §6). It says nothing about the document's fields; readers of fields do that.

use bytes::Bytes;
use serde::de::IgnoredAny;

/// Some layers of the service put it in front of JSON (facts §5.5).
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// First tags of pages made for people.
const HTML_OPENINGS: [&[u8]; 7] =
    [b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<script", b"<meta"];

/// Why a body is not the document it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The body is a page for people, most likely a sign-in page.
    #[error("body is an HTML page")]
    Html,
    /// The body is not UTF-8.
    #[error("body is not UTF-8 from byte {0} on")]
    Encoding(usize),
    /// The body is not (complete) JSON.
    #[error("body is not JSON: {0}")]
    Json(String),
    /// The body is not (complete) XML.
    #[error("body is not XML: {0}")]
    Xml(&'static str),
    /// The body is JSON, but not of the shape that this kind of document has.
    #[error("document has an unexpected shape: {0}")]
    Shape(String),
}

/// The body without a leading byte order mark; shares the memory.
pub fn without_bom(body: Bytes) -> Bytes {
    if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body }
}

/// Checks that `body` is one complete JSON value in UTF-8; a leading byte order mark is tolerated.
///
/// # Errors
/// [`DocumentError::Html`], [`DocumentError::Encoding`] or [`DocumentError::Json`].
pub fn validate_json(body: &[u8]) -> Result<(), DocumentError> {
    let text = text_of(body)?;
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(_) if looks_like_html(body) => Err(DocumentError::Html),
        Err(error) => Err(DocumentError::Json(error.to_string())),
    }
}

/// Checks that `body` begins with an element and ends with the end of that element.
///
/// A full parse is left out: the gate changes only URLs, and what it guards against is a body that was cut.
///
/// # Errors
/// [`DocumentError::Html`], [`DocumentError::Encoding`] or [`DocumentError::Xml`].
pub fn validate_xml(body: &[u8]) -> Result<(), DocumentError> {
    if looks_like_html(body) {
        return Err(DocumentError::Html);
    }
    let root = after_prolog(text_of(body)?.as_bytes());
    if root.first() != Some(&b'<') {
        return Err(DocumentError::Xml("no element"));
    }
    if ends_with_its_root(root) { Ok(()) } else { Err(DocumentError::Xml("root element is not closed")) }
}

/// Whether `body` starts as an HTML page does, whatever its Content-Type says.
pub fn looks_like_html(body: &[u8]) -> bool {
    let start = after_prolog(body.strip_prefix(BOM).unwrap_or(body));
    HTML_OPENINGS
        .iter()
        .any(|opening| start.get(..opening.len()).is_some_and(|found| found.eq_ignore_ascii_case(opening)))
}

/// The body as text, without a leading byte order mark.
pub(super) fn text_of(body: &[u8]) -> Result<&str, DocumentError> {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    std::str::from_utf8(body).map_err(|error| DocumentError::Encoding(error.valid_up_to()))
}

/// What follows white space, XML declarations and comments.
fn after_prolog(mut body: &[u8]) -> &[u8] {
    loop {
        body = body.trim_ascii_start();
        let end: &[u8] = match body {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            _ => return body,
        };
        match memchr::memmem::find(body, end) {
            Some(at) => body = &body[at + end.len()..],
            None => return body,
        }
    }
}

/// What is before white space, comments and instructions at the end (XML 1.0 §2.1, `Misc*`).
fn before_epilog(mut body: &[u8]) -> &[u8] {
    loop {
        body = body.trim_ascii_end();
        let start: &[u8] = match body {
            [.., b'-', b'-', b'>'] => b"<!--",
            [.., b'?', b'>'] => b"<?",
            _ => return body,
        };
        match memchr::memmem::rfind(body, start) {
            Some(at) => body = &body[..at],
            None => return body,
        }
    }
}

/// Whether `root`, which starts with `<`, ends in `</name>` of its first element, or is one empty element.
fn ends_with_its_root(root: &[u8]) -> bool {
    let name_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'>');
    let name = root[1..].split(name_end).next().unwrap_or_default();
    let root = before_epilog(root);
    if name.is_empty() {
        return false;
    }
    if root.ends_with(b"/>") {
        return memchr::memchr(b'>', root) == Some(root.len() - 1);
    }
    let before = root.strip_suffix(b">").map(<[u8]>::trim_ascii_end).and_then(|r| r.strip_suffix(name));
    before.is_some_and(|before| before.ends_with(b"</"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{DocumentError, looks_like_html, validate_json, validate_xml, without_bom};

    fn kind(result: &Result<(), DocumentError>) -> &'static str {
        match result {
            Ok(()) => "ok",
            Err(DocumentError::Html) => "html",
            Err(DocumentError::Encoding(_)) => "encoding",
            Err(DocumentError::Json(_)) => "json",
            Err(DocumentError::Xml(_)) => "xml",
            Err(DocumentError::Shape(_)) => "shape",
        }
    }

    #[test]
    fn json_is_accepted_only_whole_and_in_utf_8() {
        let rows: [(&[u8], &str); 10] = [
            (b"{}", "ok"),
            (b" [1, \"\\u0041\", null] \n", "ok"),
            (b"\xEF\xBB\xBF{\"message\":\"x\"}", "ok"),
            (b"", "json"),
            (b"{\"versions\":{\"1.0.0\":{", "json"),
            (b"{} {}", "json"),
            (b"{\"a\":\"\xFF\"}", "encoding"),
            (b"<!DOCTYPE html><html></html>", "html"),
            (b"\r\n <HTML lang=en>", "html"),
            (b"<feed/>", "json"),
        ];
        for (body, expected) in rows {
            assert_eq!(kind(&validate_json(body)), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn xml_is_accepted_only_when_its_root_is_closed() {
        let rows: [(&[u8], &str); 15] = [
            (b"<a><b/></a>\n<!-- <c> -->\r\n<?end?> ", "ok"),
            (b"<a><b/><!-- </a> -->", "xml"),
            (b"<a><?b </a>?>", "xml"),
            (b"<?xml version=\"1.0\"?>\n<feed xml:base=\"x\"><entry></entry></feed>\n", "ok"),
            (b"\xEF\xBB\xBF<package><a/></package >", "ok"),
            (b"<!-- a --><service/>", "ok"),
            (b"<feed><entry></entry>", "xml"),
            (b"<feed><entry/>", "xml"),
            (b"<feed><entry></entry></feedx>", "xml"),
            (b"<feed", "xml"),
            (b"<", "xml"),
            (b"", "xml"),
            (b"{}", "xml"),
            (b"<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC><html></html>", "html"),
            (b"<a>\xFF</a>", "encoding"),
        ];
        for (body, expected) in rows {
            assert_eq!(kind(&validate_xml(body)), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_page_is_recognised_behind_comments_and_a_mark() {
        assert!(looks_like_html(b"\xEF\xBB\xBF <!-- hi -->\n<!doctype HTML>"));
        assert!(!looks_like_html(b"<hta>"));
        assert!(!looks_like_html(b"<!-- never closed <html>"));
        assert!(!looks_like_html(b"\"<html>\""));
    }

    #[test]
    fn the_byte_order_mark_is_cut_and_nothing_else() {
        assert_eq!(without_bom(Bytes::from_static(b"\xEF\xBB\xBF{}")), "{}");
        assert_eq!(without_bom(Bytes::from_static(b"{}")), "{}");
    }
}
