//! NuGet v2's feeds (Atom) without the entries of versions that are kept from builds (facts §4.3).
//!
//! An entry is a child of the root, and all between its tags goes with it; one whose id or version is missing, or there
//! twice and not the same, is left out, since nobody can say that it is harmless.
//!
//! The document is read from tag to tag, never as a tree: that of a few million bytes can be made to take gigabytes. A
//! reader as strict as a client's is left out too. What matters is that nothing which a client can read reads differently
//! here, so whatever could bring that about makes the document [`Unreadable`]: tags that do not match, an end that is
//! missing, a DTD, an encoding other than UTF-8, more than [`MAX_DEPTH`] levels.

use std::{ops::Range, time::SystemTime};

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesDecl, BytesRef, Event},
};

use super::{Unreadable, told};

/// Deepest nesting; feeds have five levels.
const MAX_DEPTH: usize = 64;
/// The elements of an entry that tell what it is of. Atom's own names begin with small letters, the properties' with
/// capitals.
const FIELDS: [&str; 4] = ["Id", "title", "Version", "Published"];

/// A document, read as far as its last entry.
struct Entries<'t> {
    reader: Reader<&'t [u8]>,
    /// How many elements are open.
    depth: usize,
    has_root: bool,
    /// The entry that is open.
    entry: Option<Entry>,
    /// The field of it that is open.
    field: Option<OpenField>,
}

/// An entry of a feed.
struct Entry {
    range: Range<usize>,
    /// How many elements it is in.
    depth: usize,
    fields: [Field; FIELDS.len()],
}

/// What the elements of one name in an entry say.
#[derive(Default)]
enum Field {
    #[default]
    Missing,
    Text(String),
    /// Different things.
    Ambiguous,
}

/// A field between its tags.
struct OpenField {
    /// Which of [`FIELDS`].
    index: usize,
    depth: usize,
    /// `None` when it has elements in it.
    text: Option<String>,
}

/// The feed without the entries that `refuses` means, by lower-cased id, version and time of release; `None` if nothing
/// changes.
///
/// # Errors
/// [`Unreadable`], also when the whole document is one entry that is refused.
pub fn filter_feed(
    body: &[u8],
    mut refuses: impl FnMut(&str, &str, Option<SystemTime>) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable::new("is not UTF-8"))?;
    // The reader leaves a mark out of its positions.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut out, mut copied) = (String::new(), 0);
    let mut entries = Entries::of(text);
    while let Some(entry) = entries.next()? {
        let is_refused = entry.told().is_none_or(|(id, version, released)| refuses(&id, version, released));
        if is_refused && entry.depth == 0 {
            return Err(Unreadable::new("is one entry, and that is refused"));
        }
        if is_refused {
            out.push_str(text.get(copied..entry.range.start).unwrap_or_default());
            copied = entry.range.end;
        }
    }
    Ok((copied > 0).then(|| {
        out.push_str(text.get(copied..).unwrap_or_default());
        out.into_bytes()
    }))
}

// === impl Entries ===

impl<'t> Entries<'t> {
    fn of(text: &'t str) -> Self {
        Self { reader: Reader::from_str(text), depth: 0, has_root: false, entry: None, field: None }
    }

