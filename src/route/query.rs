//! Query strings: which of them leave a document as it is, and one spelling for those that are part of a key.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

/// Whether every parameter of `query` is one of `without_effect` (lower case), so that the document is the
/// one without a query.
///
/// The rule is a list of what may be ignored, not of what may not: a parameter that nobody here has thought of
/// (npm's `?write=true` before a publish, a cache buster) asks for something else than the stored document, and
/// passing it through is never wrong.
pub(super) fn is_without_effect(query: &str, without_effect: &[&str]) -> bool {
    parameters(query).iter().all(|parameter| without_effect.contains(&split(parameter).0.as_str()))
}

/// The parameters that are not empty, each in its [`canonical`] spelling.
pub(super) fn parameters(query: &str) -> Vec<String> {
    query.split('&').filter(|parameter| !parameter.is_empty()).map(canonical).collect()
}

/// A parameter's name, lower case, and its value.
pub(super) fn split(parameter: &str) -> (String, &str) {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    (name.to_ascii_lowercase(), value)
}

/// A parameter's value, percent-decoded. A `+` stays one: it stands for itself in versions (facts §4.4).
pub(super) fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// The query with every character in its one spelling of RFC 3986 §6.2.2: unreserved characters bare, other
/// escapes in upper case, a `%` that starts no escape as `%25`. Order and repeats stay, since the service may
/// heed them.
pub(super) fn canonical(query: &str) -> String {
    let mut canonical = String::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, escaped, after) = match (first, escape(after)) {
            (b'%', Some(byte)) => (byte, true, &after[2..]),
            _ => (first, false, after),
        };
        push(&mut canonical, byte, escaped);
        rest = after;
    }
    canonical
}

fn push(canonical: &mut String, byte: u8, escaped: bool) {
    let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let reserved = b"!$&'()*+,;=:@/?".contains(&byte);
    if unreserved || (reserved && !escaped) {
        canonical.push(char::from(byte));
    } else {
        // Writing to a String can't fail.
        let _ = write!(canonical, "%{byte:02X}");
    }
}

/// The byte that the two hex digits at the start of `text` stand for.
fn escape(text: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*text.get(index)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{canonical, is_without_effect};

    #[test]
    fn a_query_has_one_spelling_and_keeps_its_order() {
        let rows = [
            ("q=json&skip=0", "q=json&skip=0"),
            ("skip=0&q=json", "skip=0&q=json"),
            ("q=%6a%73on", "q=json"),
            ("q=a%2fb%2Fc/d", "q=a%2Fb%2Fc/d"),
            ("q=a+b%20c%2bd", "q=a+b%20c%2Bd"),
            ("q=é", "q=%C3%A9"),
            ("q=%c3%a9", "q=%C3%A9"),
            ("q=a&&q=a&", "q=a&&q=a&"),
            ("q=100%", "q=100%25"),
            ("q=%2%35", "q=%2525"),
            ("q=%zz", "q=%25zz"),
            ("q=a b\"<>", "q=a%20b%22%3C%3E"),
            ("", ""),
        ];
        for (query, expected) in rows {
            assert_eq!(canonical(query), expected);
            assert_eq!(canonical(expected), expected);
        }
    }

    #[test]
    fn only_listed_parameters_leave_a_document_as_it_is() {
        let rows = [
            ("", true),
            ("&", true),
            ("semVerLevel=2.0.0", true),
            ("SEMVERLEVEL=2.0.0&semverlevel", true),
            ("write=true", false),
            ("semVerLevel=2.0.0&write=true", false),
            ("=", false),
            ("semVerLevel2=1", false),
        ];
        for (query, expected) in rows {
            assert_eq!(is_without_effect(query, &["semverlevel"]), expected, "{query}");
        }
    }
}
