//! From a request head to a [`Request`]: framing, host, route, caller, and the gate's URL for this client.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, header};

use super::framing;
use crate::{
    access::CallerKey,
    clock::Clock,
    config::{ClientLimits, PublicUrl},
    document::{representation::joined, rewrite::PublicBase},
    handler::{MountRequest, Request},
    listener::{Asker, FramingError, is_authority},
    route::{self, Collections, HostStyle, MountPaths, RouteError},
};

/// What the edge needs to understand a request.
pub struct Intake {
    /// Hashes credentials.
    pub key: Arc<CallerKey>,
    /// Collections of servers, which clients name where an organisation stands.
    pub collections: Arc<Collections>,
    /// Paths that belong to mounts.
    pub mounts: MountPaths,
    /// The gate's URL where it is not what `Host` says.
    pub public_url: Option<PublicUrl>,
    /// Time of day.
    pub clock: Clock,
    /// Largest body that is taken, in bytes.
    pub max_body: u64,
    /// What a head may have; one of HTTP/1 was held to it as it came.
    pub limits: Arc<ClientLimits>,
}

/// The head of a request, as Pingora read it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target.
    pub uri: &'a Uri,
    /// The target as it was written.
    pub raw_path: &'a [u8],
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Whether it came over HTTP/1.
    pub http1: bool,
    /// Who asks, as far as the connection tells.
    pub asker: Option<Asker<'a>>,
}

/// Why a request is not understood.
pub enum IntakeError {
    /// Its framing.
    Framing(FramingError),
    /// Its path.
    Route(RouteError),
    /// Its host.
    Host,
}

// === impl Intake ===

impl Intake {
    /// The request as one of a mount; `None` when its path lies below none.
    pub fn mounted(&self, head: Head<'_>) -> Result<Option<MountRequest>, IntakeError> {
        let Ok(target) = std::str::from_utf8(head.raw_path) else { return Ok(None) };
        let Some(mounted) = self.mounts.find(target).map_err(IntakeError::Route)? else { return Ok(None) };
        self.check(head)?;
        host(head)?;
        Ok(Some(MountRequest {
            method: head.method.clone(),
            mounted,
            headers: head.headers.clone(),
            caller: self.key.caller(head.headers.get(header::AUTHORIZATION)),
            address: head.asker.map(|asker| asker.address),
        }))
    }

    /// Understands a request, or says why not.
    pub fn read(&self, head: Head<'_>) -> Result<Request, IntakeError> {
        self.check(head)?;
        let host = host(head)?;
        let target = std::str::from_utf8(head.raw_path)
            .map_err(|_| RouteError::Encoding(lossy(head.raw_path), "it is not UTF-8"))
            .map_err(IntakeError::Route)?;
        let route = route::parse_for(&self.collections, head.method, Some(host), target);
        let mut route = route.map_err(IntakeError::Route)?;
        route.target.negotiate(joined(head.headers, &header::ACCEPT).as_deref());
        Ok(Request {
            method: head.method.clone(),
            base: self.base(
                route.style,
                host,
                head.asker.is_some_and(|asker| asker.is_tls),
                route.org.as_str(),
            ),
            caller: self.key.caller(head.headers.get(header::AUTHORIZATION)),
            headers: head.headers.clone(),
            address: head.asker.map(|asker| asker.address),
            received_at: self.clock.now(),
            ahead: false,
            route,
        })
    }

    fn check(&self, head: Head<'_>) -> Result<(), IntakeError> {
        let within = if head.http1 { Ok(()) } else { within(head, &self.limits) };
        let checked = within.and_then(|()| framing::check(head.method, head.headers, self.max_body));
        checked.map_err(IntakeError::Framing)
    }

    fn base(&self, style: HostStyle, host: &str, is_tls: bool, org: &str) -> PublicBase {
        let own = if is_tls { "https" } else { "http" };
        match (style, &self.public_url) {
            (HostStyle::Path, Some(url)) => PublicBase::Path { origin: url.as_str().to_owned() },
            (HostStyle::Path, None) => PublicBase::Path { origin: format!("{own}://{host}") },
            (HostStyle::Subdomain, url) => {
                let scheme =
                    url.as_ref().and_then(|url| url.as_str().split_once("://")).map_or(own, |(s, _)| s);
                // Host is `{org}.pkgs.…` or `{org}.feeds.…`; what follows the label stays.
                let rest = host.get(org.len()..).unwrap_or_default();
                PublicBase::Subdomain { origin: format!("{scheme}://{{org}}{rest}") }
            }
        }
    }
}

/// Holds a head of HTTP/2 to the limits of a listener: its size alone is bounded where it is read.
fn within(head: Head<'_>, limits: &ClientLimits) -> Result<(), FramingError> {
    if head.raw_path.len() as u64 > limits.request_line {
        return Err(FramingError::large_head(414, "the path is too long (limits.request_line)"));
    }
    if head.headers.len() > limits.headers {
        return Err(FramingError::large_head(431, "too many header lines (limits.headers)"));
    }
    Ok(())
}

/// The authority that the client speaks to: what a proxy that is trusted says, else `:authority` or an absolute target,
/// else `Host` (RFC 9112 §3.2.2).
fn host(head: Head<'_>) -> Result<&str, IntakeError> {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    if authority.zip(host).is_some_and(|(authority, host)| authority != host) {
        return Err(IntakeError::Framing(FramingError::ambiguous(
            "the target and Host name two authorities",
        )));
    }
    let forwarded = head.asker.and_then(|asker| asker.host);
    let host = forwarded.or(authority).or(host).ok_or(IntakeError::Host)?;
    if host.is_empty() || host.len() > 255 || !is_authority(host.as_bytes()) {
        return Err(IntakeError::Host);
    }
    Ok(host)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}
