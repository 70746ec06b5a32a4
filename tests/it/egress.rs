//! The way out through an HTTP proxy: everything goes through it, and its refusals are clear.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use feedgate_simulator::{Conduct, ConnectProxy, Simulator};

use crate::support::{NPM, Scene, contoso, until};

const PACKUMENT: &str = "contoso/_packaging/main/npm/registry/left-pad";
const CREDENTIAL: &str = "gate:planted-password";

/// A scene over TLS whose gate goes out through `proxy`.
async fn scene(proxy: &ConnectProxy, folder: &std::path::Path, extra: &str) -> Scene {
    let simulator = Simulator::builder().organisation(contoso()).tls(true).start().await.unwrap();
    let (ca, credential) = (folder.join("ca.pem"), folder.join("proxy"));
    std::fs::write(&ca, simulator.ca_pem().unwrap()).unwrap();
    std::fs::write(&credential, format!("{CREDENTIAL}\n")).unwrap();
    let extra = format!(
        "upstream.ca_file = \"{}\"\nupstream.proxy = \"{}\"\nupstream.proxy_credential_file = \"{}\"\n{extra}",
        ca.display(),
        proxy.url(),
        credential.display(),
    );
    Scene::with(simulator, &extra)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_downloads_and_writes_go_through_the_proxy_over_connections_of_their_own_host() {
    let (proxy, folder) = (ConnectProxy::start().await.unwrap(), tempfile::tempdir().unwrap());
    let scene = scene(&proxy, folder.path(), "").await;
    for n in 0..3 {
        let unknown = scene.get(&format!("{NPM}/unknown-{n}")).await;
        assert_eq!(unknown.status, 404, "{}", unknown.text());
        let feeds = scene.get("contoso/_apis/packaging/feeds/main").await;
        assert_eq!(feeds.status, 200, "{}", feeds.text());
    }
    let package = scene.get(&format!("{NPM}/large/-/large-1.0.0.tgz")).await;
    assert_eq!((package.status, package.complete), (200, true));
    let path = "contoso/_apis/packaging/feeds/main/npm/left-pad/versions/9.9.9";
    assert_eq!(scene.send_as("DELETE", Some(crate::support::PAT), path, &[]).await.status, 403);

    let asked = proxy.asked();
    let hosts = [
        scene.simulator.pkgs_url().split('/').nth(2).unwrap().to_owned(),
        scene.simulator.feeds_url().split('/').nth(2).unwrap().to_owned(),
        scene.simulator.blob_authority(),
    ];
    for host in &hosts {
        let credential = Some(format!("Basic {}", STANDARD.encode(CREDENTIAL)));
        let one = asked.iter().find(|asked| asked.target == *host);
        assert_eq!(one.map(|asked| asked.credential.clone()), Some(credential), "{host}: {asked:?}");
    }
    assert_eq!(asked.iter().filter(|asked| !hosts.contains(&asked.target)).count(), 0, "{asked:?}");
    // Nothing reached the service beside the proxy, and connections were kept.
    assert_eq!(scene.simulator.accepted_connections(), asked.len() as u64);
    assert!(asked.len() < scene.simulator.requests().len(), "{} connections", asked.len());
    let told = |name: &str| scene.simulator.count(|request| request.headers.iter().any(|(n, _)| n == name));
    assert_eq!(told("proxy-authorization"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_an_error_that_counts_as_an_outage_until_it_tunnels_again() {
    for conduct in [
        Conduct::Refuse(407),
        Conduct::Refuse(403),
        Conduct::Refuse(502),
        Conduct::Close,
        Conduct::Garbage,
        Conduct::Silent,
    ] {
        let (proxy, folder) = (ConnectProxy::start().await.unwrap(), tempfile::tempdir().unwrap());
        let patience = "upstream.connect_timeout = \"300ms\"\n[outage]\nhold = \"0ms\"\n";
        let scene = scene(&proxy, folder.path(), patience).await;
        proxy.set_conduct(conduct);
        let refused = scene.get(PACKUMENT).await;
        assert!(matches!(refused.status, 502 | 424), "{conduct:?}: {}", refused.text());
        assert!(!refused.text().contains("planted"), "{}", refused.text());
        until(async || scene.get(PACKUMENT).await.status == 424).await;
        assert_eq!(scene.simulator.requests().len(), 0, "{conduct:?}");
        proxy.set_conduct(Conduct::Tunnel);
        until(async || scene.get(PACKUMENT).await.status == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_the_proxy_is_not_for_are_connected_to_directly() {
    let (proxy, folder) = (ConnectProxy::start().await.unwrap(), tempfile::tempdir().unwrap());
    proxy.set_conduct(Conduct::Refuse(403));
    let exempt = "upstream.no_proxy = [\"localhost\", \"127.0.0.0/8\"]\n";
    let scene = scene(&proxy, folder.path(), exempt).await;
    assert_eq!(scene.get(PACKUMENT).await.status, 200);
    assert_eq!(proxy.asked(), []);
}
