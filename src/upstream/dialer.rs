//! Peers for requests that Pingora forwards itself: the same hosts, addresses and waits as our own client's.

use pingora::upstreams::peer::HttpPeer;

use super::{
    Service, Target, UpstreamError,
    egress::Egress,
    sites::{Onward, Sites},
};
use crate::{config::upstream::Upstream as Settings, ident::Name};

/// Finds the service's hosts.
pub struct Dialer {
    sites: Sites,
    egress: Egress,
    settings: Settings,
}

// === impl Dialer ===

impl Dialer {
    /// The hosts of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self { sites: Sites::new(settings), egress: Egress::new(settings), settings: settings.clone() }
    }

    /// Whom to connect to for `org` on `service`.
    pub async fn peer(&self, service: Service, org: &Name) -> Result<HttpPeer, UpstreamError> {
        let origin = self.sites.base(service, org)?.origin;
        let fail = |reason: String| UpstreamError::Connect { host: origin.authority(), reason };
        let addresses = self.egress.addresses(&origin).await.map_err(fail)?;
        let address = addresses.first().ok_or_else(|| fail("the name has no address".to_owned()))?;
        let mut peer = self.egress.peer(&origin, *address);
        peer.options.total_connection_timeout = Some(self.settings.connect_timeout);
        peer.options.read_timeout = Some(self.settings.first_byte_timeout);
        peer.options.write_timeout = Some(self.settings.idle_timeout);
        Ok(peer)
    }

    /// The `Host` header and the request target for `path` below `org`.
    pub fn request_line(
        &self,
        service: Service,
        org: &Name,
        path: &str,
    ) -> Result<(String, String), UpstreamError> {
        let base = self.sites.base(service, org)?;
        Ok((base.origin.authority(), format!("{}{path}", base.prefix)))
    }
    /// Whether a redirect from a route of `org` to `location` asks for a sign-in.
    pub fn is_sign_in(&self, service: Service, org: &Name, location: &str) -> bool {
        let from = Target::Service { service, org: org.clone(), path: "/".to_owned() };
        matches!(self.sites.onward(&from, location), Ok(Onward::SignIn))
    }
}
