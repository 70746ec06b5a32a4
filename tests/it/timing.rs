//! Who may not read a feed learns nothing from how long a refusal takes.
//!
//! What is stored and what is not are asked for in turns, over one connection, by a caller whom the service has refused;
//! the measure is how often an answer about what is stored comes first. A half is chance.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use feedgate_simulator::{Simulator, client::basic};
use tokio::time::Instant;

use crate::support::{FORBIDDEN_PAT, NPM, NUGET, Scene, contoso};

/// How often each of a pair is asked for.
const ROUNDS: usize = 2000;

/// A client that asks again and again over one connection.
struct Asker(TcpStream);

impl Asker {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// The status, and how long the whole answer took.
    fn ask(&mut self, request: &[u8]) -> (u16, Duration) {
        let (mut answer, mut piece) = (Vec::new(), [0; 16 << 10]);
        let begin = Instant::now();
        self.0.write_all(request).unwrap();
        loop {
            let got = self.0.read(&mut piece).unwrap();
            assert!(got > 0, "the connection was closed");
            answer.extend_from_slice(&piece[..got]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().filter_map(|line| line.split_once(':'));
            let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length: usize = length.map(|(_, value)| value.trim().parse().unwrap()).next().unwrap_or(0);
            if body.len() == length {
                return (head[9..12].parse().unwrap(), begin.elapsed());
            }
        }
    }
}

/// How long refusals of `stored` and of `missing` take, each sorted.
fn compared(address: SocketAddr, credential: Option<&str>, paths: [&str; 2]) -> [Vec<Duration>; 2] {
    let line = credential.map_or(String::new(), |credential| format!("Authorization: {credential}\r\n"));
    let requests =
        paths.map(|path| format!("GET /{path} HTTP/1.1\r\nHost: gate.test\r\n{line}\r\n").into_bytes());
    let (mut asker, mut times) = (Asker::connect(address), [Vec::new(), Vec::new()]);
    let expected = if credential.is_some() { 403 } else { 401 };
    for round in 0..ROUNDS {
        // Each goes first as often as the other.
        for which in [round % 2, 1 - round % 2] {
            let (status, time) = asker.ask(&requests[which]);
            assert_eq!(status, expected, "{}", paths[which]);
            times[which].push(time);
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    times
}

/// How likely one of `first` is less than one of `second`, both sorted.
fn chance_of_less(first: &[Duration], second: &[Duration]) -> f64 {
    let less: usize = second.iter().map(|time| first.partition_point(|other| other < time)).sum();
    let equal: usize = second.iter().map(|time| first.partition_point(|other| other <= time)).sum();
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let (pairs, halves) = ((first.len() * second.len()) as f64, (less + equal) as f64);
    halves / 2.0 / pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_takes_as_long_for_what_is_stored_as_for_what_is_not() {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let scene = Scene::with(simulator, "access.denied_per_minute = 1000000\n");
    let pairs = [
        [format!("{NPM}/left-pad"), format!("{NPM}/left-pat")],
        [format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"), format!("{NPM}/left-pat/-/left-pat-1.3.0.tgz")],
        [
            format!("{NUGET}/flat2/contoso.utility/index.json"),
            format!("{NUGET}/flat2/contoso.utilitx/index.json"),
        ],
    ];
    for [stored, missing] in &pairs {
        assert_eq!(scene.get(stored).await.status, 200);
        assert_eq!(scene.get(missing).await.status, 404);
    }
    let refused = basic("any", FORBIDDEN_PAT);
    for credential in [Some(refused.as_str()), None] {
        for [stored, missing] in &pairs {
            let (address, credential) = (scene.gate().address(), credential.map(str::to_owned));
            let paths = [stored.clone(), missing.clone()];
            let work = move || compared(address, credential.as_deref(), paths.each_ref().map(String::as_str));
            let [with, without] = tokio::task::spawn_blocking(work).await.unwrap();
            let chance = chance_of_less(&with, &without);
            let [with, without] = [with, without].map(|times| times[times.len() / 2]);
            eprintln!("{stored}: median {with:?} stored, {without:?} not; stored is faster in {chance:.2}");
            assert!((0.25..=0.75).contains(&chance), "{stored}: {with:?}, {without:?}, {chance}");
        }
    }
}
