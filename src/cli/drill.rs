//! `feedgate drill`: whether builds would go through if the service were down now.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use http::Method;
use serde_json::json;

use super::{
    Context,
    closure::{Closure, Credential, text, with_foreign},
    progress::Progress,
};
use crate::config::units::parse_span;

/// Tell whether builds would go through if the service were down; exit code 1 when they would not.
#[derive(Debug, clap::Args)]
#[command(mut_arg("lockfiles", |arg| arg.required_unless_present("enforce")))]
pub(super) struct Drill {
    #[command(flatten)]
    closure: Closure,
    #[command(flatten)]
    credential: Credential,
    /// Answer this credential as if the service were down, from now on and for so long (`10m`, at most `4h`; `0s` ends it).
    #[arg(long, value_name = "TIME", requires = "credential_env", value_parser = parse_time)]
    enforce: Option<Duration>,
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).ok_or("must be a whole number with a unit, such as 30s, 10m or 1h")
}

// === impl Drill ===

impl Drill {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (client, authorization) = (context.client().await?, self.credential.read(context)?);
        if let Some(time) = self.enforce {
            let body = json!({ "authorization": authorization, "seconds": time.as_secs() });
            let enforced = client.send(Method::POST, "/admin/v1/drill/enforce", &body).await?;
            if self.closure.lockfiles.is_empty() {
                let caller = enforced["caller"].as_str().context("the answer names no caller")?;
                let told =
                    format!("caller {caller}: as if the service were down, for {} s\n", time.as_secs());
                context.output.show(&enforced, |_| told)?;
                return Ok(ExitCode::SUCCESS);
            }
        }
        let needs = self.closure.read()?;
        let body = json!({ "authorization": authorization, "needs": needs.to_json() });
        let report = {
            let _shown = Progress::waiting(context.output, "asking for everything");
            client.send(Method::POST, "/admin/v1/drill", &body).await?
        };
        let report = with_foreign(report, &needs.foreign);
        context.output.show(&report, |report| text(report, &needs.foreign))?;
        Ok(if report["good"] == report["needed"] { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
