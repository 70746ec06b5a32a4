//! What the simulated organisation has, and what the clients install of it.

use std::path::{Path, PathBuf};

use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Token,
    clients::{Client, Project},
};

/// Where `tests/real/fetch` leaves real packages.
const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/real-packages");
/// Packages that are made up when there are no real ones.
const MADE: usize = 120;
/// NuGet packages, always made up.
const NUGET: usize = 30;

/// One organisation with one feed.
pub fn organisation(pat: &str) -> Organisation {
    let mut feed = Feed::new("main");
    if has_real() {
        feed = feed.npm_folder(Path::new(REAL).join("packages"));
    } else {
        for number in 0..MADE {
            let next = [number * 2 + 1, number * 2 + 2].into_iter().filter(|next| *next < MADE);
            let size = 2_000 + number * number * 40;
            let version = next.fold(NpmVersion::new().size(size), |version, next| {
                version.dependency(&format!("made-{next}"), "^1.0.0")
            });
            feed = feed.npm(NpmPackage::new(&format!("made-{number}")).version("1.0.0", version));
        }
    }
    for number in 0..NUGET {
        let version = NugetVersion::new().size(5_000 + number * 20_000);
        feed = feed.nuget(NugetPackage::new(&format!("Contoso.Part{number}")).version("1.0.0", version));
    }
    Organisation::new("contoso").feed(feed).token(Token::pat(pat))
}

/// What `client` installs.
pub fn project(client: &Client) -> std::io::Result<Project> {
    if client.is_nuget() {
        let ids: Vec<_> = (0..NUGET).map(|number| format!("Contoso.Part{number}")).collect();
        return Project::nuget(ids.iter().map(|id| (id.as_str(), "1.0.0")));
    }
    let made_up = r#"{"name":"made-up","version":"1.0.0","private":true,"dependencies":{"made-0":"1.0.0"}}"#;
    Project::npm(&std::fs::read_to_string(project_file()).unwrap_or_else(|_| made_up.to_owned()))
}

fn has_real() -> bool {
    project_file().exists()
}

fn project_file() -> PathBuf {
    Path::new(REAL).join("project.json")
}
