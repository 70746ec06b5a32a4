//! Lockfiles: what a build has decided to install, read from the file that its package manager wrote.
//!
//! Text in, [`Lockfile`] out; nothing is looked up and nothing is asked. One file for each format reads it, from a `tree`
//! that JSON and YAML share. Every mistake names the file, the line and the rule, and no text makes a reader panic or work
//! for long: a file has at most [`MAX_BYTES`], nests at most some hundred levels deep, and YAML's anchors, which could make
//! a small file a large one, are refused (no package manager writes any).
//!
//! What a lockfile holds that no registry serves is told apart: what lies in the checkout itself (workspaces, links, files,
//! what is bundled in another package) is left out, and what comes from elsewhere (git, plain URLs) is a [`Foreign`], since
//! no registry can make up for it. [`needs()`] says what a client will ask of a feed to install the rest.

mod bun;
mod content_hash;
mod integrity;
mod needs;
mod npm;
mod nuget;
mod origin;
mod pnpm;
#[cfg(test)]
mod tests;
mod tree;
mod yarn_berry;
mod yarn_classic;

use std::{collections::HashSet, fmt};

use crate::ident::{NpmName, NugetId, NugetVersion};
use origin::Origin;
use tree::Node;

pub use content_hash::nuget_content_hash;
pub use integrity::{Checking, Integrity};
pub use needs::{Need, NeedError, needs};

/// Largest file that is read, in bytes. The largest that are known to exist have a few million.
pub const MAX_BYTES: usize = 32 << 20;

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `package-lock.json` and `npm-shrinkwrap.json`, versions 1 to 3.
    Npm,
    /// `pnpm-lock.yaml`, versions 6 and 9.
    Pnpm,
    /// `yarn.lock` of Yarn 1.
    YarnClassic,
    /// `yarn.lock` of Yarn 2 and later.
    YarnBerry,
    /// `bun.lock`.
    Bun,
    /// NuGet's `packages.lock.json`.
    NugetLock,
    /// NuGet's `packages.config`.
    PackagesConfig,
    /// NuGet's `project.assets.json`.
    ProjectAssets,
}

/// What a lockfile says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockfile {
    /// Its format.
    pub format: Format,
    /// What registries serve, each version once, in the file's order.
    pub packages: Vec<Locked>,
    /// What they don't.
    pub foreign: Vec<Foreign>,
}

/// A package version that a build installs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Locked {
    /// Which.
    pub package: LockedPackage,
    /// What its bytes are checked against; `None` where the file says nothing of them.
    pub integrity: Option<Integrity>,
    /// The URL from which it came, where the file tells.
    pub resolved: Option<String>,
    /// Whether some builds do without it: it is for other platforms, or may fail.
    pub optional: bool,
}

/// A package and its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LockedPackage {
    /// Of npm.
    Npm {
        /// Name.
        name: NpmName,
        /// Version, as npm writes it.
        version: String,
    },
    /// Of NuGet.
    Nuget {
        /// Id.
        id: NugetId,
        /// Version, normalised.
        version: NugetVersion,
    },
}

/// A dependency that no registry serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Foreign {
    /// What the file calls it.
    pub name: String,
    /// From where it comes.
    pub source: String,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {rule}")]
pub struct LockfileError {
    /// Its name, as it was given.
    pub file: String,
    /// Where, from 1.
    pub line: usize,
    /// What does not hold there.
    pub rule: String,
}

/// The same before the file is known.
#[derive(Debug)]
struct Mistake {
    line: usize,
    rule: String,
}

/// What a reader has found so far.
#[derive(Default)]
struct Found {
    packages: Vec<Locked>,
    foreign: Vec<Foreign>,
}

/// Reads the file `name`; its format is known by that name, or else by what is in it.
///
/// # Errors
/// [`LockfileError`], when it is of no known format or breaks its rules.
pub fn read(name: &str, bytes: &[u8]) -> Result<Lockfile, LockfileError> {
    let error = |Mistake { line, rule }| LockfileError { file: name.to_owned(), line, rule };
    read_text(name, bytes).map_err(error)
}

