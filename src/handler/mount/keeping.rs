//! A body that is stored while it is sent.
//!
//! The client sets the pace. A body that breaks, or that its client leaves, is not stored; a store that fails does not
//! break the body. The record is written before the last bytes are given away, so that who has the whole response and
//! asks again finds it.

use async_trait::async_trait;
use bytes::Bytes;

use super::crowd::Lead;
use crate::{
    cache::{Asked, Kept, ResponseDraft, ResponseKey, Responses},
    policy::Stored,
    upstream::{BodyStream, UpstreamError},
};

/// A body on its way to a client and into the store.
pub(super) struct Keeping {
    body: Box<dyn BodyStream>,
    draft: Option<ResponseDraft>,
    responses: Responses,
    key: ResponseKey,
    head: Stored,
    asked: Asked,
    /// For those who wait for the body to be stored.
    lead: Option<Lead>,
}

// === impl Keeping ===

impl Keeping {
    /// Keeps `body` under `key` as that of `head`, unless that was removed since it was `asked` for.
    pub(super) fn new(
        body: Box<dyn BodyStream>,
        draft: ResponseDraft,
        responses: Responses,
        key: ResponseKey,
        head: Stored,
        asked: Asked,
    ) -> Self {
        Self { body, draft: Some(draft), responses, key, head, asked, lead: None }
    }

    /// Tells those who wait behind `lead` when the body is stored.
    pub(super) fn led_by(self, lead: Option<Lead>) -> Self {
        Self { lead, ..self }
    }

    /// Reads to the end.
    pub(super) async fn drain(&mut self) -> Result<(), UpstreamError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn finish(&mut self) {
        if let Some(draft) = self.draft.take()
            && let Ok(body) = draft.finish().await
        {
            let kept = Kept { head: self.head.clone(), body };
            self.responses.keep(&self.key, &kept, &self.asked).await;
            if let Some(lead) = self.lead.take() {
                lead.stored();
            }
        }
    }
}

#[async_trait]
impl BodyStream for Keeping {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let next = self.body.next().await;
        match &next {
            Ok(Some(bytes)) => {
                if let Some(draft) = &mut self.draft {
                    if !draft.write(bytes.clone()).await {
                        (self.draft, self.lead) = (None, None);
                    } else if draft.is_whole() {
                        self.finish().await;
                    }
                }
            }
            Ok(None) => self.finish().await,
            Err(_) => (self.draft, self.lead) = (None, None),
        }
        next
    }
}
