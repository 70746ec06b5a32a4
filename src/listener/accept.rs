//! The accept loop of one listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt as _;
use ipnet::IpNet;
use pingora::{
    apps::{HttpServerApp, ServerApp as _},
    protocols::http::ServerSession,
    server::ShutdownWatch,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    connection::Connection,
    facts::Facts,
    proxy_protocol,
    room::{Place, Refused, Room},
    tls::Certificates,
    transport::Transport,
};
use crate::config::{ClientLimits, Forwarded};

/// How long nothing is accepted after the system said that it has no more sockets.
const NO_SOCKETS: Duration = Duration::from_millis(100);
/// How long the connections that there are may bring one more request when no more are taken. Each such request is
/// answered, and told to be the connection's last: a connection that is in use ends between two requests, not on one
/// that is under way to the gate.
const FAREWELL: Duration = Duration::from_millis(250);
/// How often the files of a certificate are looked at.
const REFRESH: Duration = Duration::from_secs(1);

/// How the connections of one listener are taken.
#[derive(Clone)]
pub struct Door {
    /// Limits of each connection.
    pub limits: Arc<ClientLimits>,
    /// Room for connections, shared with other listeners.
    pub room: Room,
    /// For TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// How proxies in front say for whom they speak.
    pub forwarded: Forwarded,
    /// Networks of those proxies.
    pub proxies: Arc<[IpNet]>,
}

// === impl Door ===

impl Door {
    fn trusts(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// From an accepted socket to a connection that requests can come on.
    async fn open(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        place: &mut Place,
    ) -> Result<Connection, (Refused, io::Error)> {
        let of_proxy = self.trusts(peer);
        let client = match self.forwarded {
            Forwarded::ProxyProtocol if !of_proxy => {
                return Err((Refused::Proxy, io::Error::other("not from a proxy")));
            }
            Forwarded::ProxyProtocol => {
                let told =
                    proxy_protocol::read(&mut stream).await.map_err(|error| (Refused::Proxy, error))?;
                told.unwrap_or(peer)
            }
            Forwarded::None | Forwarded::Headers => peer,
        };
        let proxies = (of_proxy && self.forwarded == Forwarded::Headers).then(|| Arc::clone(&self.proxies));
        // What such a proxy brings is of many clients.
        if proxies.is_none() {
            let belongs = place.belong(client.ip());
            belongs.map_err(|refused| (refused, io::Error::other("too many connections")))?;
        }
        let opened = async {
            stream.set_nodelay(true)?;
            let transport = Transport::open(stream, self.certificates.as_deref()).await?;
            let facts = Facts::new(client, self.certificates.is_some(), proxies);
            Connection::new(transport, Arc::new(facts), Arc::clone(&self.limits))
        };
        opened.await.map_err(|error| (Refused::Handshake, error))
    }
}

/// Takes connections until `shutdown` says so, and those that wait to be taken; then closes those that bring no request
/// and ends when the others have ended. Dropping it cuts them off.
pub async fn serve<A>(app: Arc<A>, listener: TcpListener, door: Door, mut shutdown: ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    let mut refreshing = interval(REFRESH);
    refreshing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let take = |(stream, peer), connections: &mut JoinSet<()>, shutdown: &ShutdownWatch| {
        let Ok(place) = door.room.enter() else { return };
        connections.spawn(admit(Arc::clone(&app), stream, peer, door.clone(), place, shutdown.clone()));
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = refreshing.tick(), if door.certificates.is_some() => {
                if let Some(certificates) = door.certificates.clone() {
                    connections.spawn_blocking(move || refresh(&certificates));
                }
                continue;
            }
            _ = shutdown.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok(accepted) => take(accepted, &mut connections, &shutdown),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(NO_SOCKETS).await;
            }
        }
    }
    // The system has told these clients that they are connected.
    while let Some(Ok(accepted)) = listener.accept().now_or_never() {
        take(accepted, &mut connections, &shutdown);
    }
    drop(listener);
    tokio::time::sleep(FAREWELL).await;
    // Pingora closes connections on which it waits for a request.
    app.http_cleanup().await;
    while connections.join_next().await.is_some() {}
}

fn refresh(certificates: &Certificates) {
    match certificates.refresh() {
        Ok(false) => {}
        Ok(true) => tracing::info!("a listener's certificate was read again"),
        Err(error) => tracing::error!(%error, "a listener keeps the certificate that it has"),
    }
}

async fn admit<A>(
    app: Arc<A>,
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    mut place: Place,
    shutdown: ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let late = |_| Err((Refused::Late, io::Error::from(io::ErrorKind::TimedOut)));
    let opened = timeout(door.limits.header_timeout, door.open(stream, peer, &mut place)).await;
    match opened.unwrap_or_else(late) {
        // Streams of HTTP/2 are requests of their own; Pingora takes them apart.
        Ok(connection) if connection.is_h2() => {
            app.process_new(Box::new(connection), &shutdown).await;
        }
        Ok(connection) => converse(app, connection, &door.limits, &shutdown).await,
        Err((refused, error)) => {
            door.room.refused(refused);
            tracing::debug!(client = %peer, reason = refused.label(), %error, "a connection was refused");
        }
    }
}

/// One request after the other, as Pingora's own loop for HTTP/1 takes them.
async fn converse<A>(app: Arc<A>, connection: Connection, limits: &ClientLimits, shutdown: &ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut connection = Box::new(connection);
    connection.await_request();
    let mut session = ServerSession::new_http1(connection);
    // Times are kept by the connection itself; a request that is begun while the gate drains is still answered.
    session.set_keepalive((!*shutdown.borrow()).then_some(0));
    let reuses = u32::try_from(limits.requests_per_connection - 1).unwrap_or(u32::MAX);
    session.set_keepalive_reuses_remaining(Some(reuses));
    while let Some(reused) = app.process_new_http(session, shutdown).await {
        let (stream, settings) = reused.consume();
        let Ok(mut connection) = stream.into_any().downcast::<Connection>() else { return };
        connection.await_request();
        session = ServerSession::new_http1(connection);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}
