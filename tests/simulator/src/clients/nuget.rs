//! nuget.exe on mono: `restore` of a `packages.config`.

use std::io;

use super::run::{Program, Run};
use super::{Outcome, Project, Registry};

/// nuget.exe with empty package folders and an empty HTTP cache.
#[derive(Clone, Debug)]
pub struct Nuget(Program);

// === impl Nuget ===

impl Nuget {
    /// The `nuget` of `deploy/setup --clients`, else the one on `PATH`.
    pub fn find() -> Option<Self> {
        Program::find("nuget").map(Self)
    }

    /// For example `5.8.0.6930`.
    pub async fn version(&self) -> io::Result<String> {
        let line = self.0.first_line("help").await?;
        Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
    }

    /// Restores every package of the project's `packages.config` into its `packages` folder.
    pub async fn install(&self, project: &Project, gate: &Registry) -> io::Result<Outcome> {
        let arguments = ["restore", "packages.config", "-PackagesDirectory", "packages"];
        self.run(project, gate, &arguments).await
    }

    /// Installs one package and what it depends on, which the client learns from the registrations; `version`
    /// `None` asks for the newest. `install` never looks at registrations: its versions are given.
    pub async fn add(
        &self,
        project: &Project,
        gate: &Registry,
        id: &str,
        version: Option<&str>,
    ) -> io::Result<Outcome> {
        let mut arguments = vec!["install", id, "-OutputDirectory", "packages"];
        arguments.extend(version.into_iter().flat_map(|version| ["-Version", version]));
        self.run(project, gate, &arguments).await
    }

    async fn run(&self, project: &Project, gate: &Registry, arguments: &[&str]) -> io::Result<Outcome> {
        let mut run = Run::of(&self.0, project)?;
        let config = run.write("NuGet.config", &nuget_config(gate))?;
        run.variable("NUGET_PACKAGES", run.home("global-packages"));
        run.variable("NUGET_HTTP_CACHE_PATH", run.home("http-cache"));
        run.variable("MONO_REGISTRY_PATH", run.home("mono-registry"));
        run.arguments(arguments);
        run.arguments(["-NonInteractive", "-Verbosity", "detailed", "-ConfigFile"]);
        run.arguments([config]);
        run.finish().await
    }
}

fn nuget_config(gate: &Registry) -> String {
    let credentials = gate.credential.as_ref().map_or_else(String::new, |credential| {
        format!(
            "  <packageSourceCredentials><gate>\n\
             \x20   <add key=\"Username\" value=\"{}\" /><add key=\"ClearTextPassword\" value=\"{}\" />\n\
             \x20 </gate></packageSourceCredentials>\n",
            credential.user, credential.token
        )
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<configuration>\n\
         \x20 <packageSources><clear />\n\
         \x20   <add key=\"gate\" value=\"{}\" protocolVersion=\"3\" allowInsecureConnections=\"true\" />\n\
         \x20 </packageSources>\n{credentials}</configuration>\n",
        gate.url
    )
}
