//! Where strings start and how they are escaped, in JSON and in XML.
//!
//! Only what finding a URL needs: the start of a string, and reading ASCII characters however escaped.

use std::ops::Range;

use memchr::{memrchr, memrchr2, memrchr3};

/// The longest tag that is recognised, in bytes; keeps a text full of `="https://` from costing a square.
const MAX_TAG: usize = 8192;

/// A document format.
pub(super) trait Syntax {
    /// Beginnings of the escapes behind which a URL can hide from a search for `://`.
    const ESCAPES: &'static [&'static str];

    /// Whether a string's content starts at `start`.
    fn is_start(body: &[u8], start: usize) -> bool;

    /// Where the last string may start whose opening lies in `window`.
    fn start_before(body: &[u8], window: Range<usize>) -> Option<usize>;

    /// The character at `at` and how many bytes it takes; `None` where the string ends. What is no ASCII
    /// character, and what no URL prefix has, reads as itself or as 0.
    fn read(body: &[u8], at: usize) -> Option<(u8, usize)>;
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
    const ESCAPES: &'static [&'static str] = &[r"\/", r"\u00"];

    fn is_start(body: &[u8], start: usize) -> bool {
        let Some(quote) = start.checked_sub(1) else { return false };
        let escapes = body[..quote].iter().rev().take_while(|b| **b == b'\\').count();
        body[quote] == b'"' && escapes.is_multiple_of(2)
    }

    fn start_before(body: &[u8], window: Range<usize>) -> Option<usize> {
        memrchr(b'"', &body[window.clone()]).map(|quote| window.start + quote + 1)
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

/// The character of two hexadecimal digits, 0 if they are none.
fn hexadecimal(high: u8, low: u8) -> u8 {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digit(high).zip(digit(low)).map_or(0, |(high, low)| high << 4 | low)
}

// === impl Xml ===

impl Syntax for Xml {
    const ESCAPES: &'static [&'static str] = &["&#"];

    fn is_start(body: &[u8], start: usize) -> bool {
        let before = &body[..start];
        if let Some(b'"' | b'\'') = before.last() {
            // In a text, quotes are ordinary characters; between `<` and `>` they open a value.
            let before = before[..start - 1].trim_ascii_end();
            before.ends_with(b"=") && in_tag(before)
        } else {
            let before = before.trim_ascii_end();
            before.ends_with(b"<![CDATA[") || before.strip_suffix(b">").is_some_and(in_tag)
        }
    }

    fn start_before(body: &[u8], window: Range<usize>) -> Option<usize> {
        let opening = window.start + 1 + memrchr3(b'"', b'\'', b'>', &body[window.clone()])?;
        Some(opening + body[opening..window.end].iter().take_while(|b| b.is_ascii_whitespace()).count())
    }

    fn read(body: &[u8], at: usize) -> Option<(u8, usize)> {
        match *body.get(at..)? {
            [] | [b'"' | b'\'' | b'<', ..] | [b']', b']', b'>', ..] => None,
            [b'&', b'#', ..] => Some(character_reference(&body[at..])),
            [byte, ..] => Some((byte, 1)),
        }
    }
}

/// Whether a tag, comment or declaration is open at the end of `before`.
fn in_tag(before: &[u8]) -> bool {
    let before = &before[before.len().saturating_sub(MAX_TAG)..];
    memrchr2(b'<', b'>', before).is_some_and(|at| before[at] == b'<')
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
