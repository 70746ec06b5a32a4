//! Hits: what is stored already, asked for again and again.

use std::time::Duration;

use bytes::Bytes;
use feedgate_simulator::{Simulator, client};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Failure, content,
    fronts::{Front, Kind},
    load::{Load, Sample},
    median, say, setting,
};

use Kind::{Gate, Nginx, NginxRewriting, Varnish, Verdaccio};

/// As npm and pnpm ask for a packument.
const NPM: [(&str, &str); 2] = [
    ("Accept", "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"),
    ("Accept-Encoding", "gzip"),
];
const FULL: [(&str, &str); 1] = [("Accept", "application/json")];
const ANY: [(&str, &str); 1] = [("Accept", "*/*")];

/// A thing that is asked for, and of whom.
struct Case {
    name: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    connections: usize,
    /// Of how many packages one is asked for at random: `many-0`, which the path has, and those behind it.
    among: usize,
    /// Whether the client has it already.
    known: bool,
    fronts: &'static [Kind],
}

const CASES: [Case; 10] = [
    Case {
        name: "packument of 900 KB, as npm asks",
        path: "doc-900k",
        headers: &NPM,
        connections: 32,
        among: 1,
        known: false,
        fronts: &[Gate, Nginx, NginxRewriting, Verdaccio],
    },
    Case {
        name: "packument that abbreviates little, as npm asks",
        path: "doc-lean",
        headers: &NPM,
        connections: 32,
        among: 1,
        known: false,
        fronts: &[Gate, Nginx],
    },
    Case {
        name: "document of 8 KB",
        path: "doc-8k",
        headers: &FULL,
        connections: 32,
        among: 1,
        known: false,
        fronts: &[Gate, Nginx],
    },
    Case {
        name: "document of 100 KB",
        path: "doc-100k",
        headers: &FULL,
        connections: 32,
        among: 1,
        known: false,
        fronts: &[Gate, Nginx],
    },
    Case {
        name: "document of 100 KB, 304",
        path: "doc-100k",
        headers: &FULL,
        connections: 32,
        among: 1,
        known: true,
        fronts: &[Gate, Nginx],
    },
    Case {
        name: "tarball of 50 KB",
        path: "blob-50k/-/blob-50k-1.0.0.tgz",
        headers: &ANY,
        connections: 32,
        among: 1,
        known: false,
        fronts: &[Gate, Nginx, Varnish],
    },
    Case {
        name: "1,000 tarballs of 50 KB",
        path: "many-0/-/many-0-1.0.0.tgz",
        headers: &ANY,
        connections: 32,
        among: 1_000,
        known: false,
        fronts: &[Gate, Nginx, Varnish],
    },
    Case {
        name: "4,000 tarballs of 50 KB",
        path: "many-0/-/many-0-1.0.0.tgz",
        headers: &ANY,
        connections: 32,
        among: content::MANY,
        known: false,
        fronts: &[Gate, Nginx, Varnish],
    },
    Case {
        name: "tarball of 50 KB, 304",
        path: "blob-50k/-/blob-50k-1.0.0.tgz",
        headers: &ANY,
        connections: 32,
        among: 1,
        known: true,
        fronts: &[Gate, Nginx],
    },
    Case {
        name: "tarball of 5.8 MB",
        path: "blob-5m/-/blob-5m-1.0.0.tgz",
        headers: &ANY,
        connections: 8,
        among: 1,
        known: false,
        fronts: &[Gate, Nginx, Varnish],
    },
];

/// Runs all cases and prints a table.
pub async fn table() -> Result<(), Failure> {
    let simulator = Simulator::builder()
        .organisation(content::organisation(content::feed()))
        .integrity(true)
        .without_log()
        .start()
        .await?;
    let rounds = setting("PEERS_ROUNDS", 5);
    let wanted = setting("PEERS_CASE", String::new());
    say(&format!("\nhits; medians of {rounds} rounds\n"))?;
    say(
        "| load | front | requests/s | bytes | p50 / p99 / p99.9 ms | CPU µs | RSS MB | gate ÷ it: requests/s | MB/s | CPU |",
    )?;
    say("|---|---|---|---|---|---|---|---|---|---|")?;
    for case in CASES.iter().filter(|case| case.name.contains(&wanted)) {
        case.rows(&simulator, rounds).await?;
    }
    Ok(())
}

// === impl Case ===

