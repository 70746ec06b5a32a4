//! The accept loop of one listener.

use std::{
    io,
    net::{self, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use ipnet::IpNet;
use pingora::{
    apps::{HttpServerApp, ServerApp as _},
    protocols::{Shutdown as _, http::ServerSession},
    server::ShutdownWatch,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    connection::Connection,
    facts::Facts,
    fast_path::{Answer, FastPath},
    proxy_protocol,
    room::{Place, Refused, Room},
    streams::Streams,
    tls::Certificates,
    transport::Transport,
};
use crate::{
    config::{ClientLimits, Forwarded},
    lanes::{Lanes, Seat},
};

/// How long nothing is accepted after the system said that it has no more sockets.
const NO_SOCKETS: Duration = Duration::from_millis(100);
/// How long the connections that there are may bring one more request when no more are taken. Each such request is
/// answered, and told to be the connection's last: a connection that is in use ends between two requests, not on one
/// that is under way to the gate. One that is admitted only then, after a handshake or on a busy machine, has as long.
const FAREWELL: Duration = Duration::from_millis(250);
/// What the system has already got for a connection is heard of within this.
const HEARSAY: Duration = Duration::from_millis(1);
/// Bytes that the system takes for a client before it has sent what it has: without a bound a client that stops to read
/// makes it hold up to 4 MB, and a thousand of them all the memory that it has for TCP.
const MOST_UNSENT: u32 = 256 << 10;
/// How often the files of a certificate are looked at.
const REFRESH: Duration = Duration::from_secs(1);

/// When a connection's time is over.
#[derive(Clone)]
struct Ends {
    /// Each answer is the last of its connection from now on.
    shutdown: ShutdownWatch,
    /// No more requests are waited for.
    farewell: watch::Receiver<bool>,
}

/// How the connections of one listener are taken.
#[derive(Clone)]
pub struct Door {
    /// Limits of each connection.
    pub limits: Arc<ClientLimits>,
    /// Room for connections, shared with other listeners.
    pub room: Room,
    /// Where they are served.
    pub lanes: Lanes,
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
            SockRef::from(&stream).set_tcp_notsent_lowat(MOST_UNSENT)?;
            let transport = Transport::open(stream, self.certificates.as_deref()).await?;
            let facts = Facts::new(client, self.certificates.is_some(), proxies);
            Ok(Connection::new(transport, Arc::new(facts), Arc::clone(&self.limits)))
        };
        opened.await.map_err(|error| (Refused::Handshake, error))
    }
}

/// Takes connections until `shutdown` says so, and those that wait to be taken; then closes those that bring no request
/// and ends when the others have ended. Dropping it cuts them off.
pub async fn serve<A, F>(
    app: Arc<A>,
    fast: Arc<F>,
    listener: TcpListener,
    door: Door,
    mut shutdown: ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
    F: FastPath,
{
    let (farewell, over) = watch::channel(false);
    let ends = Ends { shutdown: shutdown.clone(), farewell: over };
    let mut connections = JoinSet::new();
    let mut refreshing = interval(REFRESH);
    refreshing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let take = |(stream, peer): (net::TcpStream, _), connections: &mut JoinSet<()>| {
        let Ok(place) = door.room.enter() else { return };
        let (parts, door, ends) = ((Arc::clone(&app), Arc::clone(&fast)), door.clone(), ends.clone());
        let seat = door.lanes.seat();
        let runtime = seat.runtime().clone();
        connections.spawn_on(admit(parts, (stream, peer), door, (place, seat), ends), &runtime);
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
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
            Ok(accepted) => take(accepted, &mut connections),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(NO_SOCKETS).await;
            }
        }
    }
    // The system has told these clients that they are connected.
    while let Some(Ok(accepted)) = accept(&listener).now_or_never() {
        take(accepted, &mut connections);
    }
    drop(listener);
    tokio::time::sleep(FAREWELL).await;
    farewell.send_replace(true);
    // The same for HTTP/2, on whose connections Pingora waits.
    app.http_cleanup().await;
    while connections.join_next().await.is_some() {}
}

