//! A running gate tells its configuration, reads it again and ends, as operators say.

use std::{collections::BTreeMap, path::Path, process::Command};

use feedgate::{
    admin::{Control, Wanted},
    app::{Gate, Sockets},
    cli::client::{AdminAddress, Client, Refused},
    clock::Clock,
    config::Config,
};
use feedgate_simulator::{Listener, Pace, Simulator, client};
use http::Method;
use serde_json::{Value, json};

use crate::{
    process::{PROGRAM, Process},
    support::{NPM, PAT, Scene, config, contoso},
};

/// What must be in no answer.
const SECRET: &str = "planted-secret";

async fn simulator() -> Simulator {
    Simulator::builder().organisation(contoso()).start().await.unwrap()
}

/// A gate with a secret in its environment, in a file, and among the arguments of a program.
async fn gate_with_secrets(simulator: &Simulator, folder: &Path) -> Process {
    let file = folder.join("secret");
    std::fs::write(&file, format!("{SECRET}-in-a-file")).unwrap();
    let extra = format!(
        "[[organisation]]\nname = \"a\"\ncredential_env = \"PLANTED\"\n\
         [[organisation]]\nname = \"b\"\ncredential_file = \"{}\"\n\
         [[organisation]]\nname = \"c\"\ncredential_command = [\"/bin/echo\", \"{SECRET}-as-argument\"]\n",
        file.display()
    );
    let mut command = Command::new(PROGRAM);
    command.env("PLANTED", format!("{SECRET}-in-a-variable"));
    Process::start_by(command, simulator, folder, &extra).await
}

