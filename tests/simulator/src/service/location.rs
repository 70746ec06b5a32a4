//! Where a request points: the prefix grammar of the pkgs and feeds hosts (facts §2).

use crate::log::Listener;
use crate::wire::request::{Request, decode};

const COLLECTION: &str = "defaultcollection";
/// Below which a server may keep its collections.
const VIRTUAL_DIRECTORY: &str = "tfs";

/// The parts of a request's path. Names are percent-decoded, `rest` is not: what `%2f` means depends on the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) organisation: String,
    pub(crate) project: Option<String>,
    pub(crate) area: Area,
    /// Segments below the area, still encoded, without empty ones at the end.
    pub(crate) rest: Vec<String>,
    /// The path before the area, exactly as spelled: URLs in documents repeat it.
    pub(crate) spelled: String,
    /// The part of it before the project: organisation and collection, if they were in the path.
    pub(crate) root: String,
}

/// The two halves of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// `_packaging`: the protocols.
    Packaging,
    /// `_apis`: REST.
    Apis,
}

// === impl Location ===

impl Location {
    /// Reads both host styles, the optional collection and the optional project, in any letter case. On a `server` of
    /// one's own the collection stands for the organisation, perhaps below a virtual directory `tfs`.
    pub(crate) fn parse(request: &Request, server: bool) -> Option<Self> {
        let mut segments: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        while segments.last().is_some_and(|segment| segment.is_empty()) {
            segments.pop();
        }
        let of_host = organisation_of_host(request).filter(|_| !server);
        let first = usize::from(server && segments.first()?.eq_ignore_ascii_case(VIRTUAL_DIRECTORY));
        let mut at = first + usize::from(of_host.is_none());
        let organisation = of_host.or_else(|| segments.get(first).map(|segment| decode(segment)))?;
        if !server && segments.get(at)?.eq_ignore_ascii_case(COLLECTION) {
            at += 1;
        }
        let text =
            |segments: &[&str]| segments.iter().flat_map(|segment| ["/", *segment]).collect::<String>();
        let root = text(&segments[..at]);
        let mut project = None;
        if Area::parse(segments.get(at)?).is_none() {
            project = Some(decode(segments[at]));
            at += 1;
        }
        let area = Area::parse(segments.get(at)?)?;
        let spelled = text(&segments[..at]);
        let rest = segments[at + 1..].iter().map(|segment| (*segment).to_owned()).collect();
        Some(Self { organisation, project, area, rest, spelled, root })
    }

    /// Feed and view of a `_packaging` path.
    pub(crate) fn feed(&self) -> Option<(String, Option<String>)> {
        let segment = decode(self.rest.first()?);
        Some(match segment.split_once('@') {
            Some((feed, view)) => (feed.to_owned(), Some(view.to_owned())),
            None => (segment, None),
        })
    }
}

/// `{organisation}.pkgs.visualstudio.com` and its feeds twin name the organisation in the host.
fn organisation_of_host(request: &Request) -> Option<String> {
    let host = request.header("host")?.split(':').next()?.to_ascii_lowercase();
    let suffix = match request.listener {
        Listener::Pkgs => ".pkgs.visualstudio.com",
        Listener::Feeds => ".feeds.visualstudio.com",
        Listener::Blob => return None,
    };
    host.strip_suffix(suffix).map(str::to_owned)
}

// === impl Area ===

impl Area {
    fn parse(segment: &str) -> Option<Self> {
        match segment.to_ascii_lowercase().as_str() {
            "_packaging" => Some(Self::Packaging),
            "_apis" => Some(Self::Apis),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(host: &str, path: &str) -> Request {
        Request {
            listener: Listener::Pkgs,
            method: "GET".to_owned(),
            path: path.to_owned(),
            query: String::new(),
            headers: vec![("host".to_owned(), host.to_owned())],
            body: Bytes::new(),
            keep_alive: true,
        }
    }

    fn parse(host: &str, path: &str) -> Option<Location> {
        Location::parse(&request(host, path), false)
    }

    #[test]
    fn a_server_has_its_collections_at_the_root_or_below_tfs() {
        let rows = [
            ("/DefaultCollection/_apis/packaging", "DefaultCollection", None, "/DefaultCollection"),
            ("/tfs/Main/web/_packaging/feed", "Main", Some("web"), "/tfs/Main"),
            ("/TFS/Main/_packaging/feed", "Main", None, "/TFS/Main"),
        ];
        for (path, organisation, project, root) in rows {
            let location = Location::parse(&request("contoso.pkgs.visualstudio.com", path), true).unwrap();
            assert_eq!(location.organisation, organisation, "{path}");
            assert_eq!(location.project.as_deref(), project, "{path}");
            assert_eq!(location.root, root, "{path}");
        }
    }

    #[test]
    fn every_spelling_of_the_prefix_is_understood() {
        let rows = [
            ("pkgs.dev.azure.com", "/contoso/_packaging/main/npm/registry/", None),
            ("pkgs.dev.azure.com", "/contoso/My%20Project/_Packaging/main/npm/registry", Some("My Project")),
            ("contoso.pkgs.visualstudio.com:80", "/_packaging/main/npm/registry/", None),
            (
                "Contoso.pkgs.VisualStudio.com",
                "/DefaultCollection/web/_packaging/main/npm/registry/",
                Some("web"),
            ),
            ("tfs.example.com", "/contoso/defaultcollection/_packaging/main/npm/registry/", None),
        ];
        for (host, path, project) in rows {
            let location = parse(host, path).unwrap();
            assert_eq!(location.organisation.to_lowercase(), "contoso", "{path}");
            assert_eq!(location.project.as_deref(), project, "{path}");
            assert_eq!(location.rest, ["main", "npm", "registry"], "{path}");
        }
    }

    #[test]
    fn a_view_is_split_from_the_feed() {
        let feed = |path| parse("h", path).unwrap().feed().unwrap();
        assert_eq!(feed("/o/_packaging/main@Release/npm"), ("main".into(), Some("Release".into())));
        assert_eq!(feed("/o/_packaging/main%40local/npm"), ("main".into(), Some("local".into())));
        assert_eq!(feed("/o/_packaging/main/npm"), ("main".into(), None));
    }

    #[test]
    fn other_paths_have_no_location() {
        for path in ["/", "/contoso", "/contoso/web", "/contoso/web/other/_packaging/main"] {
            assert_eq!(parse("h", path), None, "{path}");
        }
    }
}
