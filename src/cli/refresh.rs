//! `feedgate refresh`: has the gate ask anew for documents that it has stored, before their time is over.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{
    Context, PROTOCOLS, checked,
    closure::{Credential, problems},
};
use crate::{config::changes::FeedName, ident::Selector};

/// Ask the service anew for documents that are stored; exit code 1 when it gave no answer for some.
#[derive(Debug, clap::Args)]
pub(super) struct Refresh {
    /// A name such as left-pad, @scope/* or Contoso.*.
    #[arg(required_unless_present_any = ["feed", "protocol"], value_parser = checked::<Selector>)]
    package: Option<String>,
    /// The feed, as organisation/feed or organisation/project/feed, by names or GUIDs.
    #[arg(long, value_parser = checked::<FeedName>)]
    feed: Option<String>,
    /// Packages of npm, or of NuGet.
    #[arg(long, value_parser = PROTOCOLS)]
    protocol: Option<String>,
    #[command(flatten)]
    credential: Credential,
}

// === impl Refresh ===

impl Refresh {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let order = json!({
            "authorization": self.credential.read(context)?,
            "feed": self.feed,
            "package": self.package,
            "protocol": self.protocol,
        });
        let told = context.client().await?.job("/admin/v1/refresh", &order, context.output).await?;
        context.output.show(&told, text)?;
        let answered = told["refused"] == 0 && told["failed"] == 0;
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(told: &Value) -> String {
    let counts = ["changed", "unchanged", "missing", "refused", "failed"];
    let counts = counts.map(|name| format!("{} {name}", told[name])).join(", ");
    let left = match told["unaddressed"].as_u64() {
        Some(left @ 1..) => format!("{left} more keep their time: nothing addresses them by themselves\n"),
        Some(0) | None => String::new(),
    };
    format!("{} documents: {counts}\n{left}{}", told["documents"], problems(told))
}
