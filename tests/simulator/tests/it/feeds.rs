//! The feeds host: feeds, packages and versions as the service's documents show them (facts §5.4, seeds 003 and 004).

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
};
use serde_json::{Value, json};

/// `EngineeringInternal`, as in the seeds, with a public twin and one in a project.
async fn start() -> Simulator {
    let client = NugetPackage::new("Feed.Client")
        .version("0.1.1", NugetVersion::new().dependency("Newtonsoft.Json", "6.0.5"))
        .version("0.1.4", NugetVersion::new().dependency("Vssf.Client", "[14.83.0-preview, )"))
        .version("0.1.2", NugetVersion::new().unlisted())
        .version("0.1.3-beta", NugetVersion::new().promoted_to("release"));
    let left_pad = NpmPackage::new("left-pad")
        .version("1.3.0", NpmVersion::new().dependency("is-odd", "^3.0.0"))
        .version("1.10.0", NpmVersion::new())
        .version("2.0.0", NpmVersion::new().unsaved());
    let gone = NpmPackage::new("gone").version("1.0.0", NpmVersion::new());
    let feed = |name: &str| Feed::new(name).nuget(client.clone()).npm(left_pad.clone()).npm(gone.clone());
    let feeds = [feed("EngineeringInternal"), feed("open").public(), feed("site").project("web")];
    let tokens = [
        Token::pat("alice-pat").label("alice"),
        Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite),
        Token::pat("carol-pat").label("carol").scope(Scope::ReadForbidden),
        Token::pat("erin-pat").label("erin").only("EngineeringInternal"),
    ];
    let contoso = feeds.into_iter().fold(Organisation::new("contoso"), Organisation::feed);
    let contoso = tokens.into_iter().fold(contoso, Organisation::token);
    let simulator = Simulator::builder().seed(7).organisation(contoso).start().await.unwrap();
    simulator.remove_npm("contoso/EngineeringInternal", "gone", "1.0.0");
    simulator
}

const FEED: &str = "contoso/EngineeringInternal";

async fn send_as(pat: &str, simulator: &Simulator, method: &str, path: &str, body: &Value) -> Response {
    let url = format!("{}{path}", simulator.feeds_url());
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let credential = client::basic("any", pat);
    client::send(method, &url, &[("Authorization", &credential)], text.as_bytes()).await.unwrap()
}

/// GETs below the feed of the seeds, as alice.
async fn get(simulator: &Simulator, path: &str) -> Response {
    let path = format!("/contoso/_apis/packaging/feeds/EngineeringInternal{path}");
    send_as("alice-pat", simulator, "GET", &path, &Value::Null).await
}

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_package_is_shaped_as_in_the_documents() {
    let simulator = start().await;
    let feed = simulator.feed_guid(FEED);
    let guid = simulator.nuget_guid(FEED, "Feed.Client");
    let base = format!("{}/contoso/_apis/Packaging/Feeds/{feed}", simulator.feeds_url());
    let url = format!("{base}/Packages/{guid}");
    let list = get(&simulator, "/packages?api-version=2.0-preview&protocolType=NuGet").await.json();
    assert_eq!(list["count"], 1);
    let package = &list["value"][0];
    let expected = ["id", "normalizedName", "name", "protocolType", "url", "versions", "_links"];
    assert_eq!(fields(package), expected);
    assert_eq!(package["id"], guid.to_string());
    assert_eq!(package["normalizedName"], "feed.client");
    assert_eq!(package["protocolType"], "NuGet");
    assert_eq!(package["url"], url);
    let links = json!({
        "self": { "href": url },
        "feed": { "href": base },
        "versions": { "href": format!("{url}/Versions") },
    });
    assert_eq!(package["_links"], links);
    let version = &package["versions"][0];
    let seeds = ["id", "normalizedVersion", "version", "isLatest", "isListed", "storageId"];
    assert_eq!(fields(version)[..6], seeds);
    assert_eq!(version["id"], simulator.nuget_version_guid(FEED, "Feed.Client", "0.1.4").to_string());
    assert_eq!(version["storageId"], simulator.nuget_file(FEED, "Feed.Client", "0.1.4").1.storage_id);
    assert_eq!((&version["isLatest"], &version["isListed"]), (&json!(true), &json!(true)));
    assert_eq!(version["version"], "0.1.4");
    let one = get(&simulator, &format!("/packages/{guid}/?api-version=2.0-preview")).await;
    assert_eq!(&one.json(), package, "one package looks as it does in the list");
    assert_eq!(one.header("content-type"), Some("application/json; charset=utf-8; api-version=2.0-preview"));
}

