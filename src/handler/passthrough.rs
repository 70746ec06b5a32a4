//! Reads that the gate does not recognise: asked of the service each time, never stored.
//!
//! They go through the gate's own client and not through Pingora's proxied path, because a redirect to a
//! signed URL must be followed inside, and a URL of the service in a JSON or XML answer must not leave. Where rules keep
//! packages from builds, they are asked before ([`super::guard`]).
//!
//! What [`crate::policy`] keeps of mounts would be nothing here: the service says `no-cache` of all JSON and XML and gives
//! no validator with it (facts §8), and bytes come from signed URLs, whose headers are not those of the route.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    CacheStatus, Handler, HandlerError, Reply, ReplyBody, Request, permission::is_denial,
    represent::rewrite_once,
};
use crate::{
    document::rewrite::Rewriter,
    route::PassthroughRoute,
    upstream::{Answer, Expect, Service, Target, UpstreamRequest, UpstreamResponse},
};

/// Headers of an answer that reach the client.
const SHOWN: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_DISPOSITION,
    header::LAST_MODIFIED,
    header::ALLOW,
    HeaderName::from_static("activityid"),
    HeaderName::from_static("x-vss-e2eid"),
    HeaderName::from_static("x-ms-continuationtoken"),
    HeaderName::from_static("x-nuget-warning"),
    HeaderName::from_static("x-tfs-session"),
];

// === impl Handler ===

impl Handler {
    /// Answers GET and HEAD of a route that is passed through.
    pub(super) async fn passthrough(
        &self,
        request: &Request,
        route: &PassthroughRoute,
    ) -> Result<Reply, HandlerError> {
        let service = if route.feeds_host { Service::Feeds } else { Service::Pkgs };
        self.in_earnest(service, &request.route.org)?;
        let target = Target::Service { service, org: request.route.org.clone(), path: route.path.clone() };
        let upstream = UpstreamRequest {
            method: request.method.clone(),
            headers: request.headers.clone(),
            authorization: request.caller.authorization().cloned(),
            ..UpstreamRequest::get(target, self.asker_alone(request))
        };
        match self.settle(self.parts.service.document(upstream, Expect::Any).await)? {
            Answer::Success(response) => self.passed(request, response).await,
            Answer::Refused(refused) => {
                if let (Some(feed), true) = (&route.feed, is_denial(refused.refusal().status)) {
                    self.parts.access.forget(&request.caller, feed);
                }
                Err(HandlerError::from(refused))
            }
        }
    }

    async fn passed(&self, request: &Request, response: UpstreamResponse) -> Result<Reply, HandlerError> {
        let (status, reason) = (response.status, response.reason.clone());
        let mut headers = HeaderMap::new();
        for (name, value) in response.headers.iter().filter(|(name, _)| SHOWN.contains(name)) {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        let kind = text(&response.headers, &header::CONTENT_TYPE).to_ascii_lowercase();
        let rewritable = kind.contains("json") || kind.contains("xml");
        let coded = response.headers.contains_key(header::CONTENT_ENCODING);
        let body = if (rewritable || coded) && request.method != http::Method::HEAD {
            let whole = self.settle(self.parts.service.read(response).await)?;
            let rewriter = Rewriter::new(self.parts.hosts.clone(), &request.base);
            match rewriter {
                Ok(rewriter) if rewritable => ReplyBody::Bytes(rewrite_once(&rewriter, &kind, &whole)),
                Ok(_) | Err(_) => ReplyBody::Bytes(whole),
            }
        } else {
            let length = text(&response.headers, &header::CONTENT_LENGTH).parse().ok();
            ReplyBody::Stream { body: response.body, length }
        };
        let status =
            if status == StatusCode::NON_AUTHORITATIVE_INFORMATION { StatusCode::OK } else { status };
        Ok(Reply { status, reason, headers, body, cache: CacheStatus::Bypass })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