    /// The next entry; `None` behind the last, when the document is whole.
    fn next(&mut self) -> Result<Option<Entry>, Unreadable> {
        loop {
            let from = self.position();
            let event = self.reader.read_event();
            match event.map_err(|error| Unreadable::new(format!("is not well-formed: {error}")))? {
                Event::Start(tag) => self.opened(tag.local_name().as_ref(), from)?,
                Event::Empty(tag) => {
                    self.opened(tag.local_name().as_ref(), from)?;
                    if let Some(entry) = self.closed() {
                        return Ok(Some(entry));
                    }
                }
                Event::End(_) => {
                    if let Some(entry) = self.closed() {
                        return Ok(Some(entry));
                    }
                }
                Event::Text(text) => self.says(&text.xml10_content())?,
                Event::CData(text) => self.says(&text.xml10_content())?,
                Event::GeneralRef(reference) => self.says(&resolved(&reference)?)?,
                Event::Decl(declaration) => is_utf_8(&declaration)?,
                Event::DocType(_) => return Err(Unreadable::new("has a DTD")),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if self.depth > 0 => return Err(Unreadable::new("ends within an element")),
                Event::Eof if !self.has_root => return Err(Unreadable::new("has no element")),
                Event::Eof => return Ok(None),
            }
        }
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn opened(&mut self, name: &str, from: usize) -> Result<(), Unreadable> {
        let depth = self.depth;
        if depth == 0 && self.has_root {
            return Err(Unreadable::new("has more than one root"));
        }
        if depth == MAX_DEPTH {
            return Err(Unreadable::new(format!("nests deeper than {MAX_DEPTH} levels")));
        }
        self.has_root = true;
        self.depth += 1;
        let index = FIELDS.iter().position(|field| *field == name);
        match (&mut self.field, &mut self.entry) {
            (Some(field), Some(entry)) => {
                // What has elements in it says nothing, nor do they.
                field.text = None;
                if let Some(index) = index {
                    entry.fields[index] = Field::Ambiguous;
                }
            }
            (None, Some(_)) => {
                self.field = index.map(|index| OpenField { index, depth, text: Some(String::new()) });
            }
            _ if depth <= 1 && name == "entry" => {
                self.entry = Some(Entry { range: from..from, depth, fields: Default::default() });
            }
            _ => {}
        }
        Ok(())
    }

    /// The entry that ends with the element that ends.
    fn closed(&mut self) -> Option<Entry> {
        self.depth -= 1;
        let (depth, end) = (self.depth, self.position());
        if let (Some(field), Some(entry)) =
            (self.field.take_if(|field| field.depth == depth), &mut self.entry)
        {
            entry.fields[field.index].says(field.text);
        }
        let mut entry = self.entry.take_if(|entry| entry.depth == depth)?;
        entry.range.end = end;
        Some(entry)
    }

    fn says(&mut self, text: &str) -> Result<(), Unreadable> {
        if self.depth == 0 && !text.trim_ascii().is_empty() {
            return Err(Unreadable::new("has text outside its root"));
        }
        if let Some(known) = self.field.as_mut().and_then(|field| field.text.as_mut()) {
            known.push_str(text);
        }
        Ok(())
    }
}

// === impl Entry ===

impl Entry {
    /// Lower-cased id, version and time of release; `None` where it does not say which version it is.
    fn told(&self) -> Option<(String, &str, Option<SystemTime>)> {
        let [id, title, version, published] = &self.fields;
        let id = if matches!(id, Field::Missing) { title } else { id };
        // A version that was unlisted is "published" in 1900.
        let released = published.text().filter(|text| !text.starts_with("19")).and_then(told);
        Some((id.text()?.to_ascii_lowercase(), version.text()?, released))
    }
}

// === impl Field ===

impl Field {
    fn says(&mut self, text: Option<String>) {
        *self = match (std::mem::take(self), text) {
            (Self::Missing, Some(text)) => Self::Text(text),
            (Self::Text(known), Some(text)) if known.trim() == text.trim() => Self::Text(known),
            _ => Self::Ambiguous,
        };
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            Self::Missing | Self::Ambiguous => None,
        }
    }
}

/// The character that a reference stands for.
fn resolved(reference: &BytesRef<'_>) -> Result<String, Unreadable> {
    let unknown = || Unreadable::new("has a reference to what is not defined");
    match reference.resolve_char_ref().map_err(|_| unknown())? {
        Some(character) => Ok(character.to_string()),
        None => resolve_predefined_entity(reference).map(str::to_owned).ok_or_else(unknown),
    }
}

