//! Stored documents are asked for anew as an operator says.

use feedgate::cli::{
    client::{AdminAddress, Client},
    output::Output,
};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator, client::basic,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{FORBIDDEN_PAT, NPM, NUGET, PAT, Scene, readers};

/// A packument that anybody may read.
const PUBLIC: &str = "contoso/_packaging/open/npm/registry/left-pad";

async fn scene() -> Scene {
    let version = || NpmVersion::new().size(4_000);
    let main = Feed::new("main")
        .npm(NpmPackage::new("left-pad").version("1.3.0", version()))
        .npm(NpmPackage::new("@scope/wide").version("2.0.0", version()))
        .nuget(NugetPackage::new("Contoso.Utility").version("1.0.0", NugetVersion::new().size(9_000)));
    let open = Feed::new("open").public().npm(NpmPackage::new("left-pad").version("1.3.0", version()));
    let organisation = readers(Organisation::new("contoso").feed(main).feed(open));
    let scene = Scene::with(Simulator::builder().organisation(organisation).start().await.unwrap(), "");
    for path in paths() {
        assert_eq!(scene.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(scene.get_as(None, PUBLIC, &[]).await.status, 200);
    scene
}

fn paths() -> Vec<String> {
    let npm =
        ["left-pad", "@scope/wide", "left-pad/-/left-pad-1.3.0.tgz"].map(|path| format!("{NPM}/{path}"));
    let nuget =
        ["flat2/contoso.utility/index.json", "query2/?q=contoso"].map(|path| format!("{NUGET}/{path}"));
    npm.into_iter().chain(nuget).collect()
}

async fn refresh(scene: &Scene, order: Value) -> Value {
    let admin = Client::new(AdminAddress::Tcp(scene.gate().admin_address().to_string()), None);
    admin.job("/admin/v1/refresh", &order, Output::new(true)).await.unwrap()
}

fn counts(told: &Value) -> [u64; 5] {
    ["changed", "unchanged", "missing", "refused", "failed"].map(|name| told[name].as_u64().unwrap())
}

fn admin(scene: &Scene) -> Client {
    Client::new(AdminAddress::Tcp(scene.gate().admin_address().to_string()), None)
}

/// The documents of the feed `main` that a path addresses, and how many others there are.
async fn documents(scene: &Scene) -> (u64, u64) {
    let found = admin(scene).get("/admin/v1/objects?feed=contoso/main&limit=1000").await.unwrap();
    let documents = found["objects"].as_array().unwrap().iter().filter(|object| object["kind"] == "document");
    let (addressed, others): (Vec<_>, Vec<_>) = documents.partition(|object| !object["path"].is_null());
    (addressed.len() as u64, others.len() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_there_at_once_and_nobody_was_kept_waiting() {
    let scene = scene().await;
    let (documents, others) = documents(&scene).await;
    assert!(documents >= 4 && others >= 1, "{documents} {others}");
    scene.simulator.deprecate_npm("contoso/main", "left-pad", "1.3.0", Some("old"));
    let behind = ["feedgate_throttle_granted_total", "warm_up"];
    let (granted, asked) = (scene.metric(&behind).await, scene.simulator.requests().len());
    let order = json!({ "feed": "contoso/main", "authorization": basic("any", PAT) });
    let told = refresh(&scene, order.clone()).await;
    assert_eq!(
        (counts(&told), &told["unaddressed"]),
        ([1, documents - 1, 0, 0, 0], &json!(others)),
        "{told}"
    );
    assert_eq!(told["documents"], json!(documents));
    let requests = scene.simulator.requests()[asked..].to_vec();
    assert_eq!(requests.len() as u64, documents, "{requests:?}");
    assert!(requests.iter().all(|request| !request.path.contains("/-/")), "bytes are not asked for");
    let granted = scene.metric(&behind).await - granted;
    assert_eq!(format!("{granted}"), documents.to_string(), "all in the lowest class");
    let packument = scene.get(&format!("{NPM}/left-pad")).await;
    assert_eq!(packument.header("x-cache"), Some("HIT"));
    assert_eq!(packument.json()["versions"]["1.3.0"]["deprecated"], "old");
    // Once more, and not only as often as clients may.
    for _ in 0..12 {
        assert_eq!(counts(&refresh(&scene, order.clone()).await), [0, documents, 0, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_for_callers_without_a_credential_are_asked_for_without_one() {
    let scene = scene().await;
    scene.simulator.deprecate_npm("contoso/open", "left-pad", "1.3.0", Some("old"));
    let told = refresh(&scene, json!({ "package": "left-pad", "feed": "contoso/open" })).await;
    assert_eq!(counts(&told), [1, 0, 0, 0, 0], "{told}");
    let packument = scene.get_as(None, PUBLIC, &[]).await;
    assert_eq!((packument.status, packument.header("x-cache")), (200, Some("HIT")));
    assert_eq!(packument.json()["versions"]["1.3.0"]["deprecated"], "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_refuses_or_does_not_answer_is_told_and_stays() {
    let scene = scene().await;
    let order = |pat: &str| json!({ "package": "left-pad", "feed": "contoso/main", "authorization": basic("any", pat) });
    let told = refresh(&scene, order(FORBIDDEN_PAT)).await;
    assert_eq!(counts(&told), [0, 0, 0, 1, 0], "{told}");
    scene.simulator.remove_npm("contoso/main", "@scope/wide", "2.0.0");
    let wide = json!({ "package": "@scope/wide", "authorization": basic("any", PAT) });
    let told = refresh(&scene, wide).await;
    assert_eq!(told["documents"], 1, "{told}");
    scene.simulator.refuse_connections().await.unwrap();
    let told = refresh(&scene, order(PAT)).await;
    assert_eq!(counts(&told), [0, 0, 0, 0, 1], "{told}");
    assert!(told["problems"][0]["reason"].as_str().unwrap().contains("the copy stays"), "{told}");
    assert_eq!(scene.get(&format!("{NPM}/left-pad")).await.status, 200);
    let url = format!("http://{}", scene.gate().admin_address());
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(crate::process::PROGRAM);
        command.args(arguments).args(["--admin", &url]).env_clear().env("CREDENTIAL", PAT);
        let output = command.output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let arguments = ["refresh", "left-pad", "--feed", "contoso/main", "--credential-env", "CREDENTIAL"];
    let (code, text) = run(&arguments).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with("1 documents: 0 changed, 0 unchanged, 0 missing, 0 refused, 1 failed\n"),
        "{text}"
    );
    assert_eq!(run(&["refresh"]).await.0, Some(2));
}
