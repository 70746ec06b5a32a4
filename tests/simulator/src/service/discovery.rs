//! How SDKs find their way (facts §5.1): `OPTIONS _apis` lists the routes of a host, `_apis/resourceAreas` tells which
//! host has which area. Both are open to callers without a credential; a bad one is refused as everywhere.

use serde_json::{Value, json};
use uuid::Uuid;

use super::error::Refusal;
use super::reply::Reply;
use super::rest::is;
use super::visit::Visit;
use crate::log::Listener;
use crate::world::Caller;

/// Location GUID, area, resource and template of a route.
type RouteRow = (&'static str, &'static str, &'static str, &'static str);

const FEED_AREA: &str = "7ab4e64e-c4d8-4f50-ae73-5ef2e21642a5";
const NUGET_AREA: &str = "b3be7473-68ea-4a81-bfc7-9530baaa19ad";

/// Routes of the pkgs host, below `_apis/packaging/feeds/{feedId}/` (facts §5.2).
const PKGS_ROUTES: [RouteRow; 18] = [
    ("ed579d62-67c9-4271-be66-9b029af5bcf9", "npm", "package", "npm/{packageName}/versions/{packageVersion}"),
    (
        "e93d9ec3-4022-401e-96b0-83ea5d911e09",
        "npm",
        "scopedPackage",
        "npm/@{packageScope}/{unscopedPackageName}/versions/{packageVersion}",
    ),
    (
        "75caa482-cb1e-47cd-9f2c-c048a4b7a43e",
        "npm",
        "content",
        "npm/packages/{packageName}/versions/{packageVersion}/content",
    ),
    (
        "09a4eafd-123a-495c-979c-0eda7bdb9a14",
        "npm",
        "scopedContent",
        "npm/packages/@{packageScope}/{unscopedPackageName}/versions/{packageVersion}/content",
    ),
    (
        "1099a396-b310-41d4-a4b6-33d134ce3fcf",
        "npm",
        "readme",
        "npm/packages/{packageName}/versions/{packageVersion}/readme",
    ),
    (
        "6d4db777-7e4a-43b2-afad-779a1d197301",
        "npm",
        "scopedReadme",
        "npm/packages/@{packageScope}/{unscopedPackageName}/versions/{packageVersion}/readme",
    ),
    ("e27a45d3-711b-41cb-a47a-ae669b6e9076", "npm", "upstreaming", "npm/packages/{packageName}/upstreaming"),
    (
        "9859c187-f6ec-41b0-862d-8003b3b404e0",
        "npm",
        "scopedUpstreaming",
        "npm/packages/@{packageScope}/{unscopedPackageName}/upstreaming",
    ),
    ("06f34005-bbb2-41f4-88f5-23e03a99bb12", "npm", "packagesbatch", "npm/packagesbatch"),
    (
        "63a4f31f-e92b-4ee4-bf92-22d485e73bef",
        "npm",
        "recycleBinPackage",
        "npm/RecycleBin/packages/{packageName}/versions/{packageVersion}",
    ),
    (
        "220f45eb-94a5-432c-902a-5b8c6372e415",
        "npm",
        "recycleBinScopedPackage",
        "npm/RecycleBin/packages/@{packageScope}/{unscopedPackageName}/versions/{packageVersion}",
    ),
    (
        "eefe03ef-a6a2-4a7a-a0ec-2e65a5efd64c",
        "npm",
        "recycleBinPackagesBatch",
        "npm/RecycleBin/PackagesBatch",
    ),
    (
        "36c9353b-e250-4c57-b040-513c186c3905",
        "nuget",
        "package",
        "nuget/packages/{packageName}/versions/{packageVersion}",
    ),
    (
        "6ea81b8c-7386-490b-a71f-6cf23c80b388",
        "nuget",
        "content",
        "nuget/packages/{packageName}/versions/{packageVersion}/content",
    ),
    (
        "b41eec47-6472-4efa-bcd5-a2c5607b66ec",
        "nuget",
        "upstreaming",
        "nuget/packages/{packageName}/upstreaming",
    ),
    ("00c58ea7-d55f-49de-b59f-983533ae11dc", "nuget", "packagesbatch", "nuget/packagesbatch"),
    (
        "07e88775-e3cb-4408-bbe1-628e036fac8c",
        "nuget",
        "recycleBinPackage",
        "nuget/RecycleBin/packages/{packageName}/versions/{packageVersion}",
    ),
    (
        "6479ac16-32f4-40f7-aa96-9414de861352",
        "nuget",
        "recycleBinPackagesBatch",
        "nuget/RecycleBin/PackagesBatch",
    ),
];

