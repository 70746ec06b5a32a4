//! Azure DevOps Server beside the hosted service, and how SDKs find their way through the gate.

use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token, client,
    client::{Response, basic, send},
};
use serde_json::Value;

use crate::support::{PAT, Scene, contoso, readers, until};

const NUGET_AREA: &str = "b3be7473-68ea-4a81-bfc7-9530baaa19ad";
const FEED_AREA: &str = "7ab4e64e-c4d8-4f50-ae73-5ef2e21642a5";

/// A PAT that may write.
const WRITER: &str = "pat-of-a-writer";

/// A gate between a server with one collection and the clients; the hosted service is nowhere.
async fn scene(collection: &str, directory: &str) -> Scene {
    let same = NpmVersion::new().size(200_000).salt("same");
    let npm = NpmPackage::new("left-pad").version("1.3.0", same);
    let nuget = NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new().size(9_000));
    let feed = |name: &str| Feed::new(name).npm(npm.clone()).nuget(nuget.clone());
    let organisation = Organisation::new(collection).feed(feed("main")).feed(feed("twin"));
    let organisation = organisation.feed(feed("site").project("web"));
    let writer = Token::pat(WRITER).label("writer").scope(Scope::ReadWrite);
    let organisation = readers(organisation).token(writer);
    let simulator = Simulator::builder().organisation(organisation).server(true);
    let simulator = simulator.start().await.unwrap();
    let url = format!("{}{directory}/{collection}", simulator.pkgs_url());
    let extra = format!("[[server]]\ncollection = \"{collection}\"\nurl = \"{url}\"\n");
    Scene::with(simulator, &extra)
}

