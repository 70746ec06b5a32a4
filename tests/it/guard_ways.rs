//! Ways round a guard: other spellings of a feed, a version or a path, and names that only the service knows.

use std::collections::BTreeMap;

use feedgate::{clock::Clock, config::Config};
use feedgate_simulator::{
    Feed, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
    client::{basic, get},
    clients::{Npm, Registry},
};
use serde_json::json;

use crate::{
    explain::explained,
    guards::{DAY, npm, refused, scene, versions},
    scripted::{self, Service, answer, json as page},
    support::{NPM, NUGET, PAT, Scene, readers},
    writes::WRITER,
};

const SHORT: &str = "[[guard]]\nfeeds = [\"contoso/main\"]\ndeny = [\"evil\", \"left-pad@1.3.0\"]\n\
    [[pin]]\nnames = [\"@contoso/*\"]\nfeeds = [\"contoso/main\"]\n";

fn by(feed: &impl std::fmt::Display, rest: &str) -> String {
    format!("contoso/_packaging/{feed}/npm/registry/{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_a_feed_holds_by_guids_before_anybody_asks_by_name() {
    for first in 0..4 {
        let scene = scene(SHORT, Clock::system()).await;
        let [main, other] = ["contoso/main", "contoso/other"].map(|feed| scene.simulator.feed_guid(feed));
        match first {
            0 => refused(&scene.get(&by(&main, "evil")).await, 403, "evil is refused by a guard"),
            1 => assert_eq!(versions(&scene.get(&by(&main, "left-pad")).await), ["1.2.0"]),
            2 => assert_eq!(versions(&scene.get(&by(&main, "@contoso%2fown")).await), ["1.0.0"]),
            _ => refused(&scene.get(&by(&other, "@contoso%2fown")).await, 404, "a pin keeps @contoso/*"),
        }
        // The rule is not for the other feed.
        assert_eq!(versions(&scene.get(&by(&other, "evil")).await), ["1.0.0"]);
        let tarball = by(&main, "left-pad/-/left-pad-1.3.0.tgz");
        refused(&scene.get(&tarball).await, 403, "(left-pad@1.3.0)");
        assert_eq!(scene.get(&by(&main, "left-pad/-/left-pad-1.2.0.tgz")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_a_guid_shows_what_is_pinned_to_its_feed() {
    let pin = "[[pin]]\nnames = [\"Contoso.*\"]\nfeeds = [\"contoso/main\"]\n";
    for search in ["v3/query2/?q=contoso", "v2/Search()?searchTerm='contoso'"] {
        let scene = scene(pin, Clock::system()).await;
        let main = scene.simulator.feed_guid("contoso/main");
        let found = scene.get(&format!("contoso/_packaging/{main}/nuget/{search}")).await;
        assert!(
            found.status == 200 && found.text().contains("Contoso.Utility"),
            "{search}: {}",
            found.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_a_feed_that_nobody_knows_holds_for_every_guid() {
    let rules = "[[guard]]\nfeeds = [\"contoso/nowhere\"]\ndeny = [\"evil\"]\n\
        [[pin]]\nnames = [\"left-pad\"]\nfeeds = [\"contoso/nowhere\"]\n";
    let scene = scene(rules, Clock::system()).await;
    let main = scene.simulator.feed_guid("contoso/main");
    refused(&scene.get(&by(&main, "evil")).await, 403, "evil is refused by a guard");
    refused(&scene.get(&by(&main, "left-pad")).await, 404, "a pin keeps left-pad");
    assert_eq!(scene.get(&by(&"main", "evil")).await.status, 200, "a name is another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_by_a_guid_that_looks_like_a_name_is_not_taken_for_another() {
    let service = Service::start(|seen| {
        if seen.path().ends_with("/v3/index.json") {
            answer("404 Not Found", "", "")
        } else {
            page(r#"{"name":"evil","versions":{"1.0.0":{}}}"#)
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = scripted::config(service.address, folder.path());
    settings.guards = Config::parse(SHORT, &BTreeMap::new()).unwrap().config.guards;
    let gate = scripted::start(settings).await;
    for (feed, status) in [
        ("main", 403),
        ("0F1D6E4A5B3C4D2E9A8B7C6D5E4F3A2B", 403),
        ("%7B0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b%7D", 403),
        ("other", 200),
    ] {
        let answer = scripted::get(gate.address(), &format!("/{}", by(&feed, "evil")), "").await;
        assert_eq!(answer.status, status, "{feed}: {}", answer.text());
    }
    scripted::stop(gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_read_is_neither_allowed_nor_exempt() {
    let rules = "[[guard]]\nallow = [\"left-pad@1.3.0\", \"@contoso/*\", \"evil@<1.0.0\"]\nexempt = [\"left-pad@1.3.0\"]\n";
    let scene = scene(rules, Clock::system()).await;
    for file in ["left-pad-v9.9.9.tgz", "LEFT-PAD-9.9.9.tgz", "left-pad-9.tgz", "1.3.0.tgz"] {
        refused(&scene.get(&format!("{NPM}/left-pad/-/{file}")).await, 403, "refused by a guard");
    }
    assert_eq!(scene.simulator.count(|request| request.path.contains("/-/")), 0);
    assert_eq!(scene.get(&format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz")).await.status, 200);
    // All of these are allowed, so it does not matter which one it is: the service has none of that name.
    assert_eq!(scene.get(&format!("{NPM}/@contoso/own/-/OWN-1.0.0.tgz")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_through_shows_nothing_of_what_is_refused() {
    let rules = "[[guard]]\ndeny = [\"evil\", \"left-pad@1.3.0\", \"Contoso.Utility@1.1.0\"]\n\
        [[pin]]\nnames = [\"@contoso/*\"]\nfeeds = [\"contoso/main\"]\n";
    let scene = scene(rules, Clock::system()).await;
    for rest in [
        "evil?x=1",
        "evil?write=true",
        "evil/-/evil-1.0.0.TGZ",
        "evil/-rev/1",
        "evil/1.0.0?x=1",
        "%65vil?x=1",
        "left-pad/-/left-pad-1.3.0.TGZ",
        "left-pad/^1.0.0",
        "-/package/evil/collaborators",
    ] {
        refused(&scene.get(&format!("{NPM}/{rest}")).await, 403, "refused by a guard");
    }
    let other = |rest: &str| format!("contoso/_packaging/other/npm/registry/{rest}");
    refused(&scene.get(&other("@contoso%2fown?x=1")).await, 404, "a pin keeps @contoso/*");
    for rest in [
        "v2/?id=contoso.utility&version=1.1.0&id=contoso.utility",
        "v2/GetUpdates()?packageIds='contoso.utility'&versions='1.0.0'",
        "v2/package-ids?partialId=con",
        "v2/FindPackagesById()?id='contoso.utility'&id='contoso.utility'",
        "v3/flat2/contoso.utility/1.1.0/other.1.1.0.nupkg",
        "v3/flat2/%E2%84%AAontoso/index.json",
        "v3/autocomplete?q=con",
        "v3/registrations2-gz/contoso.utility/index.json",
    ] {
        refused(
            &scene.get(&format!("contoso/_packaging/main/nuget/{rest}")).await,
            403,
            "refused by a guard",
        );
    }
    // As without the query, which means nothing.
    let whole = scene.get(&format!("{NPM}/left-pad?x=1")).await;
    assert_eq!(
        (versions(&whole), &whole.json()["dist-tags"]["latest"]),
        (vec!["1.2.0".to_owned()], &json!("1.2.0"))
    );
    let listed = scene.get(&format!("{NUGET}/flat2/contoso.utility/index.json?x=1")).await;
    assert_eq!(listed.json(), json!({ "versions": ["1.0.0"] }));
    // Who writes the packument back must see all of it; none of it can be downloaded by that.
    assert_eq!(versions(&scene.get(&format!("{NPM}/left-pad?write=true")).await), ["1.2.0", "1.3.0"]);
    for harmless in [format!("{NUGET}/index.json?x=1"), format!("{NPM}/@contoso%2fown?x=1")] {
        assert_eq!(scene.get(&harmless).await.status, 200, "{harmless}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_is_for_is_passed_through_as_ever() {
    let rules = "[[guard]]\nfeeds = [\"contoso/main\"]\nprotocol = \"npm\"\ndeny = [\"evil\"]\n";
    let scene = scene(rules, Clock::system()).await;
    for path in [
        "contoso/_packaging/other/npm/registry/left-pad/^1.0.0",
        "contoso/_packaging/main/npm/registry/left-pad/^1.0.0",
        "contoso/_packaging/main/nuget/v3/autocomplete?q=con",
        "contoso/_packaging/main/pypi/simple/evil/",
    ] {
        assert_eq!(scene.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_by_guid_are_refused_where_a_rule_may_mean_them() {
    let rules = "[[guard]]\nfeeds = [\"contoso/main\"]\nprotocol = \"npm\"\ndeny = [\"left-pad@1.3.0\"]\n\
        [[pin]]\nnames = [\"Contoso.*\"]\nfeeds = [\"contoso/main\"]\nprotocol = \"nuget\"\n";
    let utility = NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new());
    let feed = |name: &str| {
        Feed::new(name).npm(npm("left-pad", &["1.3.0"])).npm(npm("free", &["1.0.0"])).nuget(utility.clone())
    };
    let organisation = readers(Organisation::new("contoso").feed(feed("main")).feed(feed("other")));
    let scene = Scene::at(
        Simulator::builder().organisation(organisation).start().await.unwrap(),
        rules,
        Clock::system(),
    );
    let simulator = &scene.simulator;
    let content = |feed: &str, protocol: &str, package: String, version: String| {
        format!(
            "contoso/_apis/packaging/feeds/{feed}/{protocol}/packages/{package}/versions/{version}/content"
        )
    };
    let npm = |feed: &str, name: &str, version: &str| {
        let guid = simulator.npm_version_guid(&format!("contoso/{feed}"), name, version).to_string();
        content(feed, "npm", name.to_owned(), guid)
    };
    let whole = |feed: &str, protocol: &str| {
        let own = format!("contoso/{feed}");
        let guid = if protocol == "npm" {
            simulator.npm_guid(&own, "left-pad")
        } else {
            simulator.nuget_guid(&own, "Contoso.Utility")
        };
        content(
            feed,
            protocol,
            guid.to_string(),
            if protocol == "npm" { "1.3.0" } else { "1.0.0" }.to_owned(),
        )
    };
    refused(&scene.get(&npm("main", "left-pad", "1.3.0")).await, 403, "it is not known what");
    refused(&scene.get(&whole("main", "npm")).await, 403, "it is not known what");
    refused(&scene.get(&whole("other", "nuget")).await, 403, "it is not known what");
    for path in [
        npm("main", "free", "1.0.0"),
        npm("other", "left-pad", "1.3.0"),
        whole("other", "npm"),
        whole("main", "nuget"),
    ] {
        let answer = scene.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_of_a_refused_version_says_why_it_is_not_there() {
    let rules = "[[guard]]\ndeny = [\"left-pad@1.3.0\"]\nmin_release_age = \"3d\"\n";
    let scene = scene(rules, Clock::manual(Clock::system().now() + 30 * DAY)).await;
    refused(&scene.get(&format!("{NPM}/left-pad/1.3.0")).await, 403, "(left-pad@1.3.0)");
    assert_eq!(scene.get(&format!("{NPM}/left-pad/1.2.0")).await.status, 200);
    assert_eq!(scene.get(&format!("{NPM}/left-pad/latest")).await.json()["version"], "1.2.0");
    assert_eq!(scene.get(&format!("{NPM}/left-pad/7.0.0")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_explained_as_it_is_answered() {
    let rules = "[[guard]]\nfeeds = [\"contoso/main\"]\ndeny = [\"evil\", \"left-pad@1.3.0\"]\nmin_release_age = \"3d\"\n";
    let scene = scene(rules, Clock::system()).await;
    let main = scene.simulator.feed_guid("contoso/main");
    // Whether the rule is for this feed is only known by asking.
    let open = explained(&scene, &json!({ "what": format!("/{}", by(&main, "evil")) })).await;
    assert_eq!((&open["would"]["action"], &open["would"]["open"]), (&json!("refuse"), &json!(true)));
    for path in [
        by(&main, "evil"),
        by(&main, "evil?x=1"),
        by(&main, "left-pad/-/left-pad-1.3.0.TGZ"),
        by(&main, "left-pad/-/left-pad-1.3.0.tgz"),
        by(&main, "left-pad/^1.0.0"),
        "contoso/_packaging/main/nuget/v3/autocomplete?q=con".to_owned(),
    ] {
        let answer = scene.get(&path).await;
        let told =
            explained(&scene, &json!({ "what": format!("/{path}"), "authorization": basic("any", PAT) }))
                .await;
        assert_eq!(told["guard"]["text"], answer.json()["detail"], "{path}");
        assert_eq!(
            (&told["would"]["action"], &told["would"]["status"]),
            (&json!("refuse"), &json!(answer.status))
        );
        assert_eq!(
            (&told["would"]["code"], &told["would"]["open"]),
            (&json!("guard"), &json!(false)),
            "{told}"
        );
    }
}

/// Spellings of `evil`, as a segment and with what may follow it, some of which only another reader takes for it.
fn spellings(name: &str) -> Vec<String> {
    let (first, rest) = name.split_at(1);
    let escaped = format!("%{:02x}{rest}", first.as_bytes()[0]);
    let ends = [
        "",
        "/",
        "//",
        ".",
        "%2e",
        "..",
        "%20",
        "%20.",
        ";x=1",
        "%3bx",
        "%00",
        "%0a",
        "%09",
        "%2f",
        "%5c",
        "\\",
        "#",
        "%23",
        "%3f",
        "%e2%80%8b",
        "%c2%a0",
        "@1.0.0",
        "@latest",
        "/.",
        "/./",
        "/%2e",
        "/..%2f",
        "/;x",
        "::$DATA",
    ];
    let mut spellings: Vec<String> = ends.map(|end| format!("{name}{end}")).into();
    spellings.extend([
        escaped.clone(),
        format!("%25{:02x}{rest}", first.as_bytes()[0]),
        format!("./{name}"),
        format!("%2e/{name}"),
        format!("x/../{name}"),
        format!("x/%2e%2e/{name}"),
        format!("x%2f..%2f{name}"),
        format!("//{name}"),
        format!("%2f{name}"),
        format!("%20{name}"),
        format!("{escaped}."),
    ]);
    spellings
}

/// Sends raw targets and tells those that reached the service and name `secret`, in its lower case.
async fn reached(scene: &Scene, targets: &[String], secret: &str) -> Vec<String> {
    let credential = format!("Authorization: {}\r\n", basic("any", PAT));
    for target in targets {
        // A target that is no URI closes its connection.
        let mut client = scripted::Client::connect(scene.gate().address()).await;
        client.send(format!("GET /{target} HTTP/1.1\r\nHost: gate.test\r\n{credential}\r\n")).await;
        if let Some(answer) = client.read("GET").await {
            assert_ne!(answer.status, 200, "{target}: {}", answer.text());
        }
    }
    let requests = scene.simulator.requests();
    let sent = requests.iter().map(|request| format!("{}?{}", request.path, request.query));
    let decoded = sent.map(|sent| sent.replace("%65", "e").replace("%6c", "l").to_lowercase());
    decoded.filter(|sent| sent.contains(secret)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_what_is_refused_reaches_the_service() {
    let rules = "[[guard]]\ndeny = [\"evil\", \"left-pad@1.3.0\", \"Contoso.Utility\"]\n";
    let scene = scene(rules, Clock::system()).await;
    let npm = spellings("evil").into_iter().flat_map(|name| {
        let tails = [
            "",
            "?x=1",
            "?write=true",
            "/-/evil-1.0.0.tgz",
            "/-/evil-1.0.0.TGZ",
            "/1.0.0",
            "/latest",
            "/-rev/1",
        ];
        tails.map(|tail| format!("{NPM}/{name}{tail}"))
    });
    let targets: Vec<_> = npm.collect();
    assert_eq!(reached(&scene, &targets, "evil").await, Vec::<String>::new());

    let files = spellings("left-pad-1.3.0.tgz").into_iter().map(|file| format!("{NPM}/left-pad/-/{file}"));
    let targets: Vec<_> = files.collect();
    assert_eq!(reached(&scene, &targets, "1.3.0").await, Vec::<String>::new());

    let nuget =
        spellings("contoso.utility").into_iter().chain(["CONTOSO.Utility".to_owned()]).flat_map(|id| {
            let v3 = [
                "flat2/{}/index.json",
                "flat2/{}/1.0.0/{}.1.0.0.nupkg",
                "flat2/{}/1.0.0/{}.nuspec",
                "registrations2/{}/index.json",
                "registrations2-semver2/{}/1.0.0.json",
                "registrations2-semver2/{}/page/1.0.0/1.1.0.json",
                "flat2/{}/1.0.0/icon",
            ];
            let v2 = [
                "?id={}&version=1.0.0",
                "/?ID={}&version=1.0.0&x",
                "?id={}&version=1.0.0&version=1.0.0",
                "/package/{}/1.0.0",
                "/{}/1.0.0",
                "/Packages(Id='{}',Version='1.0.0')",
                "/Packages(Version='1.0.0',Id='{}')/$value",
                "/FindPackagesById()?id='{}'",
                "/FindPackagesById()?id=%27{}%27&id='x'",
                "/FindPackagesById?id={}",
                "/GetUpdates()?packageIds='{}'&versions='0.1.0'",
                "/Packages('{}')",
            ];
            let v3 = v3.map(|path| format!("nuget/v3/{path}"));
            let v2 = v2.map(|path| format!("nuget/v2{path}"));
            v3.into_iter()
                .chain(v2)
                .map(move |path| format!("contoso/_packaging/main/{}", path.replace("{}", &id)))
        });
    let targets: Vec<_> = nuget.filter(|target| !target.contains("%3f") && !target.contains('#')).collect();
    assert_eq!(reached(&scene, &targets, "utility").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_writes_a_packument_back_with_the_versions_that_are_kept_from_builds() {
    let feed = Feed::new("main").npm(npm("left-pad", &["1.1.0", "1.2.0", "1.3.0"]));
    let organisation = readers(Organisation::new("contoso").feed(feed))
        .token(Token::pat(WRITER).label("writer").scope(Scope::ReadWrite));
    let simulator =
        Simulator::builder().organisation(organisation).npm_extensions(true).start().await.unwrap();
    let rules = "[[guard]]\ndeny = [\"left-pad@1.3.0\"]\n";
    let scene = Scene::at(simulator, rules, Clock::system());
    let (client, gate) =
        (Npm::find().unwrap(), Registry::with_token(scene.url(&format!("{NPM}/")), "any", WRITER));
    let outcome = client.deprecate(&gate, "left-pad@1.2.0", "old").await.unwrap();
    assert!(outcome.success, "{outcome:?}");
    let outcome = client.unpublish(&gate, "left-pad@1.1.0").await.unwrap();
    assert!(outcome.success, "{outcome:?}");
    assert_eq!(versions(&scene.get(&format!("{NPM}/left-pad")).await), ["1.2.0"]);
    let packument = format!("{}left-pad", scene.simulator.npm_url("contoso/main"));
    let whole = get(&packument, &[("Authorization", &basic("any", PAT))]).await.unwrap();
    assert_eq!(versions(&whole), ["1.2.0", "1.3.0"]);
    assert_eq!(whole.json()["versions"]["1.2.0"]["deprecated"], "old");
}
