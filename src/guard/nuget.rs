//! NuGet's documents without the versions that are kept from builds (facts §4.2).

use std::time::SystemTime;

use serde_json::Value;

use super::{Release, Unreadable, told};

/// The versions of a `flat2` list; it tells no times.
pub fn version_list(body: &[u8]) -> Vec<Release> {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let versions = document["versions"].as_array().into_iter().flatten();
    versions.filter_map(|version| Some((version.as_str()?.to_owned(), None))).collect()
}

/// The versions of a registration index or page, as far as it holds them itself.
pub fn registered(body: &[u8]) -> Vec<Release> {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = document["items"].as_array().into_iter().flatten();
    let leaves =
        items.flat_map(|item| item["items"].as_array().map_or(std::slice::from_ref(item), Vec::as_slice));
    leaves.filter_map(release).collect()
}

/// The first and the last version of each page of a registration index that does not hold its versions itself.
pub fn pages(body: &[u8]) -> Vec<(String, String)> {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = document["items"].as_array().into_iter().flatten();
    let pages = items.filter(|item| !item["items"].is_array() && item["catalogEntry"].is_null());
    let bound = |page: &Value, name: &str| page[name].as_str().unwrap_or_default().to_owned();
    pages.map(|page| (bound(page, "lower"), bound(page, "upper"))).collect()
}

/// The list without what `refuses` means; `None` if nothing changes.
///
/// # Errors
/// [`Unreadable`]: it is no such list.
pub fn filter_version_list(
    body: &[u8],
    mut refuses: impl FnMut(&str, Option<SystemTime>) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let mut document = read(body)?;
    let versions = list(&mut document, "versions")?;
    let before = versions.len();
    versions.retain(|version| version.as_str().is_some_and(|version| !refuses(version, None)));
    Ok((versions.len() < before).then(|| document.to_string().into_bytes()))
}

/// A registration index or page without what `refuses` means; `None` if nothing changes.
///
/// # Errors
/// [`Unreadable`]: it is none.
pub fn filter_registration(
    body: &[u8],
    mut refuses: impl FnMut(&str, Option<SystemTime>) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let mut document = read(body)?;
    let mut changed = false;
    let items = list(&mut document, "items")?;
    if items.iter().any(|item| !matches!(item["items"], Value::Null | Value::Array(_))) {
        return Err(Unreadable::new("has a page whose `items` are no list"));
    }
    for page in items.iter_mut().filter(|item| item["items"].is_array()) {
        changed |= filter_leaves(page, &mut refuses);
    }
    let before = items.len();
    items.retain(|item| match item["items"].as_array() {
        Some(leaves) => !leaves.is_empty(),
        None => release(item).is_none_or(|(version, released)| !refuses(&version, released)),
    });
    changed |= items.len() < before;
    let count = items.len();
    if changed {
        document["count"] = count.into();
        bounds(&mut document);
    }
    Ok(changed.then(|| document.to_string().into_bytes()))
}

