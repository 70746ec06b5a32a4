//! Which hosts are the service's, and where a URL to one of them names its organisation.

use std::{ops::Range, sync::Arc};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    RewriteError,
    text::{Reader, Syntax},
};
use crate::ident::Name;

/// The hosted service, by the forms of facts §2; `https` stands for `http` too.
const FIXED: [&str; 4] = [
    "https://pkgs.dev.azure.com/{org}",
    "https://feeds.dev.azure.com/{org}",
    "https://{org}.pkgs.visualstudio.com",
    "https://{org}.feeds.visualstudio.com",
];

/// Ends of host names that are the service's even where no organisation can be read from them.
const SERVICE_HOSTS: [&str; 2] = [".pkgs.visualstudio.com", ".feeds.visualstudio.com"];

/// Ends of host names that only serve signed blobs (facts §2, §3.5).
const BLOB_HOSTS: [&str; 2] = [".vsblob.vsassets.io", ".vsblob.visualstudio.com"];

/// Blobs are also served from this general domain, by accounts whose names hold [`BLOB_ACCOUNT`].
const BLOB_DOMAIN: &str = ".blob.core.windows.net";

/// What the service's storage accounts have in their names (facts §3.5).
const BLOB_ACCOUNT: &str = "vsblobprod";

/// Characters of a path segment that are written as they are (RFC 3986 §2.3, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest host with its port that is looked at: a host name has at most 253 characters.
const MAX_AUTHORITY: usize = 264;

/// The hosts whose URLs are the service's: the hosted ones and those of the configuration.
#[derive(Debug, Clone)]
pub struct ServiceHosts {
    places: Vec<Place>,
}

/// Where a host's URLs name the organisation. Authorities are without a default port.
#[derive(Debug, Clone)]
enum Place {
    /// In the segment after `prefix` (empty, or `/tfs`).
    Path { authority: String, prefix: String },
    /// Nowhere: every URL below `prefix` is one of the collection `name` of a server.
    Collection { authority: String, prefix: String, name: Arc<str> },
    /// In the first label of the host name; the rest of the authority is `suffix` (`.sim.test:99`).
    Host { suffix: String },
}

/// What a string turned out to start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing of the service's.
    Foreign,
    /// A URL of the service for which the gate has none.
    Unmapped,
    /// A URL that the gate has too.
    Mapped(Mapped),
}

/// A URL of an organisation, or of a host as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapped {
    /// The organisation.
    pub(super) org: Org,
    /// Where the rest of the URL starts: at `/`, `?`, `#` or the end of the string.
    pub(super) rest: usize,
}

/// The organisation of a URL, as it is written into the gate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Org {
    /// These bytes of the body, escaped as they are there; empty if there is none.
    Written(Range<usize>),
    /// A collection, percent-encoded.
    Named(Arc<str>),
}

/// The authority of a URL, unescaped, without user information.
struct Authority {
    text: [u8; MAX_AUTHORITY],
    length: usize,
    /// Where it stands in the body.
    start: usize,
}

// === impl ServiceHosts ===

impl ServiceHosts {
    /// The hosted service's hosts and those of `upstreams`: URLs with one `{org}`, either as a whole path
    /// segment at the end (`http://127.0.0.1:8080/{org}`) or as the first label (`http://{org}.sim.test:99`).
    ///
    /// # Errors
    /// [`RewriteError::Template`] for a template of any other form.
    pub fn new<T: AsRef<str>>(upstreams: &[T]) -> Result<Self, RewriteError> {
        let templates = upstreams.iter().map(AsRef::as_ref).chain(FIXED);
        Ok(Self { places: templates.map(Place::parse).collect::<Result<_, _>>()? })
    }