fn json_of((code, shown, said): (Option<i32>, String, String)) -> Value {
    assert_eq!((code, said.as_str()), (Some(0), ""), "{shown}");
    serde_json::from_str(&shown).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_told_without_its_secrets_and_with_what_waits_for_the_next_start() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let gate = gate_with_secrets(&simulator, folder.path()).await;
    let shown = json_of(gate.ask(&["config", "--json"]).await);
    assert_eq!(shown["settings"]["organisation[0]"]["credential_env"], "PLANTED");
    assert_eq!(shown["settings"]["organisation[2]"]["credential_command"], json!(["/bin/echo", "***"]));
    assert_eq!(shown["waiting"], json!([]));
    gate.configure("store.capacity = \"30GiB\"\nlog.level = \"debug\"\n");
    let told = json_of(gate.ask(&["reload", "--json"]).await);
    assert_eq!(told, json!({ "applied": ["log.level"], "waiting": ["store.capacity"] }));
    // What waits is told again, what is in force is not.
    let (code, told, _) = gate.ask(&["reload"]).await;
    assert_eq!((code, told.as_str()), (Some(0), "store.capacity: takes effect at the next start\n"));
    let after = json_of(gate.ask(&["config", "--json"]).await);
    let waiting = json!([{ "key": "store.capacity", "in_force": "20GiB", "configured": "30GiB" }]);
    assert_eq!((&after["waiting"], &after["settings"]["log"]["level"]), (&waiting, &json!("debug")));
    let (code, text, _) = gate.ask(&["config"]).await;
    assert!(code == Some(0) && text.contains("\ncapacity = \"30GiB\"\n"), "{text}");
    assert!(text.ends_with("# store.capacity takes effect at the next start; in force is \"20GiB\"\n"));
    for text in [shown.to_string(), after.to_string(), text] {
        assert!(text.contains("credential_command") && !text.contains(SECRET), "{text}");
    }
    assert!(gate.log_lines(|line| line.to_string().contains(SECRET)).is_empty());
    assert_eq!(gate.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_with_every_mistake_and_changes_nothing() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let gate = Process::start(&simulator, folder.path()).await;
    let before = json_of(gate.ask(&["config", "--json"]).await);
    gate.configure("outage.mode = \"offline\"\nlog.level = \"loud\"\nstore.capacity = \"much\"\n");
    let (code, shown, said) = gate.ask(&["reload"]).await;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    for part in ["the one before stays in force", "`log.level`", "`store.capacity`", "(422", "config)"] {
        assert!(said.contains(part), "{part} not in {said}");
    }
    assert_eq!(json_of(gate.ask(&["config", "--json"]).await), before);
    assert_eq!(json_of(gate.ask(&["mode", "--json"]).await)["mode"], "fallback");
    let metrics = client::get(&gate.admin_url("metrics"), &[]).await.unwrap().text();
    assert!(metrics.contains("feedgate_config_reloads_total{outcome=\"invalid\"} 1"));
    assert_eq!(gate.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_was_asked_and_ends_the_program() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let mut gate = Process::start(&simulator, folder.path()).await;
    // A download that takes a second.
    simulator.set_pace(Listener::Blob, Pace::default().bandwidth(3_000_000));
    let url = gate.url(&format!("{NPM}/large/-/large-1.0.0.tgz"));
    let download = tokio::spawn(async move {
        client::get(&url, &[("Authorization", &client::basic("any", PAT))]).await.unwrap()
    });
    crate::support::until(async || simulator.count(|one| one.listener == Listener::Blob) > 0).await;
    let (code, told, said) = gate.ask(&["drain"]).await;
    assert_eq!((code, told.as_str(), said.as_str()), (Some(0), "the gate has ended\n", ""));
    assert_eq!(gate.ended().await, Some(0));
    let download = download.await.unwrap();
    let (bytes, _) = simulator.npm_file("contoso/main", "large", "1.0.0");
    assert_eq!((download.status, download.body == bytes), (200, true));
    gate.logged("an operator: draining").await;
    // And with nothing to wait for, the answer is still sent.
    let mut gate = Process::start(&simulator, folder.path()).await;
    let told = json_of(gate.ask(&["drain", "--no-wait", "--json"]).await);
    assert_eq!(told, json!({ "seconds": 30.0 }));
    assert_eq!(gate.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_a_drain_sees_no_gate_that_is_ready() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let config = Config::parse(&config(&simulator, folder.path(), ""), &BTreeMap::new()).unwrap().config;
    let (control, mut orders) = Control::new();
    let gate = Gate::start_on(config, Clock::system(), Sockets::default(), control).unwrap();
    let admin = Client::new(AdminAddress::Tcp(gate.admin_address().to_string()), None);
    // A program that is slow to stop its gate: `feedgate drain` takes a gate that is ready for another one.
    tokio::spawn(async move {
        let refused = orders.next().await.unwrap();
        assert_eq!(refused.wanted, Wanted::Drain);
        drop(refused);
        orders.next().await.unwrap().answer(Ok(json!({ "seconds": 30.0 })));
    });
    assert!(admin.send(Method::POST, "/admin/v1/drain", &json!({})).await.is_err());
    assert_eq!(admin.text("/readyz").await.unwrap().0, 200);
    admin.send(Method::POST, "/admin/v1/drain", &json!({})).await.unwrap();
    assert_eq!(admin.text("/readyz").await.unwrap().0, 503);
    tokio::task::spawn_blocking(move || gate.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_in_a_program_that_takes_no_orders_says_so() {
    let scene = Scene::new().await;
    let admin = Client::new(AdminAddress::Tcp(scene.gate().admin_address().to_string()), None);
    let paths =
        [(Method::GET, "config"), (Method::POST, "reload"), (Method::POST, "drain"), (Method::PUT, "log")];
    for (method, path) in paths {
        let error = admin.send(method, &format!("/admin/v1/{path}"), &json!({})).await.unwrap_err();
        let refused: &Refused = error.downcast_ref().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code.as_str()), (501, "no_orders"), "{path}");
    }
    assert_eq!(admin.text("/readyz").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_more_for_a_time_and_then_as_much_as_before() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let gate = Process::start(&simulator, folder.path()).await;
    let debug = |line: &Value| line["level"] == "DEBUG" || line["level"] == "TRACE";
    assert_eq!(gate.ask(&["log"]).await.1, "info\n");
    let shown = json_of(gate.ask(&["log", "trace", "--for", "1h", "--json"]).await);
    assert_eq!((&shown["level"], &shown["configured"]), (&json!("trace"), &json!("info")));
    let url = gate.url(&format!("{NPM}/left-pad"));
    let credential = client::basic("any", PAT);
    assert_eq!(client::get(&url, &[("Authorization", &credential)]).await.unwrap().status, 200);
    gate.logged_where(debug, 0).await;
    assert_eq!(gate.ask(&["log", "default"]).await.1, "info\n");
    gate.logged("the log's level is the configured one again").await;
    gate.ask(&["log", "debug", "--for", "1s"]).await;
    gate.logged_again("the log's level is the configured one again", 1).await;
    assert_eq!(json_of(gate.ask(&["log", "--json"]).await)["seconds_left"], Value::Null);
    let (code, _, said) = gate.ask(&["log", "debug", "--for", "8d"]).await;
    assert!(code == Some(1) && said.contains("`seconds` is 691200"), "{said}");
    assert_eq!(gate.ask(&["log", "loud"]).await.0, Some(2));
    assert_eq!(gate.terminate().await, Some(0));
}
