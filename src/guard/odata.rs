//! NuGet v2's feeds (Atom) without the entries of versions that are kept from builds (facts §4.3).
//!
//! An entry is a child of the feed's element, and all between its tags goes with it; one whose id or version cannot be
//! read is left out, since nobody can say that it is harmless. A document that is not well-formed stays as it is: no
//! client can read an entry out of it.

use std::time::SystemTime;

use roxmltree::{Document, Node};

use super::told;

/// The feed without the entries that `refuses` means, by lower-cased id, version and time of release; `None` if nothing
/// changes.
pub fn filter_feed(
    body: &[u8],
    mut refuses: impl FnMut(&str, &str, Option<SystemTime>) -> bool,
) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let document = Document::parse(text).ok()?;
    // An entry that stands alone is the whole document.
    let feed = Some(document.root_element()).filter(|root| root.tag_name().name() == "feed")?;
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for entry in feed.children().filter(|node| node.tag_name().name() == "entry") {
        let known = element(entry, "Id").or_else(|| element(entry, "title")).zip(element(entry, "Version"));
        let published = element(entry, "Published").filter(|text| !text.starts_with("19"));
        let released = published.and_then(told);
        if known.is_none_or(|(id, version)| refuses(&id.to_ascii_lowercase(), version, released)) {
            let range = entry.range();
            out.push_str(text.get(copied..range.start)?);
            copied = range.end;
        }
    }
    (copied > 0).then(|| {
        out.push_str(text.get(copied..).unwrap_or_default());
        out.into_bytes()
    })
}

/// The text of the first element of that name in `entry`. Atom's own names begin with small letters, the properties'
/// with capitals.
fn element<'a>(entry: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let found = entry.descendants().find(|node| node.tag_name().name() == name);
    found.and_then(|node| node.text()).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::filter_feed;

    fn entry(id: &str, version: &str) -> String {
        format!(
            "<entry><title type=\"text\">{id}</title><m:properties><d:Id>{id}</d:Id><d:VersionX>9</d:VersionX>\
             <d:Version m:type=\"Edm.String\">{version}</d:Version></m:properties></entry>"
        )
    }

    #[test]
    fn refused_entries_are_cut_out() {
        let feed = |entries: &[String]| {
            format!("<feed xmlns:d='d' xmlns:m='m'><id>u</id>{}</feed>", entries.concat())
        };
        let all = feed(&[entry("A", "1.0"), entry("A", "2.0"), entry("B", "2.0")]);
        let filtered = filter_feed(all.as_bytes(), |id, version, _| (id, version) == ("a", "2.0")).unwrap();
        assert_eq!(String::from_utf8(filtered).unwrap(), feed(&[entry("A", "1.0"), entry("B", "2.0")]));
        assert_eq!(filter_feed(all.as_bytes(), |_, _, _| false), None);
        let hidden =
            "<!-- <entry> --><entry><title>A</title><d:Version>2.0</d:Version><![CDATA[</entry>]]></entry>";
        let hidden = feed(&[hidden.to_owned()]);
        assert_eq!(
            filter_feed(hidden.as_bytes(), |_, _, _| true).unwrap(),
            feed(&["<!-- <entry> -->".to_owned()]).as_bytes()
        );
        assert_eq!(filter_feed(b"<feed><entry></feed>", |_, _, _| true), None);
        let odd = feed(&["<entry><title/></entry>".to_owned()]);
        assert_eq!(filter_feed(odd.as_bytes(), |_, _, _| false).unwrap(), feed(&[]).as_bytes());
        assert_eq!(filter_feed(entry("A", "1.0").as_bytes(), |_, _, _| true), None);
    }
}
