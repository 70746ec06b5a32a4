//! A steady load of hits on a gate that is being stopped or replaced, by clients that repeat what clients may repeat.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use feedgate_simulator::client::{Connection, Response, Url, basic};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::support::{DEADLINE, PAT};

/// Clients, each with a connection that it keeps.
const CLIENTS: usize = 25;

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
    served: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    clients: JoinSet<Seen>,
    begun: Instant,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whole answers with the right body.
    pub served: usize,
    /// Requests that were answered when they were sent once more, their connection having been closed before a byte.
    pub repeated: usize,
    /// Requests of which nothing came then either.
    pub turned_away: Vec<String>,
    /// Answers that began and were wrong, or not whole.
    pub broken: Vec<String>,
    /// When the last of them had come.
    pub last: Option<Instant>,
    /// Whole answers per second, until the last.
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
    /// Asks for all of `wanted` in turn, `rate` times a second if the machine can.
    pub fn start(wanted: &[Wanted], rate: u32) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (served, wanted): (_, Arc<[Wanted]>) = (Arc::default(), wanted.into());
        let every = Duration::from_secs(1) * u32::try_from(CLIENTS).unwrap() / rate;
        let clients = (0..CLIENTS)
            .map(|first| client(Arc::clone(&wanted), first, every, Arc::clone(&served), stopping.clone()))
            .collect();
        Self { served, stop, clients, begun: Instant::now() }
    }

    /// Waits until so many more answers have come.
    pub async fn serves(&self, more: usize) {
        let (from, deadline) = (self.served.load(Ordering::Relaxed), Instant::now() + DEADLINE);
        while self.served.load(Ordering::Relaxed) < from + more {
            assert!(Instant::now() < deadline, "the load stands still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the load.
    pub async fn end(self) -> Seen {
        let _ = self.stop.send(true);
        let mut all = Seen::default();
        for one in self.clients.join_all().await {
            all.served += one.served;
            all.repeated += one.repeated;
            all.turned_away.extend(one.turned_away);
            all.broken.extend(one.broken);
            all.last = all.last.max(one.last);
            all.longest = all.longest.max(one.longest);
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
        let served = all.served as f64;
        all.rate = all.last.map_or(0.0, |last| served / (last - self.begun).as_secs_f64());
        all
    }
}

async fn client(
    wanted: Arc<[Wanted]>,
    first: usize,
    every: Duration,
    served: Arc<AtomicUsize>,
    stopping: watch::Receiver<bool>,
) -> Seen {
    let (mut seen, mut kept) = (Seen::default(), None);
    let mut due = interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in first.. {
        due.tick().await;
        if *stopping.borrow() {
            break;
        }
        let (wanted, begun) = (&wanted[number % wanted.len()], Instant::now());
        let mut end = ask(&mut kept, &wanted.url).await;
        if matches!(end, End::Nothing(_)) {
            end = ask(&mut kept, &wanted.url).await;
            seen.repeated += usize::from(!matches!(end, End::Nothing(_)));
        }
        seen.longest = seen.longest.max(begun.elapsed());
        match end {
            End::Whole(response) if response.status == 200 && response.body == wanted.body => {
                seen.served += 1;
                seen.last = Some(Instant::now());
                served.fetch_add(1, Ordering::Relaxed);
            }
            End::Whole(response) => seen.broken.push(format!("{} {}", response.status, response.body.len())),
            End::Nothing(error) => seen.turned_away.push(error.to_string()),
            End::Broken(error) => seen.broken.push(error),
        }
    }
    seen
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
