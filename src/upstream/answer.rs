//! What a response means: the thing asked for, a redirect to follow, or a refusal.
//!
//! The service's oddities end here: sign-in pages under 203, 302 and 200, refusals for load under 500,
//! and challenges that a package client needs to see on lines of their own (facts §6, §7.2). Nothing in here
//! stores anything; a refusal is for one caller and is never stored.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    Refusal, Target, UpstreamError, UpstreamResponse, body,
    sites::{BlobLocation, Onward, Sites},
};
use crate::throttle::{SignalKind, retry_after};

/// Most bytes of a refusal's body that are kept: its JSON has a few hundred (facts §5.5).
pub(super) const MAX_REFUSAL: usize = 64 << 10;
/// Longest wait for the body of a refusal. It comes with the head; what drips is shown as far as it came.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for the body of a redirect, which is read only to keep the connection.
const DRAIN: Duration = Duration::from_secs(1);
/// The challenges of the service (facts §6), for answers that lack them. `Bearer` has no parameter, as for
/// organisations without a tenant, because the credential provider splits it at every `=`.
const CHALLENGES: [&str; 3] = ["Bearer", "Basic realm=\"Azure Artifacts\"", "TFS-Federated"];
/// Headers of a refusal that may be shown.
const SHOWN: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-vss-resourcetenant"),
    HeaderName::from_static("x-vss-authorizationendpoint"),
    HeaderName::from_static("x-vss-e2eid"),
    HeaderName::from_static("activityid"),
    HeaderName::from_static("x-nuget-warning"),
];

/// What the caller of the service counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// A JSON document: 200.
    Json,
    /// An XML document: 200.
    Xml,
    /// The bytes of a package: 200, or a redirect to them.
    Bytes,
    /// Whatever the service says: any 2xx but the 203 of a sign-in page.
    Any,
}

/// The outcome of a request, as a handler sees it.
#[derive(Debug)]
pub enum Answer {
    /// What was asked for.
    Success(UpstreamResponse),
    /// Something else, to be shown to this caller or covered by a stored copy.
    Refused(Refused),
}

/// Why the thing asked for was not given.
#[derive(Debug, Clone)]
pub enum Refused {
    /// 401, or a sign-in page in any disguise; has challenges.
    Unauthorized(Refusal),
    /// 403: known, and not allowed.
    Forbidden(Refusal),
    /// 404 or 410; the service also says so where the caller may not look (facts §6).
    NotFound(Refusal),
    /// 429, 503, or a 500 that says so: slow down.
    Busy {
        /// How long the service wants to be left alone, if it says; at most an hour.
        retry_after: Option<Duration>,
        /// The whole answer.
        refusal: Refusal,
    },
    /// Any other 4xx.
    Rejected(Refusal),
    /// Any other 5xx, or a status that has no meaning here (then shown as 502).
    Failed(Refusal),
}

/// One response, judged; a redirect is still to be followed.
#[derive(Debug)]
pub enum Step {
    /// What was asked for.
    Success(UpstreamResponse),
    /// The bytes are elsewhere.
    Blob(BlobLocation),
    /// Another route of the service has it; ask there with the same credential.
    Hop(Target),
    /// It is not given.
    Refused(Refused),
}

/// What [`classify`] must know besides the response.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The hosts of the service.
    pub sites: &'a Sites,
    /// Where the response comes from.
    pub from: &'a Target,
    /// What was asked for.
    pub expect: Expect,
    /// The time of day, for a `Retry-After` that is a date.
    pub now: SystemTime,
}

/// What a status means, before a location or a text is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Redirect,
    SignIn,
    Unauthorized,
    Forbidden,
    NotFound,
    Busy,
    Rejected,
    Failed,
    Unexpected,
}

/// Judges `response`. Reads the body of a refusal (up to 64 KiB, decoded) and leaves that of a success.
///
/// Fails with [`UpstreamError::Redirect`] for a redirect that leads nowhere allowed.
pub async fn classify(context: Context<'_>, response: UpstreamResponse) -> Result<Step, UpstreamError> {
    let verdict = judge(context.expect, response.status, is_html(&response.headers));
    if verdict == Verdict::Success {
        return Ok(Step::Success(response));
    }
    if verdict != Verdict::Redirect {
        return Ok(Step::Refused(refuse(verdict, context.now, response).await));
    }
    let Some(location) = response.headers.get(header::LOCATION).map(HeaderValue::to_str) else {
        return Ok(Step::Refused(refuse(Verdict::Unexpected, context.now, response).await));
    };
    let location = location.map_err(|_| UpstreamError::Redirect("location is not text".into()))?;
    match context.sites.onward(context.from, location)? {
        Onward::SignIn => Ok(Step::Refused(refuse(Verdict::SignIn, context.now, response).await)),
        Onward::Blob(location) => {
            drain(response).await;
            Ok(Step::Blob(location))
        }
        Onward::Service(target) => {
            drain(response).await;
            Ok(Step::Hop(target))
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Why the thing asked for was not given.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Success(_) => None,
            Self::Refused(refused) => Some(refused),
        }
    }
}

// === impl Refused ===

impl Refused {
    /// The answer itself.
    pub fn refusal(&self) -> &Refusal {
        match self {
            Self::Unauthorized(refusal)
            | Self::Forbidden(refusal)
            | Self::NotFound(refusal)
            | Self::Busy { refusal, .. }
            | Self::Rejected(refusal)
            | Self::Failed(refusal) => refusal,
        }
    }

