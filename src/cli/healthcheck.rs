//! `feedgate healthcheck`: exit code 0 when the gate takes requests, for containers without a shell.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use serde_json::json;

use super::Context;

/// Ask whether the gate takes requests; for probes.
#[derive(Debug, clap::Args)]
pub(super) struct Healthcheck {
    /// Longest wait for the answer, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

// === impl Healthcheck ===

impl Healthcheck {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let client = context.client().await?;
        let asked = tokio::time::timeout(Duration::from_secs(self.timeout), client.text("/readyz")).await;
        let Ok(answer) = asked else { bail!("no answer within {} s", self.timeout) };
        let (status, text) = answer?;
        let ready = status.is_success();
        context.output.show(&json!({ "ready": ready, "status": text.trim() }), |_| text.clone())?;
        Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
