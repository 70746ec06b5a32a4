//! A gate at work: its parts from the start to the end of the drain.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::{Context as _, Result};
use prometheus::{IntCounter, Registry};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, interval, timeout_at},
};

use super::{
    Reloads, Sockets,
    assembly::{Shared, handlers, open_store},
    doors::Doors,
    listening::{AdminSockets, Listening, serve, serve_socket},
    traces::Traces,
};
use crate::{
    access::CallerKey,
    admin::{Admin, Answering, Control, Figures, Guard, History, Jobs, Load, Readiness, Server},
    blob::DiskStore,
    clock::Clock,
    config::{Config, Credential, StoreSettings},
    disk::{Database, off_thread},
    handler::{Archives, Errands, Explainer, Handler, Modes, Mounts, Pinning},
    lanes::Lanes,
    proxy::{AccessLog, Edge, EdgeMetrics, Forwarder, Intake, Outflow, Uploads},
    route::{Collections, MountPaths},
    throttle::{Limits, Throttle},
    upstream::Dialer,
};

/// How often the store writes down last uses and evicts.
const MAINTENANCE: Duration = Duration::from_secs(2);
/// How often verdicts whose grace is over are removed: credentials that change every hour leave many.
const PRUNING: Duration = Duration::from_secs(3600);

/// How long an operator's answer may take to be sent once the gate is done.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a gate begins with.
pub(super) struct Beginning {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) sockets: Sockets,
    pub(super) control: Control,
    pub(super) lanes: Lanes,
}

/// What the gate's thread reports once it takes requests.
pub(super) struct Started {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin_address: SocketAddr,
    pub(super) registry: Registry,
    pub(super) modes: Modes,
    pub(super) reloads: Reloads,
    pub(super) lost_lines: IntCounter,
    pub(super) sockets: Sockets,
}

/// The parts that outlive a request.
struct Running {
    store: DiskStore,
    database: Database,
    handler: Handler,
    /// What follows the changes of feeds, keeps credentials, and the scrub.
    polls: JoinSet<()>,
    metrics: EdgeMetrics,
    readiness: Readiness,
    /// The clients' listeners.
    gate: Vec<Listening>,
    admin: Operators,
    jobs: Jobs,
    traces: Traces,
    drain_timeout: Duration,
    clock: Clock,
}

/// The operators' side.
struct Operators {
    /// The admin API's address, and its socket if there is one.
    listeners: Vec<Listening>,
    answering: Answering,
}

// === impl Running ===

impl Running {
    async fn start(beginning: Beginning) -> Result<(Self, Started)> {
        let Beginning { config, clock, mut sockets, control, lanes } = beginning;
        let registry = Registry::new();
        let (doors, admin_sockets) = bind(&config, &registry, &mut sockets, &lanes)?;
        let (database, store) = open_store(&config, &clock).await?;
        let (throttle, key) = (throttle(&config, &registry)?, caller_key(&config)?);
        let (spans, traces) = Traces::start(&config, &clock, &registry)?;
        let shared =
            Shared { database: &database, store: &store, throttle: &throttle, key: &key, spans: &spans };
        let (handler, mounts) = handlers(&config, &clock, &registry, &shared)?;
        let (metrics, lost_lines) = (EdgeMetrics::new(&registry)?, lost_lines(&registry)?);
        let intake = intake(&config, &clock, &key, mounts.paths().clone());
        let (errands, archives, explainer) = stand_ins(&config, &handler, &intake, &registry)?;
        let pinning = Pinning::open(handler.clone(), store.clone(), Arc::clone(&intake.collections)).await?;
        let edge = Edge {
            intake: Arc::new(intake),
            handler: handler.clone(),
            mounts: mounts.clone(),
            forwarder: Forwarder { dialer: Dialer::new(&config.upstream), throttle, clock: clock.clone() },
            metrics: metrics.clone(),
            outflow: Outflow::default(),
            uploads: Uploads::default(),
            access_log: Arc::new(AccessLog::new(config.log.hits_per_line)),
            spans,
        };
        let (addresses, admin_address) = (doors.addresses()?, admin_sockets.listener.local_addr()?);
        let admin = Admin {
            registry: registry.clone(),
            figures: Arc::new(Figures::new(&registry, store.clone(), handler.clone())?),
            readiness: Readiness::default(),
            handler: handler.clone(),
            store: store.clone(),
            key,
            jobs: Jobs::default(),
            errands,
            archives,
            pinning,
            history: History::default(),
            explainer,
            control,
        };
        let (readiness, polls) = (admin.readiness.clone(), background(&admin, &mounts, &config.store));
        let (modes, reloads) = (handler.parts().modes.clone(), Reloads::new(&registry, clock.now())?);
        let started = Started { addresses, admin_address, registry, modes, reloads, lost_lines, sockets };
        let running = Self {
            store,
            database,
            handler,
            polls,
            metrics,
            readiness,
            gate: doors.open(edge, &config)?,
            admin: serve_admin(&admin, config.admin.token, admin_sockets)?,
            jobs: admin.jobs.clone(),
            traces,
            drain_timeout: config.listen.drain_timeout,
            clock,
        };
        Ok((running, started))
    }

