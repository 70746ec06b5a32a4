//! npm's commands beside installation: publishing and taking back, tags, and questions to the registry.
//!
//! Specs are npm's own: `left-pad`, `left-pad@1.3.0`, `left-pad@<1.3.0`.

use std::io;

use super::{Npm, Outcome, Project, Registry};

// === impl Npm ===

impl Npm {
    /// Publishes a project's directory, under `tag` or `latest`.
    pub async fn publish(
        &self,
        project: &Project,
        gate: &Registry,
        tag: Option<&str>,
    ) -> io::Result<Outcome> {
        let tag = tag.map(|tag| format!("--tag={tag}"));
        let arguments: Vec<&str> = ["publish"].into_iter().chain(tag.as_deref()).collect();
        self.command(Some(project), gate, &arguments).await
    }

    /// Deprecates the versions of a spec; an empty message ends that.
    pub async fn deprecate(&self, gate: &Registry, spec: &str, message: &str) -> io::Result<Outcome> {
        self.command(None, gate, &["deprecate", spec, message]).await
    }

    /// Unpublishes one version, or all of a package when the spec names none.
    pub async fn unpublish(&self, gate: &Registry, spec: &str) -> io::Result<Outcome> {
        self.command(None, gate, &["unpublish", spec, "--force"]).await
    }

    /// Points a tag at the version of a spec.
    pub async fn add_tag(&self, gate: &Registry, spec: &str, tag: &str) -> io::Result<Outcome> {
        self.command(None, gate, &["dist-tag", "add", spec, tag]).await
    }

    /// Removes a tag.
    pub async fn remove_tag(&self, gate: &Registry, name: &str, tag: &str) -> io::Result<Outcome> {
        self.command(None, gate, &["dist-tag", "rm", name, tag]).await
    }

    /// Prints the tags of a package, `tag: version` to a line.
    pub async fn list_tags(&self, gate: &Registry, name: &str) -> io::Result<Outcome> {
        self.command(None, gate, &["dist-tag", "ls", name]).await
    }

    /// Prints what the registry knows of a spec, or only `fields` of it (`versions`, `dist-tags`), as JSON.
    pub async fn view(&self, gate: &Registry, spec: &str, fields: &[&str]) -> io::Result<Outcome> {
        self.command(None, gate, &[&["view", spec], fields, &["--json"]].concat()).await
    }

    /// Audits a project by its lockfile and prints the report as JSON; fails if there is something to report.
    pub async fn audit(&self, project: &Project, gate: &Registry) -> io::Result<Outcome> {
        self.command(Some(project), gate, &["audit", "--json"]).await
    }

    /// Asks whether the registry is there.
    pub async fn ping(&self, gate: &Registry) -> io::Result<Outcome> {
        self.command(None, gate, &["ping"]).await
    }

    /// Prints the user's name; with a user name in its settings, npm doesn't ask the registry for it.
    pub async fn whoami(&self, gate: &Registry) -> io::Result<Outcome> {
        self.command(None, gate, &["whoami"]).await
    }
}
