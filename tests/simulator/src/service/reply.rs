//! A reply before it is put on the wire.

use std::borrow::Cow;

use bytes::Bytes;

use super::documents::Document;

/// Text that is mostly a constant.
pub(crate) type Text = Cow<'static, str>;

/// Status, headers and body. Framing headers (`Content-Length` and so on) are added when it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) reason: Text,
    pub(crate) headers: Vec<(Text, Text)>,
    pub(crate) body: Body,
}

/// A body.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// A rendered document, which may also go out compressed.
    Document(std::sync::Arc<Document>),
}

// === impl Reply ===

impl Reply {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("Content-Type".into(), content_type.into())];
        Self { status, reason: reason(status).into(), headers, body: Body::Bytes(body.into()) }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, reason: reason(status).into(), headers: Vec::new(), body: Body::Bytes(Bytes::new()) }
    }

    pub(crate) fn document(content_type: &'static str, document: std::sync::Arc<Document>) -> Self {
        Self { body: Body::Document(document), ..Self::new(200, content_type, "") }
    }

    pub(crate) fn reason(mut self, reason: impl Into<Text>) -> Self {
        self.reason = reason.into();
        self
    }

    pub(crate) fn header(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

// === impl Body ===

impl Body {
    /// The uncompressed bytes.
    pub(crate) fn plain(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Document(document) => document.plain.clone(),
        }
    }
}

/// The standard reason phrase (RFC 9110 §15), for the statuses that occur here.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        416 => "The range specified is invalid for the current size of the resource.",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
