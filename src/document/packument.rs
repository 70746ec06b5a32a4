//! The npm packument: its abbreviated form, and what it says about one tarball.
//!
//! The service always sends the full document, of which an install needs about an eighth (facts §3.1). The
//! abbreviated form is made in one pass that copies the kept fields byte for byte, so the memory needed is
//! that of the result. Values are not interpreted, except `scripts`, from which `hasInstallScript` is derived.

use std::{borrow::Cow, collections::HashMap, fmt};

use memchr::memmem;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::check::{DocumentError, text_of};

/// Fields of a version that the abbreviated form keeps.
///
/// The registry's `package-metadata` page names most of them. Beyond it: `libc` (pnpm picks platform packages
/// by it), `license` (npm copies it into the lockfile), `dependenciesMeta` (yarn), `acceptDependencies` (npm),
/// `gypfile` (npm compiles a package with a `binding.gyp` unless it says false). `hasInstallScript` is derived.
pub const VERSION_FIELDS: [&str; 23] = [
    "name",
    "version",
    "deprecated",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "dependenciesMeta",
    "acceptDependencies",
    "bin",
    "directories",
    "dist",
    "engines",
    "cpu",
    "os",
    "libc",
    "funding",
    "license",
    "gypfile",
    "_hasShrinkwrap",
];

/// Scripts that run when a package is installed; npm looks for them only where `hasInstallScript` is true.
const INSTALL_SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

/// What a packument says about the bytes of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dist {
    /// The version whose tarball it is.
    pub version: String,
    /// SHA-1 in hexadecimal digits.
    pub shasum: Option<String>,
    /// Subresource integrity, often absent on this service (facts §3.1).
    pub integrity: Option<String>,
}

/// Makes the `application/vnd.npm.install-v1+json` form of a full packument.
///
/// Kept are `name`, `modified` (else from `time.modified`), `dist-tags`, `versions` and `time`, in their order.
/// `time` is more than the registry's own abbreviated form has: with it pnpm does not ask for the full document
/// again to see how old a version is. Duplicate keys stay duplicate, so that the last one wins as before.
///
/// # Errors
/// [`DocumentError::Encoding`], or [`DocumentError::Shape`] if the body is no JSON object with versions that are
/// objects.
pub fn abbreviate(full: &[u8]) -> Result<Vec<u8>, DocumentError> {
    let text = text_of(full)?;
    let mut out = Vec::with_capacity(full.len() / 8);
    let mut source = serde_json::Deserializer::from_str(text);
    let made = source.deserialize_map(Abbreviator(&mut out)).and_then(|()| source.end());
    made.map_err(|error| DocumentError::Shape(error.to_string()))?;
    // It is kept for long, so the room for growth is given back.
    out.shrink_to_fit();
    Ok(out)
}

/// Finds the version whose `dist.tarball` is a file named `tarball_file`.
///
/// `None` if there is none, or if the document is no packument. One pass, nothing is built for other versions.
pub fn dist_of(full: &[u8], tarball_file: &str) -> Option<Dist> {
    let ending = format!("/{tarball_file}");
    let finder = memmem::Finder::new(&ending);
    finder.find(full)?;
    let mut source = serde_json::Deserializer::from_str(text_of(full).ok()?);
    let mut search = Search { finder: &finder, ending: &ending, found: None };
    source.deserialize_map(InVersions(&mut search)).ok()?;
    search.found
}

/// The object of the version that `spec` names, a version as it is written or else a dist-tag; `None` if there is none.
///
/// The object is a part of `full`, not a copy. Nothing is built but a table of the versions' names.
///
/// # Errors
/// [`DocumentError::Encoding`], or [`DocumentError::Shape`] if the body is no packument.
pub fn manifest_of<'d>(full: &'d [u8], spec: &str) -> Result<Option<&'d str>, DocumentError> {
    let members = members(text_of(full)?)?;
    let versions = inner(&members, "versions")?;
    let found = match versions.get(spec) {
        Some(version) => Some(version),
        None => tagged(&members, spec)?.and_then(|version| versions.get(version.as_ref())),
    };
    Ok(found.map(|version| version.get()).filter(|version| version.starts_with('{')))
}

/// The object of all dist-tags, a part of `full`; an empty one if there are none.
///
/// # Errors
/// As [`manifest_of`].
pub fn dist_tags_of(full: &[u8]) -> Result<&str, DocumentError> {
    let members = members(text_of(full)?)?;
    let tags = members.get("dist-tags").map(|tags| tags.get());
    Ok(tags.filter(|tags| tags.starts_with('{')).unwrap_or("{}"))
}

/// The version of one dist-tag; `None` if there is no such tag.
///
/// # Errors
/// As [`manifest_of`].
pub fn dist_tag_of<'d>(full: &'d [u8], tag: &str) -> Result<Option<Cow<'d, str>>, DocumentError> {
    tagged(&members(text_of(full)?)?, tag)
}

/// The members of an object; of duplicates the last, as for JavaScript.
type Members<'d> = HashMap<Key<'d>, &'d RawValue>;

fn members(object: &str) -> Result<Members<'_>, DocumentError> {
    serde_json::from_str(object).map_err(|error| DocumentError::Shape(error.to_string()))
}

/// The members of the object `name`; none if it is not there or `null`.
fn inner<'d>(members: &Members<'d>, name: &str) -> Result<Members<'d>, DocumentError> {
    match members.get(name) {
        Some(object) if object.get() != "null" => self::members(object.get()),
        Some(_) | None => Ok(Members::new()),
    }
}