    /// The same and a server's: URLs below `url` (`https://tfs.example.com/tfs/DefaultCollection`) are the gate's with
    /// `collection` in the organisation's place.
    ///
    /// # Errors
    /// [`RewriteError::Template`] when `url` is no http or https URL with a path.
    pub fn with_collection(mut self, url: &str, collection: &Name) -> Result<Self, RewriteError> {
        let name: Arc<str> = utf8_percent_encode(collection.as_str(), SEGMENT).to_string().into();
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let (authority, prefix) =
            rest.and_then(|rest| rest.trim_end_matches('/').split_once('/')).ok_or_else(|| {
                RewriteError::Template(url.to_owned(), "it is no http or https URL with a path")
            })?;
        let authority = String::from_utf8_lossy(canonical(authority.as_bytes())).into_owned();
        // First: what is below a collection is no organisation's, whatever the templates say of the host.
        self.places.insert(0, Place::Collection { authority, prefix: format!("/{prefix}"), name });
        Ok(self)
    }

    /// Looks at the string that starts at `start`.
    pub(super) fn find<S: Syntax>(&self, body: &[u8], start: usize) -> Found {
        let mut reader = Reader::<S>::new(body, start);
        let Some(authority) = read_scheme(&mut reader).and_then(|()| Authority::read(&mut reader)) else {
            return Found::Foreign;
        };
        let host = authority.text();
        let at = self.places.iter().find_map(|place| place.find::<S>(body, &authority, reader.position()));
        at.unwrap_or_else(|| if is_service(host) || is_blob(host) { Found::Unmapped } else { Found::Foreign })
    }
}

/// Takes `http://` or `https://` in any case.
fn read_scheme<S: Syntax>(reader: &mut Reader<'_, S>) -> Option<()> {
    let plain = reader.take(b"http");
    if plain && reader.peek().is_some_and(|b| b.eq_ignore_ascii_case(&b's')) {
        reader.next();
    }
    (plain && reader.take(b"://")).then_some(())
}

fn is_service(authority: &[u8]) -> bool {
    let host = without_port(authority);
    SERVICE_HOSTS.iter().any(|end| ends_with(host, end))
}

fn is_blob(authority: &[u8]) -> bool {
    let host = without_port(authority);
    let account = |host: &[u8]| {
        host.windows(BLOB_ACCOUNT.len()).any(|w| w.eq_ignore_ascii_case(BLOB_ACCOUNT.as_bytes()))
    };
    BLOB_HOSTS.iter().any(|end| ends_with(host, end)) || ends_with(host, BLOB_DOMAIN) && account(host)
}

fn without_port(authority: &[u8]) -> &[u8] {
    let is_port = |at: &usize| authority[at + 1..].iter().all(u8::is_ascii_digit);
    let end = memchr::memrchr(b':', authority).filter(is_port).unwrap_or(authority.len());
    authority[..end].strip_suffix(b".").unwrap_or(&authority[..end])
}

/// Without what does not change the meaning of an authority: a default port and the root's dot.
fn canonical(authority: &[u8]) -> &[u8] {
    let ports: [&[u8]; 3] = [b":443", b":80", b":"];
    let port = ports.iter().find_map(|port| authority.strip_suffix(*port));
    let host = port.unwrap_or(authority);
    host.strip_suffix(b".").unwrap_or(host)
}

fn ends_with(text: &[u8], end: &str) -> bool {
    let at = text.len().checked_sub(end.len());
    at.is_some_and(|at| text[at..].eq_ignore_ascii_case(end.as_bytes()))
}

// === impl Place ===

