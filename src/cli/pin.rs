//! `feedgate pin` and `feedgate unpin`: what stays in the store whatever comes and goes.

use std::{fmt::Write as _, process::ExitCode};

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Context, PROTOCOLS, checked,
    closure::Closure,
    objects::listed,
    progress::Progress,
    table::{printable, size},
};
use crate::ident::Selector;

/// What is not stored that is printed; `--json` has all.
const PRINTED: usize = 50;

/// Arguments that say what is meant.
const WHAT: [&str; 5] = ["package", "lockfiles", "feed", "registry", "protocol"];

/// Keep what is stored of packages, or of what builds need, whatever else comes and goes; without anything: list what is
/// kept. Exit code 1 when something of a lockfile is not stored.
#[derive(Debug, clap::Args)]
pub(super) struct Pin {
    #[command(flatten)]
    which: Which,
}

/// Keep something no longer.
#[derive(Debug, clap::Args)]
pub(super) struct Unpin {
    #[command(flatten)]
    which: Which,
    /// Keep nothing any longer.
    #[arg(
        long,
        conflicts_with_all = WHAT,
        required_unless_present_any = WHAT
    )]
    all: bool,
}

/// What is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// A name such as left-pad, @scope/* or Contoso.*; versions of it as in left-pad@<1.3.0.
    #[arg(conflicts_with = "lockfiles", value_parser = checked::<Selector>)]
    package: Option<String>,
    /// Packages of npm, or of NuGet.
    #[arg(long, conflicts_with = "lockfiles", value_parser = PROTOCOLS)]
    protocol: Option<String>,
    #[command(flatten)]
    closure: Closure,
}

// === impl Pin ===

impl Pin {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (order, client) = (self.which.to_json()?, context.client().await?);
        if order.is_empty() {
            let pins = client.get("/admin/v1/pins").await?;
            context.output.show(&pins, |pins| listed(pins, "nothing is pinned\n") + &total(pins))?;
            return Ok(ExitCode::SUCCESS);
        }
        let told = {
            let _shown = Progress::waiting(context.output, "pinning");
            client.send(Method::POST, "/admin/v1/pin", &Value::Object(order)).await?
        };
        context.output.show(&told, pinned)?;
        let is_whole = told["missing"].as_array().is_none_or(Vec::is_empty);
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

// === impl Unpin ===

impl Unpin {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut order = self.which.to_json()?;
        if self.all {
            order.insert("all".to_owned(), json!(true));
        }
        let client = context.client().await?;
        let told = client.send(Method::POST, "/admin/v1/unpin", &Value::Object(order)).await?;
        context
            .output
            .show(&told, |told| format!("unpinned {} objects\n{}", told["objects"], total(told)))?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Which ===

impl Which {
    /// As the admin API takes it; empty when nothing is meant.
    fn to_json(&self) -> anyhow::Result<Map<String, Value>> {
        if !self.closure.lockfiles.is_empty() {
            let needs = self.closure.read()?.to_json();
            return Ok(Map::from_iter([("needs".to_owned(), needs)]));
        }
        let feed = self.closure.feed_name()?;
        let given = [("package", &self.package), ("protocol", &self.protocol), ("feed", &feed)];
        let given =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        Ok(given.collect())
    }
}

fn pinned(told: &Value) -> String {
    let missing = told["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = format!("pinned {} objects\n", told["objects"]);
    for label in missing.iter().filter_map(Value::as_str).take(PRINTED) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "not stored: {}", printable(label));
    }
    if missing.len() > PRINTED {
        let _ = writeln!(text, "and {} more, see --json", missing.len() - PRINTED);
    }
    text + &total(told)
}

fn total(told: &Value) -> String {
    let [bytes, disk, limit] = ["bytes", "disk_bytes", "limit_bytes"].map(|key| size(&told[key]));
    format!("pinned are {} blobs, {bytes}: {disk} on disk, of at most {limit}\n", told["blobs"])
}
