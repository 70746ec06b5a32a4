//! [`Whole`]: documents are received to their end before they are an answer.
//!
//! A document is of no use in parts: it is parsed, rewritten and stored whole. Receiving it here makes one that
//! breaks in the middle a failed try like any other, which [`super::Retrying`] around this may repeat, because
//! nobody has seen a byte of it. Packages do not wait here, and neither do refusals, which are read (and
//! bounded) where they are understood.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::time::timeout;

use super::{
    Phase, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
    body::{ReadAhead, read_to_end},
};
use crate::config::upstream::Upstream as Settings;

/// An upstream whose documents are whole.
pub struct Whole<U> {
    inner: U,
    limit: u64,
    patience: Duration,
}

// === impl Whole ===

impl<U> Whole<U> {
    /// Bodies of at most `max_document_size` bytes (as sent) within `document_timeout` from their head.
    pub fn new(inner: U, settings: &Settings) -> Self {
        Self { inner, limit: settings.max_document_size, patience: settings.document_timeout }
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Whole<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let mut response = self.inner.fetch(request).await?;
        if request.whole && response.status == StatusCode::OK {
            let body = timeout(self.patience, read_to_end(response.body, self.limit)).await;
            let late = |_| UpstreamError::Timeout { host: request.target.whom(), phase: Phase::Document };
            response.body = Box::new(ReadAhead::whole(body.map_err(late)??));
        }
        Ok(response)
    }
}