impl Place {
    fn parse(template: &str) -> Result<Self, RewriteError> {
        let refuse = |why| RewriteError::Template(template.to_owned(), why);
        let url = template.trim_end_matches('/');
        let url = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let (before, after) = url
            .ok_or_else(|| refuse("it starts with neither http:// nor https://"))?
            .split_once("{org}")
            .ok_or_else(|| refuse("no {org} in it"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if before.is_empty() && after.len() > 1 && after.starts_with('.') && !after.contains(['/', '{']) {
            return Ok(Self::Host { suffix: text(canonical(after.as_bytes())) });
        }
        match before.strip_suffix('/').map(|b| b.split_at(b.find('/').unwrap_or(b.len()))) {
            Some((authority, prefix)) if after.is_empty() && !authority.is_empty() => {
                let authority = text(canonical(authority.as_bytes()));
                Ok(Self::Path { authority, prefix: prefix.to_owned() })
            }
            _ => Err(refuse("{org} must be the first label of the host or the last segment of the path")),
        }
    }

    /// Looks for the organisation in a URL whose path starts at `path`; `None` if the host is another.
    fn find<S: Syntax>(&self, body: &[u8], found: &Authority, path: usize) -> Option<Found> {
        let text = canonical(found.text());
        match self {
            Self::Path { authority, prefix } => {
                let mut reader = Reader::<S>::new(body, path);
                let same = text.eq_ignore_ascii_case(authority.as_bytes());
                (same && reader.take(prefix.as_bytes()) && reader.at_boundary()).then(|| segment(reader))
            }
            Self::Host { suffix } => {
                let length = text.len().checked_sub(suffix.len()).filter(|length| *length > 0)?;
                let label = &text[..length];
                if label.contains(&b'.') || !ends_with(text, suffix) {
                    return None;
                }
                let org = || Org::Written(found.first::<S>(body, length));
                let is_name = label.iter().copied().all(is_plain);
                Some(if is_name { Found::Mapped(Mapped { org: org(), rest: path }) } else { Found::Unmapped })
            }
            Self::Collection { authority, prefix, name } => {
                let mut reader = Reader::<S>::new(body, path);
                let same = text.eq_ignore_ascii_case(authority.as_bytes());
                let below = same && reader.take(prefix.as_bytes()) && reader.at_boundary();
                let org = || Org::Named(Arc::clone(name));
                below.then(|| Found::Mapped(Mapped { org: org(), rest: reader.position() }))
            }
        }
    }
}

/// Reads `/{org}` and checks that it is a name that can be written anywhere as it is.
fn segment<S: Syntax>(mut reader: Reader<'_, S>) -> Found {
    let before = reader.position();
    let nothing = Found::Mapped(Mapped { org: Org::Written(before..before), rest: before });
    if reader.peek() != Some(b'/') {
        return nothing;
    }
    reader.next();
    let start = reader.position();
    while !reader.at_boundary() {
        if !reader.next().is_some_and(is_plain) {
            return Found::Unmapped;
        }
    }
    let end = reader.position();
    if start == end { nothing } else { Found::Mapped(Mapped { org: Org::Written(start..end), rest: end }) }
}

/// What a name that can be written anywhere is made of.
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%')
}

// === impl Authority ===

impl Authority {
    /// Reads up to the path; `None` for what cannot be an authority. User information may be a token of any length.
    fn read<S: Syntax>(reader: &mut Reader<'_, S>) -> Option<Self> {
        let mut authority = Self { text: [0; MAX_AUTHORITY], length: 0, start: reader.position() };
        let mut fits = true;
        while !reader.at_boundary() {
            match reader.next()? {
                // What came before was user information.
                b'@' => (authority.length, authority.start, fits) = (0, reader.position(), true),
                // For clients a backslash ends the host, and a quote is in none.
                b'"' | b'\\' => return None,
                byte if byte.is_ascii_graphic() => match authority.text.get_mut(authority.length) {
                    Some(place) => {
                        *place = byte;
                        authority.length += 1;
                    }
                    None => fits = false,
                },
                _ => return None,
            }
        }
        (fits && authority.length > 0).then_some(authority)
    }

    fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Where its first `length` characters stand in the body.
    fn first<S: Syntax>(&self, body: &[u8], length: usize) -> Range<usize> {
        let mut reader = Reader::<S>::new(body, self.start);
        for _ in 0..length {
            reader.next();
        }
        self.start..reader.position()
    }
}
