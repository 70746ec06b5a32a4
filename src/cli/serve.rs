//! `feedgate serve`: the gate in the foreground. SIGTERM and SIGINT drain it, SIGHUP has the configuration read again,
//! SIGUSR2 puts another program in its place. Operators order the same, but for the last, over the admin API.

use std::{io::IsTerminal as _, process::ExitCode};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{
    Context,
    level::{Level, SetLevel},
    log_queue::LogQueue,
    reload::{Reload, refusal},
    upgrade,
};
use crate::{
    admin::{Control, Order, Orders, Problem, Wanted},
    app::{Gate, Inheritance},
    clock::Clock,
    config::{Config, Log, LogFormat, LogLevel},
};

/// Pingora logs every broken or missing connection as an error; each such request has its own line here.
const QUIET: &str = "pingora_proxy=off,pingora_core=warn,pingora_core::connectors=off";

/// Run the gate until SIGTERM or SIGINT.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {}

// === impl Serve ===

impl Serve {
    #[expect(clippy::unused_self, reason = "every command is run in the same way")]
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Before anybody can know that the gate is there.
        let signals = runtime.block_on(async { Signals::new() })?;
        let loaded = context.load()?;
        let lines = LogQueue::start(std::io::stderr())?;
        let _written = Flushed(&lines);
        let level = Level::new(loaded.config.log.level, start_log(&loaded.config.log, lines.clone())?);
        let (control, orders) = Control::new();
        let gate = start(loaded.config.clone(), control, &lines)?;
        lines.count_losses(gate.lost_lines().clone());
        let mut running = Running { reload: Reload::new(loaded, &gate, level), orders, gate: &gate, context };
        match runtime.block_on(running.obey(signals)) {
            Next::Stop => {
                gate.stop();
                Ok(ExitCode::SUCCESS)
            }
            Next::Upgrade => match upgrade::replace(gate.hand_over(), &lines)? {},
        }
    }
}

/// Starts the gate on what was handed to this process; if that fails, the program that handed it over runs again.
fn start(config: Config, control: Control, lines: &LogQueue) -> anyhow::Result<Gate> {
    let Inheritance { sockets, former } = Inheritance::take()?;
    let way_back = Inheritance { sockets: sockets.try_clone()?, former };
    Gate::start_on(config, Clock::system(), sockets, control).map_err(|error| {
        if way_back.former.is_some() {
            tracing::error!(
                error = format!("{error:#}"),
                "no start; going back to the program before this one"
            );
        }
        upgrade::go_back(way_back, lines).unwrap_or(error)
    })
}

/// Writes the rest of the log when the program ends, in whatever way it does.
struct Flushed<'a>(&'a LogQueue);

impl Drop for Flushed<'_> {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// What comes after a gate.
enum Next {
    Stop,
    Upgrade,
}

/// What the system tells the gate.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

/// A gate that does as it is told.
struct Running<'a> {
    reload: Reload,
    orders: Orders,
    gate: &'a Gate,
    context: &'a Context,
}

// === impl Signals ===

impl Signals {
    /// From now on they are noted, and end the process no more.
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }
}

// === impl Running ===

impl Running<'_> {
    /// Does as signals and operators say, until the gate is to stop or another program can take its place.
    async fn obey(&mut self, mut signals: Signals) -> Next {
        loop {
            let who = tokio::select! {
                _ = signals.hang_up.recv() => {
                    // The log tells of it.
                    let _ = self.reload.reload(self.context);
                    continue;
                }
                () = self.reload.level.over() => {
                    if let Err(error) = self.reload.level.restore() {
                        tracing::error!(%error, "the log's level stays as it was");
                    }
                    continue;
                }
                _ = signals.user.recv() => match upgrade::check(self.context).await {
                    Ok(()) => {
                        tracing::info!("SIGUSR2: draining for another program");
                        return Next::Upgrade;
                    }
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "SIGUSR2: no upgrade; this program goes on");
                        continue;
                    }
                },
                Some(order) = self.orders.next() => {
                    if !self.follow(order) {
                        continue;
                    }
                    "an operator"
                }
                _ = signals.terminate.recv() => "SIGTERM",
                _ = signals.interrupt.recv() => "SIGINT",
            };
            tracing::info!("{who}: draining");
            return Next::Stop;
        }
    }

    /// Does as an operator says; whether that was all.
    fn follow(&mut self, order: Order) -> bool {
        match order.wanted {
            Wanted::Config => order.answer(Ok(self.reload.shown())),
            Wanted::Reload => {
                let reloaded = self.reload.reload(self.context);
                order.answer(reloaded.map(|told| told.to_json()).map_err(|error| refusal(&error)));
            }
            Wanted::Log => order.answer(Ok(self.reload.level.shown())),
            Wanted::Level(level) => {
                let switched = match level {
                    Some((level, time)) => self.reload.level.switch(level, time),
                    None => self.reload.level.restore(),
                };
                order.answer(match switched {
                    Ok(()) => Ok(self.reload.level.shown()),
                    Err(error) => Err(Problem::internal(&error)),
                });
            }
            Wanted::Drain => {
                let seconds = self.gate.drain_timeout().as_secs_f64();
                order.answer(Ok(json!({ "seconds": seconds })));
                return true;
            }
        }
        false
    }
}

fn start_log(log: &Log, lines: LogQueue) -> anyhow::Result<SetLevel> {
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log.level)?)
        .with_ansi(colours)
        // It would be told on standard error, where whoever reads the log may be gone.
        .log_internal_errors(false)
        .with_writer(lines);
    let (started, set_level): (_, SetLevel) = match log.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |level| Ok(handle.reload(filter(level)?)?)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |level| Ok(handle.reload(filter(level)?)?)))
        }
    };
    started.map_err(|error| anyhow::anyhow!("log: {error}"))?;
    Ok(set_level)
}

fn filter(level: LogLevel) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::try_new(format!("{level},{QUIET}"))?)
}