/// The next connection, which no runtime knows any more.
async fn accept(listener: &TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    Ok((stream.into_std()?, peer))
}

fn refresh(certificates: &Certificates) {
    match certificates.refresh() {
        Ok(false) => {}
        Ok(true) => tracing::info!("a listener's certificate was read again"),
        Err(error) => tracing::error!(%error, "a listener keeps the certificate that it has"),
    }
}

async fn admit<A, F>(
    (app, fast): (Arc<A>, Arc<F>),
    (stream, peer): (net::TcpStream, SocketAddr),
    door: Door,
    (mut place, _seat): (Place, Seat),
    ends: Ends,
) where
    A: HttpServerApp + Send + Sync + 'static,
    F: FastPath,
{
    // Here, so that it is the lane that hears of what comes.
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a connection was not taken"),
    };
    let late = |_| Err((Refused::Late, io::Error::from(io::ErrorKind::TimedOut)));
    let opened = timeout(door.limits.header_timeout, door.open(stream, peer, &mut place)).await;
    match opened.unwrap_or_else(late) {
        // Streams of HTTP/2 are requests of their own; Pingora takes them apart.
        Ok(connection) if connection.is_h2() => {
            let streams = Streams::new(app, Arc::clone(connection.facts()), Arc::clone(&door.limits));
            Arc::new(streams).process_new(Box::new(connection), &ends.shutdown).await;
        }
        Ok(connection) => converse(app, &*fast, connection, &door.limits, ends).await,
        Err((refused, error)) => {
            door.room.refused(refused);
            tracing::debug!(client = %peer, reason = refused.label(), %error, "a connection was refused");
        }
    }
}

/// One request after the other: what the fast path has at hand is answered at once, all else in a session of Pingora's.
async fn converse<A, F>(app: Arc<A>, fast: &F, connection: Connection, limits: &ClientLimits, mut ends: Ends)
where
    A: HttpServerApp + Send + Sync + 'static,
    F: FastPath,
{
    let mut connection = Box::new(connection);
    let mut left = limits.requests_per_connection;
    let admitted = Instant::now();
    let mut farewell = pin!(async {
        // An error says that nobody is there any more to wait.
        let _ = ends.farewell.wait_for(|over| *over).await;
        sleep_until((admitted + FAREWELL).max(Instant::now() + HEARSAY)).await;
    });
    while left > 0 {
        let came = tokio::select! {
            biased;
            came = connection.await_request() => came,
            () = &mut farewell => Ok(false),
        };
        if !matches!(came, Ok(true)) {
            break;
        }
        left -= 1;
        // A request that is begun while the gate drains is still answered.
        let mut is_last = left == 0 || *ends.shutdown.borrow();
        let (request, facts) = connection.request();
        if let Some(answer) = fast.answer(request, facts, is_last) {
            let Answer { length, head, body, note, .. } = answer;
            is_last = answer.is_last;
            let (sent, error) = connection.answer(length, &head, &body).await;
            let broke = error.is_some();
            fast.over(note, sent, error);
            if broke {
                return;
            }
        } else {
            let mut session = ServerSession::new_http1(connection);
            // Times are kept by the connection itself.
            session.set_keepalive((!is_last).then_some(0));
            let more = if is_last { 0 } else { u32::try_from(left).unwrap_or(u32::MAX) };
            session.set_keepalive_reuses_remaining(Some(more));
            let Some(reused) = app.process_new_http(session, &ends.shutdown).await else { return };
            let (stream, _) = reused.consume();
            let Ok(reused) = stream.into_any().downcast::<Connection>() else { return };
            connection = reused;
        }
        if is_last {
            break;
        }
    }
    connection.shutdown().await;
}
