//! `POST /admin/v1/export`, `POST /admin/v1/import` and `POST /admin/v1/vouch`: archives for gates without a network.

use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{
    errands::{AskedNeed, caller},
    exchange::{Answer, Body, Request},
    objects,
    problem::Problem,
    router::{Intake, Route},
};
use crate::{
    config::changes::FeedName,
    handler::{Archives, Errands, Filter, ImportError, Wanted, feed_of},
};

/// Largest body of an export's wishes, in bytes.
const MOST: usize = 64 << 20;
/// Media type of archives.
const TAR: &str = "application/x-tar";
/// Missing things that a refusal names.
const NAMED: usize = 20;

#[derive(Clone)]
struct State {
    archives: Archives,
    errands: Errands,
}

/// What an archive is to hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    needs: Vec<AskedNeed>,
    /// `organisation/feed` or `organisation/project/feed`.
    #[serde(default)]
    feeds: Vec<String>,
    #[serde(default)]
    packages: Vec<AskedPackage>,
    /// Whether an archive without what is not stored will do.
    #[serde(default)]
    partial: bool,
}

/// A package, of one feed or of all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedPackage {
    package: String,
    feed: Option<String>,
}

/// For whom the operator vouches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vouched {
    authorization: String,
    /// As the answer to an import names them.
    feeds: Vec<String>,
}

// === impl AskedPackage ===

impl AskedPackage {
    /// What it is called, and what is meant.
    fn read(self) -> Result<(String, Filter), Problem> {
        let Self { package, feed } = self;
        let filter = objects::Asked { package: Some(package.clone()), feed, ..Default::default() };
        Ok((package, filter.filter()?))
    }
}

/// The routes of archives.
pub(super) fn routes(archives: &Archives, errands: &Errands) -> Vec<Route> {
    let state = State { archives: archives.clone(), errands: errands.clone() };
    vec![
        Route::waiting(Method::POST, "/admin/v1/export", &state, export).taking(Intake::Whole(MOST)),
        Route::waiting(Method::POST, "/admin/v1/import", &state, import).taking(Intake::Pieces),
        Route::new(Method::POST, "/admin/v1/vouch", &state, |state, request| vouch(&state, request)),
    ]
}

async fn export(state: State, request: Request) -> Result<Answer, Problem> {
    let Asked { needs, feeds, packages, partial } = request.json()?;
    let feed = |text: String| {
        let parsed: Result<FeedName, _> = text.parse();
        parsed
            .map(|name| name.feed().clone())
            .map_err(|rule| Problem::invalid(format!("feed `{text}` {rule}")))
    };
    let feeds = feeds.into_iter().map(feed).collect::<Result<_, _>>()?;
    let packages = packages.into_iter().map(AskedPackage::read).collect::<Result<_, _>>()?;
    let wanted = Wanted { needs: AskedNeed::read_all(needs)?, feeds, packages };
    let packed = state.archives.pack(wanted).await;
    let missing = packed.missing.len();
    if missing > 0 && !partial || packed.manifest.objects.is_empty() {
        let named: Vec<_> = packed.missing.iter().take(NAMED).map(String::as_str).collect();
        let more = if missing > NAMED { format!(" and {} more", missing - NAMED) } else { String::new() };
        return Err(Problem::absent(format!("not stored: {}{more}", named.join(", "))));
    }
    let pieces = stream::unfold(state.archives.send(packed), |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    Ok(Answer::pieces(TAR, pieces.boxed()))
}

async fn import(state: State, request: Request) -> Result<Answer, Problem> {
    let Body::Pieces(pieces) = request.body else {
        return Err(Problem::invalid("the body must be an archive"));
    };
    let imported = state.archives.import(pieces).await.map_err(|error| problem(&error))?;
    Answer::json(&json!({
        "packages": imported.packages,
        "documents": imported.documents,
        "bytes": imported.bytes,
        "feeds": imported.feeds,
    }))
}

fn vouch(state: &State, request: &Request) -> Result<Answer, Problem> {
    let Vouched { authorization, feeds } = request.json()?;
    let caller = caller(&state.errands, Some(&authorization))?;
    let unknown = |text: &String| Problem::invalid(format!("{text:?} is no feed as an import names it"));
    let feeds: Vec<_> =
        feeds.iter().map(|text| feed_of(text).ok_or_else(|| unknown(text))).collect::<Result<_, _>>()?;
    for feed in &feeds {
        state.archives.vouch(&caller, feed);
    }
    Answer::json(&json!({ "caller": caller.id().to_string(), "feeds": feeds.len() }))
}

fn problem(error: &ImportError) -> Problem {
    match error {
        ImportError::Busy => Problem::conflict(error.to_string()),
        ImportError::Archive(_) | ImportError::Item(..) | ImportError::Broken(_) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "archive", error.to_string())
        }
        ImportError::Disk(_) | ImportError::Store(_) => {
            tracing::error!(%error, "an archive was not taken over");
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "store", error.to_string())
        }
    }
}
