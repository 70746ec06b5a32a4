//! What a connection tells about the requests on it.

use std::{net::SocketAddr, sync::OnceLock};

use pingora::protocols::http::ServerSession;

use super::{framing::FramingError, messages::REFUSED};

/// What a connection tells about every request on it.
#[derive(Debug)]
pub struct Facts {
    /// Who is at its other end.
    pub client: SocketAddr,
    /// Why a head was refused; the stand-in for it is the connection's last request.
    pub(super) refused_head: OnceLock<FramingError>,
    /// Why the body of the last request was refused.
    pub(super) refused_body: OnceLock<FramingError>,
}

// === impl Facts ===

impl Facts {
    /// Facts about a connection from `client`.
    pub fn new(client: SocketAddr) -> Self {
        Self { client, refused_head: OnceLock::new(), refused_body: OnceLock::new() }
    }

    /// The facts about the connection of a request; none when the connection is not of a listener here.
    pub fn of(session: &ServerSession) -> Option<&Facts> {
        let proxy = session.digest()?.proxy_digest.as_ref()?;
        proxy.user_data.as_ref()?.downcast_ref::<std::sync::Arc<Facts>>().map(AsRef::as_ref)
    }

    /// Why the head was refused that this request stands in for.
    pub fn refused(&self, headers: &http::HeaderMap) -> Option<FramingError> {
        self.refused_head.get().copied().filter(|_| headers.contains_key(REFUSED))
    }

    /// Why the body that was being read was refused.
    pub fn refused_body(&self) -> Option<FramingError> {
        self.refused_body.get().copied()
    }
}
