//! `feedgate import`: takes an archive of another gate over.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::Method;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::{Context, closure::authorization, progress::Progress};

/// Bytes that are sent at a time.
const PIECE: usize = 256 << 10;

/// Take over an archive of another gate; all of it is verified before any of it is used.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The archive.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Variable with a credential (as for `warm`) that may read the archive's feeds here, as if the service had said so
    /// just now. For gates that have no service to ask; may be given several times.
    #[arg(long = "reader-env", value_name = "VARIABLE")]
    readers: Vec<String>,
}

// === impl Import ===

impl Import {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let named = || self.file.display().to_string();
        let readers: Vec<_> =
            self.readers.iter().map(|variable| authorization(context, variable)).collect::<Result<_, _>>()?;
        let file = File::open(&self.file).await.with_context(named)?;
        let shown = Progress::bytes(context.output, file.metadata().await.with_context(named)?.len());
        let body = StreamBody::new(stream::unfold((file, shown), |(mut file, shown)| async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = file.read_buf(&mut piece).await;
            shown.add(piece.len());
            let frame = read.map(|_| Frame::data(piece.freeze()));
            let ends = frame.as_ref().is_ok_and(|frame| frame.data_ref().is_some_and(Bytes::is_empty));
            (!ends).then_some((frame, (file, shown)))
        }));
        let client = context.client().await?;
        let answer =
            client.stream(Method::POST, "/admin/v1/import", body.boxed()).await.with_context(named)?;
        let answer = async { answer.into_body().collect().await.context("the answer broke off") };
        let answer = client.alive(answer).await?.to_bytes();
        let imported: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
        for reader in readers {
            let vouched = json!({ "authorization": reader, "feeds": imported["feeds"] });
            client.send(Method::POST, "/admin/v1/vouch", &vouched).await?;
        }
        context.output.show(&imported, |imported| {
            let number = |key: &str| imported[key].as_u64().unwrap_or(0);
            format!(
                "{} packages and {} documents, {} bytes\n",
                number("packages"),
                number("documents"),
                number("bytes")
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
