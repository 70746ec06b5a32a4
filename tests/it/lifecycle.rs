//! A gate is stopped, and replaced by another program, under load.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use command_fds::{CommandFdExt as _, FdMapping};

use feedgate_simulator::{
    Listener, NpmPackage, NpmVersion, Pace, Simulator,
    client::{Connection, Url, basic},
};
use futures::future::join_all;
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::{
    load::{Load, Wanted},
    process::{PROGRAM, Process},
    support::{NPM, PAT, contoso, until},
};

/// Requests per second.
const RATE: u32 = 500;
/// Speed of the blob host: a slow package takes two seconds.
const SPEED: u64 = 1_500_000;
/// Bytes of a slow package, and how many there are.
const SIZE: usize = 3_000_000;
const SLOW: usize = 4;

/// A service with a slow blob host, and a gate in front of it that has a document and a package.
async fn scene(folder: &Path, drain: &str) -> (Simulator, Process, Vec<Wanted>) {
    scene_by(Command::new(PROGRAM), folder, drain).await
}

/// The same, with the gate run by a command.
async fn scene_by(command: Command, folder: &Path, drain: &str) -> (Simulator, Process, Vec<Wanted>) {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    // All clients have one address here, and at `RATE` many of them wait.
    let extra = format!("listen.drain_timeout = \"{drain}\"\nlimits.connections_per_address = 10000\n");
    let process = Process::start_by(command, &simulator, folder, &extra).await;
    let mut wanted = Vec::new();
    for path in ["left-pad", "left-pad/-/left-pad-1.3.0.tgz", "@scope/wide/-/@scope/wide-2.0.0.tgz"] {
        let url = process.url(&format!("{NPM}/{path}"));
        let credential = basic("any", PAT);
        let answer = feedgate_simulator::client::get(&url, &[("Authorization", &credential)]).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        wanted.push(Wanted { url, body: answer.body });
    }
    for number in 0..SLOW {
        let version = NpmVersion::new().size(SIZE);
        simulator
            .add_npm("contoso/main", &NpmPackage::new(&format!("slow-{number}")).version("1.0.0", version));
    }
    simulator.set_pace(Listener::Blob, Pace::default().bandwidth(SPEED));
    (simulator, process, wanted)
}

/// Asks for a slow package; returns once its first bytes have come. Whether its body ends as its head says, and with how
/// many bytes.
async fn begin(process: &Process, number: usize) -> JoinHandle<(bool, usize)> {
    let url = Url::parse(&process.url(&slow(number))).unwrap();
    let (first, came) = oneshot::channel();
    let ending = tokio::spawn(async move {
        let mut connection = Connection::open(&url, None).await.unwrap();
        connection.send_request("GET", &url, &[("Authorization", &basic("any", PAT))], b"").await.unwrap();
        let (head, mut body) = connection.stream_response(false).await.unwrap();
        assert_eq!(head.status, 200);
        let mut length = body.next().await.unwrap().len();
        first.send(()).unwrap();
        while let Some(part) = body.next().await {
            length += part.len();
        }
        (body.complete, length)
    });
    came.await.unwrap();
    ending
}

