//! TLS to the service: its certificate must follow from the authority that the configuration names.

use feedgate_simulator::Simulator;

use crate::support::{NPM, Scene, contoso};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_asked_over_tls_when_its_authority_is_trusted_and_not_otherwise() {
    let start = || Simulator::builder().organisation(contoso()).tls(true).start();
    let (simulator, stranger) = (start().await.unwrap(), start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        format!("upstream.ca_file = \"{}\"\n", path.display())
    };
    let wrong = write("wrong.pem", stranger.ca_pem().unwrap());
    let right = write("right.pem", simulator.ca_pem().unwrap());
    let scene = Scene::with(simulator, &right);
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
    let package = scene.get(&format!("{NPM}/large/-/large-1.0.0.tgz")).await;
    assert_eq!((package.status, package.complete), (200, true));
    let Scene { simulator, .. } = scene;
    let distrusting = Scene::with(simulator, &wrong);
    let refused = distrusting.get(&format!("{NPM}/left-pad")).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (424, Some("upstream_down")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_to_the_service_goes_on_with_the_tls_session_of_an_earlier_one() {
    let simulator = Simulator::builder().organisation(contoso()).tls(true).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, simulator.ca_pem().unwrap()).unwrap();
    let scene = Scene::with(simulator, &format!("upstream.ca_file = \"{}\"\n", authority.display()));
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
    let (opened, resumed) = (scene.simulator.accepted_connections(), scene.simulator.resumed_connections());
    scene.simulator.reset_connections().await;
    assert_eq!(scene.get(&format!("{NPM}/large")).await.status, 200);
    assert!(scene.simulator.accepted_connections() > opened, "no new connection");
    assert!(scene.simulator.resumed_connections() > resumed, "each connection had a handshake of its own");
}
