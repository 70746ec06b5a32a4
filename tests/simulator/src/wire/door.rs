//! A listening socket that can be shut and opened again on the same port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep};

use super::connection;
use crate::hub::Hub;
use crate::log::Listener;

const BACKLOG: u32 = 1024;
/// How long the kernel may take to let go of a port.
const REBIND_PATIENCE: Duration = Duration::from_secs(10);

/// One of the three listeners.
pub(crate) struct Door {
    listener: Listener,
    address: SocketAddr,
    state: State,
}

enum State {
    /// Bound, so that nobody else takes the port, and not listening: connects are refused.
    Shut(TcpSocket),
    Open(JoinHandle<()>),
    /// Only while the state changes, or after a failure to change it.
    Gone,
}

// === impl Door ===

impl Door {
    /// Takes a free port of the loopback interface. Connects are refused until [`Door::open`].
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        Ok(Self { listener, address, state: State::Shut(socket) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Accepts connections from now on.
    pub(crate) fn open(&mut self, hub: &Arc<Hub>) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Shut(socket) => {
                let socket = socket.listen(BACKLOG)?;
                self.state = State::Open(tokio::spawn(accept(Arc::clone(hub), self.listener, socket)));
            }
            other => self.state = other,
        }
        Ok(())
    }

    /// Refuses connections from now on; open ones are not touched.
    pub(crate) async fn shut(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Open(task) => {
                task.abort();
                // The socket is closed when the task is gone, not earlier.
                let _ = task.await;
                self.state = State::Shut(self.bind_again().await?);
            }
            other => self.state = other,
        }
        Ok(())
    }

    /// Stops listening without waiting.
    pub(crate) fn abandon(&self) {
        if let State::Open(task) = &self.state {
            task.abort();
        }
    }

    /// Takes the same port again; the kernel may need a moment to let go of it.
    async fn bind_again(&self) -> io::Result<TcpSocket> {
        let deadline = Instant::now() + REBIND_PATIENCE;
        loop {
            match bind(self.address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    sleep(Duration::from_millis(1)).await;
                }
                other => return other,
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of earlier days may linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(hub: Arc<Hub>, listener: Listener, socket: TcpListener) {
    loop {
        match socket.accept().await {
            Ok((tcp, _)) => {
                // Fails only if the peer is gone already.
                let _ = tcp.set_nodelay(true);
                let ended = hub.ended.lock().subscribe();
                tokio::spawn(connection::run(Arc::clone(&hub), listener, tcp, ended));
            }
            // Out of file descriptors, most likely: wait for connections to end.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
