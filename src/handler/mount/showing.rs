//! What a client of a mount sees: headers, conditions of its own, stored bodies.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{Usable, Work};
use crate::{
    blob::Blob,
    config::{audit::RegistryUrl, upstream::Base},
    document::{conditional::if_none_match, representation::joined},
    handler::{CacheStatus, PackageBody, Reply, ReplyBody},
    policy::{Stored, age, end_to_end, http_date},
    upstream::{BodyStream, UpstreamError},
};

/// Bytes read from the store at a time.
const READ: usize = 256 << 10;
/// Fields that a 304 leaves out: they describe a body that the client has (RFC 9110 §15.4.5).
const OF_A_BODY: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_DISPOSITION];
/// Directives for this cache, and for nobody behind it (W3C Edge Architecture 1.0, §2.2).
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// A stored body of a response of which no part is asked for.
struct StoredBody {
    blob: Blob,
    offset: u64,
}

// === impl Work ===

impl Work<'_> {
    /// The answer that a stored response is.
    pub(super) fn show(&self, usable: Usable, cache: CacheStatus) -> Reply {
        let Usable { head, blob } = usable;
        let mut headers = self.shown(&head.headers);
        if let Some(age) = age(&head, self.mounts.now()) {
            headers.insert(header::AGE, age.as_secs().into());
        }
        if head.status == StatusCode::OK && not_modified(&self.request.headers, &head) {
            for name in &OF_A_BODY {
                headers.remove(name);
            }
            return Reply::bytes(StatusCode::NOT_MODIFIED, headers, Bytes::new(), cache);
        }
        let body = match blob {
            None => ReplyBody::Bytes(Bytes::new()),
            Some(blob) if head.status == StatusCode::OK => ReplyBody::Package(PackageBody::Stored(blob)),
            Some(blob) => {
                let length = Some(blob.stat.length);
                ReplyBody::Stream { body: Box::new(StoredBody { blob, offset: 0 }), length }
            }
        };
        Reply { status: head.status, reason: head.reason, headers, body, cache }
    }

    /// The headers of a response for the client; framing is added later.
    pub(super) fn shown(&self, headers: &HeaderMap) -> HeaderMap {
        let mut shown = end_to_end(headers);
        shown.remove(header::CONTENT_LENGTH);
        shown.remove(SURROGATE_CONTROL);
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let own = shown.get(&name).and_then(|value| self.below_mount(value.to_str().ok()?));
            if let Some(own) = own {
                shown.insert(name, own);
            }
        }
        if !shown.contains_key(header::DATE)
            && let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(self.mounts.now()))
        {
            // RFC 9110 §6.6.1: whoever receives a response without one adds it.
            shown.insert(header::DATE, now);
        }
        shown
    }

    /// The URL at the origin that a field of a response refers to, if it is of the same origin (RFC 9111 §4.4).
    pub(super) fn referred(&self, headers: &HeaderMap, name: &HeaderName) -> Option<String> {
        resolve(&self.mount.upstream, &self.key.url, headers.get(name)?.to_str().ok()?)
    }

    /// Where the mount has what the origin refers to; `None` when that is elsewhere, or relative.
    fn below_mount(&self, reference: &str) -> Option<HeaderValue> {
        let Base { origin, prefix } = &self.mount.upstream;
        let path = reference.strip_prefix(&origin.to_string()).unwrap_or(reference);
        let below = path.strip_prefix(prefix.as_str())?.strip_prefix('/')?;
        if below.starts_with('/') {
            return None;
        }
        HeaderValue::from_str(&format!("{}{below}", self.mount.path)).ok()
    }
}

