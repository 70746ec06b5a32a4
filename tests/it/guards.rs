//! Guards: what is kept from builds, in documents and downloads alike, for real clients and on every route.

use std::{collections::BTreeMap, time::Duration};

use feedgate::{app::Gate, clock::Clock, config::Config};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator,
    client::Response,
    clients::{Npm, Nuget, Project, Registry},
};
use serde_json::{Value, json};

use crate::{
    scripted::{self, Service, json as page},
    support::{NPM, NUGET, PAT, Scene, readers},
};

pub const V2: &str = "contoso/_packaging/main/nuget/v2";
pub const DAY: Duration = Duration::from_secs(86_400);

pub fn npm(name: &str, versions: &[&str]) -> NpmPackage {
    versions
        .iter()
        .fold(NpmPackage::new(name), |package, version| package.version(version, NpmVersion::new()))
}

pub async fn scene(extra: &str, clock: Clock) -> Scene {
    let utility = NugetPackage::new("Contoso.Utility")
        .version("1.0.0", NugetVersion::new())
        .version("1.1.0", NugetVersion::new());
    let main = Feed::new("main")
        .npm(npm("left-pad", &["1.2.0", "1.3.0"]).tag("next", "1.3.0"))
        .npm(npm("@contoso/own", &["1.0.0"]))
        .npm(npm("evil", &["1.0.0"]))
        .nuget(utility);
    let other = Feed::new("other").npm(npm("@contoso/own", &["9.9.9"])).npm(npm("evil", &["1.0.0"]));
    let organisation = readers(Organisation::new("contoso").feed(main).feed(other));
    Scene::at(Simulator::builder().organisation(organisation).start().await.unwrap(), extra, clock)
}

pub fn refused(answer: &Response, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let problem: Value = answer.json();
    assert_eq!(problem["code"], "guard");
    assert!(problem["error"].as_str().unwrap().contains(part), "{problem}");
}

