//! pnpm: `pnpm install`, with the lockfile frozen or free.

use std::io;

use super::npm::npmrc;
use super::run::{Program, REQUEST_LIMIT, Run};
use super::{Outcome, Project, Registry};

/// pnpm with an empty store.
#[derive(Clone, Debug)]
pub struct Pnpm(Program);

// === impl Pnpm ===

impl Pnpm {
    /// The pnpm of `deploy/setup --clients`, else the one on `PATH`.
    pub fn find() -> Option<Self> {
        Program::find("pnpm").map(Self)
    }

    /// For example `10.12.1`.
    pub async fn version(&self) -> io::Result<String> {
        self.0.first_line("--version").await
    }

    /// Installs a project with an empty store and cache.
    ///
    /// The minimum release age is set to 0: pnpm would pass over what a test has published a moment ago.
    pub async fn install(&self, project: &Project, gate: &Registry) -> io::Result<Outcome> {
        let mut run = Run::of(&self.0, project)?;
        let user_config = run.write(".npmrc", &npmrc(gate))?;
        run.variable("npm_config_userconfig", user_config);
        let frozen = if project.is_frozen() { "--frozen-lockfile" } else { "--no-frozen-lockfile" };
        run.arguments(["install", frozen, "--ignore-scripts", "--reporter=append-only"]);
        run.arguments([&format!("--store-dir={}", run.home("pnpm-store").display())]);
        run.arguments([&format!("--config.cache-dir={}", run.home("pnpm-cache").display())]);
        run.arguments(["--config.minimum-release-age=0", "--config.update-notifier=false"]);
        if !gate.retries {
            run.arguments(["--config.fetch-retries=0"]);
        }
        run.arguments([&format!("--config.fetch-timeout={}", REQUEST_LIMIT.as_millis())]);
        run.finish().await
    }
}
