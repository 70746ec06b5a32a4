//! A steady load of hits on a gate that is being stopped or replaced, by clients that repeat what clients may repeat.
//!
//! It is open: requests begin at their times, whether or not those before are answered, so that a gate that lets them
//! wait has to do with ever more of them.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use feedgate_simulator::client::{Connection, Response, Url, basic};
use futures::FutureExt as _;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, interval},
};

use crate::support::{DEADLINE, PAT};

/// A path and what is to come for it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The URL.
    pub url: String,
    /// The body.
    pub body: Bytes,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    asking: JoinHandle<Seen>,
    begun: Instant,
}

struct Shared {
    wanted: Vec<Wanted>,
    /// Connections that nobody uses now.
    idle: Mutex<Vec<Connection>>,
    served: AtomicUsize,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whole answers with the right body.
    pub served: usize,
    /// Requests that were answered when they were sent once more, their connection having been closed before a byte.
    pub repeated: usize,
    /// Requests of which nothing came then either, and why.
    pub turned_away: BTreeMap<String, usize>,
    /// Answers that began and were wrong, or not whole.
    pub broken: Vec<String>,
    /// Most requests under way at once.
    pub at_once: usize,
    /// Requests begun per second.
    pub rate: f64,
    /// The longest time for an answer.
    pub longest: Duration,
}

/// How asking once ended.
enum End {
    Whole(Response),
    /// Before any byte of an answer.
    Nothing(io::Error),
    Broken(String),
}

// === impl Load ===

impl Load {
    /// Asks for all of `wanted` in turn, `rate` times a second.
    pub fn start(wanted: &[Wanted], rate: u32) -> Self {
        let (stop, stopping) = watch::channel(false);
        let shared =
            Arc::new(Shared { wanted: wanted.to_vec(), idle: Mutex::default(), served: AtomicUsize::new(0) });
        let asking = tokio::spawn(keep_asking(Arc::clone(&shared), rate, stopping));
        Self { shared, stop, asking, begun: Instant::now() }
    }

    /// Waits until so many more answers have come.
    pub async fn serves(&self, more: usize) {
        let served = || self.shared.served.load(Ordering::Relaxed);
        let (from, deadline) = (served(), Instant::now() + DEADLINE);
        while served() < from + more {
            assert!(Instant::now() < deadline, "the load stands still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Begins no more requests, and waits for the answers of those that have begun.
    pub async fn end(self) -> Seen {
        let _ = self.stop.send(true);
        let lasted = self.begun.elapsed();
        let mut seen = self.asking.await.unwrap();
        let begun = seen.served + seen.turned_away.values().sum::<usize>() + seen.broken.len();
        #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
        let begun = begun as f64;
        seen.rate = begun / lasted.as_secs_f64();
        seen
    }
}

// === impl Shared ===

impl Shared {
    /// A connection that nobody uses, and that is not known to be closed.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap();
        while let Some(mut one) = idle.pop() {
            if one.closed().now_or_never() != Some(true) {
                return Some(one);
            }
        }
        None
    }

    /// Asks, and once more if nothing at all came.
    async fn ask(&self, number: usize) -> Seen {
        let wanted = &self.wanted[number % self.wanted.len()];
        let (mut seen, begun) = (Seen::default(), Instant::now());
        let mut kept = self.kept();
        let mut end = ask(&mut kept, &wanted.url).await;
        if matches!(end, End::Nothing(_)) {
            end = ask(&mut kept, &wanted.url).await;
            seen.repeated = usize::from(!matches!(end, End::Nothing(_)));
        }
        seen.longest = begun.elapsed();
        self.idle.lock().unwrap().extend(kept);
        match end {
            End::Whole(response) if response.status == 200 && response.body == wanted.body => {
                seen.served = 1;
                self.served.fetch_add(1, Ordering::Relaxed);
            }
            End::Whole(response) => seen.broken.push(format!("{} {}", response.status, response.body.len())),
            End::Nothing(error) => seen.turned_away = BTreeMap::from([(error.to_string(), 1)]),
            End::Broken(error) => seen.broken.push(error),
        }
        seen
    }
}

// === impl Seen ===

impl Seen {
    fn add(&mut self, one: Self) {
        self.served += one.served;
        self.repeated += one.repeated;
        for (why, times) in one.turned_away {
            *self.turned_away.entry(why).or_default() += times;
        }
        self.broken.extend(one.broken);
        self.longest = self.longest.max(one.longest);
    }
}

async fn keep_asking(shared: Arc<Shared>, rate: u32, stopping: watch::Receiver<bool>) -> Seen {
    let (mut all, mut asking) = (Seen::default(), JoinSet::new());
    let mut due = interval(Duration::from_secs(1) / rate);
    let mut number = 0;
    while !*stopping.borrow() {
        due.tick().await;
        let shared = Arc::clone(&shared);
        asking.spawn(async move { shared.ask(number).await });
        number += 1;
        all.at_once = all.at_once.max(asking.len());
        while let Some(one) = asking.try_join_next() {
            all.add(one.unwrap());
        }
    }
    while let Some(one) = asking.join_next().await {
        all.add(one.unwrap());
    }
    all
}

async fn ask(kept: &mut Option<Connection>, url: &str) -> End {
    let url = Url::parse(url).unwrap();
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => match Connection::open(&url, None).await {
            Ok(connection) => connection,
            Err(error) => return End::Nothing(error),
        },
    };
    match connection.request("GET", &url, &[("Authorization", &basic("any", PAT))], b"").await {
        Ok(response) if !response.complete => {
            End::Broken(format!("{} cut after {}", response.status, response.body.len()))
        }
        Ok(response) => {
            let closes = response.header("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
            *kept = (!closes).then_some(connection);
            End::Whole(response)
        }
        Err(error) if connection.unread() == 0 => End::Nothing(error),
        Err(error) => End::Broken(format!("within a head: {error}")),
    }
}
