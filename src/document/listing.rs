//! Which content each version has, as the feeds host's REST answers say (`storageId`, facts §5.4).
//!
//! Read are a package with its `versions`, lists of such (`{"count": …, "value": […]}`), and versions that stand alone
//! when they name their package, which those of `Packages/{id}/versions` do not: they are of no use here. Left out are
//! deleted versions, which must not be served, and what has no content of its own yet (no or an empty `storageId`).
//! Ids that do not end in 00 are no hash of the file, so they stay opaque and are left out as well.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    ident::{NpmName, NugetId, NugetVersion, StorageId},
    route::{Package, Protocol},
};

/// A version, and the content that a listing says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The version, as the protocol's own route for its bytes names it.
    pub package: Package,
    /// The content.
    pub id: StorageId,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
}

/// A package, or a version that stands alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(borrow)]
    protocol_type: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    normalized_name: Text<'a>,
    #[serde(borrow, default)]
    versions: Vec<Release<'a>>,
    // The rest is of a version that stands alone. Not flattened: that would hold all else of the item in memory.
    #[serde(borrow, default)]
    version: Text<'a>,
    #[serde(borrow, default)]
    normalized_version: Text<'a>,
    #[serde(borrow, default)]
    storage_id: Text<'a>,
    #[serde(default)]
    is_deleted: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Release<'a> {
    #[serde(borrow, default)]
    version: Text<'a>,
    #[serde(borrow, default)]
    normalized_version: Text<'a>,
    #[serde(borrow, default)]
    storage_id: Text<'a>,
    #[serde(default)]
    is_deleted: Option<bool>,
}

/// A text that may be `null`, borrowed unless it has escapes.
#[derive(Deserialize, Default)]
struct Text<'a>(#[serde(borrow)] Option<Cow<'a, str>>);

/// Every version with its content that the body of an answer names; none if it is no such answer.
pub fn listed(body: &[u8]) -> Vec<Listed> {
    let Ok(text) = super::check::text_of(body) else { return Vec::new() };
    let items = match serde_json::from_str::<List<'_>>(text) {
        Ok(list) => list.value.into_iter().map(RawValue::get).collect(),
        Err(_) => vec![text],
    };
    items
        .into_iter()
        .filter_map(|item| serde_json::from_str::<Item<'_>>(item).ok())
        .flat_map(of_item)
        .collect()
}

fn of_item(item: Item<'_>) -> Vec<Listed> {
    let protocol = match item.protocol_type.get() {
        Some(kind) if kind.eq_ignore_ascii_case("npm") => Protocol::Npm,
        Some(kind) if kind.eq_ignore_ascii_case("nuget") => Protocol::Nuget,
        Some(_) | None => return Vec::new(),
    };
    let name = match protocol {
        // npm tells names apart by case, which only the name itself has.
        Protocol::Npm => item.name.get().or(item.normalized_name.get()),
        Protocol::Nuget => item.normalized_name.get().or(item.name.get()),
    };
    let Some(name) = name else { return Vec::new() };
    let Item { version, normalized_version, storage_id, is_deleted, .. } = item;
    let own = Release { version, normalized_version, storage_id, is_deleted };
    item.versions.iter().chain([&own]).filter_map(|version| of_version(protocol, name, version)).collect()
}

fn of_version(protocol: Protocol, name: &str, version: &Release<'_>) -> Option<Listed> {
    let id: StorageId = version.storage_id.get()?.parse().ok()?;
    if version.is_deleted == Some(true) || !id.is_file() {
        return None;
    }
    let text = version.normalized_version.get().or(version.version.get())?;
    let package = match protocol {
        Protocol::Npm => {
            let name = NpmName::parse(name).ok()?;
            let file = format!("{}-{text}.tgz", name.bare());
            // A version that cannot be told from the file's name again is none that a client asks for.
            crate::route::npm_version(&name, &file)?;
            Package::Npm { name, file }
        }
        Protocol::Nuget => {
            Package::Nuget { id: NugetId::parse(name).ok()?, version: NugetVersion::parse(text).ok()? }
        }
    };
    Some(Listed { package, id })
}

