//! `OPTIONS {org}/_apis`: which routes there are (facts §5.1), asked by SDKs before their first request to a host.
//!
//! The service has a list for each of its hosts. The gate is one host for both: every URL that it hands out
//! (`_apis/resourceAreas`) leads to itself, so an SDK looks for the routes of either in what it answers here. Both lists
//! are asked for and joined; one that cannot be had is left out. A server of one's own has one list.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{CacheStatus, Handler, HandlerError, Reply, Request, represent::rewrite_once};
use crate::{
    document::{rewrite::Rewriter, without_bom},
    route::{PassthroughRoute, Target},
    upstream::{Answer, Expect, Service, Target as Place, UpstreamRequest},
};

/// The list's path below the organisation.
const LIST: &str = "/_apis";

/// A list and the type that the service gave it.
type List = (Bytes, Option<HeaderValue>);

/// The route of `request`, if it asks for the list of routes.
pub(super) fn listing(request: &Request) -> Option<&PassthroughRoute> {
    let Target::Passthrough(route) = &request.route.target else { return None };
    let path = route.path.split('?').next().unwrap_or_default().trim_end_matches('/');
    (request.method == Method::OPTIONS && path.eq_ignore_ascii_case(LIST)).then_some(route)
}

// === impl Handler ===

impl Handler {
    /// Answers with the routes of both hosts. The one that the client means decides how it ends.
    pub(super) async fn list_routes(
        &self,
        request: &Request,
        route: &PassthroughRoute,
    ) -> Result<Reply, HandlerError> {
        let (own, others) = (Service::Pkgs, Service::Feeds);
        let (meant, other) = if route.feeds_host { (others, own) } else { (own, others) };
        let (list, kind) = if self.parts.service.is_server(&request.route.org) {
            self.list(request, route, meant).await?
        } else {
            let (own, others) =
                tokio::join!(self.list(request, route, meant), self.list(request, route, other));
            let (own, kind) = own?;
            (others.ok().and_then(|(others, _)| joined(&own, &others)).unwrap_or(own), kind)
        };
        let rewriter = Rewriter::new(self.parts.hosts.clone(), &request.base);
        let rewriter = rewriter.map_err(|error| HandlerError::Internal(error.to_string()))?;
        let list = rewrite_once(&rewriter, "application/json", &list);
        let mut headers = HeaderMap::new();
        headers.extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        Ok(Reply::bytes(StatusCode::OK, headers, list, CacheStatus::Bypass))
    }

    async fn list(
        &self,
        request: &Request,
        route: &PassthroughRoute,
        service: Service,
    ) -> Result<List, HandlerError> {
        self.in_earnest(service, &request.route.org)?;
        let target = Place::Service { service, org: request.route.org.clone(), path: route.path.clone() };
        let upstream = UpstreamRequest {
            method: Method::OPTIONS,
            headers: request.headers.clone(),
            authorization: request.caller.authorization().cloned(),
            ..UpstreamRequest::get(target, self.asker_alone(request))
        };
        match self.settle(self.parts.service.document(upstream, Expect::Json).await)? {
            Answer::Success(response) => {
                let kind = response.headers.get(header::CONTENT_TYPE).cloned();
                let body = self.settle(self.parts.service.read(response).await)?;
                Ok((without_bom(body), kind))
            }
            Answer::Refused(refused) => Err(HandlerError::from(refused)),
        }
    }
}

/// The routes of both lists, each once; `None` when one of them is no list.
fn joined(own: &[u8], others: &[u8]) -> Option<Bytes> {
    let mut known = HashSet::new();
    let mut routes = Vec::new();
    for list in [own, others] {
        let mut list: Value = serde_json::from_slice(list).ok()?;
        let Value::Array(values) = list.get_mut("value")?.take() else { return None };
        let id = |route: &Value| route.get("id").and_then(Value::as_str).map(str::to_ascii_lowercase);
        routes.extend(values.into_iter().filter(|route| id(route).is_none_or(|id| known.insert(id))));
    }
    Some(json!({ "count": routes.len(), "value": routes }).to_string().into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::joined;

    #[test]
    fn lists_are_joined_and_a_route_of_both_is_there_once() {
        let list = |ids: &[&str]| {
            let routes: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
            json!({ "count": routes.len(), "value": routes }).to_string().into_bytes()
        };
        let both = joined(&list(&["a", "b"]), &list(&["c", "A"])).unwrap();
        let both: Value = serde_json::from_slice(&both).unwrap();
        assert_eq!(both, json!({ "count": 3, "value": [{ "id": "a" }, { "id": "b" }, { "id": "c" }] }));
        for odd in [&b"[]"[..], b"{\"value\":1}", b"<html>", b""] {
            assert_eq!((joined(&list(&["a"]), odd), joined(odd, &list(&["a"]))), (None, None));
        }
    }
}
