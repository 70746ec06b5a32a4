//! Any of the clients, for tests that drive all of them alike.

use std::io;

use super::{Npm, Nuget, Outcome, Pnpm, Project, Registry, YarnBerry, YarnClassic};

/// A client that was found on this machine.
#[derive(Clone, Debug)]
pub enum Client {
    /// npm.
    Npm(Npm),
    /// pnpm.
    Pnpm(Pnpm),
    /// Yarn 1.
    YarnClassic(YarnClassic),
    /// Yarn 4.
    YarnBerry(YarnBerry),
    /// nuget.exe.
    Nuget(Nuget),
}

// === impl Client ===

impl Client {
    /// The clients that are here; all five after `deploy/setup --clients`.
    pub fn found() -> Vec<Self> {
        let all = [
            Npm::find().map(Self::Npm),
            Pnpm::find().map(Self::Pnpm),
            YarnClassic::find().map(Self::YarnClassic),
            YarnBerry::find().map(Self::YarnBerry),
            Nuget::find().map(Self::Nuget),
        ];
        all.into_iter().flatten().collect()
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Npm(_) => "npm",
            Self::Pnpm(_) => "pnpm",
            Self::YarnClassic(_) => "yarn classic",
            Self::YarnBerry(_) => "yarn berry",
            Self::Nuget(_) => "nuget",
        }
    }

    /// Whether it speaks NuGet's protocol and not npm's.
    pub fn is_nuget(&self) -> bool {
        matches!(self, Self::Nuget(_))
    }

    /// Installs a project as a client that has nothing of its own.
    pub async fn install(&self, project: &Project, registry: &Registry) -> io::Result<Outcome> {
        match self {
            Self::Npm(client) => client.install(project, registry).await,
            Self::Pnpm(client) => client.install(project, registry).await,
            Self::YarnClassic(client) => client.install(project, registry).await,
            Self::YarnBerry(client) => client.install(project, registry).await,
            Self::Nuget(client) => client.install(project, registry).await,
        }
    }
}
