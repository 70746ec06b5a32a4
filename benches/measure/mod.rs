//! What several benches measure with: the gate as a process of its own, what the system says of a process, and tables.

pub mod blobs;

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Stdio,
    time::Duration,
};

use feedgate_simulator::Simulator;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support;

/// Clock ticks per second in `/proc/PID/stat`; the same on every Linux that Rust's standard library supports.
const TICKS: u64 = 100;

/// Why a bench ends.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A running `feedgate serve`, ended when dropped.
pub struct Gate {
    child: Child,
    address: String,
}

// === impl Gate ===

impl Gate {
    /// Starts a gate in front of `simulator` with its store below `folder` and more lines of configuration; returns once
    /// it listens.
    pub async fn start(simulator: &Simulator, folder: &Path, extra: &str) -> Self {
        let (file, extra) =
            (folder.join("feedgate.toml"), format!("log.format = \"json\"\nlog.level = \"info\"\n{extra}"));
        fs::write(&file, support::config(simulator, &folder.join("store"), &extra)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
        command.arg("serve").arg("--config").arg(file).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the gate ended before it listened");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        // Nobody reads the rest, but a full pipe would stop the gate.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    /// A URL of the gate.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Its resident memory in MB, now and at its highest.
    pub fn memory(&self) -> (f64, f64) {
        memory(&self.child.id().unwrap().to_string())
    }

    /// Ends it as an operator would, and waits for that.
    pub async fn terminate(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(id).status().await.unwrap().success());
        self.child.wait().await.unwrap();
    }

    /// Ends it without warning.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Processor time that it has taken.
    pub fn processor(&self) -> Duration {
        processor(&self.child.id().unwrap().to_string())
    }
}

/// Resident memory of a process (`self` for this one) in MB, now and at its highest.
pub fn memory(process: &str) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|it| it.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    (value("VmRSS"), value("VmHWM"))
}

/// Processor time, of the user and of the system, that a process (`self` for this one) has taken.
pub fn processor(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in brackets may hold anything, so fields are counted after it: utime and stime are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// The value in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints a line at once.
pub fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
