//! [`Throttled`]: no request without a permit, no permit back before the body ends, and every answer's word on
//! load heard.
//!
//! The request says on whose behalf it is ([`crate::throttle::Asker`]) and what it counts as; whose budget it draws on
//! follows from where it goes and with which credential. The service counts for credentials and addresses, whichever of
//! its API hosts is asked, so these share budgets and pauses; a blob host speaks for itself only and has its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, header};

use super::{BodyStream, Target, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse, body};
use crate::{
    clock::Clock,
    throttle::{Ask, Permit, Signal, Throttle},
};

/// Most bytes of a refusal that are read for its text; a whole one has a few hundred (facts §5.5).
const MAX_REFUSAL: usize = 64 << 10;
/// Longest wait for that text. It comes with the head; meanwhile others may still run into the same refusal.
const TEXT_PATIENCE: Duration = Duration::from_secs(1);

/// An upstream that waits for a permit before it asks.
pub struct Throttled<U> {
    inner: U,
    throttle: Arc<Throttle>,
    clock: Clock,
}

/// A body with the permit of its request.
struct PermitBody {
    inner: Box<dyn BodyStream>,
    permit: Option<Permit>,
}

/// A body that was read already.
struct Whole(Option<Bytes>);

// === impl Throttled ===

impl<U> Throttled<U> {
    /// Puts `throttle` before `inner`; `clock` is for a `Retry-After` that is a date.
    pub fn new(inner: U, throttle: Arc<Throttle>, clock: Clock) -> Self {
        Self { inner, throttle, clock }
    }

    fn ask(&self, request: &UpstreamRequest) -> Ask {
        let credential = request.authorization.as_ref().map(HeaderValue::as_bytes);
        let identity = match &request.target {
            Target::Blob(url) => self.throttle.identity(&url.authority().to_ascii_lowercase(), None),
            Target::Service { org, .. } => self.throttle.identity(org.as_str(), credential),
        };
        let mut ask = Ask::of(&request.asker, request.target.class(), request.work, identity);
        ask.deadline = ask.deadline.into_iter().chain(request.deadline).min();
        ask
    }

    fn signal(&self, response: &UpstreamResponse) -> Signal {
        Signal::of_head(response.status, &response.headers, self.clock.now())
            .with_text(response.reason.as_deref().unwrap_or_default())
    }
}

#[async_trait]
impl<U: Upstream> Upstream for Throttled<U> {
    async fn fetch(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let permit = self.throttle.acquire(&self.ask(request)).await?;
        let mut response = self.inner.fetch(request).await?;
        let mut signal = self.signal(&response);
        if Signal::wants_text(response.status) {
            let (read, text) = with_text(response).await;
            response = read;
            signal = signal.with_text(&text);
        }
        permit.observe(&signal);
        response.body = Box::new(PermitBody { inner: response.body, permit: Some(permit) });
        Ok(response)
    }
}

/// Reads the body of a refusal, decoded, and puts it back.
async fn with_text(mut response: UpstreamResponse) -> (UpstreamResponse, String) {
    let body = body::read_some(response.body, &response.headers, MAX_REFUSAL, TEXT_PATIENCE).await;
    response.headers.remove(header::CONTENT_ENCODING);
    response.headers.remove(header::CONTENT_LENGTH);
    response.body = Box::new(Whole(Some(body.clone()).filter(|body| !body.is_empty())));
    (response, String::from_utf8_lossy(&body).into_owned())
}

// === impl PermitBody ===

#[async_trait]
impl BodyStream for PermitBody {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let next = self.inner.next().await;
        match (&next, &self.permit) {
            (Ok(Some(bytes)), Some(permit)) => permit.received(bytes.len()).await,
            _ => self.permit = None,
        }
        next
    }
}

// === impl Whole ===

#[async_trait]
impl BodyStream for Whole {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        Ok(self.0.take())
    }
}
