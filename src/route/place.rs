//! Where a path leads: host form, organisation, project and feed, the prefix that every grammar shares
//! (facts §2), and which of the service's hosts the rest belongs to (facts §5.2, §5.4).

use http::Method;

use super::{
    Audit, Collections, Derived, Document, HostStyle, Package, RouteError, Subject,
    path::{CanonicalPath, Rule, Segment},
};
use crate::ident::{FeedRef, Name};

/// Host names of the old form, behind the organisation, and whether they are feeds hosts.
const SUBDOMAINS: [(&str, bool); 2] = [(".pkgs.visualstudio.com", false), (".feeds.visualstudio.com", true)];
/// The feeds host of the new form.
const FEEDS_HOST: &str = "feeds.dev.azure.com";
/// Protocols whose REST routes below `_apis/packaging/feeds/{feed}` are on the pkgs host (facts §5.2).
const PROTOCOLS: [&str; 6] = ["npm", "nuget", "pypi", "maven", "upack", "cargo"];
/// Paths below `_apis/packaging` besides `Feeds` that the feeds host answers (facts §5.4). UNCERTAIN:
/// `globalpermissions` belongs to the same API area, but no request to it was seen.
const FEEDS_PATHS: [&str; 2] = ["feedchanges", "globalpermissions"];

/// What a grammar has found in a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Document(Document),
    Package(Package),
    Derived(Derived),
    Audit(Audit),
    /// Passed through; this is what a write there may change.
    Other(Subject),
}

/// Why a grammar has found nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nothing that it knows: passed through.
    Unknown,
    /// A value that no such thing can have, with the rule: refused.
    Malformed(String),
}

/// What a grammar makes of a path.
pub(super) type Reading = Result<Found, Unread>;

/// The organisation of a request and the host form that named it.
#[derive(Debug)]
pub(super) struct Organisation {
    pub(super) style: HostStyle,
    pub(super) name: Name,
    /// Whether the request was sent to a feeds host.
    pub(super) feeds_host: bool,
    /// Index of the first segment below the organisation and `DefaultCollection`.
    pub(super) below: usize,
}

/// Which part of the service the segments below the organisation belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// `_packaging/{feed}/…`: a package manager's protocol.
    Protocol,
    /// `_apis/packaging/feeds/{feed}/{protocol}/…`: REST on the pkgs host.
    Rest,
    /// `_apis/packaging/Feeds[/{feed}/…]`: REST on the feeds host.
    Feeds,
    /// The rest of that host: `_apis/packaging/feedchanges[/{feed}]`, `_apis/public/packaging/Feeds/{feed}/…`.
    FeedsOther,
    /// Anything else.
    Other,
}

/// The feed that a path names, what follows it, and how it is asked.
#[derive(Debug)]
pub(super) struct Place<'p, 't> {
    pub(super) method: &'p Method,
    pub(super) query: &'p str,
    pub(super) tree: Tree,
    pub(super) feed: Option<FeedRef>,
    /// The segments after the feed; empty when there is none.
    pub(super) tail: &'p [Segment<'t>],
}

// === impl Organisation ===

impl Organisation {
    /// Finds the organisation in the Host or, for every host that is not of the old form, in the first segment.
    /// A collection of a server counts as one.
    pub(super) fn find(
        collections: &Collections,
        host: Option<&str>,
        path: &CanonicalPath<'_>,
    ) -> Result<Self, RouteError> {
        let host = host_name(host.unwrap_or_default());
        let lower = host.to_ascii_lowercase();
        let subdomain = SUBDOMAINS.iter().find(|(suffix, _)| lower.ends_with(suffix));
        let (style, written, feeds_host, first) = if let Some((suffix, feeds)) = subdomain {
            (HostStyle::Subdomain, &host[..host.len() - suffix.len()], *feeds, 0)
        } else if let Some((name, below)) = collections.find(path) {
            return Ok(Self { style: HostStyle::Path, name: name.clone(), feeds_host: false, below });
        } else {
            let first = path.segments.first().map_or("", |segment| &*segment.text);
            (HostStyle::Path, first, lower == FEEDS_HOST, 1)
        };
        let name = organisation(written).ok_or_else(|| path.refuse_organisation())?;
        // Reserved by the service, so no project is called like that and dropping it twice is dropping it once.
        let collections =
            path.segments.iter().skip(first).take_while(|segment| segment.is("DefaultCollection"));
        Ok(Self { style, name, feeds_host, below: first + collections.count() })
    }
}

/// A Host without port and without the dot of a fully qualified name.
fn host_name(host: &str) -> &str {
    let port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, after)| port(after)).map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// The service allows ASCII letters, digits and inner hyphens; underscores are tolerated. It must be this narrow