#[tokio::test]
async fn versions_are_shaped_as_in_the_documents() {
    let simulator = start().await;
    let guid = simulator.nuget_guid(FEED, "Feed.Client");
    let version = simulator.nuget_version_guid(FEED, "Feed.Client", "0.1.1");
    let package = format!(
        "{}/contoso/_apis/Packaging/Feeds/{}/Packages/{guid}",
        simulator.feeds_url(),
        simulator.feed_guid(FEED)
    );
    let rows = [
        ("2.0-preview", format!("{package}/Versions")),
        ("7.1-preview.1", format!("{package}/Versions/{version}")),
    ];
    for (api, url) in rows {
        let list = get(&simulator, &format!("/packages/{guid}/versions?api-version={api}")).await.json();
        let one =
            get(&simulator, &format!("/Packages/{guid}/Versions/{version}?api-version={api}")).await.json();
        let oldest = list["value"].as_array().unwrap().last().unwrap();
        assert_eq!(&one, oldest, "{api}");
        assert_eq!(one["url"], url, "{api}");
        assert_eq!(one["_links"]["self"]["href"], url, "{api}");
        assert_eq!(one["_links"]["package"]["href"], package, "{api}");
        assert_eq!(one["author"], "Contoso");
        assert_eq!(one["protocolMetadata"]["data"]["requireLicenseAcceptance"], false);
        let dependency = json!({ "packageName": "Newtonsoft.Json", "versionRange": "[6.0.5, )" });
        assert_eq!(one["dependencies"], json!([dependency]));
        assert_eq!(one["files"][0]["name"], "feed.client.0.1.1.nupkg");
        assert_eq!(one["publishDate"].as_str().unwrap().split_once('.').unwrap().1, "0000000Z");
        assert_eq!(one["isLatest"], false);
    }
    let bare =
        get(&simulator, &format!("/packages/{guid}/versions/{version}?includeUrls=false")).await.json();
    assert!(bare.get("url").is_none() && bare.get("_links").is_none(), "{bare}");
    let npm = simulator.npm_guid(FEED, "left-pad");
    let own = simulator.npm_version_guid(FEED, "left-pad", "1.3.0");
    let npm = get(&simulator, &format!("/packages/{npm}/versions/{own}")).await.json();
    assert_eq!(npm["dependencies"], json!([{ "packageName": "is-odd", "versionRange": "^3.0.0" }]));
    assert_eq!(npm["files"][0]["name"], "left-pad-1.3.0.tgz");
}

/// `name: version version ...` of every package of a list.
fn lines(list: &Value) -> Vec<String> {
    let packages = list["value"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let versions = package["versions"].as_array().unwrap().iter();
            let versions: Vec<&str> = versions.map(|version| version["version"].as_str().unwrap()).collect();
            format!("{}: {}", package["name"].as_str().unwrap(), versions.join(" "))
        })
        .collect()
}

#[tokio::test]
async fn every_parameter_of_the_list_is_obeyed() {
    let simulator = start().await;
    let all = "includeAllVersions=true";
    let rows: [(String, &[&str]); 20] = [
        (String::new(), &["left-pad: 1.10.0", "Feed.Client: 0.1.4"]),
        (all.into(), &["left-pad: 1.10.0 1.3.0", "Feed.Client: 0.1.4 0.1.3-beta 0.1.2 0.1.1"]),
        ("protocolType=npm".into(), &["left-pad: 1.10.0"]),
        ("protocolType=Maven".into(), &[]),
        ("packageNameQuery=CLIENT".into(), &["Feed.Client: 0.1.4"]),
        ("protocolType=NuGet&normalizedPackageName=feed.client".into(), &["Feed.Client: 0.1.4"]),
        ("protocolType=NuGet&normalizedPackageName=feed".into(), &[]),
        (format!("{all}&isListed=true"), &["left-pad: 1.10.0 1.3.0", "Feed.Client: 0.1.4 0.1.3-beta 0.1.1"]),
        (format!("{all}&isListed=false"), &["Feed.Client: 0.1.2"]),
        (format!("{all}&isRelease=false"), &["Feed.Client: 0.1.3-beta"]),
        (format!("{all}&isRelease=true&protocolType=nuget"), &["Feed.Client: 0.1.4 0.1.2 0.1.1"]),
        ("$top=1".into(), &["left-pad: 1.10.0"]),
        ("%24top=1&%24skip=1".into(), &["Feed.Client: 0.1.4"]),
        ("$skip=5".into(), &[]),
        (
            format!("{all}&getTopPackageVersions=true&$top=2&$skip=1"),
            &["left-pad: 1.3.0", "Feed.Client: 0.1.4"],
        ),
        ("getTopPackageVersions=true&$top=1".into(), &["left-pad: 1.10.0"]),
        ("includeDeleted=true".into(), &["gone: 1.0.0", "left-pad: 1.10.0", "Feed.Client: 0.1.4"]),
        ("isCached=true".into(), &[]),
        ("isCached=false&protocolType=npm".into(), &["left-pad: 1.10.0"]),
        ("directUpstreamId=0f6b5d6e-0000-0000-0000-000000000000".into(), &[]),
    ];
    for (query, expected) in rows {
        let list = get(&simulator, &format!("/packages?{query}")).await.json();
        assert_eq!(lines(&list), expected, "{query}");
        assert_eq!(list["count"], expected.len(), "{query}");
    }
    let view = send_as(
        "alice-pat",
        &simulator,
        "GET",
        "/contoso/_apis/packaging/feeds/EngineeringInternal@release/packages",
        &Value::Null,
    );
    assert_eq!(lines(&view.await.json()), ["Feed.Client: 0.1.3-beta"]);
    let described = get(&simulator, "/packages?includeDescription=true&includeUrls=false").await.json();
    assert_eq!(described["value"][0]["versions"][0]["packageDescription"], "Simulated package left-pad");
    assert!(described["value"][0].get("url").is_none());
    for refused in ["normalizedPackageName=x", "protocolType=npm&normalizedPackageName=x&packageNameQuery=x"]
    {
        assert_eq!(get(&simulator, &format!("/packages?{refused}")).await.status, 400, "{refused}");
    }
}

