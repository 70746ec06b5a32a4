//! The accept loop of one listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use pingora::{apps::HttpServerApp, protocols::http::ServerSession, server::ShutdownWatch};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    connection::Connection,
    facts::Facts,
    room::{Place, Room},
};
use crate::config::ClientLimits;

/// How long nothing is accepted after the system said that it has no more sockets.
const NO_SOCKETS: Duration = Duration::from_millis(100);

/// How the connections of one listener are taken.
#[derive(Clone)]
pub struct Door {
    /// Limits of each connection.
    pub limits: Arc<ClientLimits>,
    /// Room for connections, shared with other listeners.
    pub room: Room,
}

/// Takes connections until `shutdown` says so, then ends when those that there are have ended. Dropping it cuts them off.
pub async fn serve<A>(app: Arc<A>, listener: TcpListener, door: Door, mut shutdown: ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = shutdown.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = door.room.enter() else { continue };
                connections.spawn(admit(
                    Arc::clone(&app),
                    stream,
                    peer,
                    door.clone(),
                    place,
                    shutdown.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(NO_SOCKETS).await;
            }
        }
    }
    drop(listener);
    app.http_cleanup().await;
    while connections.join_next().await.is_some() {}
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
    if place.belong(peer.ip()).is_err() {
        return;
    }
    match open(stream, peer, &door) {
        Ok(connection) => converse(app, connection, &door.limits, &shutdown).await,
        Err(error) => tracing::debug!(client = %peer, %error, "a connection could not be used"),
    }
}

fn open(stream: TcpStream, peer: SocketAddr, door: &Door) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    Connection::new(stream, Arc::new(Facts::new(peer)), Arc::clone(&door.limits))
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
