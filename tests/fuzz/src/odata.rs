//! A rewritten or filtered `OData` document is as well-formed as it was, and has no URL of the service left that was not
//! counted.
//!
//! Input: a byte for what a guard refuses, and a document. `roxmltree` says what is well-formed.

use bytes::Bytes;
use feedgate::{document::validate_xml, guard::filter_feed};
use roxmltree::{Document, Node};

use crate::url::{GATE, is_service, rewriter};

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Some((&choice, document)) = input.split_first() else { return };
    if validate_xml(document).is_err() {
        return;
    }
    let rewriter = rewriter(false);
    let body = Bytes::copy_from_slice(document);
    let rewritten = rewriter.rewrite_xml(&body);
    assert_eq!(rewriter.leaks_xml(&rewritten.body), rewritten.leaked);
    let again = rewriter.rewrite_xml(&rewritten.body);
    assert_eq!((again.replaced, again.leaked, &again.body), (0, rewritten.leaked, &rewritten.body));
    let before = std::str::from_utf8(document).expect("checked above");
    let after = std::str::from_utf8(&rewritten.body).expect("still UTF-8");
    let Ok(before) = Document::parse(before) else { return };
    let after = Document::parse(after).unwrap_or_else(|error| panic!("{error} in {after}"));
    let left = same_but_urls(&before, &after);
    assert!(left <= rewritten.leaked, "{left} left, {} counted in {}", rewritten.leaked, after.input_text());
    is_filtered(choice, document, &before);
}

/// Compares the documents node by node; returns how many texts and values still start with a URL of the service.
fn same_but_urls(before: &Document<'_>, after: &Document<'_>) -> usize {
    let mut left = 0;
    let mut compare = |before: &str, after: &str| {
        let same = before == after || before.len() >= GATE.len() && after.contains(GATE);
        assert!(same, "{before:?} became {after:?}");
        // No name server knows a host with a quote or a bracket: in a text those are letters, elsewhere they are an end.
        let odd = |letter: char| !letter.is_ascii_alphanumeric() && !"-._~%:@?#".contains(letter);
        let odd = after.split('/').nth(2).is_some_and(|authority| authority.contains(odd));
        left += usize::from(is_service(after) && !odd);
    };
    let mut others = after.descendants();
    for node in before.descendants() {
        let other = others.next().expect("as many nodes");
        assert_eq!((node.node_type(), node.tag_name().name()), (other.node_type(), other.tag_name().name()));
        if node.is_text() {
            compare(text(node).trim_start(), text(other).trim_start());
        }
        assert_eq!(node.attributes().len(), other.attributes().len());
        for (attribute, other) in node.attributes().zip(other.attributes()) {
            assert_eq!(attribute.name(), other.name());
            compare(attribute.value(), other.value());
        }
    }
    assert_eq!(others.next(), None);
    left
}

fn text<'d>(node: Node<'d, '_>) -> &'d str {
    node.text().unwrap_or_default()
}

/// A guard's part of a feed is well-formed too, and has none of the entries that the guard refuses.
fn is_filtered(choice: u8, document: &[u8], before: &Document<'_>) {
    let refuses = |id: &str, version: &str| (id.len() + version.len()) % 2 == usize::from(choice & 1);
    let Some(filtered) = filter_feed(document, |id, version, _| refuses(id, version)) else { return };
    let filtered = String::from_utf8(filtered).expect("still UTF-8");
    let after = Document::parse(&filtered).unwrap_or_else(|error| panic!("{error} in {filtered}"));
    let entries = |document: &Document<'_>| {
        document.root_element().children().filter(|node| node.tag_name().name() == "entry").count()
    };
    assert!(entries(&after) < entries(before));
    assert_eq!(filter_feed(filtered.as_bytes(), |id, version, _| refuses(id, version)), None);
}