#[tokio::test]
async fn one_package_follows_the_document_of_its_generation() {
    let simulator = start().await;
    let (nuget, npm) = (simulator.nuget_guid(FEED, "Feed.Client"), simulator.npm_guid(FEED, "left-pad"));
    let rows = [
        (nuget, "api-version=2.0-preview&includeAllVersions=true", Some("0.1.4 0.1.3-beta 0.1.2 0.1.1")),
        (nuget, "api-version=5.0-preview.1", Some("0.1.4")),
        (nuget, "api-version=5.0-preview.1&includeAllVersions=true", Some("0.1.4 0.1.1")),
        (nuget, "api-version=5.0-preview.1&includeAllVersions=true&isListed=false", Some("0.1.2")),
        (nuget, "api-version=5.0-preview.1&includeAllVersions=true&isRelease=false", Some("0.1.3-beta")),
        (npm, "api-version=5.0-preview.1&includeAllVersions=true", Some("1.10.0 1.3.0")),
        (npm, "api-version=5.0-preview.1&isListed=true", None),
    ];
    for (guid, query, expected) in rows {
        let response = get(&simulator, &format!("/packages/{guid}?{query}")).await;
        assert_eq!(response.status, if expected.is_some() { 200 } else { 404 }, "{query}");
        let list = json!({ "value": [response.json()] });
        let Some(expected) = expected else { continue };
        assert_eq!(lines(&list)[0].split_once(": ").unwrap().1, expected, "{query}");
    }
    for path in ["/packages/Feed.Client", "/packages/0f6b5d6e-0000-0000-0000-000000000000"] {
        assert_eq!(get(&simulator, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn deleted_versions_are_told_on_request_and_in_the_recycle_bin() {
    let simulator = start().await;
    let package = simulator.npm_guid(FEED, "gone");
    let version = simulator.npm_version_guid(FEED, "gone", "1.0.0");
    let rows = [
        (format!("/packages/{package}"), 404),
        (format!("/packages/{package}?includeDeleted=true"), 200),
        (format!("/packages/{package}/versions"), 404),
        (format!("/packages/{package}/versions?isDeleted=true"), 200),
        (format!("/packages/{package}/versions/{version}"), 404),
        (format!("/packages/{package}/versions/{version}?isDeleted=true"), 200),
        (format!("/RecycleBin/Packages/{package}"), 200),
        (format!("/RecycleBin/Packages/{package}/Versions"), 200),
        (format!("/RecycleBin/Packages/{package}/Versions/{version}"), 200),
        (format!("/RecycleBin/Packages/{}", simulator.npm_guid(FEED, "left-pad")), 404),
    ];
    for (path, expected) in rows {
        assert_eq!(get(&simulator, &path).await.status, expected, "{path}");
    }
    let bin = get(&simulator, "/RecycleBin/Packages").await.json();
    assert_eq!(lines(&bin), ["gone: 1.0.0"]);
    let own = get(&simulator, &format!("/RecycleBin/Packages/{package}/Versions/{version}")).await.json();
    assert_eq!((&own["isDeleted"], &own["storageId"]), (&json!(true), &Value::Null));
    assert!(own["deletedDate"].as_str().unwrap().ends_with(".0000000Z"));
    simulator.restore_npm(FEED, "gone", "1.0.0");
    assert_eq!(get(&simulator, "/RecycleBin/Packages").await.json()["count"], 0);
}

#[tokio::test]
async fn the_smaller_resources_answer() {
    let simulator = start().await;
    let guid = simulator.nuget_guid(FEED, "Feed.Client");
    let version = simulator.nuget_version_guid(FEED, "Feed.Client", "0.1.4");
    let views = get(&simulator, "/views").await.json();
    let names: Vec<&str> =
        views["value"].as_array().unwrap().iter().map(|view| view["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["local", "prerelease", "release"]);
    let release = simulator.view_guid(FEED, "release");
    for spelling in ["release", "Release", &release.to_string()] {
        let view = get(&simulator, &format!("/views/{spelling}")).await.json();
        assert_eq!((&view["id"], &view["type"]), (&json!(release), &json!("release")), "{spelling}");
    }
    let provenance = get(&simulator, &format!("/packages/{guid}/versions/{version}/provenance")).await.json();
    assert_eq!(provenance["packageVersionId"], version.to_string());
    assert_eq!(get(&simulator, "/permissions").await.json()["count"], 4);
    assert_eq!(get(&simulator, "/retentionpolicies").await.json()["countLimit"], 5000);
    for path in ["/views/nowhere", "/nonsense", "/packages/1/2/3"] {
        assert_eq!(get(&simulator, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn rest_documents_are_compressed_on_request() {
    let simulator = start().await;
    let url = format!("{}/contoso/_apis/packaging/feeds/open/packages", simulator.feeds_url());
    let plain = client::get(&url, &[]).await.unwrap();
    let gzip = client::get(&url, &[("Accept-Encoding", "gzip")]).await.unwrap();
    assert_eq!((plain.header("content-encoding"), gzip.header("content-encoding")), (None, Some("gzip")));
    assert_eq!(gzip.decoded().unwrap(), plain.body);
}

#[tokio::test]
async fn a_renamed_view_keeps_its_versions() {
    let simulator = start().await;
    let path = "/contoso/_apis/packaging/Feeds/EngineeringInternal/views/release";
    let renamed = send_as("bob-pat", &simulator, "PATCH", path, &json!({ "name": "stable" })).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("stable")));
    let list = send_as(
        "alice-pat",
        &simulator,
        "GET",
        "/contoso/_apis/packaging/feeds/EngineeringInternal@stable/packages",
        &Value::Null,
    );
    assert_eq!(lines(&list.await.json()), ["Feed.Client: 0.1.3-beta"]);
    let local = path.replace("release", "local");
    assert_eq!(send_as("bob-pat", &simulator, "PATCH", &local, &json!({ "name": "x" })).await.status, 400);
}

#[tokio::test]
async fn the_badge_of_a_public_feed_is_for_everybody() {
    let simulator = start().await;
    let badge = async |feed: &str, address: &str| {
        let guid = simulator.nuget_guid(address, "Feed.Client");
        let path = format!("/contoso/_apis/public/packaging/Feeds/{feed}/Packages/{guid}/badge");
        client::get(&format!("{}{path}", simulator.feeds_url()), &[]).await.unwrap()
    };
    let open = badge("open", "contoso/open").await;
    assert_eq!((open.status, open.header("content-type")), (200, Some("image/svg+xml")));
    assert!(open.text().contains("Feed.Client 0.1.4"), "{}", open.text());
    assert!(badge("open@release", "contoso/open").await.text().contains("Feed.Client 0.1.3-beta"));
    assert_eq!(badge("EngineeringInternal", FEED).await.status, 401);
}

#[tokio::test]
async fn feeds_are_made_renamed_described_and_deleted() {
    let simulator = start().await;
    let feeds = "/contoso/_apis/packaging/Feeds";
    let send = async |method: &str, path: &str, body: Value| {
        send_as("bob-pat", &simulator, method, path, &body).await
    };
    let made = send("POST", feeds, json!({ "name": "fresh", "description": "new" })).await;
    assert_eq!((made.status, &made.json()["description"]), (201, &json!("new")));
    let guid = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(send("POST", feeds, json!({ "name": "FRESH" })).await.status, 409);
    assert_eq!(send("POST", feeds, json!({})).await.status, 400);
    let renamed = send("PATCH", &format!("{feeds}/fresh"), json!({ "name": "stale" })).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("stale")));
    assert_eq!(send("PATCH", &format!("{feeds}/stale"), json!({ "name": "open" })).await.status, 409);
    for (feed, status) in [("fresh", 404), ("stale", 200), (guid.as_str(), 200)] {
        assert_eq!(send("GET", &format!("{feeds}/{feed}"), Value::Null).await.status, status, "{feed}");
    }
    let again = send("POST", feeds, json!({ "name": "fresh" })).await;
    assert_ne!(again.json()["id"], guid, "the name is free, the GUID is not");
    assert_eq!(send("DELETE", &format!("{feeds}/stale"), Value::Null).await.status, 204);
    for feed in ["stale", guid.as_str()] {
        assert_eq!(send("GET", &format!("{feeds}/{feed}"), Value::Null).await.status, 404, "{feed}");
    }
    assert_eq!(send("GET", feeds, Value::Null).await.json()["count"], 4);
}

#[tokio::test]
async fn a_rename_is_obeyed_everywhere_and_credentials_follow() {
    let simulator = start().await;
    let guid = simulator.feed_guid(FEED);
    simulator.rename_feed(FEED, "Core");
    assert_eq!(simulator.feed_guid("contoso/Core"), guid);
    for (feed, expected) in [("Core", 200), ("EngineeringInternal", 404), (&guid.to_string(), 200)] {
        let path = format!("/contoso/_apis/packaging/Feeds/{feed}/packages");
        let response = send_as("erin-pat", &simulator, "GET", &path, &Value::Null).await;
        assert_eq!(response.status, expected, "{feed}");
        let npm = format!("{}left-pad", simulator.npm_url(&format!("contoso/{feed}")));
        let erin = client::basic("any", "erin-pat");
        assert_eq!(client::get(&npm, &[("Authorization", &erin)]).await.unwrap().status, expected, "{feed}");
    }
}

#[tokio::test]
async fn urls_follow_the_project_and_the_host_style() {
    let simulator = start().await;
    let (project, site) =
        (simulator.project_guid("contoso/web/site").unwrap(), simulator.feed_guid("contoso/web/site"));
    let hosted = simulator.feeds_url();
    let rows = [
        ("/contoso/web", None, format!("{hosted}/contoso/{project}")),
        (
            "/web",
            Some("contoso.feeds.visualstudio.com"),
            format!("http://contoso.feeds.visualstudio.com/{project}"),
        ),
        (
            "/DefaultCollection/web",
            Some("contoso.feeds.visualstudio.com"),
            format!("http://contoso.feeds.visualstudio.com/DefaultCollection/{project}"),
        ),
    ];
    let alice = client::basic("any", "alice-pat");
    for (prefix, host, expected) in rows {
        let mut headers = vec![("Authorization", alice.as_str())];
        headers.extend(host.map(|host| ("Host", host)));
        let url = format!("{hosted}{prefix}/_apis/packaging/feeds/site/packages");
        let list = client::get(&url, &headers).await.unwrap().json();
        let feed = format!("{expected}/_apis/Packaging/Feeds/{site}");
        assert_eq!(list["value"][0]["_links"]["feed"]["href"], feed, "{prefix}");
    }
}

#[tokio::test]
async fn every_caller_gets_what_it_may() {
    let simulator = start().await;
    let base = "/contoso/_apis/packaging/Feeds";
    let rows = [
        ("GET", format!("{base}/EngineeringInternal/packages"), "carol-pat", 403),
        ("GET", format!("{base}/EngineeringInternal/packagechanges"), "carol-pat", 403),
        ("GET", format!("{base}/open/packages"), "erin-pat", 403),
        ("GET", format!("{base}/EngineeringInternal/packages"), "wrong", 203),
        ("PATCH", format!("{base}/EngineeringInternal"), "alice-pat", 403),
        ("POST", base.to_owned(), "alice-pat", 403),
        ("DELETE", format!("{base}/EngineeringInternal"), "alice-pat", 403),
        ("PATCH", format!("{base}/EngineeringInternal/views/release"), "alice-pat", 403),
        ("DELETE", format!("{base}/EngineeringInternal/packages"), "bob-pat", 405),
    ];
    for (method, path, pat, expected) in rows {
        let response = send_as(pat, &simulator, method, &path, &json!({ "name": "x" })).await;
        assert_eq!(response.status, expected, "{method} {path} {pat}");
    }
    let url = format!("{}{base}/open/packages", simulator.feeds_url());
    assert_eq!(client::get(&url, &[]).await.unwrap().status, 200, "a public feed is public here too");
}
