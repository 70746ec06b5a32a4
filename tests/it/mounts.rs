//! A mount over real sockets: what its origin is asked, what clients get, and what is kept.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use feedgate::{
    app::Gate,
    clock::Clock,
    config::{Config, mount::Mount},
};
use tokio::sync::Notify;

use crate::scripted::{Act, Client, Reply, Seen, Service, answer, ask, config, get, start_at, stop};

const PATH: &str = "/mirror/a/file.txt";

/// An origin, a gate with a mount of it, and the time of day.
struct Scene {
    origin: Service,
    gate: Gate,
    clock: Clock,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        let (origin, folder) = (Service::start(script).await, tempfile::tempdir().unwrap());
        let mut config = config(origin.address, folder.path());
        // The least there may be.
        config.store.capacity = 256 << 20;
        config.mounts =
            mounts(&format!("path = \"/mirror/\"\nupstream = \"http://{}/base\"\n", origin.address));
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let gate = start_at(config.clone(), clock.clone()).await;
        Self { origin, gate, clock, config, _folder: folder }
    }

    async fn get(&self, headers: &str) -> Reply {
        get(self.gate.address(), PATH, headers).await
    }

    /// How often the origin was asked for the file.
    fn asked(&self) -> usize {
        self.origin.asked("/base/a/file.txt").len()
    }
}

fn mounts(table: &str) -> Vec<Mount> {
    Config::parse(&format!("[[mount]]\n{table}"), &BTreeMap::new()).unwrap().config.mounts
}

