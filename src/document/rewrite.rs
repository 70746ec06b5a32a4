//! Turns the service's absolute URLs into the gate's own, and finds those that got away.
//!
//! A JSON string, an XML attribute value or an XML text that *starts* with a URL of a pkgs or feeds host gets
//! its scheme, host and organisation replaced; everything after the organisation stays byte for byte, names
//! and GUIDs alike (facts §2, §3.2, §4.1, §4.3). URLs in the middle of a text (readmes) stay as they are.
//!
//! No parse is needed for that. In valid JSON a quote that is not escaped and is followed by a character of
//! a word opens a string, so a search for `://` and a look back to the quote finds every candidate at the
//! speed of `memmem`. XML is read from tag to tag: what a look back finds there may be a part of a value. Host names are
//! then compared one by one, in any case and however escaped. The body must have passed [`super::validate_json`] or [`super::validate_xml`]. Blob hosts are never rewritten: their URLs
//! are signed and must not occur at all, so they only count as leaks.

mod hosts;
mod spelling;
mod text;

use std::sync::Arc;

use bytes::Bytes;

use self::{
    hosts::{Found, Mapped, Org},
    spelling::Respelling,
    text::{Json, Syntax, Xml},
};

pub use self::hosts::ServiceHosts;

/// What the gate's own URLs look like to the client that asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PublicBase {
    /// The organisation is the first segment of the path: `{origin}/{org}/…`.
    Path {
        /// Scheme, authority and at most a path prefix, e.g. `http://gate:4873`.
        origin: String,
    },
    /// The organisation is in the host name (DNS override).
    Subdomain {
        /// The same with `{org}` where the organisation belongs, e.g. `https://{org}.pkgs.visualstudio.com`.
        origin: String,
    },
}

/// Why URLs cannot be rewritten with the given settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The public base is no plain http or https URL.
    #[error("public base `{0}` is not usable: {1}")]
    Base(String, &'static str),
    /// The template of an upstream is no http or https URL with one `{{org}}`.
    #[error("upstream template `{0}` is not usable: {1}")]
    Template(String, &'static str),
}

/// A rewritten body and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The body; the very bytes that were passed in when nothing had to be replaced.
    pub body: Bytes,
    /// How many URLs now point to the gate and did not before.
    pub replaced: usize,
    /// How many URLs of the service are left at the start of a string, see [`Rewriter::leaks`].
    pub leaked: usize,
}

/// Rewrites documents for one set of service hosts and one public base.
#[derive(Debug, Clone)]
pub struct Rewriter {
    hosts: Arc<ServiceHosts>,
    /// What stands before the organisation in the gate's URLs.
    before: String,
    /// What stands after it.
    after: String,
    /// The spelling of a feed that is written for another.
    respelling: Option<Respelling>,
}

/// One URL of the service at the start of a string.
struct Sighting {
    start: usize,
    /// `None` if the gate has no URL for it.
    mapped: Option<Mapped>,
}

// === impl Rewriter ===

impl Rewriter {
    /// Prepares rewriting from `hosts` to `base`.
    ///
    /// # Errors
    /// [`RewriteError::Base`] when the base is no http or https URL or has characters that would have to be
    /// escaped: it may come from a Host header and is written into documents.
    pub fn new(hosts: Arc<ServiceHosts>, base: &PublicBase) -> Result<Self, RewriteError> {
        let (before, after) = match base {
            PublicBase::Path { origin } => (format!("{}/", origin.trim_end_matches('/')), String::new()),
            PublicBase::Subdomain { origin } => {
                let origin = origin.trim_end_matches('/');
                let halves = origin.split_once("{org}");
                let (before, after) =
                    halves.ok_or_else(|| RewriteError::Base(origin.to_owned(), "no {org} in it"))?;
                (before.to_owned(), after.to_owned())
            }
        };
        check_base(&before, &after)?;
        Ok(Self { hosts, before, after, respelling: None })
    }

    /// Writes the spelling `to` of a feed where a URL of the service goes on with `from`, in any case and however
    /// escaped. Both are `{org}[/{project}]/_packaging/{feed}[@{view}]`, percent-encoded.
    #[must_use]
    pub fn respell(mut self, from: &str, to: &str) -> Self {
        self.respelling = Respelling::new(from, to);
        self
    }

    /// Rewrites a JSON document.
    pub fn rewrite_json(&self, body: &Bytes) -> Rewritten {
        self.rewrite::<Json>(body)
    }

    /// Rewrites an XML document: attribute values and texts (`href`, `src`, `xml:base`, `<id>`).
    pub fn rewrite_xml(&self, body: &Bytes) -> Rewritten {
        self.rewrite::<Xml>(body)
    }

    /// The gate's URL for one URL, as it stands in a header; `None` when it is not the service's, or the gate has
    /// none for it.
    pub fn rewrite_url(&self, url: &str) -> Option<String> {
        let Found::Mapped(mapped) = self.hosts.find::<Json>(url.as_bytes(), 0) else { return None };
        let mut out = Vec::with_capacity(url.len() + self.before.len() + self.after.len());
        let rest =
            self.replace::<Json>(url.as_bytes(), &Sighting { start: 0, mapped: Some(mapped) }, &mut out)?;
        out.extend_from_slice(url.as_bytes().get(rest..)?);
        String::from_utf8(out).ok()
    }

