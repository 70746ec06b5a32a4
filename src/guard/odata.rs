//! NuGet v2's feeds (Atom) without the entries of versions that are kept from builds (facts §4.3).
//!
//! Entries are not nested and .NET writes no CDATA, so an entry is what lies between its tags; one whose id or version
//! cannot be read is left out, since nobody can say that it is harmless.

use std::time::SystemTime;

use memchr::memmem;

use super::told;

const OPEN: &str = "<entry";
const CLOSE: &str = "</entry>";

/// The feed without the entries that `refuses` means, by lower-cased id, version and time of release; `None` if nothing
/// changes.
pub fn filter_feed(
    body: &[u8],
    mut refuses: impl FnMut(&str, &str, Option<SystemTime>) -> bool,
) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    // An entry that stands alone is the whole document.
    let start = memmem::find(body, b"<feed")?;
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut at) = (0, start);
    while let Some(open) = text[at..].find(OPEN).map(|offset| at + offset) {
        let close = text[open..].find(CLOSE).map(|offset| open + offset + CLOSE.len())?;
        let entry = &text[open..close];
        let known = property(entry, "Id").or_else(|| element(entry, "title")).zip(property(entry, "Version"));
        let released = property(entry, "Published").filter(|text| !text.starts_with("19")).and_then(told);
        let gone = known.is_none_or(|(id, version)| refuses(&id.to_ascii_lowercase(), version, released));
        if gone {
            out.push_str(&text[copied..open]);
            copied = close;
        }
        at = close;
    }
    (copied > 0).then(|| {
        out.push_str(&text[copied..]);
        out.into_bytes()
    })
}

fn property<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    element(entry, &format!("d:{name}"))
}

/// The text of the first element of that name.
fn element<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("<{name}");
    let mut rest = entry;
    loop {
        rest = &rest[rest.find(&open)? + open.len()..];
        // Another element may begin with the same letters.
        if rest.starts_with(['>', ' ', '\t', '\r', '\n']) {
            break;
        }
    }
    let rest = &rest[rest.find('>')? + 1..];
    Some(rest[..rest.find('<')?].trim())
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
        let feed =
            |entries: &[String]| format!("<?xml?><feed xmlns=\"x\"><id>u</id>{}</feed>", entries.concat());
        let all = feed(&[entry("A", "1.0"), entry("A", "2.0"), entry("B", "2.0")]);
        let filtered = filter_feed(all.as_bytes(), |id, version, _| (id, version) == ("a", "2.0")).unwrap();
        assert_eq!(String::from_utf8(filtered).unwrap(), feed(&[entry("A", "1.0"), entry("B", "2.0")]));
        assert_eq!(filter_feed(all.as_bytes(), |_, _, _| false), None);
        let odd = feed(&["<entry><title/></entry>".to_owned()]);
        assert_eq!(filter_feed(odd.as_bytes(), |_, _, _| false).unwrap(), feed(&[]).as_bytes());
        assert_eq!(filter_feed(entry("A", "1.0").as_bytes(), |_, _, _| true), None);
    }
}
