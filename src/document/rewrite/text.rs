//! Where strings start and how they are escaped, in JSON and in XML.
//!
//! Only what finding a URL needs: the start of a string, and reading ASCII characters however escaped.

use memchr::{memchr, memchr3, memmem, memrchr};

/// How far before an odd escape the start of its string may be; longer than any prefix that is replaced.
const LOOK_BACK: usize = 512;

/// Opens a text without markup in it, XML 1.0 §2.7.
const CDATA: &[u8] = b"<![CDATA[";
const CDATA_END: &[u8] = b"]]>";

/// A document format.
pub(super) trait Syntax {
    /// Calls `found` with the start of each string in `body` that may be a URL; more than once for some, and not
    /// always in order.
    fn each_start(body: &[u8], found: impl FnMut(usize));

    /// The character at `at` and how many bytes it takes; `None` where the string ends. What is no ASCII
    /// character, and what no URL prefix has, reads as itself or as 0.
    fn read(body: &[u8], at: usize) -> Option<(u8, usize)>;

    /// Whether a part of a string can be replaced as a whole: nothing in it is more than characters.
    fn is_plain(_part: &[u8]) -> bool {
        true
    }
}

/// JSON strings, RFC 8259 §7.
pub(super) enum Json {}

/// XML attribute values and texts, XML 1.0 §2.4, §3.1 and §4.1.
pub(super) enum Xml {}

/// Reads a string character by character.
pub(super) struct Reader<'a, S> {
    body: &'a [u8],
    at: usize,
    syntax: std::marker::PhantomData<S>,
}

// === impl Json ===

impl Syntax for Json {
    fn each_start(body: &[u8], mut found: impl FnMut(usize)) {
        let plain = memmem::find_iter(body, "://").filter_map(|at| scheme_start(body, at));
        plain.filter(|start| is_opened(body, *start)).for_each(&mut found);
        // Behind these a URL can hide from a search for `://`.
        for needle in [r"\/", r"\u00"] {
            let quote =
                |at: usize| memrchr(b'"', &body[at.saturating_sub(LOOK_BACK)..at]).map(|quote| (at, quote));
            let odd = memmem::find_iter(body, needle).filter_map(quote);
            let odd = odd.map(|(at, quote)| at.saturating_sub(LOOK_BACK) + quote + 1);
            odd.filter(|start| is_opened(body, *start)).for_each(&mut found);
        }
    }

    fn read(body: &[u8], at: usize) -> Option<(u8, usize)> {
        match *body.get(at..)? {
            [] | [b'"', ..] => None,
            [b'\\', b'u', b'0', b'0', high, low, ..] => Some((hexadecimal(high, low), 6)),
            [b'\\', b'/', ..] => Some((b'/', 2)),
            [b'\\', ..] => Some((0, 2)),
            [byte, ..] => Some((byte, 1)),
        }
    }
}

/// Where `http` or `https` starts that ends right before `at`.
fn scheme_start(body: &[u8], at: usize) -> Option<usize> {
    let is = |scheme: &[u8]| {
        let start = at.checked_sub(scheme.len())?;
        body[start..at].eq_ignore_ascii_case(scheme).then_some(start)
    };
    is(b"https").or_else(|| is(b"http"))
}

/// Whether a string's content starts at `start`.
fn is_opened(body: &[u8], start: usize) -> bool {
    let Some(quote) = start.checked_sub(1) else { return false };
    let escapes = body[..quote].iter().rev().take_while(|b| **b == b'\\').count();
    body[quote] == b'"' && escapes.is_multiple_of(2)
}

/// The character of two hexadecimal digits, 0 if they are none.
fn hexadecimal(high: u8, low: u8) -> u8 {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digit(high).zip(digit(low)).map_or(0, |(high, low)| high << 4 | low)
}

// === impl Xml ===

