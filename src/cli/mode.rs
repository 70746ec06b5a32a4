//! `feedgate mode`: which modes are in force, and another one until the end of the gate.

use std::{fmt::Write as _, process::ExitCode};

use clap::{CommandFactory as _, error::ErrorKind};
use http::Method;
use serde_json::{Value, json};

use super::{Arguments, Context, checked};
use crate::config::{self, changes::FeedName};

const PATH: &str = "/admin/v1/mode";

/// Show or switch the modes of feeds.
#[derive(Debug, clap::Args)]
pub(super) struct Mode {
    /// fallback, offline or strict; `default` for a feed that shall have no mode of its own any more. Nothing: show.
    mode: Option<Wanted>,
    /// The feed, as organisation/feed or organisation/project/feed; without it, all feeds without a mode of their own.
    #[arg(long, requires = "mode", value_parser = checked::<FeedName>)]
    feed: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Mode(config::Mode),
    Default,
}

// === impl Mode ===

impl Mode {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if matches!(self.mode, Some(Wanted::Default)) && self.feed.is_none() {
            let rule = "`default` takes the mode of a feed away: name it by --feed";
            return Err(Arguments::command().error(ErrorKind::MissingRequiredArgument, rule).into());
        }
        let client = context.client().await?;
        let modes = match self.mode {
            None => client.get(PATH).await?,
            Some(wanted) => {
                let mode = match wanted {
                    Wanted::Mode(mode) => Some(mode.as_str()),
                    Wanted::Default => None,
                };
                client.send(Method::PUT, PATH, &json!({ "feed": self.feed, "mode": mode })).await?
            }
        };
        context.output.show(&modes, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Wanted ===

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" { Ok(Self::Default) } else { text.parse().map(Self::Mode) }
    }
}

fn text(modes: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut text = format!("{:10} all other feeds\n", word(&modes["mode"]));
    for one in modes["feeds"].as_array().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:10} {}", word(&one["mode"]), word(&one["feed"]));
    }
    text
}
