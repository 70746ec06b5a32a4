//! A metadata hit is one lookup and one write: an answer of 8 KB takes hardly longer than a 304 or a 404 of the gate's own.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must end the bench loudly")]

#[allow(dead_code, reason = "it serves two programs")]
#[path = "peers/content.rs"]
mod content;

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use feedgate::{app::Gate, config::Config};
use feedgate_simulator::{
    Simulator,
    client::{self, Connection, Url},
};
use tokio::runtime::Runtime;

const LOADS: [(&str, &str, bool); 4] = [
    ("8 KB", "doc-8k", false),
    ("100 KB", "doc-100k", false),
    ("304", "doc-8k", true),
    ("ping", "-/ping", false),
];

type Failure = Box<dyn std::error::Error>;

fn hit(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (gate, _simulator, _folder) = runtime.block_on(start()).unwrap();
    let mut group = criterion.benchmark_group("document hit");
    for (name, path, known) in LOADS {
        let url = format!("http://{}/{}/{path}", gate.address(), content::NPM);
        let (mut connection, url, headers) = runtime.block_on(connect(&url, known)).unwrap();
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(connection.request("GET", &url, &headers, b"")));
        });
    }
    group.finish();
    gate.stop();
}

async fn start() -> Result<(Gate, Simulator, tempfile::TempDir), Failure> {
    let organisation = content::organisation(content::feed());
    let simulator = Simulator::builder().organisation(organisation).without_log().start().await?;
    let folder = tempfile::tempdir()?;
    let text = format!(
        "listen.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nstore.path = \"{}\"\n\
         store.free_reserve = \"0B\"\nupstream.pkgs = \"{}/{{org}}\"\nupstream.feeds = \"{}/{{org}}\"\n",
        folder.path().display(),
        simulator.pkgs_url(),
        simulator.feeds_url(),
    );
    let config = Config::parse(&text, &BTreeMap::new()).map_err(|error| format!("{error:?}"))?.config;
    let gate = tokio::task::spawn_blocking(move || Gate::start(config)).await??;
    Ok((gate, simulator, folder))
}

/// A connection, and the headers with which the answer is the one that is wanted.
async fn connect(url: &str, known: bool) -> Result<(Connection, Url, Vec<(&'static str, String)>), Failure> {
    let mut headers = vec![("Authorization", client::basic("any", content::PAT))];
    let url = Url::parse(url)?;
    let mut connection = Connection::open(&url, None).await?;
    let first: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = connection.request("GET", &url, &first, b"").await?;
    if known {
        headers.push(("If-None-Match", response.header("etag").ok_or("no tag")?.to_owned()));
    }
    Ok((connection, url, headers))
}

criterion_group!(benches, hit);
criterion_main!(benches);
