//! npm packages of a feed and the packument that the service makes of them (facts §3.1).

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use super::{FIRST_INGESTION, FeedState, Named, Presence};
use crate::clock;
use crate::content::artifact::{Artifact, lower_hex};
use crate::content::folder;
use crate::content::npm::NpmPackage;
use crate::content::seed::Seed;
use crate::content::tarball::{self, Traits};
use crate::content::version;

/// An npm package of a feed.
#[derive(Clone, Default)]
pub(crate) struct Npm {
    pub(crate) name: String,
    pub(crate) releases: Vec<NpmRelease>,
    /// Deleted versions.
    pub(crate) recycled: Vec<NpmRelease>,
    /// Tags that were set; `latest` is worked out unless it is here.
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) fields: Map<String, Value>,
    /// Goes up with every change to the package.
    changes: u64,
}

/// What a packument holds beside the usual.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackumentForm {
    /// `dist.integrity`
    pub(crate) integrity: bool,
    /// `_rev`
    pub(crate) revision: bool,
}

/// A version of an npm package.
#[derive(Clone)]
pub(crate) struct NpmRelease {
    pub(crate) version: String,
    pub(crate) manifest: Map<String, Value>,
    pub(crate) deprecated: Option<String>,
    pub(crate) shasum: Option<String>,
    pub(crate) presence: Presence,
    pub(crate) artifact: Arc<Artifact>,
    /// Seconds since the epoch.
    pub(crate) ingested: u64,
    /// For real tarballs, what only a look through the archive tells.
    traits: Option<Arc<OnceLock<Traits>>>,
}

// === impl Npm ===

impl Npm {
    pub(crate) fn release(&self, version: &str, view: Option<&Named>) -> Option<&NpmRelease> {
        self.releases.iter().find(|release| release.version == version && release.presence.shows_in(view))
    }

    /// The CouchDB revision: `{number of the change}-{32 hex digits}`.
    pub(crate) fn revision(&self) -> String {
        let digest = Sha1::digest(format!("{} {}", self.name, self.changes));
        format!("{}-{}", self.changes, lower_hex(&digest[..16]))
    }

    /// The tags of versions that the view shows, `latest` always among them; nothing when it shows none.
    pub(crate) fn shown_tags(&self, view: Option<&Named>) -> Option<Map<String, Value>> {
        let shown = self.shown(view);
        let latest = latest(&shown)?;
        let mut tags: Map<String, Value> = [("latest".to_owned(), json!(latest))].into_iter().collect();
        let visible = |version: &str| shown.iter().any(|release| release.version == version);
        let own = self.tags.iter().filter(|(_, version)| visible(version));
        tags.extend(own.map(|(tag, version)| (tag.clone(), json!(version))));
        Some(tags)
    }

    /// The packument, or nothing when the view shows no version. `base` ends in `/`. May hash every file: not for async threads.
    pub(crate) fn packument(&self, base: &str, view: Option<&Named>, form: PackumentForm) -> Option<Bytes> {
        let (shown, tags) = (self.shown(view), self.shown_tags(view)?);
        let describe = |release: &&NpmRelease| {
            (release.version.clone(), release.describe(&self.name, base, form.integrity))
        };
        let stamp = |release: &&NpmRelease| (release.version.clone(), json!(stamp(release.ingested)));
        let mut packument: Map<String, Value> = Map::new();
        packument.insert("_id".to_owned(), json!(self.name));
        if form.revision {
            packument.insert("_rev".to_owned(), json!(self.revision()));
        }
        packument.insert("name".to_owned(), json!(self.name));
        packument.insert("dist-tags".to_owned(), Value::Object(tags));
        packument.insert("versions".to_owned(), Value::Object(shown.iter().map(describe).collect()));
        packument.insert("time".to_owned(), Value::Object(shown.iter().map(stamp).collect()));
        packument.extend(self.fields.clone());
        Some(serde_json::to_vec(&packument).expect("a packument is valid JSON").into())
    }

    fn shown(&self, view: Option<&Named>) -> Vec<&NpmRelease> {
        self.releases.iter().filter(|release| release.presence.shows_in(view)).collect()
    }
}