fn is_utf_8(declaration: &BytesDecl<'_>) -> Result<(), Unreadable> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii") => {
            Ok(())
        }
        Some(_) => Err(Unreadable::new("is declared to have another encoding than UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, filter_feed};

    fn entry(id: &str, version: &str) -> String {
        format!(
            "<entry><title type=\"text\">{id}</title><m:properties><d:Id>{id}</d:Id><d:VersionX>9</d:VersionX>\
             <d:Version m:type=\"Edm.String\">{version}</d:Version></m:properties></entry>"
        )
    }

    fn feed(entries: &[String]) -> String {
        format!("<feed xmlns:d='d' xmlns:m='m'><id>u</id>{}</feed>", entries.concat())
    }

    /// What is left when `a@2.0` is refused; empty if nothing changes.
    fn filtered(feed: &str) -> String {
        let filtered = filter_feed(feed.as_bytes(), |id, version, _| (id, version) == ("a", "2.0"));
        String::from_utf8(filtered.unwrap().unwrap_or_default()).unwrap()
    }

    #[test]
    fn refused_entries_are_cut_out() {
        let all = feed(&[entry("A", "1.0"), entry("A", "2.0"), entry("B", "2.0")]);
        assert_eq!(filtered(&all), feed(&[entry("A", "1.0"), entry("B", "2.0")]));
        assert_eq!(filtered(&feed(&[entry("A", "1.0")])), "");
        let hidden =
            "<!-- <entry> --><entry><title>A</title><d:Version>2.0</d:Version><![CDATA[</entry>]]></entry>";
        assert_eq!(filtered(&feed(&[hidden.to_owned()])), feed(&["<!-- <entry> -->".to_owned()]));
        assert_eq!(filtered(&entry("A", "1.0")), "");
        assert_eq!(filtered(&format!("\u{feff}{}", feed(&[entry("A", "2.0")]))), feed(&[]));
        assert_eq!(filtered("<any><x><entry/></x><x:entry/></any>"), "<any><x><entry/></x></any>");
    }

    #[test]
    fn however_an_entry_is_written_it_is_read_as_a_client_reads_it() {
        for (id, version) in [
            ("&#65;", "2<!-- -->.0"),
            ("A", "<![CDATA[2]]>.&#x30;"),
            (" a ", "\n2.0\t"),
            ("A", "2.0</d:Version><d:Version>1.0"),
            ("A", "<x>1.0</x>"),
            ("B", "1.0</d:Version><d:Id>A</d:Id><d:Version>1.0"),
            ("", ""),
        ] {
            assert_eq!(filtered(&feed(&[entry(id, version)])), feed(&[]), "{id:?} {version:?}");
        }
        let twice = entry("A", "1.0</d:Version><d:Version> 1.0");
        assert_eq!(filtered(&feed(&[twice])), "");
    }

    #[test]
    fn what_a_client_might_read_differently_is_not_let_through() {
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        for (document, part) in [
            ("<feed><entry></feed>".to_owned(), "not well-formed"),
            ("<feed><entry/>".to_owned(), "ends within an element"),
            ("<feed/><feed/>".to_owned(), "more than one root"),
            ("<feed/>text".to_owned(), "text outside"),
            ("<!-- -->".to_owned(), "no element"),
            ("<feed>&nbsp;</feed>".to_owned(), "not defined"),
            ("<!DOCTYPE feed [<!ENTITY e '<entry/>'>]><feed>&e;</feed>".to_owned(), "DTD"),
            ("<?xml version='1.0' encoding='utf-7'?><feed/>".to_owned(), "another encoding"),
            (entry("A", "2.0"), "is one entry"),
            (deep(MAX_DEPTH + 1), "deeper than 64"),
            (deep(2_000_000), "deeper than 64"),
        ] {
            let error = filter_feed(document.as_bytes(), |_, _, _| true).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(filter_feed(b"\xFF", |_, _, _| true).unwrap_err().to_string(), "is not UTF-8");
        for document in ["<?xml version='1.0' encoding='UTF-8'?>\n<feed/>\n", &deep(MAX_DEPTH)] {
            assert_eq!(filter_feed(document.as_bytes(), |_, _, _| true), Ok(None));
        }
    }
}
