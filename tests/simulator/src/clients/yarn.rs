//! Yarn in its two generations, which share a name and little else.

use std::io;

use super::run::{Program, REQUEST_LIMIT, Run};
use super::{Outcome, Project, Registry};

/// What holds for every run of Yarn 4. The age gate would put what a test has just published in quarantine.
const BERRY: &str = "\
nodeLinker: node-modules
unsafeHttpWhitelist: [127.0.0.1, localhost]
npmMinimalAgeGate: 0
enableScripts: false
enableTelemetry: false
enableProgressBars: false
";

/// Yarn 1.
#[derive(Clone, Debug)]
pub struct YarnClassic(Program);

/// Yarn 4, told to install a `node_modules` folder.
#[derive(Clone, Debug)]
pub struct YarnBerry(Program);

// === impl YarnClassic ===

impl YarnClassic {
    /// The `yarn-classic` of `deploy/setup --clients`.
    pub fn find() -> Option<Self> {
        Program::find("yarn-classic").map(Self)
    }

    /// For example `1.22.22`.
    pub async fn version(&self) -> io::Result<String> {
        self.0.first_line("--version").await
    }

    /// Installs a project with an empty cache.
    ///
    /// Engine ranges are not enforced: here they are a matter between a package and the machine's Node.
    pub async fn install(&self, project: &Project, gate: &Registry) -> io::Result<Outcome> {
        let mut run = Run::of(&self.0, project)?;
        let user_config = run.write(".npmrc", &classic_npmrc(gate))?;
        run.write(".yarnrc", &format!("registry \"{}\"\ndisable-self-update-check true\n", gate.url))?;
        run.variable("npm_config_userconfig", user_config);
        run.variable("YARN_CACHE_FOLDER", run.home("yarn-cache"));
        run.arguments([
            "install",
            "--ignore-scripts",
            "--ignore-engines",
            "--non-interactive",
            "--no-progress",
        ]);
        run.arguments(["--network-timeout".to_owned(), REQUEST_LIMIT.as_millis().to_string()]);
        if project.is_frozen() {
            run.arguments(["--frozen-lockfile"]);
        }
        run.finish().await
    }
}

/// Yarn 1 sends a credential for tarballs and unscoped packages only where `always-auth` says so.
fn classic_npmrc(gate: &Registry) -> String {
    let mut text = format!("registry={}\n", gate.url);
    if let Some(credential) = &gate.credential {
        let place = gate.place();
        text +=
            &format!("always-auth=true\n{place}:always-auth=true\n{place}:_auth={}\n", credential.basic());
    }
    text
}

// === impl YarnBerry ===

impl YarnBerry {
    /// The `yarn-berry` of `deploy/setup --clients`.
    pub fn find() -> Option<Self> {
        Program::find("yarn-berry").map(Self)
    }

    /// For example `4.9.2`.
    pub async fn version(&self) -> io::Result<String> {
        self.0.first_line("--version").await
    }

    /// Installs a project with an empty cache. `.yarnrc.yml` is written into the project, as its users do.
    pub async fn install(&self, project: &Project, gate: &Registry) -> io::Result<Outcome> {
        let mut run = Run::of(&self.0, project)?;
        let folder = run.home("berry");
        std::fs::write(project.dir().join(".yarnrc.yml"), berry_rc(gate, &folder.display().to_string()))?;
        if !project.dir().join("yarn.lock").exists() {
            // Without it Yarn 4 takes a directory for part of a project further up.
            std::fs::write(project.dir().join("yarn.lock"), "")?;
        }
        run.arguments(["install", if project.is_frozen() { "--immutable" } else { "--no-immutable" }]);
        run.finish().await
    }
}

fn berry_rc(gate: &Registry, folder: &str) -> String {
    let server = gate.url.trim_end_matches('/');
    let wait = REQUEST_LIMIT.as_millis();
    let mut text =
        format!("{BERRY}npmRegistryServer: \"{server}\"\nglobalFolder: \"{folder}\"\nhttpTimeout: {wait}\n");
    if !gate.retries {
        text += "httpRetry: 0\n";
    }
    if let Some(credential) = &gate.credential {
        text += &format!("npmAlwaysAuth: true\nnpmAuthIdent: \"{}\"\n", credential.pair());
    }
    text
}