/// The highest released version, or the highest of all if none is released.
fn latest(shown: &[&NpmRelease]) -> Option<String> {
    let order = |left: &&&NpmRelease, right: &&&NpmRelease| {
        let rank = |release: &NpmRelease| !version::is_prerelease(&release.version);
        rank(left).cmp(&rank(right)).then_with(|| version::compare(&left.version, &right.version))
    };
    shown.iter().max_by(order).map(|release| release.version.clone())
}

fn stamp(epoch: u64) -> String {
    clock::iso(epoch).replace('Z', ".000Z")
}

// === impl NpmRelease ===

impl NpmRelease {
    pub(crate) fn published(version: &str, manifest: Map<String, Value>, tarball: Bytes) -> Self {
        let artifact = Arc::new(Artifact::kept(tarball));
        Self::new(version, manifest, artifact, clock::now())
    }

    fn new(version: &str, manifest: Map<String, Value>, artifact: Arc<Artifact>, ingested: u64) -> Self {
        Self {
            version: version.to_owned(),
            manifest,
            deprecated: None,
            shasum: None,
            presence: Presence::default(),
            artifact,
            ingested,
            traits: None,
        }
    }

    /// The file name in URLs: without the scope.
    pub(crate) fn file_name(name: &str, version: &str) -> String {
        format!("{}-{version}.tgz", name.rsplit('/').next().unwrap_or(name))
    }

    fn describe(&self, name: &str, base: &str, with_integrity: bool) -> Value {
        let mut manifest = self.manifest.clone();
        let digests = self.artifact.digests();
        manifest.insert("_id".to_owned(), json!(format!("{name}@{}", self.version)));
        self.describe_traits(&mut manifest);
        if let Some(message) = &self.deprecated {
            manifest.insert("deprecated".to_owned(), json!(message));
        }
        let shasum = self.shasum.as_ref().unwrap_or(&digests.sha1);
        let tarball = format!("{base}{name}/-/{}", Self::file_name(name, &self.version));
        let mut dist = json!({ "shasum": shasum, "tarball": tarball });
        if with_integrity {
            dist["integrity"] = json!(digests.integrity);
        }
        manifest.insert("dist".to_owned(), dist);
        Value::Object(manifest)
    }

    /// What npm itself adds to a manifest on publication.
    fn describe_traits(&self, manifest: &mut Map<String, Value>) {
        let Some(traits) = &self.traits else { return };
        let traits = traits.get_or_init(|| tarball::read_traits(&self.artifact.bytes()));
        manifest.insert("_hasShrinkwrap".to_owned(), json!(traits.shrinkwrap));
        let scripts = manifest.get("scripts").and_then(Value::as_object);
        let has = |name: &&str| scripts.is_some_and(|scripts| scripts.contains_key(*name));
        let own_script = ["preinstall", "install", "postinstall"].iter().any(has);
        let builds = traits.native && !["preinstall", "install"].iter().any(has);
        if builds {
            manifest.insert("gypfile".to_owned(), json!(true));
            let scripts = manifest.entry("scripts").or_insert_with(|| json!({}));
            scripts["install"] = json!("node-gyp rebuild");
        }
        if own_script || builds {
            manifest.insert("hasInstallScript".to_owned(), json!(true));
        }
    }
}

// === impl FeedState ===

impl FeedState {
    /// Adds the versions of a described package; a version that exists already is replaced.
    pub(crate) fn add_npm(&mut self, seed: Seed, described: &NpmPackage) {
        for (version, content) in &described.versions {
            let manifest = content.manifest(&described.name, version);
            let recipe = content.recipe(seed, &described.name, version);
            let mut release = NpmRelease::new(version, manifest, Arc::new(Artifact::made(recipe)), 0);
            release.deprecated.clone_from(&content.deprecated);
            release.shasum.clone_from(&content.shasum);
            release.presence =
                Presence { views: content.views.clone(), unsaved: content.unsaved, ..Presence::default() };
            self.put_npm(&described.name, release);
        }
        let package = self.npm_mut(&described.name);
        package.tags.extend(described.tags.clone());
        package.fields.extend(described.fields.clone());
    }

