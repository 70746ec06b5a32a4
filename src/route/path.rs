//! The request line's target, taken apart: path segments decoded exactly once, the query, and every refusal
//! that needs no grammar.
//!
//! What the segments mean is left to the grammars; what may not be in any path is settled here, because a
//! path that two readers (the gate, the service's front end, its application) take apart in two ways could
//! lead out of the feed that was checked. So nothing is repaired: a dot segment is refused, not resolved.
//!
//! Empty segments are dropped, also a trailing slash where a document is recognised. That is harmless: no name
//! of the service can be empty, so `a//b` can only mean `a/b` (clients that join a base ending in `/` with a
//! path beginning with `/` send it), and what is addressed is read from the segments that go upstream.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::RouteError;

/// Bytes that RFC 3986 allows nowhere in a URI but that a lenient client may send raw. Others stay as they came.
const NOT_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Longest part of a path that an error repeats, in characters.
const SHOWN: usize = 200;

/// A path and query that hold nothing that is refused everywhere.
#[derive(Debug)]
pub(super) struct CanonicalPath<'t> {
    /// The path as it came, for errors.
    written: &'t str,
    /// The segments that are not empty.
    pub(super) segments: Vec<Segment<'t>>,
    /// Whether the path ends in `/`.
    pub(super) trailing_slash: bool,
    /// The query as it came, without `?`; empty when there is none.
    pub(super) query: &'t str,
}

/// One path segment.
#[derive(Debug)]
pub(super) struct Segment<'t> {
    written: &'t str,
    /// Decoded once. May hold `/` (an encoded slash), and then no part of it is a dot segment.
    pub(super) text: Cow<'t, str>,
}

/// A rule that a path breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Becomes [`RouteError::Escape`].
    Escape(&'static str),
    /// Becomes [`RouteError::Encoding`].
    Encoding(&'static str),
}

/// Splits a request target in origin or absolute form into its authority, if it has one, and the rest.
///
/// Other forms (`*`, `host:port`) have no path and are `None`.
pub(super) fn split_authority(target: &str) -> Option<(Option<&str>, &str)> {
    if target.starts_with('/') {
        return Some((None, target));
    }
    let has_scheme =
        |scheme: &&str| target.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    let scheme = ["http://", "https://"].into_iter().find(has_scheme)?;
    let rest = &target[scheme.len()..];
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((Some(authority), path))
}

/// As much of a path as an error or a log line should repeat, with nothing that could break the line.
pub(super) fn shown(path: &str) -> String {
    path.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

// === impl CanonicalPath ===

impl<'t> CanonicalPath<'t> {
    /// Reads path and query, the part of a request target from its first `/` on.
    pub(super) fn parse(text: &'t str) -> Result<Self, RouteError> {
        let (written, query) = text.split_once('?').unwrap_or((text, ""));
        let read = || {
            if text.contains('#') {
                return Err(Rule::Encoding("a fragment has no place in a request"));
            }
            check_query(query)?;
            written.split('/').filter(|segment| !segment.is_empty()).map(Segment::decode).collect()
        };
        let segments = read().map_err(|rule: Rule| rule.broken_by(written))?;
        Ok(Self { written, segments, trailing_slash: written.ends_with('/'), query })
    }

    /// The error for a rule that this path breaks.
    pub(super) fn refuse(&self, rule: Rule) -> RouteError {
        rule.broken_by(self.written)
    }

    /// The error for a name in this path that is not valid.
    pub(super) fn refuse_name(&self, reason: &dyn std::fmt::Display) -> RouteError {
        RouteError::Name(shown(self.written), reason.to_string())
    }

    /// The error for a path without an organisation.
    pub(super) fn refuse_organisation(&self) -> RouteError {
        RouteError::NoOrganisation(shown(self.written))
    }

    /// Path and query from segment `first` on as they came, but for empty segments and bytes that no URI has.
    pub(super) fn written_from(&self, first: usize) -> String {
        let mut path = String::with_capacity(self.written.len() + self.query.len() + 1);
        for segment in self.segments.iter().skip(first) {
            path.push('/');
            path.extend(utf8_percent_encode(segment.written, NOT_IN_URI));
        }
        if path.is_empty() || self.trailing_slash {
            path.push('/');
        }
        if !self.query.is_empty() {
            path.push('?');
            path.extend(utf8_percent_encode(self.query, NOT_IN_URI));
        }
        path
    }
}

// === impl Segment ===

impl<'t> Segment<'t> {
    fn decode(written: &'t str) -> Result<Self, Rule> {
        let text = decode(written)?;
        if has_escape(&text) {
            return Err(Rule::Encoding("a character is encoded twice"));
        }
        if text.contains('\\') {
            return Err(Rule::Escape("a backslash is not allowed"));
        }
        if text.contains(char::is_control) {
            return Err(Rule::Escape("a control character is not allowed"));
        }
        if text.split('/').any(is_dots) {
            return Err(Rule::Escape("a dot segment is not allowed"));
        }
        Ok(Self { written, text })
    }

    /// Whether the segment is the literal `word`; the service compares literals without case (facts §2).
    pub(super) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    /// Whether an encoded slash is in the segment.
    pub(super) fn has_slash(&self) -> bool {
        self.text.contains('/')
    }

    /// Whether the segment has the form `@scope/name`, the only one in which clients encode a slash.
    pub(super) fn is_scoped(&self) -> bool {
        let parts = self.text.strip_prefix('@').and_then(|scoped| scoped.split_once('/'));
        parts.is_some_and(|(scope, name)| !scope.is_empty() && !name.is_empty() && !name.contains('/'))
    }
}

// === impl Rule ===

impl Rule {
    /// The error that names the path and the rule.
    pub(super) fn broken_by(self, path: &str) -> RouteError {
        match self {
            Self::Escape(rule) => RouteError::Escape(shown(path), rule),
            Self::Encoding(rule) => RouteError::Encoding(shown(path), rule),
        }
    }
}

/// Percent-decodes once; unlike the crate's own decoder it takes no `%` that starts no escape.
fn decode(written: &str) -> Result<Cow<'_, str>, Rule> {
    if written.split('%').skip(1).any(|after| !starts_with_hex_pair(after)) {
        return Err(Rule::Encoding("a % starts no escape"));
    }
    percent_decode_str(written).decode_utf8().map_err(|_| Rule::Encoding("the bytes are not UTF-8"))
}

/// Whether somebody may read `part` as a dot segment: front ends on Windows cut dots and spaces off the end of a segment,
/// so `.. ` is `..` to them, and servlets what begins with `;`.
fn is_dots(part: &str) -> bool {
    let bare = part.split(';').next().unwrap_or_default();
    !bare.is_empty() && bare.trim_end_matches(['.', ' ']).is_empty()
}

fn has_escape(text: &str) -> bool {
    text.split('%').skip(1).any(starts_with_hex_pair)
}

fn starts_with_hex_pair(text: &str) -> bool {
    text.as_bytes().get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
}

/// A query is data and no place: only what could break a log line or a header is refused.
fn check_query(query: &str) -> Result<(), Rule> {
    let text = percent_decode_str(query)
        .decode_utf8()
        .map_err(|_| Rule::Encoding("the bytes of the query are not UTF-8"))?;
    if text.contains(char::is_control) {
        return Err(Rule::Escape("a control character is not allowed in the query"));
    }
    Ok(())
}
