//! `explain`: what it says of a request is what then happens to that request, in whatever state the gate is.

use std::time::Duration;

use feedgate::clock::Clock;
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Simulator,
    client::{self, Response},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use crate::support::{FORBIDDEN_PAT, NPM, NUGET, OTHER_PAT, PAT, Scene, readers, until};

/// Requests that are explained and then made.
const REQUESTS: usize = 280;
/// Requests to one gate; then another one begins empty, with another configuration.
const OF_ONE: usize = 40;
/// Document times of a few minutes, and an outage that is known for as long as it lasts. Patience is long: a busy machine
/// is no service that gives no answer.
const SETTINGS: &str = "metadata.packument = { fresh = \"60s\", stale_while_revalidate = \"60s\", stale_if_error = \"1h\" }\n\
    metadata.version_list = { fresh = \"60s\", stale_while_revalidate = \"0ms\", stale_if_error = \"10m\" }\n\
    outage.patience = \"20s\"\noutage.hold = \"0ms\"\nretry.attempts = 1\n";
/// What differs between the gates.
const MORE: [&str; 7] = [
    "",
    "[[guard]]\ndeny = [\"evil\", \"left-pad@1.2.0\", \"Contoso.Utility@2.0.0\"]\n",
    "outage.mode = \"strict\"\naccess.verdict_ttl = \"2m\"\n",
    "[[pin]]\nnames = [\"@contoso/*\"]\nfeeds = [\"contoso/other\"]\n",
    "[[guard]]\nmin_release_age = \"3d\"\n",
    "[[guard]]\nfeeds = [\"contoso/main\"]\ndeny = [\"left-pad@1.3.0\"]\nmin_release_age = \"3d\"\nexempt = [\"evil\"]\n",
    "access.verdict_ttl = \"30s\"\naccess.grace = \"5m\"\naccess.identity_ttl = \"40s\"\n",
];

fn npm(name: &str, versions: &[&str]) -> NpmPackage {
    versions
        .iter()
        .fold(NpmPackage::new(name), |package, version| package.version(version, NpmVersion::new()))
}

async fn scene(more: &str, clock: Clock) -> Scene {
    let nuget = NugetPackage::new("Contoso.Utility")
        .version("1.0.0", NugetVersion::new())
        .version("2.0.0", NugetVersion::new());
    let main = Feed::new("main")
        .npm(npm("left-pad", &["1.2.0", "1.3.0"]))
        .npm(npm("@contoso/own", &["1.0.0"]))
        .npm(npm("evil", &["1.0.0"]))
        .nuget(nuget);
    let other = Feed::new("other").npm(npm("left-pad", &["1.3.0"]));
    let organisation = readers(Organisation::new("contoso").feed(main).feed(other));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    // The keys of the last table must stay behind those of the first.
    let (first, tables) = more.split_at(more.find("[[").unwrap_or(more.len()));
    Scene::at(simulator, &format!("{SETTINGS}{first}{tables}"), clock)
}