fn read_text(name: &str, bytes: &[u8]) -> Result<Lockfile, Mistake> {
    if bytes.len() > MAX_BYTES {
        return Err(Mistake::at(1, format!("has {} bytes, more than {MAX_BYTES}", bytes.len())));
    }
    if name.ends_with("bun.lockb") {
        return Err(Mistake::at(
            1,
            "is Bun's binary form: `bun install --save-text-lockfile` writes `bun.lock`",
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Mistake::at(1 + memchr::memchr_iter(b'\n', before).count(), "is not UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let format = Format::of(name, text).ok_or_else(|| {
        let known = "package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock, bun.lock, \
                     packages.lock.json, packages.config or project.assets.json";
        Mistake::at(1, format!("is no lockfile that is known: {known}"))
    })?;
    let found = format.read(text)?;
    let mut seen = HashSet::new();
    let packages = found.packages.into_iter().filter(|one| seen.insert(one.clone())).collect();
    let mut seen = HashSet::new();
    let foreign = found.foreign.into_iter().filter(|one| seen.insert(one.clone())).collect();
    Ok(Lockfile { format, packages, foreign })
}

// === impl Format ===

impl Format {
    /// The format of a file.
    fn of(name: &str, text: &str) -> Option<Self> {
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "package-lock.json" | "npm-shrinkwrap.json" => Some(Self::Npm),
            "pnpm-lock.yaml" => Some(Self::Pnpm),
            "yarn.lock" if yarn_berry::is_one(text) => Some(Self::YarnBerry),
            "yarn.lock" => Some(Self::YarnClassic),
            "bun.lock" => Some(Self::Bun),
            "packages.lock.json" => Some(Self::NugetLock),
            "packages.config" => Some(Self::PackagesConfig),
            "project.assets.json" => Some(Self::ProjectAssets),
            _ => Self::of_content(text),
        }
    }

    /// Lockfiles may be renamed: pnpm names them after branches, NuGet after projects.
    fn of_content(text: &str) -> Option<Self> {
        let has = |part: &str| text.contains(part);
        match text.trim_start().bytes().next()? {
            b'<' => has("<packages").then_some(Self::PackagesConfig),
            b'{' if has("\"lockfileVersion\"") && has("\"workspaces\"") && !has("\"node_modules/") => {
                Some(Self::Bun)
            }
            b'{' if has("\"lockfileVersion\"") => Some(Self::Npm),
            b'{' if has("\"libraries\"") && has("\"targets\"") => Some(Self::ProjectAssets),
            b'{' if has("\"dependencies\"") && has("\"resolved\"") => Some(Self::NugetLock),
            b'{' => None,
            _ if yarn_berry::is_one(text) => Some(Self::YarnBerry),
            _ if has("# yarn lockfile v1") => Some(Self::YarnClassic),
            _ => has("lockfileVersion:").then_some(Self::Pnpm),
        }
    }

    fn read(self, text: &str) -> Result<Found, Mistake> {
        match self {
            Self::Npm => npm::read(&Node::of_json(text)?),
            Self::Pnpm => Node::of_yaml(text).and_then(|documents| pnpm::read(&documents)),
            Self::YarnClassic => yarn_classic::read(text),
            Self::YarnBerry => Node::of_yaml(text).and_then(|documents| yarn_berry::read(&documents)),
            Self::Bun => bun::read(&Node::of_relaxed_json(text)?),
            Self::NugetLock => nuget::read_lock(&Node::of_json(text)?),
            Self::PackagesConfig => nuget::read_config(text),
            Self::ProjectAssets => nuget::read_assets(&Node::of_json(text)?),
        }
    }

    /// Whether NuGet wrote it, else a client of npm's registry.
    pub fn is_nuget(self) -> bool {
        matches!(self, Self::NugetLock | Self::PackagesConfig | Self::ProjectAssets)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::YarnClassic => "Yarn 1",
            Self::YarnBerry => "Yarn",
            Self::Bun => "Bun",
            Self::NugetLock => "packages.lock.json",
            Self::PackagesConfig => "packages.config",
            Self::ProjectAssets => "project.assets.json",
        })
    }
}

