//! `feedgate export`: what is stored as one archive, for a gate that no network joins to this one.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use serde_json::json;
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    signal::unix::{SignalKind, signal},
};

use super::{Context, checked, client::Client, closure::Closure, output::Output, progress::Progress};
use crate::{config::changes::FeedName, ident::Selector};

/// Write an archive of what builds need, of packages, or of whole feeds.
#[derive(Debug, clap::Args)]
#[command(mut_arg("lockfiles", |arg| arg.required_unless_present_any(["packages", "feeds"])))]
pub(super) struct Export {
    #[command(flatten)]
    closure: Closure,
    /// Feeds of which all that is stored goes along: organisation/feed or organisation/project/feed.
    #[arg(long = "whole-feed", value_name = "FEED", num_args = 1..)]
    feeds: Vec<FeedName>,
    /// Packages of which all that is stored goes along, with `--feed` of that feed: left-pad, @scope/*, left-pad@<1.3.0.
    #[arg(long = "package", value_name = "PACKAGE", num_args = 1.., value_parser = checked::<Selector>)]
    packages: Vec<String>,
    /// Write the archive also when something of it is not stored.
    #[arg(long)]
    partial: bool,
    /// The archive, a tar; it must not exist.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// An archive that is being written, beside its place; it is gone unless it is finished.
struct Part<'p> {
    file: File,
    path: PathBuf,
    whole: &'p Path,
}

// === impl Export ===

impl Export {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let needs = self.closure.read()?;
        let feeds: Vec<_> = self.feeds.iter().map(ToString::to_string).collect();
        let of = self.closure.feed_name()?;
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
        let named = || self.output.display().to_string();
        ensure!(!self.output.try_exists().with_context(named)?, "{}: exists already", named());
        // From now on Ctrl-C ends no program that has begun to write.
        let mut interrupted = signal(SignalKind::interrupt())?;
        // Before the gate looks for much that then has no place.
        let mut part = Part::create(&self.output).await.with_context(named)?;
        let bytes = tokio::select! {
            written = part.fetch(&client, body, context.output) => written.with_context(named)?,
            _ = interrupted.recv() => bail!("cancelled"),
        };
        part.finish().await.with_context(named)?;
        let result = json!({ "file": named(), "bytes": bytes });
        context.output.show(&result, |result| format!("{}: {} bytes\n", named(), result["bytes"]))?;
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Part ===

impl<'p> Part<'p> {
    async fn create(whole: &'p Path) -> anyhow::Result<Self> {
        let name = whole.file_name().context("names no file")?.to_string_lossy();
        let path = whole.with_file_name(format!(".{name}.{}.part", std::process::id()));
        Ok(Self { file: File::create_new(&path).await?, path, whole })
    }

    /// Takes the archive that is wanted; how many bytes it has.
    async fn fetch(
        &mut self,
        client: &Client,
        wanted: BoxBody<Bytes, std::io::Error>,
        output: Output,
    ) -> anyhow::Result<u64> {
        let answer = {
            let _shown = Progress::waiting(output, "looking for what is wanted");
            client.stream(Method::POST, "/admin/v1/export", wanted).await?
        };
        client.alive(self.write(answer.into_body(), output)).await
    }

    async fn write(&mut self, mut body: Incoming, output: Output) -> anyhow::Result<u64> {
        let (shown, mut bytes) = (Progress::more_bytes(output, "written"), 0);
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame.context("the gate broke the archive off")?.into_data() {
                bytes += piece.len() as u64;
                shown.add(piece.len());
                self.file.write_all(&piece).await?;
            }
        }
        Ok(bytes)
    }

    /// Puts the archive to its place.
    async fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(tokio::fs::rename(&self.path, self.whole).await?)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // Half an archive is none; a whole one has left.
        let _ = std::fs::remove_file(&self.path);
    }
}
