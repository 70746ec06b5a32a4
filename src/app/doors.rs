//! Where clients reach the gate: `[listen]`, and each `[[listener]]`.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use prometheus::Registry;
use tokio::sync::watch;

use super::{
    Sockets,
    listening::{Listening, server_conf},
};
use crate::{
    config::{ClientLimits, Config, Forwarded, Listener},
    lanes::Lanes,
    listener::{self, Certificates, Door, Room, RoomMetrics},
    proxy::{self, Edge, HitPath},
};

/// Bound sockets for clients, the one of `[listen]` first, each with how its connections are taken.
pub(super) struct Doors(Vec<(TcpListener, Door)>);

// === impl Doors ===

impl Doors {
    pub(super) fn bind(
        config: &Config,
        registry: &Registry,
        sockets: &mut Sockets,
        lanes: &Lanes,
    ) -> Result<Self> {
        let limits = Arc::new(config.limits.clone());
        let room = Room::new(&limits, RoomMetrics::new(registry)?);
        let plain = sockets.bind(config.listen.address).context("listen.address")?;
        let mut doors = vec![(plain, door(&limits, (&room, lanes), None)?)];
        for (index, listener) in config.listeners.iter().enumerate() {
            let bound = sockets.bind(listener.address);
            let bound = bound.and_then(|socket| Ok((socket, door(&limits, (&room, lanes), Some(listener))?)));
            doors.push(bound.with_context(|| format!("listener[{index}]"))?);
        }
        Ok(Self(doors))
    }

    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.0.iter().map(|(socket, _)| Ok(socket.local_addr()?)).collect()
    }

    /// Takes clients from now on.
    pub(super) fn open(self, edge: Edge, config: &Config) -> Result<Vec<Listening>> {
        let fast = Arc::new(HitPath::of(&edge));
        let app = proxy::app(edge, &config.limits, &Arc::new(server_conf(config)));
        let open = |(socket, door)| {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            let (shutdown, watch) = watch::channel(false);
            let service =
                tokio::spawn(listener::serve(Arc::clone(&app), Arc::clone(&fast), socket, door, watch));
            Ok(Listening { shutdown, service })
        };
        self.0.into_iter().map(open).collect()
    }
}

/// How clients are taken on a listener; none is the one of `[listen]`.
fn door(
    limits: &Arc<ClientLimits>,
    (room, lanes): (&Room, &Lanes),
    listener: Option<&Listener>,
) -> Result<Door> {
    let tls = listener.and_then(|listener| listener.tls.as_ref());
    Ok(Door {
        limits: Arc::clone(limits),
        room: room.clone(),
        lanes: lanes.clone(),
        certificates: tls.map(Certificates::load).transpose()?.map(Arc::new),
        forwarded: listener.map_or(Forwarded::None, |listener| listener.forwarded),
        proxies: listener.map(|listener| listener.trusted.clone()).unwrap_or_default().into(),
    })
}
