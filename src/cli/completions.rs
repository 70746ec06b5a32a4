//! `feedgate completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, Context};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Which shell.
    shell: Shell,
}

// === impl Completions ===

impl Completions {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "feedgate", &mut script);
        context.output.print(&String::from_utf8(script)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