/// What may be asked for, and whether the service has it.
fn paths(scene: &Scene) -> Vec<(String, bool)> {
    let by_guid = format!("contoso/_packaging/{}/npm/registry", scene.simulator.feed_guid("contoso/main"));
    [
        (format!("{NPM}/left-pad"), true),
        (format!("{by_guid}/left-pad"), true),
        (format!("{NPM}/@contoso%2fown"), true),
        (format!("{NPM}/evil"), true),
        (format!("{NPM}/no-such-thing"), false),
        (format!("{NPM}/left-pad/-/left-pad-1.2.0.tgz"), true),
        (format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz"), true),
        (format!("{by_guid}/left-pad/-/left-pad-1.3.0.tgz"), true),
        (format!("{NPM}/evil/-/evil-1.0.0.tgz"), true),
        (format!("{NPM}/left-pad/-/left-pad-9.9.9.tgz"), false),
        (format!("{NPM}/left-pad/latest"), true),
        (format!("{NPM}/-/package/left-pad/dist-tags"), true),
        (format!("{by_guid}/left-pad/-/left-pad-1.3.0.TGZ"), false),
        (format!("{NPM}/left-pad?x=1"), true),
        (format!("{NPM}/-/ping"), true),
        (format!("{NPM}/-/whoami"), true),
        (format!("{NUGET}/index.json"), true),
        (format!("{NUGET}/flat2/contoso.utility/index.json"), true),
        (format!("{NUGET}/flat2/contoso.utility/1.0.0/contoso.utility.1.0.0.nupkg"), true),
        (format!("{NUGET}/flat2/Contoso.Utility/2.0.0/contoso.utility.2.0.0.nupkg"), true),
        ("contoso/_packaging/other/npm/registry/left-pad".to_owned(), true),
        ("contoso/_apis/packaging/feeds/main/permissions".to_owned(), true),
    ]
    .into()
}

async fn explain(scene: &Scene, body: &Value) -> Response {
    let url = format!("http://{}/admin/v1/explain", scene.gate().admin_address());
    client::send("POST", &url, &[], body.to_string().as_bytes()).await.unwrap()
}

pub async fn explained(scene: &Scene, body: &Value) -> Value {
    let answer = explain(scene, body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()["explained"][0].take()
}

/// What happened, in the words of an explanation.
fn action(answer: &Response) -> &'static str {
    let of = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    let (cache, x_cache) = (of("cache-status"), of("x-cache"));
    match cache.split("; ").nth(1).unwrap_or_default() {
        "hit" if x_cache == "STALE" => "stale_hit",
        "hit" => "hit",
        "fwd=uri-miss" => "fetch",
        "fwd=stale" | "fwd=request" => "revalidate",
        "fwd=bypass" => "pass",
        "fwd=method" => "forward",
        _ if answer.status == 200 => "answer",
        _ => "refuse",
    }
}

/// The failures of a service that cannot be reached are one: which of them it is depends on who ran into it first.
fn class(code: &str) -> &str {
    let unreachable = ["upstream_unavailable", "upstream_down", "upstream_timeout"];
    if unreachable.contains(&code) { "unreachable" } else { code }
}

/// Whether `would` is what happened.
fn agrees(would: &Value, answer: &Response) -> bool {
    let (said, did) = (would["action"].as_str().unwrap(), action(answer));
    // Whether a rule is for the feed or how old a version is, which only the service tells.
    if would["open"] == true && would["code"] == "guard" {
        return true;
    }
    let same_bytes = said == "fetch"
        && did == "revalidate"
        && would["asks"].as_array().unwrap().contains(&json!("package"));
    if said != did && !same_bytes {
        return false;
    }
    match would["code"].as_str() {
        None => would["status"].as_u64().is_none_or(|status| status == u64::from(answer.status)),
        Some("refused") => would["status"] == answer.status,
        Some(code) => {
            let told = answer.json()["code"].as_str().unwrap_or_default().to_owned();
            class(code) == class(&told) && (class(code) == "unreachable" || would["status"] == answer.status)
        }
    }
}

/// Brings the gate into another state.
async fn change(scene: &Scene, clock: &Clock, chance: &mut StdRng, up: &mut bool) {
    match chance.random_range(0..10) {
        _ if !*up && chance.random_bool(0.5) => recover(scene, up).await,
        0..6 => clock.advance(Duration::from_secs(*[5, 45, 90, 400, 900, 5_000].choose(chance).unwrap())),
        6 | 7 if *up => {
            scene.simulator.refuse_connections().await.unwrap();
            *up = false;
        }
        6 | 7 => recover(scene, up).await,
        _ => {
            let mode = ["offline", "fallback", "strict", "fallback"].choose(chance).unwrap();
            let url = format!("http://{}/admin/v1/mode", scene.gate().admin_address());
            let body = json!({ "feed": "contoso/main", "mode": mode }).to_string();
            assert_eq!(client::send("PUT", &url, &[], body.as_bytes()).await.unwrap().status, 200);
        }
    }
}

/// The service is back, and the gate knows: it was asked for what is not stored.
async fn recover(scene: &Scene, up: &mut bool) {
    scene.simulator.accept_connections().await.unwrap();
    *up = true;
    let number = scene.simulator.requests().len();
    let probe = format!("contoso/_packaging/other/nuget/v3/query2/?q=probe{number}");
    until(|| async { scene.get(&probe).await.status == 200 }).await;
}

/// As whom, with what wish and by which method it is asked.
fn manner(chance: &mut StdRng) -> (Option<&'static str>, &'static str, &'static str) {
    let pat = match chance.random_range(0..12) {
        0 => None,
        1 => Some("wrong"),
        2 => Some(FORBIDDEN_PAT),
        3 | 4 => Some(OTHER_PAT),
        _ => Some(PAT),
    };
    let header = match chance.random_range(0..8) {
        0 => "no-cache",
        1 => "only-if-cached",
        _ => "",
    };
    let method = if chance.random_bool(0.06) { "PUT" } else { "GET" };
    (pat, header, method)
}

/// Waits for what goes on behind an answer. A refresh that came to nothing is begun again by the next who asks.
async fn settled(scene: &Scene, asked: &Value, (pat, path): (Option<&str>, &str), behind: bool) {
    until(|| async {
        let told = explained(scene, asked).await;
        let is_settled = told["stored"]["tier"] != "filling" && (!behind || told["stored"]["age"] == 0);
        if !is_settled {
            scene.get_as(pat, path, &[]).await;
        }
        is_settled
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_then_happens() {
    let mut chance = StdRng::seed_from_u64(7);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for round in 0..REQUESTS / OF_ONE {
        let clock = Clock::manual(Clock::system().now());
        let scene = scene(MORE[round % MORE.len()], clock.clone()).await;
        let (paths, mut up) = (paths(&scene), true);
        for number in 0..OF_ONE {
            if number > 4 && chance.random_bool(0.4) {
                change(&scene, &clock, &mut chance, &mut up).await;
            }
            let (path, exists) = paths.choose(&mut chance).unwrap();
            let (pat, header, method) = manner(&mut chance);
            let asked = json!({
                "what": scene.url(path),
                "method": method,
                "headers": { "Cache-Control": header },
                "authorization": pat.map(|pat| client::basic("any", pat)),
                "address": "127.0.0.1",
            });
            let told = explained(&scene, &asked).await;
            let answer = scene.send_as(method, pat, path, &[("Cache-Control", header)]).await;
            let asks =
                !told["would"]["asks"].as_array().unwrap().is_empty() || told["would"]["action"] == "forward";
            let would = if asks && !up { &told["unreachable"] } else { &told["would"] };
            // Whom the service refuses, and what it does not have, only the service tells.
            let no_right = pat.is_none() || pat == Some("wrong") || pat == Some(FORBIDDEN_PAT);
            let refused_there =
                asks && up && (no_right || !exists || method != "GET") && answer.status >= 400;
            let agree = if refused_there {
                answer.header("cache-status").is_none() || method != "GET"
            } else {
                agrees(would, &answer)
            };
            *seen
                .entry(format!(
                    "{}{}",
                    would["action"].as_str().unwrap_or("?"),
                    if refused_there { ", refused by the service" } else { "" }
                ))
                .or_default() += 1;
            if !agree {
                wrong.push(format!(
                    "{round}.{number} up={up} {method} {path} {pat:?} {header}\n  did {} {} {:?} {}\n  told {told:#}",
                    action(&answer),
                    answer.status,
                    answer.header("cache-status"),
                    if answer.status >= 400 { answer.text() } else { String::new() },
                ));
            }
            settled(&scene, &asked, (pat, path), up && answer.status == 200 && would["behind"] == true).await;
        }
    }
    eprintln!("{seen:#?}");
    assert!(wrong.is_empty(), "{} of {REQUESTS}:\n{}", wrong.len(), wrong.join("\n"));
    for action in ["hit", "stale_hit", "fetch", "revalidate", "pass", "answer", "forward", "refuse"] {
        assert!(seen.keys().any(|key| key.starts_with(action)), "nothing came to {action}: {seen:?}");
    }
}

/// Runs `feedgate explain` against the scene's gate: its exit code, and what it prints.
async fn command(scene: &Scene, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = format!("http://{}", scene.gate().admin_address());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_feedgate"));
    command.arg("explain").args(arguments).args(["--admin", &admin, "--credential-env", "PAT"]);
    let output =
        command.env_clear().env("PAT", format!("any:{PAT}")).kill_on_drop(true).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_explains_urls_and_packages() {
    let scene = scene("[[guard]]\ndeny = [\"evil\"]\n", Clock::system()).await;
    let (code, text) = command(&scene, &["left-pad@1.3.0"]).await;
    assert!(code == Some(1) && text.contains("nothing is stored of `left-pad@1.3.0`"), "{text}");
    let (code, text) = command(&scene, &["left-pad@1.3.0", "--feed", "contoso/main"]).await;
    assert!(code == Some(0) && text.contains("fetch, asking the service for: feed, package"), "{text}");
    let tarball = format!("{NPM}/left-pad/-/left-pad-1.3.0.tgz");
    for path in [format!("{NPM}/left-pad"), tarball.clone()] {
        assert_eq!(scene.get(&path).await.status, 200);
    }
    let asked = json!({ "what": scene.url(&tarball), "authorization": client::basic("any", PAT) });
    until(|| async { explained(&scene, &asked).await["stored"]["named_by"] == "bytes" }).await;
    let (code, text) = command(&scene, &["left-pad@1.3.0"]).await;
    let key = format!("contoso/-/{}/npm/packument/left-pad", scene.simulator.feed_guid("contoso/main"));
    let parts = [
        "GET /contoso/_packaging/main/npm/registry/left-pad\n",
        "GET /contoso/_packaging/main/npm/registry/left-pad/-/left-pad-1.3.0.tgz\n",
        "the stored copy is fresh for",
        "the bytes are here, and those of a version never change",
        "(own): allowed",
        "metadata.packument",
        "mode fallback (the default)",
        &key,
    ];
    for part in parts {
        assert!(code == Some(0) && text.contains(part), "{part}: {text}");
    }
    let evil = format!("{NPM}/evil/-/evil-1.0.0.tgz");
    let (code, text) = command(&scene, &["--json", &scene.url(&evil)]).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    let (told, answer) = (&told["explained"][0], scene.get(&evil).await);
    assert_eq!(
        (code, &told["would"]["code"], &told["guard"]["reason"]),
        (Some(0), &json!("guard"), &json!("denied"))
    );
    // The answer has the very words.
    assert_eq!(told["guard"]["text"], answer.json()["detail"]);
    assert_eq!((&told["would"]["status"], &told["would"]["asks"]), (&json!(403), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_explained_is_told_and_no_secret_is_shown() {
    let scene = scene("", Clock::system()).await;
    let path = format!("{NPM}/left-pad");
    let secret = client::basic("any", "the-secret-of-a-caller");
    let told = explain(&scene, &json!({ "what": scene.url(&path), "authorization": secret })).await.text();
    assert!(!told.contains(&secret) && !told.contains("the-secret") && told.contains("unknown"), "{told}");
    for (body, status, words) in [
        (json!({}), 400, "what"),
        (json!({ "what": "" }), 400, "package@version"),
        (json!({ "what": "a b c" }), 400, "package@version"),
        (json!({ "what": "/" }), 400, "organisation"),
        (
            json!({ "what": "http://user:the-secret@gate/contoso/_packaging/main/npm/registry/a" }),
            400,
            "user information",
        ),
        (json!({ "what": "a@1.0.0" }), 404, "name the feed"),
        (json!({ "what": "a", "feed": "main" }), 400, "organisation/feed"),
        (json!({ "what": "a", "method": "G T" }), 400, "method"),
        (json!({ "what": "a", "headers": { "no header": "a" } }), 400, "no header"),
        (json!({ "what": "a", "else": 1 }), 400, "else"),
    ] {
        let answer = explain(&scene, &body).await;
        let text = answer.text();
        assert!(
            answer.status == status && text.contains(words) && !text.contains("the-secret"),
            "{body}: {text}"
        );
    }
    assert!(scene.simulator.requests().is_empty(), "something was asked of the service");
}
