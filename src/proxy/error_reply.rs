//! The error table: every reason for not giving an object, with its body. Exhaustive. Status and code of what a handler
//! refuses are [`HandlerError`]'s own.
//!
//! Bodies are RFC 9457 problems with a code and the request's id. Their text is fixed by the code, or names
//! what the client itself sent; details of the inside go to the log. An answer of the service is passed on as
//! it came, because clients read its text (facts §4.5).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    access::Stranger,
    handler::{CacheStatus, HandlerError, Reply, ReplyBody},
    listener::FramingError,
    route::RouteError,
    upstream::Refusal,
};

/// Longest wait that a client is told: NuGet would obey up to an hour (facts §7.4).
const MOST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// What a client is told when the service said nothing.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What is said instead of an empty report, which would look like "no vulnerabilities" (facts §9.15).
const NO_AUDIT: &str = "nobody could answer this audit: the service does not, and no other registry did; set \
    `audit.upstream` in the gate's configuration to a registry that answers audits";

/// An error as it leaves the gate.
pub struct ErrorReply {
    /// The answer.
    pub reply: Reply,
    /// The code in the body, and in the log.
    pub code: &'static str,
}

/// The answer to a request that cannot be routed.
pub fn of_route(error: &RouteError, id: &str) -> ErrorReply {
    let code = match error {
        RouteError::Escape(..) => "path_escape",
        RouteError::Encoding(..) => "path_encoding",
        RouteError::Name(..) => "bad_name",
        RouteError::NoOrganisation(_) => "no_organisation",
    };
    let status = if matches!(error, RouteError::NoOrganisation(_)) {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::BAD_REQUEST
    };
    problem(status, code, &error.to_string(), id)
}

/// The answer to a request whose framing is refused; the connection must not be used again.
pub fn of_framing(error: FramingError, id: &str) -> ErrorReply {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = problem(status, error.code, error.rule, id);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer
            .reply
            .headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"));
    }
    answer
}

/// The answer to a request whose `Host` is missing or unusable.
pub fn of_host(id: &str) -> ErrorReply {
    problem(StatusCode::BAD_REQUEST, "host", "the request has no usable Host", id)
}

/// The answer to a request for which there is no object.
pub fn of_handler(error: &HandlerError, id: &str) -> ErrorReply {
    let told = |text: &str| problem(error.status(), error.code(), text, id);
    // In the reason phrase too: all clients that show anything of an answer show one of the two.
    let loud = |text: &str| {
        let mut answer = told(text);
        answer.reply.reason = Some(text.to_owned());
        answer
    };
    let later = |text: &str, wait: Duration| {
        let mut answer = told(text);
        retry_later(&mut answer.reply.headers, wait);
        answer
    };
    match error {
        HandlerError::Method { allow, .. } => {
            let mut answer = told(&error.to_string());
            answer.reply.headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            answer
        }
        HandlerError::Refused(refusal) => passed(refusal, error.code()),
        HandlerError::Failing { retry_after, refusal } => {
            let mut answer = passed(refusal, error.code());
            retry_later(&mut answer.reply.headers, retry_after.unwrap_or(RETRY_AFTER));
            answer
        }
        HandlerError::Throttled(shed) => later("too many requests wait for the service", shed.retry_after()),
        HandlerError::Crowded => later(&error.to_string(), RETRY_AFTER),
        HandlerError::Dead(_) => loud("the package service is down, and there is no stored copy"),
        HandlerError::Offline => loud("feedgate is offline by its operator, and there is no stored copy"),
        HandlerError::Guarded(objection) => loud(&objection.to_string()),
        HandlerError::Unavailable(_) => told("the service cannot be reached, and there is no stored copy"),
        HandlerError::Unusable { what, .. } => {
            told(&format!("the service's answer is not taken: {what}; and there is no stored copy"))
        }
        HandlerError::Timeout(_) => told("the service did not answer in time, and there is no stored copy"),
        HandlerError::Integrity(_) => {
            told("the service sent bytes that failed their check; nothing was stored")
        }
        HandlerError::OnlyIfCached => {
            told("nothing usable is stored, and the request asks for a stored answer only")
        }
        HandlerError::Left | HandlerError::TooLarge { .. } | HandlerError::Body(_) => {
            told(&error.to_string())
        }
        HandlerError::NoAudit { .. } => told(NO_AUDIT),
        HandlerError::Stranger(stranger) => unwelcome(stranger, told(&stranger.to_string())),
        HandlerError::Attempts { retry_after } => later(&error.to_string(), *retry_after),
        // The service's own text would tell who the gate is there.
        HandlerError::GateRefused(refusal) if refusal.status == StatusCode::FORBIDDEN => {
            told("the gate's own credential has no right to this; its operator must see to that")
        }
        HandlerError::NoCredential(_) | HandlerError::GateRefused(_) => {
            told("the gate has no credential that the service takes; its operator must see to that")
        }
        HandlerError::Internal(_) => told("something went wrong inside the gate"),
    }
}

