//! Reading a request's path costs less than a microsecond, whatever its spelling.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use feedgate::route;

const PATHS: [(&str, &str); 4] = [
    ("packument", "/contoso/_packaging/main/npm/registry/@contoso%2fui"),
    ("tarball", "/contoso/project/_packaging/main@release/npm/registry/left-pad/-/left-pad-1.3.0.tgz"),
    ("nupkg", "/contoso/_packaging/main/nuget/v3/flat2/newtonsoft.json/13.0.3/newtonsoft.json.13.0.3.nupkg"),
    ("unknown", "/contoso/_apis/packaging/feeds/main/something/else?api-version=7.1"),
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for (name, path) in PATHS {
        group.bench_function(name, |bencher| {
            bencher.iter(|| route::parse(Some("gate.example.com"), black_box(path)));
        });
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
