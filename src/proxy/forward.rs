//! Requests that Pingora forwards itself: writes and `OPTIONS`. Both bodies stream; the heads are rebuilt.
//!
//! Of the request, what a package client sends goes on; of the answer, what a package client reads. A URL of the
//! service in the answer becomes the gate's or goes: in `Location` here, in the body by [`super::passage`].

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    upstreams::peer::HttpPeer,
};

use super::{
    context::{Forwarding, RequestContext},
    error_reply::{self, ErrorReply},
    passage::{Collected, Plan, Unchanged},
    upload,
};
use crate::{
    access::is_gate_token,
    clock::Clock,
    handler::{CacheStatus, Forward, HandlerError},
    listener::{Facts, TOO_LARGE},
    throttle::{Ask, Signal, SignalKind, Throttle},
    upstream::{Dialer, MAX_INFORMATIONAL, Refusal, head_excess},
};

/// The key of `nuget push`.
const API_KEY: HeaderName = HeaderName::from_static("x-nuget-apikey");
/// Request headers that go on to the service, besides the credential; the service answers 400 to some of what browsers add. Without
/// `Accept-Encoding` its answers come as they are, and can be rewritten.
const SENT: [HeaderName; 11] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
    API_KEY,
    HeaderName::from_static("x-nuget-client-version"),
    HeaderName::from_static("x-nuget-session-id"),
    HeaderName::from_static("npm-command"),
    HeaderName::from_static("npm-session"),
    HeaderName::from_static("npm-auth-type"),
];
/// Response headers that go on to the client. The others are about the service's edge (`X-MSEdge-Ref`, `X-Cache`), its
/// pages (`P3P`, `X-Frame-Options`), the person behind the credential (`X-VSS-UserData`, `Set-Cookie`) or one
/// connection (facts §8); some hold URLs of the service.
const SHOWN: [HeaderName; 25] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_ENCODING,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LANGUAGE,
    header::CACHE_CONTROL,
    header::PRAGMA,
    header::EXPIRES,
    header::VARY,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::RETRY_AFTER,
    header::ALLOW,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-vss-resourcetenant"),
    HeaderName::from_static("x-vss-authorizationendpoint"),
    HeaderName::from_static("activityid"),
    HeaderName::from_static("x-vss-e2eid"),
    HeaderName::from_static("x-tfs-session"),
    HeaderName::from_static("x-tfs-serviceerror"),
    HeaderName::from_static("x-ms-continuationtoken"),
    HeaderName::from_static("x-nuget-warning"),
    HeaderName::from_static("npm-notice"),
];

/// Sends requests on.
pub struct Forwarder {
    /// Finds the service's hosts.
    pub dialer: Dialer,
    /// The budget that reads draw on too.
    pub throttle: Arc<Throttle>,
    /// For a `Retry-After` that is a date.
    pub clock: Clock,
}

// === impl Forwarder ===

impl Forwarder {
    /// Where the request goes; takes the permit that it holds until its end.
    pub async fn peer(&self, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let Some(forwarding) = &mut context.forward else {
            return Err(Error::explain(ErrorType::InternalError, "nothing to forward"));
        };
        if forwarding.permit.is_none() {
            let permit = self.throttle.acquire(&self.ask(&forwarding.forward)).await;
            let permit = permit.map_err(|error| {
                forwarding.shed = Some(error.clone());
                Error::because(ErrorType::HTTPStatus(503), "no permit", error)
            });
            forwarding.permit = Some(permit?);
        }
        let forward = &forwarding.forward;
        let peer = self.dialer.peer(forward.service, &forward.org).await;
        peer.map(Box::new).map_err(|error| {
            let mut error = Error::because(ErrorType::ConnectError, "no address", error);
            error.as_up();
            error
        })
    }

    /// A write counts as a document that a client waits for.
    fn ask(&self, forward: &Forward) -> Ask {
        let credential = forward.authorization.as_ref().map(HeaderValue::as_bytes);
        let identity = self.throttle.identity(forward.org.as_str(), credential);
        Ask::document(identity, forward.client)
    }

