//! Many clients at once: the service sees one.

use std::time::Duration;

use feedgate_simulator::{
    Feed, Listener, NpmPackage, NpmVersion, Organisation, Pace, Simulator,
    client::{self, Connection, Url},
};
use tokio::time::Instant;

use crate::{
    process::Process,
    support::{NPM, PAT, Scene, readers},
};

/// Clients that ask at once.
const CLIENTS: usize = 200;
/// Bytes of the package.
const SIZE: usize = 50_000_000;

async fn scene() -> Scene {
    Scene::with(simulator().await, "")
}

async fn simulator() -> Simulator {
    let package = NpmPackage::new("huge").version("1.0.0", NpmVersion::new().size(SIZE));
    let organisation = readers(Organisation::new("contoso").feed(Feed::new("main").npm(package)));
    let slow = Pace::latency(Duration::from_millis(50)).bandwidth(25_000_000);
    let builder = Simulator::builder().organisation(organisation).pace(Listener::Blob, slow);
    builder.start().await.unwrap()
}

/// Asks for the package and reads it to the end without keeping it: when its first byte came, and its length.
async fn follow(url: String) -> (Instant, u64) {
    let url = Url::parse(&url).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    let credential = client::basic("any", PAT);
    connection.send_request("GET", &url, &[("Authorization", &credential)], b"").await.unwrap();
    let (head, mut body) = connection.stream_response(false).await.unwrap();
    assert_eq!(head.status, 200);
    let (mut first, mut length) = (None, 0);
    while let Some(bytes) = body.next().await {
        first.get_or_insert_with(Instant::now);
        length += bytes.len() as u64;
    }
    assert!(body.complete);
    (first.unwrap(), length)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_for_one_package_are_one_download_that_all_follow() {
    let scene = scene().await;
    let whole = scene.simulator.npm_file("contoso/main", "huge", "1.0.0").0.len() as u64;
    let path = format!("{NPM}/huge/-/huge-1.0.0.tgz");
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(follow(scene.url(&path)))).collect();
    let mut firsts = Vec::new();
    for client in clients {
        let (first, length) = client.await.unwrap();
        assert_eq!(length, whole);
        firsts.push(first);
    }
    let ended = Instant::now();
    assert_eq!(scene.downloads().await, 1);
    // The download itself takes two seconds; a client that waited for the whole would start after it.
    let latest = firsts.iter().max().copied().unwrap();
    assert!(ended - latest > Duration::from_millis(700), "{:?}", ended - latest);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_of_one_download_take_less_than_32_megabytes() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let gate = Process::start(&simulator, folder.path()).await;
    // The first answer brings what any answer needs: connections, hashes, the pool's threads.
    let credential = client::basic("any", PAT);
    let path = format!("{NPM}/huge");
    assert_eq!(client::get(&gate.url(&path), &[("Authorization", &credential)]).await.unwrap().status, 200);
    let before = gate.memory("VmHWM");
    let path = format!("{NPM}/huge/-/huge-1.0.0.tgz");
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(follow(gate.url(&path)))).collect();
    for client in clients {
        assert!(client.await.unwrap().1 >= SIZE as u64);
    }
    let grown = gate.memory("VmHWM") - before;
    eprintln!("peak memory grew by {} KiB over {} KiB", grown >> 10, before >> 10);
    assert_eq!(simulator.blob_downloads().values().sum::<usize>(), 1);
    assert!(grown < 32_000_000, "{grown}");
    assert_eq!(gate.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_when_its_first_client_leaves() {
    let scene = scene().await;
    let path = format!("{NPM}/huge/-/huge-1.0.0.tgz");
    let url = Url::parse(&scene.url(&path)).unwrap();
    let mut connection = Connection::open(&url, None).await.unwrap();
    let credential = client::basic("any", PAT);
    connection.send_request("GET", &url, &[("Authorization", &credential)], b"").await.unwrap();
    assert_eq!(connection.stream_response(false).await.unwrap().0.status, 200);
    drop(connection);
    let (_, length) = follow(scene.url(&path)).await;
    assert_eq!(length, scene.simulator.npm_file("contoso/main", "huge", "1.0.0").0.len() as u64);
    assert_eq!(scene.downloads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_for_one_document_are_one_request() {
    let scene = scene().await;
    scene.simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_millis(300)));
    let asks = (0..CLIENTS).map(|_| scene.get_with(NPM_HUGE, &[]));
    for response in futures::future::join_all(asks).await {
        assert_eq!(response.status, 200);
    }
    assert_eq!(scene.simulator.count(|request| request.path.ends_with("/huge")), 1);
}

const NPM_HUGE: &str = "contoso/_packaging/main/npm/registry/huge";