/// Who may not use the gate's own credential. The challenges are the gate's (RFC 9110 §11.6.1, each on its own line as
/// the service's are), Basic first: NuGet, npm and yarn then send what they are configured with. Without the `X-VSS-*`
/// headers of the service the Azure credential provider leaves the host alone (facts §6), as it should: an Entra token
/// opens nothing here.
fn unwelcome(stranger: &Stranger, mut answer: ErrorReply) -> ErrorReply {
    if !stranger.is_unauthenticated() {
        return answer;
    }
    // RFC 6750 §3.1: no error code where no token was shown.
    let bearer = match stranger {
        Stranger::Missing => "Bearer realm=\"feedgate\"",
        _ => "Bearer realm=\"feedgate\", error=\"invalid_token\"",
    };
    for challenge in ["Basic realm=\"feedgate\", charset=\"UTF-8\"", bearer] {
        answer.reply.headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    answer
}

fn passed(refusal: &Refusal, code: &'static str) -> ErrorReply {
    let mut headers = refusal.headers.clone();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let reply = Reply {
        status: refusal.status,
        reason: refusal.reason.clone(),
        headers,
        body: ReplyBody::Bytes(refusal.body.clone()),
        cache: CacheStatus::Local,
    };
    ErrorReply { reply, code }
}

fn problem(status: StatusCode, code: &'static str, detail: &str, id: &str) -> ErrorReply {
    // npm shows `error`, NuGet and the service's own clients `message` (facts §5.5).
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
        "message": detail,
        "error": detail,
        "requestId": id,
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let reply = Reply::bytes(status, headers, Bytes::from(body.to_string()), CacheStatus::Local);
    ErrorReply { reply, code }
}

fn retry_later(headers: &mut HeaderMap, wait: Duration) {
    // Rounded up: who comes back within a pause is refused once more.
    let seconds = wait.min(MOST_RETRY_AFTER).as_secs_f64().ceil().max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 30")]
    let seconds = seconds as u64;
    headers.insert(HeaderName::from_static("retry-after"), seconds.into());
}

#[cfg(test)]
mod tests {
    use super::of_handler;
    use crate::{
        access::Stranger,
        handler::{HandlerError, ReplyBody},
        throttle::{Class, ShedReason, ThrottleError},
        upstream::CredentialError,
    };
    use std::time::Duration;

    fn check(error: &HandlerError, status: u16, code: &str) {
        let answer = of_handler(error, "id-1");
        assert_eq!((answer.reply.status.as_u16(), answer.code), (status, code));
        let ReplyBody::Bytes(body) = answer.reply.body else { panic!("not ready bytes") };
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((body["code"].as_str(), body["requestId"].as_str()), (Some(code), Some("id-1")));
        assert!(!body.to_string().contains("inside-detail"));
    }

    fn throttled(reason: ShedReason, pause_left: f64) -> HandlerError {
        let pause_left = Duration::from_secs_f64(pause_left);
        HandlerError::Throttled(ThrottleError {
            class: Class::Api,
            reason,
            waited: Duration::ZERO,
            pause_left,
        })
    }

    #[test]
    fn who_is_turned_away_comes_back_after_the_pause_and_not_within_it() {
        let check = |reason, pause_left, expected: &str| {
            let answer = of_handler(&throttled(reason, pause_left), "id-1");
            assert_eq!(answer.reply.headers["retry-after"], expected, "{reason:?} {pause_left}");
        };
        check(ShedReason::Paused, 0.2, "1");
        check(ShedReason::Paused, 2.1, "3");
        check(ShedReason::Paused, 900.0, "30");
        check(ShedReason::Late, 0.0, "5");
        check(ShedReason::Backlog, 7.0, "7");
        check(ShedReason::Full, 0.0, "5");
    }

    #[test]
    fn each_error_of_the_gate_has_its_status_and_code_and_no_detail_of_the_inside() {
        let detail = || "inside-detail".to_owned();
        check(&HandlerError::Method { method: "PUT".to_owned(), allow: "GET" }, 405, "method");
        check(&throttled(ShedReason::Late, 0.0), 503, "throttled");
        check(&HandlerError::Left, 499, "client_left");
        check(&HandlerError::Unavailable(detail()), 502, "upstream_unavailable");
        check(&HandlerError::Unusable { what: "w", reason: detail() }, 502, "upstream_unusable");
        check(&HandlerError::Timeout(detail()), 504, "upstream_timeout");
        check(&HandlerError::Dead(detail()), 424, "upstream_down");
        check(&HandlerError::Offline, 424, "offline");
        check(&HandlerError::Integrity(detail()), 502, "integrity");
        check(&HandlerError::OnlyIfCached, 504, "only_if_cached");
        check(&HandlerError::TooLarge { limit: 5 }, 413, "too_large");
        check(&HandlerError::Crowded, 503, "crowded");
        check(&HandlerError::Body("is not JSON".to_owned()), 400, "body");
        check(&HandlerError::NoAudit { missing: true, reason: detail() }, 404, "audit_unavailable");
        check(&HandlerError::NoAudit { missing: false, reason: detail() }, 502, "audit_unavailable");
        check(&HandlerError::Stranger(Stranger::Missing), 401, "token_missing");
        check(&HandlerError::Stranger(Stranger::ReadOnly("1a".to_owned())), 403, "read_only");
        check(&HandlerError::Attempts { retry_after: Duration::from_secs(9) }, 429, "attempts");
        check(&HandlerError::NoCredential(CredentialError::File(detail())), 502, "gate_credential");
        check(&HandlerError::Internal(detail()), 500, "internal");
    }
}