impl fmt::Display for LockedPackage {
    /// `name@version`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Npm { name, version } => write!(f, "{name}@{version}"),
            Self::Nuget { id, version } => write!(f, "{id}@{version}"),
        }
    }
}

// === impl Mistake ===

impl Mistake {
    fn at(line: usize, rule: impl Into<String>) -> Self {
        Self { line, rule: rule.into() }
    }
}

// === impl Found ===

impl Found {
    /// Takes a package of npm's from the place that `resolved` names; without one, from the registry. Where the file has
    /// no version but that place, its URL tells.
    fn npm(&mut self, line: usize, name: &str, version: &str, entry: Entry<'_>) -> Result<(), Mistake> {
        let place = entry.resolved.unwrap_or_default();
        match entry.resolved.map_or(Origin::Registry, Origin::of) {
            Origin::Checkout => return Ok(()),
            Origin::Elsewhere => {
                self.foreign(name, place);
                return Ok(());
            }
            Origin::Registry => {}
        }
        if place.is_empty() || !(version.is_empty() || version.contains(':')) {
            return self.locked(line, name, version, entry);
        }
        if let Some((name, version)) = origin::package(place) {
            return self.locked(line, name.as_str(), &version, entry);
        }
        self.foreign(name, place);
        Ok(())
    }

    /// Takes a package of npm's whose client goes to its place itself: what is no feed's there comes from elsewhere.
    fn placed(&mut self, line: usize, name: &str, entry: Entry<'_>) -> Result<(), Mistake> {
        let place = entry.resolved.unwrap_or_default();
        if Origin::of(place) == Origin::Registry && origin::package_at(place).is_none() {
            self.foreign(name, place);
            return Ok(());
        }
        self.npm(line, name, "", entry)
    }

    fn locked(&mut self, line: usize, name: &str, version: &str, entry: Entry<'_>) -> Result<(), Mistake> {
        let integrity = match entry.integrity {
            Some(text) => {
                Integrity::of_npm(text).map_err(|rule| Mistake::at(line, format!("{name}: {rule}")))?
            }
            None => None,
        };
        let integrity = integrity.or_else(|| origin::sha1_of(entry.resolved?));
        let name = NpmName::parse(name).map_err(|error| Mistake::at(line, error.to_string()))?;
        if !origin::is_npm_version(&name, version) {
            let rule = format!(
                "{name}: version {:?} is not `number.number.number[-labels][+labels]`",
                clip(version)
            );
            return Err(Mistake::at(line, rule));
        }
        let resolved = entry.resolved.map(str::to_owned);
        let package = LockedPackage::Npm { name, version: version.to_owned() };
        self.packages.push(Locked { package, integrity, resolved, optional: entry.optional });
        Ok(())
    }

    /// Takes a dependency that comes from elsewhere.
    fn foreign(&mut self, name: &str, source: &str) {
        self.foreign.push(Foreign { name: name.to_owned(), source: source.to_owned() });
    }
}

/// What npm's clients write beside name and version.
#[derive(Debug, Default, Clone, Copy)]
struct Entry<'t> {
    resolved: Option<&'t str>,
    integrity: Option<&'t str>,
    optional: bool,
}

/// The start of a text that a message quotes.
fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Name and the rest of `name@rest`, where the name may have a scope.
fn split_spec(spec: &str) -> Option<(&str, &str)> {
    let at = 1 + spec.get(1..)?.find('@')?;
    Some((spec.get(..at)?, spec.get(at + 1..)?))
}