fn slow(number: usize) -> String {
    format!("{NPM}/slow-{number}/-/slow-{number}-1.0.0.tgz")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_stopped_under_load_breaks_no_answer_and_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (simulator, mut process, wanted) = scene(folder.path(), "30s").await;
    let load = Load::start(&wanted, RATE);
    load.serves(1_000).await;
    let downloads = join_all((0..SLOW).map(|number| begin(&process, number))).await;
    let begun = Instant::now();
    process.signal("TERM").await;
    let code = process.ended().await;
    let took = begun.elapsed();
    let seen = load.end().await;
    eprintln!(
        "SIGTERM at {:.0} requests/s: {} answers whole, {} broken, {} repeated, {} turned away; exit after {:.1} s",
        seen.rate,
        seen.served,
        seen.broken.len(),
        seen.repeated,
        seen.turned_away.values().sum::<usize>(),
        took.as_secs_f64()
    );
    assert_eq!((code, seen.broken), (Some(0), Vec::new()));
    assert!(took < Duration::from_secs(30), "{took:?}");
    for (number, download) in downloads.into_iter().enumerate() {
        let (bytes, _) = simulator.npm_file("contoso/main", &format!("slow-{number}"), "1.0.0");
        assert_eq!(download.await.unwrap(), (true, bytes.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_outlasts_the_drain_is_cut_off_and_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (simulator, mut process, wanted) = scene(folder.path(), "1s").await;
    simulator.set_pace(Listener::Blob, Pace::default().bandwidth(SPEED / 100));
    let load = Load::start(&wanted, RATE);
    let download = begin(&process, 0).await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await, Some(0));
    process.logged("drain timeout: requests are cut off").await;
    assert_eq!(load.end().await.broken, Vec::<String>::new());
    assert!(!download.await.unwrap().0, "cut off, and seen to be");
    simulator.set_pace(Listener::Blob, Pace::default());
    let again = Process::start(&simulator, folder.path()).await;
    let url = again.url(&slow(0));
    let credential = basic("any", PAT);
    let answer = feedgate_simulator::client::get(&url, &[("Authorization", &credential)]).await.unwrap();
    assert_eq!((answer.complete, answer.header("x-cache")), (true, Some("MISS")));
    assert_eq!(again.terminate().await, Some(0));
}

/// A program that can be replaced while it runs.
fn install(folder: &Path) -> PathBuf {
    let program = folder.join("feedgate");
    let new = folder.join("feedgate.new");
    fs::copy(PROGRAM, &new).unwrap();
    fs::rename(new, &program).unwrap();
    program
}

/// A script in the program's place.
fn install_script(folder: &Path, script: &str) {
    let new = folder.join("feedgate.new");
    fs::write(&new, script).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, folder.join("feedgate")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_takes_over_under_load_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let program = install(folder.path());
    let (simulator, mut process, wanted) = scene_by(Command::new(&program), folder.path(), "30s").await;
    let load = Load::start(&wanted, RATE);
    let asked = simulator.requests().len();
    for upgrade in 1..=3 {
        load.serves(500).await;
        // What is under way is waited for.
        let download = if upgrade == 1 { Some(begin(&process, 0).await) } else { None };
        install(folder.path());
        assert_ne!(process.program(), program);
        process.signal("USR2").await;
        process.logged_again("listening", upgrade).await;
        assert_eq!(process.program(), program, "the new file runs, in the same process");
        if let Some(download) = download {
            assert!(download.await.unwrap().0);
        }
    }
    load.serves(500).await;
    let seen = load.end().await;
    eprintln!(
        "3 upgrades at {:.0} requests/s: {} answers whole, {} failed, {} repeated, {} at once, longest {:.2} s",
        seen.rate,
        seen.served,
        seen.broken.len() + seen.turned_away.values().sum::<usize>(),
        seen.repeated,
        seen.at_once,
        seen.longest.as_secs_f64()
    );
    assert_eq!((seen.broken, seen.turned_away), (Vec::new(), BTreeMap::new()));
    let packages =
        simulator.requests()[asked..].iter().filter(|one| one.path.contains("left-pad-1.3.0")).count();
    assert_eq!(packages, 0, "the store went over");
    process.signal("TERM").await;
    assert_eq!(process.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_take_the_configuration_takes_nothing_over() {
    let folder = tempfile::tempdir().unwrap();
    let program = install(folder.path());
    let (_simulator, process, wanted) = scene_by(Command::new(&program), folder.path(), "30s").await;
    let load = Load::start(&wanted, RATE);
    install_script(folder.path(), "#!/bin/sh\necho unheard of >&2\nexit 2\n");
    process.signal("USR2").await;
    let line = process.logged("SIGUSR2: no upgrade; this program goes on").await;
    assert!(line["error"].as_str().unwrap().contains("unheard of"), "{line}");
    fs::remove_file(&program).unwrap();
    process.signal("USR2").await;
    process.logged_again("SIGUSR2: no upgrade; this program goes on", 1).await;
    load.serves(100).await;
    let seen = load.end().await;
    assert_eq!((seen.broken, seen.turned_away, seen.repeated), (Vec::new(), BTreeMap::new(), 0));
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_program_comes_back_when_the_new_one_cannot_open_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let program = install(folder.path());
    let (_simulator, process, wanted) = scene_by(Command::new(&program), folder.path(), "30s").await;
    let (stopped, go) = (folder.path().join("stopped"), folder.path().join("go"));
    let (in_the_way, on) = (stopped.display(), go.display());
    install_script(
        folder.path(),
        &format!(
            "#!/bin/bash\n[ $1 = check ] && exit 0\ntouch {in_the_way}\nwhile [ ! -e {on} ]; do sleep 0.05; done\n\
             exec -a \"$0\" {PROGRAM} \"$@\"\n"
        ),
    );
    process.signal("USR2").await;
    until(|| async { stopped.exists() }).await;
    // Clients wait meanwhile.
    let load = Load::start(&wanted, RATE);
    let lock = File::options().write(true).open(folder.path().join("store/lock")).unwrap();
    lock.try_lock().unwrap();
    fs::write(&go, "").unwrap();
    let line = process.logged("no start; going back to the program before this one").await;
    assert!(line["error"].as_str().unwrap().contains("in use by another process"), "{line}");
    drop(lock);
    process.logged_again("listening", 1).await;
    assert!(process.program().display().to_string().ends_with(" (deleted)"), "{:?}", process.program());
    load.serves(100).await;
    let seen = load.end().await;
    assert_eq!((seen.broken, seen.turned_away), (Vec::new(), BTreeMap::new()));
    // And the next upgrade is one as any other.
    install(folder.path());
    process.signal("USR2").await;
    process.logged_again("listening", 2).await;
    assert_eq!(process.program(), program);
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_systemd_hands_over_is_the_listener_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // The variable has the id of the process that runs the gate.
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"", PROGRAM]);
    let mapping = FdMapping { parent_fd: socket.try_clone().unwrap().into(), child_fd: 3 };
    command.fd_mappings(vec![mapping]).unwrap();
    // Before the gate is there.
    let url = Url::parse(&format!("http://{address}/{NPM}/left-pad")).unwrap();
    let mut early = Connection::open(&url, None).await.unwrap();
    let process = Process::start_by(command, &simulator, folder.path(), "").await;
    assert_eq!(process.url(""), format!("http://{address}/"));
    let answer = early.request("GET", &url, &[("Authorization", &basic("any", PAT))], b"").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(process.terminate().await, Some(0));
    let gone = tokio::net::TcpStream::connect(address).await;
    assert!(gone.is_ok(), "the socket is not the gate's: {gone:?}");
    drop(socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_at_once_when_the_gate_drains_and_clients_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (_simulator, mut process, _) = scene(folder.path(), "30s").await;
    let download = begin(&process, 0).await;
    let needs = [json!({ "path": format!("/{}", slow(1)) })];
    let body = json!({ "authorization": basic("any", PAT), "needs": needs }).to_string();
    let url = process.admin_url("admin/v1/warm");
    let started = feedgate_simulator::client::send("POST", &url, &[], body.as_bytes()).await.unwrap();
    assert!(started.status < 300, "{}", started.text());
    process.signal("TERM").await;
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(process.logged("job over").await["state"], "cancelled");
    assert!(download.await.unwrap().0);
}