/// Routes of the feeds host, below `_apis/packaging/` (facts §5.4).
const FEEDS_ROUTES: [RouteRow; 12] = [
    ("c65009a7-474a-4ad1-8b42-7d852107ef8c", "packaging", "feeds", "Feeds/{feedId}"),
    ("7a20d846-c929-4acc-9ea2-0d5a7df1b197", "packaging", "packages", "Feeds/{feedId}/Packages/{packageId}"),
    (
        "3b331909-6a86-44cc-b9ec-c1834c35498f",
        "packaging",
        "versions",
        "Feeds/{feedId}/Packages/{packageId}/Versions/{packageVersionId}",
    ),
    (
        "0aaeabd4-85cd-4686-8a77-8d31c15690b8",
        "packaging",
        "provenance",
        "Feeds/{feedId}/Packages/{packageId}/Versions/{packageVersionId}/Provenance",
    ),
    ("42a8502a-6785-41bc-8c16-89477d930877", "packaging", "views", "Feeds/{feedId}/Views/{viewId}"),
    ("be8c1476-86a7-44ed-b19d-aec0e9275cd8", "packaging", "permissions", "Feeds/{feedId}/Permissions"),
    (
        "ed52a011-0112-45b5-9f9e-e14efffb3193",
        "packaging",
        "retentionPolicies",
        "Feeds/{feedId}/RetentionPolicies",
    ),
    ("323a0631-d083-4005-85ae-035114dfb681", "packaging", "packageChanges", "Feeds/{feedId}/PackageChanges"),
    ("29ba2dad-389a-4661-b5d3-de76397ca05b", "packaging", "feedChanges", "FeedChanges/{feedId}"),
    (
        "2704e72c-f541-4141-99be-2004b50b05fa",
        "packaging",
        "recycleBinPackages",
        "Feeds/{feedId}/RecycleBin/Packages/{packageId}",
    ),
    (
        "aceb4be7-8737-4820-834c-4c549e10fdc7",
        "packaging",
        "recycleBinVersions",
        "Feeds/{feedId}/RecycleBin/Packages/{packageId}/Versions/{packageVersionId}",
    ),
    (
        "61d885fd-10f3-4a55-82b6-476d866b673f",
        "packaging",
        "badge",
        "Feeds/{feedId}/Packages/{packageId}/Badge",
    ),
];

/// Answers if the path below `_apis/` is one of discovery's.
pub(crate) fn answer(visit: &Visit<'_>, path: &[&str]) -> Option<Result<Reply, Refusal>> {
    match path {
        [] if visit.request.method == "OPTIONS" => Some(open(visit).map(|()| routes(visit))),
        [areas, rest @ ..] if is(areas, "resourceareas") && rest.len() < 2 => {
            Some(open(visit).and_then(|()| resource_areas(visit, rest.first().copied())))
        }
        _ => None,
    }
}

/// No credential is as good as a valid one.
fn open(visit: &Visit<'_>) -> Result<(), Refusal> {
    let anonymous = matches!(visit.caller, Caller::Anonymous);
    if anonymous || visit.caller.is_valid() { Ok(()) } else { Err(visit.not_signed_in()) }
}

fn routes(visit: &Visit<'_>) -> Reply {
    let server = visit.service.settings.server;
    let at_pkgs = visit.request.listener == Listener::Pkgs;
    let pkgs = PKGS_ROUTES.iter().filter(|_| at_pkgs || server);
    let pkgs = pkgs.map(|row| describe(row, "{project}/_apis/packaging/feeds/{feedId}/"));
    let feeds = FEEDS_ROUTES.iter().filter(|_| !at_pkgs || server);
    let feeds = feeds.map(|row| {
        let anonymous = if row.2 == "badge" { "public/" } else { "" };
        describe(row, &format!("{{project}}/_apis/{anonymous}packaging/"))
    });
    let routes: Vec<Value> = pkgs.chain(feeds).collect();
    visit.json(200, &json!({ "count": routes.len(), "value": routes }))
}

fn describe((id, area, resource, template): &RouteRow, prefix: &str) -> Value {
    json!({
        "id": id,
        "area": area,
        "resourceName": resource,
        "routeTemplate": format!("{prefix}{template}"),
        "resourceVersion": 1,
        "minVersion": "2.0",
        "maxVersion": "7.2",
        "releasedVersion": "0.0",
    })
}

/// All areas, or the one of that GUID.
fn resource_areas(visit: &Visit<'_>, wanted: Option<&str>) -> Result<Reply, Refusal> {
    if !visit.reads() {
        return Err(Refusal::Method);
    }
    let seed = visit.service.world.read().seed;
    // Only two areas' GUIDs are written down; npm's is made up.
    let areas = [
        (FEED_AREA.to_owned(), "Packaging", Listener::Feeds),
        (NUGET_AREA.to_owned(), "nuget", Listener::Pkgs),
        (seed.guid("area/npm").to_string(), "npm", Listener::Pkgs),
    ];
    let mut areas: Vec<Value> = areas
        .into_iter()
        .map(|(id, name, listener)| {
            json!({ "id": id, "name": name, "locationUrl": format!("{}/", visit.base_of(listener)) })
        })
        .collect();
    let Some(wanted) = wanted else {
        return Ok(visit.json(200, &json!({ "count": areas.len(), "value": areas })));
    };
    let wanted = Uuid::parse_str(wanted).map(|guid| guid.to_string()).unwrap_or_default();
    areas.retain(|area| area["id"] == wanted.as_str());
    let found = areas.pop().ok_or(Refusal::NoRoute)?;
    Ok(visit.json(200, &found))
}
