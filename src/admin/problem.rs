//! Why an operator's request was not done: `application/problem+json` (RFC 9457) with a `code` for programs.

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::exchange::Answer;

/// A refusal: a status, a word for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// Stable word, listed in the OpenAPI file.
    pub code: &'static str,
    /// What is wrong: the thing, its value and the rule.
    pub detail: String,
    /// A header of the answer that tells more, such as `Allow`.
    pub header: Option<Box<(HeaderName, HeaderValue)>>,
}

// === impl Problem ===

impl Problem {
    /// 400: the request says something that breaks a rule.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// 404: what the request names does not exist.
    pub fn absent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "absent", detail)
    }

    /// 409: not now, because of something else that is going on.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 500: the gate failed; the log has the details.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "an operator's request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the gate failed; its log has the details")
    }

    /// Any other.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), header: None }
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some(Box::new((name, value))), ..self }
    }

    /// The fields of the JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        })
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let kind = "application/problem+json";
        let mut answer = Self::text(kind, format!("{}\n", problem.to_json()))
            .with_status(problem.status)
            .with_header(header::CACHE_CONTROL, "no-store");
        answer.headers.extend(problem.header.map(|header| *header));
        answer
    }
}
