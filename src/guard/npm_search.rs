//! Answers of npm's search without the packages that are kept from builds: `-/v1/search`, and `-/all` of old clients. The
//! service has neither (facts §3); what stands in its place may.

use serde_json::{Map, Value};

use super::Unreadable;

/// The answer without the packages, and of the others without the versions, that are refused; `None` if nothing changes.
/// `refuses` gets a version of `None` for the package as such.
///
/// # Errors
/// [`Unreadable`]: it is none.
pub fn filter_npm_search(
    body: &[u8],
    mut refuses: impl FnMut(&str, Option<&str>) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let document: Result<Value, _> = serde_json::from_slice(body);
    let mut document = document.map_err(|error| Unreadable::new(format!("is no JSON to read: {error}")))?;
    let mut changed = false;
    let mut keep = |package: &mut Value, name: Option<&str>| {
        let name = name.or_else(|| package["name"].as_str()).map(str::to_owned);
        let gone = name.is_none_or(|name| {
            refuses(&name, None)
                || shows_refused(package, |version| refuses(&name, Some(version)), &mut changed)
        });
        changed |= gone;
        !gone
    };
    match &mut document {
        Value::Object(found) if found.get("objects").is_some_and(Value::is_array) => {
            let objects = found.get_mut("objects").and_then(Value::as_array_mut);
            let gone = objects.map_or(0, |objects| {
                let before = objects.len();
                objects.retain_mut(|one| one.get_mut("package").is_some_and(|package| keep(package, None)));
                before - objects.len()
            });
            if let Some(total) = found.get("total").and_then(Value::as_u64) {
                found.insert("total".to_owned(), total.saturating_sub(gone as u64).into());
            }
            changed |= gone > 0;
        }
        // What begins with `_` is of the list.
        Value::Object(all) => {
            all.retain(|name, package| name.starts_with('_') || keep(package, Some(name.as_str())));
        }
        Value::Array(all) => all.retain_mut(|package| keep(package, None)),
        _ => return Err(Unreadable::new("is no list of packages")),
    }
    Ok(changed.then(|| document.to_string().into_bytes()))
}

/// Drops refused versions; true if the package shows only such.
fn shows_refused(package: &mut Value, mut refuses: impl FnMut(&str) -> bool, changed: &mut bool) -> bool {
    if package["version"].as_str().is_some_and(&mut refuses) {
        return true;
    }
    let mut left = |key: &str, kept: &mut dyn FnMut(&str, &Value) -> bool| {
        let Some(all) = package.get_mut(key).and_then(Value::as_object_mut) else { return true };
        let before = all.len();
        retain(all, kept);
        *changed |= all.len() < before;
        before == 0 || !all.is_empty()
    };
    let versions = left("versions", &mut |version, _| !refuses(version));
    left("dist-tags", &mut |_, version| version.as_str().is_some_and(|version| !refuses(version)));
    !versions
}

fn retain(all: &mut Map<String, Value>, kept: &mut dyn FnMut(&str, &Value) -> bool) {
    all.retain(|key, value| kept(key, value));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::filter_npm_search;

    fn filtered(document: &Value) -> Option<Value> {
        let refuses =
            |name: &str, version: Option<&str>| name == "evil" || (name == "a" && version == Some("2.0.0"));
        let filtered = filter_npm_search(document.to_string().as_bytes(), refuses).unwrap();
        filtered.map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn what_is_refused_is_not_found() {
        let of = |name: &str, version: &str| json!({ "package": { "name": name, "version": version } });
        let found =
            json!({ "objects": [of("evil", "1.0.0"), of("a", "2.0.0"), of("a", "1.0.0"), {}], "total": 9 });
        assert_eq!(filtered(&found), Some(json!({ "objects": [of("a", "1.0.0")], "total": 6 })));
        assert_eq!(filtered(&json!({ "objects": [of("a", "1.0.0")], "total": 1 })), None);
    }

    #[test]
    fn lists_of_all_packages_lose_it_in_both_of_their_forms() {
        let package = |name: &str| json!({ "name": name, "versions": { "1.0.0": "x", "2.0.0": "latest" }, "dist-tags": { "latest": "2.0.0" } });
        let left = json!({ "name": "a", "versions": { "1.0.0": "x" }, "dist-tags": {} });
        let all = json!({ "_updated": 1, "evil": package("evil"), "a": package("a"), "b": package("b") });
        assert_eq!(filtered(&all), Some(json!({ "_updated": 1, "a": left, "b": package("b") })));
        assert_eq!(filtered(&json!([package("evil"), package("a"), 7])), Some(json!([left])));
        for odd in ["7", "\"a\"", "<html>"] {
            assert!(filter_npm_search(odd.as_bytes(), |_, _| false).is_err(), "{odd}");
        }
    }
}
