//! What an endpoint gets and gives, without anything of the server that carries it.

use std::{collections::BTreeMap, io, time::SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use super::problem::Problem;

/// Media type of JSON answers.
pub const JSON: &str = "application/json; charset=utf-8";
/// Media type of the plain answers.
pub const PLAIN: &str = "text/plain; charset=utf-8";

/// A request that has found its endpoint.
#[derive(Debug)]
pub struct Request {
    /// The method; GET for HEAD too, whose body is left out later.
    pub method: Method,
    /// What stands in the places of the pattern, decoded.
    pub parameters: BTreeMap<&'static str, String>,
    /// Behind the `?`; empty when there is none.
    pub query: String,
    /// The body.
    pub body: Body,
}

/// A body as the route wanted it.
#[derive(Debug)]
pub enum Body {
    /// Read to its end.
    Whole(Bytes),
    /// Piece by piece while it arrives; an error is a client that broke off.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those of the framing.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Content,
}

/// The body of an answer.
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// Piece by piece; an error breaks the connection off, so that nobody takes a part for the whole.
    Pieces(BoxStream<'static, io::Result<Bytes>>),
}

/// A point in time as answers tell it, in seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

// === impl Request ===

impl Request {
    /// The body as JSON; an empty one is an empty object.
    ///
    /// # Errors
    /// 400 with what is wrong and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let body = if self.bytes().is_empty() { b"{}" } else { self.bytes() };
        serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("the body: {error}")))
    }

    /// The whole body; empty for one in pieces.
    pub fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Whole(body) => body,
            Body::Pieces(_) => b"",
        }
    }

    /// The parameters of the query.
    ///
    /// # Errors
    /// 400 with what is wrong.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_urlencoded::from_str(&self.query)
            .map_err(|error| Problem::invalid(format!("the query `{}`: {error}", self.query)))
    }

    /// What stands in the place `name` of the route's pattern.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

// === impl Answer ===

impl Answer {
    /// 200 with a value as JSON, on one line.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Problem> {
        let mut text = serde_json::to_string(value).map_err(|error| Problem::internal(&error))?;
        text.push('\n');
        Ok(Self::text(JSON, text).with_header(header::CACHE_CONTROL, "no-store"))
    }

    /// 200 with a text.
    pub fn text(kind: &'static str, text: impl Into<Bytes>) -> Self {
        Self::with(kind, Content::Whole(text.into()))
    }

    /// 200 with a body that is made while it is sent.
    pub fn pieces(kind: &'static str, pieces: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self::with(kind, Content::Pieces(pieces))
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    fn with(kind: &'static str, body: Content) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        Self { status: StatusCode::OK, headers, body }
    }
}