// === impl Text ===

impl Text<'_> {
    fn get(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::listed;
    use crate::route::Package;

    const ONE: &str = "32D68E06C0EA73CB32BA03071C99F1B351C86D9E3384B02D04210C9ACB9F2BA300";
    const TWO: &str = "BC547A2DDC1217DCD0EE1998A5C2410F0559B5746CCC37BAB2B8A21D88BE594400";

    fn check(body: &Value, expected: &[(&str, &str)]) {
        let describe = |package: &Package| match package {
            Package::Npm { name, file } => format!("{name} {file}"),
            Package::Nuget { id, version } => format!("{id} {version}"),
            Package::ById { .. } => "by id".to_owned(),
        };
        let found: Vec<_> = listed(body.to_string().as_bytes())
            .iter()
            .map(|listed| (describe(&listed.package), listed.id.to_string()))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(package, id)| ((*package).to_owned(), (*id).to_owned())).collect();
        assert_eq!(found, expected, "{body}");
    }

    fn nuget(versions: &Value) -> Value {
        json!({
            "id": "e3d6b8ad-9a15-40cf-ab6c-d08a409bba6b", "normalizedName": "feed.client", "name": "Feed.Client",
            "protocolType": "NuGet", "url": "https://x", "versions": versions, "_links": { "self": { "href": "x" } }
        })
    }

    #[test]
    fn lists_of_packages_and_one_package_are_read() {
        let package = nuget(&json!([
            { "id": "c", "normalizedVersion": "0.1.4", "version": "0.1.4.0", "isLatest": true, "storageId": ONE },
            { "id": "d", "version": "0.1.1", "isDeleted": false, "storageId": TWO.to_lowercase() },
        ]));
        let expected = [("feed.client 0.1.4", ONE), ("feed.client 0.1.1", TWO)];
        check(&package, &expected);
        check(&json!({ "count": 1, "value": [package, 7, { "x": 1 }] }), &expected);
        let scoped = json!({
            "name": "@scope/Wide", "normalizedName": "@scope/wide", "protocolType": "Npm",
            "versions": [{ "version": "2.0.0-\u{0062}eta.1", "storageId": ONE }]
        });
        check(&json!({ "count": 1, "value": [scoped] }), &[("@scope/Wide Wide-2.0.0-beta.1.tgz", ONE)]);
    }

    #[test]
    fn versions_count_only_with_their_package_and_content_of_their_own() {
        let alone =
            json!({ "id": "c", "normalizedVersion": "1.0.0", "storageId": ONE, "protocolMetadata": {} });
        check(&alone, &[]);
        check(&json!({ "count": 1, "value": [alone] }), &[]);
        let named = json!({ "name": "a", "protocolType": "npm", "version": "1.0.0", "storageId": ONE, "versions": [] });
        check(&named, &[("a a-1.0.0.tgz", ONE)]);
        let chunked = format!("{}02", &ONE[..64]);
        check(
            &nuget(&json!([
                { "version": "1.0.0", "storageId": null },
                { "version": "1.1.0" },
                { "version": "1.2.0", "storageId": "" },
                { "version": "1.3.0", "storageId": "no id" },
                { "version": "1.4.0", "storageId": chunked },
                { "version": "1.5.0", "storageId": ONE, "isDeleted": true },
                { "version": "no version", "storageId": ONE },
                { "version": null, "normalizedVersion": null, "storageId": ONE },
            ])),
            &[],
        );
    }

    #[test]
    fn other_protocols_and_other_answers_name_nothing() {
        let other = json!({ "name": "a", "protocolType": "PyPI", "versions": [{ "version": "1.0.0", "storageId": ONE }] });
        check(&other, &[]);
        check(&json!({ "id": "x", "name": "feed" }), &[]);
        check(&json!([]), &[]);
        check(&json!({ "count": 0, "value": [] }), &[]);
        assert!(listed(b"\xff").is_empty() && listed(b"").is_empty());
    }
}
