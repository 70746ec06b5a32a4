//! A gate is stopped under load.

use std::{path::Path, time::Duration};

use feedgate_simulator::{
    Listener, NpmPackage, NpmVersion, Pace, Simulator,
    client::{Connection, Url, basic},
};
use futures::future::join_all;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::{
    load::{Load, Wanted},
    process::Process,
    support::{NPM, PAT, contoso},
};

/// Requests per second.
const RATE: u32 = 500;
/// Speed of the blob host: a slow package takes two seconds.
const SPEED: u64 = 1_500_000;
/// Bytes of a slow package, and how many there are.
const SIZE: usize = 3_000_000;
const SLOW: usize = 4;

/// A service with a slow blob host, and a gate in front of it that has a document and a package.
async fn scene(folder: &Path, drain: &str) -> (Simulator, Process, Vec<Wanted>) {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let extra = format!("listen.drain_timeout = \"{drain}\"\n");
    let process = Process::start_with(&simulator, folder, &extra).await;
    let mut wanted = Vec::new();
    for path in ["left-pad", "left-pad/-/left-pad-1.3.0.tgz", "@scope/wide/-/@scope/wide-2.0.0.tgz"] {
        let url = process.url(&format!("{NPM}/{path}"));
        let credential = basic("any", PAT);
        let answer = feedgate_simulator::client::get(&url, &[("Authorization", &credential)]).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        wanted.push(Wanted { url, body: answer.body });
    }
    for number in 0..SLOW {
        let version = NpmVersion::new().size(SIZE);
        simulator
            .add_npm("contoso/main", &NpmPackage::new(&format!("slow-{number}")).version("1.0.0", version));
    }
    simulator.set_pace(Listener::Blob, Pace::default().bandwidth(SPEED));
    (simulator, process, wanted)
}

/// Asks for a slow package; returns once its first bytes have come. Whether its body ends as its head says, and with how
/// many bytes.
async fn begin(process: &Process, number: usize) -> JoinHandle<(bool, usize)> {
    let url = Url::parse(&process.url(&slow(number))).unwrap();
    let (first, came) = oneshot::channel();
    let ending = tokio::spawn(async move {
        let mut connection = Connection::open(&url, None).await.unwrap();
        connection.send_request("GET", &url, &[("Authorization", &basic("any", PAT))], b"").await.unwrap();
        let (head, mut body) = connection.stream_response(false).await.unwrap();
        assert_eq!(head.status, 200);
        let mut length = body.next().await.unwrap().len();
        first.send(()).unwrap();
        while let Some(part) = body.next().await {
            length += part.len();
        }
        (body.complete, length)
    });
    came.await.unwrap();
    ending
}

fn slow(number: usize) -> String {
    format!("{NPM}/slow-{number}/-/slow-{number}-1.0.0.tgz")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_stopped_under_load_breaks_no_answer_and_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (simulator, mut process, wanted) = scene(folder.path(), "30s").await;
    let load = Load::start(&wanted, RATE);
    load.serves(1_000).await;
    let downloads = join_all((0..SLOW).map(|number| begin(&process, number))).await;
    let begun = Instant::now();
    process.signal("TERM").await;
    let code = process.ended().await;
    let took = begun.elapsed();
    let seen = load.end().await;
    eprintln!(
        "SIGTERM at {:.0} requests/s: {} answers whole, {} broken, {} repeated, {} turned away; exit after {:.1} s",
        seen.rate,
        seen.served,
        seen.broken.len(),
        seen.repeated,
        seen.turned_away.len(),
        took.as_secs_f64()
    );
    assert_eq!((code, seen.broken), (Some(0), Vec::new()));
    assert!(took < Duration::from_secs(30), "{took:?}");
    for (number, download) in downloads.into_iter().enumerate() {
        let (bytes, _) = simulator.npm_file("contoso/main", &format!("slow-{number}"), "1.0.0");
        assert_eq!(download.await.unwrap(), (true, bytes.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_outlasts_the_drain_is_cut_off_and_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (simulator, mut process, wanted) = scene(folder.path(), "1s").await;
    simulator.set_pace(Listener::Blob, Pace::default().bandwidth(SPEED / 100));
    let load = Load::start(&wanted, RATE);
    let download = begin(&process, 0).await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await, Some(0));
    process.logged("drain timeout: requests are cut off").await;
    assert_eq!(load.end().await.broken, Vec::<String>::new());
    assert!(!download.await.unwrap().0, "cut off, and seen to be");
    simulator.set_pace(Listener::Blob, Pace::default());
    let again = Process::start(&simulator, folder.path()).await;
    let url = again.url(&slow(0));
    let credential = basic("any", PAT);
    let answer = feedgate_simulator::client::get(&url, &[("Authorization", &credential)]).await.unwrap();
    assert_eq!((answer.complete, answer.header("x-cache")), (true, Some("MISS")));
    assert_eq!(again.terminate().await, Some(0));
}
