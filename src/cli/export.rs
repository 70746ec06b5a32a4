//! `feedgate export`: what is stored as one archive, for a gate that no network joins to this one.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::{Context, closure::Closure};
use crate::config::changes::FeedName;

/// Write an archive of what builds need, of packages, or of whole feeds.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    closure: Closure,
    /// Feeds of which all that is stored goes along: organisation/feed or organisation/project/feed.
    #[arg(long = "whole-feed", value_name = "FEED", num_args = 1..)]
    feeds: Vec<FeedName>,
    /// Packages of which all that is stored goes along, with `--feed` of that feed: left-pad, @scope/*, left-pad@<1.3.0.
    #[arg(long = "package", value_name = "PACKAGE", num_args = 1..)]
    packages: Vec<String>,
    /// Write the archive also when something of it is not stored.
    #[arg(long)]
    partial: bool,
    /// The archive, a tar; it must not exist.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

// === impl Export ===

impl Export {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        ensure!(
            !(self.closure.lockfiles.is_empty() && self.feeds.is_empty() && self.packages.is_empty()),
            "--lockfile, --package or --whole-feed must be given"
        );
        let needs = self.closure.read()?;
        let feeds: Vec<_> = self.feeds.iter().map(ToString::to_string).collect();
        let of = self.closure.feed.as_ref().map(ToString::to_string);
        let packages: Vec<_> =
            self.packages.iter().map(|package| json!({ "package": package, "feed": of })).collect();
        let wanted = json!({
            "needs": needs.to_json(),
            "feeds": feeds,
            "packages": packages,
            "partial": self.partial,
        });
        let body = Full::new(Bytes::from(wanted.to_string())).map_err(|never| match never {}).boxed();
        let client = context.client().await?;
        let answer = client.stream(Method::POST, "/admin/v1/export", body).await?;
        let named = || self.output.display().to_string();
        let mut file = File::create_new(&self.output).await.with_context(named)?;
        let written = write(answer.into_body(), &mut file).await.with_context(named);
        if written.is_err() {
            // Half an archive is none.
            let _ = tokio::fs::remove_file(&self.output).await;
        }
        let result = json!({ "file": named(), "bytes": written? });
        context.output.show(&result, |result| format!("{}: {} bytes\n", named(), result["bytes"]))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn write(mut body: hyper::body::Incoming, file: &mut File) -> anyhow::Result<u64> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.context("the gate broke the archive off")?.into_data() {
            bytes += piece.len() as u64;
            file.write_all(&piece).await?;
        }
    }
    file.sync_all().await?;
    Ok(bytes)
}
