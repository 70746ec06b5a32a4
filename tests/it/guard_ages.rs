//! Ages of versions: a version is not there until it is old enough, whatever document of its package is asked for first.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use feedgate::{app::Gate, clock::Clock, config::Config};
use feedgate_simulator::{
    Fault, FaultKind, Feed, Matcher, NugetPackage, NugetVersion, Organisation, Simulator, Times,
    client::basic, clients::Nuget, clients::Project, clients::Registry,
};
use serde_json::{Value, json};

use crate::{
    explain::explained,
    guards::{DAY, V2, refused, versions},
    scripted::{self, Service, json as page},
    support::{FORBIDDEN_PAT, NPM, NUGET, OTHER_PAT, PAT, Scene, readers},
};

const RULE: &str = "[[guard]]\nmin_release_age = \"3d\"\n";
/// What the simulated service says of its first versions: one an hour from here on.
const FIRST: Duration = Duration::from_secs(1_704_067_200);
const FLAT: &str = "contoso/_packaging/main/nuget/v3/flat2/contoso.utility";
const SEMVER2: &str = "contoso/_packaging/main/nuget/v3/registrations2-semver2/contoso.utility";

/// A feed with `published` of `Contoso.Utility`, the first of which is released, seen `after` the first was published.
async fn scene(published: &[&str], after: Duration) -> (Scene, Clock) {
    let package =
        published.iter().enumerate().fold(NugetPackage::new("Contoso.Utility"), |package, (at, version)| {
            let content =
                if at == 0 { NugetVersion::new().promoted_to("Release") } else { NugetVersion::new() };
            package.version(version, content)
        });
    let organisation = readers(Organisation::new("contoso").feed(Feed::new("main").nuget(package)));
    let simulator =
        Simulator::builder().organisation(organisation).registration_page(2).start().await.unwrap();
    let clock = Clock::manual(time(after));
    (Scene::at(simulator, RULE, clock.clone()), clock)
}

fn time(after: Duration) -> SystemTime {
    UNIX_EPOCH + FIRST + after
}

