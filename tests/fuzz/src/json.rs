//! A rewritten JSON document has no URL of the service left that was not counted, and nothing else changes.
//!
//! Input: a byte for the public base, and a document. What is between the strings must stay byte for byte, and each
//! string must stay as it is or be the gate's URL for it: that is more than "valid JSON stays valid".

use bytes::Bytes;
use feedgate::document::validate_json;

use crate::url::{is_mapped, is_service, rewriter};

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Some((&choice, document)) = input.split_first() else { return };
    if validate_json(document).is_err() {
        return;
    }
    let subdomain = choice & 1 == 1;
    let rewriter = rewriter(subdomain);
    let body = Bytes::copy_from_slice(document);
    let rewritten = rewriter.rewrite_json(&body);
    assert_eq!(validate_json(&rewritten.body), Ok(()));
    assert_eq!(rewriter.leaks(&rewritten.body), rewritten.leaked);
    let again = rewriter.rewrite_json(&rewritten.body);
    assert_eq!((again.replaced, again.leaked, &again.body), (0, rewritten.leaked, &rewritten.body));
    if subdomain {
        return;
    }
    let (before, after) = (parts(document), parts(&rewritten.body));
    assert_eq!(before.between, after.between);
    assert_eq!(before.strings.len(), after.strings.len());
    let changed = |(before, after): &(&&str, &&str)| before != after;
    let pairs = || before.strings.iter().zip(&after.strings);
    assert_eq!(pairs().filter(changed).count(), rewritten.replaced);
    for (before, after) in pairs().filter(changed) {
        let (Some(before), Some(after)) = (decoded(before), decoded(after)) else { continue };
        assert!(is_mapped(&before, &after), "{before:?} became {after:?}");
    }
    let left =
        after.strings.iter().filter(|string| decoded(string).is_some_and(|text| is_service(&text))).count();
    let unread = after.strings.iter().filter(|string| decoded(string).is_none()).count();
    let document = String::from_utf8_lossy(&rewritten.body);
    assert!(
        (left..=left + unread).contains(&rewritten.leaked),
        "{left} and not {}: {document}",
        rewritten.leaked
    );
}

/// A JSON document, taken apart.
struct Parts<'d> {
    /// The strings with their quotes.
    strings: Vec<&'d str>,
    /// What is between them.
    between: Vec<&'d str>,
}

/// Takes a valid document apart.
fn parts(document: &[u8]) -> Parts<'_> {
    let text = std::str::from_utf8(document).expect("valid JSON is UTF-8");
    let mut parts = Parts { strings: Vec::new(), between: Vec::new() };
    let (mut rest, bytes) = (0, text.as_bytes());
    while let Some(open) = text[rest..].find('"').map(|at| rest + at) {
        parts.between.push(&text[rest..open]);
        let mut at = open + 1;
        while bytes[at] != b'"' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        rest = at + 1;
        parts.strings.push(&text[open..rest]);
    }
    parts.between.push(&text[rest..]);
    parts
}

/// The text of a string; `None` where it has half a surrogate pair.
fn decoded(string: &str) -> Option<String> {
    serde_json::from_str(string).ok()
}
