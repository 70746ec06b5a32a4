//! The command line: `serve` runs a gate, the other commands ask a running one over its admin API.
//!
//! One file for each command. A command that asks a gate finds it by `--admin`, or else by the `[admin]` section of the
//! configuration, as the gate itself does. Results go to standard output, as text for people or with `--json` for
//! programs; everything else goes to standard error, an error with `--json` as JSON. Exit codes: 0 done, 1 not done or
//! not as it should be, 2 a wrong command line or configuration.

mod check;
pub mod client;
mod closure;
mod completions;
mod control;
mod drill;
mod explain;
mod export;
mod healthcheck;
mod import;
mod level;
mod log;
mod log_queue;
mod man;
mod mode;
mod objects;
pub mod output;
mod pin;
mod progress;
mod refresh;
mod reload;
mod serve;
mod stats;
mod steering;
mod table;
mod token;
mod upgrade;
mod verify;
mod warm;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::ExitCode, str::FromStr};

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::config::{Config, ConfigError, Loaded};
use client::{AdminAddress, Client, Refused};
use output::Output;

/// Exit code for a command line or a configuration that does not hold.
const MISUSED: u8 = 2;
/// How arguments name the protocols.
const PROTOCOLS: [&str; 2] = ["npm", "nuget"];
/// The variable that holds the token of a gate that is named by `--admin`.
const TOKEN_VARIABLE: &str = "FEEDGATE_ADMIN_TOKEN";

/// A caching reverse proxy in front of Azure Artifacts for npm and NuGet build farms.
#[derive(Debug, Parser)]
#[command(name = "feedgate", version, about)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
struct Global {
    /// Configuration file (TOML). Without one, every key has its default.
    #[arg(long, short, global = true, env = "FEEDGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The running gate: http://HOST:PORT or unix:PATH. Without it, the `[admin]` section of the configuration tells.
    #[arg(long, global = true, env = "FEEDGATE_ADMIN", value_name = "URL")]
    admin: Option<AdminAddress>,
    /// File with the gate's admin token; or the token itself in the variable `FEEDGATE_ADMIN_TOKEN`.
    #[arg(long, global = true, env = "FEEDGATE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate until SIGTERM or SIGINT.
    Serve(serve::Serve),
    /// Check the configuration and print what is in force.
    Check(check::Check),
    /// Show the configuration of the running gate.
    Config(control::Config),
    /// Have the gate read its configuration again, as on SIGHUP.
    Reload(control::Reload),
    /// Have the gate answer what was asked and end, as on SIGTERM; done once it has ended.
    Drain(control::Drain),
    /// Show the level of the log, or switch it for a time.
    Log(log::Log),
    /// Show or switch the modes of feeds.
    Mode(mode::Mode),
    /// Make, list and revoke gate tokens.
    Token(token::Token),
    /// Show how the gate does.
    Stats(stats::Stats),
    /// Show how the gate does, again and again until Ctrl-C.
    Top(stats::Top),
    /// List what is stored.
    Ls(objects::Ls),
    /// Drop what is stored, so that it is fetched anew.
    Purge(objects::Purge),
    /// Keep what is stored of packages whatever else comes and goes, or list what is kept.
    Pin(pin::Pin),
    /// Keep something no longer.
    Unpin(pin::Unpin),
    /// Ask the service anew for documents that are stored.
    Refresh(refresh::Refresh),
    /// Show which hosts of the service are dead, or take them for alive again.
    Breakers(steering::Breakers),
    /// Show what may be sent to the service now, and who waits.
    Throttle(steering::Throttle),
    /// Drop verdicts on who may read, so that the service is asked again.
    Verdicts(steering::Verdicts),
    /// Read the whole store again and check every byte of it.
    Verify(verify::Verify),
    /// Fetch what builds need ahead of time.
    Warm(warm::Warm),
    /// Tell whether builds would go through if the service were down.
    Drill(drill::Drill),
    /// Tell what the gate would do with a request now, and why.
    Explain(explain::Explain),
    /// Write an archive of what is stored.
    Export(export::Export),
    /// Take over an archive of another gate.
    Import(import::Import),
    /// Ask whether the gate takes requests; for probes.
    Healthcheck(healthcheck::Healthcheck),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Print the manual page.
    Man(man::Man),
}

