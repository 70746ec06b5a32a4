//! What an exchange says of its host: [`Judged`].

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use http::{StatusCode, header};

use super::{
    Phase, Target, UpstreamError, UpstreamResponse,
    answer::{MAX_REFUSAL, is_overload},
    body,
};

/// Longest wait for the text of a 500. It comes with the head.
const TEXT_PATIENCE: Duration = Duration::from_secs(1);

/// What an exchange says of its host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It answered.
    Alive,
    /// No connection.
    Gone(String),
    /// No answer, or a failure.
    Failed(String),
    /// It has been silent to all for long.
    Silent(String),
    /// Nothing of it.
    Nothing,
}

/// Judges an outcome; a 500 by its text.
pub(super) async fn judged(outcome: &mut Result<UpstreamResponse, UpstreamError>) -> Judged {
    match outcome {
        Err(error) => judged_error(error),
        Ok(response) => {
            let failed = is_failure(response).await;
            if failed { Judged::Failed(format!("status {}", response.status)) } else { Judged::Alive }
        }
    }
}

/// Whether nothing was heard.
pub(super) fn is_silence(error: &UpstreamError) -> bool {
    matches!(error, UpstreamError::Timeout { phase: Phase::Connect | Phase::FirstByte, .. })
}

/// Judges an error.
pub(super) fn judged_error(error: &UpstreamError) -> Judged {
    match error {
        UpstreamError::Connect { .. } | UpstreamError::Timeout { phase: Phase::Connect, .. } => {
            Judged::Gone(error.to_string())
        }
        UpstreamError::Broken { .. } | UpstreamError::Timeout { phase: Phase::FirstByte, .. } => {
            Judged::Failed(error.to_string())
        }
        _ => Judged::Nothing,
    }
}

/// 5xx without a word on load. 501 and 505 are answers.
async fn is_failure(response: &mut UpstreamResponse) -> bool {
    match response.status {
        StatusCode::INTERNAL_SERVER_ERROR => {
            let text = body::peek(response, MAX_REFUSAL, TEXT_PATIENCE).await;
            !is_overload(response.status, response.reason.as_deref(), &text)
        }
        StatusCode::SERVICE_UNAVAILABLE => !response.headers.contains_key(header::RETRY_AFTER),
        status => matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT),
    }
}

/// What is asked for, so that the same thing counts once.
pub(super) fn fingerprint(target: &Target) -> u64 {
    let mut hasher = DefaultHasher::new();
    match target {
        Target::Service { org, path, .. } => (org.folded(), path).hash(&mut hasher),
        Target::Blob(url) => url.reveal().path().hash(&mut hasher),
    }
    hasher.finish()
}
