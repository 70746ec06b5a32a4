//! Sockets, and the Pingora services that take requests from them.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd as _,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use pingora::{
    apps::ServerApp,
    server::{Fds, ListenFds, ShutdownWatch, configuration::ServerConf},
    services::{Service as _, listening::Service},
};
use tokio::sync::watch;

use crate::config::Config;

/// A listener's service, and what ends it.
pub(super) struct Listening {
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) service: tokio::task::JoinHandle<()>,
}

/// Pingora's own settings.
pub(super) fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        ca_file: config.upstream.ca_file.as_ref().map(|path| path.display().to_string()),
        upstream_keepalive_pool_size: config.upstream.keepalive_connections,
        ..ServerConf::default()
    }
}

/// A socket of the address.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Hands a bound socket to a Pingora service, as its own hand-over at an upgrade does.
pub(super) fn serve<A: ServerApp + Send + Sync + 'static>(
    mut service: Service<A>,
    listener: TcpListener,
) -> Result<Listening> {
    let address = listener.local_addr()?.to_string();
    service.add_tcp(&address);
    let mut sockets = Fds::new();
    sockets.add(address, listener.into_raw_fd());
    let sockets: ListenFds = Arc::new(Mutex::new(sockets));
    let (shutdown, watch): (_, ShutdownWatch) = watch::channel(false);
    let service = tokio::spawn(async move { service.start_service(Some(sockets), watch, 1).await });
    Ok(Listening { shutdown, service })
}
