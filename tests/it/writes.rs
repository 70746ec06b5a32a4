//! Every write through the gate is seen by the next read, on every representation, whatever is under way.
//!
//! Fifty clients read without pause while the service answers slowly, so that at any time answers from before a write
//! are still arriving. Each client notes how many writes had been acknowledged when it began to ask; the answer must
//! show at least as many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{Scene, readers};
use base64::Engine as _;
use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope,
    Simulator, Times, Token,
    client::{self, Response},
};

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
    let utility = (0..20).fold(NugetPackage::new("Contoso.Utility"), |package, number| {
        package.version(&format!("0.{number}.0"), NugetVersion::new().size(600))
    });
    let feed = Feed::new("main").npm(versions).nuget(utility);
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
    let simulator = Simulator::builder().organisation(writable()).npm_extensions(true).start().await.unwrap();
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

/// The path of the feed's npm registry, packuments and REST.
const NPM: &str = "contoso/_packaging/main/npm/registry";
const NUGET: &str = "contoso/_packaging/main/nuget";
const REST: &str = "contoso/_apis/packaging/feeds/main";
const ABBREVIATED: (&str, &str) = ("Accept", "application/vnd.npm.install-v1+json");
const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");

fn json(response: &Response) -> serde_json::Value {
    serde_json::from_slice(&response.decoded().unwrap()).unwrap_or_default()
}

fn body(text: impl Into<Vec<u8>>, method: &'static str, path: String) -> Write {
    Write { method, path, headers: vec![(JSON.0, JSON.1.to_owned())], body: text.into() }
}

/// How many of the writes, counted from the first, `shows` finds.
fn counted(shows: impl Fn(usize) -> bool) -> usize {
    (1..=WRITES).take_while(|number| shows(*number)).count()
}

/// How many of the published versions a packument shows.
fn published(response: &Response) -> usize {
    let packument = json(response);
    counted(|number| packument["versions"].get(format!("1.0.{number}")).is_some())
}

/// All the writes, once the thing is gone.
fn gone(response: &Response) -> usize {
    if response.status == 404 { WRITES } else { 0 }
}

