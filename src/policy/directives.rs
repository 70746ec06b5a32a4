//! `Cache-Control` and its targeted kin, read (RFC 9111 §5.2, RFC 9213).
//!
//! Names are compared without case, values may be quoted (§5.2), what is not known is skipped. Of a directive that
//! comes twice the first counts (§4.2.1).

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

/// Larger numbers of seconds are as good as this one (RFC 9111 §1.2.2).
const MOST_SECONDS: u64 = 1 << 31;
/// The targeted fields that this cache obeys, the first that is present and can be read before the others
/// (RFC 9213 §2.2), and before `Cache-Control` and `Expires`. The second is older than that standard
/// (W3C Edge Architecture 1.0, §2.2); a directive in it may name the surrogate that it is for.
const TARGETED: [HeaderName; 2] = [CDN_CACHE_CONTROL, SURROGATE_CONTROL];
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// What a surrogate directive calls this cache.
const OWN_NAME: &str = "feedgate";

/// The directives of a request or a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// Names in lower case, with their values as written, unquoted.
    list: Vec<(String, Option<String>)>,
    /// Whether they come from a targeted field, which `Expires` does not add to (RFC 9213 §2.1).
    is_targeted: bool,
}

// === impl Directives ===

impl Directives {
    /// Those of a request; `Pragma: no-cache` stands in where there is no `Cache-Control` (RFC 9111 §5.4).
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = Self::of_field(headers, &header::CACHE_CONTROL);
        if !headers.contains_key(header::CACHE_CONTROL) {
            let pragma = Self::of_field(headers, &header::PRAGMA);
            directives.list.extend(pragma.list.into_iter().filter(|(name, _)| name == "no-cache"));
        }
        directives
    }

    /// Those of a response: of the first targeted field that says something, else of `Cache-Control`.
    pub fn of_response(headers: &HeaderMap) -> Self {
        let targeted = TARGETED.into_iter().map(|name| Self::of_field(headers, &name));
        match targeted.into_iter().find(|directives| !directives.list.is_empty()) {
            Some(directives) => Self { is_targeted: true, ..directives },
            None => Self::of_field(headers, &header::CACHE_CONTROL),
        }
    }

    /// Whether `name` (in lower case) is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether `name` is there without field names, so that it speaks of the whole response (§5.2.2.4, §5.2.2.7). What
    /// stands in their place and is none counts as none.
    pub fn has_whole(&self, name: &str) -> bool {
        let names_fields =
            |list: &str| list.split(',').all(|field| field.trim().parse::<HeaderName>().is_ok());
        let own = self.list.iter().filter(|(other, _)| other == name);
        own.map(|(_, value)| value.as_deref()).any(|list| list.is_none_or(|list| !names_fields(list)))
    }

    /// Whether `name` is there without a value.
    pub fn has_bare(&self, name: &str) -> bool {
        self.list.iter().any(|(other, value)| other == name && value.is_none())
    }

    /// The seconds of `name`; zero when its value is not a number of them (§4.2.1: "considered stale").
    pub fn seconds(&self, name: &str) -> Option<Duration> {
        let value = self.find(name)?.as_deref().unwrap_or_default();
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        // So many digits that the number does not fit are a large number.
        let seconds = if is_number { value.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS) } else { 0 };
        Some(Duration::from_secs(seconds))
    }

    /// The field names that `name` lists.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = HeaderName> {
        let values = self.list.iter().filter(move |(other, _)| other == name);
        let values = values.filter_map(|(_, value)| value.as_deref());
        values.flat_map(|value| value.split(',')).filter_map(|field| field.trim().parse().ok())
    }

    /// Whether they come from a targeted field.
    pub fn is_targeted(&self) -> bool {
        self.is_targeted
    }

    fn find(&self, name: &str) -> Option<&Option<String>> {
        self.list.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    fn of_field(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut list = Vec::new();
        for value in headers.get_all(name) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let members = split_outside_quotes(&text, ',');
            if *name == SURROGATE_CONTROL {
                list.extend(members.filter_map(for_this_surrogate).filter_map(directive));
            } else if *name == CDN_CACHE_CONTROL {
                // A structured dictionary: parameters of a member say nothing that is known (RFC 9213 §2.1).
                let bare = members.filter_map(|member| split_outside_quotes(member, ';').next());
                list.extend(bare.filter_map(directive));
            } else {
                list.extend(members.filter_map(directive));
            }
        }
        Self { list, is_targeted: false }
    }
}

/// `max-age=60;name` is for the surrogate of that name only.
fn for_this_surrogate(member: &str) -> Option<&str> {
    let mut parts = split_outside_quotes(member, ';');
    let directive = parts.next()?;
    let mut names = parts.map(str::trim).peekable();
    (names.peek().is_none() || names.any(|name| name == OWN_NAME)).then_some(directive)
}

fn directive(member: &str) -> Option<(String, Option<String>)> {
    let member = member.trim();
    let (name, value) = match member.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (member, None),
    };
    let unquoted = value.map(|value| {
        let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        inside.unwrap_or(value).to_owned()
    });
    let name = name.trim_end().to_ascii_lowercase();
    (!name.is_empty()).then_some((name, unquoted))
}

/// The parts between separators that stand in no quoted string (RFC 9110 §5.6.4).
pub(super) fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter| {
        let ends = !quoted && letter == separator;
        if letter == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && letter == '\\' && !escaped;
        ends
    })
}
