//! Keys of stored objects read back: what `canonical` wrote, for operators who look at the store from outside.

use percent_encoding::utf8_percent_encode;

use super::{Protocol, canonical::SEGMENT};

/// What a key of a stored document or package tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectKey<'k> {
    /// The feed as in [`crate::ident::FeedRef::key`], with its view.
    pub feed: &'k str,
    /// The protocol; `None` for documents of the REST API that are not about one package.
    pub protocol: Option<Protocol>,
    /// The package's name or id; `None` for what is about more than one.
    pub package: Option<&'k str>,
    /// What is behind the feed.
    below: &'k str,
}

// === impl ObjectKey ===

impl<'k> ObjectKey<'k> {
    /// Reads a key of a document or a package; `None` for anything else.
    pub fn read(key: &'k str) -> Option<Self> {
        let end = key.match_indices('/').nth(2)?.0;
        let (feed, below) = (&key[..end], &key[end + 1..]);
        let (protocol, rest) = below.split_once('/')?;
        let (protocol, package) = match protocol {
            "npm" => (Some(Protocol::Npm), package_of(rest)),
            "nuget" => (Some(Protocol::Nuget), package_of(rest)),
            "rest" => rest_package_of(rest).unzip(),
            _ => return None,
        };
        Some(Self { feed, protocol, package, below })
    }

    /// The feed without its view.
    pub fn whole_feed(&self) -> &'k str {
        self.feed.split('@').next().unwrap_or(self.feed)
    }

    /// The version of a package's bytes, where the key tells it.
    pub fn version(&self) -> Option<&'k str> {
        let (kind, rest) = self.below.split_once('/')?.1.split_once('/')?;
        match kind {
            "nupkg" => rest.split_once('/').map(|(_, version)| version),
            "content" => rest.split_once("/-/").map(|(_, version)| version),
            "tarball" => {
                let (name, file) = rest.split_once("/-/")?;
                let bare = name.rsplit('/').next()?;
                file.strip_prefix(bare)?.strip_prefix('-')?.strip_suffix(".tgz")
            }
            _ => None,
        }
    }

    /// A path of the gate that addresses the object, where the key tells enough: packages, packuments, and NuGet's
    /// documents of one package.
    pub fn path(&self) -> Option<String> {
        let mut parts = self.feed.splitn(3, '/');
        let (org, project, feed) = (parts.next()?, parts.next()?, parts.next()?);
        let encoded = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let project = match project {
            "-" => String::new(),
            "%2d" => "/-".to_owned(),
            project => format!("/{}", encoded(project)),
        };
        let feed = feed.split('@').map(encoded).collect::<Vec<_>>().join("@");
        self.path_below(&format!("{}{project}/_packaging/{feed}", encoded(org)))
    }

    /// The same below another spelling of the feed's own path.
    pub fn path_below(&self, feed: &str) -> Option<String> {
        let below = self.below.strip_prefix("npm/").map_or_else(|| nuget_path(self.below), npm_path)?;
        Some(format!("/{feed}/{below}"))
    }
}

fn package_of(below: &str) -> Option<&str> {
    let mut odata = ["v2:Packages(Id='", "v2:FindPackagesById()?id='"].into_iter();
    if let Some(id) = odata.find_map(|start| below.strip_prefix(start)) {
        return id.split('\'').next();
    }
    let (kind, rest) = below.split_once('/')?;
    match kind {
        "tarball" | "content" => rest.split_once("/-/").map(|(name, _)| name),
        "packument" => Some(rest),
        "nupkg" | "versions" | "nuspec" | "registrations2" | "registrations2-semver2" => {
            rest.split('/').next()
        }
        _ => None,
    }
}

/// Of `{host}/{API version}/{npm|nuget}/[packages/]{package}/versions…`.
fn rest_package_of(below: &str) -> Option<(Protocol, &str)> {
    let path = below.splitn(3, '/').nth(2)?.split('?').next()?;
    let (protocol, rest) = path.split_once('/')?;
    let protocol = [Protocol::Npm, Protocol::Nuget].into_iter().find(|known| known.as_str() == protocol)?;
    let package = rest.strip_prefix("packages/").unwrap_or(rest).split("/versions").next()?;
    Some((protocol, package))
}