/// The writes that a text which ends in their number shows.
fn numbered(text: &serde_json::Value) -> usize {
    text.as_str().and_then(|text| text.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_seen_by_the_next_read() {
    let packument = format!("{NPM}/left-pad");
    let listed = |response: &Response| {
        let versions = json(response)["value"][0]["versions"].as_array().cloned().unwrap_or_default();
        let has = |number| versions.iter().any(|version| version["version"] == format!("1.0.{number}"));
        counted(has)
    };
    // The bytes of each version: asked for all the time before they are there.
    let bytes = (1..=WRITES).map(|number| {
        read(&format!("{packument}/-/left-pad-1.0.{number}.tgz"), &[], move |response| {
            if response.status == 200 { WRITES } else { number - 1 }
        })
    });
    let documents = [
        read(&packument, &[], published),
        read(&packument, &[ABBREVIATED], published),
        read(&packument, &[ABBREVIATED, GZIP], published),
        read(&format!("{packument}/"), &[], published),
        read(&packument.replace("contoso/", "Contoso/DefaultCollection/"), &[], published),
        read(&format!("{REST}/packages?packageNameQuery=left-pad&includeAllVersions=true"), &[], listed),
        read(&format!("{packument}/latest"), &[], |response| {
            let version = json(response)["version"].as_str().unwrap_or_default().to_owned();
            version.strip_prefix("1.0.").and_then(|number| number.parse().ok()).unwrap_or_default()
        }),
    ];
    check(Case {
        name: "npm publish",
        write: Box::new(|number| {
            body(publication("left-pad", &format!("1.0.{number}")), "PUT", format!("{NPM}/left-pad"))
        }),
        reads: bytes.chain(documents).collect(),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deprecation_is_seen_by_the_next_read() {
    let deprecated = |response: &Response| numbered(&json(response)["versions"]["0.0.0"]["deprecated"]);
    check(Case {
        name: "deprecate",
        write: Box::new(|number| {
            let message = format!(r#"{{"deprecateMessage":"old {number}"}}"#);
            body(message, "PATCH", format!("{REST}/npm/left-pad/versions/0.0.0?api-version=5.0-preview.1"))
        }),
        reads: vec![
            read(&format!("{NPM}/left-pad"), &[], deprecated),
            read(&format!("{NPM}/left-pad"), &[ABBREVIATED, GZIP], deprecated),
            read(&format!("{NPM}/left-pad/0.0.0"), &[], |response| numbered(&json(response)["deprecated"])),
            read(&format!("{REST}/npm/left-pad/versions/0.0.0"), &[], |response| {
                numbered(&json(response)["deprecateMessage"])
            }),
        ],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpublished_version_is_gone_for_the_next_read() {
    let left = |response: &Response| {
        let packument = json(response);
        counted(|number| packument["versions"].get(format!("0.{number}.0")).is_none())
    };
    check(Case {
        name: "unpublish",
        write: Box::new(|number| {
            let path = format!("{REST}/npm/left-pad/versions/0.{number}.0?api-version=5.0-preview.1");
            body("", "DELETE", path)
        }),
        reads: vec![
            read(&format!("{NPM}/left-pad"), &[], left),
            read(&format!("{NPM}/left-pad"), &[ABBREVIATED], left),
            read(&format!("{NPM}/left-pad/-/left-pad-0.1.0.tgz"), &[], gone),
            read(&format!("{REST}/npm/packages/left-pad/versions/0.1.0/content"), &[], gone),
        ],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_seen_by_the_next_read() {
    let tag = |tag: &serde_json::Value| {
        let version = tag.as_str().unwrap_or_default();
        version.split('.').nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
    };
    check(Case {
        name: "dist-tag",
        write: Box::new(|number| {
            let path = format!("{NPM}/-/package/left-pad/dist-tags/next");
            body(format!("\"0.{number}.0\""), "PUT", path)
        }),
        reads: vec![
            read(&format!("{NPM}/left-pad"), &[ABBREVIATED], move |response| {
                tag(&json(response)["dist-tags"]["next"])
            }),
            read(&format!("{NPM}/-/package/left-pad/dist-tags"), &[], move |response| {
                tag(&json(response)["next"])
            }),
            read(&format!("{NPM}/left-pad/next"), &[], move |response| tag(&json(response)["version"])),
        ],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_seen_in_the_view_by_the_next_read() {
    let shown = |response: &Response| {
        let packument = json(response);
        counted(|number| packument["versions"].get(format!("0.{number}.0")).is_some())
    };
    check(Case {
        name: "promote",
        write: Box::new(|number| {
            let promotion = r#"{"views":{"op":"add","path":"/views/-","value":"release"}}"#;
            let path = format!("{REST}/npm/left-pad/versions/0.{number}.0?api-version=5.0-preview.1");
            body(promotion, "PATCH", path)
        }),
        reads: vec![
            read(&format!("{NPM}/left-pad").replace("main", "main@release"), &[], shown),
            read(&format!("{NPM}/left-pad").replace("main", "main%40Release"), &[ABBREVIATED], shown),
        ],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unlisted_is_seen_to_be_so_by_the_next_read() {
    check(Case {
        name: "unlist",
        write: Box::new(|number| {
            let path = format!(
                "{REST}/nuget/packages/Contoso.Utility/versions/0.{number}.0?api-version=5.0-preview.1"
            );
            body(r#"{"listed":false}"#, "PATCH", path)
        }),
        reads: vec![
            read(&format!("{NUGET}/v3/registrations2-semver2/contoso.utility/index.json"), &[], |response| {
                let pages = json(response)["items"].as_array().cloned().unwrap_or_default();
                let leaves: Vec<_> =
                    pages.iter().filter_map(|page| page["items"].as_array()).flatten().collect();
                let unlisted = |number| {
                    let entry = leaves.iter().map(|leaf| &leaf["catalogEntry"]);
                    let mut entry = entry.filter(|entry| entry["version"] == format!("0.{number}.0"));
                    entry.any(|entry| entry["listed"] == false)
                };
                counted(unlisted)
            }),
            read(&format!("{REST}/nuget/packages/contoso.utility/versions/0.1.0"), &[], |response| {
                if json(response)["listed"] == false { WRITES } else { 0 }
            }),
        ],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_package_is_gone_for_the_next_read() {
    let left = |response: &Response| {
        let versions = json(response)["versions"].as_array().cloned().unwrap_or_default();
        counted(|number| !versions.iter().any(|version| *version == format!("0.{number}.0")))
    };
    check(Case {
        name: "nuget delete",
        write: Box::new(|number| {
            let path = format!(
                "{REST}/nuget/packages/contoso.utility/versions/0.{number}.0?api-version=5.0-preview.1"
            );
            body("", "DELETE", path)
        }),
        reads: vec![
            read(&format!("{NUGET}/v3/flat2/contoso.utility/index.json"), &[], left),
            read(&format!("{NUGET}/v3/flat2/contoso.utility/0.1.0/contoso.utility.0.1.0.nupkg"), &[], gone),
            read(&format!("{NUGET}/v3/flat2/contoso.utility/0.1.0/contoso.utility.nuspec"), &[], gone),
            read(&format!("{NUGET}/v2?id=contoso.utility&version=0.1.0"), &[], gone),
            read(&format!("{NUGET}/v2/FindPackagesById()?id='Contoso.Utility'"), &[], |response| {
                let text = response.text();
                counted(|number| !text.contains(&format!("<d:Version>0.{number}.0<")))
            }),
        ],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_package_is_seen_by_the_next_read() {
    let package = (1..=WRITES).fold(NugetPackage::new("Contoso.Utility"), |package, number| {
        package.version(&format!("1.0.{number}"), NugetVersion::new().size(700))
    });
    let organisation = Organisation::new("other").feed(Feed::new("main").nuget(package));
    let source = Simulator::builder().organisation(organisation).start().await.unwrap();
    let version = |number: usize| format!("1.0.{number}");
    let listed = move |response: &Response| {
        let versions = json(response)["versions"].as_array().cloned().unwrap_or_default();
        counted(|number| versions.iter().any(|own| *own == version(number)))
    };
    check(Case {
        name: "nuget push",
        write: Box::new(move |number| {
            let (nupkg, _) = source.nuget_file("other/main", "Contoso.Utility", &version(number));
            let head = b"--b\r\nContent-Disposition: form-data; name=package; filename=a.nupkg\r\n\r\n";
            Write {
                method: "PUT",
                path: format!("{NUGET}/v2/"),
                headers: vec![("Content-Type", "multipart/form-data; boundary=b".to_owned())],
                body: [&head[..], &nupkg, b"\r\n--b--\r\n"].concat(),
            }
        }),
        reads: vec![
            read(&format!("{NUGET}/v3/flat2/contoso.utility/index.json"), &[], listed),
            read(&format!("{NUGET}/v2/FindPackagesById()?id='Contoso.Utility'"), &[], move |response| {
                let text = response.text();
                counted(|number| text.contains(&format!("<d:Version>{}<", version(number))))
            }),
            read(&format!("{NUGET}/v3/query2/?q=contoso&take=30"), &[], move |response| {
                let text = response.text();
                counted(|number| text.contains(&format!("\"{}\"", version(number))))
            }),
        ],
    })
    .await;
}
