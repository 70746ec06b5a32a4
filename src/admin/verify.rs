//! `POST /admin/v1/verify`: reads the whole store again, as a job. `GET /admin/v1/quarantine`: the files and values
//! that failed.
//!
//! Body: `{"bytes_per_second": 10485760, "repair": true, "credential": "…"}`, each of them optional. `credential` is a
//! personal access token with which what is damaged is fetched anew; without one it is asked for anonymously. The job's
//! result is what [`Handler::verify`] found.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::json;

use super::{
    exchange::{Answer, Request, seconds},
    jobs::Jobs,
    objects::failed,
    problem::Problem,
    router::Route,
};
use crate::{
    access::{Caller, CallerKey},
    blob::{BlobStore as _, DiskStore, Quarantined},
    disk::DamagedValue,
    handler::{Handler, Verification},
};

/// Bytes a second unless the request says otherwise: a fraction of what any disk reads, 20 GiB in under 7 minutes.
const RATE: u64 = 50 << 20;

/// What the job works on.
#[derive(Clone)]
pub(super) struct Verifying {
    pub(super) handler: Handler,
    pub(super) store: DiskStore,
    pub(super) key: Arc<CallerKey>,
    pub(super) jobs: Jobs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    bytes_per_second: Option<u64>,
    #[serde(default)]
    repair: bool,
    credential: Option<String>,
}

/// The routes of the verification.
pub(super) fn routes(verifying: &Verifying) -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/admin/v1/verify", verifying, |verifying, request| {
            start(&verifying, request)
        }),
        Route::waiting(Method::GET, "/admin/v1/quarantine", verifying, |verifying, _| async move {
            quarantined(&verifying.store).await
        }),
    ]
}

async fn quarantined(store: &DiskStore) -> Result<Answer, Problem> {
    let files = store.quarantined().await.map_err(failed)?;
    let shown = |file: &Quarantined| json!({ "storage_id": file.id.to_string(), "bytes": file.bytes, "since": seconds(file.since) });
    let values = store.quarantined_values().await.map_err(failed)?;
    let value = |value: &DamagedValue| json!({ "tree": value.tree, "key_hash": value.key_hash, "bytes": value.bytes, "since": seconds(value.since) });
    Answer::json(&json!({
        "files": files.iter().map(shown).collect::<Vec<_>>(),
        "values": values.iter().map(value).collect::<Vec<_>>(),
    }))
}

fn start(verifying: &Verifying, request: &Request) -> Result<Answer, Problem> {
    let order: Order = request.json()?;
    let repair = order.repair.then(|| caller(&verifying.key, order.credential.as_deref())).transpose()?;
    let verification = Verification { rate: order.bytes_per_second.unwrap_or(RATE), repair };
    let (handler, store) = (verifying.handler.clone(), verifying.store.clone());
    verifying.jobs.start("verify", |progress| async move {
        progress.set_total(store.usage().payload);
        let found = handler.verify(&store, &verification, |bytes| progress.add(bytes)).await;
        let found = found.map_err(|error| Problem::internal(&error))?;
        serde_json::to_value(found).map_err(|error| Problem::internal(&error))
    })
}

/// Whoever shows this personal access token, or none.
fn caller(key: &CallerKey, credential: Option<&str>) -> Result<Caller, Problem> {
    let value = credential
        .map(|pat| HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("feedgate:{pat}")))));
    let value = value.transpose().map_err(|_| Problem::invalid("`credential` cannot be sent in a header"))?;
    Ok(key.caller(value.as_ref()))
}
