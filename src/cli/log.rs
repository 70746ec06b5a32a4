//! `feedgate log`: the level of the running gate's log, and another one for a time.

use std::{process::ExitCode, time::Duration};

use http::Method;
use serde_json::{Value, json};

use super::{Context, table::cell};
use crate::config::{LogLevel, units};

const PATH: &str = "/admin/v1/log";

/// Show the level of the log, or switch it for a time.
#[derive(Debug, clap::Args)]
pub(super) struct Log {
    /// error, warn, info, debug or trace; `default` for the configured one at once. Nothing: show.
    level: Option<Wanted>,
    /// After which the configured level is in force again, as in 90s, 10m or 2h.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", requires = "level", value_parser = span)]
    time: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Level(LogLevel),
    Default,
}

// === impl Log ===

impl Log {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let client = context.client().await?;
        let order = match self.level {
            None => None,
            Some(Wanted::Default) => Some(json!({ "level": null })),
            Some(Wanted::Level(level)) => {
                Some(json!({ "level": level.as_str(), "seconds": self.time.as_secs() }))
            }
        };
        let shown = match order {
            None => client.get(PATH).await?,
            Some(order) => client.send(Method::PUT, PATH, &order).await?,
        };
        context.output.show(&shown, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Wanted ===

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" { Ok(Self::Default) } else { text.parse().map(Self::Level) }
    }
}

fn span(text: &str) -> Result<Duration, &'static str> {
    units::parse_span(text).ok_or(units::SPAN_RULE)
}

fn text(shown: &Value) -> String {
    let level = cell(&shown["level"]);
    match shown["seconds_left"].as_f64() {
        Some(left) => format!("{level} for {left:.0} s more, then {}\n", cell(&shown["configured"])),
        None => format!("{level}\n"),
    }
}