fn fresh(_: &Seen) -> Act {
    answer("200 OK", "Cache-Control: max-age=60\r\nETag: \"1\"\r\nSet-Cookie: a=b\r\nX: y\r\n", "0123456789")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_response_is_served_without_its_origin_whole_and_in_parts() {
    let mut scene = Scene::new(fresh).await;
    let first = scene.get("X-Client: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n").await;
    assert_eq!((first.status, first.text()), (200, "0123456789".to_owned()));
    assert_eq!(first.header("cache-status"), Some("feedgate; fwd=uri-miss; stored"));
    let asked = &scene.origin.asked("/base/a/file.txt")[0];
    assert_eq!((asked.header("x-client"), asked.header("x-hop")), (Some("1"), None));
    assert_eq!(asked.header("via"), Some("1.1 feedgate"));
    assert_eq!(asked.header("host"), Some(scene.origin.address.to_string().as_str()));

    scene.clock.advance(Duration::from_secs(7));
    let again = scene.get("").await;
    assert_eq!((again.text(), again.header("age"), again.header("x")), (first.text(), Some("7"), Some("y")));
    assert_eq!(again.header("cache-status"), Some("feedgate; hit; ttl=53"));
    assert_eq!(again.header("set-cookie"), Some("a=b"));
    let part = scene.get("Range: bytes=2-4\r\n").await;
    assert_eq!(
        (part.status, part.text(), part.header("content-range")),
        (206, "234".into(), Some("bytes 2-4/10"))
    );
    let unchanged = scene.get("If-None-Match: \"0\", W/\"1\"\r\n").await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some("\"1\"")));
    let head = ask(scene.gate.address(), &format!("HEAD {PATH} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(scene.asked(), 1);

    stop(scene.gate).await;
    scene.gate = start_at(scene.config.clone(), scene.clock.clone()).await;
    assert_eq!(get(scene.gate.address(), PATH, "").await.text(), "0123456789");
    assert_eq!(scene.origin.asked("/base/a/file.txt").len(), 1, "it survives a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_is_validated_and_brought_up_to_date() {
    let script = |seen: &Seen| match seen.header("if-none-match") {
        Some("\"1\"") => {
            Act::Answer(b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nX: z\r\n\r\n".into())
        }
        _ => fresh(seen),
    };
    let scene = Scene::new(script).await;
    scene.get("").await;
    scene.clock.advance(Duration::from_secs(61));
    let validated = scene.get("Range: bytes=0-1\r\nIf-None-Match: \"other\"\r\n").await;
    assert_eq!(
        (validated.status, validated.text(), validated.header("x")),
        (206, "01".to_owned(), Some("z"))
    );
    assert_eq!(validated.header("cache-status"), Some("feedgate; fwd=stale; stored"));
    assert_eq!(scene.origin.asked("/base/a/file.txt")[1].header("range"), None);
    let again = scene.get("").await;
    assert_eq!(
        (again.text(), again.header("x"), again.header("age")),
        ("0123456789".into(), Some("z"), Some("0"))
    );
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_breaks_for_its_client_and_is_not_kept() {
    let scene = Scene::new(|_| {
        Act::Close(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n01234".into())
    })
    .await;
    let mut client = Client::connect(scene.gate.address()).await;
    client.send(format!("GET {PATH} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    let broken = client.read("GET").await;
    assert!(broken.is_none_or(|reply| !reply.whole), "half a body looked whole");
    scene.origin.play(fresh);
    assert_eq!(scene.get("").await.text(), "0123456789");
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_reaches_the_origin_and_makes_what_is_stored_invalid() {
    let script = |seen: &Seen| match seen.line.split(' ').next() {
        Some("GET") => fresh(seen),
        _ => answer("201 Created", "Location: /base/a/file.txt\r\n", "done"),
    };
    let scene = Scene::new(script).await;
    scene.get("").await;
    let written =
        ask(scene.gate.address(), "POST /mirror/a HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!((written.status, written.text()), (201, "done".to_owned()));
    assert_eq!(written.header("location"), Some(PATH), "the mount's own URL");
    assert_eq!(
        scene.origin.asked("/base/a").iter().find(|seen| seen.line.starts_with("POST")).unwrap().body,
        b"abc"
    );
    scene.get("").await;
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_credential_brought_is_shared_only_if_the_origin_says_so() {
    let scene = Scene::new(fresh).await;
    for credential in ["Authorization: Basic YTph\r\n", "", "", "Authorization: Basic YjpI\r\n"] {
        scene.get(credential).await;
    }
    let seen = scene.origin.asked("/base/a/file.txt");
    let credentials: Vec<_> = seen.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(credentials, [Some("Basic YTph"), None], "the second, without one, was stored for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_keeps_the_date_that_it_came_with() {
    let date = "Tue, 14 Nov 2023 22:13:00 GMT";
    let scene = Scene::new(move |_| {
        answer(
            "200 OK",
            &format!("Cache-Control: max-age=600\r\nDate: {date}\r\n"),
            format!("\r\nDate: {date}"),
        )
    })
    .await;
    for _ in 0..2 {
        let reply = scene.get("").await;
        assert_eq!((reply.all("date"), reply.text()), (vec![date], format!("\r\nDate: {date}")));
    }
    // Other answers on the same connection have the time of sending.
    let mut client = Client::connect(scene.gate.address()).await;
    for (path, own) in [(PATH, true), ("/nowhere", false), (PATH, true)] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        let reply = client.read("GET").await.unwrap();
        assert_eq!(reply.all("date") == [date], own, "{path}: {:?}", reply.all("date"));
        assert_eq!(reply.all("date").len(), 1);
    }
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_stands_in_where_that_is_allowed() {
    let mut scene = Scene::new(|seen: &Seen| {
        let control = if seen.path().contains("strict") { "max-age=1, must-revalidate" } else { "max-age=1" };
        answer("200 OK", &format!("Cache-Control: {control}\r\n"), "body")
    })
    .await;
    let address = scene.gate.address();
    get(address, "/mirror/strict", "").await;
    scene.get("").await;
    scene.origin.vanish().await;
    scene.clock.advance(Duration::from_secs(60));
    let stale = scene.get("").await;
    assert_eq!((stale.status, stale.text(), stale.header("age")), (200, "body".to_owned(), Some("60")));
    assert_eq!(get(address, "/mirror/strict", "").await.status, 502);
    assert_eq!(scene.get("Cache-Control: only-if-cached\r\n").await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_is_refreshed_behind_the_answer_where_that_is_allowed() {
    let scene =
        Scene::new(|_| answer("200 OK", "Cache-Control: max-age=10, stale-while-revalidate=60\r\n", "body"))
            .await;
    scene.get("").await;
    scene.clock.advance(Duration::from_secs(20));
    assert_eq!(scene.get("").await.header("cache-status"), Some("feedgate; hit; ttl=-10"));
    scene.origin.until(|seen| seen.len() == 2).await;
    crate::support::until(|| async { scene.get("").await.header("age") == Some("0") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_paths_below_the_mount_are_its_own() {
    let scene = Scene::new(|_| answer("404 Not Found", "", "")).await;
    let address = scene.gate.address();
    get(address, "/contoso/_packaging/main/npm/registry/x", "").await;
    assert_eq!(get(address, "/mirror/a/%2e%2e/b", "").await.status, 400);
    get(address, "/mirror/q?a=1//2", "").await;
    assert_eq!(scene.origin.asked("/base").iter().map(Seen::path).collect::<Vec<_>>(), ["/base/q?a=1//2"]);
    assert!(!scene.origin.asked("/contoso/").is_empty(), "the service's own routes are still its own");
}

/// Sends as many GETs at once, each on a connection of its own; `meanwhile` runs when all are sent.
async fn herd(scene: &Scene, size: usize, meanwhile: impl Future<Output = ()>) -> Vec<Reply> {
    let mut clients = Vec::new();
    for _ in 0..size {
        let mut client = Client::connect(scene.gate.address()).await;
        client.send(format!("GET {PATH} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        clients.push(client);
    }
    meanwhile.await;
    let mut replies = Vec::new();
    for mut client in clients {
        replies.push(client.read("GET").await.expect("an answer"));
    }
    replies
}

/// Waits until the gate has that many requests in its hands.
async fn in_hand(scene: &Scene, size: usize) {
    let count = async || {
        let metrics = get(scene.gate.admin_address(), "/metrics", "").await.text();
        let line = metrics.lines().find(|line| line.starts_with("feedgate_requests_in_flight "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    crate::support::until(|| async { count().await == size }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_that_wants_one_response_makes_one_request() {
    let go = Arc::new(Notify::new());
    let held = |go: &Arc<Notify>, act| Act::After(Arc::clone(go), Box::new(act));
    let gate = Arc::clone(&go);
    let script = move |seen: &Seen| match seen.header("if-none-match") {
        Some(_) => {
            held(&gate, Act::Answer(b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n".into()))
        }
        None => held(&gate, fresh(seen)),
    };
    let scene = Scene::new(script).await;
    // First to be fetched, then to be validated.
    for asked in [1, 2] {
        let release = async {
            in_hand(&scene, 20).await;
            go.notify_one();
        };
        let replies = herd(&scene, 20, release).await;
        assert!(replies.iter().all(|reply| (reply.status, reply.text()) == (200, "0123456789".to_owned())));
        let waited =
            |reply: &&Reply| reply.header("cache-status").is_some_and(|status| status.contains("collapsed"));
        assert_eq!((scene.asked(), replies.iter().filter(waited).count()), (asked, 19));
        scene.clock.advance(Duration::from_secs(61));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_nobody_else_is_never_asked_for_one_after_the_other() {
    let gates: Vec<_> = std::iter::repeat_with(|| Arc::new(Notify::new())).take(20).collect();
    // The first is answered at once.
    let mut held: Vec<_> = gates.iter().cloned().map(Some).chain([None]).collect();
    let scene = Scene::new(move |_| {
        let own = answer("200 OK", "Cache-Control: private\r\n", "own");
        let gate = held.pop().flatten();
        gate.map_or(own.clone(), |gate| Act::After(gate, Box::new(own)))
    })
    .await;
    // The first tells what the others cannot know.
    assert_eq!(scene.get("").await.text(), "own");
    let release = async {
        scene.origin.until(|seen| seen.len() == 21).await;
        for gate in &gates {
            gate.notify_one();
        }
    };
    let replies = herd(&scene, 20, release).await;
    assert!(replies.iter().all(|reply| (reply.status, reply.text()) == (200, "own".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_a_response_that_breaks_off_asks_again() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let broken = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n01234";
    let mut first = true;
    let scene = Scene::new(move |seen| {
        if std::mem::take(&mut first) {
            Act::After(Arc::clone(&gate), Box::new(Act::Close(broken.into())))
        } else {
            fresh(seen)
        }
    })
    .await;
    let release = async {
        in_hand(&scene, 10).await;
        go.notify_one();
    };
    let replies = herd(&scene, 10, release).await;
    let whole = replies.iter().filter(|reply| reply.whole && reply.text() == "0123456789").count();
    assert_eq!(whole, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_for_one_hop_selects_nothing() {
    let scene = Scene::new(|seen: &Seen| {
        let language = seen.header("accept-language").unwrap_or("default").to_owned();
        answer("200 OK", "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n", language)
    })
    .await;
    let german = "Accept-Language: de\r\n";
    let hidden = scene.get(&format!("Connection: accept-language\r\n{german}")).await;
    assert_eq!(hidden.text(), "default", "the origin does not get it");
    assert_eq!(scene.get(german).await.text(), "de");
    assert_eq!(scene.get("").await.text(), "default");
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_condition_or_a_range_failed_with_is_nobody_elses() {
    let scene = Scene::new(|seen: &Seen| {
        let status = match (seen.header("range"), seen.header("if-match")) {
            (Some(_), _) => "416 Range Not Satisfiable",
            (_, Some(_)) => "412 Precondition Failed",
            _ => "200 OK",
        };
        answer(status, "Cache-Control: max-age=60\r\n", status)
    })
    .await;
    assert_eq!(scene.get("Range: bytes=999999999-\r\n").await.status, 416);
    assert_eq!(scene.get("If-Match: \"x\"\r\n").await.status, 412);
    assert_eq!(scene.get("").await.status, 200);
    assert_eq!(scene.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_write_is_the_clients_whatever_its_conditions() {
    let scene = Scene::new(|_| answer("200 OK", "ETag: \"1\"\r\n", "written")).await;
    let write = |more: &str| format!("PUT {PATH} HTTP/1.1\r\nHost: g\r\n{more}Content-Length: 1\r\n\r\nx");
    for more in ["If-None-Match: *\r\n", "If-None-Match: \"1\"\r\n"] {
        let written = ask(scene.gate.address(), &write(more)).await;
        assert_eq!((written.status, written.text()), (200, "written".to_owned()), "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_no_interim_answer_gets_none() {
    let scene = Scene::new(|_| answer("200 OK", "ETag: \"1\"\r\n", "written")).await;
    for (version, expects, told) in
        [("1.0", "100-continue", 200), ("1.1", "something", 200), ("1.1", "100-continue", 100)]
    {
        let request = format!(
            "PUT {PATH} HTTP/{version}\r\nHost: g\r\nExpect: {expects}\r\nContent-Length: 1\r\n\r\nx"
        );
        assert_eq!(ask(scene.gate.address(), &request).await.status, told, "{version} {expects}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_would_take_much_of_the_store_is_passed_on_and_not_kept() {
    let body = vec![b' '; (32 << 20) + 1];
    let (announced, unannounced) = (body.clone(), body.clone());
    let scene = Scene::new(move |seen: &Seen| {
        if seen.path().contains("announced") {
            return answer("200 OK", "Cache-Control: max-age=60\r\n", &announced);
        }
        let mut chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n".to_vec();
        chunks.extend(format!("{:x}\r\n", unannounced.len()).bytes());
        chunks.extend_from_slice(&unannounced);
        chunks.extend(b"\r\n0\r\n\r\n");
        Act::Answer(chunks)
    })
    .await;
    for path in ["/mirror/announced", "/mirror/chunks"] {
        for asked in 1..=2 {
            let reply = get(scene.gate.address(), path, "").await;
            assert!(reply.whole && reply.body == body, "{path}");
            assert_eq!(scene.origin.asked(path.trim_start_matches("/mirror")).len(), asked, "{path}");
        }
    }
}
