//! Who may not read a feed learns nothing from how long a refusal takes.
//!
//! What is stored and what is not are asked for in turns, over one connection, by a caller whom the service has refused,
//! or by callers who were never seen before; the measure is how often an answer about what is stored comes first. A half
//! is chance.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use feedgate::{
    access::{Token as GateToken, TokenFile, Wanted},
    clock::Clock,
    config::access::Rights,
};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator, Token,
    client::{self, basic},
};
use tokio::time::Instant;

use crate::support::{FORBIDDEN_PAT, NPM, NUGET, PAT, Scene, contoso};

/// How often each of a pair is asked for.
const ROUNDS: usize = 2000;
/// The same by callers of whom nothing is known, each of whom the service is asked about.
const STRANGERS: usize = 500;

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

/// A GET; without a credential if there is none.
fn request(path: &str, credential: Option<&str>) -> Vec<u8> {
    let line = credential.map_or(String::new(), |credential| format!("Authorization: {credential}\r\n"));
    format!("GET /{path} HTTP/1.1\r\nHost: gate.test\r\n{line}\r\n").into_bytes()
}

/// How long refusals of what is stored and of what is missing take, each sorted. `credential` is of a round.
fn compared(
    address: SocketAddr,
    [stored, missing]: [&str; 2],
    rounds: usize,
    credential: impl Fn(usize) -> Option<String>,
) -> [Vec<Duration>; 2] {
    let (mut asker, mut times) = (Asker::connect(address), [Vec::new(), Vec::new()]);
    let mut statuses = Vec::new();
    for round in 0..rounds {
        // Each goes first as often as the other.
        for which in [round % 2, 1 - round % 2] {
            let credential = credential(2 * round + which);
            let path = [stored, missing][which];
            let (status, time) = asker.ask(&request(path, credential.as_deref()));
            statuses.push(status);
            times[which].push(time);
        }
    }
    assert!(matches!(statuses[0], 401 | 403), "{stored}: {}", statuses[0]);
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{stored}: {statuses:?}");
    for times in &mut times {
        times.sort_unstable();
    }
    times
}

/// Fails if the times tell which is stored.
fn check(stored: &str, [with, without]: [Vec<Duration>; 2]) {
    let chance = chance_of_less(&with, &without);
    let [with, without] = [with, without].map(|times| times[times.len() / 2]);
    eprintln!("{stored}: median {with:?} stored, {without:?} not; stored is faster in {chance:.2}");
    assert!((0.25..=0.75).contains(&chance), "{stored}: {with:?}, {without:?}, {chance}");
}

/// What is stored and what is not, below the registries of npm and of NuGet.
fn pairs(npm: &str, nuget: &str) -> [[String; 2]; 3] {
    [
        [format!("{npm}/left-pad"), format!("{npm}/left-pat")],
        [format!("{npm}/left-pad/-/left-pad-1.3.0.tgz"), format!("{npm}/left-pat/-/left-pat-1.3.0.tgz")],
        [
            format!("{nuget}/flat2/contoso.utility/index.json"),
            format!("{nuget}/flat2/contoso.utilitx/index.json"),
        ],
    ]
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
    let pairs = pairs(NPM, NUGET);
    for [stored, missing] in &pairs {
        assert_eq!(scene.get(stored).await.status, 200);
        assert_eq!(scene.get(missing).await.status, 404);
    }
    for credential in [Some(basic("any", FORBIDDEN_PAT)), None] {
        for [stored, missing] in pairs.clone() {
            let (address, credential) = (scene.gate().address(), credential.clone());
            let work = move || {
                let times = compared(address, [&stored, &missing], ROUNDS, |_| credential.clone());
                check(&stored, times);
            };
            tokio::task::spawn_blocking(work).await.unwrap();
        }
    }
}

/// A gate for an organisation of each access mode, and a gate token that may read in the second.
async fn both_modes(folder: &std::path::Path) -> (Scene, String) {
    std::fs::write(folder.join("pat"), "gate\n").unwrap();
    let (token, text) = GateToken::new(
        Wanted {
            name: "reader".to_owned(),
            scopes: vec!["fabrikam".parse().unwrap()],
            rights: Rights::Read,
            life: None,
        },
        Clock::system().now(),
    );
    TokenFile::new(&folder.join("tokens")).add(token).unwrap();
    let feed = Feed::new("main")
        .npm(NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4_000)))
        .nuget(NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new().size(9_000)));
    let gateway = Organisation::new("fabrikam").feed(feed).token(Token::pat("gate").label("gate"));
    let simulator = Simulator::builder().organisation(contoso()).organisation(gateway).start().await.unwrap();
    let extra = format!(
        "access.denied_per_minute = 1000000\naccess.tokens = \"{}\"\n[[organisation]]\nname = \"fabrikam\"\n\
         access = \"gateway\"\ncredential_file = \"{}\"\n",
        folder.join("tokens").display(),
        folder.join("pat").display()
    );
    (Scene::with(simulator, &extra), text.reveal().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_the_refusal_of_callers_who_were_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, token) = both_modes(folder.path()).await;
    let mut number = 0;
    for (organisation, good, questions, rounds) in
        [("contoso", PAT, 1, STRANGERS), ("fabrikam", &token, 0, ROUNDS)]
    {
        let pairs = pairs(&NPM.replace("contoso", organisation), &NUGET.replace("contoso", organisation));
        for [stored, missing] in &pairs {
            assert_eq!(scene.get_as(Some(good), stored, &[]).await.status, 200, "{stored}");
            assert_eq!(scene.get_as(Some(good), missing, &[]).await.status, 404, "{missing}");
        }
        for [stored, missing] in pairs {
            number += 1;
            for (which, path) in [&stored, &missing].into_iter().enumerate() {
                let before = scene.simulator.answered();
                for at in 0..20 {
                    let wrong = basic("any", &format!("counted-{number}-{which}-{at}"));
                    let answer = client::get(&scene.url(path), &[("Authorization", &wrong)]).await.unwrap();
                    assert_eq!(answer.status, 401, "{path}");
                }
                let asked = scene.simulator.answered() - before;
                assert_eq!(asked, 20 * questions, "{path}: questions to the service");
            }
            let address = scene.gate().address();
            let work = move || {
                let wrong = |at| Some(basic("any", &format!("never-seen-{number}-{at}")));
                check(&stored, compared(address, [&stored, &missing], rounds, wrong));
            };
            tokio::task::spawn_blocking(work).await.unwrap();
        }
    }
}
