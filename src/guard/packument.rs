//! The packument without the versions that are kept from builds.
//!
//! One pass over borrowed text; what stays is copied as it is. A tag that names a version that goes, goes with it, but
//! `latest`: npm takes it for "what to install", so it moves to the highest version that stays and is not above it.

use std::{borrow::Cow, collections::HashSet, fmt, time::SystemTime};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Release, Unreadable, told};
use crate::ident::Rank;

/// The members of an object in their order, as text.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// The versions that a packument names.
pub fn versions_of(body: &[u8]) -> Vec<Release> {
    let read = || {
        let document = Members::of(std::str::from_utf8(body).ok()?)?;
        let time = document.object("time").unwrap_or(Members(Vec::new()));
        Some(document.object("versions")?.released(&time).collect())
    };
    read().unwrap_or_default()
}

/// The packument without the versions that `refuses` means; `None` if it has none of them.
///
/// # Errors
/// [`Unreadable`]: it is no object, or its versions are none.
pub fn filter_packument(
    body: &[u8],
    mut refuses: impl FnMut(&str, Option<SystemTime>) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let document = std::str::from_utf8(body).ok().and_then(Members::of);
    let document = document.ok_or_else(|| Unreadable::new("is no JSON object with texts for names"))?;
    // Of a package that was unpublished there are none.
    let Some(versions) = document.get("versions").filter(|versions| versions.get() != "null") else {
        return Ok(None);
    };
    let versions = Members::of(versions.get());
    let versions = versions.ok_or_else(|| Unreadable::new("has `versions` that are no such object"))?;
    let time = document.object("time").unwrap_or(Members(Vec::new()));
    let releases = versions.released(&time);
    let gone = releases.filter(|(version, released)| refuses(version, *released));
    let gone: HashSet<String> = gone.map(|(version, _)| version).collect();
    if gone.is_empty() {
        return Ok(None);
    }
    let versions = versions.without(&gone);
    let mut out = Vec::with_capacity(body.len());
    let written = document.0.iter().map(|(name, value)| {
        let value: Cow<'_, str> = match name.as_ref() {
            "versions" => versions.json().into(),
            "time" => {
                document.object("time").map_or(value.get().into(), |time| time.without(&gone).json().into())
            }
            "dist-tags" => tags(value, &versions, &gone).map_or(value.get().into(), Into::into),
            _ => value.get().into(),
        };
        (name.as_ref(), value)
    });
    write_object(&mut out, written);
    Ok(Some(out))
}

fn tags(value: &RawValue, versions: &Members<'_>, gone: &HashSet<String>) -> Option<String> {
    let tags = Members::of(value.get())?;
    let mut out = Vec::new();
    let kept = tags.0.iter().filter_map(|(tag, _)| {
        let version = tags.text(tag)?;
        if !gone.contains(version.as_ref()) {
            return Some((tag.as_ref(), version.into_owned()));
        }
        (tag.as_ref() == "latest")
            .then(|| fallback(versions, &version))
            .flatten()
            .map(|best| (tag.as_ref(), best))
    });
    let kept = kept.map(|(tag, version)| (tag, Cow::Owned(serde_json::Value::String(version).to_string())));
    write_object(&mut out, kept);
    String::from_utf8(out).ok()
}

/// The highest released version that is not above `latest`; else the highest that there is.
fn fallback(versions: &Members<'_>, latest: &str) -> Option<String> {
    let latest = Rank::of(latest);
    let ranked = versions.0.iter().filter_map(|(version, _)| Some((Rank::of(version)?, version)));
    let best = ranked.max_by_key(|(rank, _)| {
        let below = latest.as_ref().is_none_or(|latest| rank <= latest);
        (below && !rank.is_prerelease(), !rank.is_prerelease(), rank.clone())
    });
    best.map(|(_, version)| version.to_string())
}

