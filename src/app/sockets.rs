//! Listening sockets that outlive a gate: handed over by systemd, or by the program that this one replaces.
//!
//! Both hand them over as `sd_listen_fds(3)` has it. A socket is known by its address: the gate takes the one that has
//! the address of a listener, and binds one where there is none. While nobody accepts, the system holds clients'
//! connections, so that none is refused between two gates.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::Command,
};

use anyhow::{Context as _, Result};
use command_fds::{CommandFdExt as _, FdMapping};
use tokio::net::TcpSocket;

/// Connections that the system holds while nobody takes them; it may have a lower limit of its own.
const BACKLOG: u32 = 4096;
/// The first descriptor that is handed over.
const FIRST: i32 = 3;
/// How what is handed over is named: a socket (by systemd as the unit has it), the program before this one, this one.
const SOCKET: &str = "socket";
const PROGRAM: &str = "program";
const RUNNING: &str = "running";

/// Listening sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Handed over, and not taken yet.
    handed: Vec<TcpListener>,
    /// In use.
    used: Vec<TcpListener>,
}

/// What a program finds that was handed something.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Listening sockets.
    pub sockets: Sockets,
    /// The program that ran before, to go back to.
    pub former: Option<File>,
}

// === impl Inheritance ===

impl Inheritance {
    /// Takes what was handed to this process.
    pub fn take() -> Result<Self> {
        let mut taken = Self::default();
        for (name, descriptor) in sd_listen_fds::get().context("LISTEN_FDS")? {
            // A copy is closed when another program is run; what was handed over is not.
            let copy = descriptor.into_std().try_clone().context("a descriptor of LISTEN_FDS")?;
            match name.as_deref() {
                Some(PROGRAM) => {
                    taken.former = Some(copy.into());
                    continue;
                }
                Some(RUNNING) => continue,
                _ => {}
            }
            let socket = TcpListener::from(copy);
            match socket.local_addr().and_then(|address| socket.set_nonblocking(true).map(|()| address)) {
                Ok(address) => tracing::info!(%address, "a socket was handed over"),
                Err(error) => {
                    tracing::warn!(%error, "what was handed over is no TCP socket");
                    continue;
                }
            }
            taken.sockets.handed.push(socket);
        }
        Ok(taken)
    }

    /// A command that runs `program` in this one's place and hands it all.
    pub fn command(self, program: impl AsRef<OsStr>) -> Result<Command> {
        let former = self.former.map(|file| (PROGRAM, file.into()));
        hand(program.as_ref(), self.sockets.named().chain(former).collect())
    }

    /// A command that runs the former program and hands it the sockets; none if there is no such program.
    pub fn former_command(self) -> Option<Result<Command>> {
        let mut all: Vec<_> = self.sockets.named().collect();
        // It is run by the number that it has once all is in its place.
        let program = format!("/proc/self/fd/{}", (FIRST..).nth(all.len())?);
        all.push((RUNNING, self.former?.into()));
        Some(hand(program.as_ref(), all))
    }
}

fn hand(program: &OsStr, all: Vec<(&'static str, OwnedFd)>) -> Result<Command> {
    let mut command = Command::new(program);
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    command.env("LISTEN_PID", std::process::id().to_string());
    command.env("LISTEN_FDS", all.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mapping = |(child_fd, (_, parent_fd))| FdMapping { parent_fd, child_fd };
    command.fd_mappings((FIRST..).zip(all).map(mapping).collect())?;
    Ok(command)
}

// === impl Sockets ===

impl Sockets {
    /// A socket of the address: one that was handed over, or else a new one.
    pub(super) fn bind(&mut self, address: SocketAddr) -> Result<TcpListener> {
        let has_address = |socket: &TcpListener| {
            socket
                .local_addr()
                .is_ok_and(|own| own == address || (address.port() == 0 && own.ip() == address.ip()))
        };
        let socket = match self.handed.iter().position(has_address) {
            Some(index) => self.handed.remove(index),
            None => listen(address).with_context(|| format!("cannot listen on {address}"))?,
        };
        self.used.push(socket.try_clone()?);
        Ok(socket)
    }

    /// Closes what was handed over and nothing uses.
    pub(super) fn close_rest(&mut self) {
        for socket in self.handed.drain(..) {
            let address = socket.local_addr().map_or_else(|error| error.to_string(), |own| own.to_string());
            tracing::warn!(
                address,
                "no listener has the address of this socket, which was handed over; closed"
            );
        }
    }

    fn named(self) -> impl Iterator<Item = (&'static str, OwnedFd)> {
        self.handed.into_iter().chain(self.used).map(|socket| (SOCKET, socket.into()))
    }

    /// The same sockets once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone =
            |sockets: &[TcpListener]| sockets.iter().map(TcpListener::try_clone).collect::<Result<_, _>>();
        Ok(Self { handed: clone(&self.handed)?, used: clone(&self.used)? })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the gate before may not be quite over.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