    /// Whether the service is in trouble, so that a stored copy may stand in.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Failed(_))
    }
}

/// A page in HTML where package data is due is a sign-in page, whatever the status of success.
fn judge(expect: Expect, status: StatusCode, html: bool) -> Verdict {
    match status.as_u16() {
        203 => Verdict::SignIn,
        200 if html && expect != Expect::Any => Verdict::SignIn,
        200 => Verdict::Success,
        201..=299 if expect == Expect::Any => Verdict::Success,
        301 | 302 | 303 | 307 | 308 => Verdict::Redirect,
        401 => Verdict::Unauthorized,
        403 => Verdict::Forbidden,
        404 | 410 => Verdict::NotFound,
        429 | 503 => Verdict::Busy,
        400..=499 => Verdict::Rejected,
        500..=599 => Verdict::Failed,
        _ => Verdict::Unexpected,
    }
}

async fn refuse(verdict: Verdict, now: SystemTime, response: UpstreamResponse) -> Refused {
    let retry_after = retry_after(&response.headers, now);
    if verdict == Verdict::SignIn {
        return Refused::Unauthorized(Refusal::sign_in(&response.headers));
    }
    let refusal = shown(response).await;
    match verdict {
        Verdict::Unauthorized | Verdict::SignIn => Refused::Unauthorized(challenged(refusal)),
        Verdict::Forbidden => Refused::Forbidden(refusal),
        Verdict::NotFound => Refused::NotFound(refusal),
        Verdict::Busy => Refused::Busy { retry_after, refusal },
        Verdict::Rejected => Refused::Rejected(refusal),
        Verdict::Failed if is_overload(refusal.status, refusal.reason.as_deref(), &refusal.body) => {
            Refused::Busy { retry_after, refusal }
        }
        Verdict::Failed => Refused::Failed(refusal),
        Verdict::Success | Verdict::Redirect | Verdict::Unexpected => {
            Refused::Failed(unexpected(refusal.status))
        }
    }
}

async fn shown(response: UpstreamResponse) -> Refusal {
    let body = body::read_some(response.body, &response.headers, MAX_REFUSAL, PATIENCE).await;
    Refusal { status: response.status, reason: response.reason, headers: only_shown(&response.headers), body }
}

impl Refusal {
    /// What is shown in place of a sign-in page that came with `headers`: a package client can do nothing with the
    /// page itself.
    pub fn sign_in(headers: &HeaderMap) -> Self {
        let message = "The service asks for a sign-in: the credential is missing, expired or not valid.";
        let mut refusal = own(StatusCode::UNAUTHORIZED, message);
        for (name, value) in &only_shown(headers) {
            if name != header::CONTENT_TYPE {
                refusal.headers.append(name.clone(), value.clone());
            }
        }
        challenged(refusal)
    }

    /// The gate's own "show a credential", for callers without one of whom the service cannot be asked: NuGet
    /// asks for everything without its credential first, and takes anything but a 401 for the end.
    pub fn credential_needed() -> Self {
        Self::challenge("The service cannot be asked now; a known credential is needed.")
    }

    /// The gate's own 401 with the challenges of the service.
    pub fn challenge(message: &str) -> Self {
        challenged(own(StatusCode::UNAUTHORIZED, message))
    }
}

fn unexpected(status: StatusCode) -> Refusal {
    own(StatusCode::BAD_GATEWAY, &format!("The service gave an unexpected answer ({}).", status.as_u16()))
}

/// An answer of the gate in the form of the service's errors, of which clients read `message` (facts §5.5).
fn own(status: StatusCode, message: &str) -> Refusal {
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    Refusal {
        status,
        reason: Some(message.to_owned()),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
        body: Bytes::from(serde_json::json!({ "message": message }).to_string()),
    }
}

/// "The server generating a 401 response MUST send a WWW-Authenticate header field" (RFC 9110 §15.5.2).
fn challenged(mut refusal: Refusal) -> Refusal {
    if !refusal.headers.contains_key(header::WWW_AUTHENTICATE) {
        for challenge in CHALLENGES {
            refusal.headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    refusal
}

fn only_shown(headers: &HeaderMap) -> HeaderMap {
    let shown = headers.iter().filter(|(name, _)| SHOWN.contains(name));
    let mut kept = HeaderMap::new();
    for (name, value) in shown {
        kept.append(name.clone(), value.clone());
    }
    kept
}

fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    content_type.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"))
}

/// Whether a failure says by its reason phrase or its (decoded) body that it is a refusal for load.
pub(super) fn is_overload(status: StatusCode, reason: Option<&str>, body: &[u8]) -> bool {
    let texts = [reason.unwrap_or_default(), &String::from_utf8_lossy(body)];
    status == StatusCode::INTERNAL_SERVER_ERROR
        && texts.iter().any(|text| SignalKind::of_text(text).is_some())
}

/// Reads what is left of a redirect's body, so that its connection can be used again.
async fn drain(response: UpstreamResponse) {
    // A body that is slow or large costs the connection and nothing else.
    body::read_some(response.body, &HeaderMap::new(), MAX_REFUSAL, DRAIN).await;
}

#[cfg(test)]
mod tests;
