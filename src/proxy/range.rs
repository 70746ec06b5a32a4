//! Byte ranges, RFC 9110 §14: which part of a body a request asks for, and how several parts are framed.
//!
//! Pure: nothing is read or written here. A header that cannot or should not be obeyed means the whole body,
//! which the standard always allows (§14.2); only a well-formed set of which nothing exists is an error (416).

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

use crate::document::conditional::strong_match;

/// More ranges than this in one header are abuse (RFC 9110 §17.15) and get the whole body.
const MAX_RANGES: usize = 16;

/// What a request asks for. Ranges are byte positions, the end excluded; none is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// 200 with everything.
    Whole,
    /// 206 with one part.
    Single(Range<u64>),
    /// 206 with two or more parts that do not overlap, in the order in which they were asked for.
    Multi(Vec<Range<u64>>),
    /// 416: nothing of what was asked for exists.
    Unsatisfiable,
}

/// One member of a range set, RFC 9110 §14.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-[last]`; both inclusive.
    From(u64, Option<u64>),
    /// `-length`.
    Suffix(u64),
}

/// The framing of a `multipart/byteranges` body, RFC 9110 §14.6.
#[derive(Debug, Clone)]
pub struct Multipart {
    ranges: Vec<Range<u64>>,
    length: u64,
    part_type: HeaderValue,
    boundary: String,
}

/// What a `Range` header selects of a body of `length` bytes with the tag `etag`.
///
/// `If-Range` must be the very same strong tag, else the whole body is due (§13.1.5); a date never matches, as
/// the gate sends none. Members that do not exist are left out (§14.2). Whole is also the answer to another
/// unit, wrong syntax, more than 16 members and members that overlap.
pub fn resolve(range: Option<&str>, if_range: Option<&str>, etag: &str, length: u64) -> Selection {
    if if_range.is_some_and(|tag| !strong_match(tag.trim(), etag)) {
        return Selection::Whole;
    }
    let Some(specs) = range.and_then(parse) else { return Selection::Whole };
    let mut ranges: Vec<_> = specs.iter().filter_map(|spec| spec.within(length)).collect();
    match ranges.len() {
        0 if length == 0 && specs.iter().any(Spec::asks_for_the_end) => Selection::Whole,
        0 => Selection::Unsatisfiable,
        1 => Selection::Single(ranges.remove(0)),
        _ if overlap(&ranges) => Selection::Whole,
        _ => Selection::Multi(ranges),
    }
}

/// `Content-Range` of a part; `range` must not be empty.
pub fn content_range(range: &Range<u64>, length: u64) -> HeaderValue {
    ascii(&content_range_text(range, length))
}

/// `Content-Range` of a 416 answer.
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    ascii(&format!("bytes */{length}"))
}

fn content_range_text(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

/// Texts made here are always valid header values.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Reads `bytes=…`; `None` for another unit, wrong syntax or too many members.
fn parse(header: &str) -> Option<Vec<Spec>> {
    let (unit, set) = header.trim().split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // "A recipient MUST parse and ignore a reasonable number of empty list elements" (§5.6.1.2).
    let members = set.split(',').map(|member| member.trim_matches([' ', '\t']));
    let members: Vec<_> = members.filter(|member| !member.is_empty()).take(MAX_RANGES + 1).collect();
    if members.is_empty() || members.len() > MAX_RANGES {
        return None;
    }
    members.into_iter().map(Spec::parse).collect()
}

/// Whether two of the ranges share a byte.
fn overlap(ranges: &[Range<u64>]) -> bool {
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    sorted.windows(2).any(|pair| pair[1].start < pair[0].end)
}

// === impl Spec ===

impl Spec {
    fn parse(member: &str) -> Option<Self> {
        let (first, last) = member.split_once('-')?;
        match (first, last) {
            ("", suffix) => Some(Self::Suffix(position(suffix)?)),
            (first, "") => Some(Self::From(position(first)?, None)),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                // "An int-range is invalid if the last-pos value is present and less than first-pos."
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The part of a body of `length` bytes; `None` if there is none.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
            Self::Suffix(suffix) => length.saturating_sub(suffix)..length,
        };
        (!range.is_empty()).then_some(range)
    }

    /// A suffix of an empty body exists but cannot be written as a `Content-Range`.
    fn asks_for_the_end(&self) -> bool {
        matches!(self, Self::Suffix(1..))
    }
}

/// Reads digits; a number beyond 64 bits is beyond every body, too.
fn position(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

// === impl Multipart ===

impl Multipart {
    /// Frames `ranges` of a body of `length` bytes and the type `part_type`.
    ///
    /// `seed` makes the boundary. It has to be random, so that nobody can publish a package that contains it.
    pub fn new(ranges: Vec<Range<u64>>, length: u64, part_type: HeaderValue, seed: u128) -> Self {
        Self { ranges, length, part_type, boundary: format!("{seed:032x}") }
    }

    /// `Content-Type` of the answer.
    pub fn content_type(&self) -> HeaderValue {
        ascii(&format!("multipart/byteranges; boundary={}", self.boundary))
    }

    /// Exact length of the whole multipart body in bytes.
    pub fn content_length(&self) -> u64 {
        let parts = self.parts().map(|(head, range)| head.len() as u64 + (range.end - range.start));
        parts.sum::<u64>() + self.tail().len() as u64
    }

    /// What is sent, part by part: first the bytes given here, then that range of the body.
    pub fn parts(&self) -> impl Iterator<Item = (Bytes, Range<u64>)> + '_ {
        self.ranges.iter().map(|range| (self.head(range), range.clone()))
    }

    /// What is sent after the last part.
    pub fn tail(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }

    fn head(&self, range: &Range<u64>) -> Bytes {
        let mut head = format!("\r\n--{}\r\nContent-Type: ", self.boundary).into_bytes();
        head.extend_from_slice(self.part_type.as_bytes());
        let rest = format!("\r\nContent-Range: {}\r\n\r\n", content_range_text(range, self.length));
        head.extend_from_slice(rest.as_bytes());
        head.into()
    }
}

#[cfg(test)]
mod tests;
