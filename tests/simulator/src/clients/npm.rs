//! npm: `npm install`, or `npm ci` for a frozen project. Its other commands are in a file of their own.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::run::{Program, REQUEST_LIMIT, Run};
use super::{Outcome, Project, Registry};

/// The npm that comes with Node.
#[derive(Clone, Debug)]
pub struct Npm(Program);

// === impl Npm ===

impl Npm {
    /// The npm on `PATH`.
    pub fn find() -> Option<Self> {
        Program::find("npm").map(Self)
    }

    /// For example `11.4.2`.
    pub async fn version(&self) -> io::Result<String> {
        self.0.first_line("--version").await
    }

    /// Installs a project with an empty cache.
    pub async fn install(&self, project: &Project, gate: &Registry) -> io::Result<Outcome> {
        let mut run = Run::of(&self.0, project)?;
        run.arguments([if project.is_frozen() { "ci" } else { "install" }, "--no-audit", "--no-fund"]);
        Self::finish(run, gate).await
    }

    /// Any command in a project's directory, or in an empty one.
    pub(super) async fn command(
        &self,
        project: Option<&Project>,
        gate: &Registry,
        arguments: &[&str],
    ) -> io::Result<Outcome> {
        let mut run = match project {
            Some(project) => Run::of(&self.0, project)?,
            None => Run::alone(&self.0)?,
        };
        run.arguments(arguments);
        Self::finish(run, gate).await
    }

    async fn finish(mut run: Run, gate: &Registry) -> io::Result<Outcome> {
        let user_config = run.write(".npmrc", &npmrc(gate))?;
        run.variable("npm_config_userconfig", user_config);
        run.variable("npm_config_globalconfig", run.home("no-global-npmrc"));
        run.variable("npm_config_cache", run.home("npm-cache"));
        run.arguments(["--ignore-scripts", "--no-update-notifier", "--no-progress"]);
        run.arguments([&format!("--fetch-timeout={}", REQUEST_LIMIT.as_millis())]);
        if !gate.retries {
            run.arguments(["--fetch-retries=0"]);
        }
        run.finish().await
    }
}

/// The settings that Azure Artifacts tells its users to write: registry, user name, token in base64.
pub(super) fn npmrc(gate: &Registry) -> String {
    let mut text = format!("registry={}\n", gate.url);
    if let Some(credential) = &gate.credential {
        let place = gate.place();
        text += &format!("{place}:username={}\n", credential.user);
        text += &format!("{place}:_password={}\n", STANDARD.encode(&credential.token));
        text += &format!("{place}:email=nobody@example.com\n");
    }
    text
}
