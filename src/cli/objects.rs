//! `feedgate ls` and `feedgate purge`: what is stored, and away with it.

use std::process::ExitCode;

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Context, PROTOCOLS, checked,
    table::{Table, cell, printable, size, span},
};
use crate::{
    config::changes::FeedName,
    ident::{Selector, StorageId},
};

/// Which objects are meant; all that is given must hold.
#[derive(Debug, clap::Args)]
struct Filter {
    /// A name such as left-pad, @scope/* or Contoso.*; versions of it as in left-pad@<1.3.0.
    #[arg(value_parser = checked::<Selector>)]
    package: Option<String>,
    /// The feed, as organisation/feed or organisation/project/feed, by names or GUIDs.
    #[arg(long, value_parser = checked::<FeedName>)]
    feed: Option<String>,
    /// Packages of npm, or of NuGet.
    #[arg(long, value_parser = PROTOCOLS)]
    protocol: Option<String>,
    /// The content, by its storage id.
    #[arg(long, value_name = "ID", value_parser = checked::<StorageId>)]
    storage_id: Option<String>,
    /// Objects that are listed at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
}

/// List what is stored.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    #[command(flatten)]
    filter: Filter,
}

/// Drop what is stored, so that it is fetched anew; responses of mounts stay.
#[derive(Debug, clap::Args)]
#[command(mut_arg("package", |arg| arg.required_unless_present_any(["feed", "protocol", "storage_id"])))]
pub(super) struct Purge {
    #[command(flatten)]
    filter: Filter,
    /// Only tell what would be dropped.
    #[arg(long)]
    dry_run: bool,
}

// === impl Filter ===

impl Filter {
    fn to_json(&self) -> Map<String, Value> {
        let given = [
            ("package", &self.package),
            ("feed", &self.feed),
            ("protocol", &self.protocol),
            ("storage_id", &self.storage_id),
        ];
        let given =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        given.chain([("limit".to_owned(), json!(self.limit))]).collect()
    }
}

// === impl Ls ===

impl Ls {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let query = serde_urlencoded::to_string(pairs(&self.filter.to_json()))?;
        let found = context.client().await?.get(&format!("/admin/v1/objects?{query}")).await?;
        context.output.show(&found, |found| listed(found, "nothing is stored of that\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Purge ===

impl Purge {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut order = self.filter.to_json();
        order.insert("dry_run".to_owned(), json!(self.dry_run));
        let client = context.client().await?;
        let purged = client.send(Method::POST, "/admin/v1/purge", &Value::Object(order)).await?;
        context.output.show(&purged, told)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn pairs(map: &Map<String, Value>) -> Vec<(&String, String)> {
    map.iter().map(|(name, value)| (name, cell(value))).collect()
}

fn told(purged: &Value) -> String {
    let verb = if purged["dry_run"] == true { "would drop" } else { "dropped" };
    let shared = match purged["shared_blobs"].as_u64() {
        Some(shared @ 1..) => format!("; {shared} blobs stay, others name them"),
        Some(0) | None => String::new(),
    };
    format!(
        "{}{verb} {} packages and {} documents, {} blobs, {}{shared}\n",
        listed(purged, ""),
        purged["packages"],
        purged["documents"],
        purged["blobs"],
        size(&purged["bytes"]),
    )
}

/// Objects, a line for each.
pub(super) fn listed(found: &Value, nothing: &str) -> String {
    let mut table = Table::new(&["kind", "size", "age", "pinned", "storage id", "key"], &[1, 2]);
    for object in found["objects"].as_array().into_iter().flatten() {
        let (size, age) = (size(&object["bytes"]), span(&object["age"]));
        let pinned = if object["pinned"] == true { "yes" } else { "-" }.to_owned();
        let [kind, id, key] = ["kind", "storage_id", "key"].map(|name| cell(&object[name]));
        table.row([kind, size, age, pinned, id, key]);
    }
    if table.is_empty() {
        return printable(nothing.trim_end()) + if nothing.is_empty() { "" } else { "\n" };
    }
    let more = if found["more"] == true { "… and more: --limit\n" } else { "" };
    table.text() + more
}
