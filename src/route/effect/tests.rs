//! Tests of what each write of the service changes, and of the methods that each route has.

use http::Method;

use super::{Effect, Subject};
use crate::route::{Collections, parse_for};

const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

/// One line for what a request changes: subject, then `bytes` and `names` if so.
fn changed(request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let path = format!("/o{}", path.replace("{guid}", GUID));
    let target = parse_for(&Collections::default(), &method, None, &path).unwrap().target;
    let Some(Effect { feed, subject, bytes, identity }) = target.effect(&method) else {
        return "nothing".to_owned();
    };
    let subject = match subject {
        Subject::Npm(name) => format!("npm {name}"),
        Subject::Nuget(id) => format!("nuget {id}"),
        other => format!("{other:?}"),
    };
    let feed = feed.as_ref().map_or("everywhere", |feed| feed.key());
    format!("{feed} {subject}{}{}", if bytes { " bytes" } else { "" }, if identity { " names" } else { "" })
}

fn check(rows: &[(&str, &str)]) {
    for (request, expected) in rows {
        let expected = expected.replacen('*', "o/-/f", 1);
        assert_eq!(changed(request), expected, "{request}");
    }
}

#[test]
fn a_write_of_npm_changes_one_package() {
    check(&[
        ("PUT /_packaging/f/npm/registry/@s%2fn", "* npm @s/n"),
        ("PUT /_packaging/f/npm/registry/n?write=true", "* npm n bytes"),
        ("PUT /_packaging/f/npm/registry/n/-rev/3-a", "* npm n bytes"),
        ("DELETE /_packaging/f/npm/registry/@s/n/-/n-1.0.0.tgz/-rev/3-a", "* npm @s/n bytes"),
        ("DELETE /_packaging/f/npm/registry/@s%2fn/-rev/3-a", "* npm @s/n bytes"),
        ("DELETE /_packaging/f/npm/registry/n", "* npm n bytes"),
        ("PUT /_packaging/f/npm/registry/-/package/n/dist-tags/beta", "* npm n"),
        ("POST /_packaging/f/npm/registry/-/package/n/dist-tags", "* npm n"),
        ("DELETE /_packaging/f/npm/registry/-/package/@s/n/dist-tags/beta", "* npm @s/n"),
        ("POST /_packaging/f/npm/registry/-/package/n/access", "* npm n bytes"),
        ("PUT /_packaging/f/npm/registry/n/beta", "* npm n"),
        ("PUT /_packaging/f/npm/registry/-/user/org.couchdb.user:me", "nothing"),
        ("POST /_packaging/f/npm/registry/-/npm/v1/tokens", "nothing"),
        ("POST /_packaging/f/npm/registry/-/npm/v1/security/advisories/bulk", "nothing"),
        ("POST /_packaging/f/npm/registry/-/ping", "nothing"),
        ("GET /_packaging/f/npm/registry/n?write=true", "nothing"),
        ("OPTIONS /_packaging/f/npm/registry/n", "nothing"),
    ]);
}

#[test]
fn a_write_of_npm_rest_changes_one_package_or_by_guid_any() {
    check(&[
        ("PATCH /_apis/packaging/feeds/f/npm/n/versions/1.0.0?api-version=5.0", "* npm n bytes"),
        ("PATCH /_apis/packaging/feeds/f/npm/@s/n/versions/1.0.0/content", "* npm @s/n bytes"),
        ("DELETE /_apis/packaging/feeds/f/npm/@s/n/versions/1.0.0", "* npm @s/n bytes"),
        ("DELETE /_apis/packaging/feeds/f/npm/n/versions/{guid}", "* npm n bytes"),
        ("DELETE /_apis/packaging/feeds/f/npm/{guid}/versions/1.0.0", "* Feed bytes"),
        ("PATCH /_apis/packaging/feeds/f/npm/packages/@s/n/upstreaming", "* npm @s/n bytes"),
        ("PATCH /_apis/packaging/feeds/f/npm/packages/{guid}/upstreaming", "* Feed bytes"),
        ("POST /_apis/packaging/feeds/f/npm/packagesbatch", "* Feed bytes"),
        ("POST /_apis/packaging/feeds/f/npm/RecycleBin/PackagesBatch", "* Feed bytes"),
        ("PATCH /_apis/packaging/feeds/f/npm/RecycleBin/packages/@s/n/versions/1.0.0", "* npm @s/n bytes"),
        ("DELETE /_apis/packaging/feeds/f/npm/RecycleBin/packages/n/versions/1.0.0", "* npm n bytes"),
        ("PUT /_apis/packaging/feeds/f/npm/packages/n/versions/1.0.0/content", "* npm n"),
        ("DELETE /_apis/packaging/feeds/f/npm/packages/n/versions/{guid}/content", "* npm n bytes"),
        ("DELETE /_apis/packaging/feeds/f/npm/packages/@s/n/versions/{guid}/content", "* npm @s/n bytes"),
        ("DELETE /_apis/packaging/feeds/f/npm/packages/{guid}/versions/1.0.0/content", "* Feed bytes"),
        ("POST /_apis/packaging/feeds/f/npm/unknown", "* Feed bytes"),
    ]);
}

