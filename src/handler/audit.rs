//! `npm audit`: asked of a configured registry without what is private, or else of the service (facts §3, §9.15).
//!
//! The service was seen to answer 400 and 404, and may do better by now, so it is asked when no other registry is
//! configured or that one fails. When nobody gives a report, the client gets an error: an empty report would tell it
//! that its packages are safe. Nothing is stored; a report is of one day.
//!
//! The other registry gets names and versions of public packages, and neither the credential of the caller nor
//! the name of its project. It is asked only for callers who may read the feed: the gate is no open relay.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    CacheStatus, Handler, HandlerError, Outcome, Reply, Request,
    permission::{Permission, is_denial},
    represent::{checked, rewrite_once},
};
use crate::{
    document::{
        advisories::{Question, empty_report, public_part},
        rewrite::Rewriter,
    },
    lanes,
    route::{Audit, AuditRoute},
    upstream::{
        Advisories, Answer, Expect, Refused, Service, Target, UpstreamError, UpstreamRequest,
        body::{decoded, read_document},
    },
};

/// Largest question, and largest report, in bytes, as they come and decoded. A question names each package of a
/// project once: 16 MiB are some hundred thousand.
const LIMIT: u64 = 16 << 20;
/// What the gate has to say of a report: how many packages it was not asked for.
const AUDIT: HeaderName = HeaderName::from_static("x-feedgate-audit");

/// Whether the question is one, before its body is read.
pub(super) fn intake(method: &Method) -> Result<Outcome, HandlerError> {
    if *method == Method::POST {
        return Ok(Outcome::Body { limit: LIMIT });
    }
    Err(HandlerError::Method { method: method.to_string(), allow: "POST" })
}

// === impl Handler ===

impl Handler {
    /// Answers a question; `body` is as it came over the wire.
    pub(super) async fn audit(
        &self,
        request: &Request,
        route: &AuditRoute,
        body: Bytes,
    ) -> Result<Reply, HandlerError> {
        self.may_ask(&request.caller, Some(&route.feed))?;
        let body = decoded(&request.headers, body, LIMIT).await.map_err(|error| match error {
            UpstreamError::TooLarge { limit } => HandlerError::TooLarge { limit },
            other => HandlerError::Body(format!("is not usable: {other}")),
        })?;
        let Some(registry) = &self.parts.advisories else {
            return self.audit_by_service(request, route, body).await;
        };
        if self.permission(request, &route.feed).await? == Permission::Undecided {
            return self.audit_by_service(request, route, body).await;
        }
        match self.audit_by_registry(registry, route.audit, body.clone()).await? {
            Some(reply) => Ok(reply),
            None => self.audit_by_service(request, route, body).await,
        }
    }

    /// `None` when the registry gives no report.
    async fn audit_by_registry(
        &self,
        registry: &Advisories,
        audit: Audit,
        body: Bytes,
    ) -> Result<Option<Reply>, HandlerError> {
        let _room = self.room(body.len() as u64).await;
        let settings = self.parts.audit.clone();
        let part = lanes::compute(body.len(), move || public_part(audit, &body, &settings)).await;
        let part = part.ok_or_else(|| HandlerError::Internal("an audit's work did not end".to_owned()))?;
        let Question { body, asked, withheld } =
            part.map_err(|error| HandlerError::Body(format!("is not usable: {error}")))?;
        if asked == 0 {
            return Ok(Some(report(empty_report(audit), &format!("asked=0; withheld={withheld}"))));
        }
        let answer = registry.ask(&format!("/{}", audit.path()), body, LIMIT).await;
        let found = match answer {
            Ok((StatusCode::OK, found)) => checked(Expect::Json, found).await.map_err(|e| e.to_string()),
            Ok((status, _)) => Err(format!("status {status}")),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) => Ok(Some(report(found, &format!("asked={asked}; withheld={withheld}")))),
            Err(reason) => {
                tracing::warn!(reason, "the registry of advisories gave no report; the service is asked");
                Ok(None)
            }
        }
    }

    async fn audit_by_service(
        &self,
        request: &Request,
        route: &AuditRoute,
        body: Bytes,
    ) -> Result<Reply, HandlerError> {
        let target = Target::Service {
            service: Service::Pkgs,
            org: request.route.org.clone(),
            path: route.upstream_path(),
        };
        let upstream = UpstreamRequest {
            method: Method::POST,
            headers: request.headers.clone(),
            authorization: request.caller.authorization().cloned(),
            body,
            ..UpstreamRequest::get(target, self.asker_alone(request))
        };
        let trouble = |reason: String| HandlerError::NoAudit { missing: false, reason };
        let answer = self.settle(self.parts.service.document(upstream, Expect::Json).await);
        let answer = answer.map_err(|error| match error {
            HandlerError::Dead(_) => error,
            error => trouble(error.to_string()),
        });
        match answer? {
            Answer::Success(response) => {
                let found =
                    read_document(response, LIMIT).await.map_err(|error| trouble(error.to_string()))?;
                let found = checked(Expect::Json, found).await.map_err(|error| trouble(error.to_string()))?;
                let rewriter = Rewriter::new(self.parts.hosts.clone(), &request.base);
                let rewriter = rewriter.map_err(|error| HandlerError::Internal(error.to_string()))?;
                Ok(report(rewrite_once(&rewriter, "json", &found), "service"))
            }
            Answer::Refused(refused) => Err(self.unaudited(request, route, refused)),
        }
    }

    /// The error for a question that the service refused: the caller's own affair, or nobody answers.
    fn unaudited(&self, request: &Request, route: &AuditRoute, refused: Refused) -> HandlerError {
        let status = refused.refusal().status;
        if is_denial(status) {
            self.parts.access.forget(&request.caller, &route.feed);
            return HandlerError::from(refused);
        }
        let reason = format!("the service answered {status}");
        match refused {
            Refused::Busy { .. } if status == StatusCode::TOO_MANY_REQUESTS => HandlerError::from(refused),
            Refused::NotFound(_) | Refused::Rejected(_) => HandlerError::NoAudit { missing: true, reason },
            _ => HandlerError::NoAudit { missing: false, reason },
        }
    }
}

fn report(body: Bytes, how: &str) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if let Ok(how) = HeaderValue::from_str(how) {
        headers.insert(AUDIT, how);
    }
    Reply::bytes(StatusCode::OK, headers, body, CacheStatus::Bypass)
}