    /// Rebuilds the request's head.
    pub fn request(&self, upstream: &mut RequestHeader, forwarding: &Forwarding) -> Result<()> {
        let forward = &forwarding.forward;
        let internal = |error| Error::because(ErrorType::InternalError, "forwarded request", error);
        let (authority, path) =
            self.dialer.request_line(forward.service, &forward.org, &forward.path).map_err(internal)?;
        let mut fresh = RequestHeader::build(upstream.method.clone(), path.as_bytes(), Some(16))?;
        for name in &SENT {
            // Of what can be there once only, others may take the last.
            let most = if *name == header::ACCEPT { usize::MAX } else { 1 };
            for value in upstream.headers.get_all(name).iter().take(most) {
                fresh.append_header(name.clone(), value.clone())?;
            }
        }
        if upload::expects(upstream) {
            fresh.insert_header(header::EXPECT, "100-continue")?;
        }
        let stays = |key: &HeaderValue| forward.by_gate || is_gate_token(key);
        if fresh.headers.get_all(API_KEY).iter().any(stays) {
            // `nuget push` sends what it was given as a key, which may well be a gate token; the service wants a key
            // to be there, and does not look at it (facts §4.4).
            fresh.insert_header(API_KEY, "feedgate")?;
        }
        if let Some(authorization) = &forward.authorization {
            fresh.insert_header(header::AUTHORIZATION, authorization.clone())?;
        }
        fresh.insert_header(header::HOST, authority)?;
        fresh.insert_header("X-TFS-FedAuthRedirect", "Suppress")?;
        *upstream = fresh;
        Ok(())
    }

    /// What is shown instead of an answer that is a sign-in page, or leads to one (facts §6), or that refuses the gate
    /// itself.
    pub fn refusal(&self, response: &ResponseHeader, forwarding: &Forwarding) -> Option<HandlerError> {
        let signs_in = self.sign_in(response, forwarding);
        let challenged = response.status == StatusCode::UNAUTHORIZED && forwarding.forward.by_gate;
        let refusal = signs_in.or_else(|| challenged.then(|| Refusal::challenge("")));
        refusal.map(Arc::new).map(|refusal| {
            if forwarding.forward.by_gate {
                HandlerError::GateRefused(refusal)
            } else {
                HandlerError::Refused(refusal)
            }
        })
    }

    fn sign_in(&self, response: &ResponseHeader, forwarding: &Forwarding) -> Option<Refusal> {
        let forward = &forwarding.forward;
        let location = response.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let leads_to_one = response.status.is_redirection()
            && location
                .is_some_and(|location| self.dialer.is_sign_in(forward.service, &forward.org, location));
        let is_one = response.status == StatusCode::NON_AUTHORITATIVE_INFORMATION;
        (is_one || leads_to_one).then(|| Refusal::sign_in(&response.headers))
    }

