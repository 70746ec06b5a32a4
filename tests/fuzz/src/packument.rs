//! The abbreviated packument is what the plain way over `serde_json::Value` makes of the full one.
//!
//! Input: a document. So are the readers of tags, manifests and checksums, and the guards' filter.

use std::{collections::HashSet, fmt};

use feedgate::{
    document::packument::{VERSION_FIELDS, abbreviate, dist_of, dist_tag_of, dist_tags_of, manifest_of},
    guard::{filter_packument, versions_of},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// A value whose objects have each name once.
struct Distinct;

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let short = abbreviate(input);
    let text = input.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input);
    let (Ok(full), Ok(Distinct)) = (serde_json::from_slice::<Value>(text), serde_json::from_slice(text))
    else {
        // Half a surrogate pair, a number beyond all measure or a name that is there twice: what that means is open, and
        // it may be in a part that is left out.
        if let Ok(short) = short {
            assert!(!input.is_empty() && !short.is_empty());
        }
        return;
    };
    let expected = reference(&full);
    match (short, expected) {
        (Ok(short), Some(expected)) => {
            let found: Value = serde_json::from_slice(&short).expect("valid JSON");
            assert_eq!(found, expected);
            assert_eq!(abbreviate(&short).as_deref(), Ok(&*short), "abbreviated twice");
        }
        (Err(_), None) => {}
        (short, expected) => panic!("{short:?} and not {expected:?}"),
    }
    reads_the_same(input, &full);
    is_filtered(input, &full);
}

/// The abbreviated form; `None` for what is no packument.
fn reference(full: &Value) -> Option<Value> {
    let full = full.as_object()?;
    let mut short = Map::new();
    for (key, value) in full {
        match key.as_str() {
            "versions" if value.is_null() => drop(short.insert(key.clone(), Value::Null)),
            "versions" => {
                let versions: Option<Map<_, _>> = value
                    .as_object()?
                    .iter()
                    .map(|(key, version)| Some((key.clone(), kept(version)?)))
                    .collect();
                short.insert(key.clone(), Value::Object(versions?));
            }
            "name" | "dist-tags" | "modified" | "time" => drop(short.insert(key.clone(), value.clone())),
            _ => {}
        }
    }
    if let (None, Some(modified)) =
        (full.get("modified"), full.get("time").and_then(|time| time.get("modified")))
    {
        short.insert("modified".to_owned(), modified.clone());
    }
    Some(Value::Object(short))
}

fn kept(version: &Value) -> Option<Value> {
    if version.is_null() {
        return Some(Value::Null);
    }
    let version = version.as_object()?;
    let kept = version.iter().filter(|(key, _)| VERSION_FIELDS.contains(&key.as_str()));
    let mut kept: Map<_, _> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    let script = |name: &&str| {
        let script = version.get("scripts").and_then(|scripts| scripts.get(name)).and_then(Value::as_str);
        script.is_some_and(|script| !script.is_empty())
    };
    if ["preinstall", "install", "postinstall"].iter().any(script) {
        kept.insert("hasInstallScript".to_owned(), Value::Bool(true));
    } else if let Some(says) = version.get("hasInstallScript") {
        kept.insert("hasInstallScript".to_owned(), says.clone());
    }
    Some(Value::Object(kept))
}

/// Tags, manifests and checksums are those of the document.
fn reads_the_same(input: &[u8], full: &Value) {
    if let Ok(tags) = dist_tags_of(input) {
        let tags: Value = serde_json::from_str(tags).expect("valid JSON");
        let expected = full.get("dist-tags").filter(|tags| tags.is_object());
        assert_eq!(&tags, expected.unwrap_or(&Value::Object(Map::new())));
    }
    let Some(versions) = full.get("versions").and_then(Value::as_object) else { return };
    for (name, version) in versions.iter().take(4) {
        if let Ok(found) = manifest_of(input, name) {
            let found = found.map(|text| serde_json::from_str::<Value>(text).expect("valid JSON"));
            assert_eq!(found.as_ref(), Some(version).filter(|version| version.is_object()), "{name}");
        }
        let Some(url) = version.pointer("/dist/tarball").and_then(Value::as_str) else { continue };
        let file = url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        if let Some(dist) = dist_of(input, file) {
            assert!(versions.contains_key(&dist.version));
        }
    }
    let tags = full.get("dist-tags").and_then(Value::as_object);
    for (tag, version) in tags.into_iter().flatten().take(4) {
        if let Ok(found) = dist_tag_of(input, tag) {
            assert_eq!(found.as_deref(), version.as_str(), "{tag}");
        }
    }
}

/// Without the versions that a guard refuses, the document is the same but for them.
fn is_filtered(input: &[u8], full: &Value) {
    let refuses = |version: &str| version.len() % 2 == 1;
    let object = |value: Option<&Value>| value.is_none_or(|value| value.is_object() || value.is_null());
    let is_packument =
        full.is_object() && object(full.get("versions")) && !input.starts_with(b"\xEF\xBB\xBF");
    let filtered = filter_packument(input, |version, _| refuses(version));
    assert_eq!(filtered.is_ok(), is_packument, "{filtered:?}");
    let Ok(Some(filtered)) = filtered else { return };
    let mut filtered: Value = serde_json::from_slice(&filtered).expect("valid JSON");
    let mut full = full.clone();
    let gone: Vec<String> = versions_of(input).into_iter().map(|(version, _)| version).collect();
    let gone = |version: &str| refuses(version) && gone.iter().any(|gone| gone == version);
    for document in [&mut full, &mut filtered] {
        for part in ["dist-tags", "time", "versions"] {
            let Some(Value::Object(part)) = document.get_mut(part) else { continue };
            let names = part.len();
            part.retain(|name, value| !gone(name) && !value.as_str().is_some_and(gone) && name != "latest");
            part.sort_keys();
            assert!(part.len() <= names);
        }
    }
    assert_eq!(filtered["versions"], full["versions"]);
    assert_eq!(filtered.get("time"), full.get("time"));
}

// === impl Distinct ===

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, Self)) = map.next_entry::<String, Self>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while let Some(Self) = list.next_element()? {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}
