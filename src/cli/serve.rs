//! `feedgate serve`: the gate in the foreground.

use std::{io::IsTerminal as _, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Context;
use crate::{
    app::Gate,
    config::{Log, LogFormat},
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
        let config = context.load()?.config;
        start_log(&config.log)?;
        let gate = Gate::start(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(stop_signal())?;
        gate.stop();
        Ok(ExitCode::SUCCESS)
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
}

fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", log.level))?;
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("log: {error}"))
}
