//! The composition root: builds every part, stacks the wrappers, starts, drains.
//!
//! A gate runs on runtimes and threads of its own, so a test or the demo can hold several and end each
//! one whole: when [`Gate::stop`] returns, its sockets are closed and its store can be opened again.

mod assembly;
mod doors;
mod listening;
mod reloads;
mod running;
mod sockets;
mod traces;

use std::{net::SocketAddr, sync::mpsc, thread::JoinHandle, time::Duration};

use anyhow::{Context as _, Result};
use pingora::time::fast_timeout::set_fast_timeout_to_tokio_threshold;
use prometheus::{IntCounter, Registry};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

use crate::{admin::Control, clock::Clock, config::Config, disk::watch, handler::Modes, lanes::Lanes};
pub use reloads::Reloads;
use running::{Beginning, Started, run};
pub use sockets::{Inheritance, Sockets};

/// Threads for calls that block: files, the database, hashing and packing of documents.
const BLOCKING_THREADS: usize = 64;
/// How long tasks get to end once requests are over.
const TASKS_END: Duration = Duration::from_secs(2);

/// A running gate. Dropping it stops it without draining.
pub struct Gate {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    registry: Registry,
    modes: Modes,
    reloads: Reloads,
    lost_lines: IntCounter,
    /// Copies of those that its listeners have, which close with these.
    sockets: Sockets,
    drain_timeout: Duration,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Gate ===

impl Gate {
    /// Starts a gate; returns once it takes requests.
    pub fn start(config: Config) -> Result<Self> {
        Self::start_at(config, Clock::system())
    }

    /// Starts a gate that reads the time of day off `clock`.
    pub fn start_at(config: Config, clock: Clock) -> Result<Self> {
        Self::start_on(config, clock, Sockets::default(), Control::default())
    }

    /// Starts a gate that takes the sockets of its addresses from those that are there. What operators want of the program
    /// around it goes through `control`.
    pub fn start_on(config: Config, clock: Clock, sockets: Sockets, control: Control) -> Result<Self> {
        let drain_timeout = config.listen.drain_timeout;
        // The runtimes keep Pingora's timeouts from one second on: its own timer is a thread that wakes 100 times a second
        // for good, and holds each timeout until its time is over, long after what it was for.
        set_fast_timeout_to_tokio_threshold(Some(Duration::ZERO));
        let home = home()?;
        let (lanes, threads) =
            Lanes::start(config.listen.threads, home.handle(), TASKS_END, watch::serve_sockets)?;
        let (report, reported) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("feedgate".to_owned()).spawn(move || {
            home.block_on(run(Beginning { config, clock, sockets, control, lanes }, report, stopped));
            threads.end();
            home.shutdown_timeout(TASKS_END);
        })?;
        let started = reported.recv().context("the gate's thread ended while it started")??;
        let Started { addresses, admin_address, registry, modes, reloads, lost_lines, sockets } = started;
        Ok(Self {
            addresses,
            admin_address,
            registry,
            modes,
            reloads,
            lost_lines,
            sockets,
            drain_timeout,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where clients reach it by `[listen]`.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where clients reach it by each `[[listener]]`.
    pub fn listener_addresses(&self) -> &[SocketAddr] {
        &self.addresses[1..]
    }

    /// Where operators reach it.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Its metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The modes of its feeds, which may be switched.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// What becomes of configurations that are read again.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Counts lines of the program's log that nobody took.
    pub fn lost_lines(&self) -> &IntCounter {
        &self.lost_lines
    }

    /// How long requests in progress may take once it stops.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// Stops taking requests, waits for those in progress, closes the store.
    pub fn stop(mut self) {
        self.end();
    }

    /// Stops as [`Gate::stop`] does, and leaves the sockets open: who connects waits for the next gate.
    pub fn hand_over(mut self) -> Sockets {
        let sockets = std::mem::take(&mut self.sockets);
        self.end();
        sockets
    }

    fn end(&mut self) {
        self.sockets = Sockets::default();
        if let Some(stop) = self.stop.take() {
            // An error says that the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the gate's thread panicked");
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.end();
    }
}

/// What runs what belongs to no connection, and holds the threads that may block.
fn home() -> Result<Runtime> {
    // Not of the current thread's kind: its tests' clock, which a dependency of Pingora's switches on, has each call on
    // a thread that may block wake it.
    let mut builder = Builder::new_multi_thread();
    // Each thread keeps a stack and memory of the allocator's: with tokio's 512, a burst of cold reads grew the process
    // for good. More than these at once do not make a disk faster.
    builder.worker_threads(1).max_blocking_threads(BLOCKING_THREADS);
    builder.on_thread_start(watch::serve_sockets);
    builder.thread_name("feedgate-home").enable_all().build().context("runtime")
}