fn write_object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a str, Cow<'a, str>)>) {
    out.push(b'{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(serde_json::Value::String(name.to_owned()).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

// === impl Members ===

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The last member of that name: JSON leaves it open which one counts, and parsers take the last.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    fn object(&self, name: &str) -> Option<Members<'a>> {
        Self::of(self.get(name)?.get())
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The names, which are versions, with the times of their release.
    fn released(&self, time: &Members<'_>) -> impl Iterator<Item = Release> {
        let released = |version: &str| time.text(version).as_deref().and_then(told);
        self.0.iter().map(move |(version, _)| (version.to_string(), released(version)))
    }

    fn without(mut self, gone: &HashSet<String>) -> Self {
        self.0.retain(|(name, _)| !gone.contains(name.as_ref()));
        self
    }

    fn json(&self) -> String {
        let mut out = Vec::new();
        write_object(
            &mut out,
            self.0.iter().map(|(name, value)| (name.as_ref(), Cow::Borrowed(value.get()))),
        );
        String::from_utf8(out).unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(Key(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(members)
            }
        }
        source.deserialize_map(Reader).map(Self)
    }
}

/// A name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{filter_packument, versions_of};

    fn packument() -> Value {
        json!({
            "name": "a",
            "dist-tags": { "latest": "2.0.1", "next": "3.0.0-rc.1", "old": "1.0.0" },
            "versions": { "1.0.0": { "x": 1 }, "2.0.0": {}, "2.0.1": {}, "3.0.0-rc.1": {}, "3.1.0": {} },
            "time": {
                "created": "2020-01-01T00:00:00Z", "1.0.0": "2020-01-01T00:00:00Z", "2.0.1": "2021-01-01T00:00:00Z"
            },
            "readme": "text \" with { quotes",
        })
    }

    #[test]
    fn versions_their_times_and_tags_go_together() {
        let body = packument().to_string();
        let filtered =
            filter_packument(body.as_bytes(), |version, _| ["2.0.1", "3.0.0-rc.1"].contains(&version))
                .unwrap()
                .unwrap();
        let filtered: Value = serde_json::from_slice(&filtered).unwrap();
        let mut expected = packument();
        expected["dist-tags"] = json!({ "latest": "2.0.0", "old": "1.0.0" });
        expected["versions"] = json!({ "1.0.0": { "x": 1 }, "2.0.0": {}, "3.1.0": {} });
        expected["time"].as_object_mut().unwrap().remove("2.0.1");
        assert_eq!(filtered, expected);
    }

    #[test]
    fn latest_never_moves_up_while_anything_below_stays() {
        let body = packument().to_string();
        let latest = |keep: &[&str]| {
            let filtered = filter_packument(body.as_bytes(), |version, _| !keep.contains(&version)).unwrap();
            serde_json::from_slice::<Value>(&filtered.unwrap()).unwrap()["dist-tags"]["latest"].clone()
        };
        assert_eq!(latest(&["1.0.0", "3.1.0"]), "1.0.0");
        assert_eq!(latest(&["3.0.0-rc.1", "3.1.0"]), "3.1.0");
        assert_eq!(latest(&["3.0.0-rc.1"]), "3.0.0-rc.1");
        assert_eq!(latest(&[]), Value::Null);
    }

    #[test]
    fn what_needs_no_change_stays_as_it_is() {
        let body = packument().to_string();
        assert_eq!(filter_packument(body.as_bytes(), |_, _| false), Ok(None));
        for unpublished in ["{}", r#"{"versions":null}"#, r#"{"versions":{}}"#] {
            assert_eq!(filter_packument(unpublished.as_bytes(), |_, _| true), Ok(None), "{unpublished}");
        }
        let times = versions_of(body.as_bytes());
        assert_eq!(times.len(), 5);
        assert!(times[0].1.is_some() && times[1].1.is_none());
    }

    #[test]
    fn what_cannot_be_filtered_is_no_packument() {
        let half = r#"{"versions":{"1.0.0\ud800":{}}}"#;
        for odd in ["", "[]", r#"{"versions":7}"#, r#"{"versions":[{}]}"#, "\u{feff}{}", half] {
            assert!(filter_packument(odd.as_bytes(), |_, _| false).is_err(), "{odd}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = format!("{}{}", "[".repeat(2_000_000), "]".repeat(2_000_000));
        let body = format!(r#"{{"readme":{deep},"versions":{{"1.0.0":{deep},"2.0.0":{deep}}}}}"#);
        let filtered = filter_packument(body.as_bytes(), |version, _| version == "2.0.0").unwrap().unwrap();
        assert_eq!(filtered, format!(r#"{{"readme":{deep},"versions":{{"1.0.0":{deep}}}}}"#).into_bytes());
    }
}
