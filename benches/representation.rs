//! Abbreviating first makes a representation cheap: what follows has a seventh of the bytes, and compressing them
//! costs most of the rest.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must end the bench loudly")]

#[allow(dead_code, reason = "it serves two programs")]
#[path = "peers/content.rs"]
mod content;

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feedgate::document::{
    packument::{abbreviate, dist_of},
    representation::{Encoding, Form, Variant},
    rewrite::{PublicBase, Rewriter, ServiceHosts},
};
use feedgate_simulator::{Simulator, client};
use http::HeaderValue;
use tokio::runtime::Runtime;

const BASE: &str = "http://gate.example.com:4873";

fn build(criterion: &mut Criterion) {
    let document = packument().unwrap();
    let hosts = ServiceHosts::new(&["http://127.0.0.1/{org}"]).map(Arc::new);
    let base = PublicBase::Path { origin: BASE.to_owned() };
    let rewriter = hosts.and_then(|hosts| Rewriter::new(hosts, &base)).unwrap();
    let short = abbreviate(&document).map(Bytes::from).unwrap();
    let variant =
        |body: &Bytes| Variant::new(body.clone(), Form::Full, HeaderValue::from_static("application/json"));
    let mut group = criterion.benchmark_group("representation");
    group.throughput(Throughput::Bytes(document.len() as u64));
    group.sample_size(20);
    group.bench_function("rewrite, full", |bencher| bencher.iter(|| rewriter.rewrite_json(&document)));
    group.bench_function("rewrite, abbreviated", |bencher| bencher.iter(|| rewriter.rewrite_json(&short)));
    group.bench_function("abbreviate", |bencher| bencher.iter(|| abbreviate(&document)));
    group.bench_function("gzip, full", |bencher| bencher.iter(|| variant(&document).build(Encoding::Gzip)));
    group.bench_function("gzip, abbreviated", |bencher| {
        bencher.iter(|| variant(&short).build(Encoding::Gzip));
    });
    group.bench_function("zstd, full", |bencher| bencher.iter(|| variant(&document).build(Encoding::Zstd)));
    group.bench_function("zstd, abbreviated", |bencher| {
        bencher.iter(|| variant(&short).build(Encoding::Zstd));
    });
    group.bench_function("dist of one tarball", |bencher| {
        bencher.iter(|| dist_of(&document, "doc-900k-1.0.290.tgz"));
    });
    group.finish();
}

/// The packument of 900 KB that the peers are compared by.
fn packument() -> Result<Bytes, Box<dyn std::error::Error>> {
    Runtime::new()?.block_on(async {
        let organisation = content::organisation(content::feed());
        let simulator = Simulator::builder().organisation(organisation).start().await?;
        let url = format!("{}doc-900k", simulator.npm_url(content::FEED));
        Ok(client::get(&url, &[]).await?.body)
    })
}

criterion_group!(benches, build);
criterion_main!(benches);
