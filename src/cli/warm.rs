//! `feedgate warm`: has the gate fetch all that builds need, before they or an outage come.

use std::process::ExitCode;

use serde_json::json;

use super::{
    Context,
    closure::{Closure, Credential, text, with_foreign},
};

/// Fetch what builds need ahead of time; exit code 1 when something is missing or not what the lockfile says.
#[derive(Debug, clap::Args)]
#[command(mut_arg("lockfiles", |arg| arg.required(true)))]
pub(super) struct Warm {
    #[command(flatten)]
    closure: Closure,
    #[command(flatten)]
    credential: Credential,
}

// === impl Warm ===

impl Warm {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let needs = self.closure.read()?;
        let body = json!({ "authorization": self.credential.read(context)?, "needs": needs.to_json() });
        let report = context.client().await?.job("/admin/v1/warm", &body, context.output).await?;
        let report = with_foreign(report, &needs.foreign);
        context.output.show(&report, |report| text(report, &needs.foreign))?;
        Ok(if report["good"] == report["needed"] { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
