//! nuget.exe on mono: `restore` of a `packages.config`, and what else it does with a source.
//!
//! A source whose URL ends in `index.json` is asked by protocol version 3, any other by version 2.

use std::io;
use std::path::Path;

use super::run::{Program, Run};
use super::{Outcome, Project, Registry};

/// Azure Artifacts wants one and takes any (facts §4.3).
const API_KEY: &str = "az";
const DETAILED: [&str; 2] = ["-Verbosity", "detailed"];

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

    /// Pushes a nupkg.
    pub async fn push(&self, gate: &Registry, nupkg: &Path) -> io::Result<Outcome> {
        let nupkg = nupkg.to_string_lossy();
        self.alone(gate, &["push", &nupkg, "-Source", "gate", "-ApiKey", API_KEY]).await
    }

    /// Deletes a version, which unlists it at Azure Artifacts.
    pub async fn delete(&self, gate: &Registry, id: &str, version: &str) -> io::Result<Outcome> {
        self.alone(gate, &["delete", id, version, "-Source", "gate", "-ApiKey", API_KEY]).await
    }

    /// Lists packages that match the words, one `Id Version` to a line; `more` may be `-AllVersions` or `-Prerelease`.
    pub async fn list(&self, gate: &Registry, words: &str, more: &[&str]) -> io::Result<Outcome> {
        // With details, `list` prints a paragraph for each package.
        let arguments = [&["list", words, "-Source", "gate"], more, &["-Verbosity", "normal"]].concat();
        let run = Run::alone(&self.0)?;
        Self::finish(run, gate, &arguments).await
    }

    /// Searches by the words, over version 3 with its own route and over version 2 with that of `list`.
    pub async fn search(&self, gate: &Registry, words: &str) -> io::Result<Outcome> {
        let mut run = Run::alone(&self.0)?;
        // The one command that takes no -ConfigFile: it looks where it runs.
        run.write("work/NuGet.Config", &nuget_config(gate))?;
        run.variable("MONO_REGISTRY_PATH", run.home("mono-registry"));
        run.arguments(["search", words, "-Source", "gate", "-NonInteractive", "-ForceEnglishOutput"]);
        run.finish().await
    }

    async fn run(&self, project: &Project, gate: &Registry, arguments: &[&str]) -> io::Result<Outcome> {
        Self::finish(Run::of(&self.0, project)?, gate, &[arguments, &DETAILED].concat()).await
    }

    async fn alone(&self, gate: &Registry, arguments: &[&str]) -> io::Result<Outcome> {
        Self::finish(Run::alone(&self.0)?, gate, &[arguments, &DETAILED].concat()).await
    }

    async fn finish(mut run: Run, gate: &Registry, arguments: &[&str]) -> io::Result<Outcome> {
        let config = run.write("NuGet.config", &nuget_config(gate))?;
        run.variable("NUGET_PACKAGES", run.home("global-packages"));
        run.variable("NUGET_HTTP_CACHE_PATH", run.home("http-cache"));
        run.variable("MONO_REGISTRY_PATH", run.home("mono-registry"));
        run.arguments(arguments);
        run.arguments(["-NonInteractive", "-ForceEnglishOutput", "-ConfigFile"]);
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
    let version = if gate.url.ends_with("index.json") { 3 } else { 2 };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<configuration>\n\
         \x20 <packageSources><clear />\n\
         \x20   <add key=\"gate\" value=\"{}\" protocolVersion=\"{version}\" allowInsecureConnections=\"true\" />\n\
         \x20 </packageSources>\n{credentials}</configuration>\n",
        gate.url
    )
}