/// A service with one packument for callers without a credential and one for others, behind a gate with the rule.
async fn scripted_packuments(
    hidden: &'static str,
    whole: &'static str,
) -> (Service, tempfile::TempDir, Gate, Clock) {
    let service = Service::start(move |seen| match seen.header("authorization") {
        _ if seen.path().ends_with("/v3/index.json") => page("{\"version\":\"3.0.0\",\"resources\":[]}"),
        None => page(hidden),
        Some(_) => page(whole),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = scripted::config(service.address, folder.path());
    settings.guards = Config::parse(RULE, &BTreeMap::new()).unwrap().config.guards;
    let clock = Clock::manual(time(30 * DAY));
    let gate = scripted::start_at(settings, clock.clone()).await;
    (service, folder, gate, clock)
}

/// The versions of `a` that its packument shows.
async fn shown(gate: &Gate, headers: &str) -> Vec<String> {
    let answer = scripted::get(gate.address(), &format!("/{NPM}/a"), headers).await;
    let packument: Value = serde_json::from_slice(&answer.body).unwrap();
    packument["versions"].as_object().unwrap().keys().cloned().collect()
}

async fn listed(scene: &Scene) -> Value {
    let answer = scene.get(&format!("{FLAT}/index.json")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["versions"].clone()
}

fn nupkg(version: &str) -> String {
    format!("{FLAT}/{version}/contoso.utility.{version}.nupkg")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nuget_version_that_was_just_published_is_not_there_at_first_sight() {
    for first in [
        nupkg("1.1.0"),
        format!("{FLAT}/1.1.0/contoso.utility.nuspec"),
        format!("{SEMVER2}/1.1.0.json"),
        format!("{V2}?id=Contoso.Utility&version=1.1.0"),
        format!("{V2}/Packages(Id='Contoso.Utility',Version='1.1.0')"),
    ] {
        let (scene, clock) = scene(&["1.0.0", "1.1.0"], Duration::from_secs(3660)).await;
        refused(
            &scene.get(&first).await,
            403,
            "contoso.utility@1.1.0 is refused by a guard: versions must be 3d",
        );
        assert_eq!(listed(&scene).await, json!([]), "{first}");
        clock.advance(2 * DAY + Duration::from_secs(84_600));
        assert_eq!(listed(&scene).await, json!(["1.0.0"]), "{first}");
        assert_eq!(scene.get(&nupkg("1.0.0")).await.status, 200);
        refused(&scene.get(&first).await, 403, "are left");
        clock.advance(Duration::from_secs(1800));
        assert_eq!(scene.get(&first).await.status, 200, "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_of_a_package_that_was_just_published_name_none_of_it() {
    for (first, named) in [
        (format!("{FLAT}/index.json"), "\"1.1.0\""),
        (format!("{SEMVER2}/index.json"), "1.1.0.json"),
        (format!("{V2}/FindPackagesById()?id='Contoso.Utility'"), ">1.1.0<"),
    ] {
        let (scene, clock) = scene(&["1.0.0", "1.1.0"], Duration::from_secs(3660)).await;
        let answer = scene.get(&first).await;
        assert!(answer.status == 200 && !answer.text().contains(named), "{first}: {}", answer.text());
        clock.advance(4 * DAY);
        let answer = scene.get(&first).await;
        assert!(answer.status == 200 && answer.text().contains(named), "{first}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_there_whatever_part_of_it_was_seen_first() {
    let published = ["1.0.0", "1.1.0-rc.1", "1.2.0+build", "1.3.0-Beta", "1.4"];
    let all = json!(["1.0.0", "1.1.0-rc.1", "1.2.0", "1.3.0-beta", "1.4.0"]);
    for first in [
        format!("{NUGET}/registrations2/contoso.utility/index.json"),
        format!("{SEMVER2}/index.json"),
        format!("{SEMVER2}/page/1.0.0/1.1.0-rc.1.json"),
        "contoso/_packaging/main@Release/nuget/v3/flat2/contoso.utility/index.json".to_owned(),
        "contoso/_packaging/main@Release/nuget/v3/registrations2-semver2/contoso.utility/index.json"
            .to_owned(),
        format!("{V2}/FindPackagesById()?id='Contoso.Utility'"),
        nupkg("1.4.0"),
    ] {
        let (scene, _clock) = scene(&published, 30 * DAY).await;
        assert_eq!(scene.get(&first).await.status, 200, "{first}");
        assert_eq!(listed(&scene).await, all, "{first}");
        for version in ["1.0.0", "1.1.0-rc.1", "1.2.0", "1.3.0-beta", "1.4.0"] {
            let answer = scene.get(&nupkg(version)).await;
            assert_eq!(answer.status, 200, "{first} {version}: {}", answer.text());
        }
        let text = scene
            .get(&format!("{V2}/FindPackagesById()?id='Contoso.Utility'&semVerLevel=2.0.0"))
            .await
            .text();
        assert_eq!(text.matches("<entry>").count(), 5, "{first}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nuget_version_that_appears_later_is_no_older_than_that() {
    for first in [format!("{SEMVER2}/index.json"), format!("{FLAT}/index.json"), nupkg("1.0.0")] {
        let (scene, clock) = scene(&["1.0.0"], 30 * DAY).await;
        assert_eq!(scene.get(&first).await.status, 200);
        // It says that it was published long ago.
        let late = NugetPackage::new("Contoso.Utility").version("2.0.0-Late", NugetVersion::new());
        scene.simulator.add_nuget("contoso/main", &late);
        clock.advance(Duration::from_secs(600));
        let registered = scene.get(&format!("{SEMVER2}/index.json")).await.text();
        assert!(
            registered.contains("1.0.0") && !registered.contains("2.0.0-late.json"),
            "{first}: {registered}"
        );
        assert_eq!(listed(&scene).await, json!(["1.0.0"]), "{first}");
        refused(&scene.get(&nupkg("2.0.0-late")).await, 403, "3d are left");
        clock.advance(3 * DAY);
        assert_eq!(listed(&scene).await, json!(["1.0.0", "2.0.0-late"]), "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_that_a_view_gets_later_is_old() {
    let (scene, clock) = scene(&["1.0.0", "1.1.0"], 30 * DAY).await;
    let released = "contoso/_packaging/main@Release/nuget/v3/flat2/contoso.utility";
    let listed = async || scene.get(&format!("{released}/index.json")).await.json()["versions"].clone();
    assert_eq!(listed().await, json!(["1.0.0"]));
    scene.simulator.promote_nuget("contoso/main", "Contoso.Utility", "1.1.0", "Release");
    clock.advance(Duration::from_secs(600));
    assert_eq!(listed().await, json!(["1.0.0", "1.1.0"]));
    let nupkg = format!("{released}/1.1.0/contoso.utility.1.1.0.nupkg");
    assert_eq!(scene.get(&nupkg).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_age_that_has_to_be_asked_is_explained_as_open() {
    let (scene, _clock) = scene(&["1.0.0", "1.1.0"], Duration::from_secs(3660)).await;
    let question = json!({ "what": format!("/{}", nupkg("1.1.0")), "authorization": basic("any", PAT) });
    let told = explained(&scene, &question).await;
    assert_eq!(
        (&told["would"]["action"], &told["would"]["open"]),
        (&json!("refuse"), &json!(true)),
        "{told}"
    );
    assert_eq!(told["would"]["asks"], json!(["feed", "document"]));
    let answer = scene.get(&nupkg("1.1.0")).await;
    refused(&answer, 403, "versions must be 3d old");
    let told = explained(&scene, &question).await;
    assert_eq!(
        (&told["guard"]["text"], &told["would"]["open"]),
        (&answer.json()["detail"], &json!(false)),
        "{told}"
    );
    assert_eq!((&told["would"]["status"], &told["would"]["asks"]), (&json!(403), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_a_time_counts_from_when_it_was_first_seen() {
    let packument =
        r#"{"name":"a","time":{"1.0.0":"2020-01-01T00:00:00Z"},"versions":{"1.0.0":{},"2.0.0":{}}}"#;
    let (_service, _folder, gate, clock) = scripted_packuments(packument, packument).await;
    assert_eq!(shown(&gate, "").await, ["1.0.0"]);
    clock.advance(2 * DAY + Duration::from_secs(86_340));
    assert_eq!(shown(&gate, "").await, ["1.0.0"]);
    clock.advance(Duration::from_secs(60));
    assert_eq!(shown(&gate, "").await, ["1.0.0", "2.0.0"]);
    scripted::stop(gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_public_feed_hides_from_strangers_is_not_new_to_others() {
    let hidden = r#"{"name":"a","time":{"1.0.0":"2020-01-01T00:00:00Z"},"versions":{"1.0.0":{}}}"#;
    let whole = r#"{"name":"a","time":{"1.0.0":"2020-01-01T00:00:00Z","2.0.0":"2020-01-01T00:00:00Z"},
        "versions":{"1.0.0":{},"2.0.0":{}}}"#;
    let (_service, _folder, gate, _clock) = scripted_packuments(hidden, whole).await;
    assert_eq!(shown(&gate, "").await, ["1.0.0"]);
    let own = format!("Authorization: {}\r\n", basic("any", PAT));
    assert_eq!(shown(&gate, &own).await, ["1.0.0", "2.0.0"]);
    scripted::stop(gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_credential_is_asked_for_one_before_ages_matter() {
    let (scene, _clock) = scene(&["1.0.0"], 30 * DAY).await;
    for path in [format!("{FLAT}/index.json"), nupkg("1.0.0"), format!("{NPM}/left-pad/-/left-pad-1.0.0.tgz")]
    {
        let answer = scene.get_as(None, &path, &[]).await;
        assert_eq!(answer.status, 401, "{path}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_version_is_young_is_told_to_readers_only() {
    let (scene, _clock) = scene(&["1.0.0", "1.1.0"], Duration::from_secs(3660)).await;
    let young = [nupkg("1.1.0"), format!("{FLAT}/1.1.0/contoso.utility.nuspec")];
    for path in &young {
        refused(&scene.get(path).await, 403, "versions must be 3d old");
    }
    for path in &young {
        for (pat, status) in [(None, 401), (Some("unknown"), 401), (Some(FORBIDDEN_PAT), 403)] {
            let answer = scene.get_as(pat, path, &[]).await;
            let text = answer.text();
            assert!(
                answer.status == status && !text.contains("guard") && !text.contains("old"),
                "{path} {text}"
            );
        }
        refused(&scene.get_as(Some(OTHER_PAT), path, &[]).await, 403, "versions must be 3d old");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exempt_by_name_costs_no_question() {
    let package = NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new());
    let organisation = readers(Organisation::new("contoso").feed(Feed::new("main").nuget(package)));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    let scene = Scene::at(simulator, &format!("{RULE}exempt = [\"Contoso.*\"]\n"), Clock::manual(time(DAY)));
    assert_eq!(listed(&scene).await, json!(["1.0.0"]));
    assert_eq!(scene.get(&nupkg("1.0.0")).await.status, 200);
    assert_eq!(scene.simulator.count(|request| request.path.contains("registrations2")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_made_without_ages_is_made_anew_with_them() {
    let (scene, _clock) = scene(&["1.0.0", "1.1.0"], 30 * DAY).await;
    let registration = Matcher::path_contains("registrations2");
    scene.simulator.fault(Fault::new(registration, FaultKind::status(400), Times::Always));
    assert_eq!(listed(&scene).await, json!([]));
    scene.simulator.clear_faults();
    assert_eq!(listed(&scene).await, json!(["1.0.0", "1.1.0"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_client_restores_the_newest_version_that_is_old_enough() {
    let (scene, _clock) = scene(&["1.0.0", "1.1.0", "1.2.0"], 3 * DAY + Duration::from_secs(3660)).await;
    let nuget = Nuget::find().unwrap();
    let gate = Registry::with_token(scene.url(&format!("{NUGET}/index.json")), "any", PAT);
    let project = Project::nuget([]).unwrap();
    let outcome = nuget.add(&project, &gate, "Contoso.Utility", None).await.unwrap();
    assert!(outcome.success && project.installed().join("Contoso.Utility.1.1.0").exists(), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_there_was_a_rule_counts_as_well() {
    let organisation =
        Organisation::new("contoso").feed(Feed::new("main").npm(crate::guards::npm("left-pad", &["1.2.0"])));
    let simulator = Simulator::builder().organisation(readers(organisation)).start().await.unwrap();
    let clock = Clock::manual(time(30 * DAY));
    let mut scene = Scene::at(simulator, "", clock);
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
    scene.restart_with(RULE);
    assert_eq!(scene.get(&format!("{NPM}/left-pad/-/left-pad-1.2.0.tgz")).await.status, 200);
    assert_eq!(versions(&scene.get(&format!("{NPM}/left-pad")).await), ["1.2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_have_each_document_asked_for_once() {
    let (scene, _clock) = scene(&["1.0.0", "1.1.0", "1.2.0"], 30 * DAY).await;
    let paths =
        [nupkg("1.0.0"), nupkg("1.1.0"), format!("{FLAT}/index.json"), format!("{SEMVER2}/1.2.0.json")];
    let asking = (0..40).map(|number| {
        let pat = if number % 3 == 0 { OTHER_PAT } else { PAT };
        scene.get_as(Some(pat), &paths[number % paths.len()], &[])
    });
    for answer in futures::future::join_all(asking).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for document in ["registrations2-semver2/contoso.utility/index.json", "flat2/contoso.utility/index.json"]
    {
        assert_eq!(scene.simulator.count(|request| request.path.ends_with(document)), 1, "{document}");
    }
    let pages = scene.simulator.count(|request| request.path.contains("/page/"));
    assert_eq!(pages, 2, "of two versions and one");
}
