//! What operators see of the store and of the service, and what they drop.

use feedgate::cli::client::{AdminAddress, Client};
use feedgate_simulator::{Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator};
use http::Method;
use serde_json::{Value, json};

use crate::support::{NPM, NUGET, OTHER_PAT, PAT, Scene, readers, until};

const OTHER: &str = "contoso/_packaging/other/npm/registry";

/// Two feeds with the same bytes of `left-pad`.
async fn scene() -> Scene {
    let left_pad = || NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4_000));
    let main = Feed::new("main")
        .npm(left_pad())
        .npm(NpmPackage::new("@scope/wide").version("2.0.0", NpmVersion::new().size(300_000)))
        .nuget(NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new().size(9_000)));
    let organisation =
        readers(Organisation::new("contoso").feed(main).feed(Feed::new("other").npm(left_pad())));
    Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), "")
}

fn admin(scene: &Scene) -> Client {
    Client::new(AdminAddress::Tcp(scene.gate().admin_address().to_string()), None)
}

async fn fill(scene: &Scene) {
    for path in [
        format!("{NPM}/left-pad"),
        format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"),
        format!("{NPM}/@scope/wide/-/wide-2.0.0.tgz"),
        format!("{OTHER}/left-pad/-/left-pad-1.3.0.tgz"),
        format!("{NUGET}/flat2/contoso.utility/index.json"),
        format!("{NUGET}/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"),
    ] {
        assert_eq!(scene.get(&path).await.status, 200, "{path}");
    }
    // A package is served before it is stored.
    let stored = || async {
        scene.metric(&["feedgate_requests_in_flight"]).await == 0.0 && packages(scene).await == 4
    };
    until(stored).await;
}

async fn packages(scene: &Scene) -> usize {
    let all = admin(scene).get("/admin/v1/objects").await.unwrap();
    all["objects"].as_array().unwrap().iter().filter(|object| object["kind"] == "package").count()
}

async fn found(scene: &Scene, query: &str) -> Vec<Value> {
    admin(scene).get(&format!("/admin/v1/objects?{query}")).await.unwrap()["objects"]
        .as_array()
        .unwrap()
        .clone()
}

async fn purge(scene: &Scene, order: Value) -> Value {
    admin(scene).send(Method::POST, "/admin/v1/purge", &order).await.unwrap()
}

