//! The gate as a process of its own, for what only the system can tell: memory, signals, exit codes.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use feedgate_simulator::Simulator;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::support::{DEADLINE, config};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_feedgate");

/// A running `feedgate serve`.
pub struct Process {
    child: Child,
    address: String,
    admin_address: String,
    file: PathBuf,
    log: watch::Receiver<Vec<Value>>,
    reading: watch::Sender<Reading>,
}

/// What becomes of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It is read.
    On,
    /// It is read no more, and its pipe stays open.
    Stalled,
    /// Its pipe is closed.
    Over,
}

// === impl Process ===

impl Process {
    /// Starts a gate in front of `simulator` with its store below `folder`; returns once it listens.
    pub async fn start(simulator: &Simulator, folder: &Path) -> Self {
        Self::start_with(simulator, folder, "").await
    }

    /// The same, with more lines of configuration.
    pub async fn start_with(simulator: &Simulator, folder: &Path, extra: &str) -> Self {
        Self::start_by(std::process::Command::new(PROGRAM), simulator, folder, extra).await
    }

    /// The same, by a command that runs a gate with the arguments that are added.
    pub async fn start_by(
        command: std::process::Command,
        simulator: &Simulator,
        folder: &Path,
        extra: &str,
    ) -> Self {
        let file = folder.join("feedgate.toml");
        let extra = format!("log.format = \"json\"\n{extra}");
        std::fs::write(&file, config(simulator, &folder.join("store"), &extra)).unwrap();
        let mut command = Command::from(command);
        command.arg("serve").arg("--config").arg(&file).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (written, log) = watch::channel(Vec::new());
        let (reading, mut told) = watch::channel(Reading::On);
        tokio::spawn(async move {
            loop {
                let line = tokio::select! {
                    line = lines.next_line() => line,
                    Ok(_) = told.wait_for(|reading| *reading != Reading::On) => break,
                };
                let Ok(Some(line)) = line else { return };
                let line: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                written.send_modify(|log| log.push(line));
            }
            // Until the process is dropped.
            let _ = told.wait_for(|reading| *reading == Reading::Over).await;
        });
        let (address, admin_address) = (String::new(), String::new());
        let mut process = Self { child, address, admin_address, file, log, reading };
        let line = process.logged("listening").await;
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        (process.address, process.admin_address) = (text("address"), text("admin_address"));
        process
    }

    /// The first line of its log with this message, once it is there.
    pub async fn logged(&self, message: &str) -> Value {
        self.logged_again(message, 0).await
    }

    /// The line with this message that comes after so many.
    pub async fn logged_again(&self, message: &str, before: usize) -> Value {
        self.logged_where(|line| line["message"] == message, before).await
    }

    /// The lines so far that are wanted.
    pub fn log_lines(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.log.borrow().iter().filter(|line| wanted(line)).cloned().collect()
    }

    /// The line that is wanted and comes after so many of these, once it is there.
    pub async fn logged_where(&self, wanted: impl Fn(&Value) -> bool, before: usize) -> Value {
        let mut log = self.log.clone();
        let find = |log: &[Value]| log.iter().filter(|line| wanted(line)).nth(before).cloned();
        let found = timeout(DEADLINE, log.wait_for(|log| find(log).is_some())).await;
        match found.map(|log| log.map(|log| find(&log).unwrap())) {
            Ok(Ok(line)) => line,
            end => panic!("no such line in {:#?}: {:?}", *self.log.borrow(), end.map(drop)),
        }
    }

    /// Reads its log no more.
    pub fn stop_reading(&self, reading: Reading) {
        self.reading.send_replace(reading);
    }

    /// A URL of its operators' listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.admin_address)
    }

    /// Puts lines at the start of the configuration.
    pub fn configure(&self, lines: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        std::fs::write(&self.file, format!("{lines}{text}")).unwrap();
    }

    /// The same, and has it read again.
    pub async fn reload(&self, lines: &str) {
        self.configure(lines);
        self.signal("HUP").await;
    }

    /// Runs the program with `arguments` against its operators' listener: exit code, standard output and error.
    pub async fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["--admin", self.admin_url("").trim_end_matches('/')]);
        let output = command.env_clear().kill_on_drop(true).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Sends it a signal.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// A URL of the gate.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The file that it runs, with a word behind it if that file is gone.
    pub fn program(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/exe", self.child.id().unwrap())).unwrap()
    }

    /// A line of `/proc/PID/status`, such as `VmRSS` or `VmHWM`, in bytes.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|it| it.starts_with(line)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id().unwrap())).unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// Ends the gate as an operator would; its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Its exit code, once it has ended.
    pub async fn ended(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_does_not_hold_ends_with_2_and_every_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[listen]\naddress = \"here\"\n[store]\ncapacity = \"much\"\ncolour = \"blue\"\n")
        .unwrap();
    for command in ["check", "serve"] {
        let mut run = Command::new(PROGRAM);
        let output = run.arg(command).arg("--config").arg(&file).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for key in ["listen.address", "store.capacity", "store.colour"] {
            assert!(said.contains(key), "{key} not in {said}");
        }
    }
}