#[test]
fn a_write_of_nuget_changes_one_package_or_when_pushed_any_of_nuget() {
    check(&[
        ("PUT /_packaging/f/nuget/v2/", "* Nugets"),
        ("PUT /_packaging/f@v/nuget/v2", "o/-/f@v Nugets"),
        ("PUT /_packaging/f/nuget/v2/package", "* Nugets bytes"),
        ("PUT /_packaging/f/nuget/v2/?id=a", "* Nugets bytes"),
        ("DELETE /_packaging/f/nuget/v2/Foo/1.0", "* nuget foo bytes"),
        ("DELETE /_packaging/f/nuget/v2/package/Foo/1.0", "* nuget foo bytes"),
        ("POST /_packaging/f/nuget/v2/package/Foo/1.0", "* nuget foo bytes"),
        ("POST /_packaging/f/nuget/v2/$batch", "* Feed bytes"),
        ("PUT /_packaging/f/nuget/v3/index.json", "* Feed"),
        ("PATCH /_apis/packaging/feeds/f/nuget/packages/Foo/versions/1.0", "* nuget foo bytes"),
        ("DELETE /_apis/packaging/feeds/f/nuget/packages/Foo/versions/{guid}", "* nuget foo bytes"),
        ("DELETE /_apis/packaging/feeds/f/nuget/packages/{guid}/versions/1.0", "* Feed bytes"),
        ("PATCH /_apis/packaging/feeds/f/nuget/packages/Foo/upstreaming", "* nuget foo bytes"),
        ("POST /_apis/packaging/feeds/f/nuget/packagesbatch", "* Nugets bytes"),
        ("POST /_apis/packaging/feeds/f/nuget/RecycleBin/packagesbatch", "* Nugets bytes"),
        ("PATCH /_apis/packaging/feeds/f/nuget/RecycleBin/packages/Foo/versions/1.0", "* nuget foo bytes"),
        ("DELETE /_apis/packaging/feeds/f/nuget/packages/Foo/versions/{guid}/content", "* nuget foo bytes"),
    ]);
}

#[test]
fn a_write_of_the_feeds_host_may_change_the_feed_and_its_names() {
    check(&[
        ("PATCH /_apis/packaging/Feeds/f", "* Feed bytes names"),
        ("DELETE /_apis/packaging/Feeds/f", "* Feed bytes names"),
        ("POST /_apis/packaging/Feeds/f/views", "* Feed names"),
        ("PATCH /_apis/packaging/Feeds/f/views/Release", "* Feed bytes names"),
        ("DELETE /_apis/packaging/Feeds/f/views/{guid}", "* Feed bytes names"),
        ("PATCH /_apis/packaging/Feeds/f/permissions", "* Feed bytes names"),
        ("PUT /_apis/packaging/Feeds/f/retentionpolicies", "* Feed bytes names"),
        ("POST /_apis/packaging/Feeds/f/packagemetricsbatch", "nothing"),
        ("POST /_apis/packaging/Feeds/f/packages/{guid}/versionmetricsbatch", "nothing"),
        ("POST /_apis/packaging/Feeds", "nothing"),
        ("PATCH /_apis/packaging/globalpermissions", "nothing"),
        ("POST /_apis/other", "everywhere Feed bytes"),
        ("POST /_packaging/f/pypi/upload", "* Feed bytes"),
    ]);
}

#[test]
fn a_route_that_is_known_tells_its_methods() {
    let rows = [
        ("/_packaging/f/npm/registry/n", "GET, HEAD, PUT"),
        ("/_packaging/f/npm/registry/n/-/n-1.0.0.tgz", "GET, HEAD"),
        ("/_packaging/f/npm/registry/n/1.0.0", "GET, HEAD"),
        ("/_packaging/f/npm/registry/-/ping", "GET, HEAD"),
        ("/_packaging/f/npm/registry/-/whoami", "GET, HEAD"),
        ("/_packaging/f/npm/registry/-/package/n/dist-tags", "GET, HEAD, PUT, POST"),
        ("/_packaging/f/npm/registry/-/package/n/dist-tags/a", "GET, HEAD, PUT, POST, DELETE"),
        ("/_packaging/f/npm/registry/-/npm/v1/security/audits", "POST"),
        ("/_packaging/f/npm/registry/n/-rev/1", "any"),
        ("/_packaging/f/nuget/v2", "GET, HEAD, PUT"),
        ("/_packaging/f/nuget/v2/$metadata", "GET, HEAD"),
        ("/_packaging/f/nuget/v2/package/a/1.0", "GET, HEAD"),
        ("/_packaging/f/nuget/v2/a/1.0", "any"),
        ("/_packaging/f/nuget/v3/index.json", "GET, HEAD"),
        ("/_apis/packaging/feeds/f/npm/n/versions/1.0.0", "GET, HEAD, PATCH, DELETE"),
        ("/_apis/packaging/feeds/f/npm/packages/n/versions/1.0.0/readme", "GET, HEAD"),
        ("/_apis/packaging/feeds/f/npm/packages/n/versions/1.0.0/content", "GET, HEAD"),
        ("/_apis/packaging/feeds/f/nuget/packages/a/versions/1.0", "GET, HEAD, PATCH, DELETE"),
        ("/_apis/packaging/feeds/f/nuget/packagesbatch", "any"),
        ("/_apis/packaging/Feeds/f", "GET, HEAD, PATCH, DELETE"),
        ("/_apis/packaging/Feeds/f/views", "GET, HEAD, POST"),
        ("/_apis/packaging/Feeds/f/views/v", "GET, HEAD, PATCH, DELETE"),
        ("/_apis/packaging/Feeds/f/packages", "GET, HEAD"),
        ("/_apis/packaging/Feeds", "any"),
    ];
    for (path, allow) in rows {
        let target =
            parse_for(&Collections::default(), &Method::GET, None, &format!("/o{path}")).unwrap().target;
        assert_eq!(target.allow().unwrap_or("any"), allow, "{path}");
    }
}
