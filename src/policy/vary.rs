//! Which requests a stored response is for: `Vary` (RFC 9111 §4.1).
//!
//! Fields are compared in a normal form, as far as §4.1 allows: lines joined, space around commas removed. Languages
//! and codings are compared without case, and of members with the same weight the order does not count (RFC 9110
//! §12.4.2).

use http::{HeaderMap, HeaderName, header};

use super::directives::split_outside_quotes;

/// The fields that `Vary` names, in their order, each with its normal form in the request; `None` for a field that
/// the request does not have.
pub type Selecting = Vec<(HeaderName, Option<Vec<u8>>)>;

/// The selecting fields of `request` for a response with the `Vary` of `response`; `None` when no request is ever
/// known to match (`*`, or a member that is no field name).
pub fn selecting(request: &HeaderMap, response: &HeaderMap) -> Option<Selecting> {
    let mut fields = Selecting::new();
    for value in response.get_all(header::VARY) {
        let members = value.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty());
        for member in members {
            if member == "*" {
                return None;
            }
            let name: HeaderName = member.parse().ok()?;
            let value = normal(request, &name);
            fields.push((name, value));
        }
    }
    Some(fields)
}

/// Whether `request` has the selecting fields that a response was stored with.
pub fn selects(selecting: &Selecting, request: &HeaderMap) -> bool {
    selecting.iter().all(|(name, value)| normal(request, name) == *value)
}

fn normal(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let values = headers.get_all(name).iter();
    let lines: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    if lines.is_empty() {
        return None;
    }
    if lines.iter().any(|line| line.contains(char::REPLACEMENT_CHARACTER)) {
        // Bytes without a meaning that is known are compared as they are.
        return Some(headers.get_all(name).iter().flat_map(|value| value.as_bytes().to_vec()).collect());
    }
    let line = lines.join(",");
    let mut members: Vec<_> =
        split_outside_quotes(&line, ',').map(|member| member.trim().to_owned()).collect();
    if matches!(*name, header::ACCEPT_LANGUAGE | header::ACCEPT_ENCODING) {
        members = members.iter().map(|member| weighted(member)).collect();
        members.retain(|member| !member.is_empty());
        members.sort_unstable();
        members.dedup();
    }
    Some(members.join(",").into_bytes())
}

/// A member with its weight written in one way.
fn weighted(member: &str) -> String {
    let member: String = member.to_ascii_lowercase().split_whitespace().collect();
    let bare = member.strip_suffix(";q=1").or_else(|| member.split_once(";q=1.0").map(|(name, _)| name));
    bare.unwrap_or(&member).to_owned()
}
