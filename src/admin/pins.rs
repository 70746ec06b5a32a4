//! `GET /admin/v1/pins`, `POST /admin/v1/pin` and `POST /admin/v1/unpin`: what stays in the store whatever comes and goes.
//!
//! What is meant is said as for a purge (`feed`, `package`, `protocol`, `storage_id`; all that is given must hold) or as for
//! a warm-up (`needs`). `unpin` takes `{"all": true}` too.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    errands::{AskedNeed, LARGE},
    exchange::{Answer, seconds},
    objects::{self, failed, shown_all},
    problem::Problem,
    router::Route,
};
use crate::{
    blob::{DiskStore, Weight},
    handler::{Handler, PinError, PinReport, Pinned, Pinning},
};

/// What the endpoints work on.
#[derive(Clone)]
pub(super) struct State {
    pub(super) pinning: Pinning,
    pub(super) handler: Handler,
    pub(super) store: DiskStore,
}

/// What is to be pinned, or no more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    feed: Option<String>,
    package: Option<String>,
    protocol: Option<String>,
    storage_id: Option<String>,
    needs: Option<Vec<AskedNeed>>,
    #[serde(default)]
    all: bool,
}

/// The routes of pins.
pub(super) fn routes(state: &State) -> Vec<Route> {
    vec![
        Route::waiting(Method::GET, "/admin/v1/pins", state, |state, _| async move {
            Answer::json(&state.list().await?)
        }),
        Route::waiting(Method::POST, "/admin/v1/pin", state, |state, request| async move {
            Answer::json(&state.pin(request.json()?).await?)
        })
        .taking(LARGE),
        Route::waiting(Method::POST, "/admin/v1/unpin", state, |state, request| async move {
            Answer::json(&state.unpin(request.json()?).await?)
        })
        .taking(LARGE),
    ]
}

// === impl State ===

impl State {
    async fn list(&self) -> Result<Value, Problem> {
        let (objects, since): (Vec<_>, Vec<_>) =
            self.pinning.list().await.map_err(failed)?.into_iter().unzip();
        let mut shown = shown_all(&self.handler, &objects).await?;
        for (one, since) in shown.iter_mut().zip(since) {
            one["pinned_since"] = json!(seconds(since));
        }
        let mut listed = weight(&self.store, &self.store.pinned());
        listed["objects"] = json!(shown);
        Ok(listed)
    }

    async fn pin(&self, asked: Asked) -> Result<Value, Problem> {
        if asked.all {
            return Err(Problem::invalid("`all` is for unpin only"));
        }
        let report = self.pinning.pin(asked.read()?).await.map_err(|error| match error {
            PinError::TooMuch { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "pins", error.to_string())
            }
            PinError::Store(error) => failed(error),
        })?;
        tracing::info!(target: "admin", objects = report.objects, missing = report.missing.len(), "pinned");
        Ok(self.told(&report))
    }

    async fn unpin(&self, asked: Asked) -> Result<Value, Problem> {
        let report = self.pinning.unpin(asked.read()?).await.map_err(failed)?;
        tracing::info!(target: "admin", objects = report.objects, "unpinned");
        Ok(self.told(&report))
    }

    fn told(&self, report: &PinReport) -> Value {
        let mut told = weight(&self.store, &report.weight);
        told["objects"] = json!(report.objects);
        told["missing"] = json!(report.missing);
        told
    }
}

// === impl Asked ===

impl Asked {
    fn read(self) -> Result<Pinned, Problem> {
        let Self { feed, package, protocol, storage_id, needs, all } = self;
        let filter = objects::Asked { feed, package, protocol, storage_id, ..Default::default() }.filter()?;
        match (needs, filter.is_empty(), all) {
            (Some(needs), true, false) => Ok(Pinned::Needs(AskedNeed::read_all(needs)?)),
            (None, false, false) => Ok(Pinned::Objects(Box::new(filter))),
            (None, true, true) => Ok(Pinned::Objects(Box::default())),
            _ => {
                let rule = "it must be said by `needs`, or by `feed`, `package`, `protocol` and `storage_id`, what is meant";
                Err(Problem::invalid(rule))
            }
        }
    }
}

/// What is pinned, all in all, and what may be.
pub(super) fn weight(store: &DiskStore, weight: &Weight) -> Value {
    json!({
        "blobs": weight.blobs,
        "bytes": weight.bytes,
        "disk_bytes": weight.charge,
        "limit_bytes": store.pin_limit(),
    })
}
