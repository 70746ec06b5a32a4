//! `feedgate config`, `feedgate reload` and `feedgate drain`: the running gate's configuration, and its end.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Context, client::Client, table::cell};
use crate::config::Settings;

/// How often it is looked whether the gate is gone.
const POLL: Duration = Duration::from_millis(100);
/// How much longer than its drain a gate may take to end: it closes its store.
const CLOSING: Duration = Duration::from_secs(30);

/// Show the configuration of the running gate.
#[derive(Debug, clap::Args)]
pub(super) struct Config {}

/// Have the gate read its configuration again, as on SIGHUP.
#[derive(Debug, clap::Args)]
pub(super) struct Reload {}

/// Have the gate answer what was asked and end, as on SIGTERM; done once it has ended.
#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
}

// === impl Config ===

impl Config {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let shown = context.client().await?.get("/admin/v1/config").await?;
        context.output.show(&shown, configuration)?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Reload ===

impl Reload {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let client = context.client().await?;
        let told = client.send(Method::POST, "/admin/v1/reload", &json!({})).await?;
        context.output.show(&told, reloaded)?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Drain ===

impl Drain {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let client = context.client().await?;
        let told = client.send(Method::POST, "/admin/v1/drain", &json!({})).await?;
        let seconds = told["seconds"].as_f64().context("the answer does not say how long it takes")?;
        if !self.no_wait {
            let limit = Duration::try_from_secs_f64(seconds)? + CLOSING;
            ensure!(
                is_gone_within(&client, limit).await,
                "the gate is still there after {} s",
                limit.as_secs()
            );
        }
        let text = if self.no_wait { "the gate drains\n" } else { "the gate has ended\n" };
        context.output.show(&told, |_| text.to_owned())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the gate ends in time. It said that it drains, so one that is ready at its address is another one.
async fn is_gone_within(client: &Client, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match client.text("/readyz").await {
            Ok((status, _)) if !status.is_success() => sleep(POLL).await,
            Ok(_) | Err(_) => return true,
        }
    }
    false
}

fn configuration(shown: &Value) -> String {
    let mut text = Settings::from_json(&shown["settings"]).to_toml();
    for one in shown["waiting"].as_array().into_iter().flatten() {
        let (key, value) = (cell(&one["key"]), &one["in_force"]);
        let value = if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# {key} takes effect at the next start; in force is {value}");
    }
    text
}

fn reloaded(told: &Value) -> String {
    let mut text = String::new();
    for (keys, what) in [("applied", "in force now"), ("waiting", "takes effect at the next start")] {
        for key in told[keys].as_array().into_iter().flatten() {
            let _ = writeln!(text, "{}: {what}", cell(key));
        }
    }
    if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{configuration, reloaded};

    #[test]
    fn what_waits_for_the_next_start_is_said() {
        let told = json!({ "applied": ["log.level"], "waiting": ["store.capacity"] });
        assert_eq!(
            reloaded(&told),
            "log.level: in force now\nstore.capacity: takes effect at the next start\n"
        );
        assert_eq!(reloaded(&json!({ "applied": [], "waiting": [] })), "nothing has changed\n");
        let shown = json!({
            "settings": { "store": { "capacity": "30GiB" }, "guard[0]": { "deny": ["a"] } },
            "waiting": [
                { "key": "store.capacity", "in_force": "20GiB", "configured": "30GiB" },
                { "key": "guard[0].deny", "in_force": null, "configured": ["a"] },
            ],
        });
        let text = configuration(&shown);
        assert!(text.starts_with("[store]\ncapacity = \"30GiB\"\n\n[[guard]]\ndeny = [\"a\"]\n"), "{text}");
        assert!(text.contains("# store.capacity takes effect at the next start; in force is \"20GiB\"\n"));
        assert!(text.ends_with("# guard[0].deny takes effect at the next start; in force is nothing\n"));
    }
}
