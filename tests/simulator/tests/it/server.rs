//! Discovery, and the simulator as a server of one's own: one host, collections in the path, no redirects.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator, Token,
};
use serde_json::{Value, json};

const NUGET_AREA: &str = "b3be7473-68ea-4a81-bfc7-9530baaa19ad";
const FEED_AREA: &str = "7ab4e64e-c4d8-4f50-ae73-5ef2e21642a5";

async fn start(server: bool) -> Simulator {
    let bootstrap = NpmPackage::new("bootstrap").version("3.3.6", NpmVersion::new().size(5_000));
    let scoped = NpmPackage::new("@myscope/bootstrap").version("3.3.6", NpmVersion::new());
    let client = NugetPackage::new("Feed.Client").version("0.1.4", NugetVersion::new().size(5_000));
    let feed = |name: &str| Feed::new(name).npm(bootstrap.clone()).npm(scoped.clone()).nuget(client.clone());
    let collection = Organisation::new("DefaultCollection")
        .feed(feed("contoso"))
        .feed(feed("site").project("web"))
        .token(Token::pat("alice-pat").label("alice"));
    Simulator::builder().seed(7).organisation(collection).server(server).start().await.unwrap()
}

async fn get(url: &str) -> Response {
    client::get(url, &[("Authorization", &client::basic("any", "alice-pat"))]).await.unwrap()
}

#[tokio::test]
async fn a_server_sends_package_files_at_once() {
    let simulator = start(true).await;
    let npm = simulator.npm_file("DefaultCollection/contoso", "bootstrap", "3.3.6").0;
    let scoped = simulator.npm_file("DefaultCollection/contoso", "@myscope/bootstrap", "3.3.6").0;
    let nuget = simulator.nuget_file("DefaultCollection/contoso", "Feed.Client", "0.1.4").0;
    let rest = "_apis/packaging/feeds/contoso";
    let rows = [
        ("_packaging/contoso/npm/registry/bootstrap/-/bootstrap-3.3.6.tgz".to_owned(), &npm),
        (format!("{rest}/npm/packages/bootstrap/versions/3.3.6/content?api-version=2.0-preview"), &npm),
        (
            format!("{rest}/npm/packages/@myscope/bootstrap/versions/3.3.6/content?api-version=2.0-preview"),
            &scoped,
        ),
        (
            format!("{rest}/npm/@myscope/packages/bootstrap/versions/3.3.6/content?api-version=2.0-preview"),
            &scoped,
        ),
        ("_packaging/contoso/nuget/v3/flat2/feed.client/0.1.4/feed.client.0.1.4.nupkg".to_owned(), &nuget),
        (format!("{rest}/nuget/packages/Feed.Client/versions/0.1.4/content?api-version=3.0-preview"), &nuget),
    ];
    for prefix in ["DefaultCollection", "tfs/DefaultCollection"] {
        for (path, bytes) in &rows {
            let response = get(&format!("{}/{prefix}/{path}", simulator.pkgs_url())).await;
            assert_eq!(response.status, 200, "{prefix}/{path}");
            assert_eq!(&response.body, *bytes, "{prefix}/{path}");
            assert_eq!(response.header("content-type"), Some("application/octet-stream"));
            assert_eq!(response.header("content-length"), Some(bytes.len().to_string().as_str()));
            assert_eq!(response.header("accept-ranges"), None);
        }
    }
    assert!(simulator.blob_downloads().is_empty());
}

#[tokio::test]
async fn a_server_has_everything_behind_one_door() {
    let simulator = start(true).await;
    let (feed, site) =
        (simulator.feed_guid("DefaultCollection/contoso"), simulator.feed_guid("DefaultCollection/web/site"));
    let project = simulator.project_guid("DefaultCollection/web/site").unwrap();
    let base = simulator.pkgs_url();
    let rows = [
        ("DefaultCollection", "contoso", format!("{base}/DefaultCollection/_apis/Packaging/Feeds/{feed}")),
        (
            "tfs/DefaultCollection",
            "contoso",
            format!("{base}/tfs/DefaultCollection/_apis/Packaging/Feeds/{feed}"),
        ),
        (
            "DefaultCollection/web",
            "site",
            format!("{base}/DefaultCollection/{project}/_apis/Packaging/Feeds/{site}"),
        ),
    ];
    for (prefix, name, url) in rows {
        let one =
            get(&format!("{base}/{prefix}/_apis/packaging/feeds/{name}?api-version=2.0-preview.1")).await;
        assert_eq!((one.status, &one.json()["url"]), (200, &json!(url)), "{prefix}");
        let list = get(&format!("{base}/{prefix}/_apis/packaging/feeds/{name}/packages")).await.json();
        assert_eq!(list["value"][0]["_links"]["feed"]["href"], url, "{prefix}");
        let packument =
            get(&format!("{base}/{prefix}/_packaging/{name}/npm/registry/bootstrap")).await.json();
        let tarball = packument["versions"]["3.3.6"]["dist"]["tarball"].as_str().unwrap();
        let expected =
            format!("{base}/{prefix}/_packaging/{name}/npm/registry/bootstrap/-/bootstrap-3.3.6.tgz");
        assert_eq!(tarball, expected);
    }
    let info = format!(
        "{base}/DefaultCollection/_apis/packaging/feeds/contoso/npm/bootstrap/versions/3.3.6/?api-version=3.0-preview"
    );
    assert_eq!(get(&info).await.json()["unpublishedDate"], Value::Null);
    for path in ["packaging/feeds/contoso/nonsense", "packaging/nonsense", "nonsense"] {
        assert_eq!(get(&format!("{base}/DefaultCollection/_apis/{path}")).await.status, 404, "{path}");
    }
    let other_door = format!("{}/DefaultCollection/_apis/packaging/feeds/contoso", simulator.feeds_url());
    assert_eq!(get(&other_door).await.status, 404);
}

