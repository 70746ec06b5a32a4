//! Collections of servers of one's own: names that stand in an organisation's place (facts §2).
//!
//! A client that was set up for such a server may write the server's directory before the collection
//! (`/tfs/DefaultCollection/…`), and `DefaultCollection` is there no optional segment but the collection itself. An
//! organisation that is called like the directory keeps its routes, but for those that begin with a collection.

use super::path::CanonicalPath;
use crate::ident::Name;

/// The directory below which servers keep their collections unless they were set up otherwise.
const DIRECTORY: &str = "tfs";

/// The collections that a path may begin with, and the directories that may stand before them.
#[derive(Debug, Clone, Default)]
pub struct Collections {
    names: Vec<Name>,
    directories: Vec<String>,
}

// === impl Collections ===

impl Collections {
    /// Each collection with the directory that its server has, besides `tfs`.
    pub fn new<'a>(collections: impl IntoIterator<Item = (&'a Name, Option<&'a str>)>) -> Self {
        let mut all = Self { names: Vec::new(), directories: vec![DIRECTORY.to_owned()] };
        for (name, directory) in collections {
            all.names.push(name.clone());
            all.directories.extend(directory.map(str::to_owned));
        }
        all
    }

    /// The collection that `path` begins with, and how many segments that takes.
    pub(super) fn find(&self, path: &CanonicalPath<'_>) -> Option<(&Name, usize)> {
        let named = |at: usize| {
            let written = Name::parse(&path.segments.get(at)?.text).ok()?;
            Some((self.names.iter().find(|name| **name == written)?, at + 1))
        };
        let directory = path.segments.first().filter(|_| !self.names.is_empty())?;
        let below = self.directories.iter().any(|known| directory.is(known));
        named(0).or_else(|| named(1).filter(|_| below))
    }
}

#[cfg(test)]
mod tests {
    use super::Collections;
    use crate::{
        ident::Name,
        route::{HostStyle, parse, parse_for},
    };

    fn collections() -> Collections {
        let names = [("DefaultCollection", Some("azure")), ("My Collection", None)];
        let names = names.map(|(name, directory)| (Name::parse(name).unwrap(), directory));
        Collections::new(names.iter().map(|(name, directory)| (name, *directory)))
    }

    /// Organisation and path upstream.
    fn read(host: &str, target: &str) -> String {
        let route = parse_for(&collections(), &http::Method::GET, Some(host), target).unwrap();
        format!("{} {}", route.org, route.target.upstream_path())
    }

    #[test]
    fn a_collection_is_read_with_and_without_a_directory_before_it() {
        let rows = [
            ("/DefaultCollection/_apis/x?y", "DefaultCollection /_apis/x?y"),
            ("/tfs/DefaultCollection/_apis/x", "DefaultCollection /_apis/x"),
            (
                "/TFS/defaultcollection/web/_packaging/f/npm/registry/a",
                "DefaultCollection /web/_packaging/f/npm/registry/a",
            ),
            ("/azure/DefaultCollection/_apis/x", "DefaultCollection /_apis/x"),
            ("/tfs/My%20Collection/_apis/x", "My Collection /_apis/x"),
            // A project may be called so there; nothing is dropped.
            ("/DefaultCollection/DefaultCollection/_apis/x", "DefaultCollection /DefaultCollection/_apis/x"),
            ("/tfs/tfs/_apis/x", "tfs /tfs/_apis/x"),
            ("/tfs/Other/_packaging/f/npm/registry/a", "tfs /Other/_packaging/f/npm/registry/a"),
            ("/contoso/DefaultCollection/_apis/x", "contoso /_apis/x"),
        ];
        for (target, expected) in rows {
            assert_eq!(read("gate", target), expected, "{target}");
        }
        let subdomain = read("contoso.pkgs.visualstudio.com", "/DefaultCollection/_apis/x");
        assert_eq!(subdomain, "contoso /_apis/x");
        assert_eq!(read("feeds.dev.azure.com", "/DefaultCollection/_apis/x"), "DefaultCollection /_apis/x");
    }

    #[test]
    fn without_servers_a_directory_is_an_organisation() {
        let route = parse(Some("gate"), "/tfs/DefaultCollection/_apis/x").unwrap();
        assert_eq!((route.style, route.org.as_str()), (HostStyle::Path, "tfs"));
        assert_eq!(route.target.upstream_path(), "/_apis/x");
    }

    #[test]
    fn a_path_with_a_collection_is_refused_like_any_other() {
        for target in
            ["/tfs/DefaultCollection/../x", "/DefaultCollection/a%2fb/_apis", "/tfs/%2e%2e/DefaultCollection"]
        {
            assert!(parse_for(&collections(), &http::Method::GET, Some("gate"), target).is_err(), "{target}");
        }
    }
}