/// An absolute URL for a reference, without its fragment (RFC 3986 §5.2); `None` when it is of another origin.
fn resolve(base: &Base, url: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.is_empty() {
        return Some(url.to_owned());
    }
    let full = reference.strip_prefix("//").map(|rest| format!("{}://{rest}", base.origin.scheme.as_str()));
    let reference = full.as_deref().unwrap_or(reference);
    let own = url.strip_prefix(&base.origin.to_string())?.split('?').next()?;
    let has_scheme = reference.split(['/', '?']).next().is_some_and(|start| start.contains(':'));
    let path = if has_scheme {
        let host = reference.find("://")? + 3;
        let end = reference[host..].find(['/', '?']).map_or(reference.len(), |at| host + at);
        let (origin, path) = reference.split_at(end);
        if origin.parse::<RegistryUrl>().ok()?.base().origin != base.origin {
            return None;
        }
        if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
    } else if reference.starts_with('/') {
        reference.to_owned()
    } else if reference.starts_with('?') {
        format!("{own}{reference}")
    } else {
        format!("{}/{reference}", own.rsplit_once('/')?.0)
    };
    Some(format!("{}{}", base.origin, without_dots(&path)))
}

/// A path with its dot segments resolved (RFC 3986 §5.2.4), and the query behind it as it is.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut segments = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let is_last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                segments.extend(is_last.then_some(""));
            }
            other => segments.push(other),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

/// Whether the client has what is stored (RFC 9111 §4.3.2): by its tags, else by the date of the last change, or of
/// the response where none is known.
fn not_modified(asked: &HeaderMap, stored: &Stored) -> bool {
    if let Some(tags) = joined(asked, &header::IF_NONE_MATCH) {
        let etag = joined(&stored.headers, &header::ETAG);
        return etag.is_some_and(|etag| if_none_match(Some(&tags), &etag));
    }
    let Some(since) = http_date(asked, &header::IF_MODIFIED_SINCE) else { return false };
    let changed: SystemTime = http_date(&stored.headers, &header::LAST_MODIFIED)
        .or_else(|| http_date(&stored.headers, &header::DATE))
        .unwrap_or(stored.received_at);
    changed <= since
}

#[async_trait]
impl BodyStream for StoredBody {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if self.offset == self.blob.stat.length {
            return Ok(None);
        }
        let bytes = self.blob.bytes.read_at(self.offset, READ).await;
        let bytes = bytes.map_err(|error| UpstreamError::Broken {
            host: "the store".to_owned(),
            reason: error.to_string(),
        })?;
        self.offset += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::config::upstream::{Base, Origin, Scheme};

    #[test]
    fn references_are_resolved_as_far_as_they_stay_at_the_origin() {
        let origin = Origin { scheme: Scheme::Http, host: "o".to_owned(), port: 80 };
        let base = Base { origin, prefix: "/p".to_owned() };
        let rows = [
            ("/x?y#z", Some("http://o/x?y")),
            ("http://o/x", Some("http://o/x")),
            ("http://o.example/x", None),
            ("https://o/x", None),
            ("//o.example/x", None),
            ("x", Some("http://o/p/a/x")),
            ("./x", Some("http://o/p/a/x")),
            ("../x", Some("http://o/p/x")),
            ("../../../x/./y/..", Some("http://o/x/")),
            ("/p/../x", Some("http://o/x")),
            ("/x/..?y=/../z", Some("http://o/?y=/../z")),
            ("/x//y", Some("http://o/x//y")),
            (".", Some("http://o/p/a/")),
            ("HTTP://O/x", Some("http://o/x")),
            ("http://o:80/../x", Some("http://o/x")),
            ("http:x", None),
            ("http://o", Some("http://o/")),
            ("http://o?x", Some("http://o/?x")),
            ("http://user@o/x", None),
            ("http://o:81/x", None),
            ("mailto:x", None),
            ("//O/x", Some("http://o/x")),
            ("?z", Some("http://o/p/a/b?z")),
            ("", Some("http://o/p/a/b?c")),
        ];
        for (reference, expected) in rows {
            let found = resolve(&base, "http://o/p/a/b?c", reference);
            assert_eq!(found.as_deref(), expected, "{reference}");
        }
    }
}
