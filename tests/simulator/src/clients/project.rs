//! What a client installs: a directory with a manifest and perhaps a lockfile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::scratch::scratch;

/// The lockfiles of the clients here, by their fixed names.
const LOCKFILES: [&str; 3] = ["package-lock.json", "pnpm-lock.yaml", "yarn.lock"];

/// A directory of its own with a manifest in it; it is removed when the value is dropped.
#[derive(Debug)]
pub struct Project {
    scratch: TempDir,
    manifest: &'static str,
    frozen: bool,
}

// === impl Project ===

impl Project {
    /// A project for npm, pnpm or Yarn with this `package.json`.
    pub fn npm(manifest: &str) -> io::Result<Self> {
        Self::new("package.json", manifest)
    }

    /// A project for NuGet: a `packages.config` with these ids and versions.
    pub fn nuget<'a>(packages: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<Self> {
        let mut manifest = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<packages>\n");
        for (id, version) in packages {
            manifest +=
                &format!("  <package id=\"{id}\" version=\"{version}\" targetFramework=\"net472\" />\n");
        }
        Self::new("packages.config", &(manifest + "</packages>\n"))
    }

    /// The lockfile is law: `npm ci`, `--frozen-lockfile`, `--immutable`. NuGet has nothing to resolve in a
    /// `packages.config` and is the same either way.
    #[must_use]
    pub fn frozen(mut self) -> Self {
        self.frozen = true;
        self
    }

    /// Puts a file beside the manifest, for example a lockfile.
    pub fn with_file(self, name: &str, content: impl AsRef<[u8]>) -> io::Result<Self> {
        fs::write(self.dir().join(name), content)?;
        Ok(self)
    }

    /// A second checkout of the same project: its manifest and the lockfile a run has left, nothing installed.
    pub fn checkout(&self) -> io::Result<Self> {
        let twin = Self { scratch: scratch()?, manifest: self.manifest, frozen: self.frozen };
        for name in LOCKFILES.iter().chain([&self.manifest]) {
            let from = self.dir().join(name);
            if from.exists() {
                fs::copy(from, twin.dir().join(name))?;
            }
        }
        Ok(twin)
    }

    /// The project's directory.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Where packages end up: `node_modules`, or `packages` for NuGet.
    pub fn installed(&self) -> PathBuf {
        let is_nuget = self.manifest == "packages.config";
        self.dir().join(if is_nuget { "packages" } else { "node_modules" })
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    fn new(name: &'static str, manifest: &str) -> io::Result<Self> {
        let scratch = scratch()?;
        fs::write(scratch.path().join(name), manifest)?;
        Ok(Self { scratch, manifest: name, frozen: false })
    }
}
