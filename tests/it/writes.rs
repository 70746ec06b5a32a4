//! Every write through the gate is seen by the next read, on every representation, whatever is under way.
//!
//! Fifty clients read without pause while the service answers slowly, so that at any time answers from before a write
//! are still arriving. Each client notes how many writes had been acknowledged when it began to ask; the answer must
//! show at least as many.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use base64::Engine as _;
use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NpmPackage, NpmVersion, Organisation, Scope, Simulator, Times, Token,
    client::{self, Response},
};
use std::time::Duration;

use crate::support::{Scene, readers};

/// A PAT that may write.
pub const WRITER: &str = "pat-of-a-writer";
/// Readers at a time.
const CLIENTS: usize = 50;
/// Writes of each case.
const WRITES: usize = 8;

/// A request that changes something.
struct Write {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// One kind of write, and the reads that it changes.
struct Case {
    name: &'static str,
    /// The nth write, counted from 1.
    write: Box<dyn Fn(usize) -> Write>,
    /// Paths, headers, and how many of the writes an answer shows.
    reads: Vec<Read>,
}

/// One read.
#[derive(Clone)]
struct Read {
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    shown: Arc<dyn Fn(&Response) -> usize + Send + Sync>,
}

fn read(
    path: &str,
    headers: &[(&'static str, &'static str)],
    shown: impl Fn(&Response) -> usize + Send + Sync + 'static,
) -> Read {
    Read { path: path.to_owned(), headers: headers.to_vec(), shown: Arc::new(shown) }
}

/// An organisation with a feed for writing.
pub fn writable() -> Organisation {
    let versions = (0..20).fold(NpmPackage::new("left-pad"), |package, number| {
        package.version(&format!("0.{number}.0"), NpmVersion::new().size(500))
    });
    let feed = Feed::new("main").npm(versions);
    readers(Organisation::new("contoso").feed(feed))
        .token(Token::pat(WRITER).label("writer").scope(Scope::ReadWrite))
}

/// What `npm publish` sends.
pub fn publication(name: &str, version: &str) -> Vec<u8> {
    let tarball = base64::engine::general_purpose::STANDARD.encode(format!("{name} {version}"));
    let file = format!("{name}-{version}.tgz");
    serde_json::json!({
        "_id": name, "name": name, "dist-tags": { "latest": version },
        "versions": { version: { "name": name, "version": version, "dist": {} } },
        "_attachments": { file: { "content_type": "application/octet-stream", "data": tarball } },
    })
    .to_string()
    .into_bytes()
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn send(scene: &Scene, write: &Write) -> Response {
    let credential = client::basic("any", WRITER);
    let mut headers = vec![("Authorization", credential.as_str())];
    headers.extend(write.headers.iter().map(|(name, value)| (*name, value.as_str())));
    client::send(write.method, &scene.url(&write.path), &headers, &write.body).await.unwrap()
}

/// Reads until `done`; how many reads there were.
async fn keep_reading(
    scene: &Scene,
    case: &Case,
    number: usize,
    acknowledged: &AtomicUsize,
    done: &AtomicBool,
) -> usize {
    let read = &case.reads[number % case.reads.len()];
    let mut times = 0;
    while !done.load(Ordering::SeqCst) {
        let least = acknowledged.load(Ordering::SeqCst);
        let response = scene.get_with(&read.path, &read.headers).await;
        assert!(
            [200, 404].contains(&response.status),
            "{}: {} {}",
            case.name,
            response.status,
            response.text()
        );
        let shown = (read.shown)(&response);
        assert!(shown >= least, "{}: {} shows {shown} of {least} writes", case.name, read.path);
        times += 1;
    }
    times
}

async fn check(case: Case) {
    let simulator = Simulator::builder().organisation(writable()).start().await.unwrap();
    let slow = FaultKind::Slow { bytes_per_second: 20_000, first_byte_delay: Duration::from_millis(2) };
    simulator.fault(Fault::new(Matcher::method("GET"), slow, Times::Always));
    let scene = Scene::with(simulator, "");
    let (acknowledged, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let readers = (0..CLIENTS).map(|number| keep_reading(&scene, &case, number, &acknowledged, &done));
    let writing = async {
        for number in 1..=WRITES {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let answer = send(&scene, &(case.write)(number)).await;
            assert!(
                (200..300).contains(&answer.status),
                "{}: {} {}",
                case.name,
                answer.status,
                answer.text()
            );
            acknowledged.store(number, Ordering::SeqCst);
            // Each read at once, before the load has any part in it.
            for read in &case.reads {
                let response = scene.get_with(&read.path, &read.headers).await;
                assert!(
                    (read.shown)(&response) >= number,
                    "{}: {} after write {number}",
                    case.name,
                    read.path
                );
            }
        }
        done.store(true, Ordering::SeqCst);
    };
    let (reads, ()) = tokio::join!(futures::future::join_all(readers), writing);
    let reads: usize = reads.into_iter().sum();
    eprintln!("{}: {WRITES} writes, {reads} reads by {CLIENTS} clients, 0 stale", case.name);
    assert!(reads >= CLIENTS, "{}: {reads} reads", case.name);
}

/// How many of the published versions a packument shows.
fn published(response: &Response) -> usize {
    let body = response.decoded().unwrap();
    let packument: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (1..=WRITES).take_while(|number| packument["versions"].get(format!("1.0.{number}")).is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_seen_by_the_next_read() {
    let packument = "contoso/_packaging/main/npm/registry/left-pad";
    let abbreviated = ("Accept", "application/vnd.npm.install-v1+json");
    check(Case {
        name: "npm publish",
        write: Box::new(|number| Write {
            method: "PUT",
            path: "contoso/_packaging/main/npm/registry/left-pad".to_owned(),
            headers: vec![(JSON.0, JSON.1.to_owned())],
            body: publication("left-pad", &format!("1.0.{number}")),
        }),
        reads: vec![
            read(packument, &[], published),
            read(packument, &[abbreviated], published),
            read(packument, &[abbreviated, ("Accept-Encoding", "gzip")], published),
            read(&format!("{packument}/"), &[], published),
            read(&packument.replace("contoso/", "Contoso/DefaultCollection/"), &[], published),
        ],
    })
    .await;
}