impl Case {
    async fn rows(&self, simulator: &Simulator, rounds: usize) -> Result<(), Failure> {
        let mut fronts = Vec::new();
        for kind in self.fronts {
            let front = Front::start(*kind, simulator)?;
            let load = self.load(self.headers);
            let whole = self.warm(&front, &load, simulator).await?;
            self.warm_others(&front).await?;
            fronts.push((front, whole));
        }
        let mut samples = vec![Vec::new(); fronts.len()];
        for round in 0..rounds {
            for turn in 0..fronts.len() {
                // Each begins as often as any other.
                let index = (round + turn) % fronts.len();
                let (front, whole) = &fronts[index];
                let tag = self.tag(front).await?;
                let mut headers = self.headers.to_vec();
                headers.extend(tag.as_deref().map(|tag| ("If-None-Match", tag)));
                let empty = Bytes::new();
                let expected = if self.known { &empty } else { whole };
                samples[index].push(self.load(&headers).run(front, expected).await?);
            }
        }
        let medians: Vec<Sample> = samples.iter().map(|samples| Sample::medians(samples)).collect();
        for ((front, _), own) in fronts.iter().zip(&medians) {
            say(&own.row(self.name, front.kind, &medians[0]))?;
        }
        Ok(())
    }

    fn load<'h>(&'h self, headers: &'h [(&'h str, &'h str)]) -> Load<'h> {
        let time = Duration::from_secs(setting("PEERS_SECONDS", 4));
        Load { path: self.path, headers, connections: self.connections, among: self.among, time }
    }

    /// Brings the answer into the front's store and compares it with the service's own.
    async fn warm(&self, front: &Front, load: &Load<'_>, simulator: &Simulator) -> Result<Bytes, Failure> {
        load.check(front, None).await?;
        let whole = load.check(front, None).await?;
        let url = format!("{}{}", front.registry(), self.path);
        let headers = self.headers.to_vec();
        let basic = client::basic("any", content::PAT);
        let signed = [&headers[..], &[("Authorization", basic.as_str())]].concat();
        let response = client::get(&url, if front.kind == Verdaccio { &headers } else { &signed }).await?;
        if self.path.contains("/-/") {
            let name = self.path.split('/').next().unwrap_or_default();
            let (bytes, _) = simulator.npm_file(content::FEED, name, content::VERSION);
            return if bytes == whole { Ok(whole) } else { Err(format!("{url}: other bytes").into()) };
        }
        let service = format!("{}{}", simulator.npm_url(content::FEED), self.path);
        let wanted = client::get(&service, &[]).await?.json();
        let seen: serde_json::Value = serde_json::from_slice(&response.decoded()?)?;
        let versions = wanted["versions"].as_object().ok_or("no versions")?;
        for (version, wanted) in versions {
            let seen = &seen["versions"][version]["dist"];
            let tarball = seen["tarball"].as_str().unwrap_or_default();
            let here =
                tarball.starts_with(&front.registry()[..front.registry().find("/contoso").unwrap_or(20)]);
            if seen["shasum"] != wanted["dist"]["shasum"] || !here {
                return Err(format!("{url}: {version} is {seen}").into());
            }
        }
        Ok(whole)
    }

    /// Brings the other packages into the front's store, too, each twice.
    async fn warm_others(&self, front: &Front) -> Result<(), Failure> {
        let paths = (1..self.among).map(|number| self.path.replace("many-0", &format!("many-{number}")));
        let ask = |path: String| async move {
            let load = Load { path: &path, ..self.load(self.headers) };
            load.check(front, None).await?;
            load.check(front, None).await.map(drop)
        };
        stream::iter(paths).map(ask).buffer_unordered(self.connections).try_collect().await
    }

    /// The entity tag that a client that has it already would send.
    async fn tag(&self, front: &Front) -> Result<Option<String>, Failure> {
        if !self.known {
            return Ok(None);
        }
        let url = format!("{}{}", front.registry(), self.path);
        let basic = client::basic("any", content::PAT);
        let headers = [self.headers, &[("Authorization", basic.as_str())]].concat();
        let response = client::get(&url, &headers).await?;
        Ok(Some(response.header("etag").ok_or("no entity tag")?.to_owned()))
    }
}

// === impl Sample ===

impl Sample {
    fn medians(samples: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(samples.iter().map(figure).collect());
        Self {
            rate: of(|sample| sample.rate),
            body: of(|sample| sample.body),
            times: [of(|sample| sample.times[0]), of(|sample| sample.times[1]), of(|sample| sample.times[2])],
            cpu: of(|sample| sample.cpu),
            rss: of(|sample| sample.rss),
        }
    }

    fn row(&self, case: &str, kind: Kind, gate: &Self) -> String {
        let [p50, p99, p999] = self.times;
        let ratios = if kind == Gate {
            "| |".to_owned()
        } else {
            let bytes = gate.rate * gate.body / (self.rate * self.body);
            format!("{:.2} | {bytes:.2} | {:.2}", gate.rate / self.rate, gate.cpu / self.cpu)
        };
        format!(
            "| {case} | {} | {:.0} | {:.0} | {p50:.2} / {p99:.2} / {p999:.2} | {:.1} | {:.0} | {ratios} |",
            kind.name(),
            self.rate,
            self.body,
            self.cpu,
            self.rss
        )
    }
}
