//! A service that comes and goes under a small load.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use feedgate_simulator::{
    Fault, FaultKind, Matcher, Simulator, Times,
    client::{self, Response},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{credential, organisation, packument, service, tarball};
use crate::support::Scene;

/// The gate's deadline for what it asks of the service.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long a request waits for the return of a host that has just died, before it is asked (`outage.hold`).
const HOLD: Duration = Duration::from_secs(2);
/// What a busy machine may add to them.
const SLACK: Duration = Duration::from_secs(2);
const SETTINGS: &str = "retry.deadline = \"4s\"\nthrottle.queue_timeout = \"4s\"\nupstream.first_byte_timeout = \"4s\"\n\
    upstream.connect_timeout = \"2s\"\noutage.patience = \"1s\"\noutage.hold = \"2s\"\n\
    metadata.packument = { fresh = \"1s\", stale_while_revalidate = \"1s\", stale_if_error = \"1h\" }\n";
const PACKAGES: usize = 200;
const CLIENTS: u64 = 8;
/// Between two requests of a client.
const REST: Duration = Duration::from_millis(40);
/// A client gives up; nothing should come near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Flapping {
    /// Requests of the clients.
    pub asked: usize,
    /// Answered with 200.
    pub served: usize,
    /// Of them, with another body than the service's.
    pub wrong: usize,
    /// Answered with a problem.
    pub failed: usize,
    /// Cut short in the middle of the body, which the client sees.
    pub cut: usize,
    /// Not answered at all.
    pub silent: usize,
    /// Of the problems, those while the service was up for a second and more.
    pub failed_while_up: usize,
    /// The longest wait for a whole answer.
    pub longest: Duration,
}

struct Answers {
    tarballs: Vec<Bytes>,
    base: String,
}

/// Up for `period`, down for `period` and so on; down is by turns a refused connection and silence.
pub async fn flapping(period: Duration, periods: u32) -> Flapping {
    let simulator = service(organisation(PACKAGES, 1)).await;
    let tarballs = (0..PACKAGES).map(|number| file(&simulator, number)).collect();
    let scene = Scene::with(simulator, SETTINGS);
    let answers = Arc::new(Answers { tarballs, base: scene.url("") });
    let (start, end) = (Instant::now(), Instant::now() + period * periods);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| tokio::spawn(run(Arc::clone(&answers), seed, (start, period), end)))
        .collect();
    for number in 1..=periods {
        sleep_until(start + period * number).await;
        turn(&scene.simulator, if number == periods { 0 } else { number % 4 }).await;
    }
    let mut all = Flapping::default();
    for client in clients {
        all.add(&client.await.unwrap());
    }
    all
}

/// Up, refusing, up, silent.
async fn turn(simulator: &Simulator, phase: u32) {
    match phase {
        1 => simulator.refuse_connections().await.unwrap(),
        3 => simulator.fault(Fault::new(Matcher::any(), FaultKind::Hang, Times::Always)),
        _ => {
            simulator.clear_faults();
            simulator.accept_connections().await.unwrap();
        }
    }
}

fn file(simulator: &Simulator, number: usize) -> Bytes {
    simulator.npm_file("contoso/main", &super::name(number), "1.0.0").0
}

async fn run(
    answers: Arc<Answers>,
    seed: u64,
    (start, period): (Instant, Duration),
    end: Instant,
) -> Flapping {
    let (mut counts, mut random) = (Flapping::default(), StdRng::seed_from_u64(seed));
    while Instant::now() < end {
        let (number, document) = (random.random_range(0..PACKAGES), random.random_bool(0.5));
        let path = if document { packument(number) } else { tarball(number) };
        let begun = Instant::now();
        let credential = credential(0);
        let headers = [("Authorization", credential.as_str())];
        let response = timeout(PATIENCE, client::get(&format!("{}{path}", answers.base), &headers)).await;
        counts.longest = counts.longest.max(begun.elapsed());
        let into = (begun - start).as_secs_f64() % (2.0 * period.as_secs_f64());
        let up = into < period.as_secs_f64() && into > 1.0 && begun.elapsed() < period / 4;
        counts.count(response.ok().and_then(Result::ok), up, |response| {
            answers.agree(response, number, document)
        });
        sleep(REST).await;
    }
    counts
}

// === impl Flapping ===

impl Flapping {
    /// Whether every answer came within the wait for the host's return and the gate's deadline.
    pub fn in_time(&self) -> bool {
        self.longest <= HOLD + DEADLINE + SLACK
    }

    fn count(&mut self, response: Option<Response>, up: bool, agrees: impl Fn(&Response) -> bool) {
        self.asked += 1;
        match response {
            None => self.silent += 1,
            Some(response) if response.status != 200 => {
                self.failed += 1;
                self.failed_while_up += usize::from(up);
            }
            Some(response) if !response.complete => self.cut += 1,
            Some(response) => {
                self.served += 1;
                self.wrong += usize::from(!agrees(&response));
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.served += other.served;
        self.wrong += other.wrong;
        self.failed += other.failed;
        self.cut += other.cut;
        self.silent += other.silent;
        self.failed_while_up += other.failed_while_up;
        self.longest = self.longest.max(other.longest);
    }
}

// === impl Answers ===

impl Answers {
    fn agree(&self, response: &Response, number: usize, document: bool) -> bool {
        if !document {
            return response.body == self.tarballs[number];
        }
        let Ok(body) = response.decoded() else { return false };
        let Ok(document) = serde_json::from_slice::<serde_json::Value>(&body) else { return false };
        let url = format!("{}{}", self.base, tarball(number));
        document["name"] == super::name(number) && document["versions"]["1.0.0"]["dist"]["tarball"] == url
    }
}