    pub(super) fn add_npm_folder(&mut self, folder: &Path) -> io::Result<()> {
        for (path, mut manifest) in folder::npm(folder)? {
            let text = |field: &str| manifest.get(field).and_then(Value::as_str).map(str::to_owned);
            let (Some(name), Some(version)) = (text("name"), text("version")) else {
                return Err(io::Error::other(format!("{}: no name or no version", path.display())));
            };
            normalise(&mut manifest, &name);
            let mut release = NpmRelease::new(&version, manifest, Arc::new(Artifact::file(path)), 0);
            release.traits = Some(Arc::new(OnceLock::new()));
            self.put_npm(&name, release);
        }
        Ok(())
    }

    /// Adds or replaces a version. An ingestion stamp of 0 gets the next hour of the deterministic calendar.
    pub(crate) fn put_npm(&mut self, name: &str, mut release: NpmRelease) {
        let package = self.npm_mut(name);
        if release.ingested == 0 {
            release.ingested = FIRST_INGESTION + 3600 * package.releases.len() as u64;
        }
        match package.releases.iter_mut().find(|existing| existing.version == release.version) {
            Some(existing) => *existing = release,
            None => package.releases.push(release),
        }
    }

    /// Points a tag at a version.
    pub(crate) fn tag_npm(&mut self, name: &str, tag: &str, version: &str) {
        let tags = &mut self.npm_mut(name).tags;
        tags.retain(|(own, _)| own != tag);
        tags.push((tag.to_owned(), version.to_owned()));
    }

    /// Removes a tag; `false` if there is none like this.
    pub(crate) fn untag_npm(&mut self, name: &str, tag: &str) -> bool {
        let known = self.npm.get(name).is_some_and(|own| own.tags.iter().any(|(own, _)| own == tag));
        if known {
            self.npm_mut(name).tags.retain(|(own, _)| own != tag);
        }
        known
    }

    /// Replaces all tags. A `latest` that would be worked out anyway stays so.
    pub(crate) fn retag_npm(&mut self, name: &str, tags: &Map<String, Value>) {
        let package = self.npm_mut(name);
        let was_set = package.tags.iter().any(|(tag, _)| tag == "latest");
        package.tags.clear();
        let usual = latest(&package.shown(None));
        for (tag, version) in tags {
            let version = version.as_str().unwrap_or_default();
            if was_set || tag != "latest" || usual.as_deref() != Some(version) {
                package.tags.push((tag.clone(), version.to_owned()));
            }
        }
    }

    /// Deprecates a version, or ends that.
    pub(crate) fn deprecate_npm(&mut self, name: &str, version: &str, message: Option<&str>) {
        let mut releases = self.npm_mut(name).releases.iter_mut();
        if let Some(release) = releases.find(|release| release.version == version) {
            release.deprecated = message.map(str::to_owned);
        }
    }

    /// Removes the versions that are not to stay; the package goes with its last one.
    pub(crate) fn retain_npm(&mut self, name: &str, stays: impl Fn(&str) -> bool) {
        let package = self.npm_mut(name);
        package.releases.retain(|release| stays(&release.version));
        if package.releases.is_empty() {
            self.forget_npm(name);
        }
    }

    /// Removes a package.
    pub(crate) fn forget_npm(&mut self, name: &str) {
        self.npm.remove(name);
    }

    /// The package for a change; a new one if there is none.
    pub(crate) fn npm_mut(&mut self, name: &str) -> &mut Npm {
        let empty = || Arc::new(Npm { name: name.to_owned(), ..Npm::default() });
        let package = Arc::make_mut(self.npm.entry(name.to_owned()).or_insert_with(empty));
        package.changes += 1;
        package
    }
}

/// `bin` as a text means one command named like the package; npm publishes it as a table.
fn normalise(manifest: &mut Map<String, Value>, name: &str) {
    if let Some(path) = manifest.get("bin").and_then(Value::as_str).map(str::to_owned) {
        let command = name.rsplit('/').next().unwrap_or(name).to_owned();
        manifest.insert("bin".to_owned(), json!({ command: path }));
    }
}
