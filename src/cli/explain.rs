//! `feedgate explain`: what the gate would do with a request now, and why.

use std::{net::IpAddr, process::ExitCode};

use http::Method;
use serde_json::{Map, Value, json};

use super::{Context, closure::Credential};
use crate::{admin::explanation_text, config::changes::FeedName};

/// Tell what the gate would do with a request now, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// A URL or path as a client asks it, or a package, or package@version.
    what: String,
    /// Feed of a package: organisation/feed or organisation/project/feed; without it, every feed that has it stored.
    #[arg(long, value_name = "FEED")]
    feed: Option<FeedName>,
    #[command(flatten)]
    credential: Credential,
    /// Method of the request.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// One more header of the request, such as `Cache-Control: no-cache`.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Address from which it comes, where networks may read without a token.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
}

fn parse_header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("must be `Name: value`")?;
    if name.trim().eq_ignore_ascii_case("authorization") {
        return Err("must not be a credential, which others could read here; use --credential-env");
    }
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

// === impl Explain ===

impl Explain {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (client, authorization) = (context.client().await?, self.credential.read(context)?);
        let headers: Map<_, _> =
            self.headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        let asked = json!({
            "what": self.what,
            "feed": self.feed.map(|feed| feed.to_string()),
            "method": self.method,
            "headers": headers,
            "authorization": authorization,
            "address": self.address,
        });
        let explained = client.send(Method::POST, "/admin/v1/explain", &asked).await?;
        context.output.show(&explained, explanation_text)?;
        Ok(ExitCode::SUCCESS)
    }
}
