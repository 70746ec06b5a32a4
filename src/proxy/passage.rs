//! Bodies of forwarded answers on their way to the client: collected, their URLs rewritten, sent on.
//!
//! A rewritten body has another length, so its head goes ahead without one. A body that is too large to be held, or
//! that is coded although the gate did not ask for that, goes on as it is: then a URL of the service may leak, and
//! it is counted.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};

use crate::document::rewrite::{Rewriter, Rewritten};

/// Largest body that is held, in bytes: answers to writes have a few KiB, the list of `OPTIONS _apis` below 1 MiB,
/// and as many may be held at once as there are permits for the service.
const MOST: usize = 8 << 20;

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// RFC 8259.
    Json,
    /// Any XML.
    Xml,
}

/// Why a body goes on as it is although it may hold URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unchanged {
    /// It is larger than what is held.
    Size,
    /// It is compressed.
    Coding,
}

/// What is to be done with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It holds no URLs, or there is none.
    Pass,
    /// It may hold some, and goes on as it is all the same.
    PassUnchanged(Unchanged),
    /// It is collected and rewritten.
    Rewrite(Language),
}

/// A body being collected.
pub struct Collected {
    language: Language,
    held: BytesMut,
    /// Set when it became too large: from then on every piece goes on as it comes.
    passing: bool,
    /// URLs of the service that were left in it.
    pub leaked: usize,
}

// === impl Unchanged ===

impl Unchanged {
    /// Every label, for metrics that start at zero.
    pub const LABELS: [&'static str; 2] = ["size", "coding"];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Coding => "coding",
        }
    }
}

// === impl Plan ===

impl Plan {
    /// What to do with the body that `headers` announce.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(language) = Language::of(text(header::CONTENT_TYPE)) else { return Self::Pass };
        let length: Option<usize> = text(header::CONTENT_LENGTH).parse().ok();
        let coding = text(header::CONTENT_ENCODING);
        if matches!(status.as_u16(), 204 | 205 | 304) || length == Some(0) {
            Self::Pass
        } else if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            Self::PassUnchanged(Unchanged::Coding)
        } else if length.is_some_and(|length| length > MOST) {
            Self::PassUnchanged(Unchanged::Size)
        } else {
            Self::Rewrite(language)
        }
    }
}

// === impl Language ===

impl Language {
    fn of(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().to_ascii_lowercase();
        if media_type.contains("json") {
            Some(Self::Json)
        } else {
            media_type.contains("xml").then_some(Self::Xml)
        }
    }
}

// === impl Collected ===

impl Collected {
    /// Starts with nothing.
    pub fn new(language: Language) -> Self {
        Self { language, held: BytesMut::new(), passing: false, leaked: 0 }
    }

    /// Takes the next piece, the last one if `end`, and gives what goes to the client now.
    pub fn pass(&mut self, rewriter: &Rewriter, piece: Option<Bytes>, end: bool) -> Option<Bytes> {
        if self.passing {
            return piece;
        }
        self.held.extend_from_slice(&piece.unwrap_or_default());
        if self.held.len() > MOST {
            self.passing = true;
            return Some(self.held.split().freeze());
        }
        if !end {
            return None;
        }
        let Rewritten { body, leaked, .. } = self.rewritten(rewriter);
        self.leaked = leaked;
        Some(body)
    }

    /// Whether it became too large on the way.
    pub fn is_too_large(&self) -> bool {
        self.passing
    }

    fn rewritten(&mut self, rewriter: &Rewriter) -> Rewritten {
        let body = self.held.split().freeze();
        match self.language {
            Language::Json => rewriter.rewrite_json(&body),
            Language::Xml => rewriter.rewrite_xml(&body),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::{Collected, Language, MOST, Plan, Unchanged};
    use crate::document::rewrite::{PublicBase, Rewriter, ServiceHosts};

    const XML: &str = "<a href='https://pkgs.dev.azure.com/o/x'/>";

    fn rewriter() -> Rewriter {
        let hosts = ServiceHosts::new::<&str>(&[]).unwrap();
        Rewriter::new(Arc::new(hosts), &PublicBase::Path { origin: "http://gate".to_owned() }).unwrap()
    }

    #[test]
    fn what_may_hold_urls_is_rewritten_unless_it_cannot_be() {
        let (json, xml) = (Plan::Rewrite(Language::Json), Plan::Rewrite(Language::Xml));
        let large = (MOST + 1).to_string();
        let rows = [
            (200, "application/json", "", "", json),
            (403, "application/problem+JSON; charset=utf-8", "12", "", json),
            (200, "application/atom+xml;type=feed", "", "identity", xml),
            (200, "text/plain; x=json", "", "", Plan::Pass),
            (200, "", "", "", Plan::Pass),
            (204, "application/json", "", "", Plan::Pass),
            (200, "application/json", "0", "", Plan::Pass),
            (200, "application/json", &large, "", Plan::PassUnchanged(Unchanged::Size)),
            (200, "application/json", "", "gzip", Plan::PassUnchanged(Unchanged::Coding)),
        ];
        for (status, kind, length, coding, expected) in rows {
            let mut headers = HeaderMap::new();
            let fields = [("content-type", kind), ("content-length", length), ("content-encoding", coding)];
            for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            let plan = Plan::of(StatusCode::from_u16(status).unwrap(), &headers);
            assert_eq!(plan, expected, "{status} {kind} {length} {coding}");
        }
    }

    #[test]
    fn a_body_in_pieces_is_rewritten_whole() {
        for size in [1, 7, 1000] {
            let mut body = Collected::new(Language::Xml);
            let pieces: Vec<_> = XML.as_bytes().chunks(size).collect();
            for piece in &pieces {
                assert_eq!(body.pass(&rewriter(), Some(Bytes::copy_from_slice(piece)), false), None);
            }
            let sent = body.pass(&rewriter(), None, true).unwrap();
            assert_eq!((&sent[..], body.is_too_large()), (&b"<a href='http://gate/o/x'/>"[..], false));
        }
    }

    #[test]
    fn a_body_that_is_too_large_goes_on_whole_as_it_is() {
        let mut body = Collected::new(Language::Json);
        let piece = Bytes::from(vec![b' '; MOST / 2]);
        let mut sent = 0;
        for end in [false, false, false, true] {
            sent += body.pass(&rewriter(), Some(piece.clone()), end).map_or(0, |piece| piece.len());
        }
        assert_eq!((sent, body.is_too_large()), (4 * piece.len(), true));
    }
}
