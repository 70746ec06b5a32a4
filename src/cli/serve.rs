//! `feedgate serve`: the gate in the foreground. SIGTERM and SIGINT drain it, SIGHUP has the configuration read again.

use std::{io::IsTerminal as _, process::ExitCode};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{
    Context,
    reload::{Reload, SetLevel},
};
use crate::{
    app::Gate,
    config::{Log, LogFormat, LogLevel},
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
        let loaded = context.load()?;
        let set_level = start_log(&loaded.config.log)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Before anybody can know that the gate is there.
        let signals = runtime.block_on(async { Signals::new() })?;
        let gate = Gate::start(loaded.config.clone())?;
        let mut reload = Reload::new(&loaded, &gate, set_level);
        runtime.block_on(signals.obey(|| reload.reload(context)));
        gate.stop();
        Ok(ExitCode::SUCCESS)
    }
}

/// What the system tells the gate.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

// === impl Signals ===

impl Signals {
    /// From now on they are noted, and end the process no more.
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Calls `reload` for each SIGHUP, until the gate is to stop.
    async fn obey(mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.hang_up.recv() => reload(),
                _ = self.terminate.recv() => return tracing::info!("SIGTERM: draining"),
                _ = self.interrupt.recv() => return tracing::info!("SIGINT: draining"),
            }
        }
    }
}

fn start_log(log: &Log) -> anyhow::Result<SetLevel> {
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log.level)?)
        .with_ansi(colours)
        .with_writer(std::io::stderr);
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
