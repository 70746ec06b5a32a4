//! The abbreviated form against tables and generated documents; what is found about a tarball.

use proptest::{
    collection::{btree_map, vec},
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};
use serde_json::{Value, json};

use super::{Dist, VERSION_FIELDS, abbreviate, dist_of};
use crate::document::DocumentError;

fn short(full: &str) -> String {
    String::from_utf8(abbreviate(full.as_bytes()).unwrap()).unwrap()
}

fn sample() -> Value {
    let base = "https://pkgs.dev.azure.com/o/_packaging/f/npm/registry/@s/left/-";
    json!({
        "_id": "@s/left", "_rev": "3-x", "name": "@s/left", "description": "d", "readme": "# left",
        "dist-tags": {"latest": "1.1.0"},
        "versions": {
            "1.0.0": {
                "name": "@s/left", "version": "1.0.0", "_id": "@s/left@1.0.0", "main": "index.js",
                "scripts": {"test": "x", "postinstall": "node build.js"}, "gypfile": false, "license": "MIT",
                "dependencies": {"a": "^1"}, "_hasShrinkwrap": false, "readme": "# old", "gitHead": "abc",
                "dist": {"shasum": "aa", "tarball": format!("{base}/left-1.0.0.tgz")}
            },
            "1.1.0": {
                "name": "@s/left", "version": "1.1.0", "scripts": {"test": "install"}, "libc": ["musl"],
                "peerDependenciesMeta": {"b": {"optional": true}}, "deprecated": "old", "maintainers": [],
                "dist": {"shasum": "bb", "integrity": "sha512-cc", "tarball": format!("{base}/left-1.1.0.tgz")}
            }
        },
        "time": {"created": "2024-01-01T00:00:00Z", "modified": "2025-01-01T00:00:00Z", "1.0.0": "2024-01-01T00:00:00Z"},
        "maintainers": [{"name": "someone", "email": "someone@example.com"}]
    })
}

#[test]
fn the_abbreviated_form_has_what_an_install_needs() {
    let full = sample();
    let found: Value = serde_json::from_str(&short(&full.to_string())).unwrap();
    let expected = json!({
        "name": "@s/left", "dist-tags": full["dist-tags"], "time": full["time"], "modified": "2025-01-01T00:00:00Z",
        "versions": {
            "1.0.0": {
                "name": "@s/left", "version": "1.0.0", "gypfile": false, "license": "MIT", "dependencies": {"a": "^1"},
                "_hasShrinkwrap": false, "dist": full["versions"]["1.0.0"]["dist"], "hasInstallScript": true
            },
            "1.1.0": {
                "name": "@s/left", "version": "1.1.0", "libc": ["musl"], "deprecated": "old",
                "peerDependenciesMeta": {"b": {"optional": true}}, "dist": full["versions"]["1.1.0"]["dist"]
            }
        }
    });
    assert_eq!(found, expected);
}