/// No URL in an answer leads past the gate.
fn assert_stays(scene: &Scene, response: &Response, path: &str) {
    let text = String::from_utf8(response.decoded().unwrap().to_vec()).unwrap();
    assert!(!text.contains(&scene.simulator.pkgs_url()), "{path}: {text}");
    assert!(text.contains(&scene.url("DefaultCollection/")), "{path}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_rest_of_a_server_are_answered_with_the_gates_urls_in_every_spelling() {
    for directory in ["", "/tfs"] {
        let scene = scene("DefaultCollection", directory).await;
        for (prefix, feed) in [
            ("DefaultCollection", "main"),
            ("tfs/DefaultCollection", "main"),
            ("TFS/defaultcollection", "main"),
            ("DefaultCollection/web", "site"),
        ] {
            for below in [
                format!("_packaging/{feed}/npm/registry/left-pad"),
                format!("_packaging/{feed}/nuget/v3/index.json"),
                format!("_packaging/{feed}/nuget/v3/registrations2-semver2/contoso.utility/index.json"),
                format!("_apis/packaging/feeds/{feed}?api-version=2.0-preview"),
                format!("_apis/Packaging/Feeds/{feed}/packages?api-version=2.0-preview"),
                "_apis/resourceAreas".to_owned(),
            ] {
                let path = format!("{prefix}/{below}");
                for _ in 0..2 {
                    let response = scene.get(&path).await;
                    assert_eq!(response.status, 200, "{path}: {}", response.text());
                    assert_stays(&scene, &response, &path);
                }
            }
        }
        assert_eq!(scene.metric(&["feedgate_leaked_urls_total"]).await.to_bits(), 0);
        assert_eq!(scene.simulator.count(|request| !request.path.starts_with(directory)), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_urls_of_a_servers_answers_lead_through_the_gate_to_the_bytes() {
    let scene = scene("DefaultCollection", "/tfs").await;
    let packument = scene.get("tfs/DefaultCollection/_packaging/main/npm/registry/left-pad").await.json();
    let tarball = packument["versions"]["1.3.0"]["dist"]["tarball"].as_str().unwrap().to_owned();
    let credential = basic("any", PAT);
    let response = send("GET", &tarball, &[("Authorization", &credential)], b"").await.unwrap();
    assert_eq!(response.body, scene.simulator.npm_file("DefaultCollection/main", "left-pad", "1.3.0").0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_without_a_redirect_are_stored_once_by_their_own_identity() {
    let scene = scene("DefaultCollection", "/tfs").await;
    let file =
        |feed: &str| scene.simulator.npm_file(&format!("DefaultCollection/{feed}"), "left-pad", "1.3.0").0;
    let (bytes, twin) = (file("main"), file("twin"));
    assert_eq!(bytes, twin);
    let path = |feed: &str| {
        format!("DefaultCollection/_packaging/{feed}/npm/registry/left-pad/-/left-pad-1.3.0.tgz")
    };
    let mut tags = Vec::new();
    for feed in ["main", "twin"] {
        assert_eq!(scene.get(&path(feed)).await.body, bytes, "{feed}");
        // The identity is known once the bytes are stored.
        until(|| async { scene.get(&path(feed)).await.header("etag").is_some() }).await;
        let again = scene.get(&path(feed)).await;
        assert_eq!((again.header("x-cache"), again.body == bytes), (Some("HIT"), true), "{feed}");
        tags.push(again.header("etag").unwrap().to_owned());
    }
    assert_eq!((tags[0].len(), &tags[0]), (68, &tags[1]));
    let packages = scene.simulator.count(|request| request.path.ends_with("left-pad-1.3.0.tgz"));
    assert_eq!(packages, 2);
    // The two service indexes and the one package.
    assert_eq!(scene.metric(&["feedgate_store_blobs "]).await.to_bits(), 3_f64.to_bits());
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_ranges_work_on_bytes_that_come_without_a_redirect() {
    let scene = scene("DefaultCollection", "/tfs").await;
    let bytes = scene.simulator.npm_file("DefaultCollection/main", "left-pad", "1.3.0").0;
    let nupkg = scene.simulator.nuget_file("DefaultCollection/main", "Contoso.Utility", "1.0.0").0;
    let feed = "DefaultCollection/_packaging/main";
    let rows = [
        (format!("{feed}/npm/registry/left-pad/-/left-pad-1.3.0.tgz"), &bytes),
        (format!("{feed}/nuget/v3/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"), &nupkg),
    ];
    for (path, bytes) in rows {
        // A miss, then hits.
        for _ in 0..2 {
            let part = scene.get_with(&path, &[("Range", "bytes=10-19")]).await;
            assert_eq!((part.status, &part.body[..]), (206, &bytes[10..20]), "{path}");
            let head = scene.send_as("HEAD", Some(PAT), &path, &[]).await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()), "{path}");
        }
    }
    let content =
        "_apis/packaging/feeds/main/npm/packages/left-pad/versions/1.3.0/content?api-version=3.0-preview";
    for prefix in ["DefaultCollection", "tfs/DefaultCollection"] {
        let response = scene.get(&format!("{prefix}/{content}")).await;
        assert_eq!((response.status, &response.body), (200, &bytes), "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_server_refuses_gets_none_of_what_is_stored() {
    let scene = scene("DefaultCollection", "").await;
    let path = "DefaultCollection/_packaging/main/npm/registry/left-pad/-/left-pad-1.3.0.tgz";
    assert_eq!(scene.get(path).await.status, 200);
    for (pat, status) in [(None, 401), (Some("wrong"), 401), (Some(crate::support::FORBIDDEN_PAT), 403)] {
        assert_eq!(scene.get_as(pat, path, &[]).await.status, status, "{pat:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_the_hosted_service_are_served_side_by_side() {
    let hosted = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let package = NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(5_000).salt("server"));
    let organisation = readers(Organisation::new("DefaultCollection").feed(Feed::new("main").npm(package)));
    let server = Simulator::builder().organisation(organisation).server(true).start().await.unwrap();
    let url = format!("{}/DefaultCollection", server.pkgs_url());
    let extra = format!("[[server]]\ncollection = \"DefaultCollection\"\nurl = \"{url}\"\n");
    let scene = Scene::with(hosted, &extra);
    let tarball = "_packaging/main/npm/registry/left-pad/-/left-pad-1.3.0.tgz";
    for _ in 0..2 {
        let hosted = scene.get(&format!("contoso/DefaultCollection/{tarball}")).await;
        assert_eq!(hosted.body, scene.simulator.npm_file("contoso/main", "left-pad", "1.3.0").0);
        let own = scene.get(&format!("DefaultCollection/{tarball}")).await;
        assert_eq!(own.body, server.npm_file("DefaultCollection/main", "left-pad", "1.3.0").0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_a_server_goes_through_and_shows_at_once() {
    let scene = scene("DefaultCollection", "/tfs").await;
    let packument = "DefaultCollection/_packaging/main/npm/registry/left-pad";
    for (prefix, message) in [("DefaultCollection", "one"), ("tfs/DefaultCollection", "two")] {
        scene.get(packument).await;
        let path = format!(
            "{prefix}/_apis/packaging/feeds/main/npm/left-pad/versions/1.3.0?api-version=3.0-preview"
        );
        let credential = basic("any", WRITER);
        let headers = [("Authorization", credential.as_str()), ("Content-Type", "application/json")];
        let body = format!("{{\"deprecateMessage\":\"{message}\"}}");
        let written = send("PATCH", &scene.url(&path), &headers, body.as_bytes()).await.unwrap();
        assert_eq!(written.status, 200, "{prefix}: {}", written.text());
        assert_eq!(scene.get(packument).await.json()["versions"]["1.3.0"]["deprecated"], message, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feeds_of_a_server_can_be_followed_too() {
    let version = NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4_000));
    let organisation =
        readers(Organisation::new("Main").feed(Feed::new("site").project("web").public().npm(version)));
    let simulator = Simulator::builder().organisation(organisation).server(true).start().await.unwrap();
    let url = format!("{}/tfs/Main", simulator.pkgs_url());
    let extra = format!(
        "metadata.packument.fresh = \"0ms\"\n[[server]]\ncollection = \"main\"\nurl = \"{url}\"\n\
         [[changes]]\nfeed = \"Main/web/site\"\ninterval = \"100ms\"\n"
    );
    let scene = Scene::with(simulator, &extra);
    until(|| async { scene.metric(&["feedgate_changes_polls_total", "began"]).await >= 1.0 }).await;
    let packument = "Main/web/_packaging/site/npm/registry/left-pad";
    scene.get(packument).await;
    assert_eq!(scene.get(packument).await.header("x-cache"), Some("HIT"));
    scene.simulator.deprecate_npm("Main/web/site", "left-pad", "1.3.0", Some("old"));
    let deprecated =
        || async { scene.get(packument).await.json()["versions"]["1.3.0"]["deprecated"].clone() };
    until(|| async { deprecated().await == "old" }).await;
}

/// The routes that a host's list names.
fn ids(response: &Response) -> Vec<String> {
    let value = response.json();
    let ids = value["value"].as_array().unwrap().iter().map(|route| route["id"].as_str().unwrap().to_owned());
    let ids: Vec<String> = ids.collect();
    assert_eq!(value["count"], ids.len());
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_find_the_routes_of_both_hosts_at_the_gate() {
    let scene = Scene::new().await;
    let direct = |url: String| async move {
        let credential = basic("any", PAT);
        send("OPTIONS", &format!("{url}/contoso/_apis"), &[("Authorization", &credential)], b"")
            .await
            .unwrap()
    };
    let mut expected = ids(&direct(scene.simulator.pkgs_url()).await);
    expected.extend(ids(&direct(scene.simulator.feeds_url()).await));
    expected.sort();
    for host in ["gate", "pkgs.dev.azure.com", "feeds.dev.azure.com"] {
        let listed = scene.send_as("OPTIONS", Some(PAT), "contoso/_apis/?x", &[("Host", host)]).await;
        assert_eq!(listed.status, 200, "{host}");
        let mut found = ids(&listed);
        found.sort();
        assert_eq!(found, expected, "{host}");
        for area in [NUGET_AREA, FEED_AREA] {
            let path = format!("contoso/_apis/resourceAreas/{area}");
            let area = scene.send_as("GET", Some(PAT), &path, &[("Host", host)]).await.json();
            assert_eq!(area["locationUrl"], format!("http://{host}/contoso/"), "{host}");
        }
        // As an SDK that was led here goes on, whichever host the area has at the service.
        let feeds =
            scene.send_as("GET", Some(PAT), "contoso/_apis/packaging/Feeds/main", &[("Host", host)]).await;
        assert_eq!(feeds.json()["name"], "main", "{host}");
        let path = "contoso/_apis/packaging/feeds/main/npm/left-pad/versions/1.3.0";
        let version = scene.send_as("GET", Some(PAT), path, &[("Host", host)]).await;
        assert_eq!(version.json()["version"], "1.3.0", "{host}");
        let path = "contoso/_packaging/main/nuget/v3/index.json";
        let index = scene.send_as("GET", Some(PAT), path, &[("Host", host)]).await;
        assert_eq!(index.status, 200, "{host}");
    }
    let refused = scene.send_as("OPTIONS", Some("wrong"), "contoso/_apis", &[]).await;
    assert_eq!(refused.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_list_cannot_be_had_is_left_out() {
    use feedgate_simulator::{Fault, FaultKind, Listener, Matcher, Times};
    let scene = Scene::new().await;
    let only = Matcher::listener;
    scene.simulator.fault(Fault::new(only(Listener::Feeds), FaultKind::ResetBeforeHead, Times::Always));
    let listed = scene.send_as("OPTIONS", Some(PAT), "contoso/_apis", &[]).await;
    assert_eq!((listed.status, ids(&listed).is_empty()), (200, false));
    scene.simulator.clear_faults();
    scene.simulator.fault(Fault::new(only(Listener::Pkgs), FaultKind::ResetBeforeHead, Times::Always));
    assert_eq!(scene.send_as("OPTIONS", Some(PAT), "contoso/_apis", &[]).await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_find_a_servers_areas_at_the_gate() {
    let scene = scene("DefaultCollection", "/tfs").await;
    for prefix in ["DefaultCollection", "tfs/DefaultCollection"] {
        let listed = scene.send_as("OPTIONS", Some(PAT), &format!("{prefix}/_apis"), &[]).await;
        assert!(ids(&listed).len() > 20, "{prefix}");
        let areas: Value = scene.get(&format!("{prefix}/_apis/resourceAreas")).await.json();
        for area in areas["value"].as_array().unwrap() {
            assert_eq!(area["locationUrl"], scene.url("DefaultCollection/"), "{prefix}");
        }
    }
    let lists = scene.simulator.count(|request| request.method == "OPTIONS");
    assert_eq!(lists, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sighup_the_configuration_is_read_again_and_a_wrong_one_changes_nothing() {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let gate = crate::process::Process::start(&simulator, folder.path()).await;
    let admin = async |path: &str| client::get(&gate.admin_url(path), &[]).await.unwrap().text();
    let reloaded = async |outcome: &str| {
        let line = format!("feedgate_config_reloads_total{{outcome=\"{outcome}\"}} 1");
        until(async || admin("metrics").await.contains(&line)).await;
    };
    gate.reload("outage.mode = \"off\"\n").await;
    reloaded("invalid").await;
    assert!(admin("admin/v1/mode").await.contains("fallback"));
    std::fs::write(folder.path().join("feedgate.toml"), "outage.mode = \"offline\"\nlisten.threads = 3\n")
        .unwrap();
    gate.reload("").await;
    reloaded("applied").await;
    assert!(admin("admin/v1/mode").await.contains("offline"));
    let url = gate.url("contoso/_packaging/main/npm/registry/left-pad");
    assert!(client::get(&url, &[]).await.unwrap().header("x-request-id").is_some());
    assert_eq!(gate.terminate().await, Some(0));
}
