//! One feed by name and by GUID: the same documents and the same bytes, asked for once.

use std::collections::BTreeMap;

use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
    client::{self, Response},
    clients::Client,
};

use crate::{
    installs::{install_from, made_up, organisation},
    support::{DEADLINE, OTHER_PAT, PAT, Scene, readers},
    writes::WRITER,
};

const PACKAGES: usize = 30;
/// However long it takes: what is asked for twice is not what has become stale.
const FRESH: &str = "metadata.packument.fresh = \"1h\"\nmetadata.version_list.fresh = \"1h\"\nmetadata.registration.fresh = \"1h\"\nmetadata.odata.fresh = \"1h\"\n";

async fn scene() -> Scene {
    let mut feed = Feed::new("main").project("web");
    for number in 0..PACKAGES {
        let npm = NpmVersion::new().size(2_000 + number);
        let nuget = NugetVersion::new().size(3_000 + number);
        feed = feed
            .npm(NpmPackage::new(&format!("@s/p{number}")).version("1.0.0", npm))
            .nuget(NugetPackage::new(&format!("Part{number}")).version("1.0.0", nuget));
    }
    let organisation = readers(Organisation::new("contoso").feed(feed));
    Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), FRESH)
}

/// Every way to spell the feed of [`scene`].
fn spellings(scene: &Scene) -> Vec<String> {
    let (feed, project) =
        (scene.simulator.feed_guid("contoso/web/main"), scene.simulator.project_guid("contoso/web/main"));
    let project = project.unwrap().to_string();
    let feed = feed.to_string();
    vec![
        "contoso/web/_packaging/main".to_owned(),
        format!("contoso/{project}/_packaging/{feed}"),
        format!("CONTOSO/DefaultCollection/Web/_packaging/{}", feed.to_uppercase()),
        format!("contoso/{}/_Packaging/MAIN", project.to_uppercase()),
    ]
}

/// How often the service was asked for what is below the feed.
fn asked(scene: &Scene) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in scene.simulator.requests() {
        let path = request.path.to_ascii_lowercase();
        if let Some((_, below)) = path.split_once("/_packaging/") {
            *asked.entry(below.split_once('/').unwrap().1.to_owned()).or_default() += 1;
        }
    }
    asked
}

async fn install(scene: &Scene, pat: &str, place: &str) {
    let get = async |path: String| -> Response {
        let response = scene.get_as(Some(pat), &format!("{place}/{path}"), &[]).await;
        assert_eq!(response.status, 200, "{place}/{path}");
        response
    };
    for number in 0..PACKAGES {
        let packument = get(format!("npm/registry/@s%2fp{number}")).await.json();
        let tarball = packument["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap().to_owned();
        assert!(tarball.starts_with(&format!("http://{}/", scene.gate().address())), "{tarball}");
        get(format!("npm/registry/@s/p{number}/-/p{number}-1.0.0.tgz")).await;
        get(format!("nuget/v3/flat2/part{number}/index.json")).await;
        get(format!("nuget/v3/registrations2-semver2/part{number}/index.json")).await;
        get(format!("nuget/v3/flat2/part{number}/1.0.0/part{number}.1.0.0.nupkg")).await;
    }
    get("nuget/v3/index.json".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_a_feed_share_every_document_and_every_byte() {
    let mut scene = scene().await;
    let spellings = spellings(&scene);
    let (one, other) = (install(&scene, PAT, &spellings[0]), install(&scene, OTHER_PAT, &spellings[1]));
    tokio::join!(one, other);
    install(&scene, PAT, &spellings[2]).await;
    scene.restart();
    install(&scene, OTHER_PAT, &spellings[3]).await;
    let asked = asked(&scene);
    let twice: Vec<_> = asked.iter().filter(|(path, times)| **times > 1 && !is_question(path)).collect();
    assert_eq!(twice, Vec::<(&String, &usize)>::new());
    // Each spelling and each caller once.
    assert!(asked["nuget/v3/index.json"] <= 6, "{}", asked["nuget/v3/index.json"]);
    let downloads = scene.simulator.blob_downloads();
    assert_eq!((downloads.len(), downloads.values().max()), (2 * PACKAGES, Some(&1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_that_spell_a_feed_differently_share_a_whole_install() {
    let content = made_up();
    let simulator = Simulator::builder().organisation(organisation(&content)).start().await.unwrap();
    let feed = simulator.feed_guid("contoso/main");
    let scene = Scene::with(simulator, FRESH);
    let base = format!("http://{}/contoso/_packaging", scene.gate().address());
    let clients = Client::found();
    let installs = clients.iter().enumerate().map(|(number, client)| {
        let name = if number % 2 == 0 { "main".to_owned() } else { feed.to_string() };
        let (feed, content) = (format!("{base}/{name}"), content.clone());
        async move { install_from(client, &content, &feed, "two spellings").await }
    });
    futures::future::join_all(installs).await;
    // And each the other way round.
    for client in &clients {
        install_from(client, &content, &format!("{base}/{feed}"), "by GUID").await;
    }
    let asked = asked(&scene);
    let twice: Vec<_> = asked.iter().filter(|(path, times)| **times > 1 && !is_question(path)).collect();
    assert_eq!(twice, Vec::<(&String, &usize)>::new());
    assert!(scene.simulator.blob_downloads().values().all(|times| *times == 1));
}

/// Whether a path is the question after a caller's right, which each asks for itself.
fn is_question(path: &str) -> bool {
    path == "nuget/v3/index.json"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_feed_is_followed_within_its_time_and_at_once_when_renamed_through_the_gate() {
    let feed = |name: &str, salt: &str| {
        let version = NpmVersion::new().size(700).salt(salt);
        Feed::new(name).npm(NpmPackage::new("left-pad").version("1.0.0", version))
    };
    let organisation = readers(Organisation::new("contoso").feed(feed("one", "1")).feed(feed("two", "2")))
        .token(Token::pat(WRITER).label("writer").scope(Scope::ReadWrite));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    let bytes = |feed: &str| simulator.npm_file(feed, "left-pad", "1.0.0").0;
    let (one, two) = (bytes("contoso/one"), bytes("contoso/two"));
    let scene = Scene::with(simulator, "access.identity_ttl = \"1s\"");
    let path = |name: &str| format!("contoso/_packaging/{name}/npm/registry/left-pad/-/left-pad-1.0.0.tgz");
    let read = async |name: &str| scene.get(&path(name)).await.body;
    assert_eq!((read("one").await, read("two").await), (one.clone(), two.clone()));
    // The names change places behind the gate's back.
    scene.simulator.rename_feed("contoso/one", "three");
    scene.simulator.rename_feed("contoso/two", "one");
    scene.simulator.rename_feed("contoso/three", "two");
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while read("one").await != two || read("two").await != one {
        assert!(tokio::time::Instant::now() < deadline, "the old feeds under the names");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(scene.get(&path("three")).await.status, 404);
    // Through the gate the change is seen at once.
    let credential = client::basic("any", WRITER);
    let headers = [("Authorization", credential.as_str()), ("Content-Type", "application/json")];
    let url = scene.url("contoso/_apis/packaging/Feeds/one?api-version=5.0-preview.1");
    let renamed = client::send("PATCH", &url, &headers, br#"{"name":"four"}"#).await.unwrap();
    assert_eq!(renamed.status, 200, "{}", renamed.text());
    assert_eq!(scene.get(&path("one")).await.status, 404);
    assert_eq!(read("four").await, two);
}
