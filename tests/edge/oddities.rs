//! A service that answers in every way that it may, or that something on the way makes of its answers.

use super::{
    A, INDEX, NUPKG, Scene, TARBALL,
    support::{Act, Seen, answer, json},
    to,
};

const BODY: &[u8] = b"PK small package";

fn plain(_: &Seen) -> Act {
    answer("200 OK", "Content-Type: application/octet-stream\r\n", BODY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_host_that_refuses_for_load_holds_up_no_other() {
    let scene = Scene::with(
        |_| json(INDEX),
        |config| {
            let other = config.upstream.pkgs.to_string().replace("/{org}", "");
            config.upstream.blob_hosts.push(other.parse().unwrap());
        },
    )
    .await;
    let url = scene.service.blob_url(BODY);
    scene.service.play(move |seen| match (seen.path(), seen.header("host")) {
        (path, Some(host)) if path.starts_with("/b-") && host.starts_with("localhost") => {
            answer("503 Server Busy", "Retry-After: 60\r\n", "")
        }
        (path, _) if path.starts_with("/b-") => plain(seen),
        (path, _) if path.ends_with(".tgz") => to(&url),
        (path, _) if path.ends_with(".nupkg") => to(&url.replace("localhost", "127.0.0.1")),
        _ => json(INDEX),
    });
    assert_eq!(scene.get(TARBALL, A).await.status, 503);
    let reply = scene.get(NUPKG, A).await;
    assert_eq!((reply.status, &reply.body[..]), (200, BODY));
    assert_eq!(scene.service.asked("/b-").len(), 2);
    scene.end().await;
}
