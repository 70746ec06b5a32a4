//! feedgate: a caching reverse proxy in front of Azure Artifacts for npm and NuGet build farms.
//!
//! # Bird's-eye view
//!
//! ```text
//!  npm pnpm yarn nuget            feedgate                                        Azure Artifacts
//!  ───────────────▶ proxy ─▶ route ─▶ handler ─┬─▶ access    who may read
//!                   Pingora  pure     decides   ├─▶ cache     documents, package → blob
//!                   edge                        ├─▶ blob      bytes by storage id, fills in progress
//!                                               └─▶ upstream ─▶ throttle ─▶ pkgs / feeds ──303──▶ blob host
//!  Prometheus, cli ▶ admin (own listener): /metrics /livez /readyz /admin/v1
//! ```
//!
//! # Where things live
//!
//! Layers, lowest first; a module imports only from lower layers (`tests/architecture.rs` holds it to that).
//!
//! | layer | module | what |
//! |---|---|---|
//! | 0 | [`ident`] | names, npm names, NuGet ids and versions, storage ids |
//! | 0 | [`clock`] | the wall clock |
//! | 0 | [`lanes`] | threads that serve sockets, each with a runtime of its own |
//! | 0 | [`patience`] | how long a peer is waited for while bytes move |
//! | 0 | [`redact`] | secrets and signed URLs that cannot be printed |
//! | 1 | [`config`] | what the operator may set |
//! | 1 | [`route`] | request line → route, every spelling |
//! | 1 | [`disk`] | the sled database and the store's directory |
//! | 2 | [`throttle`] | permits towards the service |
//! | 2 | [`blob`] | immutable bytes by storage id; fills that many follow |
//! | 2 | [`listener`] | clients' connections: accepted, limited, cut into requests |
//! | 2 | [`document`] | URL rewriting, abbreviated packument, representations |
//! | 2 | [`guard`] | which packages are kept from builds, and documents without them |
//! | 2 | [`lockfile`] | lockfiles of npm, pnpm, Yarn, Bun and NuGet, and what a build asks for by them |
//! | 2 | [`trace`] | requests' places in traces, and the spans that a collector gets |
//! | 2 | [`policy`] | HTTP caching by the book: storing, reuse, freshening |
//! | 3 | [`archive`] | the file form in which one gate's objects go to another |
//! | 3 | [`upstream`] | the service: connections, redirects, what its answers mean |
//! | 3 | [`cache`] | documents in memory and on disk, package → blob, feeds' identities, generations, coalescing |
//! | 4 | [`access`] | verdicts: whom the service lets read what |
//! | 5 | [`handler`] | what to do for each kind of request |
//! | 6 | [`proxy`] | the Pingora edge |
//! | 6 | [`admin`] | the operators' listener |
//! | 7 | [`app`] | the composition root |
//! | 8 | [`cli`] | the command line |
//!
//! # Invariants
//!
//! - `route` does no I/O.
//! - A cache error never fails a request.
//! - Nothing is visible in the blob store before commit.
//! - Nothing obtained with one caller's credential reaches another without a verdict.
//! - No URL of the service leaks to a client; no credential or signature to a log, metric or blob host.
//! - Metric labels come from closed enums.
//! - Only `app` constructs concrete parts; only `clock` asks what time it is.

pub mod access;
pub mod admin;
pub mod app;
pub mod archive;
pub mod blob;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod document;
pub mod guard;
pub mod handler;
pub mod ident;
pub mod lanes;
pub mod listener;
pub mod lockfile;
pub mod patience;
pub mod policy;
pub mod proxy;
pub mod redact;
pub mod route;
pub mod throttle;
pub mod trace;
pub mod upstream;
