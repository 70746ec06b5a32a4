//! The demo: a simulated organisation, the gate in front of it, and real installs through both.
//!
//! `cargo run --release --example demo` runs npm (and nuget.exe, when `deploy/setup --clients` brought it) cold,
//! warm, after a restart of the gate, and with the service refusing connections, each time as a client that has
//! nothing of its own. It prints what each run cost the service, ends by itself and leaves nothing behind.
//!
//! With the real packages of `tests/real/fetch` there, npm installs those; else packages that the simulator makes.

#![allow(clippy::print_stdout, reason = "a table on standard output is the point")]

mod content;
mod figures;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use feedgate::{app::Gate, config::Config};
use feedgate_simulator::{
    Simulator,
    clients::{Client, Registry},
};
use figures::{Figures, Row};
use indicatif::{ProgressBar, ProgressStyle};

/// The PAT that the simulated organisation knows.
const PAT: &str = "demo-pat";

/// The four states of the world in which every client installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Cold,
    Warm,
    Restarted,
    Offline,
}

/// What the demo runs on.
struct Stage {
    simulator: Simulator,
    gate: Option<Gate>,
    folder: tempfile::TempDir,
    bar: ProgressBar,
}

#[tokio::main]
async fn main() -> Result<()> {
    let wanted = |client: &Client| matches!(client, Client::Npm(_) | Client::Nuget(_));
    let clients: Vec<Client> = Client::found().into_iter().filter(wanted).collect();
    ensure!(!clients.is_empty(), "npm is not on the path");
    let mut stage = Stage::set().await?;
    stage.bar.set_length(u64::try_from(clients.len() * Round::ALL.len())?);
    let mut rows = Vec::new();
    for round in Round::ALL {
        stage.enter(round).await?;
        for client in &clients {
            rows.push(stage.install(client, round).await?);
        }
    }
    stage.bar.finish_and_clear();
    println!("{}", figures::table(&rows));
    if !clients.iter().any(Client::is_nuget) {
        println!("nuget.exe is not there; `deploy/setup --clients` brings it.");
    }
    stage.end().await;
    Ok(())
}

// === impl Round ===

impl Round {
    const ALL: [Self; 4] = [Self::Cold, Self::Warm, Self::Restarted, Self::Offline];

    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm, fresh client",
            Self::Restarted => "gate restarted",
            Self::Offline => "service down",
        }
    }
}

// === impl Stage ===

impl Stage {
    async fn set() -> Result<Self> {
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message("starting the simulator");
        let simulator = Simulator::builder().organisation(content::organisation(PAT)).start().await?;
        Ok(Self { simulator, gate: None, folder: tempfile::tempdir()?, bar })
    }

    async fn enter(&mut self, round: Round) -> Result<()> {
        match round {
            Round::Cold => self.start_gate()?,
            Round::Warm => {}
            Round::Restarted => {
                if let Some(gate) = self.gate.take() {
                    gate.stop();
                }
                self.start_gate()?;
            }
            Round::Offline => self.simulator.refuse_connections().await?,
        }
        Ok(())
    }

    fn start_gate(&mut self) -> Result<()> {
        let text = config(&self.simulator, &self.folder.path().join("store"));
        self.gate = Some(Gate::start(Config::parse(&text, &std::collections::BTreeMap::new())?.config)?);
        Ok(())
    }

    async fn install(&self, client: &Client, round: Round) -> Result<Row> {
        let gate = self.gate.as_ref().context("no gate")?;
        self.bar.set_message(format!("{} · {}", client.name(), round.name()));
        let base = format!("http://{}/contoso/_packaging/main", gate.address());
        let path = if client.is_nuget() { "nuget/v3/index.json" } else { "npm/registry/" };
        let registry = Registry::with_token(format!("{base}/{path}"), "any", PAT);
        let project = content::project(client)?;
        let before = Figures::read(gate, &self.simulator);
        let outcome = client.install(&project, &registry).await?;
        let words = format!("{}\n{}", outcome.stdout, outcome.stderr);
        ensure!(outcome.success, "{} failed ({}):\n{words}", client.name(), round.name());
        let files = count_files(&project.installed())?;
        self.bar.inc(1);
        let cost = Figures::read(gate, &self.simulator) - before;
        Ok(Row { client: client.name(), round: round.name(), seconds: outcome.seconds, files, cost })
    }

    async fn end(self) {
        if let Some(gate) = self.gate {
            gate.stop();
        }
        self.simulator.stop().await;
    }
}

fn config(simulator: &Simulator, store: &Path) -> String {
    format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[upstream]\npkgs = \"{}/{{org}}\"\n\
         feeds = \"{}/{{org}}\"\nblob_hosts = [\"http://{}\"]\n[store]\npath = \"{}\"\n",
        simulator.pkgs_url(),
        simulator.feeds_url(),
        simulator.blob_authority(),
        store.display()
    )
}

fn count_files(folder: &Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
