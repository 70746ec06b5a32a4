//! A real Prometheus watches a gate through an install, an outage and a throttle: the alerts of `deploy/prometheus` that
//! should fire do, and no other.
//!
//! `cargo run --example alerts` needs `prometheus` and `npm` on the path (`deploy/setup --monitoring`). The rules are the
//! shipped ones with one change: every window and every `for` is [`FASTER`] times shorter, so that it takes less than two
//! minutes. At the end each query of the dashboards is put to that Prometheus.

#![allow(clippy::print_stdout, reason = "what was seen is the point")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use feedgate::{app::Gate, config::Config};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, Organisation, Simulator, Throttle, Token, client,
    clients::{Npm, Project, Registry},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::Instant;

/// How much shorter the rules' times are here.
const FASTER: u64 = 30;
/// How often Prometheus looks: several times in the shortest window that a rate is taken of.
const INTERVAL: &str = "1s";
/// How long an alert may take that must come, or go.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long it is watched that no other alert comes: longer than the shortened `for` of most.
const WATCHED: Duration = Duration::from_secs(12);
/// How long no alert fires before it is believed that none does any more.
const CALM: Duration = Duration::from_secs(3);
const PAT: &str = "pat-of-a-build";
const NPM: &str = "contoso/_packaging/main/npm/registry";
/// Packages that depend on each other.
const PACKAGES: usize = 12;
/// Requests at a time while the service is throttled or down.
const CLIENTS: usize = 40;
/// Requests at a time when the service is back: somebody must ask for what is not stored, that the gate notices.
const FEW: usize = 2;

/// Ends Prometheus with the example.
struct Prometheus {
    process: Child,
    url: String,
}

/// What the example runs on.
struct Scene {
    simulator: Simulator,
    gate: Gate,
    prometheus: Prometheus,
    began: Instant,
    /// Names that nobody asked for yet.
    fresh: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut scene = Scene::set(folder.path()).await?;
    // Prometheus takes some seconds to find what it is to look at, and alerts on that.
    scene.is_seen().await?;
    scene.calms("at the start", 0).await?;
    scene.install().await?;
    scene.fires("after an install", &[], &[]).await?;

    scene.simulator.refuse_connections().await?;
    scene.fires("in an outage", &["FeedgateServiceDown"], &["FeedgateServiceFailing"]).await?;
    scene.simulator.accept_connections().await?;
    scene.calms("after the outage", FEW).await?;

    scene.simulator.throttle(Throttle::rate(2, 1));
    scene.fires("throttled", &["FeedgateErrors", "FeedgateServiceRefuses", "FeedgateShedding"], &[]).await?;
    scene.simulator.clear_throttles();
    scene.calms("after the throttle", 0).await?;

    scene.dashboards().await
}

// === impl Scene ===

impl Scene {
    async fn set(folder: &Path) -> Result<Self> {
        let simulator = Simulator::builder().organisation(organisation()).start().await?;
        let text = format!(
            "listen.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nupstream.pkgs = \"{}/{{org}}\"\n\
             upstream.feeds = \"{}/{{org}}\"\nupstream.blob_hosts = [\"http://{}\"]\nstore.path = \"{}\"\n\
             store.capacity = \"1GiB\"\nthrottle.queue_timeout = \"1s\"\nretry.deadline = \"1s\"\n",
            simulator.pkgs_url(),
            simulator.feeds_url(),
            simulator.blob_authority(),
            folder.join("store").display()
        );
        let gate = Gate::start(Config::parse(&text, &BTreeMap::new())?.config)?;
        let prometheus = Prometheus::start(folder, &gate).await?;
        Ok(Self { simulator, gate, prometheus, began: Instant::now(), fresh: 0 })
    }

