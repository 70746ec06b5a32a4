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

/// A guard's part of a feed is well-formed too, and has none of the entries that the guard refuses. Where `roxmltree` and
/// the guard would not read the same, the guard reads nothing.
fn is_filtered(choice: u8, document: &[u8], before: &Document<'_>) {
    let refuses = |id: &str, version: &str| (id.len() + version.len()) % 2 == usize::from(choice & 1);
    let filter = |document: &[u8]| filter_feed(document, |id, version, _| refuses(id, version));
    let filtered = match filter(document) {
        Ok(filtered) => filtered,
        Err(why) => {
            let why = why.to_string();
            let is_known =
                ["nests deeper", "another encoding", "is one entry", "is not well-formed", "is not defined"];
            assert!(is_known.iter().any(|known| why.contains(known)), "{why}");
            return;
        }
    };
    let entries = |document: &Document<'_>| {
        let is_entry = |node: &Node<'_, '_>| node.tag_name().name() == "entry";
        let root = document.root_element();
        let whole = Some(root).filter(is_entry);
        let entries =
            whole.into_iter().chain(root.children().filter(|node| whole.is_none() && is_entry(node)));
        entries.map(|entry| (field(entry, "Id").or(field(entry, "title")), field(entry, "Version"))).collect()
    };
    let is_gone = |(id, version): &(Option<String>, Option<String>)| match (id, version) {
        (Some(id), Some(version)) => refuses(&id.to_ascii_lowercase(), version),
        _ => true,
    };
    let known: Vec<_> = entries(before);
    let gone = known.iter().filter(|entry| is_gone(entry)).count();
    let Some(filtered) = filtered else {
        assert_eq!(gone, 0);
        return;
    };
    let filtered = String::from_utf8(filtered).expect("still UTF-8");
    let after = Document::parse(&filtered).unwrap_or_else(|error| panic!("{error} in {filtered}"));
    let left: Vec<_> = entries(&after);
    assert!(left.len() < known.len() && !left.iter().any(is_gone), "{filtered}");
    assert_eq!(filter(filtered.as_bytes()), Ok(None));
}

/// The text of the elements of that name in an entry, if they all say the same and have only text in them.
fn field(entry: Node<'_, '_>, name: &str) -> Option<String> {
    let mut texts =
        entry.descendants().filter(|node| *node != entry && node.tag_name().name() == name).map(|node| {
            let plain = !node.children().any(|child| child.is_element());
            let text: String =
                node.children().filter(Node::is_text).filter_map(|child| child.text()).collect();
            plain.then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
        });
    let first = texts.next()??;
    texts.all(|other| other.as_ref() == Some(&first)).then_some(first)
}