fn tagged<'d>(members: &Members<'d>, tag: &str) -> Result<Option<Cow<'d, str>>, DocumentError> {
    let tags = inner(members, "dist-tags")?;
    Ok(tags.get(tag).and_then(|version| serde_json::from_str::<Key<'d>>(version.get()).ok()).map(|key| key.0))
}

/// A key of an object, borrowed unless it holds escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::borrow::Borrow<str> for Key<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Writes an object field by field.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

/// Copies the kept part of a packument.
struct Abbreviator<'o>(&'o mut Vec<u8>);

/// Copies the object of all versions.
struct Versions<'o>(&'o mut Vec<u8>);

/// Copies the kept part of one version.
struct Version<'o>(&'o mut Vec<u8>);

/// A search for the version that has a certain tarball.
struct Search<'s> {
    finder: &'s memmem::Finder<'s>,
    ending: &'s str,
    found: Option<Dist>,
}

/// Runs a search over the versions of a packument.
struct InVersions<'r, 's>(&'r mut Search<'s>);

/// Runs a search over the object of all versions.
struct EachVersion<'r, 's>(&'r mut Search<'s>);

/// The part of a version that [`Dist`] is made of.
#[derive(Deserialize)]
struct DistFields<'a> {
    #[serde(borrow)]
    dist: DistObject<'a>,
}

#[derive(Deserialize)]
struct DistObject<'a> {
    #[serde(borrow)]
    tarball: Cow<'a, str>,
    #[serde(default)]
    shasum: Option<String>,
    #[serde(default)]
    integrity: Option<String>,
}

// === impl Object ===

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes a key and its colon; the value is written to what this returns.
    fn key<E: serde::de::Error>(&mut self, key: &str) -> Result<&mut Vec<u8>, E> {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        serde_json::to_writer(&mut *self.out, key).map_err(E::custom)?;
        self.out.push(b':');
        Ok(self.out)
    }

    fn field<E: serde::de::Error>(&mut self, key: &str, value: &str) -> Result<(), E> {
        self.key::<E>(key)?.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

// === impl Abbreviator ===

impl<'de> Visitor<'de> for Abbreviator<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a packument")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = Object::open(self.0);
        let mut modified = None;
        let mut has_modified = false;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "versions" => map.next_value_seed(Versions(object.key(&key)?))?,
                "name" | "dist-tags" | "modified" | "time" => {
                    let value: &RawValue = map.next_value()?;
                    object.field(&key, value.get())?;
                    has_modified |= key == "modified";
                    modified = if key == "time" { modified_of(value) } else { modified };
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if let Some(modified) = modified.filter(|_| !has_modified) {
            object.field("modified", modified.get())?;
        }
        object.close();
        Ok(())
    }
}

/// The `modified` entry of the object `time`.
fn modified_of(time: &RawValue) -> Option<&RawValue> {
    let mut times: HashMap<Key<'_>, &RawValue> = serde_json::from_str(time.get()).ok()?;
    times.remove(&Key("modified".into()))
}

// === impl Versions ===

impl<'de> DeserializeSeed<'de> for Versions<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Versions<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of versions")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = Object::open(self.0);
        while let Some(Key(key)) = map.next_key()? {
            map.next_value_seed(Version(object.key(&key)?))?;
        }
        object.close();
        Ok(())
    }
}

// === impl Version ===

impl<'de> DeserializeSeed<'de> for Version<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Version<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = Object::open(self.0);
        let mut runs_scripts = false;
        let mut says: Option<&RawValue> = None;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "scripts" => runs_scripts = has_install_script(map.next_value()?),
                "hasInstallScript" => says = Some(map.next_value()?),
                field if VERSION_FIELDS.contains(&field) => {
                    object.field(field, map.next_value::<&RawValue>()?.get())?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if runs_scripts {
            object.field("hasInstallScript", "true")?;
        } else if let Some(says) = says {
            object.field("hasInstallScript", says.get())?;
        }
        object.close();
        Ok(())
    }
}

/// Whether an object of scripts has one that runs at install time; an empty one does not count for npm.
fn has_install_script(scripts: &RawValue) -> bool {
    let scripts: Option<HashMap<Key<'_>, &RawValue>> = serde_json::from_str(scripts.get()).ok();
    let set = |value: &&RawValue| value.get().starts_with('"') && value.get() != r#""""#;
    scripts.is_some_and(|scripts| {
        INSTALL_SCRIPTS.iter().any(|name| scripts.get(&Key((*name).into())).is_some_and(set))
    })
}

// === impl InVersions ===

impl<'de> Visitor<'de> for InVersions<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a packument")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if key == "versions" {
                map.next_value_seed(EachVersion(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

// === impl EachVersion ===

impl<'de> DeserializeSeed<'de> for EachVersion<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EachVersion<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of versions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(version)) = map.next_key()? {
            if self.0.found.is_some() {
                map.next_value::<IgnoredAny>()?;
            } else {
                let value: &RawValue = map.next_value()?;
                self.0.found = self.0.look(&version, value.get());
            }
        }
        Ok(())
    }
}

// === impl Search ===

impl Search<'_> {
    /// Looks into one version; parsed only if the file's name is somewhere in it.
    fn look(&self, version: &str, object: &str) -> Option<Dist> {
        self.finder.find(object.as_bytes())?;
        let DistObject { tarball, shasum, integrity } =
            serde_json::from_str::<DistFields<'_>>(object).ok()?.dist;
        let path = tarball.split(['?', '#']).next()?;
        path.ends_with(self.ending).then(|| Dist { version: version.to_owned(), shasum, integrity })
    }
}

#[cfg(test)]
mod tests;