#[tokio::test]
async fn areas_are_located_on_the_host_that_has_them() {
    for server in [false, true] {
        let simulator = start(server).await;
        let pkgs = format!("{}/DefaultCollection/", simulator.pkgs_url());
        let feeds =
            if server { pkgs.clone() } else { format!("{}/DefaultCollection/", simulator.feeds_url()) };
        let doors = [simulator.pkgs_url(), simulator.feeds_url()];
        for door in &doors[..if server { 1 } else { 2 }] {
            let all = get(&format!("{door}/DefaultCollection/_apis/resourceAreas")).await.json();
            assert_eq!(all["count"], 3);
            for (guid, name, expected) in [(NUGET_AREA, "nuget", &pkgs), (FEED_AREA, "Packaging", &feeds)] {
                let one = get(&format!("{door}/DefaultCollection/_apis/resourceareas/{guid}")).await.json();
                assert_eq!(one, json!({ "id": guid, "name": name, "locationUrl": expected }), "{door}");
                assert!(all["value"].as_array().unwrap().contains(&one), "{door}");
            }
        }
        let unknown = format!("{}/DefaultCollection/_apis/resourceAreas/nonsense", doors[0]);
        assert_eq!(get(&unknown).await.status, 404);
    }
}

#[tokio::test]
async fn areas_follow_the_host_style_of_the_request() {
    let simulator = start(false).await;
    let rows = [
        (
            "pkgs",
            "DefaultCollection.pkgs.visualstudio.com",
            "",
            "http://DefaultCollection.feeds.visualstudio.com/",
        ),
        ("pkgs", "pkgs.dev.azure.com", "/DefaultCollection", "http://feeds.dev.azure.com/DefaultCollection/"),
        (
            "feeds",
            "feeds.dev.azure.com",
            "/DefaultCollection",
            "http://feeds.dev.azure.com/DefaultCollection/",
        ),
    ];
    for (door, host, prefix, expected) in rows {
        let base = if door == "pkgs" { simulator.pkgs_url() } else { simulator.feeds_url() };
        let url = format!("{base}{prefix}/_apis/resourceAreas/{FEED_AREA}");
        let area = client::get(&url, &[("Host", host)]).await.unwrap().json();
        assert_eq!(area["locationUrl"], expected, "{host}");
    }
}

#[tokio::test]
async fn options_list_the_routes_of_a_host() {
    const NPM_PACKAGE: &str = "ed579d62-67c9-4271-be66-9b029af5bcf9";
    const PACKAGES: &str = "7a20d846-c929-4acc-9ea2-0d5a7df1b197";
    for (server, door, expected) in
        [(false, "pkgs", [true, false]), (false, "feeds", [false, true]), (true, "pkgs", [true, true])]
    {
        let simulator = start(server).await;
        let base = if door == "pkgs" { simulator.pkgs_url() } else { simulator.feeds_url() };
        let url = format!("{base}/DefaultCollection/_apis");
        let response = client::send("OPTIONS", &url, &[], b"").await.unwrap();
        assert_eq!(response.status, 200);
        let listed = response.json();
        let routes = listed["value"].as_array().unwrap();
        assert_eq!(listed["count"], routes.len());
        let found = [NPM_PACKAGE, PACKAGES].map(|id| routes.iter().any(|route| route["id"] == id));
        assert_eq!(found, expected, "{door} {server}");
        let whole = |route: &Value| route["routeTemplate"].as_str().unwrap().contains("_apis/");
        assert!(routes.iter().all(whole));
    }
    let simulator = start(false).await;
    let bad = client::basic("any", "wrong");
    let url = format!("{}/DefaultCollection/_apis", simulator.pkgs_url());
    let refused = client::send("OPTIONS", &url, &[("Authorization", &bad)], b"").await.unwrap();
    assert_eq!(refused.status, 401);
}
