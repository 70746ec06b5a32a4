//! [`Advisories`]: another npm registry than the service's, asked for advisories and nothing else.
//!
//! It is none of the service's hosts: no permit of theirs is needed, its refusals say nothing of the service, and
//! no credential ever goes there. Redirects are not followed; a registry that moved is to be configured anew.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Http, HttpError, Phase, UpstreamError, UpstreamResponse, body::read_document, outgoing::Outgoing,
};
use crate::config::{
    audit::RegistryUrl,
    upstream::{Base, Upstream},
};

/// Most questions at a time: each is one client's `npm audit`, and holds its whole body and answer.
const AT_A_TIME: usize = 8;

/// Another registry.
#[derive(Clone)]
pub struct Advisories {
    http: Arc<Http>,
    base: Base,
    permits: Arc<Semaphore>,
    patience: Duration,
}

// === impl Advisories ===

impl Advisories {
    /// A registry at `url`, asked with the patience and the trusted authorities of `settings`.
    pub fn new(settings: &Upstream, url: &RegistryUrl) -> Result<Self, HttpError> {
        let permits = Arc::new(Semaphore::new(AT_A_TIME));
        let patience = settings.document_timeout;
        Ok(Self { http: Arc::new(Http::new(settings)?), base: url.base().clone(), permits, patience })
    }

    /// Puts a question in JSON; `path` starts with `/`. The answer's body is whole, decoded, and at most `limit`
    /// bytes; its status may be any.
    pub async fn ask(
        &self,
        path: &str,
        question: Bytes,
        limit: u64,
    ) -> Result<(http::StatusCode, Bytes), UpstreamError> {
        let outgoing = Outgoing::question(&self.base, path, question)?;
        // The semaphore is never closed; without a permit the question is only less bounded.
        let _permit = self.permits.acquire().await.ok();
        let response: UpstreamResponse =
            self.http.send(&outgoing, false, crate::throttle::Class::Api).await?;
        let status = response.status;
        let late = UpstreamError::Timeout { host: outgoing.host(), phase: Phase::Document };
        let whole = timeout(self.patience, read_document(response, limit)).await;
        Ok((status, whole.unwrap_or(Err(late))?))
    }
}
