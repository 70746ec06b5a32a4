//! A small HTTP/1.1 client for tests: it sends exactly what it is told and reports exactly what came.
//!
//! No redirects, no retries, no decompression, no pool. A connection is a value; an early end is not an error but
//! `complete: false`.

mod connection;
mod url;

use std::io;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

pub use connection::{Body, Connection, Head};
pub use url::Url;

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Reason phrase, as sent.
    pub reason: String,
    /// Headers in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body without its framing, still in its content coding.
    pub body: Bytes,
    /// Whether the body came to the end that its framing promised.
    pub complete: bool,
    /// When the first byte of the head had come.
    pub first_byte_at: Instant,
}

/// GETs a URL on a new connection.
pub async fn get(url: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    send("GET", url, headers, b"").await
}

/// Sends any request on a new connection. `Host` and, with a body, `Content-Length` are added unless given.
pub async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
    let url = Url::parse(url)?;
    let mut connection = Connection::open(&url, None).await?;
    connection.request(method, &url, headers, body).await
}

/// Like [`send`], over TLS with trust in one authority.
pub async fn send_trusting(
    ca_pem: &str,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
) -> io::Result<Response> {
    let url = Url::parse(url)?;
    let mut connection = Connection::open(&url, Some(ca_pem)).await?;
    connection.request(method, &url, headers, b"").await
}

/// The value of a `Authorization: Basic` header.
pub fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

// === impl Response ===

impl Response {
    /// The first value of a header, by name in any letter case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_all(name).into_iter().next()
    }

    /// All values of a header, in order.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let own = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The body as text, lossily.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body decompressed by `Content-Encoding: gzip`, or as it is without that header.
    pub fn decoded(&self) -> io::Result<Bytes> {
        if self.header("content-encoding") != Some("gzip") {
            return Ok(self.body.clone());
        }
        let mut plain = Vec::new();
        io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&self.body[..]), &mut plain)?;
        Ok(plain.into())
    }
}
