//! What becomes of a document that came: checked, learned from, stored; and how long it is fresh.

use http::{HeaderValue, header};

use super::{Fetched, Handler, HandlerError, document::key, represent::checked};
use crate::{
    access::Audience,
    cache::{Generation, Origin},
    config::Freshness,
    route::{Document, DocumentClass, DocumentRoute, Format},
    upstream::{Expect, UpstreamResponse},
};

// === impl Handler ===

impl Handler {
    /// Reads a document to its end and stores it.
    pub(super) async fn keep(
        &self,
        audience: Audience,
        route: &DocumentRoute,
        generation: Generation,
        response: UpstreamResponse,
    ) -> Result<Fetched, HandlerError> {
        let origin = origin(route, &response);
        let body = self.settle(self.parts.service.read(response).await)?;
        let expect = expected(route.document.format());
        let body = checked(expect, body).await.map_err(|error| {
            self.parts.metrics.integrity("document");
            tracing::warn!(%error, key = route.key(), "the service sent a document that is not one");
            HandlerError::Integrity(error.to_string())
        })?;
        let mut route = route.clone();
        if route.document == Document::ServiceIndex {
            route.feed = self.learn(&route.feed, &body);
        }
        self.sight(audience, &route, &body).await;
        let key = key(&route, audience);
        let entry = self.parts.documents.put(&key, body.clone(), self.now(), generation, origin).await;
        Ok(Fetched { entry, body, feed: route.feed })
    }

    /// How long documents of `class` are fresh, and may stand in after that.
    pub(super) fn policy(&self, class: DocumentClass) -> &Freshness {
        let metadata = &self.parts.metadata;
        match class {
            DocumentClass::ServiceIndex => &metadata.service_index,
            DocumentClass::Packument => &metadata.packument,
            DocumentClass::VersionList => &metadata.version_list,
            DocumentClass::Registration => &metadata.registration,
            DocumentClass::Nuspec => &metadata.nuspec,
            DocumentClass::Search => &metadata.search,
            DocumentClass::Vulnerabilities => &metadata.vulnerabilities,
            DocumentClass::Odata => &metadata.odata,
            DocumentClass::Rest => &metadata.rest,
            DocumentClass::Feeds => &metadata.feeds,
        }
    }
}

/// What a document of `format` must be.
pub(super) fn expected(format: Format) -> Expect {
    match format {
        Format::Json => Expect::Json,
        Format::Xml => Expect::Xml,
        Format::Text => Expect::Bytes,
    }
}

/// What the service is told to send where `expect` is due.
pub(super) fn accept(expect: Expect) -> HeaderValue {
    HeaderValue::from_static(match expect {
        Expect::Xml => "application/xml, application/atom+xml, text/xml, */*",
        Expect::Json => "application/json",
        Expect::Bytes | Expect::Any => "*/*",
    })
}

/// What to remember of the exchange.
fn origin(route: &DocumentRoute, response: &UpstreamResponse) -> Origin {
    let own = matches!(route.document, Document::Odata(_) | Document::Rest(_));
    let kind = response.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.filter(|kind| own && kind.len() < 256).unwrap_or_default();
    let spelling = if route.document.repeats_spelling() {
        format!("{}{}", route.feed.org, route.feed_path())
    } else {
        String::new()
    };
    Origin { content_type: kind.to_owned(), spelling }
}
