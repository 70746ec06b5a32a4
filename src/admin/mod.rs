//! The operators' listener: `/metrics`, `/livez`, `/readyz`, and the admin API below `/admin/v1`. Never on the clients'.
//!
//! Each module of endpoints gives the [`Route`]s of one subject; [`Admin::routes`] lists them all. The endpoints translate
//! between JSON and what [`crate::handler`] and the stores can do, and decide nothing themselves. `openapi.json` describes
//! them, and a test holds it to the routes.

pub mod exchange;
mod figures;
mod guard;
mod health;
mod jobs;
mod load;
mod mode;
mod problem;
mod router;
mod server;

use std::sync::Arc;

use prometheus::Registry;

pub use self::{
    figures::Figures,
    guard::Guard,
    health::Readiness,
    jobs::{Jobs, Progress},
    load::Load,
    problem::Problem,
    router::{Intake, Route, Router},
    server::Server,
};

use crate::handler::Modes;

/// What the endpoints work on.
pub struct Admin {
    /// All metrics.
    pub registry: Registry,
    /// Gauges that are read off when somebody looks.
    pub figures: Arc<Figures>,
    /// Whether the gate takes requests.
    pub readiness: Readiness,
    /// Modes of feeds, which may be switched.
    pub modes: Modes,
    /// Work that takes longer than a request.
    pub jobs: Jobs,
}

// === impl Admin ===

impl Admin {
    /// Every endpoint.
    pub fn routes(&self) -> Router {
        let metrics = (self.registry.clone(), Arc::clone(&self.figures));
        Router::new([
            health::routes(&metrics, &self.readiness),
            mode::routes(&self.modes),
            jobs::routes(&self.jobs),
        ])
    }
}
