//! On whose behalf the service is asked, as the throttle sees it: whose turn it takes, how urgent it is, and how long it
//! may wait for a permit.
//!
//! Clients take turns by their credential, and those without one by their address: all who ask anonymously from one
//! machine are one client, and those of another machine do not wait behind them.

use std::net::IpAddr;

use http::HeaderValue;
use tokio::time::Instant;

use super::{Handler, Request};
use crate::{
    ident::Name,
    throttle::{Asker, Class, Client, Interest, Priority, Throttle},
};

/// How much of the patience of a caller with a stored copy may go by in the gate's own queue. Less than all of it, so
/// that a long queue is never taken for a service that does not answer.
const QUEUE_SHARE: f64 = 0.8;

/// What depends on a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A client that has nothing else.
    Needed,
    /// A client that is served something else when this takes too long.
    Wished,
    /// Nobody.
    Behind,
}

// === impl Urgency ===

impl Urgency {
    /// The place of a document's fetch in the queue.
    pub(super) fn priority(self) -> Priority {
        match self {
            Self::Needed | Self::Wished => Priority::Document,
            Self::Behind => Priority::Refresh,
        }
    }
}

// === impl Request ===

impl Request {
    /// The place in the queue of what is fetched for this request, where a client's would have `usual`.
    pub(super) fn priority(&self, usual: Priority) -> Priority {
        if self.ahead { Priority::WarmUp } else { usual }
    }
}

// === impl Handler ===

impl Handler {
    /// The client of `request`, for a fetch that it may share with others.
    pub(super) fn asker(&self, request: &Request, interest: Interest, urgency: Urgency) -> Asker {
        let patience = self.parts.outage.patience.mul_f64(QUEUE_SHARE);
        let waits = urgency == Urgency::Wished && !request.ahead;
        let deadline = waits.then(|| Instant::now() + patience);
        Asker { client: client(&self.parts.throttle, request), interest, deadline }
    }

    /// The client of `request`, for one of its own that is over when it leaves.
    pub(super) fn asker_alone(&self, request: &Request) -> Asker {
        Asker::always(client(&self.parts.throttle, request), Priority::Document)
    }

    /// The gate itself, for what no client asked for.
    pub(super) fn asker_unasked(&self) -> Asker {
        Asker::always(self.parts.throttle.client(b""), Priority::WarmUp)
    }

    /// Whether work for which no client waits should be left for later: the service wants to be left alone, or there
    /// is little left of what `authorization` may ask of `org`.
    pub(super) fn is_tight(&self, org: &Name, authorization: Option<&HeaderValue>) -> bool {
        let throttle = &self.parts.throttle;
        let identity = throttle.identity(org.as_str(), authorization.map(HeaderValue::as_bytes));
        throttle.is_tight(Class::Api, identity)
    }
}

/// Who takes turns with others.
pub(super) fn client(throttle: &Throttle, request: &Request) -> Client {
    match (request.caller.turn(), request.address.map(|address| address.to_canonical())) {
        (Some(caller), _) => throttle.client(&[&b"caller:"[..], caller.as_bytes()].concat()),
        (None, Some(IpAddr::V4(address))) => throttle.client(&address.octets()),
        (None, Some(IpAddr::V6(address))) => throttle.client(&address.octets()),
        (None, None) => throttle.client(b"anonymous"),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::UNIX_EPOCH};

    use http::{HeaderMap, HeaderValue, Method};

    use super::client;
    use crate::{
        access::CallerKey,
        document::rewrite::PublicBase,
        handler::Request,
        route,
        throttle::{Limits, Throttle},
    };

    fn request(key: &CallerKey, credential: Option<&'static str>, address: Option<&str>) -> Request {
        let route = route::parse(None, "/contoso/_packaging/main/npm/registry/a").unwrap();
        Request {
            method: Method::GET,
            route,
            headers: HeaderMap::new(),
            caller: key.caller(credential.map(HeaderValue::from_static).as_ref()),
            address: address.map(|address| address.parse::<IpAddr>().unwrap()),
            base: PublicBase::Path { origin: "http://gate".to_owned() },
            received_at: UNIX_EPOCH,
            ahead: false,
        }
    }

    #[test]
    fn a_client_is_its_credential_wherever_it_is_and_else_its_address() {
        let throttle = Throttle::new(&Limits::default());
        let key = CallerKey::random();
        let request = |credential, address| request(&key, credential, address);
        let check = |one: Request, other: Request, same: bool| {
            assert_eq!(client(&throttle, &one) == client(&throttle, &other), same, "{one:?} {other:?}");
        };
        let (here, there) = (Some("10.0.0.1"), Some("10.0.0.2"));
        check(request(Some("a"), here), request(Some("a"), there), true);
        check(request(Some("a"), here), request(Some("b"), here), false);
        check(request(None, here), request(None, here), true);
        check(request(None, here), request(None, there), false);
        check(request(None, here), request(None, Some("::ffff:10.0.0.1")), true);
        check(request(None, here), request(Some("a"), here), false);
        check(request(None, None), request(None, here), false);
    }
}
