//! The command line: `serve` and `check`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    app::Gate,
    config::{Config, ConfigError, Loaded, Log, LogFormat},
};

/// Exit code for a configuration that does not hold.
const BAD_CONFIG: u8 = 2;

/// Pingora logs every broken or missing connection as an error; each such request has its own line here.
const QUIET: &str = "pingora_proxy=off,pingora_core=warn,pingora_core::connectors=off";

/// A caching reverse proxy in front of Azure Artifacts for npm and NuGet build farms.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Configuration file (TOML). Without one, every key has its default.
    #[arg(long, short, global = true, env = "FEEDGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate until SIGTERM or SIGINT.
    Serve,
    /// Check the configuration and print what is in force.
    Check,
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = environment(std::env::vars_os());
    let loaded = match Config::load(arguments.config.as_deref(), &environment) {
        Ok(loaded) => loaded,
        Err(error) => return bad_config(&error),
    };
    let result = match arguments.command {
        Command::Serve => serve(loaded.config),
        Command::Check => check(&loaded),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("feedgate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The variables as text. One of another program's that is not UTF-8 must not stop the gate.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    variables.map(|(name, value)| (text(name), text(value))).collect()
}

fn serve(config: Config) -> anyhow::Result<()> {
    start_log(&config.log)?;
    let gate = Gate::start(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(stop_signal())?;
    gate.stop();
    Ok(())
}

fn check(loaded: &Loaded) -> anyhow::Result<()> {
    std::io::stdout().write_all(loaded.to_toml().as_bytes()).context("standard output")
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

fn bad_config(error: &ConfigError) -> ExitCode {
    complain("feedgate: the configuration does not hold:");
    for line in error.to_string().lines() {
        complain(&format!("  {line}"));
    }
    ExitCode::from(BAD_CONFIG)
}

/// Nothing is left to be done when even standard error is gone.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    use super::environment;

    #[test]
    fn a_variable_that_is_not_text_stops_nothing() {
        let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
        let variables = [(odd(b"ODD\xff"), odd(b"\xfe")), (odd(b"FEEDGATE_LOG__LEVEL"), odd(b"debug"))];
        let read = environment(variables.into_iter());
        assert_eq!((read.len(), read["FEEDGATE_LOG__LEVEL"].as_str()), (2, "debug"));
    }
}
