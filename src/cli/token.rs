//! `feedgate token`: gate tokens are made, listed and revoked, in the file that `access.tokens` names.
//!
//! The gate reads the file again within a second or two; nobody has to be restarted, or even running.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use super::Context;
use crate::{
    access::{self, Scope, TokenFile, Wanted},
    clock::Clock,
    config::{access::Rights, units},
};

/// Make, list and revoke gate tokens.
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    /// The file of tokens; without it, `access.tokens` of the configuration.
    #[arg(long, global = true, value_name = "FILE")]
    tokens: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and print it: it is shown this once, and only its hash is kept.
    Create(Create),
    /// List the tokens, not their secrets.
    List,
    /// Take a token out of the file, for good.
    Revoke {
        /// The token's id.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// What to call it in lists and logs.
    #[arg(long)]
    name: String,
    /// Where it is good: organisation, organisation/feed or organisation/project/feed; `*` stands for any characters.
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Let its holder publish and change packages too.
    #[arg(long)]
    write: bool,
    /// How long it is good, such as 90d; without it, until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = life)]
    expires: Option<Duration>,
}

fn life(text: &str) -> Result<Duration, String> {
    units::parse_span(text).filter(|life| !life.is_zero()).ok_or_else(|| units::SPAN_RULE.to_owned())
}

// === impl Token ===

impl Token {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let path = match self.tokens {
            Some(path) => path,
            None => context.load()?.config.access.tokens.context(
                "the configuration names no file of gate tokens: set `access.tokens`, or give --tokens",
            )?,
        };
        let file = TokenFile::new(&path);
        match self.action {
            Action::Create(create) => {
                let (token, text) = access::Token::new(create.wanted(), Clock::system().now());
                let shown = json!({ "token": text.reveal(), "id": token.id });
                file.add(token)?;
                context.output.show(&shown, |_| format!("{}\n", text.reveal()))?;
            }
            Action::List => {
                let tokens: Vec<_> = file.read()?.iter().map(shown).collect();
                context.output.show(&Value::Array(tokens), table)?;
            }
            Action::Revoke { id } => {
                let token = file.revoke(&id)?;
                context
                    .output
                    .show(&shown(&token), |_| format!("revoked {} ({})\n", token.id, token.name))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Create ===

impl Create {
    fn wanted(self) -> Wanted {
        let rights = if self.write { Rights::Write } else { Rights::Read };
        Wanted { name: self.name, scopes: self.scopes, rights, life: self.expires }
    }
}

fn shown(token: &access::Token) -> Value {
    let scopes: Vec<_> = token.scopes.iter().map(ToString::to_string).collect();
    let expires = match token.expires {
        None => "never".to_owned(),
        Some(_) if token.has_expired(Clock::system().now()) => "expired".to_owned(),
        Some(at) => httpdate::fmt_http_date(at),
    };
    json!({
        "id": token.id,
        "name": token.name,
        "scopes": scopes,
        "rights": token.rights.as_str(),
        "created": httpdate::fmt_http_date(token.created),
        "expires": expires,
    })
}

fn table(tokens: &Value) -> String {
    let mut text = String::from("id            rights  expires                        name  scopes\n");
    for token in tokens.as_array().into_iter().flatten() {
        let word = |key: &str| token[key].as_str().unwrap_or_default();
        let scopes: Vec<_> =
            token["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<12}  {:<6}  {:<29}  {}  {}",
            word("id"),
            word("rights"),
            word("expires"),
            word("name"),
            scopes.join(" ")
        );
    }
    text
}