fn counts(purged: &Value) -> [u64; 4] {
    ["packages", "documents", "blobs", "shared_blobs"].map(|key| purged[key].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_found_by_feed_package_protocol_and_content() {
    let scene = scene().await;
    fill(&scene).await;
    let of_left_pad = found(&scene, "package=left-pad").await;
    assert_eq!(of_left_pad.len(), 3, "{of_left_pad:?}");
    assert_eq!(found(&scene, "package=left-pad&feed=contoso/main").await.len(), 2);
    assert_eq!(found(&scene, "package=CONTOSO.*&protocol=nuget").await.len(), 2);
    assert_eq!(found(&scene, "package=left-pad@2.0.0&feed=contoso/other").await.len(), 0);
    assert!(found(&scene, "feed=contoso/nothing").await.is_empty());
    let package = of_left_pad.iter().find(|object| object["kind"] == "package").unwrap();
    assert_eq!((&package["version"], &package["protocol"]), (&json!("1.3.0"), &json!("npm")), "{package}");
    assert!(package["bytes"].as_u64().unwrap() > 0, "{package}");
    let id = package["storage_id"].as_str().unwrap();
    assert_eq!(found(&scene, &format!("storage_id={id}")).await.len(), 2, "both feeds have these bytes");
    // As the keys name the feed, by its GUID once that is known, it may be asked for.
    let document = of_left_pad.iter().find(|object| object["kind"] == "document").unwrap();
    let feed = document["feed"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(found(&scene, &format!("package=left-pad&feed=contoso/{feed}")).await.len(), 2, "{document}");
    let limited = admin(&scene).get("/admin/v1/objects?limit=1").await.unwrap();
    assert_eq!((limited["objects"].as_array().unwrap().len(), &limited["more"]), (1, &json!(true)));
    for query in ["protocol=pypi", "storage_id=12", "feed=main", "limit=0", "other=1", "package=%22"] {
        let refused = admin(&scene).get(&format!("/admin/v1/objects?{query}")).await.unwrap_err();
        assert!(refused.to_string().contains("400"), "{query}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_tells_what_it_drops_and_leaves_what_others_share() {
    let scene = scene().await;
    fill(&scene).await;
    let of_main = json!({ "package": "left-pad", "feed": "contoso/main", "dry_run": true });
    assert_eq!(counts(&purge(&scene, of_main.clone()).await), [1, 1, 1, 1]);
    assert_eq!(found(&scene, "package=left-pad").await.len(), 3, "it was only asked");
    let order = json!({ "package": "left-pad", "feed": "contoso/main" });
    assert_eq!(counts(&purge(&scene, order).await), [1, 1, 1, 1]);
    assert_eq!(counts(&purge(&scene, of_main).await), [0; 4], "nothing is left of it");
    let before = scene.downloads().await;
    // The other feed still has the bytes, and this one needs only their name.
    assert_eq!(scene.get(&format!("{OTHER}/left-pad/-/left-pad-1.3.0.tgz")).await.status, 200);
    assert_eq!(scene.get(&format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz")).await.status, 200);
    assert_eq!(scene.downloads().await, before);
    let of_nuget = purge(&scene, json!({ "protocol": "nuget" })).await;
    assert!(counts(&of_nuget)[0] == 1 && counts(&of_nuget)[2] >= 2, "{of_nuget}");
    assert_eq!(scene.get(&format!("{NUGET}/flat2/contoso.utility/index.json")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_content_drops_it_in_every_feed() {
    let scene = scene().await;
    fill(&scene).await;
    let packages = found(&scene, "package=left-pad@1.3.0&feed=contoso/other").await;
    let id = packages[0]["storage_id"].as_str().unwrap();
    assert_eq!(counts(&purge(&scene, json!({ "storage_id": id })).await), [2, 0, 1, 0]);
    let before = scene.downloads().await;
    assert_eq!(scene.get(&format!("{OTHER}/left-pad/-/left-pad-1.3.0.tgz")).await.status, 200);
    assert_eq!(scene.downloads().await, before + 1);
    for order in [json!({}), json!({ "dry_run": true }), json!({ "packages": "a" })] {
        let refused = admin(&scene).send(Method::POST, "/admin/v1/purge", &order).await.unwrap_err();
        assert!(refused.to_string().contains("400"), "{order}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_are_shown_and_reset_and_the_throttle_is_shown() {
    let scene = scene().await;
    fill(&scene).await;
    let client = admin(&scene);
    let shown = client.get("/admin/v1/breakers").await.unwrap();
    let hosts = shown["hosts"].as_array().unwrap();
    assert!(hosts.iter().any(|host| host["class"] == "pkgs" && host["state"] == "closed"), "{shown}");
    scene.simulator.refuse_connections().await.unwrap();
    let dead = || async {
        scene.get(&format!("{NPM}/never-seen")).await;
        let shown = admin(&scene).get("/admin/v1/breakers").await.unwrap();
        shown["hosts"].as_array().unwrap().iter().any(|host| host["state"] == "open")
    };
    until(dead).await;
    let reset =
        client.send(Method::POST, "/admin/v1/breakers/reset", &json!({ "host": "nowhere" })).await.unwrap();
    assert_eq!(reset["reset"], 0);
    let reset = client.send(Method::POST, "/admin/v1/breakers/reset", &json!({})).await.unwrap();
    assert_eq!(
        (&reset["reset"], &reset["hosts"].to_string().contains("open")),
        (&json!(1), &false),
        "{reset}"
    );
    scene.simulator.accept_connections().await.unwrap();
    let throttle = client.get("/admin/v1/throttle").await.unwrap();
    assert!(throttle["api"]["granted"].as_u64().unwrap() > 0, "{throttle}");
    assert!(throttle["blob"]["gate"]["in_flight_limit"].as_u64().unwrap() > 0, "{throttle}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_that_are_dropped_are_asked_for_again() {
    let scene = scene().await;
    fill(&scene).await;
    let path = format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz");
    assert_eq!(scene.get_as(Some(OTHER_PAT), &path, &[]).await.status, 200);
    let asked = || scene.simulator.requests().len();
    let before = asked();
    assert_eq!(scene.get(&path).await.status, 200);
    assert_eq!(asked(), before, "a verdict and the bytes are there");
    let client = admin(&scene);
    let drop = async |order: Value| client.send(Method::POST, "/admin/v1/verdicts/drop", &order).await;
    assert_eq!(drop(json!({ "caller": "00000000" })).await.unwrap()["dropped"], 0);
    assert!(drop(json!({})).await.unwrap_err().to_string().contains("400"));
    let dropped = drop(json!({ "feed": "contoso/main" })).await.unwrap()["dropped"].as_u64().unwrap();
    assert!(dropped >= 2, "two callers were let read: {dropped}");
    assert_eq!(scene.get_as(Some(PAT), &path, &[]).await.status, 200);
    assert!(asked() > before, "the service was asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_print_tables_or_json() {
    let scene = scene().await;
    fill(&scene).await;
    let url = format!("http://{}", scene.gate().admin_address());
    let ask = async |arguments: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_feedgate"));
        command.args(arguments.split(' ')).args(["--admin", &url]).env_clear().kill_on_drop(true);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let table = ask("ls left-pad --feed contoso/main").await;
    assert!(table.starts_with("kind") && table.lines().count() == 3, "{table}");
    assert!(table.contains("left-pad-1.3.0.tgz"), "{table}");
    assert_eq!(ask("ls nothing-of-it").await, "nothing is stored of that\n");
    assert!(ask("breakers").await.contains("pkgs"));
    let purged = ask("purge @scope/* --dry-run").await;
    assert!(purged.contains("would drop 1 packages and 0 documents, 1 blobs, "), "{purged}");
    for arguments in [
        "ls --json",
        "purge @scope/* --json",
        "breakers --json",
        "breakers reset --json",
        "throttle --json",
        "verdicts drop --feed contoso/main --json",
    ] {
        let text = ask(arguments).await;
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{arguments}: {text}");
    }
    assert!(ask("throttle").await.contains("blob"));
    assert_eq!(ask("verdicts drop --caller nobody").await, "0 verdicts dropped\n");
}