    async fn is_seen(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.prometheus.query("up == 1").await?["data"]["result"].as_array().is_none_or(Vec::is_empty) {
            ensure!(Instant::now() < deadline, "Prometheus does not reach the gate");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Two builds on the same day: the second finds everything in the store.
    async fn install(&self) -> Result<()> {
        let npm = Npm::find().context("npm is not on the path")?;
        let registry = Registry::with_token(format!("http://{}/{NPM}/", self.gate.address()), "any", PAT);
        for _ in 0..2 {
            let manifest = r#"{"name":"build","version":"1.0.0","dependencies":{"made-0":"1.0.0"}}"#;
            let project = Project::npm(manifest)?;
            let outcome = npm.install(&project, &registry).await?;
            ensure!(outcome.success, "npm failed:\n{}\n{}", outcome.stdout, outcome.stderr);
        }
        Ok(())
    }

    /// Goes on asking until each of `must` has fired, and some time more. What follows from the same cause `may` fire;
    /// nothing else.
    async fn fires(&mut self, when: &str, must: &[&str], may: &[&str]) -> Result<()> {
        let (deadline, mut all_since) = (Instant::now() + PATIENCE, None);
        let mut seen = BTreeSet::new();
        while all_since.is_none_or(|since: Instant| since.elapsed() < WATCHED) {
            self.ask(CLIENTS).await;
            seen.extend(self.prometheus.firing().await?);
            let strange =
                seen.iter().find(|name| !must.contains(&name.as_str()) && !may.contains(&name.as_str()));
            ensure!(strange.is_none(), "{when}: {strange:?} fires, and only {must:?} should");
            if must.iter().all(|name| seen.contains(*name)) {
                all_since.get_or_insert_with(Instant::now);
            }
            ensure!(
                all_since.is_some() || Instant::now() < deadline,
                "{when}: only {seen:?} fire, not {must:?}"
            );
        }
        println!("{:>4} s  {when}: {}", self.began.elapsed().as_secs(), names(&seen));
        Ok(())
    }

    /// Goes on asking until no alert fires for some time. The gate takes its time after a throttle to find out how much it
    /// may ask again, and new things would be turned away meanwhile.
    async fn calms(&mut self, when: &str, fresh: usize) -> Result<()> {
        let (deadline, mut quiet_since) = (Instant::now() + PATIENCE, None);
        while quiet_since.is_none_or(|since: Instant| since.elapsed() < CALM) {
            self.ask(fresh).await;
            let firing = self.prometheus.firing().await?;
            quiet_since = firing.is_empty().then(|| quiet_since.unwrap_or_else(Instant::now));
            ensure!(Instant::now() < deadline, "{when}: {firing:?} go on firing");
        }
        println!("{:>4} s  {when}: no alert", self.began.elapsed().as_secs());
        Ok(())
    }

    /// What builds ask: something stored, and so many things that nobody asked for yet.
    async fn ask(&mut self, fresh: usize) {
        let credential = client::basic("any", PAT);
        let headers = [("Authorization", credential.as_str())];
        let stored = format!("http://{}/{NPM}/made-1", self.gate.address());
        let missing = (0..fresh)
            .map(|number| format!("http://{}/{NPM}/never-{}", self.gate.address(), self.fresh + number));
        let asked = missing.chain([stored]).map(|url| async move {
            // How it is answered is what Prometheus is asked for.
            let _ = client::get(&url, &headers).await;
        });
        futures::future::join_all(asked).await;
        self.fresh += fresh;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    /// Puts each query of the dashboards to Prometheus.
    async fn dashboards(&self) -> Result<()> {
        for entry in fs::read_dir("deploy/grafana/dashboards")? {
            let path = entry?.path();
            let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let panels = dashboard["panels"].as_array().context("panels")?;
            let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
            let (mut queries, mut empty) = (0, Vec::new());
            for query in targets.filter_map(|target| target["expr"].as_str()) {
                let concrete = query.replace("$__range", "1m").replace("$__rate_interval", "10s");
                let answer = self.prometheus.query(&concrete.replace("$instance", ".*")).await?;
                ensure!(answer["status"] == "success", "{}: {query}: {answer}", path.display());
                queries += 1;
                if answer["data"]["result"].as_array().is_none_or(Vec::is_empty) {
                    empty.push(query.to_owned());
                }
            }
            println!("{}: {queries} queries, {} without a sample", path.display(), empty.len());
            for query in empty {
                println!("        {query}");
            }
        }
        Ok(())
    }
}

// === impl Prometheus ===

impl Prometheus {
    async fn start(folder: &Path, gate: &Gate) -> Result<Self> {
        let mut files = String::new();
        for name in ["recording.yml", "alerts.yml"] {
            let shipped = fs::read_to_string(Path::new("deploy/prometheus/rules").join(name))?;
            let path = folder.join(name);
            fs::write(&path, faster(&shipped))?;
            write!(files, "'{}', ", path.display())?;
        }
        let config = format!(
            "global: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: {INTERVAL}}}\n\
             rule_files: [{files}]\n\
             scrape_configs: [{{job_name: feedgate, static_configs: [{{targets: ['{}']}}]}}]\n",
            gate.admin_address()
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config)?;
        // A port that is free now; Prometheus takes no socket.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}")).stderr(Stdio::null());
        let process = command.spawn().context("prometheus: `deploy/setup --monitoring` brings it")?;
        let started = Self { process, url: format!("http://{address}") };
        let deadline = Instant::now() + PATIENCE;
        while client::get(&format!("{}/-/ready", started.url), &[]).await.map_or(0, |answer| answer.status)
            != 200
        {
            ensure!(Instant::now() < deadline, "Prometheus does not become ready");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(started)
    }

    async fn firing(&self) -> Result<BTreeSet<String>> {
        let answer = client::get(&format!("{}/api/v1/alerts", self.url), &[]).await?;
        let answer: Value = serde_json::from_str(&answer.text())?;
        let alerts = answer["data"]["alerts"].as_array().context("alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|alert| alert["labels"]["alertname"].as_str()).map(ToOwned::to_owned).collect())
    }

    async fn query(&self, query: &str) -> Result<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let answer = client::get(&format!("{}/api/v1/query?query={query}", self.url), &[]).await?;
        Ok(serde_json::from_str(&answer.text())?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // If it has ended already there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn organisation() -> Organisation {
    let package = |number: usize| {
        let next = Some(number + 1).filter(|next| *next < PACKAGES);
        let version = NpmVersion::new().size(20_000);
        let version = next
            .into_iter()
            .fold(version, |version, next| version.dependency(&format!("made-{next}"), "^1.0.0"));
        NpmPackage::new(&format!("made-{number}")).version("1.0.0", version)
    };
    let feed = (0..PACKAGES).map(package).fold(Feed::new("main"), Feed::npm);
    Organisation::new("contoso").feed(feed).token(Token::pat(PAT))
}

fn names(alerts: &BTreeSet<String>) -> String {
    let names: Vec<_> = alerts.iter().map(String::as_str).collect();
    if names.is_empty() { "no alert".to_owned() } else { names.join(", ") }
}

/// Rules whose windows and waits are shorter.
fn faster(rules: &str) -> String {
    let mut scaled = String::new();
    for line in rules.lines() {
        let line = match line.split_once("for: ") {
            Some((before, span)) if before.trim().is_empty() => format!("{before}for: {}", shorter(span)),
            _ => line.to_owned(),
        };
        let mut parts = line.split('[');
        scaled.push_str(parts.next().unwrap_or_default());
        for part in parts {
            match part.split_once(']') {
                Some((span, rest)) if span.starts_with(|c: char| c.is_ascii_digit()) => {
                    let _ = write!(scaled, "[{}]{rest}", shorter(span));
                }
                _ => scaled.extend(["[", part]),
            }
        }
        scaled.push('\n');
    }
    scaled
}

/// A span such as `5m`, in milliseconds; what is no span stays.
fn shorter(span: &str) -> String {
    let unit = |unit: char| {
        Some(match unit {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return None,
        })
    };
    let number = span.get(..span.len().saturating_sub(1)).and_then(|digits| digits.parse::<u64>().ok());
    match (number, span.chars().last().and_then(unit)) {
        (Some(number), Some(unit)) => format!("{}ms", number * unit / FASTER),
        _ => span.to_owned(),
    }
}