/// because the name can become a label of a host name.
fn organisation(text: &str) -> Option<Name> {
    let sound = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    Name::parse(text).ok().filter(|_| sound)
}

// === impl Place ===

impl<'p, 't> Place<'p, 't> {
    /// Reads project and feed below `organisation`, and refuses encoded slashes where no client needs one.
    pub(super) fn find(
        method: &'p Method,
        path: &'p CanonicalPath<'t>,
        organisation: &Organisation,
    ) -> Result<Self, RouteError> {
        let below = &path.segments[organisation.below.min(path.segments.len())..];
        let (project, literal) = match below {
            [first, ..] if starts_tree(first) => (None, 0),
            // No project begins with an underscore, so `_git/_packaging` is no place of ours.
            [project, second, ..] if starts_tree(second) && !project.text.starts_with('_') => {
                (Some(project), 1)
            }
            _ => (None, below.len()),
        };
        let rest = &below[literal.min(below.len())..];
        let (tree, feed, tail) = split_tree(rest);
        refuse_slashes(path, tree, tail)?;
        let feed = feed.map(|feed| feed_ref(path, &organisation.name, project, feed)).transpose()?;
        Ok(Self { method, query: path.query, tree, feed, tail })
    }

    /// Whether the request only reads what is at the path.
    pub(super) fn is_read(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD)
    }
}

fn starts_tree(segment: &Segment<'_>) -> bool {
    segment.is("_packaging") || segment.is("_apis")
}

/// Tells by the literals which tree the path is in, which segment names the feed, and what follows that one.
fn split_tree<'p, 't>(rest: &'p [Segment<'t>]) -> (Tree, Option<&'p Segment<'t>>, &'p [Segment<'t>]) {
    match rest {
        [packaging, feed, tail @ ..] if packaging.is("_packaging") => (Tree::Protocol, Some(feed), tail),
        [apis, packaging, below @ ..] if apis.is("_apis") && packaging.is("packaging") => split_rest(below),
        [apis, public, packaging, below @ ..]
            if apis.is("_apis") && public.is("public") && packaging.is("packaging") =>
        {
            let (_, feed, tail) = split_rest(below);
            (Tree::FeedsOther, feed, tail)
        }
        _ => (Tree::Other, None, &[]),
    }
}

/// The same below `_apis/packaging`.
fn split_rest<'p, 't>(below: &'p [Segment<'t>]) -> (Tree, Option<&'p Segment<'t>>, &'p [Segment<'t>]) {
    match below {
        [feeds, feed, tail @ ..] if feeds.is("feeds") => {
            let protocol = tail.first().is_some_and(|first| PROTOCOLS.iter().any(|word| first.is(word)));
            (if protocol { Tree::Rest } else { Tree::Feeds }, Some(feed), tail)
        }
        [changes, feed, tail @ ..] if changes.is("feedchanges") => (Tree::FeedsOther, Some(feed), tail),
        [feeds] if feeds.is("feeds") => (Tree::Feeds, None, &[]),
        [first, ..] if FEEDS_PATHS.iter().any(|word| first.is(word)) => (Tree::FeedsOther, None, &[]),
        _ => (Tree::Other, None, &[]),
    }
}

/// An encoded slash is understood in one place: `@scope%2fname` somewhere below a feed's `npm`.
fn refuse_slashes(path: &CanonicalPath<'_>, tree: Tree, tail: &[Segment<'_>]) -> Result<(), RouteError> {
    let in_npm =
        matches!(tree, Tree::Protocol | Tree::Rest) && tail.first().is_some_and(|first| first.is("npm"));
    let first_allowed = if in_npm { path.segments.len() - tail.len() + 1 } else { path.segments.len() };
    let refused = |(index, segment): (usize, &Segment<'_>)| {
        segment.has_slash() && (index < first_allowed || !segment.is_scoped())
    };
    if path.segments.iter().enumerate().any(refused) {
        return Err(path.refuse(Rule::Escape("an encoded slash is only allowed in a scoped npm name")));
    }
    Ok(())
}

fn feed_ref(
    path: &CanonicalPath<'_>,
    org: &Name,
    project: Option<&Segment<'_>>,
    feed: &Segment<'_>,
) -> Result<FeedRef, RouteError> {
    let name = |text: &str| Name::parse(text).map_err(|error| path.refuse_name(&error));
    let (feed, view) =
        feed.text.split_once('@').map_or((&*feed.text, None), |(feed, view)| (feed, Some(view)));
    let project = project.map(|project| name(&project.text)).transpose()?;
    Ok(FeedRef::new(org.clone(), project, name(feed)?, view.map(name).transpose()?))
}
