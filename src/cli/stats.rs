//! `feedgate stats` and `feedgate top`: how the gate does, once or over and over.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use serde_json::Value;

use super::{
    Context,
    client::Client,
    steering::{hosts, limits},
    table::{Table, cell, printable, size, span},
};
use crate::config::units;

const PATH: &str = "/admin/v1/stats";
/// Moves the cursor home and clears what is behind it (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show how the gate does.
#[derive(Debug, clap::Args)]
pub(super) struct Stats {}

/// Show how the gate does, again and again until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// Between two looks, such as 2s.
    #[arg(long, value_parser = interval, default_value = "2s", value_name = "TIME")]
    interval: Duration,
    /// Look once and end.
    #[arg(long)]
    once: bool,
}

// === impl Stats ===

impl Stats {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let stats = context.client().await?.get(PATH).await?;
        context.output.show(&stats, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Top ===

impl Top {
    /// With `--json`, a line for each look.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let client = context.client().await?;
        tokio::select! {
            looked = self.look(&client, context) => looked?,
            // Whoever ends it this way has seen enough.
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn look(&self, client: &Client, context: &Context) -> anyhow::Result<()> {
        loop {
            let stats = client.get(PATH).await?;
            let text = match (context.output.is_json(), self.once) {
                (true, _) => format!("{stats}\n"),
                (false, true) => text(&stats),
                (false, false) => format!("{CLEAR}{}", text(&stats)),
            };
            if !context.output.print_on(&text)? || self.once {
                return Ok(());
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let rule = "must be a duration from 100ms, such as 2s";
    units::parse_span(text).filter(|span| *span >= Duration::from_millis(100)).ok_or(rule)
}

fn text(stats: &Value) -> String {
    let (totals, store) = (&stats["totals"], &stats["store"]);
    let ratio = stats["hit_ratio"].as_f64().map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let ready = if stats["ready"] == true { "ready" } else { "draining" };
    let mut text =
        format!("feedgate {}, {ready}, mode {}\n\n", cell(&stats["version"]), cell(&stats["mode"]));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "hit ratio   {ratio} of {} requests", totals["requests"]);
    let saved = size(&totals["saved_bytes"]);
    let _ = writeln!(
        text,
        "saved       {saved} of {}, {} requests to the service",
        size(&totals["sent_bytes"]),
        totals["saved_requests"]
    );
    let _ = writeln!(
        text,
        "store       {} of {} on disk, {} blobs of {}, {} free",
        size(&store["disk_bytes"]),
        size(&store["capacity_bytes"]),
        store["blobs"],
        size(&store["payload_bytes"]),
        size(&store["free_bytes"]),
    );
    for one in list(&stats["feed_modes"]) {
        let _ = writeln!(text, "mode        {} for {}", cell(&one["mode"]), printable(&cell(&one["feed"])));
    }
    let _ = write!(text, "\n{}\n{}", limits(&stats["throttle"]), hosts(&stats["breakers"]));
    for table in [slowest(stats), largest(stats), refusals(stats)] {
        if !table.is_empty() {
            let _ = write!(text, "\n{}", table.text());
        }
    }
    text
}

fn slowest(stats: &Value) -> Table {
    let mut table = Table::new(&["slowest feeds", "requests", "mean", "longest"], &[1, 2, 3]);
    for feed in list(&stats["slowest_feeds"]) {
        let seconds = |key: &str| format!("{:.3} s", feed[key].as_f64().unwrap_or_default());
        table.row([
            cell(&feed["feed"]),
            cell(&feed["requests"]),
            seconds("mean_seconds"),
            seconds("longest_seconds"),
        ]);
    }
    table
}

fn largest(stats: &Value) -> Table {
    let mut table = Table::new(&["largest packages", "version", "size", "feed"], &[2]);
    for one in list(&stats["largest_packages"]) {
        let name = if one["package"].is_null() { &one["storage_id"] } else { &one["package"] };
        table.row([cell(name), cell(&one["version"]), size(&one["bytes"]), cell(&one["feed"])]);
    }
    table
}

fn refusals(stats: &Value) -> Table {
    let mut table = Table::new(&["recent refusals", "status", "code", "client", "age"], &[1, 4]);
    for one in list(&stats["refusals"]) {
        table.row([
            cell(&one["key"]),
            cell(&one["status"]),
            cell(&one["code"]),
            cell(&one["client"]),
            span(&one["age"]),
        ]);
    }
    table
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
