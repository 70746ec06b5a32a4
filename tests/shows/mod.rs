//! A service with limits and bad days, loads on it, and what came of them: figures for the bench, assertions for the
//! tests, both from the same runs at different sizes. Real clocks, real sockets.

mod blocked;
mod burst;
mod fairness;
mod flapping;
mod install;
mod load;
mod nginx;
mod outage;

use std::time::Duration;

use feedgate_simulator::{
    Feed, Listener, NpmPackage, NpmVersion, Organisation, Pace, Simulator, Strain, Throttle, Token, client,
};

pub use self::{
    blocked::blocked,
    burst::{Front, burst},
    fairness::fairness,
    flapping::flapping,
    install::install,
    load::{Pulled, pull},
    nginx::Nginx,
    outage::{FIRST_BYTE, outage},
};

use crate::support::{PAT, readers};

/// The sustained rate of the simulated service, requests per second.
pub const RATE: usize = 60;
/// Its limit of requests in flight.
pub const IN_FLIGHT: usize = 16;
/// Its `Retry-After`, in seconds.
pub const RETRY_AFTER: u64 = 2;
/// Time that the API takes for a request, and the blob host.
const API_TAKES: Duration = Duration::from_millis(20);
const BLOB_TAKES: Duration = Duration::from_millis(5);
/// Bytes of a package.
const SIZE: usize = 2_000;

/// What a load came to, for its client and for the service.
#[derive(Debug)]
pub struct Figures {
    /// What the clients saw.
    pub pulled: Pulled,
    /// What the service saw.
    pub strain: Strain,
    /// The shortest possible time at the service's rate, in seconds.
    pub ideal: f64,
}

// === impl Figures ===

impl Figures {
    /// The time it took by the ideal.
    pub fn ratio(&self) -> f64 {
        self.pulled.seconds / self.ideal
    }

    /// A row of the table.
    pub fn row(&self, name: &str) -> String {
        let Self { pulled, strain, .. } = self;
        format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {:.1} | {:.2} |",
            pulled.asked,
            pulled.refused + pulled.broken,
            strain.requests,
            strain.refused.len(),
            strain.refused_after(Duration::from_secs(2)),
            strain.inside_retry_after,
            pulled.seconds,
            self.ratio(),
        )
    }

    /// The head of that table.
    pub fn head() -> &'static str {
        "| load | asked | failed at the client | API requests | refused | after 2 s | inside Retry-After | s | ÷ ideal |\n\
         |---|---|---|---|---|---|---|---|---|"
    }
}

/// The name of a package.
fn name(number: usize) -> String {
    format!("p{number}")
}

/// The path of its tarball, and of its packument.
fn tarball(number: usize) -> String {
    format!("{}/p{number}/-/p{number}-1.0.0.tgz", crate::support::NPM)
}

fn packument(number: usize) -> String {
    format!("{}/p{number}", crate::support::NPM)
}

/// `Authorization` of the `n`th client.
fn credential(client: usize) -> String {
    client::basic("any", &pat(client))
}

fn pat(client: usize) -> String {
    if client == 0 { PAT.to_owned() } else { format!("pat-of-client-{client}") }
}

/// An organisation with so many small packages and so many clients with a credential of their own.
fn organisation(packages: usize, clients: usize) -> Organisation {
    let version = NpmVersion::new().size(SIZE);
    let feed = (0..packages).fold(Feed::new("main"), |feed, number| {
        feed.npm(NpmPackage::new(&name(number)).version("1.0.0", version.clone()))
    });
    let organisation = readers(Organisation::new("contoso").feed(feed));
    (1..clients).fold(organisation, |organisation, client| {
        organisation.token(Token::pat(&pat(client)).label(&format!("client {client}")))
    })
}

/// A service with latency and without limits.
async fn service(organisation: Organisation) -> Simulator {
    let builder = Simulator::builder()
        .organisation(organisation)
        .pace(Listener::Pkgs, Pace::latency(API_TAKES))
        .pace(Listener::Blob, Pace::latency(BLOB_TAKES));
    builder.start().await.unwrap()
}

/// Limits the API host in rate and in flight, for everybody behind one address together.
fn limit(simulator: &Simulator) {
    let concurrency = Throttle::concurrency(IN_FLIGHT).on(Listener::Pkgs);
    simulator.throttle(concurrency.retry_after(RETRY_AFTER));
    simulator.throttle(Throttle::rate(RATE, RATE).on(Listener::Pkgs).retry_after(RETRY_AFTER).of_address());
}
