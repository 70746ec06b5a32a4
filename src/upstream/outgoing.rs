//! What goes over the wire: request-target and headers, built anew from the parsed parts of a request.
//!
//! Nothing of the client's request is passed on by default. The service answers 400 to headers that it does
//! not expect from a package client (`Sec-Fetch-*`), a shared document must not depend on one caller's
//! conditions (`If-None-Match` speaks of the gate's own tags), and npm's `npm-*` and `pacote-*` headers would
//! name one of many waiters only.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_RANGE, RANGE,
        USER_AGENT,
    },
};

use super::{Target, UpstreamError, UpstreamRequest, sites::Sites};
use crate::config::upstream::{Base, Origin};

/// The gate's own part of `User-Agent`.
pub(super) const USER_AGENT_TOKEN: &str = concat!("feedgate/", env!("CARGO_PKG_VERSION"));
/// Longest `User-Agent` that is passed on, in bytes.
const MAX_USER_AGENT: usize = 512;
/// Client headers that the service's hosts get unchanged, besides those that are built here (facts §8).
const TO_SERVICE: [HeaderName; 5] = [
    ACCEPT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-nuget-session-id"),
    HeaderName::from_static("x-nuget-client-version"),
];
/// All that a blob host gets: the signature in the URL is the only credential that it may see (facts §3.5).
const TO_BLOB: [HeaderName; 3] = [ACCEPT, RANGE, IF_RANGE];
/// The only type of bodies, both ways, of a question in a body.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Asks for 401 instead of a redirect to a sign-in page (facts §6).
const FED_AUTH: HeaderName = HeaderName::from_static("x-tfs-fedauthredirect");

/// A request, ready to be written.
pub(super) struct Outgoing {
    /// Where to connect.
    pub(super) origin: Origin,
    /// Method.
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// Every header, `Host` included.
    pub(super) headers: HeaderMap,
    /// The body; empty for none.
    pub(super) body: Bytes,
}

// === impl Outgoing ===

impl Outgoing {
    /// Fails if the target is not a configured host of the service or an allow-listed blob host, or its path
    /// cannot stand in a request line.
    pub(super) fn new(request: &UpstreamRequest, sites: &Sites) -> Result<Self, UpstreamError> {
        let (origin, path, mut headers) = match &request.target {
            Target::Service { service, org, path } => {
                check_path(path)?;
                let base = sites.base(*service, org)?;
                (base.origin, base.prefix + path, service_headers(request))
            }
            Target::Blob(url) => {
                let (origin, path) = sites.blob(url)?;
                (origin, path, copied(&request.headers, &TO_BLOB))
            }
        };
        if !request.body.is_empty() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        Self { origin, method: request.method.clone(), path, headers, body: request.body.clone() }.addressed()
    }

    /// A question to another registry. Nothing of the client's request goes there but the body, and no credential.
    pub(super) fn question(base: &Base, path: &str, body: Bytes) -> Result<Self, UpstreamError> {
        check_path(path)?;
        let gzip = HeaderValue::from_static("gzip");
        let agent = HeaderValue::from_static(USER_AGENT_TOKEN);
        let headers = [(ACCEPT, JSON), (ACCEPT_ENCODING, gzip), (USER_AGENT, agent), (CONTENT_TYPE, JSON)];
        let path = format!("{}{path}", base.prefix);
        let headers = HeaderMap::from_iter(headers);
        Self { origin: base.origin.clone(), method: Method::POST, path, headers, body }.addressed()
    }

    /// A message of the gate's own.
    pub(super) fn message(
        base: &Base,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Self, UpstreamError> {
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TOKEN));
        let path = format!("{}{path}", base.prefix);
        Self { origin: base.origin.clone(), method: Method::POST, path, headers, body }.addressed()
    }

    /// With `Host`, and the length of the body if there is one.
    fn addressed(mut self) -> Result<Self, UpstreamError> {
        let host = HeaderValue::try_from(self.origin.authority());
        self.headers.insert(HOST, host.map_err(|e| UpstreamError::Request(e.to_string()))?);
        if !self.body.is_empty() {
            self.headers.insert(CONTENT_LENGTH, self.body.len().into());
        }
        Ok(self)
    }

    /// Whether the request may be sent again when its connection ended. Only a question has a body here ("some
    /// means to know that the request semantics are actually idempotent", RFC 9110 §9.2.2).
    pub(super) fn may_be_repeated(&self) -> bool {
        self.method.is_idempotent() || !self.body.is_empty()
    }

    /// Host and port, for errors.
    pub(super) fn host(&self) -> String {
        self.origin.authority()
    }
}

fn service_headers(request: &UpstreamRequest) -> HeaderMap {
    let mut headers = copied(&request.headers, &TO_SERVICE);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accept_encoding(&request.headers)));
    headers.insert(USER_AGENT, user_agent(request.headers.get(USER_AGENT)));
    headers.insert(FED_AUTH, HeaderValue::from_static("Suppress"));
    if let Some(authorization) = &request.authorization {
        let mut authorization = authorization.clone();
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
    }
    headers
}

fn copied(from: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in names {
        // Of what can be there once only, others may take the last.
        let most = if *name == ACCEPT { usize::MAX } else { 1 };
        for value in from.get_all(name).iter().take(most) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// The gate decodes gzip and nothing else, so it must not ask for anything else.
fn accept_encoding(headers: &HeaderMap) -> &'static str {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    if codings.any(|coding| coding.trim().eq_ignore_ascii_case("gzip")) { "gzip" } else { "identity" }
}

fn user_agent(client: Option<&HeaderValue>) -> HeaderValue {
    let client = client.and_then(|value| value.to_str().ok()).map_or("", str::trim);
    if client.is_empty() || client.len() > MAX_USER_AGENT {
        return HeaderValue::from_static(USER_AGENT_TOKEN);
    }
    HeaderValue::try_from(format!("{client} {USER_AGENT_TOKEN}"))
        .unwrap_or_else(|_| HeaderValue::from_static(USER_AGENT_TOKEN))
}

/// Visible ASCII only, no fragment, and no dot segments: a path must not leave its organisation.
fn check_path(path: &str) -> Result<(), UpstreamError> {
    let bad = |what: &str| Err(UpstreamError::Request(format!("path {what}")));
    if !path.starts_with('/') {
        return bad("does not start with `/`");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return bad("has a character that must be percent-encoded");
    }
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let is_dot =
        |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if path.split(['/', '\\']).any(is_dot) { bad("has a dot segment") } else { Ok(()) }
}

#[cfg(test)]
mod tests;
