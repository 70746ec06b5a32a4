//! `[[server]]`: an Azure DevOps Server (once called TFS) beside the hosted service.
//!
//! A server has one host for everything, and a collection where the hosted service has an organisation (facts §2).
//! Its credentials are PATs and passwords (Basic): what is bound to a connection (NTLM, Negotiate) passes no proxy.

use std::{fmt, str::FromStr};

use super::{
    keys::{Findings, Keys, Problem},
    upstream::{Base, Origin, Scheme, UrlTemplateError, is_label, is_segment, parse_port, split_port},
};
use crate::ident::Name;
use toml::Table;

/// The name of the tables.
const TABLE: &str = "server";

/// A collection of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What clients write where the organisation stands; compared without case.
    pub collection: Name,
    /// Where its routes begin.
    pub url: ServerUrl,
}

/// The URL of a collection, such as `https://tfs.example.com/tfs/DefaultCollection`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(Base);

// === impl Server ===

impl Server {
    pub(super) fn read_all(root: &mut Table, findings: &mut Findings) -> Vec<Self> {
        let servers = Keys::each(root, TABLE, findings, Self::read);
        for (index, server) in servers.iter().enumerate() {
            if servers[..index].iter().any(|other| other.collection == server.collection) {
                let (key, value) = (format!("{TABLE}[{index}].collection"), server.collection.to_string());
                findings.problems.push(Problem { key, value, rule: "is the name of two collections".into() });
            }
        }
        servers
    }

    fn read(mut keys: Keys<'_>) -> Option<Self> {
        let collection = keys.required("collection", |text| Name::parse(text).map_err(|e| e.to_string()));
        let url = keys.required("url", |text| text.parse().map_err(|e: UrlTemplateError| e.to_string()));
        keys.finish();
        Some(Self { collection: collection?, url: url? })
    }

    /// What stands before the collection in paths for the server, such as `tfs`; `None` if there is not exactly one
    /// segment.
    pub fn directory(&self) -> Option<&str> {
        let mut segments = self.url.0.prefix.rsplit('/').skip(1);
        let directory = segments.next().filter(|directory| !directory.is_empty());
        directory.filter(|_| segments.next() == Some(""))
    }
}

// === impl ServerUrl ===

impl ServerUrl {
    /// Where the routes of the collection begin.
    pub fn base(&self) -> &Base {
        &self.0
    }

    /// The path below the collection's routes, if `origin` and `path` (with query) lie there. Paths are compared
    /// without case, as the service does (facts §2).
    pub fn below<'a>(&self, origin: &Origin, path: &'a str) -> Option<&'a str> {
        let (start, rest) = path.split_at_checked(self.0.prefix.len())?;
        let inside = self.0.origin == *origin && start.eq_ignore_ascii_case(&self.0.prefix);
        (inside && rest.starts_with('/')).then_some(rest)
    }
}

impl FromStr for ServerUrl {
    type Err = UrlTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = Scheme::split(text).ok_or(UrlTemplateError::Scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority);
        let host = host.to_lowercase();
        let port = parse_port(port, scheme).map_err(|port| UrlTemplateError::Port(port.to_owned()))?;
        if !host.split('.').all(is_label) {
            return Err(UrlTemplateError::Host(host));
        }
        let prefix = path.trim_end_matches('/');
        if prefix.is_empty() {
            return Err(UrlTemplateError::Collection);
        }
        if !prefix.split('/').skip(1).all(is_segment) {
            return Err(UrlTemplateError::Path(path.to_owned()));
        }
        Ok(Self(Base { origin: Origin { scheme, host, port }, prefix: prefix.to_owned() }))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.origin, self.0.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Server, ServerUrl};
    use crate::config::{Config, ConfigError};

    fn servers(text: &str) -> Result<Vec<Server>, Vec<String>> {
        match Config::parse(text, &BTreeMap::new()) {
            Ok(loaded) => Ok(loaded.config.upstream.servers),
            Err(ConfigError::Invalid(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_server_has_a_collection_and_perhaps_a_directory_before_it() {
        let rows = [
            (
                "https://tfs.example.com/tfs/DefaultCollection/",
                "https://tfs.example.com/tfs/DefaultCollection",
                Some("tfs"),
            ),
            ("HTTP://TFS:8080/Main", "http://tfs:8080/Main", None),
            ("https://tfs/a/b/My%20Collection", "https://tfs/a/b/My%20Collection", None),
        ];
        for (written, url, directory) in rows {
            let text = format!("[[server]]\ncollection = \"My Collection\"\nurl = \"{written}\"\n");
            let server = servers(&text).unwrap().remove(0);
            assert_eq!((server.url.to_string().as_str(), server.directory()), (url, directory), "{written}");
        }
    }

    #[test]
    fn every_mistake_is_reported_with_the_number_of_its_table() {
        let text = "[[server]]\ncollection = \"a/b\"\nurl = \"https://tfs.example.com\"\n\
                    [[server]]\ncollection = \"one\"\nurl = \"https://tfs/one\"\ncolour = \"red\"\n\
                    [[server]]\ncollection = \"ONE\"\nurl = \"https://tfs/{org}\"\n\
                    [[server]]\nurl = 5\n\
                    [[server]]\ncollection = \"One\"\nurl = \"https://other/one\"\n";
        let problems = servers(text).unwrap_err();
        for part in [
            "`server[0].collection`",
            "`server[0].url`",
            "`server[1].colour` is not a known key",
            "`server[2].url`",
            "`server[3].collection` must be given",
            "`server[3].url` must be a string, got 5",
            "is the name of two collections",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 7, "{problems:#?}");
        assert_eq!(servers("server = 5\n").unwrap_err().len(), 1);
    }

    #[test]
    fn only_what_lies_below_the_collection_is_its_own() {
        let url: ServerUrl = "https://tfs.example.com/tfs/Main".parse().unwrap();
        let origin = url.base().origin.clone();
        assert_eq!(url.below(&origin, "/TFS/main/_apis?x"), Some("/_apis?x"));
        for path in ["/tfs/Main2/_apis", "/tfs/Main", "/Main/_apis", "/"] {
            assert_eq!(url.below(&origin, path), None, "{path}");
        }
        let other: ServerUrl = "http://tfs.example.com/tfs/Main".parse().unwrap();
        assert_eq!(url.below(&other.base().origin, "/tfs/Main/_apis"), None);
    }
}
