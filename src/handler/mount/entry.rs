//! Who may use a mount, and with what its origin is asked.
//!
//! What opens the gate stays at the gate: a gate token never goes on to an origin. Where the gate has a credential of
//! its own for an origin, or asks callers for a gate token, nothing that a caller shows of itself goes there.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{Admitted, MountRequest, Mounts, Work};
use crate::{
    access::{Asking, is_gate_token},
    cache::Owner,
    config::{
        self, Mount,
        access::Rights,
        mount::Admission,
        organisation::{GateCredential, Source},
    },
    handler::HandlerError,
    policy::end_to_end,
    upstream::{Refusal, UpstreamError, UpstreamResponse},
};

/// What callers show of themselves.
const SHOWN_BY_CALLERS: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, HeaderName::from_static("x-nuget-apikey")];

/// What proxies say of a request to one another, and what has another path or method done than those that are there.
/// Frameworks believe it; a client that writes it makes an origin answer for a host or a path that nobody else asked for,
/// and all would get what is stored of that.
const OF_PROXIES: [&str; 13] = [
    "forwarded",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
];

/// What makes a mount's responses its own: where it is, whom it lets in, and with what its origin is asked. A secret that
/// changes leaves them.
pub(super) fn owner(mount: &Mount) -> Owner {
    let access = if mount.access == Admission::Open { "open" } else { "gateway" };
    let file;
    let mut parts = vec![mount.path.as_str(), access];
    if let Some(GateCredential { source, scheme }) = &mount.credential {
        parts.push(scheme.as_str());
        match source {
            Source::Kept(config::Credential::Variable(_)) => parts.push("variable"),
            Source::Kept(config::Credential::File(path)) => {
                file = path.to_string_lossy();
                parts.extend(["file", &file]);
            }
            Source::Command(command) => {
                parts.extend(std::iter::once("command").chain(command.iter().map(String::as_str)));
            }
        }
    }
    Owner::new(&parts)
}

fn is_of_proxies(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded") || OF_PROXIES.contains(&name.as_str())
}

// === impl Mounts ===

impl Mounts {
    /// Lets the caller in, and leaves out of its request what is for the gate alone, or for one hop: nothing of that is
    /// asked for with it, so it selects nothing, either.
    ///
    /// # Errors
    /// The caller is not let in.
    pub fn admit(&self, mut request: MountRequest) -> Result<Admitted, HandlerError> {
        let (mount, _) = self.find(&request)?;
        let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let needs = if reads { Rights::Read } else { Rights::Write };
        let MountRequest { caller, address, headers, .. } = &request;
        match (&mount.access, &mount.credential) {
            (Admission::Gateway(org), _) => {
                let asking = Asking { caller, address: *address, org, feed: None, needs, headers };
                self.gateway.admit_mounted(asking, self.now())?;
            }
            (Admission::Open, Some(_)) => self.gateway.admit_here(*address, headers, needs)?,
            (Admission::Open, None) => {}
        }
        request.headers = end_to_end(&request.headers);
        let stays = |(name, value): &(&HeaderName, &HeaderValue)| {
            (mount.is_asked_by_gate() && SHOWN_BY_CALLERS.contains(name))
                || is_of_proxies(name)
                || is_gate_token(value)
        };
        let names: Vec<HeaderName> =
            request.headers.iter().filter(stays).map(|(name, _)| name.clone()).collect();
        for name in &names {
            request.headers.remove(name);
        }
        Ok(Admitted(request))
    }
}

// === impl Work ===

impl Work<'_> {
    /// Adds the gate's own credential to a request, if it has one for this origin.
    pub(super) async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), UpstreamError> {
        let Some(Some(credential)) = self.mounts.credentials.get(self.request.mounted.index) else {
            return Ok(());
        };
        let credential = credential.header().await;
        let credential = credential.map_err(|error| UpstreamError::Request(format!("mount: {error}")))?;
        headers.insert(header::AUTHORIZATION, credential);
        Ok(())
    }

    /// Leaves out of a response what is about the gate's own session there.
    pub(super) fn without_session(&self, response: &mut UpstreamResponse) {
        if self.mount.credential.is_some() {
            response.headers.remove(header::SET_COOKIE);
        }
    }

    /// An origin's refusal of the gate's own credential: a client that saw it would throw away a good one.
    pub(super) fn check_gate(&self, status: StatusCode) -> Result<(), HandlerError> {
        if self.mount.credential.is_some() && status == StatusCode::UNAUTHORIZED {
            return Err(HandlerError::GateRefused(Arc::new(Refusal::challenge(""))));
        }
        Ok(())
    }
}
