//! npm registry routes.

use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator, client};
use serde_json::json;

use super::common::{contoso, download, get, start};

#[tokio::test]
async fn a_packument_is_full_and_without_validators() {
    let simulator = start().await;
    let accept = ("Accept", "application/vnd.npm.install-v1+json");
    let credential = client::basic("any", "alice-pat");
    let url = format!("{}left-pad", simulator.npm_url("contoso/main"));
    let response = client::get(&url, &[accept, ("Authorization", &credential)]).await.unwrap();
    assert_eq!((response.status, response.reason.as_str()), (200, "OK"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("etag"), None);
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    assert!(response.header("x-vss-userdata").unwrap().ends_with(":alice@example.com"));
    let packument = response.json();
    assert_eq!(packument["dist-tags"], json!({ "latest": "1.3.0" }));
    assert_eq!(packument["versions"].as_object().unwrap().len(), 3);
    let version = &packument["versions"]["1.3.0"];
    let (_, digests) = simulator.npm_file("contoso/main", "left-pad", "1.3.0");
    let tarball = format!("{}left-pad/-/left-pad-1.3.0.tgz", simulator.npm_url("contoso/main"));
    assert_eq!(version["dist"], json!({ "shasum": digests.sha1, "tarball": tarball }));
    assert_eq!(version["dependencies"], json!({ "is-odd": "^3.0.0" }));
    assert_eq!(packument["versions"]["2.0.0-rc.1"]["deprecated"], "too early");
    assert_eq!(packument["time"]["1.2.0"], "2024-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn integrity_is_told_when_the_builder_says_so() {
    let simulator = contoso().integrity(true).start().await.unwrap();
    let packument = get(&format!("{}left-pad", simulator.npm_url("contoso/main"))).await.json();
    let (_, digests) = simulator.npm_file("contoso/main", "left-pad", "1.3.0");
    assert_eq!(packument["versions"]["1.3.0"]["dist"]["integrity"], digests.integrity);
}

#[tokio::test]
async fn tarball_urls_repeat_the_requested_spelling_and_host() {
    let simulator = start().await;
    let credential = client::basic("", "alice-pat");
    let guid = simulator.feed_guid("contoso/main");
    let rows = [
        (
            "127.0.0.1:1",
            "/contoso/_packaging/MAIN/npm/registry/",
            "http://127.0.0.1:1/contoso/_packaging/MAIN",
        ),
        (
            "pkgs.dev.azure.com",
            "/Contoso/_packaging/main@Local/npm/registry/",
            "http://pkgs.dev.azure.com/Contoso/_packaging/main@Local",
        ),
        (
            "contoso.pkgs.visualstudio.com",
            "/DefaultCollection/_packaging/main/npm/registry/",
            "http://contoso.pkgs.visualstudio.com/DefaultCollection/_packaging/main",
        ),
        (
            "h",
            &format!("/contoso/_packaging/{guid}/npm/registry/"),
            &format!("http://h/contoso/_packaging/{guid}"),
        ),
    ];
    for (host, path, expected) in rows {
        let url = format!("{}{path}left-pad", simulator.pkgs_url());
        let response = client::get(&url, &[("Host", host), ("Authorization", &credential)]).await.unwrap();
        assert_eq!(response.status, 200, "{path}");
        let tarball = response.json()["versions"]["1.3.0"]["dist"]["tarball"].clone();
        assert_eq!(tarball, format!("{expected}/npm/registry/left-pad/-/left-pad-1.3.0.tgz"));
    }
}

#[tokio::test]
async fn scoped_names_answer_to_every_spelling() {
    let simulator = start().await;
    let base = simulator.npm_url("contoso/main");
    for name in ["@contoso%2fui", "@contoso%2Fui", "@contoso/ui", "%40contoso%2fui"] {
        let packument = get(&format!("{base}{name}")).await.json();
        let tarball = packument["versions"]["0.1.0"]["dist"]["tarball"].clone();
        assert_eq!(tarball, format!("{base}@contoso/ui/-/ui-0.1.0.tgz"), "{name}");
    }
}

#[tokio::test]
async fn a_tarball_comes_by_way_of_the_blob_host() {
    let simulator = start().await;
    let base = simulator.npm_url("contoso/main");
    let (bytes, digests) = simulator.npm_file("contoso/main", "left-pad", "1.3.0");
    assert!((18_000..22_000).contains(&bytes.len()), "{}", bytes.len());
    let redirect = get(&format!("{base}left-pad/-/left-pad-1.3.0.tgz")).await;
    let location = redirect.header("location").unwrap();
    assert_eq!((redirect.status, redirect.body.len()), (303, 0));
    assert!(location.starts_with(&format!("http://{}/b-", simulator.blob_authority())), "{location}");
    assert!(location.contains(&format!("/{}.blob?sv=", digests.storage_id)), "{location}");
    let blob = download(&format!("{base}left-pad/-/left-pad-1.3.0.tgz")).await;
    assert!(blob.complete && blob.body == bytes);
    assert_eq!(simulator.blob_downloads()[&digests.storage_id], 1);
    assert!(simulator.violations().is_empty());
}

#[tokio::test]
async fn what_the_service_lacks_is_404_and_head_on_downloads_is_405() {
    let simulator = start().await;
    let base = simulator.npm_url("contoso/main");
    for path in ["left-pad/1.3.0", "left-pad/latest", "-/v1/search?text=x", "-/all", "-/ping", "-/whoami"] {
        let response = get(&format!("{base}{path}")).await;
        assert_eq!(response.status, 404, "{path}");
        assert!(
            response.text().contains("No HTTP resource was found that matches the request URI"),
            "{path}"
        );
    }
    let credential = client::basic("", "alice-pat");
    let headers = [("Authorization", credential.as_str())];
    let url = format!("{base}left-pad/-/left-pad-1.3.0.tgz");
    assert_eq!(client::send("HEAD", &url, &headers, b"").await.unwrap().status, 405);
    let audit = format!("{base}-/npm/v1/security/audits");
    assert_eq!(client::send("POST", &audit, &headers, b"{}").await.unwrap().status, 404);
}

#[tokio::test]
async fn missing_things_are_explained_in_the_reason_phrase() {
    let simulator = start().await;
    let rows = [
        ("contoso/main", "nothing", "PackageNotFoundException"),
        ("contoso/main", "left-pad/-/left-pad-9.9.9.tgz", "PackageNotFoundException"),
        ("contoso/nowhere", "left-pad", "FeedIdNotFoundException"),
        ("contoso/site", "left-pad", "FeedIdNotFoundException"),
        ("contoso/web/main", "left-pad", "FeedIdNotFoundException"),
        ("contoso/main@nowhere", "left-pad", "FeedViewNotFoundException"),
    ];
    for (feed, path, type_key) in rows {
        let response = get(&format!("{}{path}", simulator.npm_url(feed))).await;
        assert_eq!(response.status, 404, "{feed} {path}");
        assert_eq!(response.json()["typeKey"], type_key, "{feed} {path}");
        assert!(response.reason.starts_with("Not Found - "), "{}", response.reason);
        assert!(response.reason.contains("(DevOps Activity ID: "), "{}", response.reason);
    }
    assert_eq!(get(&format!("{}left-pad", simulator.npm_url("contoso/web/site"))).await.status, 200);
}

#[tokio::test]
async fn a_view_shows_its_own_versions() {
    let simulator = start().await;
    let versions = async |feed: &str| {
        let packument = get(&format!("{}left-pad", simulator.npm_url(feed))).await.json();
        packument["versions"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(versions("contoso/main@release").await, ["1.2.0"]);
    let guid = simulator.view_guid("contoso/main", "release");
    assert_eq!(versions(&format!("contoso/main@{guid}")).await, ["1.2.0"]);
    simulator.promote_npm("contoso/main", "left-pad", "1.3.0", "release");
    assert_eq!(versions("contoso/main@release").await, ["1.2.0", "1.3.0"]);
    assert_eq!(versions("contoso/main@local").await.len(), 3);
}

#[tokio::test]
async fn equal_descriptions_are_one_blob_and_salt_makes_two() {
    let package = |salt| NpmPackage::new("shared").version("1.0.0", NpmVersion::new().size(5000).salt(salt));
    let organisation = |name, salt| Organisation::new(name).feed(Feed::new("main").npm(package(salt)));
    let builder =
        Simulator::builder().organisation(organisation("a", "")).organisation(organisation("b", ""));
    let simulator = builder.organisation(organisation("c", "other")).start().await.unwrap();
    let id = |feed| simulator.npm_file(feed, "shared", "1.0.0").1.storage_id;
    assert_eq!(id("a/main"), id("b/main"));
    assert_ne!(id("a/main"), id("c/main"));
}

#[tokio::test]
async fn one_seed_gives_one_content() {
    let (first, second) = (start().await, start().await);
    let other = contoso().seed(8).start().await.unwrap();
    let digests = |simulator: &Simulator| simulator.npm_file("contoso/main", "left-pad", "1.3.0").1;
    assert_eq!(digests(&first), digests(&second));
    assert_ne!(digests(&first), digests(&other));
    assert_eq!(first.feed_guid("contoso/main"), second.feed_guid("contoso/main"));
    assert_ne!(first.feed_guid("contoso/main"), other.feed_guid("contoso/main"));
}

#[tokio::test]
async fn npm_publish_adds_a_version_once() {
    let simulator = start().await;
    let url = format!("{}@contoso%2fnew", simulator.npm_url("contoso/main"));
    let document = json!({
        "_id": "@contoso/new", "name": "@contoso/new", "dist-tags": { "next": "1.0.0" },
        "versions": { "1.0.0": { "name": "@contoso/new", "version": "1.0.0", "dist": { "tarball": "http://x" } } },
        "_attachments": { "@contoso/new-1.0.0.tgz": { "content_type": "application/octet-stream", "data": "aGVsbG8=", "length": 5 } },
    });
    let body = document.to_string();
    let publish = async |pat: &str| {
        let credential = client::basic("any", pat);
        client::send("PUT", &url, &[("Authorization", &credential)], body.as_bytes()).await.unwrap()
    };
    assert_eq!(publish("alice-pat").await.status, 403);
    assert_eq!(publish("bob-pat").await.status, 200);
    let packument = get(&url).await.json();
    assert_eq!(packument["dist-tags"], json!({ "latest": "1.0.0", "next": "1.0.0" }));
    let tarball = packument["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap().to_owned();
    assert_eq!(download(&tarball).await.text(), "hello");
    let again = publish("bob-pat").await;
    assert_eq!(again.status, 403);
    assert!(again.reason.contains("already contains file"), "{}", again.reason);
}

#[tokio::test]
async fn unsaved_versions_are_saved_by_a_caller_who_may() {
    let package = NpmPackage::new("upstream").version("1.0.0", NpmVersion::new().unsaved());
    let simulator = start().await;
    simulator.add_npm("contoso/open", &package);
    let base = simulator.npm_url("contoso/open");
    let url = format!("{base}upstream/-/upstream-1.0.0.tgz");
    let fetch = async |pat: Option<&str>| {
        let credential = pat.map(|pat| client::basic("any", pat));
        let headers: Vec<_> = credential.iter().map(|value| ("Authorization", value.as_str())).collect();
        client::get(&url, &headers).await.unwrap()
    };
    let anonymous = fetch(None).await;
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.reason.contains("No local versions of package 'upstream'"), "{}", anonymous.reason);
    assert_eq!(fetch(Some("alice-pat")).await.status, 403);
    assert_eq!(get(&format!("{}upstream", simulator.npm_url("contoso/open@local"))).await.status, 404);
    assert_eq!(fetch(Some("bob-pat")).await.status, 303);
    assert_eq!(fetch(None).await.status, 303);
    assert_eq!(get(&format!("{}upstream", simulator.npm_url("contoso/open@local"))).await.status, 200);
}

#[tokio::test]
async fn documents_are_compressed_on_request() {
    let simulator = start().await;
    let credential = client::basic("any", "alice-pat");
    let url = format!("{}left-pad", simulator.npm_url("contoso/main"));
    let plain = get(&url).await;
    let headers = [("Authorization", credential.as_str()), ("Accept-Encoding", "gzip, deflate")];
    let compressed = client::get(&url, &headers).await.unwrap();
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert!(compressed.body.len() < plain.body.len());
    assert_eq!(compressed.decoded().unwrap(), plain.body);
}

#[tokio::test]
async fn a_folder_of_real_tarballs_becomes_packages() {
    let folder = tempfile::tempdir().unwrap();
    let source = start().await;
    for (name, version) in [("left-pad", "1.2.0"), ("left-pad", "1.3.0"), ("@contoso/ui", "0.1.0")] {
        let (bytes, _) = source.npm_file("contoso/main", name, version);
        let file = format!("{}-{version}.tgz", name.replace('/', "-"));
        std::fs::write(folder.path().join(file), bytes).unwrap();
    }
    let feed = Feed::new("main").public().npm_folder(folder.path());
    let builder = Simulator::builder().organisation(Organisation::new("real").feed(feed));
    let simulator = builder.start().await.unwrap();
    let packument =
        client::get(&format!("{}left-pad", simulator.npm_url("real/main")), &[]).await.unwrap().json();
    assert_eq!(packument["versions"].as_object().unwrap().len(), 2);
    assert_eq!(packument["versions"]["1.3.0"]["dependencies"], json!({ "is-odd": "^3.0.0" }));
    assert_eq!(packument["versions"]["1.3.0"]["_hasShrinkwrap"], false);
    let shasum = source.npm_file("contoso/main", "left-pad", "1.3.0").1.sha1;
    assert_eq!(packument["versions"]["1.3.0"]["dist"]["shasum"], shasum);
}
