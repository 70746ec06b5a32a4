//! Package bytes through the gate: whole, in parts, and what it costs the service.

use bytes::Bytes;
use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator};

use crate::support::{NPM, NUGET, PAT, Scene, readers};

const LARGE: &str = "large/-/large-1.0.0.tgz";

fn large(scene: &Scene) -> Bytes {
    scene.simulator.npm_file("contoso/main", "large", "1.0.0").0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_downloaded_once_and_without_the_credential() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/{LARGE}");
    let miss = scene.get(&path).await;
    assert_eq!((miss.status, miss.complete, &miss.body), (200, true, &large(&scene)));
    assert!(miss.header("cache-control").unwrap().contains("immutable"));
    let hit = scene.get(&path).await;
    assert_eq!((hit.header("x-cache"), &hit.body), (Some("HIT"), &large(&scene)));
    let id = scene.simulator.npm_file("contoso/main", "large", "1.0.0").1.storage_id.clone();
    assert_eq!(hit.header("etag"), Some(format!("\"{id}\"").as_str()));
    assert_eq!(scene.downloads().await, 1);
    assert_eq!(scene.simulator.violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_is_counted_as_missed_once() {
    let scene = Scene::new().await;
    assert_eq!(scene.get(&format!("{NPM}/{LARGE}")).await.header("x-cache"), Some("MISS"));
    for tier in ["tier=\"memory\"", "tier=\"disk\""] {
        let missed = scene.metric(&["feedgate_tier_misses_total", tier]).await;
        assert_eq!(missed.to_bits(), 1_f64.to_bits(), "{tier}: {missed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nuget_package_in_any_spelling_is_one_package() {
    let scene = Scene::new().await;
    let bytes = scene.simulator.nuget_file("contoso/main", "Contoso.Utility", "1.0.0").0;
    for path in [
        "contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg",
        "Contoso.Utility/1.0/Contoso.Utility.1.0.nupkg",
        "CONTOSO.UTILITY/1.0.0.0/contoso.utility.1.0.0.0.nupkg",
    ] {
        let response = scene.get(&format!("{NUGET}/flat2/{path}")).await;
        assert_eq!((response.status, &response.body), (200, &bytes), "{path}");
    }
    assert_eq!(scene.downloads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_package_are_those_of_its_bytes() {
    let scene = Scene::new().await;
    let (path, whole) = (format!("{NPM}/{LARGE}"), large(&scene));
    let length = whole.len();
    // The first request finds nothing stored: parts of a download in progress are served as well.
    for (range, expected) in [
        ("bytes=0-0", Some(0..1)),
        ("bytes=1000000-1000099", Some(1_000_000..1_000_100)),
        ("bytes=-5", Some(length - 5..length)),
        ("bytes=2999990-", Some(2_999_990..length)),
    ] {
        let response = scene.get_with(&path, &[("Range", range)]).await;
        let expected = expected.unwrap();
        assert_eq!((response.status, response.complete), (206, true), "{range}");
        assert_eq!(response.body, whole.slice(expected.clone()), "{range}");
        let header = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
        assert_eq!(response.header("content-range"), Some(header.as_str()));
    }
    let beyond = scene.get_with(&path, &[("Range", &format!("bytes={length}-"))]).await;
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some(format!("bytes */{length}").as_str()))
    );
    let multi = scene.get_with(&path, &[("Range", "bytes=0-9,20-29")]).await;
    assert_eq!((multi.status, multi.complete), (206, true));
    assert!(multi.header("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
    assert_eq!(scene.downloads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_range_and_if_none_match_look_at_the_content() {
    let scene = Scene::new().await;
    let path = format!("{NPM}/{LARGE}");
    scene.get(&path).await;
    let tag = scene.get(&path).await.header("etag").unwrap().to_owned();
    let same = scene.get_with(&path, &[("Range", "bytes=0-4"), ("If-Range", &tag)]).await;
    assert_eq!(same.status, 206);
    let other = scene.get_with(&path, &[("Range", "bytes=0-4"), ("If-Range", "\"other\"")]).await;
    assert_eq!((other.status, other.body.len()), (200, large(&scene).len()));
    assert_eq!(scene.get_with(&path, &[("If-None-Match", &tag)]).await.status, 304);
    let head = scene.send_as("HEAD", Some(PAT), &path, &[]).await;
    assert_eq!(head.header("content-length"), Some(large(&scene).len().to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_one_after_the_other_share_connections() {
    let feed = (0..20).fold(Feed::new("main"), |feed, number| {
        let package = NpmPackage::new(&format!("p{number}"));
        feed.npm(package.version("1.0.0", NpmVersion::new().size(300_000)))
    });
    let organisation = readers(Organisation::new("contoso").feed(feed));
    let scene = Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), "");
    for number in 0..20 {
        let response = scene.get(&format!("{NPM}/p{number}/-/p{number}-1.0.0.tgz")).await;
        assert!(response.status == 200 && response.complete);
    }
    assert_eq!(scene.downloads().await, 20);
    // One to each host; some more where a request came before the connection of the one before was back.
    let connections = scene.simulator.accepted_connections();
    assert!(connections <= 4, "{connections} connections for 40 requests");
}
