//! Hits: answered from memory without a session where nothing is asked for that needs one, and the same as with one.

use std::time::Duration;

use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, Organisation, Simulator,
    client::{self, Connection, Response, Url},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{NPM, NUGET, PAT, Scene, contoso, readers, until};

/// A wish that is heard by nobody, so that the request takes the way of those that have one.
const WISH: (&str, &str) = ("Cache-Control", "max-stale=1");
const NPM_ACCEPT: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";

/// What an answer tells, without what is of one answer or of one moment.
fn told(response: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let passing = ["date", "age", "x-request-id", "cache-status", "connection"];
    let folded = response.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut headers: Vec<_> = folded.filter(|(name, _)| !passing.contains(&name.as_str())).collect();
    headers.sort();
    (response.status, headers, response.body.to_vec())
}

/// Sessions write names with capitals.
fn needs_no_session(response: &Response) -> bool {
    response.headers.iter().any(|(name, _)| name == "date")
}

async fn answered(scene: &Scene, class: &str, status: &str) -> f64 {
    let parts =
        [&format!("class=\"{class}\""), "cache=\"hit\"", "tier=\"memory\"", &format!("status=\"{status}\"")];
    scene.metric(&[&["feedgate_requests_total"], &parts[..]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_tells_the_same_with_and_without_a_session() {
    let scene = Scene::new().await;
    let rows = [
        (format!("{NPM}/left-pad"), "packument", &[][..]),
        (format!("{NPM}/left-pad"), "packument", &[("Accept", NPM_ACCEPT), ("Accept-Encoding", "gzip")]),
        (format!("{NUGET}/registrations2/contoso.utility/1.0.0.json"), "registration", &[]),
        (format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"), "npm_package", &[]),
        (format!("{NUGET}/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"), "nuget_package", &[]),
    ];
    for (path, class, headers) in rows {
        // From the service, and into memory: a hit may still be of the download.
        until(|| async {
            let response = scene.get_with(&path, headers).await;
            assert_eq!(response.status, 200, "{path}");
            needs_no_session(&response)
        })
        .await;
        // Not what is asked beside a download.
        let own = path.rsplit('/').next().unwrap_or_default();
        let asked = || scene.simulator.requests().iter().filter(|one| one.path.ends_with(own)).count();
        let before = asked();
        let plain = scene.get_with(&path, headers).await;
        let tag = plain.header("etag").unwrap().to_owned();
        for more in [&[][..], &[("If-None-Match", tag.as_str())], &[("If-None-Match", "\"other\"")]] {
            let own = [headers, more].concat();
            let wished = scene.get_with(&path, &[&own[..], &[WISH]].concat()).await;
            let status = format!("{}xx", wished.status / 100);
            until(|| async { answered(&scene, class, &status).await > 0.0 }).await;
            let before = answered(&scene, class, &status).await;
            for _ in 0..2 {
                let hit = scene.get_with(&path, &own).await;
                assert_eq!(told(&hit), told(&wished), "{path} {own:?}");
                let ways = (needs_no_session(&hit), needs_no_session(&wished));
                assert_eq!(ways, (true, false), "{path} {own:?}");
                for name in ["date", "age", "x-request-id", "cache-status"] {
                    assert_eq!(hit.header(name).is_some(), wished.header(name).is_some(), "{path}: {name}");
                }
            }
            // An answer is counted when it has gone out.
            until(|| async { answered(&scene, class, &status).await >= before + 2.0 }).await;
        }
        assert_eq!(asked(), before, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_for_whom_the_gate_stands_in_need_no_session_either() {
    let folder = tempfile::tempdir().unwrap();
    let credential = folder.path().join("pat");
    std::fs::write(&credential, PAT).unwrap();
    let extra = format!(
        "[[organisation]]\nname = \"contoso\"\naccess = \"gateway\"\ncredential_file = \"{}\"\n",
        credential.display()
    );
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let scene = Scene::with(simulator, &extra);
    for path in [format!("{NPM}/left-pad"), format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz")] {
        let first = scene.get_as(None, &path, &[]).await;
        assert_eq!(first.status, 200, "{}", first.text());
        until(|| async {
            let hit = scene.get_as(None, &path, &[]).await;
            assert_eq!(hit.body, first.body);
            needs_no_session(&hit)
        })
        .await;
        let checks = async || scene.metric(&["feedgate_token_checks_total", "outcome=\"network\""]).await;
        let before = checks().await;
        assert!(needs_no_session(&scene.get_as(None, &path, &[]).await));
        assert!((checks().await - before - 1.0).abs() < f64::EPSILON);
    }
}

/// What is in much use is sent from files of the kernel's, to clients that take it at once and to those that take it late.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_and_again_comes_whole_each_time() {
    let sized =
        |size: usize| NpmPackage::new(&format!("of-{size}")).version("1.0.0", NpmVersion::new().size(size));
    let many = NpmPackage::new("many").versions(150, &NpmVersion::new().size(1_000));
    let feed = [1_000, 30_000, 100_000, 200_000].map(sized).into_iter().fold(Feed::new("main"), Feed::npm);
    let organisation = readers(Organisation::new("contoso").feed(feed.npm(many)));
    let scene = Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), "");
    let paths =
        ["of-1000", "of-30000", "of-100000", "of-200000"].map(|name| format!("{name}/-/{name}-1.0.0.tgz"));
    for path in paths.into_iter().chain(["many".to_owned()]) {
        let path = format!("{NPM}/{path}");
        until(|| async { needs_no_session(&scene.get(&path).await) }).await;
        let first = scene.get(&path).await;
        let url = Url::parse(&scene.url(&path)).unwrap();
        let credential = client::basic("any", PAT);
        let request = |method: &str| {
            let host = format!("{}:{}", url.host(), url.port());
            format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {credential}\r\n\r\n")
        };
        let mut connection = Connection::open(&url, None).await.unwrap();
        // More than the buffers of the sockets hold is asked for before the first byte is read.
        connection.send(request("GET").repeat(60).as_bytes()).await.unwrap();
        connection.send(request("HEAD").as_bytes()).await.unwrap();
        for answer in 0..60 {
            let response = connection.response(false).await.unwrap();
            assert!(response.status == 200 && needs_no_session(&response), "{path}");
            assert!(response.complete && response.body == first.body, "{path}: answer {answer}");
        }
        let head = connection.response(true).await.unwrap();
        assert_eq!(head.header("content-length"), Some(first.body.len().to_string().as_str()));
        assert_eq!(connection.unread(), 0);
    }
}

/// What Linux holds of a connection that nobody has confirmed yet, by the ports of both its ends.
fn queued(own: u16, peer: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut found = table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok();
        let ports = (port()?, port()?);
        let queues = fields.nth(1)?;
        (ports == (own, peer)).then(|| u64::from_str_radix(queues.split_once(':').unwrap().0, 16).unwrap())
    });
    found.next().expect("the connection is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_holds_little_for_a_client_that_stops_to_read() {
    let package = NpmPackage::new("p").version("1.0.0", NpmVersion::new().size(40_000_000));
    let organisation = readers(Organisation::new("contoso").feed(Feed::new("main").npm(package)));
    let scene = Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), "");
    let path = format!("{NPM}/p/-/p-1.0.0.tgz");
    assert!(scene.get(&path).await.complete);
    let (address, credential) = (scene.gate().address(), client::basic("any", PAT));
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {credential}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let peer = client.local_addr().unwrap().port();
    let (mut before, mut same) = (0, 0);
    // Nothing moves any more.
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = queued(address.port(), peer);
        same = if now > 0 && now == before { same + 1 } else { 0 };
        before = now;
    }
    assert!(before <= 512 << 10, "{before} bytes");
}