impl Syntax for Xml {
    fn each_start(body: &[u8], mut found: impl FnMut(usize)) {
        let mut text = 0;
        let mut string = |start: usize| {
            let spaces = body[start..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            if matches!(body.get(start + spaces), Some(b'h' | b'H' | b'&')) {
                found(start + spaces);
            }
        };
        while let Some(open) = memchr(b'<', &body[text..]).map(|at| text + at) {
            string(text);
            let tag = &body[open..];
            let end = match tag {
                [b'<', b'!', b'-', b'-', ..] => behind(tag, 4, b"-->"),
                [b'<', b'?', ..] => behind(tag, 2, b"?>"),
                _ if tag.starts_with(CDATA) => {
                    string(open + CDATA.len());
                    behind(tag, CDATA.len(), CDATA_END)
                }
                _ => behind_tag(tag, |value| string(open + value)),
            };
            text = open + end;
        }
    }

    fn read(body: &[u8], at: usize) -> Option<(u8, usize)> {
        let marks = marks(body.get(at..)?);
        let text = body.get(at + marks..)?;
        let (byte, width) = match *text {
            [] | [b'"' | b'\'' | b'<', ..] => return None,
            [b'&', b'#', ..] => character_reference(text),
            [byte, ..] => (byte, 1),
        };
        Some((byte, marks + width))
    }

    fn is_plain(part: &[u8]) -> bool {
        !part.contains(&b'<') && memmem::find(part, CDATA_END).is_none()
    }
}

/// How long all is that begins `text` and stands in a string without being of it: a reader puts together what is before
/// and behind the ends of CDATA, comments and instructions.
fn marks(text: &[u8]) -> usize {
    let mut length = 0;
    while let [b']' | b'<', ..] = text[length..] {
        let rest = &text[length..];
        length += match rest {
            _ if rest.starts_with(CDATA_END) => CDATA_END.len(),
            _ if rest.starts_with(CDATA) => CDATA.len(),
            [b'<', b'!', b'-', b'-', ..] => behind(rest, 4, b"-->"),
            [b'<', b'?', ..] => behind(rest, 2, b"?>"),
            _ => break,
        };
    }
    length
}

/// Where what begins `text` ends, by the first `end` at or after `from`.
fn behind(text: &[u8], from: usize, end: &[u8]) -> usize {
    text.get(from..).and_then(|rest| memmem::find(rest, end)).map_or(text.len(), |at| from + at + end.len())
}

/// Where the tag that begins `text` ends; its attributes' values are passed to `value` by their place.
fn behind_tag(text: &[u8], mut value: impl FnMut(usize)) -> usize {
    let mut at = 0;
    while let Some(next) = memchr3(b'"', b'\'', b'>', &text[at..]).map(|next| at + next) {
        if text[next] == b'>' {
            return next + 1;
        }
        value(next + 1);
        match memchr(text[next], &text[next + 1..]) {
            Some(length) => at = next + 1 + length + 1,
            None => break,
        }
    }
    text.len()
}

/// Reads `&#47;` or `&#x2F;`; a reference that is broken or beyond ASCII reads as 0.
fn character_reference(body: &[u8]) -> (u8, usize) {
    let end = body.iter().take(12).position(|b| *b == b';').unwrap_or(1);
    let digits = std::str::from_utf8(body.get(2..end).unwrap_or_default()).unwrap_or_default();
    let value = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    (value.ok().filter(u8::is_ascii).unwrap_or(0), end + 1)
}

// === impl Reader ===

impl<'a, S: Syntax> Reader<'a, S> {
    /// Reads `body` from `at` on.
    pub(super) fn new(body: &'a [u8], at: usize) -> Self {
        Self { body, at, syntax: std::marker::PhantomData }
    }

    /// Where the next character is.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next character, left in place; `None` at the end of the string.
    pub(super) fn peek(&self) -> Option<u8> {
        S::read(self.body, self.at).map(|(byte, _)| byte)
    }

    /// Takes the next character.
    pub(super) fn next(&mut self) -> Option<u8> {
        let (byte, width) = S::read(self.body, self.at)?;
        self.at = (self.at + width).min(self.body.len());
        Some(byte)
    }

    /// Takes `expected` in any case; on a difference some of it may have been taken.
    pub(super) fn take(&mut self, expected: &[u8]) -> bool {
        expected.iter().all(|want| self.next().is_some_and(|got| got.eq_ignore_ascii_case(want)))
    }

    /// Whether a part of a URL ends here: end of string, `/`, `?` or `#`.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.peek(), None | Some(b'/' | b'?' | b'#'))
    }
}
