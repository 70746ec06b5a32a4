//! `feedgate breakers`, `throttle` and `verdicts`: what the gate thinks of the service and of callers, and how to overrule
//! it.

use std::process::ExitCode;

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};

use super::{
    Context, checked,
    table::{Table, cell},
};
use crate::config::changes::FeedName;

/// Show which hosts of the service are dead, or take them for alive again.
#[derive(Debug, clap::Args)]
pub(super) struct Breakers {
    #[command(subcommand)]
    action: Option<BreakersAction>,
}

#[derive(Debug, clap::Subcommand)]
enum BreakersAction {
    /// Take a host for alive again; without one, all.
    Reset {
        /// The host as `feedgate breakers` shows it.
        host: Option<String>,
    },
}

/// Show what may be sent to the service now, and who waits.
#[derive(Debug, clap::Args)]
pub(super) struct Throttle {}

/// Drop verdicts on who may read, so that the service is asked again.
#[derive(Debug, clap::Args)]
pub(super) struct Verdicts {
    #[command(subcommand)]
    action: VerdictsAction,
}

#[derive(Debug, clap::Subcommand)]
enum VerdictsAction {
    /// Drop those on a feed, on a caller, or on a caller in a feed.
    Drop {
        /// The feed, as organisation/feed or organisation/project/feed.
        #[arg(long, required_unless_present = "caller", value_parser = checked::<FeedName>)]
        feed: Option<String>,
        /// The caller, as the access log shows it.
        #[arg(long)]
        caller: Option<String>,
    },
}

// === impl Breakers ===

impl Breakers {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let client = context.client().await?;
        let shown = match self.action {
            None => client.get("/admin/v1/breakers").await?,
            Some(BreakersAction::Reset { host }) => {
                if let Some(host) = &host {
                    // Before: what is reset is asked about no more, and not listed.
                    let known = client.get("/admin/v1/breakers").await?;
                    let mut known = known["hosts"].as_array().into_iter().flatten();
                    ensure!(
                        known.any(|one| one["host"] == host.as_str()),
                        "no host `{host}` was asked: `feedgate breakers` lists those that were"
                    );
                }
                client.send(Method::POST, "/admin/v1/breakers/reset", &json!({ "host": host })).await?
            }
        };
        context.output.show(&shown, |shown| hosts(&shown["hosts"]))?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Throttle ===

impl Throttle {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let shown = context.client().await?.get("/admin/v1/throttle").await?;
        context.output.show(&shown, limits)?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Verdicts ===

impl Verdicts {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let VerdictsAction::Drop { feed, caller } = self.action;
        let order = json!({ "feed": feed, "caller": caller });
        let dropped = context.client().await?.send(Method::POST, "/admin/v1/verdicts/drop", &order).await?;
        context.output.show(&dropped, |dropped| format!("{} verdicts dropped\n", dropped["dropped"]))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The breakers, a line for each host.
pub(super) fn hosts(hosts: &Value) -> String {
    let mut table = Table::new(&["host", "class", "state", "seconds left"], &[3]);
    for host in hosts.as_array().into_iter().flatten() {
        table.row(["host", "class", "state", "seconds_left"].map(|key| cell(&host[key])));
    }
    if table.is_empty() { "no host was asked yet\n".to_owned() } else { table.text() }
}

/// The throttle, a line for each class of hosts and budget.
pub(super) fn limits(throttle: &Value) -> String {
    let headings =
        ["hosts", "budget", "in flight", "limit", "per second", "remaining", "pause", "queued", "shed"];
    let mut table = Table::new(&headings, &[2, 3, 4, 5, 6, 7, 8]);
    for (class, figures) in throttle.as_object().into_iter().flatten() {
        let sum = |key: &str| {
            let counts = figures[key].as_object().into_iter().flatten();
            counts.filter_map(|(_, count)| count.as_u64()).sum::<u64>().to_string()
        };
        for (name, key) in [("gate", "gate"), ("identity", "tightest_identity")] {
            let budget = &figures[key];
            if budget.is_null() {
                continue;
            }
            let of_class = |text: String| if key == "gate" { text } else { String::new() };
            let own = ["in_flight", "in_flight_limit", "requests_per_second", "remaining", "pause_seconds"]
                .map(|key| cell(&budget[key]));
            let ends = [of_class(sum("queued")), of_class(sum("shed"))];
            table.row([class.clone(), name.to_owned()].into_iter().chain(own).chain(ends));
        }
    }
    table.text()
}