    /// Learns what there is in the store. Others do not notice: it is behind them.
    async fn look_around(&self) {
        if let Err(error) = self.store.take_stock().await {
            tracing::warn!(%error, "stock of the store was not taken; its figures may be wrong");
        }
        let database = self.database.clone();
        let surveyed = off_thread("survey", move || database.survey()).await;
        if let Err(error) = surveyed.and_then(|surveyed| surveyed) {
            tracing::warn!(%error, "keys of the database are not known; each is looked for");
        }
    }

    async fn maintain(&self, lanes: &Lanes) {
        lanes.behind(self.look_around()).await;
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
        let pruned = off_thread("prune verdicts", move || handler.parts().access.prune(now)).await;
        if let Ok(Err(error)) = pruned {
            tracing::warn!(%error, "verdicts not pruned");
        }
    }

    async fn drain(mut self) {
        self.readiness.set(false);
        let deadline = Instant::now() + self.drain_timeout;
        self.polls.shutdown().await;
        // Operators can watch until the end: their listener closes last.
        for listening in &self.gate {
            let _ = listening.shutdown.send(true);
        }
        let idle = async {
            for listening in &mut self.gate {
                // An error says that it panicked; it has ended all the same.
                let _ = (&mut listening.service).await;
            }
            while self.metrics.in_flight() > 0 || self.handler.arriving() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Clients are waited for; operators' jobs, which would go on asking for more, are not.
        let ((), idle) = tokio::join!(self.jobs.shut_down(), timeout_at(deadline, idle));
        if idle.is_err() {
            tracing::warn!(requests = self.metrics.in_flight(), "drain timeout: requests are cut off");
        }
        for listening in &self.gate {
            listening.service.abort();
        }
        for listening in &self.admin.listeners {
            let _ = listening.shutdown.send(true);
            listening.service.abort();
        }
        // Also to who ordered this. One that takes longer is cut off.
        let _ = tokio::time::timeout(LAST_WORDS, self.admin.answering.over()).await;
        let handler = self.handler.clone();
        let written = off_thread("write what is known", move || {
            handler.parts().access.settle();
            handler.parts().identities.settle();
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "what is known of callers and feeds is not on disk");
        }
        let ((), closed) = tokio::join!(self.traces.flush(deadline), self.store.close());
        if let Err(error) = closed {
            tracing::error!(%error, "the store was not closed cleanly");
        }
        drop(self.database);
        tracing::info!("stopped");
    }
}

/// Every socket that the gate listens on.
fn bind(
    config: &Config,
    registry: &Registry,
    sockets: &mut Sockets,
    lanes: &Lanes,
) -> Result<(Doors, AdminSockets)> {
    let doors = Doors::bind(config, registry, sockets, lanes)?;
    let admin = AdminSockets::bind(&config.admin, sockets)?;
    sockets.close_rest();
    Ok((doors, admin))
}

fn throttle(config: &Config, registry: &Registry) -> Result<Arc<Throttle>> {
    let throttle = Throttle::new(&Limits::from(&config.throttle));
    Load::register(registry, throttle.clone())?;
    Ok(Arc::new(throttle))
}

fn lost_lines(registry: &Registry) -> Result<IntCounter> {
    let help = "Lines of the log that were lost: whoever reads it took none, or too slowly.";
    let lost_lines = IntCounter::new("feedgate_log_lost_lines_total", help)?;
    registry.register(Box::new(lost_lines.clone()))?;
    Ok(lost_lines)
}

fn caller_key(config: &Config) -> Result<Arc<CallerKey>> {
    let key = CallerKey::load_or_create(&config.store.path).context("the key of the caller hash")?;
    Ok(Arc::new(key))
}

fn intake(config: &Config, clock: &Clock, key: &Arc<CallerKey>, mounts: MountPaths) -> Intake {
    let servers = config.upstream.servers.iter();
    let collections = Collections::new(servers.map(|server| (&server.collection, server.directory())));
    Intake {
        key: Arc::clone(key),
        collections: Arc::new(collections),
        mounts,
        public_url: config.listen.public_url.clone(),
        clock: clock.clone(),
        max_body: config.listen.max_body,
        limits: Arc::new(config.limits.clone()),
    }
}

/// What asks in a client's stead, and knows callers and collections as the edge does.
fn stand_ins(
    config: &Config,
    handler: &Handler,
    intake: &Intake,
    registry: &Registry,
) -> Result<(Errands, Archives, Explainer)> {
    let (key, collections) = (Arc::clone(&intake.key), Arc::clone(&intake.collections));
    let archives = Archives::new(handler.clone(), Arc::clone(&collections), config.store.path.clone());
    let explainer = Explainer::new(handler.clone(), Arc::clone(&key), Arc::clone(&collections));
    Ok((Errands::new(handler.clone(), key, collections, registry)?, archives, explainer))
}

/// What the gate does without being asked.
fn background(admin: &Admin, mounts: &Mounts, settings: &StoreSettings) -> JoinSet<()> {
    let Admin { handler, store, registry, history, .. } = admin;
    let mut tasks = handler.follow_changes();
    handler.keep_credentials(&mut tasks);
    mounts.keep_credentials(&mut tasks);
    tasks.spawn(history.clone().keep(registry.clone(), handler.parts().clock.clone()));
    tasks.spawn(admin.pinning.clone().keep());
    if settings.scrub > 0 {
        tasks.spawn(handler.clone().scrub(store.clone(), settings.scrub));
    }
    tasks
}

/// The admin API on its address and, without a token, on its socket.
fn serve_admin(admin: &Admin, token: Option<Credential>, sockets: AdminSockets) -> Result<Operators> {
    let answering = Answering::default();
    let router = Arc::new(admin.routes());
    let guard = token.map_or(Guard::Loopback, Guard::Token);
    let service = |guard| Server::service(Arc::clone(&router), guard, answering.clone());
    let mut listeners = vec![serve(service(guard), sockets.listener)?];
    if let Some(socket) = sockets.socket {
        listeners.push(serve_socket(service(Guard::Socket), socket));
    }
    Ok(Operators { listeners, answering })
}

/// Starts a gate, reports, and works until it is to stop.
pub(super) async fn run(
    beginning: Beginning,
    report: mpsc::Sender<Result<Started>>,
    stopped: oneshot::Receiver<()>,
) {
    let lanes = beginning.lanes.clone();
    let (running, started) = match Running::start(beginning).await {
        Ok(started) => started,
        Err(error) => {
            // The receiver waits for exactly this.
            let _ = report.send(Err(error));
            return;
        }
    };
    running.readiness.set(true);
    let Started { addresses, admin_address, .. } = &started;
    tracing::info!(address = %addresses[0], listeners = ?&addresses[1..], %admin_address, "listening");
    let _ = report.send(Ok(started));
    tokio::select! {
        _ = stopped => {}
        () = running.maintain(&lanes) => {}
    }
    running.drain().await;
}
