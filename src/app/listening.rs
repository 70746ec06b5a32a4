//! Sockets, and the Pingora services that take requests from them.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::TcpListener,
    os::{
        fd::IntoRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
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

use super::Sockets;
use crate::config::{Admin, Config};

/// A listener's service, and what ends it.
pub(super) struct Listening {
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) service: tokio::task::JoinHandle<()>,
}

/// A unix socket that only its owner may open.
pub(super) struct BoundSocket {
    path: PathBuf,
    listener: UnixListener,
}

/// Where the admin API listens.
pub(super) struct AdminSockets {
    pub(super) listener: TcpListener,
    pub(super) socket: Option<BoundSocket>,
}

/// Who may open the socket: its owner.
const OWNER_ONLY: u32 = 0o600;

// === impl AdminSockets ===

impl AdminSockets {
    pub(super) fn bind(config: &Admin, sockets: &mut Sockets) -> Result<Self> {
        let listener = sockets.bind(config.address).context("admin.address")?;
        let socket = config.socket.as_deref().map(bind_socket).transpose().context("admin.socket")?;
        Ok(Self { listener, socket })
    }
}

/// Pingora's own settings.
pub(super) fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        ca_file: config.upstream.ca_file.as_ref().map(|path| path.display().to_string()),
        upstream_keepalive_pool_size: config.upstream.keepalive_connections,
        ..ServerConf::default()
    }
}

/// A socket of the path. It is made in a folder that nobody else may enter and then moved, so that it is at no moment
/// open to others; what a gate left behind there is replaced.
fn bind_socket(path: &Path) -> Result<BoundSocket> {
    let shown = path.display();
    if UnixStream::connect(path).is_ok() {
        anyhow::bail!("another process listens on {shown}");
    }
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
        anyhow::bail!("{shown} is there and is not a socket");
    }
    let bound = || -> io::Result<UnixListener> {
        let mut folder = path.as_os_str().to_owned();
        folder.push(".new");
        let folder = PathBuf::from(folder);
        let inside = folder.join("s");
        // A start that was cut off may have left it.
        let _ = fs::remove_file(&inside);
        let _ = fs::remove_dir(&folder);
        DirBuilder::new().mode(0o700).create(&folder)?;
        let listener = UnixListener::bind(&inside)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&inside, Permissions::from_mode(OWNER_ONLY))?;
        fs::rename(&inside, path)?;
        fs::remove_dir(&folder)?;
        Ok(listener)
    };
    let listener = bound().with_context(|| format!("cannot listen on {shown}"))?;
    Ok(BoundSocket { path: path.to_owned(), listener })
}

/// Hands a bound socket to a Pingora service, as its own hand-over at an upgrade does.
pub(super) fn serve<A: ServerApp + Send + Sync + 'static>(
    mut service: Service<A>,
    listener: TcpListener,
) -> Result<Listening> {
    let address = listener.local_addr()?.to_string();
    service.add_tcp(&address);
    Ok(start(service, address, listener.into_raw_fd()))
}

/// The same for a unix socket.
pub(super) fn serve_socket<A: ServerApp + Send + Sync + 'static>(
    mut service: Service<A>,
    socket: BoundSocket,
) -> Listening {
    let path = socket.path.display().to_string();
    service.add_uds(&path, Some(Permissions::from_mode(OWNER_ONLY)));
    start(service, path, socket.listener.into_raw_fd())
}

fn start<A: ServerApp + Send + Sync + 'static>(
    mut service: Service<A>,
    key: String,
    descriptor: i32,
) -> Listening {
    let mut sockets = Fds::new();
    sockets.add(key, descriptor);
    let sockets: ListenFds = Arc::new(Mutex::new(sockets));
    let (shutdown, watch): (_, ShutdownWatch) = watch::channel(false);
    let service = tokio::spawn(async move { service.start_service(Some(sockets), watch, 1).await });
    Listening { shutdown, service }
}
