//! The composition root: builds every part, stacks the wrappers, starts, drains.
//!
//! A gate runs on a runtime and a thread of its own, so a test or the demo can hold several and end each
//! one whole: when [`Gate::stop`] returns, its sockets are closed and its store can be opened again.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd as _,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use pingora::{
    apps::ServerApp,
    server::{Fds, ListenFds, ShutdownWatch, configuration::ServerConf},
    services::{Service as _, listening::Service},
};
use prometheus::Registry;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::interval,
};

use crate::{
    access::{Access, CallerKey},
    admin::{Admin, Figures, Load, Readiness},
    blob::DiskStore,
    cache::{DocumentCache, Generations, Identities, NegativeCache, PackageIndex},
    clock::Clock,
    config::Config,
    disk::{Database, DatabaseSettings, OpenError, StoreDirectory},
    document::rewrite::ServiceHosts,
    handler::{Following, Handler, HandlerMetrics, Modes, Parts},
    proxy::{Edge, EdgeMetrics, Forwarder, Intake},
    route::Collections,
    throttle::{Limits, Throttle},
    upstream::{
        Advisories, Azure, Barred, Breaking, Breaks, Dialer, Http, Metered, Resumes, Retries, Retrying,
        Throttled, Whole,
    },
};

/// How often the store writes down last uses and evicts.
const MAINTENANCE: Duration = Duration::from_secs(2);
/// How often verdicts whose grace is over are removed: credentials that change every hour leave many.
const PRUNING: Duration = Duration::from_secs(3600);
/// How long opening waits for another process (or the one before) to let go of the store.
const STORE_WAIT: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const STORE_POLL: Duration = Duration::from_millis(50);
/// How long tasks get to end once requests are over.
const TASKS_END: Duration = Duration::from_secs(2);

/// A running gate. Dropping it stops it without draining.
pub struct Gate {
    address: SocketAddr,
    admin_address: SocketAddr,
    registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the gate's thread reports once it takes requests.
struct Started {
    address: SocketAddr,
    admin_address: SocketAddr,
    registry: Registry,
}

/// The parts that outlive a request.
struct Running {
    started: Started,
    store: DiskStore,
    database: Database,
    handler: Handler,
    /// What follows the changes of feeds.
    polls: JoinSet<()>,
    metrics: EdgeMetrics,
    readiness: Readiness,
    gate: Listening,
    admin: Listening,
    drain_timeout: Duration,
    clock: Clock,
}

/// A listener's service, and what ends it.
struct Listening {
    shutdown: watch::Sender<bool>,
    service: tokio::task::JoinHandle<()>,
}

// === impl Gate ===

impl Gate {
    /// Starts a gate; returns once it takes requests.
    pub fn start(config: Config) -> Result<Self> {
        Self::start_at(config, Clock::system())
    }

