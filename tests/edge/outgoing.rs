//! Where the gate connects to, and what it takes from there.

use super::{
    A, DOCUMENT, PACKUMENT, Scene, publish,
    support::{Act, answer, ask, json},
};

/// A spelling of 127.0.0.1 that is an address to the resolver only, so to the gate it is a name that resolves.
const NAME: &str = "127.1";

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_a_private_address_is_not_connected_to_unless_it_is_listed() {
    for (listed, read, write) in
        [(&[][..], 502, 502), (&["10.0.0.0/8"], 502, 502), (&["127.0.0.0/8"], 200, 201)]
    {
        let script = |seen: &super::Seen| {
            if seen.line.starts_with("PUT") { answer("201 Created", "", "{}") } else { json(DOCUMENT) }
        };
        let scene = Scene::with(script, |config| {
            let url = config.upstream.pkgs.to_string().replace("127.0.0.1", NAME);
            config.upstream.pkgs = url.parse().unwrap();
            config.outage.failures = 1000;
            config.upstream.private_networks =
                listed.iter().map(|network| network.parse().unwrap()).collect();
        })
        .await;
        let reply = scene.get(PACKUMENT, A).await;
        assert_eq!(reply.status, read, "{listed:?}: {}", reply.text());
        let reply = ask(scene.gate.address(), &publish()).await;
        assert_eq!(reply.status, write, "{listed:?}: {}", reply.text());
        assert_eq!(scene.service.asked("").is_empty(), read == 502, "{listed:?}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_beyond_all_measure_is_a_502_and_a_stored_copy_stands_in() {
    let many = "X-Field: 1\r\n".repeat(200);
    let more = "X-Field: 1\r\n".repeat(400);
    let long = format!("X-Field: {}\r\n", "x".repeat(70_000));
    let endless = Act::Close([b"HTTP/1.1 200 OK\r\nX-Field: ".to_vec(), vec![b'x'; 3 << 20]].concat());
    let json_with =
        |fields: &str| answer("200 OK", &format!("Content-Type: application/json\r\n{fields}"), DOCUMENT);
    for act in [json_with(&many), json_with(&more), json_with(&long), endless] {
        let scene = Scene::new(|_| json(DOCUMENT)).await;
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
        scene.service.play(move |_| act.clone());
        let reply = scene.get(&PACKUMENT.replace("left", "right"), A).await;
        assert_eq!(reply.status, 502, "{}", reply.text());
        scene.later(10);
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_costs_its_client_no_more_than_the_time_for_documents() {
    let half = |kind: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n{{");
        Act::Answer(head.into_bytes())
    };
    // JSON of a route that is passed through, and a document in plain text.
    let readme = "/contoso/_apis/packaging/feeds/main/npm/packages/left-pad/versions/1.3.0/readme";
    for path in ["/contoso/_packaging/main/pypi/simple/x", readme] {
        let script = move |seen: &super::Seen| {
            if seen.path() == path { half("application/json") } else { json(super::INDEX) }
        };
        let scene = Scene::with(script, |config| {
            config.upstream.document_timeout = std::time::Duration::from_millis(100);
        })
        .await;
        let reply = scene.get(path, A).await;
        assert_eq!(reply.status, 504, "{path}: {}", reply.text());
        scene.end().await;
    }
}