/// Search results without the packages, and of the others without the versions, that are refused. `refuses` gets a
/// version of `None` for the package as such.
///
/// # Errors
/// [`Unreadable`]: they are none.
pub fn filter_search(
    body: &[u8],
    mut refuses: impl FnMut(&str, Option<&str>) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let mut document = read(body)?;
    let found = list(&mut document, "data")?;
    let mut changed = false;
    found.retain_mut(|package| {
        let id = package["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        let gone =
            refuses(&id, None) || shown_version(package, |version| refuses(&id, Some(version)), &mut changed);
        changed |= gone;
        !gone
    });
    Ok(changed.then(|| document.to_string().into_bytes()))
}

/// Reads at most 128 levels.
fn read(body: &[u8]) -> Result<Value, Unreadable> {
    serde_json::from_slice(body).map_err(|error| Unreadable::new(format!("is no JSON to read: {error}")))
}

fn list<'d>(document: &'d mut Value, name: &'static str) -> Result<&'d mut Vec<Value>, Unreadable> {
    let list = document.get_mut(name).and_then(Value::as_array_mut);
    list.ok_or_else(|| Unreadable::new(format!("has no list of `{name}`")))
}

/// Drops refused versions; true if none is left to be shown.
fn shown_version(package: &mut Value, mut refuses: impl FnMut(&str) -> bool, changed: &mut bool) -> bool {
    let Some(versions) = package["versions"].as_array_mut() else {
        return package["version"].as_str().is_none_or(refuses);
    };
    let before = versions.len();
    versions.retain(|version| version["version"].as_str().is_some_and(|version| !refuses(version)));
    *changed |= versions.len() < before;
    let last = versions.last().map(|version| version["version"].clone());
    let shown = package["version"].as_str().is_some_and(|version| !refuses(version));
    match last {
        Some(last) if !shown => package["version"] = last,
        Some(_) => {}
        None => return true,
    }
    false
}

fn filter_leaves(page: &mut Value, refuses: &mut impl FnMut(&str, Option<SystemTime>) -> bool) -> bool {
    let Some(leaves) = page["items"].as_array_mut() else { return false };
    let before = leaves.len();
    leaves.retain(|leaf| release(leaf).is_some_and(|(version, released)| !refuses(&version, released)));
    let count = leaves.len();
    if count < before {
        page["count"] = count.into();
        bounds(page);
    }
    count < before
}

/// A page names the first and the last version that it holds.
fn bounds(page: &mut Value) {
    let leaf = |leaf: Option<&Value>| {
        leaf.and_then(|leaf| leaf["catalogEntry"]["version"].as_str().map(str::to_owned))
    };
    let leaves = page["items"].as_array();
    let ends =
        (leaf(leaves.and_then(|leaves| leaves.first())), leaf(leaves.and_then(|leaves| leaves.last())));
    if let (Some(lower), Some(upper)) = ends
        && page["lower"].is_string()
    {
        page["lower"] = lower.into();
        page["upper"] = upper.into();
    }
}

fn release(leaf: &Value) -> Option<Release> {
    let entry = &leaf["catalogEntry"];
    // A version that was unlisted is "published" in 1900.
    let released = entry["published"].as_str().filter(|text| !text.starts_with("19")).and_then(told);
    Some((entry["version"].as_str()?.to_owned(), released))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{filter_registration, filter_search, filter_version_list, pages, registered, version_list};

    fn leaf(version: &str) -> Value {
        json!({ "catalogEntry": { "version": version, "published": "2020-01-01T00:00:00Z" } })
    }

    #[test]
    fn a_version_list_loses_what_is_refused() {
        let body = br#"{"versions":["1.0.0","2.0.0"]}"#;
        let filtered = filter_version_list(body, |version, _| version == "2.0.0").unwrap().unwrap();
        assert_eq!(filtered, br#"{"versions":["1.0.0"]}"#);
        assert_eq!(filter_version_list(body, |_, _| false), Ok(None));
        assert_eq!(version_list(body).len(), 2);
    }

    #[test]
    fn a_registration_keeps_its_counts_and_bounds() {
        let page = |versions: &[&str]| {
            let leaves: Vec<_> = versions.iter().map(|version| leaf(version)).collect();
            json!({ "count": leaves.len(), "items": leaves, "lower": versions[0], "upper": versions[versions.len() - 1] })
        };
        let index = json!({ "count": 2, "items": [page(&["1.0.0", "1.1.0"]), page(&["2.0.0"])] }).to_string();
        let filtered = filter_registration(index.as_bytes(), |version, released| {
            assert!(released.is_some());
            version != "1.0.0"
        });
        let expected = json!({ "count": 1, "items": [page(&["1.0.0"])] });
        assert_eq!(serde_json::from_slice::<Value>(&filtered.unwrap().unwrap()).unwrap(), expected);
        let single = page(&["1.0.0", "1.1.0"]).to_string();
        let filtered = filter_registration(single.as_bytes(), |version, _| version == "1.0.0").unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&filtered.unwrap()).unwrap(), page(&["1.1.0"]));
        assert_eq!(registered(index.as_bytes()).len(), 3);
        assert!(pages(index.as_bytes()).is_empty() && pages(single.as_bytes()).is_empty());
        let paged =
            json!({ "items": [{ "lower": "1.0.0", "upper": "1.1.0" }, page(&["2.0.0"])] }).to_string();
        assert_eq!(pages(paged.as_bytes()), [("1.0.0".to_owned(), "1.1.0".to_owned())]);
        assert_eq!(registered(paged.as_bytes()).len(), 1);
    }

    #[test]
    fn a_search_loses_packages_and_versions() {
        let found = json!({ "data": [
            { "id": "Evil", "version": "1.0.0", "versions": [{ "version": "1.0.0" }] },
            { "id": "Good", "version": "2.0.0", "versions": [{ "version": "1.0.0" }, { "version": "2.0.0" }] },
        ]});
        let filtered = filter_search(found.to_string().as_bytes(), |id, version| {
            id == "evil" || version == Some("2.0.0")
        });
        let expected =
            json!({ "data": [{ "id": "Good", "version": "1.0.0", "versions": [{ "version": "1.0.0" }] }] });
        assert_eq!(serde_json::from_slice::<Value>(&filtered.unwrap().unwrap()).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_read_is_not_let_through() {
        let deep = format!("{}{}", "[".repeat(2_000_000), "]".repeat(2_000_000));
        let deep = format!(r#"{{"versions":[],"items":[],"data":[],"x":{deep}}}"#);
        let half = r#"{"versions":[],"items":[],"data":[],"x":"\ud800"}"#;
        for odd in ["", "[]", "{}", r#"{"versions":{},"items":{},"data":{}}"#, half, &deep] {
            let odd = odd.as_bytes();
            assert!(filter_version_list(odd, |_, _| true).is_err());
            assert!(filter_registration(odd, |_, _| true).is_err());
            assert!(filter_search(odd, |_, _| true).is_err());
        }
        assert!(filter_registration(br#"{"items":[{"items":{}}]}"#, |_, _| true).is_err());
    }
}
