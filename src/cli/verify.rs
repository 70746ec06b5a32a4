//! `feedgate verify`: reads the store again; exit code 1 when something was damaged and is not repaired.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    Context,
    table::{self, Table, cell},
};
use crate::config::units;

/// Read the whole store again and check every byte of it.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Verify nothing, but list the files and values that failed before and were put aside.
    #[arg(long, conflicts_with_all = ["repair", "rate"])]
    quarantine: bool,
    /// Fetch what is damaged from the service.
    #[arg(long)]
    repair: bool,
    /// The environment variable with the personal access token for that; without it, the service is asked anonymously.
    #[arg(long, requires = "repair", value_name = "VARIABLE")]
    credential_env: Option<String>,
    /// Most bytes that are read in a second, such as 10MiB; 0B is no limit.
    #[arg(long, value_parser = size, value_name = "SIZE")]
    rate: Option<u64>,
}

// === impl Verify ===

impl Verify {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if self.quarantine {
            let files = context.client().await?.get("/admin/v1/quarantine").await?;
            context.output.show(&files, quarantined)?;
            return Ok(ExitCode::SUCCESS);
        }
        let credential = match &self.credential_env {
            Some(name) => Some(context.variable(name).with_context(|| format!("`{name}` is not set"))?),
            None => None,
        };
        let mut order = json!({ "repair": self.repair });
        if let Some(rate) = self.rate {
            order["bytes_per_second"] = rate.into();
        }
        if let Some(credential) = credential {
            order["credential"] = credential.into();
        }
        let client = context.client().await?;
        let found = client.job("/admin/v1/verify", &order, context.output).await?;
        context.output.show(&found, text)?;
        let count = |key: &str| found[key].as_array().map_or(0, Vec::len);
        let is_whole = count("lost") == count("repaired") && (self.repair || count("damaged_blobs") == 0);
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn size(text: &str) -> Result<u64, &'static str> {
    units::parse_size(text).ok_or(units::SIZE_RULE)
}

fn quarantined(found: &Value) -> String {
    let mut table = Table::new(&["what", "size", "found at (seconds since 1970)"], &[1, 2]);
    let list = |key: &str| found[key].as_array().cloned().unwrap_or_default();
    for file in list("files") {
        table.row([cell(&file["storage_id"]), table::size(&file["bytes"]), cell(&file["since"])]);
    }
    for value in list("values") {
        let name = format!("{}-{}.value", cell(&value["tree"]), cell(&value["key_hash"]));
        table.row([name, table::size(&value["bytes"]), cell(&value["since"])]);
    }
    if table.is_empty() { "nothing was put aside\n".to_owned() } else { table.text() }
}

fn text(found: &Value) -> String {
    let number = |key: &str| found[key].as_u64().unwrap_or_default();
    let list = |key: &str| found[key].as_array().cloned().unwrap_or_default();
    let mut text = format!("{} blobs read, {}\n", number("blobs"), units::format_size(number("bytes")));
    // Writing to a string cannot fail.
    for (what, key) in [("damaged", "damaged_blobs"), ("lost", "lost"), ("repaired", "repaired")] {
        for one in list(key) {
            let _ = writeln!(text, "{what:9} {}", one.as_str().unwrap_or("?"));
        }
    }
    let values = number("damaged_values");
    if values > 0 {
        let _ = writeln!(
            text,
            "damaged   {values} values of the database since the start; --quarantine lists them"
        );
    }
    if list("damaged_blobs").is_empty() && list("lost").is_empty() {
        text.push_str("sound\n");
    }
    text
}
