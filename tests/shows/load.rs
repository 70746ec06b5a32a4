//! Many clients at once that read a list of paths, each path once, and compare what comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use feedgate_simulator::client::{Connection, Response, Url};
use tokio::time::{Instant, timeout};

/// The longest that a client waits for an answer: what NuGet waits (facts §4.5).
const PATIENCE: Duration = Duration::from_secs(100);

/// What the clients saw.
#[derive(Debug, Default, Clone)]
pub struct Pulled {
    /// Paths read.
    pub asked: usize,
    /// Answered with 200 and the right body.
    pub served: usize,
    /// Answered with 429 or 5xx.
    pub refused: usize,
    /// Not answered, cut short, or with another status.
    pub broken: usize,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// The longest wait for one path.
    pub longest: Duration,
}

/// Reads all of `paths` below `base` with so many clients, each with a connection that it keeps. Redirects are
/// followed, as a client without a gate must; nothing is asked twice.
pub async fn pull(base: &str, paths: &[String], clients: usize, credential: &str) -> Pulled {
    let (next, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let paths: Arc<[String]> = paths.into();
    let running: Vec<_> = (0..clients)
        .map(|_| {
            tokio::spawn(client(
                base.to_owned(),
                Arc::clone(&paths),
                Arc::clone(&next),
                credential.to_owned(),
            ))
        })
        .collect();
    let mut all = Pulled::default();
    for client in running {
        let one = client.await.unwrap();
        all.asked += one.asked;
        all.served += one.served;
        all.refused += one.refused;
        all.broken += one.broken;
        all.longest = all.longest.max(one.longest);
    }
    all.seconds = start.elapsed().as_secs_f64();
    all
}

async fn client(base: String, paths: Arc<[String]>, next: Arc<AtomicUsize>, credential: String) -> Pulled {
    let (mut pulled, mut kept) = (Pulled::default(), None);
    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begun = Instant::now();
        let answer = timeout(PATIENCE, read(&mut kept, &format!("{base}/{path}"), &credential)).await;
        pulled.asked += 1;
        pulled.longest = pulled.longest.max(begun.elapsed());
        match answer {
            Ok(Ok(response)) if response.status == 200 && response.complete => pulled.served += 1,
            Ok(Ok(response)) if response.status == 429 || response.status >= 500 => pulled.refused += 1,
            _ => {
                kept = None;
                pulled.broken += 1;
            }
        }
    }
    pulled
}

async fn read(kept: &mut Option<Connection>, url: &str, credential: &str) -> std::io::Result<Response> {
    let url = Url::parse(url)?;
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(&url, None).await?,
    };
    let response = connection.request("GET", &url, &[("Authorization", credential)], b"").await?;
    let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    *kept = Some(connection).filter(|_| response.complete && !closes);
    match response.header("location") {
        Some(location) if response.status == 303 => feedgate_simulator::client::get(location, &[]).await,
        _ => Ok(response),
    }
}