/// What commands work with.
pub struct Context {
    global: Global,
    environment: BTreeMap<String, String>,
    /// Where results go.
    pub output: Output,
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let Arguments { global, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    let output = Output::new(global.json);
    let context = Context { global, environment: environment(std::env::vars_os()), output };
    match command.run(&context) {
        Ok(code) => code,
        Err(error) => failed(&error, output),
    }
}

// === impl Command ===

impl Command {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(command) => command.run(context),
            Self::Check(command) => command.run(context),
            Self::Completions(command) => command.run(context),
            Self::Man(command) => command.run(context),
            Self::Token(command) => command.run(context),
            Self::Config(command) => asking(command.run(context)),
            Self::Reload(command) => asking(command.run(context)),
            Self::Drain(command) => asking(command.run(context)),
            Self::Log(command) => asking(command.run(context)),
            Self::Mode(command) => asking(command.run(context)),
            Self::Stats(command) => asking(command.run(context)),
            Self::Top(command) => asking(command.run(context)),
            Self::Ls(command) => asking(command.run(context)),
            Self::Purge(command) => asking(command.run(context)),
            Self::Pin(command) => asking(command.run(context)),
            Self::Unpin(command) => asking(command.run(context)),
            Self::Refresh(command) => asking(command.run(context)),
            Self::Breakers(command) => asking(command.run(context)),
            Self::Throttle(command) => asking(command.run(context)),
            Self::Verdicts(command) => asking(command.run(context)),
            Self::Verify(command) => asking(command.run(context)),
            Self::Warm(command) => asking(command.run(context)),
            Self::Drill(command) => asking(command.run(context)),
            Self::Explain(command) => asking(command.run(context)),
            Self::Export(command) => asking(command.run(context)),
            Self::Import(command) => asking(command.run(context)),
            Self::Healthcheck(command) => asking(command.run(context)),
        }
    }
}

/// Runs a command that asks a gate, on this thread.
fn asking(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

// === impl Context ===

impl Context {
    /// The configuration.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(self.global.config.as_deref(), &self.environment)
    }

    /// An environment variable; one that is empty is not set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A client of the gate that is meant.
    ///
    /// # Errors
    /// When the configuration does not hold, or no token can be read.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let given = match &self.global.admin_token_file {
            Some(file) => Some(crate::config::Credential::File(file.clone()).read().await?),
            None => {
                self.environment.get(TOKEN_VARIABLE).map(|token| crate::redact::Secret::new(token.clone()))
            }
        };
        if let Some(address) = &self.global.admin {
            return Ok(Client::new(address.clone(), given));
        }
        let admin = self.load()?.config.admin;
        let token = match (given, &admin.token) {
            (None, Some(credential)) => Some(credential.read().await?),
            (given, _) => given,
        };
        Ok(Client::new(AdminAddress::from(&admin), token))
    }
}

/// The variables as text. One of another program's that is not UTF-8 must not stop the gate.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    variables.map(|(name, value)| (text(name), text(value))).collect()
}

/// Checks an argument as the gate will, and keeps it as it is written.
fn checked<T: FromStr>(text: &str) -> Result<String, T::Err> {
    text.parse::<T>().map(|_| text.to_owned())
}

/// Tells what is wrong with the command line, or what was asked of it: help, or the version.
fn misused(error: &clap::Error) -> ExitCode {
    let for_programs = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && for_programs {
        Output::new(true).complain(&json!({ "error": error.to_string().trim_end() }), "");
    } else {
        // Nothing is left to be done when nobody takes it.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(MISUSED) } else { ExitCode::SUCCESS }
}

fn failed(error: &anyhow::Error, output: Output) -> ExitCode {
    if let Some(error) = error.downcast_ref() {
        return bad_config(error, output);
    }
    if let Some(error) = error.downcast_ref() {
        return misused(error);
    }
    let mut value = json!({ "error": format!("{error:#}") });
    if let Some(Refused { status, code, .. }) = error.downcast_ref() {
        value["status"] = status.as_u16().into();
        value["code"] = code.as_str().into();
    }
    output.complain(&value, &format!("feedgate: {error:#}"));
    ExitCode::FAILURE
}

fn bad_config(error: &ConfigError, output: Output) -> ExitCode {
    let told = "the configuration does not hold";
    let mistakes = error.to_string();
    let mistakes: Vec<_> = mistakes.lines().collect();
    output.complain(
        &json!({ "error": told, "mistakes": mistakes }),
        &format!("feedgate: {told}:\n  {}", mistakes.join("\n  ")),
    );
    ExitCode::from(MISUSED)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    use clap::CommandFactory as _;

    use super::{Arguments, environment};

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_variable_that_is_not_text_stops_nothing() {
        let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
        let variables = [(odd(b"ODD\xff"), odd(b"\xfe")), (odd(b"FEEDGATE_LOG__LEVEL"), odd(b"debug"))];
        let read = environment(variables.into_iter());
        assert_eq!((read.len(), read["FEEDGATE_LOG__LEVEL"].as_str()), (2, "debug"));
    }
}