fn npm_path(below: &str) -> Option<String> {
    if let Some(name) = below.strip_prefix("packument/") {
        return Some(format!("npm/registry/{name}"));
    }
    let (name, file) = below.strip_prefix("tarball/")?.split_once("/-/")?;
    Some(format!("npm/registry/{name}/-/{}", utf8_percent_encode(file, SEGMENT)))
}

fn nuget_path(below: &str) -> Option<String> {
    let parts: Vec<_> = below.strip_prefix("nuget/")?.split('/').collect();
    let below = match parts[..] {
        ["index"] => "index.json".to_owned(),
        ["nupkg", id, version] => format!("flat2/{id}/{version}/{id}.{version}.nupkg"),
        ["versions", id] => format!("flat2/{id}/index.json"),
        ["nuspec", id, version] => format!("flat2/{id}/{version}/{id}.nuspec"),
        [hive @ ("registrations2" | "registrations2-semver2"), id, "index"] => {
            format!("{hive}/{id}/index.json")
        }
        _ => return None,
    };
    Some(format!("nuget/v3/{below}"))
}

#[cfg(test)]
mod tests {
    use super::ObjectKey;
    use crate::route::{Target, parse};

    #[test]
    fn a_key_reads_back_to_the_route_that_has_it() {
        let rows = [
            ("/org/_packaging/feed/npm/registry/@a/b", Some("@a/b")),
            ("/org/My%20Project/_packaging/feed@view/npm/registry/@a/b/-/b-1.0.0.tgz", Some("@a/b")),
            ("/org/-/_packaging/feed/npm/registry/left-pad/-/left-pad-1.0.0%2bx.tgz", Some("left-pad")),
            ("/org/_packaging/feed/nuget/v3/index.json", None),
            ("/org/_packaging/feed/nuget/v3/flat2/contoso.a/index.json", Some("contoso.a")),
            ("/org/_packaging/feed/nuget/v3/flat2/contoso.a/1.0.0/contoso.a.1.0.0.nupkg", Some("contoso.a")),
            ("/org/_packaging/feed/nuget/v3/flat2/contoso.a/1.0.0/contoso.a.nuspec", Some("contoso.a")),
            ("/org/_packaging/feed/nuget/v3/registrations2/contoso.a/index.json", Some("contoso.a")),
        ];
        for (path, package) in rows {
            let route = parse(None, path).unwrap();
            let key = match &route.target {
                Target::Document(route) => route.key(),
                Target::Package(route) => route.key(),
                other => panic!("{path}: {other:?}"),
            };
            let read = ObjectKey::read(&key).unwrap();
            assert_eq!(read.package, package, "{key}");
            let version = matches!(route.target, Target::Package(_)).then_some("1.0.0");
            let told = read.version().map(|version| version.trim_end_matches("+x"));
            assert_eq!(told, version, "{key}");
            let again = parse(None, &read.path().unwrap()).unwrap();
            assert_eq!(again.target, route.target, "{key}");
        }
        for (path, package) in [
            ("_packaging/feed/nuget/v2/FindPackagesById()?id='Contoso.A'", Some("contoso.a")),
            ("_packaging/feed/nuget/v2/Packages(Id='Contoso.A',Version='1.0')", Some("contoso.a")),
            ("_packaging/feed/nuget/v2/Search()?searchTerm='a'", None),
            ("_apis/packaging/feeds/feed/npm/@a/b/versions/1.0.0?api-version=7.1", Some("@a/b")),
            (
                "_apis/packaging/feeds/feed/nuget/packages/Contoso.A/versions/1.0?api-version=7.1",
                Some("contoso.a"),
            ),
        ] {
            let route = parse(None, &format!("/org/{path}")).unwrap();
            let Target::Document(route) = &route.target else { panic!("{path}: {route:?}") };
            let key = route.key();
            assert_eq!(ObjectKey::read(&key).unwrap().package, package, "{key}");
        }
        let read = ObjectKey::read("org/-/feed@view/nuget/search?q=a").unwrap();
        assert_eq!((read.whole_feed(), read.package, read.path()), ("org/-/feed", None, None));
        for key in ["", "org/-/feed", "org/-/feed/other/x", "org/npm"] {
            assert_eq!(ObjectKey::read(key), None, "{key}");
        }
    }
}
