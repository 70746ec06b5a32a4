//! No call of the database or of the store's files is made on a thread that serves sockets.

use std::{sync::Arc, time::Duration};

use feedgate::{
    clock::Clock,
    disk::watch::{blocked, may_block},
};
use feedgate_simulator::{Simulator, client};
use serde_json::json;

use crate::{
    process::Process,
    scripted::{Service, answer},
    support::{FORBIDDEN_PAT, NPM, NUGET, OTHER_PAT, PAT, Scene, contoso},
};

/// Everything that clients and operators ask for, each by a reader, another one and one without the right.
async fn everything(scene: &Scene) {
    let rest = "contoso/_apis/packaging/feeds/main/npm/left-pad/versions/1.3.0?api-version=7.1";
    let paths = [
        format!("{NPM}/left-pad"),
        format!("{NPM}/@scope%2fwide"),
        format!("{NPM}/left-pad/1.3.0"),
        format!("{NPM}/none"),
        format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"),
        format!("{NPM}/large/-/large-1.0.0.tgz"),
        format!("{NPM}/none/-/none-1.0.0.tgz"),
        format!("{NUGET}/index.json"),
        format!("{NUGET}/flat2/contoso.utility/index.json"),
        format!("{NUGET}/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"),
        format!("{NUGET}/registrations2-semver2/contoso.utility/index.json"),
        "contoso/_packaging/nowhere/npm/registry/left-pad".to_owned(),
        rest.to_owned(),
        "mirror/file.txt".to_owned(),
    ];
    for pat in [Some(PAT), Some(PAT), Some(OTHER_PAT), Some(FORBIDDEN_PAT), None] {
        for path in &paths {
            let answer = scene.get_as(pat, path, &[]).await;
            assert!(answer.status < 500, "{path}: {}", answer.text());
            scene.get_as(pat, path, &[("Range", "bytes=1-2")]).await;
        }
        let shown = scene.get_as(Some("fgt_no_token"), "vendor/file.txt", &[]).await;
        assert_eq!(shown.status, 401, "{}", shown.text());
    }
    let admin = |path: &str| format!("http://{}/admin/v1/{path}", scene.gate().admin_address());
    for path in &paths[..11] {
        let url = scene.url(path);
        let question = json!({"what": url, "authorization": client::basic("any", PAT)}).to_string();
        let told = client::send("POST", &admin("explain"), &[], question.as_bytes()).await.unwrap();
        assert_eq!(told.status, 200, "{path}: {}", told.text());
    }
    for path in ["stats", "objects", "pins"] {
        assert!(client::get(&admin(path), &[]).await.unwrap().status < 500, "{path}");
    }
    scene.metrics().await;
    let advisories = scene.url(&format!("{NPM}/-/npm/v1/security/advisories/bulk"));
    let credential = client::basic("any", PAT);
    let by = [("Authorization", credential.as_str()), ("Content-Type", "application/json")];
    client::send("POST", &advisories, &by, br#"{"left-pad":["1.3.0"]}"#).await.unwrap();
    // What it would say of the write does not matter: that it was one makes what is stored old.
    for (method, path) in [("PUT", format!("{NPM}/left-pad")), ("PATCH", rest.to_owned())] {
        client::send(method, &scene.url(&path), &by, b"{}").await.unwrap();
    }
    let feed = scene.url("contoso/_apis/packaging/feeds/main?api-version=7.1");
    client::send("PATCH", &feed, &by, br#"{"name":"main"}"#).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_thread_that_serves_sockets_waits_for_the_disk() {
    let origin = Service::start(|_| answer("200 OK", "Cache-Control: max-age=60\r\n", "file")).await;
    let folder = tempfile::tempdir().unwrap();
    let (credential, tokens) = (folder.path().join("credential"), folder.path().join("tokens"));
    std::fs::write(&credential, "planted").unwrap();
    let mount = format!(
        "[[mount]]\npath = \"/mirror/\"\nupstream = \"http://{0}/\"\n\
         [[mount]]\npath = \"/vendor/\"\nupstream = \"http://{0}/\"\naccess = \"gateway\"\ncredential_file = \"{1}\"\n",
        origin.address,
        credential.display()
    );
    for guard in ["", "[[guard]]\nmin_release_age = \"1s\"\ndeny = [\"evil\"]\n"] {
        let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
        let clock = Clock::system();
        // Files, chunks and what is in memory; documents that are soon old.
        let extra = format!(
            "store.hot_capacity = \"1MiB\"\nstore.spill = \"16KiB\"\naccess.denied_per_minute = 100000\naccess.tokens = \"{}\"\n{guard}{mount}",
            tokens.display()
        );
        let mut scene = Scene::at(simulator, &extra, clock);
        everything(&scene).await;
        // Nothing is in memory any more.
        scene = tokio::task::spawn_blocking(move || {
            scene.restart();
            scene
        })
        .await
        .unwrap();
        everything(&scene).await;
        // The store's own upkeep, too.
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.get_as(Some("fgt_no_token"), "vendor/file.txt", &[]).await;
        let last = Arc::new(scene);
        tokio::task::spawn_blocking(move || drop(last)).await.unwrap();
        assert!(blocked().is_empty(), "{:?}", blocked());
    }
    // That it would be seen.
    let seen = std::thread::spawn(|| {
        feedgate::disk::watch::serve_sockets();
        may_block(|| feedgate::disk::watch::blocks("allowed"));
        feedgate::disk::watch::blocks("test");
        blocked()
    });
    assert_eq!(seen.join().unwrap().into_iter().collect::<Vec<_>>(), [("test", 1)]);
}

/// It wakes 100 times a second for good, once anything has begun it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_pingoras_timer() {
    let (folder, simulator) =
        (tempfile::tempdir().unwrap(), Simulator::builder().organisation(contoso()).start().await.unwrap());
    let gate = Process::start(&simulator, folder.path()).await;
    let credential = client::basic("any", PAT);
    // A document, a download, and what is passed through: connections of each kind are kept.
    for path in [
        format!("{NPM}/left-pad"),
        format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"),
        "contoso/_apis/packaging/feeds?api-version=7.1".to_owned(),
    ] {
        let answer = client::get(&gate.url(&path), &[("Authorization", &credential)]).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let threads = gate.threads();
    assert!(threads.iter().any(|name| name.starts_with("feedgate-io")), "{threads:?}");
    assert!(!threads.contains(&"Timer thread".to_owned()), "{threads:?}");
    assert_eq!(gate.terminate().await, Some(0));
}
