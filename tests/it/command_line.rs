//! The commands as people and programs type them: wrong ones, with no gate, cut off, and into a pipe.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    process::Command,
    time::timeout,
};

use crate::{
    process::PROGRAM,
    support::{DEADLINE, NPM, Scene, until},
};

/// A command that is given up with its test.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> Output {
    timeout(DEADLINE, command(arguments).output()).await.unwrap().unwrap()
}

/// The address of an operators' listener at which nobody is.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// One that begins an archive and never ends it.
async fn half_an_archive() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
                stream.write_all(half).await.unwrap();
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

/// Names of what is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_ends_with_2_before_anybody_is_asked() {
    let nobody = nobody().await;
    for (arguments, told) in [
        (&["warm"][..], "--lockfile"),
        (&["drill"], "--lockfile"),
        (&["drill", "--enforce", "10m"], "--credential-env"),
        (&["export", "--output", "x.tar"], "--lockfile"),
        (&["export", "--output", "x.tar", "--package", "a@x"], "--package"),
        (&["unpin"], "--all"),
        (&["unpin", "--all", "--registry", "http://gate/o/_packaging/f/npm/registry"], "--registry"),
        (&["pin", "left-pad@one"], "left-pad@one"),
        (&["purge"], "<PACKAGE>"),
        (&["purge", "--feed", "contoso"], "organisation/feed"),
        (&["ls", "--limit", "0"], "--limit"),
        (&["ls", "--protocol", "maven"], "npm, nuget"),
        (&["ls", "--storage-id", "0"], "--storage-id"),
        (&["refresh"], "<PACKAGE>"),
        (&["mode", "loud"], "loud"),
        (&["mode", "default"], "--feed"),
        (&["mode", "offline", "--feed", "main"], "organisation/feed"),
        (&["verdicts", "drop"], "--feed"),
        (&["top", "--interval", "1ms"], "--interval"),
        (&["log", "debug", "--for", "soon"], "--for"),
        (&["token", "create", "--name", "a"], "--scope"),
        (&["completions", "cmd"], "cmd"),
        (&["no-such-command"], "no-such-command"),
        (&[], "Usage"),
    ] {
        let output = run(&[arguments, &["--admin", &nobody]].concat()).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(run(&arguments).await.status.code(), Some(0), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_errors_are_json_too() {
    let (scene, nobody, folder) = (Scene::new().await, nobody().await, tempfile::tempdir().unwrap());
    let gate = format!("http://{}", scene.gate().admin_address());
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[listen]\naddress = \"here\"\n[store]\ncapacity = \"much\"\n").unwrap();
    for (arguments, code, told) in [
        (&["stats", "--admin", &nobody][..], 1, "no gate answers at"),
        (&["drain", "--admin", &gate], 1, "takes no orders"),
        (&["breakers", "reset", "nowhere", "--admin", &gate], 1, "no host `nowhere` was asked"),
        (&["warm", "--admin", &gate], 2, "--lockfile"),
        (&["warm", "--admin", &gate, "--lockfile", "no-such-file"], 1, "no-such-file"),
        (&["check", "--config", file.to_str().unwrap()], 2, "does not hold"),
    ] {
        let output = run(&[arguments, &["--json"]].concat()).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let error: Value = serde_json::from_str(&said).unwrap();
        assert!(error["error"].as_str().unwrap().contains(told), "{arguments:?}: {error}");
        let refused = (error["status"].as_u64(), error["code"].as_str());
        let expected = if arguments[0] == "drain" { (Some(501), Some("no_orders")) } else { (None, None) };
        assert_eq!(refused, expected, "{arguments:?}: {error}");
        let mistakes = error["mistakes"].as_array().map_or(0, Vec::len);
        assert_eq!(mistakes, if arguments[0] == "check" { 2 } else { 0 }, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_ends_with_its_reader() {
    let scene = Scene::new().await;
    let gate = format!("http://{}", scene.gate().admin_address());
    let mut top = command(&["top", "--json", "--interval", "100ms", "--admin", &gate]);
    let mut top = top.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(serde_json::from_str::<Value>(&line).unwrap()["ready"] == true, "{line}");
    }
    drop(lines);
    let output = timeout(DEADLINE, top.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_broken_off_leaves_nothing() {
    let (gate, folder) = (half_an_archive().await, tempfile::tempdir().unwrap());
    let archive = folder.path().join("archive.tar");
    let arguments =
        ["export", "--whole-feed", "a/b", "--admin", &gate, "--output", archive.to_str().unwrap()];
    let export = command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    until(async || !names(folder.path()).is_empty()).await;
    assert!(!archive.exists(), "what is not whole has another name");
    let id = export.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().await.unwrap().success());
    let output = timeout(DEADLINE, export.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(1), "feedgate: cancelled\n"));
    assert_eq!(names(folder.path()), Vec::<String>::new());
    // And what is there is left alone.
    std::fs::write(&archive, "other").unwrap();
    let output = run(&arguments).await;
    assert!(String::from_utf8(output.stderr).unwrap().ends_with("archive.tar: exists already\n"));
    assert_eq!(std::fs::read_to_string(&archive).unwrap(), "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_asked_is_reset_by_its_name() {
    let scene = Scene::new().await;
    let gate = format!("http://{}", scene.gate().admin_address());
    scene.get(&format!("{NPM}/left-pad")).await;
    let shown = run(&["breakers", "--json", "--admin", &gate]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let host = shown["hosts"][0]["host"].as_str().unwrap();
    let reset = run(&["breakers", "reset", host, "--json", "--admin", &gate]).await;
    assert_eq!(reset.status.code(), Some(0), "{}", String::from_utf8_lossy(&reset.stderr));
}
