//! Servers as processes of their own: on a core of their own, with what they cost.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Failure;

/// The core of the server that is measured, and that of everything else.
pub const SERVER_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

/// Processor time is counted in hundredths of a second.
const TICKS: f64 = 100.0;
/// Where a process's own time stands behind its name, and that of its children that have ended.
const OWN: usize = 11;
const ENDED: usize = 13;
const START: Duration = Duration::from_secs(60);

/// A running server; it ends with the value.
pub struct Process(Child);

// === impl Process ===

impl Process {
    /// Starts `command` on one core and waits until it listens.
    pub fn start(core: &str, command: &[&str], listens: SocketAddr) -> Result<Self, Failure> {
        let mut all = vec!["-c", core];
        all.extend(command);
        let child = Command::new("taskset").args(all).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut process = Self(child);
        let deadline = Instant::now() + START;
        while TcpStream::connect(listens).is_err() {
            if let Some(status) = process.0.try_wait()? {
                return Err(format!("{command:?} ended with {status}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("{command:?} did not start to listen").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Processor time used so far by the process and its descendants, in seconds.
    pub fn cpu(&self) -> f64 {
        self.family().iter().filter_map(|pid| ticks(*pid, OWN)).sum::<f64>() / TICKS
    }

    /// Resident memory of the process and its descendants, in MB.
    pub fn rss(&self) -> f64 {
        self.family().iter().filter_map(|pid| status_kib(*pid, "VmRSS:")).sum::<f64>() / 1000.0 * 1.024
    }

    /// The most resident memory since [`Process::reset_peak`], in MB, of the process alone.
    pub fn peak(&self) -> f64 {
        status_kib(self.0.id(), "VmHWM:").unwrap_or_default() / 1000.0 * 1.024
    }

    /// Begins to look for the peak anew.
    pub fn reset_peak(&self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5")?)
    }

    fn family(&self) -> Vec<u32> {
        let parents: HashMap<u32, u32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
            .collect();
        let own = self.0.id();
        let descends = |pid: u32| {
            std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).take(8).any(|pid| pid == own)
        };
        parents.keys().copied().filter(|pid| descends(*pid)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All of them want to end in their own way, to end their workers; an error means that it has ended already.
        let _ = Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// Processor time of the processes that this one started and that have ended, in seconds.
pub fn ended_cpu() -> f64 {
    ticks(std::process::id(), ENDED).unwrap_or_default() / TICKS
}

/// An address that was free a moment ago: not every server can choose one itself.
pub fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Fills the double braces of a configuration and writes it.
pub fn configure(template: &str, values: &[(&str, &str)], file: &Path) -> Result<(), Failure> {
    let put = |text: String, (key, value): &(&str, &str)| text.replace(&format!("{{{{{key}}}}}"), value);
    Ok(fs::write(file, values.iter().fold(template.to_owned(), put))?)
}

/// The fields of a process after its name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// User and system time, in ticks: the field `first` and the next one.
fn ticks(pid: u32, first: usize) -> Option<f64> {
    let fields = stat(pid)?;
    Some(fields.get(first)?.parse::<f64>().ok()? + fields.get(first + 1)?.parse::<f64>().ok()?)
}

fn status_kib(pid: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
