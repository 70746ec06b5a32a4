//! The operators' listener: `/metrics`, `/livez`, `/readyz`, and the admin API below `/admin/v1`. Never on the clients'.
//!
//! Each module of endpoints gives the [`Route`]s of one subject; [`Admin::routes`] lists them all. The endpoints translate
//! between JSON and what [`crate::handler`] and the stores can do, and decide nothing themselves. `openapi.json` describes
//! them, and a test holds it to the routes.

mod archives;
mod control;
mod errands;
pub mod exchange;
mod explain;
mod explanation;
mod figures;
mod guard;
mod health;
mod history;
mod jobs;
mod load;
mod mode;
mod objects;
mod page;
mod pins;
mod problem;
mod router;
mod server;
mod stats;
mod steering;
mod verify;

use std::sync::Arc;

use http::Method;
use prometheus::Registry;

pub use self::{
    control::{Control, Order, Orders, Wanted},
    explanation::explanation_text,
    figures::Figures,
    guard::Guard,
    health::Readiness,
    history::History,
    jobs::{Jobs, Progress},
    load::Load,
    problem::Problem,
    router::{Intake, Route, Router},
    server::{Answering, Server},
};

use exchange::Answer;

use crate::{
    access::CallerKey,
    blob::DiskStore,
    handler::{Archives, Errands, Explainer, Handler, Pinning},
};

/// What the endpoints are and take, for programs.
const OPENAPI: &str = include_str!("openapi.json");

/// What the endpoints work on.
pub struct Admin {
    /// All metrics.
    pub registry: Registry,
    /// Gauges that are read off when somebody looks.
    pub figures: Arc<Figures>,
    /// Whether the gate takes requests.
    pub readiness: Readiness,
    /// Answers requests; its parts are what operators look at and steer.
    pub handler: Handler,
    /// The bytes.
    pub store: DiskStore,
    /// Names callers as the edge does.
    pub key: Arc<CallerKey>,
    /// Work that takes longer than a request.
    pub jobs: Jobs,
    /// Warm-ups and drills.
    pub errands: Errands,
    /// Exports and imports.
    pub archives: Archives,
    /// What stays in the store.
    pub pinning: Pinning,
    /// What was saved over time.
    pub history: History,
    /// Says what would happen.
    pub explainer: Explainer,
    /// The way to the program around the gate.
    pub control: Control,
}

// === impl Admin ===

impl Admin {
    /// Every endpoint.
    pub fn routes(&self) -> Router {
        let metrics = (self.registry.clone(), Arc::clone(&self.figures));
        let verifying = verify::Verifying {
            handler: self.handler.clone(),
            store: self.store.clone(),
            key: Arc::clone(&self.key),
            jobs: self.jobs.clone(),
        };
        let stats = stats::Stats {
            registry: self.registry.clone(),
            handler: self.handler.clone(),
            store: self.store.clone(),
            readiness: self.readiness.clone(),
            history: self.history.clone(),
            largest: stats::Largest::default(),
        };
        let pinning = pins::State {
            pinning: self.pinning.clone(),
            handler: self.handler.clone(),
            store: self.store.clone(),
        };
        Router::new([
            page::routes(&stats, &self.explainer),
            stats::routes(&stats),
            health::routes(&metrics, &self.readiness),
            mode::routes(&self.handler.parts().modes),
            verify::routes(&verifying),
            jobs::routes(&self.jobs),
            vec![Route::new(Method::GET, "/admin/v1/openapi.json", &(), |(), _| {
                Ok(Answer::text(exchange::JSON, OPENAPI))
            })],
            objects::routes(&self.handler),
            steering::routes(&self.handler),
            errands::routes(&self.errands, &self.jobs),
            archives::routes(&self.archives, &self.errands),
            explain::routes(&self.explainer),
            control::routes(&self.control, &self.readiness),
            pins::routes(&pinning),
        ])
    }
}
