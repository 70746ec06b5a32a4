//! What a test says about an npm package, and the real tarball that is made of it.
//!
//! Equal descriptions give equal bytes in every feed and organisation of one seed, so the same package in two feeds
//! is one blob; [`NpmVersion::salt`] makes the bytes differ where a test needs that.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::artifact::Recipe;
use super::seed::Seed;
use super::tarball;

/// What the archive and the compressor add to the filler, about.
const TARBALL_OVERHEAD: usize = 700;

/// An npm package of a feed: a name (case-sensitive, scope included) and its versions.
#[derive(Clone, Debug)]
pub struct NpmPackage {
    pub(crate) name: String,
    pub(crate) versions: Vec<(String, NpmVersion)>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) fields: Map<String, Value>,
}

/// One version of an npm package.
#[derive(Clone, Debug, Default)]
pub struct NpmVersion {
    pub(crate) size: usize,
    pub(crate) fields: Map<String, Value>,
    pub(crate) deprecated: Option<String>,
    pub(crate) shasum: Option<String>,
    pub(crate) views: Vec<String>,
    pub(crate) unsaved: bool,
    files: Vec<(String, Bytes)>,
    salt: String,
}

// === impl NpmPackage ===

impl NpmPackage {
    /// A package without versions; `name` may be scoped (`@contoso/ui`).
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), versions: Vec::new(), tags: Vec::new(), fields: Map::new() }
    }

    /// Adds a version.
    pub fn version(mut self, version: &str, content: NpmVersion) -> Self {
        self.versions.push((version.to_owned(), content));
        self
    }

    /// Adds the versions `1.0.0`, `1.0.1` and so on, `count` in all, alike in content.
    pub fn versions(mut self, count: usize, content: &NpmVersion) -> Self {
        self.versions.extend((0..count).map(|patch| (format!("1.0.{patch}"), content.clone())));
        self
    }

    /// Points a dist-tag at a version. `latest` is the highest released version unless set here.
    pub fn tag(mut self, tag: &str, version: &str) -> Self {
        self.tags.push((tag.to_owned(), version.to_owned()));
        self
    }

    /// Sets a top-level field of the packument, such as `readme`: the way to make a packument big.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.to_owned(), value);
        self
    }
}

// === impl NpmVersion ===

impl NpmVersion {
    /// A version of about a kilobyte without dependencies.
    pub fn new() -> Self {
        Self::default()
    }

    /// The approximate size of the tarball in bytes; the filler does not compress.
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// Adds a dependency on a version range.
    pub fn dependency(self, name: &str, range: &str) -> Self {
        self.entry("dependencies", name, json!(range))
    }

    /// Adds a command: a small Node script that prints the package's name and version.
    pub fn bin(mut self, command: &str) -> Self {
        let script = "#!/usr/bin/env node\nconst own = require('../package.json');\nconsole.log(own.name + '@' + own.version);\n";
        self.files.push((format!("bin/{command}.js"), Bytes::from_static(script.as_bytes())));
        self.entry("bin", command, json!(format!("bin/{command}.js")))
    }

    /// Sets a field of the manifest (`engines`, `os`, `peerDependencies`, ...).
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.to_owned(), value);
        self
    }

    /// Adds a file below the package's root.
    pub fn file(mut self, path: &str, bytes: impl Into<Bytes>) -> Self {
        self.files.push((path.to_owned(), bytes.into()));
        self
    }

    /// Marks the version as deprecated, with the message that clients print.
    pub fn deprecated(mut self, message: &str) -> Self {
        self.deprecated = Some(message.to_owned());
        self
    }

    /// Makes the bytes differ from those of the same name and version elsewhere.
    pub fn salt(mut self, salt: &str) -> Self {
        salt.clone_into(&mut self.salt);
        self
    }

    /// Puts the version into a view (`release`, `prerelease`, ...) beside `local`.
    pub fn promoted_to(mut self, view: &str) -> Self {
        self.views.push(view.to_owned());
        self
    }

    /// The version is known from an upstream source and not saved to the feed yet (facts §3.3): only a caller who may
    /// write gets the bytes, and its first download saves the version.
    pub fn unsaved(mut self) -> Self {
        self.unsaved = true;
        self
    }

    /// Makes the packument tell this SHA-1 instead of the true one.
    pub fn shasum(mut self, hex: &str) -> Self {
        self.shasum = Some(hex.to_owned());
        self
    }

    fn entry(mut self, field: &str, name: &str, value: Value) -> Self {
        let table = self.fields.entry(field).or_insert_with(|| json!({}));
        if let Some(table) = table.as_object_mut() {
            table.insert(name.to_owned(), value);
        }
        self
    }

    /// The `package.json` of the version, as it also stands in the packument.
    pub(crate) fn manifest(&self, name: &str, version: &str) -> Map<String, Value> {
        let mut manifest = Map::new();
        manifest.insert("name".to_owned(), json!(name));
        manifest.insert("version".to_owned(), json!(version));
        manifest.insert("description".to_owned(), json!(format!("Simulated package {name}")));
        manifest.insert("main".to_owned(), json!("index.js"));
        manifest.insert("license".to_owned(), json!("MIT"));
        manifest.extend(self.fields.clone());
        manifest
    }

    /// How to make the tarball.
    pub(crate) fn recipe(&self, seed: Seed, name: &str, version: &str) -> Recipe {
        let (content, label) = (self.clone(), format!("npm/{name}/{version}/{}", self.salt));
        let manifest = self.manifest(name, version);
        Arc::new(move || {
            let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is valid JSON");
            let index = format!("module.exports = {};\n", json!(label));
            let mut entries = vec![("package.json".to_owned(), text), ("index.js".to_owned(), index.into())];
            entries.extend(content.files.iter().map(|(path, bytes)| (path.clone(), bytes.to_vec())));
            let used: usize = entries.iter().map(|(_, bytes)| bytes.len() / 2).sum();
            let filler = content.size.saturating_sub(TARBALL_OVERHEAD + used);
            if filler > 0 {
                entries.push(("filler.bin".to_owned(), seed.noise(&label).bytes(filler)));
            }
            tarball::write(&entries).into()
        })
    }
}