pub fn versions(packument: &Response) -> Vec<String> {
    assert_eq!(packument.status, 200, "{}", packument.text());
    packument.json()["versions"].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_in_no_document_and_cannot_be_downloaded() {
    let rules = "[[guard]]\nfeeds = [\"contoso/main\"]\ndeny = [\"evil\", \"left-pad@1.3.0\", \"contoso.utility@>1.0.0\"]\n";
    let scene = scene(rules, Clock::system()).await;
    let left_pad = scene.get(&format!("{NPM}/left-pad")).await;
    assert_eq!(versions(&left_pad), ["1.2.0"]);
    assert_eq!(left_pad.json()["dist-tags"], json!({ "latest": "1.2.0" }));
    let tags = format!("{NPM}/-/package/left-pad/dist-tags");
    assert_eq!(scene.get(&tags).await.json(), json!({ "latest": "1.2.0" }));
    assert_eq!(scene.get(&format!("{tags}/next")).await.status, 404);
    let short = [("Accept", "application/vnd.npm.install-v1+json")];
    assert_eq!(versions(&scene.get_with(&format!("{NPM}/left-pad"), &short).await), ["1.2.0"]);
    refused(&scene.get(&format!("{NPM}/left-pad/1.3.0")).await, 403, "(left-pad@1.3.0)");
    refused(&scene.get(&format!("{NPM}/evil")).await, 403, "evil is refused by a guard");
    for spelling in
        ["Evil", "%65VIL", "EVIL/-/EVIL-1.0.0.tgz", "evil/-/x.tgz?a=b", "-/package/Evil/dist-tags"]
    {
        refused(&scene.get(&format!("{NPM}/{spelling}")).await, 403, "is refused by a guard");
    }
    refused(&scene.get(&format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz")).await, 403, "(left-pad@1.3.0)");
    assert_eq!(scene.get(&format!("{NPM}/left-pad/-/left-pad-1.2.0.tgz")).await.status, 200);

    let flat = format!("{NUGET}/flat2/contoso.utility");
    assert_eq!(scene.get(&format!("{flat}/index.json")).await.json(), json!({ "versions": ["1.0.0"] }));
    refused(
        &scene.get(&format!("{flat}/1.1.0/contoso.utility.1.1.0.nupkg")).await,
        403,
        "contoso.utility@1.1.0",
    );
    refused(
        &scene.get(&format!("{V2}?id=Contoso.Utility&version=1.1.0")).await,
        403,
        "contoso.utility@1.1.0",
    );
    refused(&scene.get(&format!("{V2}/Packages(Id='Contoso.Utility',Version='1.1.0')")).await, 403, "1.1.0");
    for path in [
        format!("{NUGET}/registrations2-semver2/contoso.utility/index.json"),
        format!("{NUGET}/query2/?q=contoso"),
        format!("{V2}/FindPackagesById()?id='Contoso.Utility'"),
        format!("{V2}/Search()?searchTerm='contoso'"),
    ] {
        let text = scene.get(&path).await.text();
        // A page is still called by the versions that it had.
        let named = |version: &str| {
            text.contains(&format!("\"{version}\"")) || text.contains(&format!(">{version}<"))
        };
        assert!(named("1.0.0") && !named("1.1.0"), "{path}: {text}");
    }
    let counted = scene.metric(&["feedgate_guard_refusals_total", "denied"]).await;
    assert!((counted - 11.0).abs() < 0.5, "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_install_around_a_guard_and_show_its_words() {
    let rules = "[[guard]]\ndeny = [\"left-pad@1.3.0\", \"evil\", \"Contoso.Utility@1.1.0\"]\n";
    let scene = scene(rules, Clock::system()).await;
    let (client, nuget) = (Npm::find().unwrap(), Nuget::find().unwrap());
    let gate = Registry::with_token(scene.url(&format!("{NPM}/")), "any", PAT);
    let install = async |name: &str, range: &str| {
        let manifest = json!({ "name": "app", "version": "1.0.0", "dependencies": { name: range } });
        let project = Project::npm(&manifest.to_string()).unwrap();
        let outcome = client.install(&project, &gate).await.unwrap();
        let manifest = project.installed().join(name).join("package.json");
        let installed =
            std::fs::read_to_string(manifest).map(|text| serde_json::from_str::<Value>(&text).unwrap());
        (outcome, installed.ok())
    };
    let (outcome, installed) = install("left-pad", "^1.2.0").await;
    assert!(outcome.success && installed.unwrap()["version"] == "1.2.0", "{outcome:?}");
    let (outcome, _) = install("evil", "1.0.0").await;
    assert!(!outcome.success && outcome.output().contains("evil is refused by a guard"), "{outcome:?}");
    let (outcome, _) = install("safe", "npm:evil@1.0.0").await;
    assert!(!outcome.success && outcome.output().contains("evil is refused by a guard"), "{outcome:?}");
    for range in ["next", "1.3.0", ">1.2.0"] {
        let (outcome, installed) = install("left-pad", range).await;
        assert!(!outcome.success && installed.is_none(), "{range}: {outcome:?}");
    }
    assert_eq!(scene.downloads().await, 1);
    let gate = Registry::with_token(scene.url(&format!("{NUGET}/index.json")), "any", PAT);
    let project = Project::nuget([]).unwrap();
    let outcome = nuget.add(&project, &gate, "Contoso.Utility", None).await.unwrap();
    assert!(outcome.success && project.installed().join("Contoso.Utility.1.0.0").exists(), "{outcome:?}");
    let project = Project::nuget([]).unwrap();
    let outcome = nuget.add(&project, &gate, "CONTOSO.utility", Some("1.1")).await.unwrap();
    assert!(!outcome.success && !project.installed().join("Contoso.Utility.1.1.0").exists(), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_there_once_it_is_old_enough_whatever_its_document_says() {
    let clock = Clock::manual(Clock::system().now() + 30 * DAY);
    let rules = "[[guard]]\nmin_release_age = \"3d\"\nexempt = [\"@contoso/*\"]\n";
    let scene = scene(rules, clock.clone()).await;
    // Asked for before any document of it: the document is looked at for its age.
    let tarball = |version: &str| format!("{NPM}/left-pad/-/left-pad-{version}.tgz");
    assert_eq!(scene.get(&tarball("1.3.0")).await.status, 200);
    // It appears now, and says that it is old.
    scene.simulator.add_npm("contoso/main", &npm("left-pad", &["1.2.0", "1.3.0", "1.3.1"]));
    clock.advance(Duration::from_secs(600));
    assert_eq!(versions(&scene.get(&format!("{NPM}/left-pad")).await), ["1.2.0", "1.3.0"]);
    refused(&scene.get(&tarball("1.3.1")).await, 403, "versions must be 3d old, 3d are left");
    assert_eq!(scene.get("contoso/_packaging/main/npm/registry/@contoso%2fown").await.status, 200);
    clock.advance(2 * DAY);
    refused(&scene.get(&tarball("1.3.1")).await, 403, "1d are left");
    clock.advance(DAY);
    assert_eq!(versions(&scene.get(&format!("{NPM}/left-pad")).await), ["1.2.0", "1.3.0", "1.3.1"]);
    assert_eq!(scene.get(&tarball("1.3.1")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_name_comes_from_its_feed_only_by_any_spelling() {
    let pin = "[[pin]]\nnames = [\"@contoso/*\"]\nfeeds = [\"contoso/main\"]\n";
    let scene = scene(pin, Clock::system()).await;
    let guid = scene.simulator.feed_guid("contoso/main");
    let place = |feed: &str| format!("contoso/_packaging/{feed}/npm/registry/@contoso%2fown");
    assert_eq!(versions(&scene.get(&place("main")).await), ["1.0.0"]);
    assert_eq!(versions(&scene.get(&place(&guid.to_string())).await), ["1.0.0"]);
    refused(&scene.get(&place("other")).await, 404, "a pin keeps @contoso/* to contoso/main");
    let tarball = "contoso/_packaging/other/npm/registry/@contoso/own/-/own-9.9.9.tgz";
    refused(&scene.get(tarball).await, 404, "@contoso/own is not taken from this feed");
    let other_case = "contoso/_packaging/other/npm/registry/@Contoso%2Fown";
    refused(&scene.get(other_case).await, 404, "@Contoso/own is not taken from this feed");
    assert_eq!(scene.downloads().await, 0);
}

/// A service that sends `body` for everything but the index, to a gate with a guard.
async fn malformed(kind: &str, body: &str) -> (Service, tempfile::TempDir, Gate) {
    let (kind, body) = (format!("Content-Type: {kind}\r\n"), body.to_owned());
    let service = Service::start(move |seen| {
        if seen.path().ends_with("/v3/index.json") {
            page("{\"version\":\"3.0.0\",\"resources\":[]}")
        } else {
            scripted::answer("200 OK", &kind, &body)
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = scripted::config(service.address, folder.path());
    let rule = "[[guard]]\ndeny = [\"evil@1.0.0\", \"left-pad@1.3.0\"]\n";
    settings.guards = Config::parse(rule, &BTreeMap::new()).unwrap().config.guards;
    let gate = scripted::start(settings).await;
    (service, folder, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn npms_search_finds_nothing_that_is_refused() {
    let one = |name: &str, version: &str| json!({ "package": { "name": name, "version": version } });
    let found =
        json!({ "objects": [one("evil", "1.0.0"), one("left-pad", "1.2.0")], "total": 2 }).to_string();
    let all =
        json!({ "_updated": 1, "evil": { "versions": { "1.0.0": "latest" } }, "left-pad": {} }).to_string();
    let search = format!("/{NPM}/-/v1/search?text=e");
    for (path, kind, body, left) in [
        (
            &search,
            "application/json",
            &found,
            Some(json!({ "objects": [one("left-pad", "1.2.0")], "total": 1 })),
        ),
        (
            &format!("/{NPM}/-/v1/se%61rch"),
            "application/json",
            &found,
            Some(json!({ "objects": [one("left-pad", "1.2.0")], "total": 1 })),
        ),
        (&format!("/{NPM}/-/all"), "application/json", &all, Some(json!({ "_updated": 1, "left-pad": {} }))),
        (&search, "application/json", &"{".to_owned(), None),
        (&search, "text/plain", &found, None),
    ] {
        let (_service, _folder, gate) = malformed(kind, body).await;
        let reply = scripted::get(gate.address(), path, "").await;
        match left {
            Some(left) => {
                assert_eq!(serde_json::from_str::<Value>(&reply.text()).unwrap(), left, "{path}");
            }
            None => {
                assert_eq!((reply.status, reply.text().contains("evil")), (502, false), "{}", reply.text());
            }
        }
        scripted::stop(gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_a_guard_cannot_read_is_refused_as_a_whole() {
    let entry = "<entry><title>Evil</title><d:Version>1.0.0</d:Version></entry>";
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let (xml, json) = ("application/atom+xml", "application/json");
    let search = format!("{V2}/Search()?searchTerm='evil'");
    let versions = format!("{V2}/FindPackagesById()?id='Evil'");
    let registration = format!("{NUGET}/registrations2/evil/index.json");
    for (path, kind, body, why) in [
        (&versions, xml, format!("<feed>{entry}<entry></feed>"), "is not well-formed"),
        (&versions, xml, format!("<feed>&odd;{entry}</feed>"), "is not defined"),
        (&versions, xml, entry.to_owned(), "is one entry"),
        (&search, xml, format!("<feed>{entry}</feed><!-- --></feed>"), "is not well-formed"),
        (
            &format!("{NPM}/left-pad"),
            json,
            r#"{"versions":{"1.3.0":{},"\ud800":{}}}"#.to_owned(),
            "`versions`",
        ),
        (&format!("{NUGET}/flat2/evil/index.json"), json, r#"{"versions":"1.0.0"}"#.to_owned(), "`versions`"),
        (&registration, json, format!(r#"{{"items":[],"x":{deep}}}"#), "recursion limit"),
        (&format!("{NUGET}/query2/?q=evil"), json, r#"{"data":{}}"#.to_owned(), "`data`"),
    ] {
        let (_service, _folder, gate) = malformed(kind, &body).await;
        // Fetched, and from the store.
        for _ in 0..2 {
            let answer = scripted::get(gate.address(), &format!("/{path}"), "").await;
            assert_eq!(answer.status, 502, "{path}: {}", answer.text());
            let problem: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(problem["code"], "guard");
            let text = problem["error"].as_str().unwrap();
            assert!(text.contains("refused by a guard, which cannot read") && text.contains(why), "{text}");
        }
        scripted::stop(gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_one_version_was_judged_by_its_route_and_is_sent_as_it_is() {
    let body = "<entry><title>Good</entry>";
    let (_service, _folder, gate) = malformed("application/atom+xml", body).await;
    let answer =
        scripted::get(gate.address(), &format!("/{V2}/Packages(Id='Good',Version='1.0.0')"), "").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, body));
    scripted::stop(gate).await;
}
