//! [`Throttled`]: no request without a permit, and no permit back before the body ends.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BodyStream, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse};
use crate::throttle::{Permit, Throttle, ThrottleError};

/// An upstream that waits for a permit of the target's class before it asks.
pub struct Throttled<U> {
    inner: U,
    throttle: Arc<Throttle>,
}

struct PermitBody {
    inner: Box<dyn BodyStream>,
    permit: Option<Permit>,
}

// === impl Throttled ===

impl<U> Throttled<U> {
    /// Puts `throttle` before `inner`.
    pub fn new(inner: U, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle }
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Throttled<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let permit = self.throttle.acquire(request.target.class()).await?;
        let mut response = self.inner.fetch(request).await?;
        response.body = Box::new(PermitBody { inner: response.body, permit: Some(permit) });
        Ok(response)
    }
}

// === impl PermitBody ===

#[async_trait]
impl BodyStream for PermitBody {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let next = self.inner.next().await;
        if !matches!(next, Ok(Some(_))) {
            self.permit = None;
        }
        next
    }
}

// === impl UpstreamError ===

impl From<ThrottleError> for UpstreamError {
    fn from(error: ThrottleError) -> Self {
        Self::Shed { class: error.class, waited: error.waited }
    }
}
