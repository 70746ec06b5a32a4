//! SIGUSR2: another program takes the place of this one, in the same process and on the same listening sockets.
//!
//! ```text
//!  old ── feedgate check ──▶ drain ──▶ store closed ──▶ exec ──▶ new: store opened ──▶ accepts
//!            │ fails            clients' new connections wait in the system         │ fails
//!            ▼                                                                      ▼
//!        old goes on                                                exec of the old program again
//! ```
//!
//! sled admits one process at a time, so two gates cannot overlap; in one process there is nothing that could be lost
//! between them, its id stays for whoever supervises it, and nothing has to be told apart from a usual start.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Context, log_queue::LogQueue};
use crate::app::{Inheritance, Sockets};

/// This program, even if its file has been replaced.
const SELF: &str = "/proc/self/exe";
/// How long the new program may take to check the configuration.
const CHECK: Duration = Duration::from_secs(20);

/// Asks the program that would take over whether it can run and takes the configuration.
pub(super) async fn check(context: &Context) -> Result<()> {
    let program = invoked();
    let mut command = tokio::process::Command::new(&program);
    command.arg("check").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    if let Some(file) = &context.global.config {
        command.arg("--config").arg(file);
    }
    let shown = program.display();
    let run = tokio::time::timeout(CHECK, command.output()).await;
    let output = run.with_context(|| format!("{shown} check takes longer than {CHECK:?}"))?;
    let output = output.with_context(|| format!("{shown} cannot be run"))?;
    if !output.status.success() {
        bail!("{shown} check: {}; {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs the program that is there now in this one's place, or else this one again. Returns only if neither can be run.
pub(super) fn replace(sockets: Sockets, log: &LogQueue) -> Result<std::convert::Infallible> {
    let again = sockets.try_clone()?;
    let former = File::open(SELF)
        .map_err(|error| tracing::warn!(%error, "there will be no way back to this program"))
        .ok();
    let error = run(Inheritance { sockets, former }.command(invoked()), log);
    tracing::error!(error = format!("{error:#}"), "the new program does not run; starting this one again");
    Err(run(Inheritance { sockets: again, former: None }.command(SELF), log))
}

/// Runs the program before this one again, if there is one. Returns only if that fails.
pub(super) fn go_back(inheritance: Inheritance, log: &LogQueue) -> Option<anyhow::Error> {
    inheritance.former_command().map(|command| run(command, log))
}

fn run(command: Result<Command>, log: &LogQueue) -> anyhow::Error {
    match command {
        Ok(mut command) => {
            command.arg0(invoked()).args(std::env::args_os().skip(1));
            // What waits in this program's memory is gone after that.
            log.flush();
            anyhow!(command.exec()).context(command.get_program().display().to_string())
        }
        Err(error) => error,
    }
}

/// What this program was called: a file that may be another one by now.
fn invoked() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| SELF.into())
}
