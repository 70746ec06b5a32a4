//! The admin API's doors, and the command line that goes through them.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use feedgate::{
    cli::client::{AdminAddress, Client, Refused},
    redact::Secret,
};
use feedgate_simulator::{Simulator, client};
use http::Method;
use serde_json::json;
use tokio::process::Command;

use crate::support::{Scene, contoso};

const MODE: &str = "/admin/v1/mode";

async fn simulator() -> Simulator {
    Simulator::builder().organisation(contoso()).start().await.unwrap()
}

/// Runs the program with `arguments`, with nothing of this process' environment that it reads.
async fn feedgate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
    command.args(arguments).env_clear().kill_on_drop(true);
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn refusal(error: &anyhow::Error) -> (u16, &str) {
    let refused: &Refused = error.downcast_ref().unwrap();
    (refused.status.as_u16(), &refused.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_opens_the_api_and_the_rest_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (token, socket) = (folder.path().join("token"), folder.path().join("admin.sock"));
    std::fs::write(&token, "the-right-token\n").unwrap();
    let extra =
        format!("admin.token_file = \"{}\"\nadmin.socket = \"{}\"\n", token.display(), socket.display());
    let scene = Scene::with(simulator().await, &extra);
    let address = AdminAddress::Tcp(scene.gate().admin_address().to_string());
    for path in ["/metrics", "/livez", "/readyz"] {
        let (status, _) = Client::new(address.clone(), None).text(path).await.unwrap();
        assert_eq!(status, 200, "{path}");
    }
    let with = |token: &str| Client::new(address.clone(), Some(Secret::new(token.to_owned())));
    for client in [Client::new(address.clone(), None), with("the-wrong-token")] {
        for path in [MODE, "/admin/v1/nothing"] {
            assert_eq!(refusal(&client.get(path).await.unwrap_err()), (401, "unauthorized"), "{path}");
        }
    }
    assert_eq!(with("the-right-token").get(MODE).await.unwrap()["mode"], "fallback");
    // The file is read at each request.
    std::fs::write(&token, "another-token").unwrap();
    assert_eq!(refusal(&with("the-right-token").get(MODE).await.unwrap_err()).0, 401);
    assert_eq!(with("another-token").get(MODE).await.unwrap()["mode"], "fallback");
    let unix = Client::new(AdminAddress::Unix(socket.clone()), None);
    let set = unix.send(Method::PUT, MODE, &json!({ "mode": "strict" })).await.unwrap();
    assert_eq!(set["mode"], "strict");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_gate_left_is_taken_over_and_anything_else_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let mut scene = Scene::with(simulator().await, &format!("admin.socket = \"{}\"\n", socket.display()));
    scene.restart();
    let client = Client::new(AdminAddress::Unix(socket.clone()), None);
    assert_eq!(client.text("/readyz").await.unwrap().1, "ready\n");
    let attempt = |socket: &Path| {
        let mut config = feedgate::config::Config::default();
        config.listen.address = ([127, 0, 0, 1], 0).into();
        config.admin.address = ([127, 0, 0, 1], 0).into();
        config.admin.socket = Some(socket.to_owned());
        config.store.path = folder.path().join("other");
        format!("{:#}", feedgate::app::Gate::start(config).err().unwrap())
    };
    assert!(attempt(&socket).contains("another process listens"), "{}", attempt(&socket));
    let file = folder.path().join("precious");
    std::fs::write(&file, "data").unwrap();
    assert!(attempt(&file).contains("is not a socket"), "{}", attempt(&file));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
    scene.stop();
    let error = format!("{:#}", client.text("/readyz").await.unwrap_err());
    assert!(error.contains("no gate answers at unix:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_not_there_or_from_elsewhere_is_refused() {
    let scene = Scene::new().await;
    let url = |path: &str| format!("http://{}{path}", scene.gate().admin_address());
    let large = vec![b' '; 65 << 10];
    let answer = client::send("PUT", &url(MODE), &[], &large).await.unwrap();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("too_large")));
    let answer = client::send("DELETE", &url(MODE), &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, PUT")));
    let answer = client::send("GET", &url("/admin"), &[], b"").await.unwrap();
    assert!(answer.status == 404 && answer.text().contains("GET /admin/v1/mode"), "{}", answer.text());
    let answer = client::send("HEAD", &url(MODE), &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let origin = [("Origin", "https://evil.example")];
    let answer = client::send("PUT", &url(MODE), &origin, b"{\"mode\":\"offline\"}").await.unwrap();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("origin")));
    let rebound = [("Host", "evil.example")];
    assert_eq!(client::send("GET", &url(MODE), &rebound, b"").await.unwrap().status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_file_has_every_route_and_no_other() {
    let scene = Scene::new().await;
    let url = |path: &str| format!("http://{}{path}", scene.gate().admin_address());
    let nothing = client::send("GET", &url("/nothing"), &[], b"").await.unwrap().json();
    let routes = nothing["detail"].as_str().unwrap().split_once("there are ").unwrap().1.to_owned();
    let mut routes: Vec<_> = routes.split(", ").map(str::to_owned).collect();
    let file = client::send("GET", &url("/admin/v1/openapi.json"), &[], b"").await.unwrap().json();
    let mut described = Vec::new();
    for (path, methods) in file["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    routes.sort();
    described.sort();
    assert_eq!(routes, described);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_a_running_gate() {
    let mut scene = Scene::new().await;
    let url = format!("http://{}", scene.gate().admin_address());
    let ask = |arguments: &'static str| {
        let url = url.clone();
        async move {
            let all: Vec<_> = arguments.split(' ').chain(["--admin", &url]).collect();
            let output = feedgate(&all).await;
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        }
    };
    assert_eq!(ask("healthcheck").await, (Some(0), "ready\n".to_owned(), String::new()));
    let (code, shown, _) = ask("mode offline --feed contoso/main --json").await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["feeds"][0]["mode"]), (Some(0), &json!("offline")));
    let (code, shown, _) = ask("mode").await;
    assert_eq!((code, shown.as_str()), (Some(0), "fallback   all other feeds\noffline    contoso/main\n"));
    let (code, _, said) = ask("mode offline --feed main").await;
    assert!(code == Some(2) && said.contains("organisation/feed"), "{said}");
    let (code, _, said) = ask("mode sometimes").await;
    assert!(code == Some(2) && said.contains("must be one of"), "{said}");
    scene.stop();
    let (code, _, said) = ask("healthcheck").await;
    assert!(code == Some(1) && said.contains("no gate answers at http://127.0.0.1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_the_page_and_the_configuration_need_no_gate() {
    let output = feedgate(&["completions", "bash"]).await;
    assert!(output.status.success() && text(&output.stdout).contains("healthcheck"));
    let output = feedgate(&["man"]).await;
    assert!(output.status.success() && text(&output.stdout).starts_with(".ie"), "{}", text(&output.stdout));
    let output = feedgate(&["check", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["admin"]["address"], "127.0.0.1:4874");
    assert_eq!(shown["listen"]["threads"], 0);
}