    /// Rebuilds the response's head for the client, and says why its body is not rewritten although it may have to
    /// be. An error if it is larger than those of reads may be.
    pub fn response(
        &self,
        response: &mut ResponseHeader,
        forwarding: &mut Forwarding,
        id: &str,
    ) -> Result<Option<Unchanged>> {
        if let Some(permit) = &forwarding.permit {
            let signal = Signal::of_head(response.status, &response.headers, self.clock.now())
                .with_text(response.get_reason_phrase().unwrap_or_default());
            permit.observe(&signal);
            // A 500 may be a refusal for load; then its text says so.
            forwarding.failed = (signal.kind == SignalKind::Failed).then_some(signal);
        }
        if let Some(excess) = head_excess(&response.headers) {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, excess).into_up());
        }
        keep(response, &SHOWN);
        if response.status == StatusCode::NO_CONTENT {
            // There is no body, whatever the service says (RFC 9110 §8.6, RFC 9112 §6.1).
            response.remove_header(&header::CONTENT_LENGTH);
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        if let Some(location) = response.remove_header(&header::LOCATION)
            && let Some(location) = self.location(&location, forwarding)
        {
            response.insert_header(header::LOCATION, location)?;
        }
        response.insert_header("X-Request-Id", id)?;
        if let (Some(status), Some(x_cache)) = (CacheStatus::Method.header(), CacheStatus::Method.x_cache()) {
            response.insert_header("Cache-Status", status)?;
            response.insert_header("X-Cache", x_cache)?;
        }
        match Plan::of(response.status, &response.headers) {
            Plan::Pass => Ok(None),
            Plan::PassUnchanged(reason) => Ok(Some(reason)),
            Plan::Rewrite(language) => {
                forwarding.body = Some(Collected::new(language));
                response.remove_header(&header::CONTENT_LENGTH);
                Ok(None)
            }
        }
    }

    /// The client's `Location`: the gate's URL for one of the service, and none for any other (a signed URL, a
    /// sign-in page). What is relative to the request's own URL is so on the gate too.
    fn location(&self, location: &HeaderValue, forwarding: &Forwarding) -> Option<String> {
        let (location, forward) = (location.to_str().ok()?, &forwarding.forward);
        let start = location.split(['/', '?', '#']).next().unwrap_or_default();
        let absolute = if location.starts_with("//") {
            format!("https:{location}")
        } else if location.starts_with('/') {
            let (authority, _) = self.dialer.request_line(forward.service, &forward.org, "").ok()?;
            format!("https://{authority}{location}")
        } else if start.contains(':') {
            location.to_owned()
        } else {
            return Some(location.to_owned());
        };
        forwarding.rewriter.rewrite_url(&absolute)
    }
}

/// An interim answer (RFC 9110 §15.2) goes on without a word.
pub fn interim(response: &mut ResponseHeader) {
    keep(response, &[]);
}

/// Refuses an answer of which a client cannot tell where it ends, as reads do: an upgrade that nobody asked for, which
/// would make a tunnel of the connection; codings of the transfer other than chunks (RFC 9112 §6.1); interim answers
/// without end.
pub fn check(response: &ResponseHeader, forwarding: &mut Forwarding) -> Result<()> {
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    forwarding.interims += usize::from(response.status.is_informational());
    let rule = if response.status == StatusCode::SWITCHING_PROTOCOLS {
        "an upgrade that nobody asked for"
    } else if forwarding.interims > MAX_INFORMATIONAL {
        "too many interim answers"
    } else if codings.next().is_some_and(|first| !chunked(first)) || codings.next().is_some() {
        "a transfer coding other than `chunked`"
    } else {
        return Ok(());
    };
    Err(Error::explain(ErrorType::InvalidHTTPHeader, rule).into_up())
}

/// The answer to a forwarded request that got none, or one that is not shown.
pub fn failure(error: &Error, facts: Option<&Facts>, context: &RequestContext) -> Option<ErrorReply> {
    if let Some(refused) = facts.and_then(Facts::refused_body) {
        return Some(error_reply::of_framing(refused, &context.id));
    }
    let refusal = context.forward.as_ref().and_then(|forwarding| forwarding.refusal.clone());
    if let Some(refusal) = refusal {
        return Some(error_reply::of_handler(&refusal, &context.id));
    }
    if *error.etype() == ErrorType::HTTPStatus(413) {
        return Some(error_reply::of_framing(TOO_LARGE, &context.id));
    }
    if let Some(shed) = context.forward.as_ref().and_then(|forwarding| forwarding.shed.clone()) {
        return Some(error_reply::of_handler(&HandlerError::Throttled(shed), &context.id));
    }
    let text = error.to_string();
    let error = match (error.etype(), error.esource()) {
        (
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
            ErrorSource::Upstream,
        ) => HandlerError::Timeout(text),
        (_, ErrorSource::Upstream) => HandlerError::Unavailable(text),
        (_, ErrorSource::Downstream) => return None,
        (_, ErrorSource::Internal | ErrorSource::Unset) => HandlerError::Internal(text),
    };
    Some(error_reply::of_handler(&error, &context.id))
}

fn keep(response: &mut ResponseHeader, names: &[HeaderName]) {
    let others: Vec<_> = response.headers.keys().filter(|name| !names.contains(name)).cloned().collect();
    for name in others {
        response.remove_header(&name);
    }
}