#[test]
fn install_scripts_are_announced_as_npm_counts_them() {
    let rows = [
        (r#"{"scripts":{"preinstall":"x"}}"#, r#"{"hasInstallScript":true}"#),
        (r#"{"scripts":{"install":"node-gyp rebuild"}}"#, r#"{"hasInstallScript":true}"#),
        (r#"{"scripts":{"p\u006fstinstall":"x"}}"#, r#"{"hasInstallScript":true}"#),
        (r#"{"scripts":{"install":""}}"#, "{}"),
        (r#"{"scripts":{"install":null,"prepare":"x"}}"#, "{}"),
        (r#"{"scripts":[]}"#, "{}"),
        (r#"{"scripts":null}"#, "{}"),
        (r#"{"scripts":{"install":"x"},"scripts":{}}"#, "{}"),
        (r#"{"hasInstallScript":true,"scripts":{}}"#, r#"{"hasInstallScript":true}"#),
        (r#"{"hasInstallScript":false}"#, r#"{"hasInstallScript":false}"#),
        (r#"{"hasInstallScript":false,"scripts":{"install":"x"}}"#, r#"{"hasInstallScript":true}"#),
    ];
    for (version, expected) in rows {
        let full = format!(r#"{{"versions":{{"1.0.0":{version}}}}}"#);
        assert_eq!(short(&full), format!(r#"{{"versions":{{"1.0.0":{expected}}}}}"#));
    }
}

#[test]
fn order_duplicates_escapes_and_odd_values_survive() {
    let rows = [
        ("{}", "{}"),
        (r#"{"versions":null,"name":"x"}"#, r#"{"versions":null,"name":"x"}"#),
        (r#"{"versions":{"1.0.0":null}}"#, r#"{"versions":{"1.0.0":null}}"#),
        (r#"{"name":"b","name":"a","x":1}"#, r#"{"name":"b","name":"a"}"#),
        (r#"{"modified":"m","time":{"modified":"t"}}"#, r#"{"modified":"m","time":{"modified":"t"}}"#),
        (r#"{"time":{"modified":"t"},"name":"a"}"#, r#"{"time":{"modified":"t"},"name":"a","modified":"t"}"#),
        (r#"{"time":7}"#, r#"{"time":7}"#),
        (
            r#"{"versions":{"\"1\\":{"bin": {"a" : "\u00e9"} }}}"#,
            r#"{"versions":{"\"1\\":{"bin":{"a" : "\u00e9"}}}}"#,
        ),
    ];
    for (full, expected) in rows {
        assert_eq!(short(full), expected);
    }
    assert_eq!(abbreviate(b"\xEF\xBB\xBF{\"name\":1}").unwrap(), b"{\"name\":1}");
}

#[test]
fn what_is_no_packument_is_refused() {
    for body in [
        "",
        "[]",
        "null",
        "{",
        "{}x",
        "<html>",
        r#"{"versions":[]}"#,
        r#"{"versions":{"1":2}}"#,
        r#"{"a":tru}"#,
    ] {
        assert!(matches!(abbreviate(body.as_bytes()), Err(DocumentError::Shape(_))), "{body}");
    }
    assert!(matches!(abbreviate(b"{\"a\":\"\xFF\"}"), Err(DocumentError::Encoding(6))));
}

#[test]
fn the_checksums_of_a_tarball_are_found_by_its_file_name() {
    let full = sample().to_string();
    let found = |file: &str| dist_of(full.as_bytes(), file);
    let old = Dist { version: "1.0.0".into(), shasum: Some("aa".into()), integrity: None };
    let new =
        Dist { version: "1.1.0".into(), shasum: Some("bb".into()), integrity: Some("sha512-cc".into()) };
    assert_eq!(found("left-1.0.0.tgz"), Some(old.clone()));
    assert_eq!(found("left-1.1.0.tgz"), Some(new));
    for file in ["left-1.2.0.tgz", "eft-1.0.0.tgz", "left-1.0.0.tg", "", "left-1.0.0.tgz?x"] {
        assert_eq!(found(file), None, "{file}");
    }
    let escaped = full.replace('/', "\\/").replace(".tgz", ".tgz?x=1");
    assert_eq!(dist_of(escaped.as_bytes(), "left-1.0.0.tgz"), Some(old));
}

#[test]
fn documents_without_that_tarball_give_nothing() {
    let rows = [
        r#"{"versions":{"1":{"dist":{"tarball":"x/a.tgz"}}}"#,
        r#"{"versions":{"1":{"readme":"x/a.tgz","dist":{"tarball":"y/b.tgz"}}}}"#,
        r#"{"versions":{"1":{"readme":"x/a.tgz"}}}"#,
        r#"{"versions":["x/a.tgz"]}"#,
        r#"["x/a.tgz"]"#,
        r#"{"readme":"x/a.tgz"}"#,
    ];
    for full in rows {
        assert_eq!(dist_of(full.as_bytes(), "a.tgz"), None, "{full}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), ".{0,12}".prop_map(Value::from)];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,6}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn object(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let key = prop_oneof![3 => select(keys).prop_map(str::to_owned), 1 => ".{0,6}"];
    btree_map(key, value(), 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn packument() -> impl Strategy<Value = Value> {
    let versions = btree_map("[0-9]\\.[0-9]\\.[0-9]", object(&VERSION_FIELDS), 0..5);
    (object(&["name", "dist-tags", "time", "modified", "readme"]), versions).prop_map(
        |(mut full, versions)| {
            full["versions"] = Value::Object(versions.into_iter().collect());
            full
        },
    )
}

proptest! {
    #[test]
    fn the_abbreviated_form_is_a_part_of_the_full_one(full in packument()) {
        let text = serde_json::to_string_pretty(&full).unwrap();
        let found: Value = serde_json::from_str(&short(&text)).unwrap();
        for (key, value) in found.as_object().unwrap().iter().filter(|(key, _)| *key != "versions") {
            let from_time = key == "modified" && full.get("modified").is_none();
            prop_assert_eq!(value, if from_time { &full["time"]["modified"] } else { &full[key] });
        }
        let (all, kept) = (full["versions"].as_object().unwrap(), found["versions"].as_object().unwrap());
        prop_assert_eq!(all.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
        for (version, object) in all {
            let mut expected = object.as_object().unwrap().clone();
            expected.retain(|key, _| VERSION_FIELDS.contains(&key.as_str()));
            prop_assert_eq!(&kept[version], &Value::Object(expected));
        }
        prop_assert_eq!(short(&short(&text)), short(&text));
    }

    #[test]
    fn cut_documents_are_never_abbreviated(full in packument(), cut in 1_usize..64) {
        let text = full.to_string();
        let end = text.len().saturating_sub(cut);
        prop_assert!(abbreviate(&text.as_bytes()[..end]).is_err());
    }
}
