//! One load on one front: `wrk` from another core, with every body checked.
//!
//! `wrk` reports the bytes that it received, so that a body of another length shows whichever answer it was in; one
//! answer before and one after each round is compared byte by byte.

use std::{process::Command, time::Duration};

use bytes::Bytes;
use feedgate_simulator::client;

use crate::{
    Failure,
    content::PAT,
    fronts::{Front, Kind},
    process::LOAD_CORE,
};

/// A head is no longer than this, and no shorter.
const HEAD: std::ops::Range<f64> = 100.0..2_000.0;

/// What is asked of the fronts.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// Path below the registry.
    pub path: &'a str,
    /// Request headers beside the credential.
    pub headers: &'a [(&'a str, &'a str)],
    /// Connections at once.
    pub connections: usize,
    /// Of how many packages one is asked for at random (`wrk.lua`).
    pub among: usize,
    /// How long.
    pub time: Duration,
}

/// What one round showed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Requests per second.
    pub rate: f64,
    /// Body bytes of an answer.
    pub body: f64,
    /// Median, 99th and 99.9th percentile of the time to the last byte, in ms.
    pub times: [f64; 3],
    /// Processor time of the server for one request, in µs.
    pub cpu: f64,
    /// Resident memory of the server afterwards, in MB.
    pub rss: f64,
}

// === impl Load ===

impl Load<'_> {
    /// One answer, which must be like `first`, the first one of this front.
    pub async fn check(&self, front: &Front, first: Option<&Bytes>) -> Result<Bytes, Failure> {
        let url = format!("{}{}", front.registry(), self.path);
        let basic = client::basic("any", PAT);
        let response = client::get(&url, &self.all_headers(front.kind, &basic)).await?;
        if !matches!(response.status, 200 | 304) || !response.complete {
            return Err(format!("{url}: {} {}", response.status, response.text()).into());
        }
        if first.is_some_and(|first| *first != response.body) {
            return Err(format!("{url}: another body than at first").into());
        }
        Ok(response.body)
    }

    /// One round.
    pub async fn run(&self, front: &Front, first: &Bytes) -> Result<Sample, Failure> {
        self.check(front, Some(first)).await?;
        let before = front.process.cpu();
        let figures = self.wrk(front).await?;
        let cpu = front.process.cpu() - before;
        self.check(front, Some(first)).await?;
        let [requests, micros, bytes, failed, times @ ..] = figures;
        let head = bytes / requests - first.len() as f64;
        // Answers that were on their way at the end are in the bytes and not in the requests.
        let torn = self.connections as f64 / requests * (first.len() as f64 + HEAD.end);
        if failed > 0.0 || requests < 1.0 || !(HEAD.start..HEAD.end + torn).contains(&head) {
            return Err(format!("{}: {figures:?}, bodies of {}", front.kind.name(), first.len()).into());
        }
        Ok(Sample {
            rate: requests / micros * 1e6,
            body: first.len() as f64,
            times: times.map(|micros| micros / 1e3),
            cpu: cpu / requests * 1e6,
            rss: front.process.rss(),
        })
    }

    /// Requests, microseconds, bytes, failures and three percentiles in microseconds.
    async fn wrk(&self, front: &Front) -> Result<[f64; 7], Failure> {
        let url = format!("{}{}", front.registry(), self.path);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/wrk.lua");
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CORE, "wrk", "-t1", "--latency", "--timeout", "30s"]);
        command.arg(format!("-c{}", self.connections)).arg(format!("-d{}s", self.time.as_secs()));
        command.args(["-s", script, &url, "--"]);
        command.arg(format!("among {}", self.among));
        let basic = client::basic("any", PAT);
        for (name, value) in self.all_headers(front.kind, &basic) {
            command.arg(format!("{name}: {value}"));
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = String::from_utf8_lossy(&output.stdout);
        let line =
            text.lines().find_map(|line| line.strip_prefix("figures ")).ok_or_else(|| text.to_string())?;
        let figures: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        figures.try_into().map_err(|_| "seven figures were due".into())
    }

    /// Verdaccio knows no such user, and would refuse.
    fn all_headers<'h>(&'h self, kind: Kind, basic: &'h str) -> Vec<(&'h str, &'h str)> {
        let own = (kind != Kind::Verdaccio).then_some(("Authorization", basic));
        self.headers.iter().copied().chain(own).collect()
    }
}
