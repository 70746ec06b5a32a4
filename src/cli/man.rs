//! `feedgate man`: the manual page, as roff; every command has a section of its own.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::{Arguments, Context};

/// Print the manual page.
#[derive(Debug, clap::Args)]
pub(super) struct Man {}

// === impl Man ===

impl Man {
    #[expect(clippy::unused_self, reason = "every command is run in the same way")]
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command().flatten_help(true)).render(&mut page)?;
        context.output.print(&String::from_utf8(page)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