    /// Starts a gate that reads the time of day off `clock`.
    pub fn start_at(config: Config, clock: Clock) -> Result<Self> {
        let runtime = runtime(config.listen.threads)?;
        let (report, reported) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("feedgate".to_owned()).spawn(move || {
            runtime.block_on(run(config, clock, report, stopped));
            runtime.shutdown_timeout(TASKS_END);
        })?;
        let started = reported.recv().context("the gate's thread ended while it started")??;
        let Started { address, admin_address, registry } = started;
        Ok(Self { address, admin_address, registry, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators reach it.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Its metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Stops taking requests, waits for those in progress, closes the store.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
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

// === impl Running ===

impl Running {
    async fn start(config: Config, clock: Clock) -> Result<Self> {
        let registry = Registry::new();
        let listener = bind(config.listen.address).context("listen.address")?;
        let admin_listener = bind(config.admin.address).context("admin.address")?;
        let (database, store) = open_store(&config, &clock).await?;
        let throttle = Arc::new(Throttle::new(&Limits::from(&config.throttle)));
        let handler = handler(
            &config,
            &clock,
            &registry,
            &Shared { database: &database, store: &store, throttle: &throttle },
        )?;
        let metrics = EdgeMetrics::new(&registry)?;
        let figures = Figures::new(&registry, store.clone(), handler.clone())?;
        Load::register(&registry, Throttle::clone(&throttle))?;
        let readiness = Readiness::default();
        let key = CallerKey::load_or_create(&config.store.path).context("the key of the caller hash")?;
        let edge = Edge {
            intake: Intake {
                key,
                collections: Collections::new(
                    config.upstream.servers.iter().map(|server| (&server.collection, server.directory())),
                ),
                public_url: config.listen.public_url.clone(),
                clock: clock.clone(),
                max_body: config.listen.max_body,
            },
            handler: handler.clone(),
            forwarder: Forwarder { dialer: Dialer::new(&config.upstream), throttle, clock: clock.clone() },
            metrics: metrics.clone(),
        };
        let conf = Arc::new(server_conf(&config));
        let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);
        let modes = handler.parts().modes.clone();
        let admin = Admin { registry: registry.clone(), figures, readiness: readiness.clone(), modes };
        let gate = serve(crate::proxy::service(edge, &conf), listener)?;
        let admin = serve(admin.service(), admin_listener)?;
        let drain_timeout = config.listen.drain_timeout;
        let started = Started { address, admin_address, registry };
        let polls = handler.follow_changes();
        Ok(Self {
            started,
            store,
            database,
            handler,
            polls,
            metrics,
            readiness,
            gate,
            admin,
            drain_timeout,
            clock,
        })
    }

    async fn maintain(&self) {
        let (mut store, mut verdicts) = (interval(MAINTENANCE), interval(PRUNING));
        loop {
            tokio::select! {
                _ = store.tick() => {
                    if let Err(error) = self.store.maintain().await {
                        tracing::warn!(%error, "maintenance of the store failed");
                    }
                }
                _ = verdicts.tick() => self.prune().await,
            }
        }
    }

    async fn prune(&self) {
        let (handler, now) = (self.handler.clone(), self.clock.now());
        let pruned = tokio::task::spawn_blocking(move || handler.parts().access.prune(now)).await;
        if let Ok(Err(error)) = pruned {
            tracing::warn!(%error, "verdicts not pruned");
        }
    }

    async fn drain(mut self) {
        self.readiness.set(false);
        self.polls.shutdown().await;
        // Operators can watch until the end: their listener closes last.
        let _ = self.gate.shutdown.send(true);
        let idle = async {
            while self.metrics.in_flight() > 0 || self.handler.arriving() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(self.drain_timeout, idle).await.is_err() {
            tracing::warn!(requests = self.metrics.in_flight(), "drain timeout: requests are cut off");
        }
        let _ = self.admin.shutdown.send(true);
        self.gate.service.abort();
        self.admin.service.abort();
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store was not closed cleanly");
        }
        drop(self.database);
        tracing::info!("stopped");
    }
}

/// What several parts share.
struct Shared<'a> {
    database: &'a Database,
    store: &'a DiskStore,
    throttle: &'a Arc<Throttle>,
}

async fn run(
    config: Config,
    clock: Clock,
    report: mpsc::Sender<Result<Started>>,
    stopped: oneshot::Receiver<()>,
) {
    let running = match Running::start(config, clock).await {
        Ok(running) => running,
        Err(error) => {
            // The receiver waits for exactly this.
            let _ = report.send(Err(error));
            return;
        }
    };
    running.readiness.set(true);
    let Started { address, admin_address, registry } = &running.started;
    tracing::info!(%address, %admin_address, "listening");
    let started = Started { address: *address, admin_address: *admin_address, registry: registry.clone() };
    let _ = report.send(Ok(started));
    tokio::select! {
        _ = stopped => {}
        () = running.maintain() => {}
    }
    running.drain().await;
}

async fn open_store(config: &Config, clock: &Clock) -> Result<(Database, DiskStore)> {
    let settings =
        DatabaseSettings { page_cache: config.store.page_cache, free_reserve: config.store.free_reserve };
    let deadline = tokio::time::Instant::now() + STORE_WAIT;
    let opened = loop {
        let path = config.store.path.clone();
        let open =
            move || StoreDirectory::open(&path).and_then(|directory| Database::open(directory, &settings));
        match tokio::task::spawn_blocking(open).await? {
            Err(OpenError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(STORE_POLL).await;
            }
            opened => break opened.context("store.path")?,
        }
    };
    if let Some(path) = &opened.moved_aside {
        tracing::error!(moved_to = %path.display(), "the store was unreadable and was moved aside; starting empty");
    }
    let store = DiskStore::open(opened.database.clone(), config.store.clone(), clock.clone()).await?;
    Ok((opened.database, store))
}

fn handler(config: &Config, clock: &Clock, registry: &Registry, shared: &Shared<'_>) -> Result<Handler> {
    // Innermost first. The connection; the judgement of its host, which knows the dead; a permit, held while the body streams and measured with the wait for it; the
    // whole of a document, so that one that breaks is a failed try; a bar before dead hosts; and repeats around all of that, because each
    // try is a request of its own to the service: it is counted, stands in the queue and holds no permit while
    // the next one is waited for.
    let retries = Retries::new(registry)?;
    let http = Http::new(&config.upstream).context("upstream")?.counting(retries.clone());
    let breaks = Breaks::new(&config.upstream, &config.outage, registry)?;
    let judged = Breaking::new(http, breaks.clone());
    let tried = Metered::new(Throttled::new(judged, Arc::clone(shared.throttle), clock.clone()), registry)?;
    let whole = Barred::new(Whole::new(tried, &config.upstream), breaks.clone());
    let upstream = Retrying::new(whole, config.retry, clock.clone(), retries);
    let templates = [config.upstream.pkgs.to_string(), config.upstream.feeds.to_string()];
    let mut hosts = ServiceHosts::new(&templates).context("upstream")?;
    for server in &config.upstream.servers {
        hosts = hosts.with_collection(&server.url.to_string(), &server.collection).context("server")?;
    }
    Ok(Handler::new(Parts {
        throttle: Throttle::clone(shared.throttle),
        service: Azure::new(Arc::new(upstream), &config.upstream, clock.clone(), Resumes::new(registry)?),
        hosts: Arc::new(hosts),
        documents: DocumentCache::new(
            shared.database,
            Arc::new(shared.store.clone()),
            config.metadata.memory,
        ),
        missing: NegativeCache::new(config.metadata.negative_ttl),
        packages: PackageIndex::new(shared.database),
        identities: Identities::new(shared.database, config.access.identity_ttl, config.access.denied_ttl),
        generations: Generations::new(shared.database),
        changes: Following::new(&config.changes, shared.database, registry)?,
        blobs: Arc::new(shared.store.clone()),
        access: Access::new(shared.database, config.access.clone()),
        metadata: config.metadata.clone(),
        outage: config.outage.clone(),
        breaks,
        modes: Modes::new(&config.outage, &config.feeds, registry)?,
        advisories: advisories(config)?,
        audit: config.audit.clone(),
        max_document: config.upstream.max_document_size,
        clock: clock.clone(),
        metrics: HandlerMetrics::new(registry)?,
    }))
}

fn advisories(config: &Config) -> Result<Option<Advisories>> {
    let registry = config.audit.upstream.as_ref().map(|url| Advisories::new(&config.upstream, url));
    registry.transpose().context("audit.upstream")
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        ca_file: config.upstream.ca_file.as_ref().map(|path| path.display().to_string()),
        upstream_keepalive_pool_size: config.upstream.keepalive_connections,
        ..ServerConf::default()
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Hands a bound socket to a Pingora service, as its own hand-over at an upgrade does.
fn serve<A: ServerApp + Send + Sync + 'static>(
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

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.thread_name("feedgate-io").enable_all().build().context("runtime")
}