    /// How many strings of a JSON document start with a URL of a pkgs, feeds or blob host of the service
    /// that is not the gate's own; 0 after [`Rewriter::rewrite_json`] unless something is wrong.
    pub fn leaks(&self, body: &[u8]) -> usize {
        self.count_leaks::<Json>(body)
    }

    /// The same for an XML document.
    pub fn leaks_xml(&self, body: &[u8]) -> usize {
        self.count_leaks::<Xml>(body)
    }

    fn count_leaks<S: Syntax>(&self, body: &[u8]) -> usize {
        let is_leak = |sighting: &&Sighting| {
            let mut own = Vec::new();
            let rest = self.replace::<S>(body, sighting, &mut own);
            rest.is_none_or(|rest| body[sighting.start..rest] != own[..])
        };
        self.sightings::<S>(body).iter().filter(is_leak).count()
    }

    fn rewrite<S: Syntax>(&self, body: &Bytes) -> Rewritten {
        let sightings = self.sightings::<S>(body);
        let mut rewritten = Rewritten { body: body.clone(), replaced: 0, leaked: 0 };
        if sightings.is_empty() {
            return rewritten;
        }
        let path = self.respelling.as_ref().map_or(0, |respelling| respelling.path.len());
        let growth = sightings.len() * (self.before.len() + self.after.len() + path);
        let mut out = Vec::with_capacity(body.len() + growth);
        let mut kept_from = 0;
        for sighting in &sightings {
            out.extend_from_slice(&body[kept_from..sighting.start]);
            kept_from = sighting.start;
            let written_from = out.len();
            let Some(rest) = self.replace::<S>(body, sighting, &mut out) else {
                rewritten.leaked += 1;
                continue;
            };
            rewritten.replaced += usize::from(out[written_from..] != body[sighting.start..rest]);
            kept_from = rest;
        }
        if rewritten.replaced > 0 {
            out.extend_from_slice(&body[kept_from..]);
            rewritten.body = out.into();
        }
        rewritten
    }

    /// Writes the gate's prefix for one URL; returns where the rest of the URL begins. `None`, with nothing
    /// written, when the gate has no URL for it.
    fn replace<S: Syntax>(&self, body: &[u8], sighting: &Sighting, out: &mut Vec<u8>) -> Option<usize> {
        let Mapped { org, rest } = sighting.mapped.as_ref()?;
        let respelled = self
            .respelling
            .as_ref()
            .and_then(|respelling| respelling.find::<S>(body, org, *rest).map(|rest| (respelling, rest)))
            .filter(|(_, rest)| S::is_plain(&body[sighting.start..*rest]));
        let (org, path, rest) = match (respelled, org) {
            (Some((to, rest)), _) => (to.org.as_bytes(), to.path.as_bytes(), rest),
            (None, Org::Written(range)) => (&body[range.clone()], &b""[..], *rest),
            (None, Org::Named(name)) => (name.as_bytes(), &b""[..], *rest),
        };
        let is_label = !org.is_empty() && org.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        if self.in_host() && !is_label {
            return None;
        }
        out.extend_from_slice(if org.is_empty() {
            self.before.trim_end_matches('/').as_bytes()
        } else {
            self.before.as_bytes()
        });
        out.extend_from_slice(org);
        out.extend_from_slice(self.after.as_bytes());
        out.extend_from_slice(path);
        Some(rest)
    }

    /// Whether the organisation is part of the gate's host name.
    fn in_host(&self) -> bool {
        !self.after.is_empty()
    }

    /// Every URL of the service at the start of a string, in order.
    fn sightings<S: Syntax>(&self, body: &[u8]) -> Vec<Sighting> {
        let mut found = Vec::new();
        S::each_start(body, |start| match self.hosts.find::<S>(body, start) {
            Found::Foreign => {}
            Found::Unmapped => found.push(Sighting { start, mapped: None }),
            Found::Mapped(mapped) => {
                let mapped = Some(mapped).filter(|mapped| S::is_plain(&body[start..mapped.rest]));
                found.push(Sighting { start, mapped });
            }
        });
        // Those that are found in more than one way, or out of order, are few.
        if !found.is_sorted_by(|one, next| one.start < next.start) {
            found.sort_unstable_by_key(|sighting| sighting.start);
            found.dedup_by_key(|sighting| sighting.start);
        }
        found
    }
}

/// Refuses a base that is no absolute URL, or that could end the string it is written into.
fn check_base(before: &str, after: &str) -> Result<(), RewriteError> {
    let refuse = |why| Err(RewriteError::Base(format!("{before}{{org}}{after}"), why));
    let Some(authority) = before.strip_prefix("https://").or_else(|| before.strip_prefix("http://")) else {
        return refuse("it starts with neither http:// nor https://");
    };
    if authority.is_empty() && after.is_empty() || authority.starts_with('/') {
        return refuse("it has no host");
    }
    let plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '<' | '>' | '&' | '{' | '}');
    if !before.chars().chain(after.chars()).all(plain) {
        return refuse("a character in it would have to be escaped");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
