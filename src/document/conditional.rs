//! Comparison of entity tags, RFC 9110 §8.8.3.2, for If-None-Match and If-Range.
//!
//! Dates are left out: the gate mints a strong tag for everything that it stores and sends no Last-Modified
//! that a client could give back.

/// Whether an `If-None-Match` header names `etag`, so that the answer is 304 (RFC 9110 §13.1.2).
///
/// Weak comparison; several header lines are passed joined by commas. What follows a malformed member is
/// ignored, which at worst sends the document once more.
pub fn if_none_match(header: Option<&str>, etag: &str) -> bool {
    let Some(header) = header.map(str::trim) else { return false };
    header == "*" || tags(header).any(|tag| opaque(tag) == opaque(etag))
}

/// Whether two tags are the same by the strong comparison: identical and neither of them weak.
pub fn strong_match(one: &str, other: &str) -> bool {
    let is_strong = |tag: &str| tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"');
    is_strong(one) && one == other
}

/// The tags of a list, until something that is none. Commas inside of the quotes belong to a tag.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let opening = if rest.starts_with("W/\"") { 3 } else { 1 };
        rest.get(..opening).filter(|start| start.ends_with('"'))?;
        let end = opening + rest[opening..].find('"')? + 1;
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag)
    })
}

/// A tag without its weakness indicator.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::{if_none_match, strong_match};

    #[test]
    fn if_none_match_compares_weakly_over_a_list() {
        let etag = "\"xyz,1\"";
        let rows = [
            (Some("\"xyz,1\""), true),
            (Some("W/\"xyz,1\""), true),
            (Some(" \"a\" ,\t, W/\"b\",\"xyz,1\""), true),
            (Some("*"), true),
            (Some(" * "), true),
            (Some("\"a\", *"), false),
            (Some("\"xyz\""), false),
            (Some("\"xyz,1"), false),
            (Some("xyz,1"), false),
            (Some("w/\"xyz,1\""), false),
            (Some("a, \"xyz,1\""), false),
            (Some(""), false),
            (Some("é\"xyz,1\""), false),
            (None, false),
        ];
        for (header, expected) in rows {
            assert_eq!(if_none_match(header, etag), expected, "{header:?}");
        }
        assert!(if_none_match(Some("\"a\""), "W/\"a\""));
    }

    #[test]
    fn strong_comparison_knows_no_weak_tag() {
        let rows = [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("W/\"a\"", "\"a\"", false),
            ("a", "a", false),
            ("\"", "\"", false),
        ];
        for (one, other, expected) in rows {
            assert_eq!(strong_match(one, other), expected, "{one} {other}");
        }
    }
}
