//! Running a client: where its program is, a home that is new, a time limit.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::{Outcome, Project, scratch::scratch};

/// A whole run; 900 packages through a cold gate take about a minute on a busy machine with two cores.
const LIMIT: Duration = Duration::from_secs(300);

/// One request of a client, for those that let it be set: well under [`LIMIT`], well over a slow upstream.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The places where clients look for settings and keep what they have fetched, all below the new home.
const XDG: [(&str, &str); 4] = [
    ("XDG_CACHE_HOME", ".cache"),
    ("XDG_CONFIG_HOME", ".config"),
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_STATE_HOME", ".local/state"),
];

/// A client's executable.
#[derive(Clone, Debug)]
pub(super) struct Program(PathBuf);

/// A home directory that nobody has used, with one run of a client in it.
#[derive(Debug)]
pub(super) struct Run {
    home: TempDir,
    command: Command,
}

// === impl Program ===

impl Program {
    /// The executable of this name in the folder that `deploy/setup --clients` fills, else on `PATH`.
    pub(super) fn find(name: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = tools().into_iter().chain(std::env::split_paths(&path));
        places.map(|place| place.join(name)).find(|program| program.is_file()).map(Self)
    }

    /// The first line that the client prints for these arguments.
    pub(super) async fn first_line(&self, argument: &str) -> io::Result<String> {
        let folder = scratch()?;
        let mut run = Run::new(self, folder.path())?;
        run.arguments([argument]);
        let outcome = run.finish().await?;
        outcome
            .stdout
            .lines()
            .next()
            .map(|line| line.trim().to_owned())
            .ok_or_else(|| io::Error::other(outcome.stderr))
    }
}

/// The same rule as in `deploy/setup`.
fn tools() -> Option<PathBuf> {
    let own = std::env::var_os("FEEDGATE_TOOLS").map(PathBuf::from);
    own.or_else(|| std::env::home_dir().map(|home| home.join(".cache/feedgate/tools")))
        .map(|tools| tools.join("bin"))
}

// === impl Run ===

impl Run {
    /// A run of the program in a project's directory.
    pub(super) fn of(program: &Program, project: &Project) -> io::Result<Self> {
        Self::new(program, project.dir())
    }

    /// A run of the program in an empty directory below its new home, for what needs no project.
    pub(super) fn alone(program: &Program) -> io::Result<Self> {
        let mut run = Self::new(program, Path::new("."))?;
        let place = run.home("work");
        fs::create_dir(&place)?;
        run.command.current_dir(place);
        Ok(run)
    }

    /// A path in the new home.
    pub(super) fn home(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a configuration file into the new home.
    pub(super) fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.home(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    pub(super) fn arguments<S: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = S>) {
        self.command.args(arguments);
    }

    pub(super) fn variable(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.command.env(name, value);
    }

    /// Starts the client and waits for its end, at most [`LIMIT`]. Dropping the future ends the client too.
    pub(super) async fn finish(self) -> io::Result<Outcome> {
        self.finish_within(LIMIT).await
    }

    /// As `finish`. The output goes through files: it is there after a client was ended, and a grandchild
    /// that keeps a pipe open delays nobody.
    pub(super) async fn finish_within(mut self, limit: Duration) -> io::Result<Outcome> {
        let (stdout, stderr) = (self.home(".stdout"), self.home(".stderr"));
        self.command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let started = Instant::now();
        let mut child = self.command.kill_on_drop(true).spawn()?;
        let end = timeout(limit, child.wait()).await;
        let seconds = started.elapsed().as_secs_f64();
        let (stdout, stderr) = (read(&stdout)?, read(&stderr)?);
        let mut outcome = Outcome { success: false, exit_code: None, seconds, stdout, stderr };
        match end {
            Ok(status) => {
                let status = status?;
                (outcome.success, outcome.exit_code) = (status.success(), status.code());
            }
            Err(_) => {
                child.kill().await?;
                outcome.stderr += &format!("\nended by the driver after {} s\n", limit.as_secs());
            }
        }
        Ok(outcome)
    }

    pub(super) fn new(program: &Program, dir: &Path) -> io::Result<Self> {
        let home = scratch()?;
        let mut command = Command::new(&program.0);
        command.current_dir(dir).env_clear().env("HOME", home.path());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        for (name, folder) in XDG {
            command.env(name, home.path().join(folder));
        }
        Ok(Self { home, command })
    }
}

fn read(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
