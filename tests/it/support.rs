//! A simulated service, a gate in front of it, and a client; each test has its own.

use std::{collections::BTreeMap, path::Path, time::Duration};

use feedgate::{app::Gate, clock::Clock, config::Config};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
    client::{self, Response},
};
use tokio::time::Instant;

/// A PAT that may read.
pub const PAT: &str = "pat-of-a-reader";
/// A second one.
pub const OTHER_PAT: &str = "pat-of-another-reader";
/// One that the service knows and refuses with 403.
pub const FORBIDDEN_PAT: &str = "pat-without-the-right";
/// One that is no longer good.
pub const EXPIRED_PAT: &str = "pat-that-expired";

/// How long a test waits for what must come.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The npm registry of the feed that most tests use, below the gate.
pub const NPM: &str = "contoso/_packaging/main/npm/registry";
/// The same for NuGet.
pub const NUGET: &str = "contoso/_packaging/main/nuget/v3";

/// A gate, the service behind it and the folder of its store.
pub struct Scene {
    /// The service.
    pub simulator: Simulator,
    /// The gate; taken out for a restart.
    gate: Option<Gate>,
    extra: String,
    clock: Clock,
    folder: tempfile::TempDir,
}

// === impl Scene ===

impl Scene {
    /// The usual organisation, and the gate with its defaults.
    pub async fn new() -> Self {
        Self::with(Simulator::builder().organisation(contoso()).start().await.unwrap(), "")
    }

    /// A given service, and more lines of configuration.
    pub fn with(simulator: Simulator, extra: &str) -> Self {
        Self::at(simulator, extra, Clock::system())
    }

    /// The same, with the gate's time of day.
    pub fn at(simulator: Simulator, extra: &str, clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Self { simulator, gate: None, extra: extra.to_owned(), clock, folder };
        scene.start();
        scene
    }

    /// Stops the gate and starts another one on the same store.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// The same with other lines of configuration.
    pub fn restart_with(&mut self, extra: &str) {
        self.stop();
        extra.clone_into(&mut self.extra);
        self.start();
    }

    /// Stops the gate, until [`Scene::restart`].
    pub fn stop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.stop();
        }
    }

    fn start(&mut self) {
        let text = config(&self.simulator, &self.folder.path().join("store"), &self.extra);
        let config = Config::parse(&text, &BTreeMap::new()).unwrap().config;
        self.gate = Some(Gate::start_at(config, self.clock.clone()).unwrap());
    }

    /// The folder of its store.
    pub fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("store")
    }

    /// The running gate.
    pub fn gate(&self) -> &Gate {
        self.gate.as_ref().unwrap()
    }

    /// A URL of the gate.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.gate().address())
    }

    /// GETs a path as the usual reader.
    pub async fn get(&self, path: &str) -> Response {
        self.get_as(Some(PAT), path, &[]).await
    }

    /// GETs a path as the usual reader, with more headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.get_as(Some(PAT), path, headers).await
    }

    /// GETs a path with a PAT or without.
    pub async fn get_as(&self, pat: Option<&str>, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send_as("GET", pat, path, headers).await
    }

    /// Sends any request without a body.
    pub async fn send_as(
        &self,
        method: &str,
        pat: Option<&str>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let credential = pat.map(|pat| client::basic("any", pat));
        let mut all = headers.to_vec();
        if let Some(credential) = &credential {
            all.push(("Authorization", credential));
        }
        client::send(method, &self.url(path), &all, b"").await.unwrap()
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.gate().admin_address());
        client::get(&url, &[]).await.unwrap().text()
    }

    /// The sum of a metric's samples whose line has all of `parts`.
    pub async fn metric(&self, parts: &[&str]) -> f64 {
        let text = self.metrics().await;
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Downloads from the blob host so far, those under way included when they are over.
    pub async fn downloads(&self) -> usize {
        while self.simulator.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
        self.simulator.blob_downloads().values().sum()
    }
}

/// The organisation that most tests use.
pub fn contoso() -> Organisation {
    let feed = Feed::new("main")
        .npm(NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4_000)))
        .npm(NpmPackage::new("@scope/wide").version("2.0.0", NpmVersion::new().size(300_000)))
        .npm(NpmPackage::new("large").version("1.0.0", NpmVersion::new().size(3_000_000)))
        .nuget(NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new().size(9_000)));
    readers(Organisation::new("contoso").feed(feed))
}

/// Adds the credentials that the tests use.
pub fn readers(organisation: Organisation) -> Organisation {
    organisation
        .token(Token::pat(PAT).label("reader"))
        .token(Token::pat(OTHER_PAT).label("other"))
        .token(Token::pat(FORBIDDEN_PAT).label("forbidden").scope(Scope::ReadForbidden))
        .token(Token::pat(EXPIRED_PAT).label("expired").scope(Scope::Expired))
}

/// The configuration of a gate in front of `simulator`; keys in `extra` come in tables of their own.
pub fn config(simulator: &Simulator, store: &Path, extra: &str) -> String {
    let scheme = if simulator.ca_pem().is_some() { "https" } else { "http" };
    format!(
        "listen.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nstore.path = \"{}\"\nstore.free_reserve = \"0B\"\n\
         upstream.pkgs = \"{}/{{org}}\"\nupstream.feeds = \"{}/{{org}}\"\nupstream.blob_hosts = [\"{scheme}://{}\"]\n{extra}",
        store.display(),
        simulator.pkgs_url(),
        simulator.feeds_url(),
        simulator.blob_authority(),
    )
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "what was waited for did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
