//! `feedgate check`: whether the configuration holds, and what is in force.

use std::process::ExitCode;

use super::Context;

/// Check the configuration and print what is in force.
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

// === impl Check ===

impl Check {
    #[expect(clippy::unused_self, reason = "every command is run in the same way")]
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let loaded = context.load()?;
        context.output.show(&loaded.settings.to_json(), |_| loaded.settings.to_toml())?;
        Ok(ExitCode::SUCCESS)
    }
}
