//! The way out: straight to a host's own addresses, or through the operator's HTTP proxy.
//!
//! Every connection through a proxy is a tunnel (CONNECT, RFC 9110 §9.3.6), also to hosts that are asked without TLS:
//! the proxy learns host and port and nothing of the requests. It resolves the names itself, so it is also who keeps
//! the gate out of networks that it should not reach ([`super::reach`] sees no address then).

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    net::SocketAddr,
    sync::Arc,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pingora::{
    Error, ErrorType,
    connectors::L4Connect,
    protocols::l4::{socket::SocketAddr as PeerAddress, stream::Stream},
    upstreams::peer::HttpPeer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{outgoing::USER_AGENT_TOKEN, reach::Reach, resolve::Resolver};
use crate::config::{
    Proxy,
    upstream::{Origin, Scheme, Upstream},
};

/// Longest head of a proxy's answer.
const MAX_HEAD: usize = 16 << 10;

/// Finds out where to connect to.
pub(super) struct Egress {
    /// Names of hosts that are connected to directly.
    pub(super) resolver: Resolver,
    via: Option<Arc<Via>>,
}

/// A proxy and its name's addresses. The operator named it, so they may be any.
struct Via {
    proxy: Proxy,
    resolver: Resolver,
}

/// A connection through a proxy to one host.
#[derive(Debug)]
struct Tunnel {
    /// Host and port, as CONNECT has them.
    target: String,
    proxy: Proxy,
}

// === impl Egress ===

impl Egress {
    /// As `settings` have it.
    pub(super) fn new(settings: &Upstream) -> Self {
        let via = |proxy: &Proxy| {
            Arc::new(Via { proxy: proxy.clone(), resolver: Resolver::new(Reach::anywhere()) })
        };
        Self {
            resolver: Resolver::new(Reach::new(&settings.private_networks)),
            via: settings.proxy.as_ref().map(via),
        }
    }

    /// Where connections to `origin` are to be made: its own addresses, or those of the proxy. Never an empty list; the
    /// error is fit for a log.
    pub(super) async fn addresses(&self, origin: &Origin) -> Result<Arc<[SocketAddr]>, String> {
        match self.via(origin) {
            None => self.resolver.addresses(origin).await,
            Some(via) => {
                let place = via.proxy.url.origin();
                let addresses = via.resolver.addresses(place).await;
                addresses.map_err(|reason| format!("proxy {}: {reason}", place.authority()))
            }
        }
    }

    /// None of the addresses for `origin` takes connections.
    pub(super) fn forget(&self, origin: &Origin) {
        match self.via(origin) {
            None => self.resolver.forget(origin),
            Some(via) => via.resolver.forget(via.proxy.url.origin()),
        }
    }

    /// Whom to connect to for `origin` at one of its addresses.
    pub(super) fn peer(&self, origin: &Origin, address: SocketAddr) -> HttpPeer {
        // Pingora's default for a peer: ALPN offers http/1.1 only, certificate and name are verified.
        let mut peer = HttpPeer::new(address, origin.scheme == Scheme::Https, origin.host.clone());
        if let Some(via) = self.via(origin) {
            let target = format!("{}:{}", origin.host, origin.port);
            // To the pool all tunnels lead to one address, the proxy's; this keeps those of each host apart.
            let mut group = DefaultHasher::new();
            target.hash(&mut group);
            peer.group_key = group.finish();
            peer.options.custom_l4 = Some(Arc::new(Tunnel { target, proxy: via.proxy.clone() }));
        }
        peer
    }

    /// The proxy that connections to `origin` go through, for errors.
    pub(super) fn proxy(&self, origin: &Origin) -> Option<String> {
        self.via(origin).map(|via| via.proxy.url.origin().authority())
    }

    fn via(&self, origin: &Origin) -> Option<&Via> {
        self.via.as_deref().filter(|via| via.proxy.takes(&origin.host))
    }
}

// === impl Tunnel ===

#[async_trait]
impl L4Connect for Tunnel {
    async fn connect(&self, address: &PeerAddress) -> pingora::Result<Stream> {
        let stream = self.open(address).await;
        stream.map(Stream::from).map_err(|reason| {
            let text = format!("proxy {} {reason}", self.proxy.url.origin().authority());
            Error::explain(ErrorType::ConnectProxyFailure, text)
        })
    }
}

impl Tunnel {
    async fn open(&self, address: &PeerAddress) -> Result<TcpStream, String> {
        let PeerAddress::Inet(address) = address else { return Err("has no address".to_owned()) };
        let request = self.request().await?;
        let broke = |error: std::io::Error| format!("cannot be used: {error}");
        let mut stream = TcpStream::connect(address).await.map_err(broke)?;
        stream.write_all(request.as_bytes()).await.map_err(broke)?;
        match answer(&mut stream).await.map_err(broke)? {
            Some(200..=299) => Ok(stream),
            Some(407) if self.proxy.credential.is_some() => {
                Err("does not take the gate's credential (407)".to_owned())
            }
            Some(407) => Err("wants a credential, and none is configured (407)".to_owned()),
            Some(403) => Err("does not let the gate connect to this host (403)".to_owned()),
            Some(status) => Err(format!("answered with status {status}")),
            None => Err("gave no answer that is HTTP".to_owned()),
        }
    }

    /// The head of the request; it may hold a credential and is never shown.
    async fn request(&self) -> Result<String, String> {
        let Self { target, proxy } = self;
        let mut authorization = String::new();
        if let Some(credential) = &proxy.credential {
            let credential =
                credential.read().await.map_err(|error| format!("has no credential: {error}"))?;
            authorization =
                format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(credential.reveal()));
        }
        Ok(format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {USER_AGENT_TOKEN}\r\n{authorization}\r\n"
        ))
    }
}

/// The status of an answer to CONNECT; `None` for what is none. Nothing may follow its head: the host at the other end
/// is the one that is spoken to first.
async fn answer(stream: &mut TcpStream) -> std::io::Result<Option<u16>> {
    let (mut head, mut end) = (Vec::with_capacity(512), None);
    while end.is_none() && head.len() < MAX_HEAD && stream.read_buf(&mut head).await? > 0 {
        end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
    }
    let alone = end == Some(head.len());
    Ok(status(&head).filter(|status| alone || !(200..=299).contains(status)))
}

/// `HTTP/1.x nnn …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    rest.get(1..)?.strip_prefix(' ')?.get(..3)?.parse().ok()
}
