//! Drivers for the real package clients: npm, pnpm, Yarn 1, Yarn 4 and nuget.exe.
//!
//! A driver runs its client as a build machine would that has never seen the feed: home, configuration and
//! caches are new for every run and gone after it, and nothing of the machine's own settings reaches the
//! client (its environment is empty but for `PATH`). What differs from a build machine is deliberate:
//!
//! - package scripts never run, and audit, funding and update requests are off, so that every request a test
//!   sees is one for packages;
//! - clients do not retry where that can be switched off, so that a fault of the gate is a failed run and not
//!   a slow one. Yarn 1 and nuget.exe 5.8 have no such switch: their few retries stay.
//!
//! The clients come from `deploy/setup --clients`; `find` says `None` where that has not been run. Nothing here
//! judges a run: tests look at the [`Outcome`], the [`tree()`] that was installed and the simulator's request log.

mod client;
mod npm;
mod npm_commands;
mod nuget;
mod pnpm;
mod project;
mod run;
mod scratch;
mod tree;
mod yarn;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use npm::Npm;
pub use nuget::Nuget;
pub use pnpm::Pnpm;
pub use project::Project;
pub use tree::tree;
pub use yarn::{YarnBerry, YarnClassic};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Where packages come from, and who asks.
#[derive(Clone, Debug)]
pub struct Registry {
    /// `http://127.0.0.1:PORT/contoso/_packaging/main/npm/registry/`, or for NuGet
    /// `http://127.0.0.1:PORT/contoso/_packaging/main/nuget/v3/index.json`.
    pub url: String,
    /// `None`: the client asks anonymously.
    pub credential: Option<Credential>,
    /// Whether the client asks again after failures as it is set up to; see [`Registry::retrying`].
    retries: bool,
}

/// A user name and a personal access token, sent as Basic.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Any name will do for Azure Artifacts; it is sent all the same.
    pub user: String,
    /// The token.
    pub token: String,
}

/// How one run of a client ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The client exited with 0 before the time limit.
    pub success: bool,
    /// What it exited with; `None` when it was ended at the time limit or by a signal.
    pub exit_code: Option<i32>,
    /// Wall-clock time of the client alone.
    pub seconds: f64,
    /// All that the client printed.
    pub stdout: String,
    /// All that the client printed there, and a last line of ours when it was ended at the time limit.
    pub stderr: String,
}

// === impl Registry ===

impl Registry {
    /// A registry that is asked anonymously.
    pub fn anonymous(url: impl Into<String>) -> Self {
        Self { url: url.into(), credential: None, retries: false }
    }

    /// A registry that is asked with a user name and a token.
    pub fn with_token(url: impl Into<String>, user: &str, token: &str) -> Self {
        Self {
            url: url.into(),
            credential: Some(Credential { user: user.to_owned(), token: token.to_owned() }),
            retries: false,
        }
    }

    /// The client keeps the retries that it has by default, for tests of how long failures take.
    #[must_use]
    pub fn retrying(mut self) -> Self {
        self.retries = true;
        self
    }

    /// The URL without its scheme and with a slash at its end: how `.npmrc` names the place of a setting.
    fn place(&self) -> String {
        let bare = self.url.split_once(':').map_or(self.url.as_str(), |(_, rest)| rest);
        format!("{}/", bare.trim_end_matches('/'))
    }
}

// === impl Outcome ===

impl Outcome {
    /// What the client printed as JSON; null if that is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_default()
    }

    /// All that the client printed.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

// === impl Credential ===

impl Credential {
    /// `user:token` in base64, as in the Authorization header (RFC 7617 §2).
    fn basic(&self) -> String {
        STANDARD.encode(self.pair())
    }

    /// `user:token`.
    fn pair(&self) -> String {
        format!("{}:{}", self.user, self.token)
    }
}
