//! The gate as a process of its own, for what only the system can tell: memory, signals, exit codes.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use feedgate_simulator::Simulator;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::config;

/// A running `feedgate serve`.
pub struct Process {
    child: Child,
    address: String,
    admin_address: String,
    file: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts a gate in front of `simulator` with its store below `folder`; returns once it listens.
    pub async fn start(simulator: &Simulator, folder: &Path) -> Self {
        let file = folder.join("feedgate.toml");
        std::fs::write(&file, config(simulator, &folder.join("store"), "log.format = \"json\"\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
        command.arg("serve").arg("--config").arg(&file).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let [address, admin_address] = loop {
            let line = lines.next_line().await.unwrap().expect("the gate ended before it listened");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                break ["address", "admin_address"].map(|key| line[key].as_str().unwrap().to_owned());
            }
        };
        // Nobody reads the rest, but a full pipe would stop the gate.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address, admin_address, file }
    }

    /// A URL of its operators' listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.admin_address)
    }

    /// Puts lines at the start of the configuration and has it read again.
    pub async fn reload(&self, lines: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        std::fs::write(&self.file, format!("{lines}{text}")).unwrap();
        self.signal("HUP").await;
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// A URL of the gate.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// A line of `/proc/PID/status`, such as `VmRSS` or `VmHWM`, in bytes.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|it| it.starts_with(line)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends the gate as an operator would; its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM").await;
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
        let mut run = Command::new(env!("CARGO_BIN_EXE_feedgate"));
        let output = run.arg(command).arg("--config").arg(&file).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for key in ["listen.address", "store.capacity", "store.colour"] {
            assert!(said.contains(key), "{key} not in {said}");
        }
    }
}
