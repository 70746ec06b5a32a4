//! NuGet v3 routes and the push.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Feed, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token};
use serde_json::json;

fn utility() -> NugetPackage {
    NugetPackage::new("Contoso.Utility")
        .version("1.0", NugetVersion::new().promoted_to("release"))
        .version("1.10.0", NugetVersion::new().dependency("Contoso.Core", "2.0").size(10_000))
        .version("1.2.0", NugetVersion::new().unlisted())
        .version("2.0.0-RC.1", NugetVersion::new())
}

async fn start() -> Simulator {
    let feed = Feed::new("Main").public().nuget(utility());
    let site = Feed::new("site").project("web").public().nuget(utility());
    let writer = Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite);
    let contoso = Organisation::new("contoso").feed(feed).feed(site).token(writer);
    Simulator::builder().organisation(contoso).registration_page(3).start().await.unwrap()
}

async fn get(url: &str) -> Response {
    client::get(url, &[]).await.unwrap()
}

/// The `@id` of a resource of the feed's service index.
async fn resource(simulator: &Simulator, feed: &str, kind: &str) -> String {
    let index = get(&simulator.nuget_url(feed)).await.json();
    let resources = index["resources"].as_array().unwrap();
    let found = resources.iter().find(|resource| resource["@type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))["@id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_service_index_speaks_in_guids() {
    let simulator = start().await;
    let (feed, project) =
        (simulator.feed_guid("contoso/web/site"), simulator.project_guid("contoso/web/site").unwrap());
    let base = format!("{}/contoso/{project}/_packaging/{feed}/nuget/", simulator.pkgs_url());
    let rows = [
        ("PackagePublish/2.0.0", format!("{base}v2/")),
        ("RegistrationsBaseUrl/3.6.0", format!("{base}v3/registrations2-semver2/")),
        ("PackageBaseAddress/3.0.0", format!("{base}v3/flat2/")),
        ("VulnerabilityInfo/6.7.0", format!("{base}v3/vulnerabilities/index.json")),
        ("VssBaseUrl", format!("{}/contoso/", simulator.pkgs_url())),
        ("VssFeedId", format!("urn:uuid:{feed}")),
        ("VssQualifiedFeedViewId", format!("com.visualstudio.feeds.feedview:{feed}")),
        ("AzureDevOpsProjectId", format!("urn:uuid:{project}")),
    ];
    for (kind, expected) in rows {
        assert_eq!(resource(&simulator, "contoso/web/site", kind).await, expected);
    }
    let view = simulator.view_guid("contoso/Main", "release");
    let feed = simulator.feed_guid("contoso/Main");
    let flat = resource(&simulator, "contoso/main@Release", "PackageBaseAddress/3.0.0").await;
    assert_eq!(flat, format!("{}/contoso/_packaging/{feed}@{view}/nuget/v3/flat2/", simulator.pkgs_url()));
}

#[tokio::test]
async fn the_host_style_of_the_request_is_kept() {
    let simulator = start().await;
    let url = format!("{}/_packaging/main/nuget/v3/index.json", simulator.pkgs_url());
    let response = client::get(&url, &[("Host", "contoso.pkgs.visualstudio.com")]).await.unwrap();
    let feed = simulator.feed_guid("contoso/Main");
    let expected = format!("http://contoso.pkgs.visualstudio.com/_packaging/{feed}/nuget/v2/");
    assert_eq!(response.json()["resources"][0]["@id"], expected);
}

#[tokio::test]
async fn the_flat_container_lists_versions_and_redirects_to_files() {
    let simulator = start().await;
    let flat = resource(&simulator, "contoso/main", "PackageBaseAddress/3.0.0").await;
    let index = get(&format!("{flat}contoso.utility/index.json")).await;
    assert_eq!(index.json(), json!({ "versions": ["1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1"] }));
    let redirect = get(&format!("{flat}contoso.utility/1.10.0/contoso.utility.1.10.0.nupkg")).await;
    assert_eq!(redirect.status, 303);
    let blob = get(redirect.header("location").unwrap()).await;
    let (bytes, digests) = simulator.nuget_file("contoso/Main", "Contoso.Utility", "1.10.0");
    assert_eq!(blob.body, bytes);
    assert!((9_000..11_000).contains(&digests.length), "{}", digests.length);
    let nuspec = get(&format!("{flat}contoso.utility/1.0.0/contoso.utility.nuspec")).await;
    assert!(nuspec.text().contains("<id>Contoso.Utility</id>"));
    assert_eq!(get(&format!("{flat}contoso.nothing/index.json")).await.status, 404);
    assert_eq!(get(&format!("{flat}contoso.utility/9.9.9/contoso.utility.9.9.9.nupkg")).await.status, 404);
    let head =
        client::send("HEAD", &format!("{flat}contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"), &[], b"")
            .await;
    assert_eq!(head.unwrap().status, 405);
    let release = resource(&simulator, "contoso/main@release", "PackageBaseAddress/3.0.0").await;
    assert_eq!(
        get(&format!("{release}contoso.utility/index.json")).await.json(),
        json!({ "versions": ["1.0.0"] })
    );
}

#[tokio::test]
async fn few_versions_are_inlined_in_the_registration() {
    let simulator = start().await;
    // The older flavour doesn't show 2.0.0-RC.1, so three versions are left: one page.
    let base = resource(&simulator, "contoso/main", "RegistrationsBaseUrl/3.0.0-beta").await;
    let index = get(&format!("{base}contoso.utility/index.json")).await.json();
    assert_eq!(index["count"], 1);
    let page = &index["items"][0];
    assert_eq!(
        (&page["count"], &page["lower"], &page["upper"]),
        (&json!(3), &json!("1.0.0"), &json!("1.10.0"))
    );
    let item = &page["items"][2];
    assert_eq!(item["@id"], format!("{base}contoso.utility/1.10.0.json"));
    assert_eq!(item["catalogEntry"]["version"], "1.10.0");
    let flat = resource(&simulator, "contoso/main", "PackageBaseAddress/3.0.0").await;
    assert_eq!(item["packageContent"], format!("{flat}contoso.utility/1.10.0/contoso.utility.1.10.0.nupkg"));
    let dependency = &item["catalogEntry"]["dependencyGroups"][0]["dependencies"][0];
    assert_eq!((&dependency["id"], &dependency["range"]), (&json!("Contoso.Core"), &json!("[2.0, )")));
    assert_eq!(page["items"][1]["catalogEntry"]["listed"], false);
    let leaf = get(item["@id"].as_str().unwrap()).await.json();
    assert_eq!((&leaf["listed"], &leaf["packageContent"]), (&json!(true), &item["packageContent"]));
}

#[tokio::test]
async fn many_versions_are_paged() {
    let simulator = start().await;
    let base = resource(&simulator, "contoso/main", "RegistrationsBaseUrl/3.6.0").await;
    let index = get(&format!("{base}contoso.utility/index.json")).await.json();
    assert_eq!(index["count"], 2);
    assert!(index["items"][0].get("items").is_none());
    let url = index["items"][1]["@id"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{base}contoso.utility/page/2.0.0-rc.1/2.0.0-rc.1.json"));
    let page = get(&url).await.json();
    assert_eq!(page["items"][0]["catalogEntry"]["version"], "2.0.0-RC.1");
    assert_eq!(get(&format!("{base}contoso.utility/page/1.0.0/9.9.9.json")).await.status, 404);
}

#[tokio::test]
async fn search_finds_listed_packages_of_the_feed() {
    let simulator = start().await;
    let base = resource(&simulator, "contoso/main", "SearchQueryService/3.0.0-beta").await;
    let found =
        get(&format!("{base}?q=utility&skip=0&take=26&prerelease=false&semVerLevel=2.0.0")).await.json();
    assert_eq!((&found["totalHits"], &found["data"][0]["version"]), (&json!(1), &json!("1.10.0")));
    assert_eq!(found["data"][0]["versions"].as_array().unwrap().len(), 2);
    let newest = get(&format!("{base}?q=&prerelease=true")).await.json();
    assert_eq!(newest["data"][0]["version"], "2.0.0-RC.1");
    assert_eq!(get(&format!("{base}?q=nothing")).await.json()["totalHits"], 0);
}

#[tokio::test]
async fn vulnerability_documents_are_there_and_empty() {
    let simulator = start().await;
    let index = get(&resource(&simulator, "contoso/main", "VulnerabilityInfo/6.7.0").await).await.json();
    assert_eq!(index[0]["@name"], "base");
    assert_eq!(get(index[0]["@id"].as_str().unwrap()).await.json(), json!({}));
}

#[tokio::test]
async fn a_push_adds_a_version_once() {
    let simulator = start().await;
    let other = NugetPackage::new("Contoso.New").version("3.0.0.0", NugetVersion::new());
    let source = Organisation::new("a").feed(Feed::new("f").nuget(other));
    let source = Simulator::builder().organisation(source).start().await.unwrap();
    let (nupkg, _) = source.nuget_file("a/f", "Contoso.New", "3.0.0.0");
    let publish = resource(&simulator, "contoso/main", "PackagePublish/2.0.0").await;
    let head =
        b"--xyz\r\nContent-Disposition: form-data; name=package; filename=package.nupkg\r\n\r\n".as_slice();
    let body = [head, &nupkg[..], b"\r\n--xyz--\r\n"].concat();
    let push = async |pat: &str| {
        let credential = client::basic("any", pat);
        let kind = ("Content-Type", "multipart/form-data; boundary=\"xyz\"");
        let headers = [("Authorization", credential.as_str()), kind, ("X-NuGet-ApiKey", "az")];
        client::send("PUT", &publish, &headers, &body).await.unwrap()
    };
    assert_eq!(push("wrong").await.status, 401);
    assert_eq!(push("bob-pat").await.status, 202);
    let again = push("bob-pat").await;
    assert_eq!(
        (again.status, again.json()["typeKey"].clone()),
        (409, json!("PackageAlreadyExistsException"))
    );
    let flat = resource(&simulator, "contoso/main", "PackageBaseAddress/3.0.0").await;
    assert_eq!(get(&format!("{flat}contoso.new/index.json")).await.json(), json!({ "versions": ["3.0.0"] }));
    let redirect = get(&format!("{flat}contoso.new/3.0.0/contoso.new.3.0.0.nupkg")).await;
    assert_eq!(get(redirect.header("location").unwrap()).await.body, nupkg);
}

#[tokio::test]
async fn a_folder_of_real_nupkgs_becomes_packages() {
    let folder = tempfile::tempdir().unwrap();
    let source = start().await;
    for version in ["1.0", "1.10.0"] {
        let (bytes, _) = source.nuget_file("contoso/Main", "Contoso.Utility", version);
        std::fs::write(folder.path().join(format!("contoso.utility.{version}.nupkg")), bytes).unwrap();
    }
    let feed = Feed::new("main").public().nuget_folder(folder.path());
    let simulator =
        Simulator::builder().organisation(Organisation::new("real").feed(feed)).start().await.unwrap();
    let flat = resource(&simulator, "real/main", "PackageBaseAddress/3.0.0").await;
    let index = get(&format!("{flat}contoso.utility/index.json")).await.json();
    assert_eq!(index, json!({ "versions": ["1.0.0", "1.10.0"] }));
    let redirect = get(&format!("{flat}contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg")).await;
    let expected = source.nuget_file("contoso/Main", "Contoso.Utility", "1.0").0;
    assert_eq!(get(redirect.header("location").unwrap()).await.body, expected);
}

#[tokio::test]
async fn routes_that_are_not_there_are_404() {
    let simulator = start().await;
    let base = format!("{}/contoso/_packaging/main/nuget/", simulator.pkgs_url());
    for path in
        ["v3/autocomplete", "v2/package/contoso.utility/1.0.0", "v3/flat2", "v3/vulnerabilities/x.json"]
    {
        assert_eq!(get(&format!("{base}{path}")).await.status, 404, "{path}");
    }
    let url = format!("{base}v3/index.json");
    assert_eq!(client::send("DELETE", &url, &[], b"").await.unwrap().status, 405);
}
