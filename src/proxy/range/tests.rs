//! Tables from RFC 9110 §14, and properties against a byte-by-byte reading of the header.

use std::ops::Range;

use http::HeaderValue;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::{
    Multipart,
    Selection::{self, Multi, Single, Unsatisfiable, Whole},
    content_range, resolve, unsatisfied_range,
};

const TAG: &str = "\"tag\"";

fn multi(ranges: &[Range<u64>]) -> Selection {
    Multi(ranges.to_vec())
}

#[test]
fn ranges_are_resolved_against_the_length() {
    let rows = [
        ("bytes=0-499", Single(0..500)),
        ("bytes=500-999", Single(500..1000)),
        ("bytes=9500-", Single(9500..10_000)),
        ("bytes=-500", Single(9500..10_000)),
        ("bytes=-20000", Single(0..10_000)),
        ("bytes=0-", Single(0..10_000)),
        ("bytes=0-0", Single(0..1)),
        ("bytes=9999-9999", Single(9999..10_000)),
        ("bytes=9999-20000", Single(9999..10_000)),
        ("bytes=0-99999999999999999999999999", Single(0..10_000)),
        ("bytes=0-18446744073709551615", Single(0..10_000)),
        ("Bytes=0-1", Single(0..2)),
        ("  bytes=0-1 ", Single(0..2)),
        ("bytes=,, 0-1 ,\t,", Single(0..2)),
        ("bytes=0-1,20000-", Single(0..2)),
        ("bytes=0-0,-1", multi(&[0..1, 9999..10_000])),
        ("bytes= 500-600, 601-999", multi(&[500..601, 601..1000])),
        ("bytes=-1,0-0", multi(&[9999..10_000, 0..1])),
        ("bytes=10000-", Unsatisfiable),
        ("bytes=10000-10001,-0", Unsatisfiable),
        ("bytes=99999999999999999999999999-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=0-5,5-9", Whole),
        ("bytes=0-,-1", Whole),
        ("bytes=5-9,0-5", Whole),
    ];
    for (range, expected) in rows {
        assert_eq!(resolve(Some(range), None, TAG, 10_000), expected, "{range}");
    }
}

#[test]
fn headers_that_are_no_byte_ranges_select_the_whole() {
    let headers = [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=1",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0 - 1",
        "bytes=+0-1",
        "bytes=0-1-2",
        "bytes=--1",
        "bytes=0-1;2-3",
        "bytes=0-1,x",
        "bytes =0-1",
        "items=0-1",
        "bytes=0-1,5-4",
        "bytes=0x0-1",
        "bytes=٠-١",
    ];
    for range in headers {
        assert_eq!(resolve(Some(range), None, TAG, 10_000), Whole, "{range}");
    }
    assert_eq!(resolve(None, None, TAG, 10_000), Whole);
    assert_eq!(resolve(None, Some(TAG), TAG, 10_000), Whole);
}

#[test]
fn an_empty_body_has_no_part() {
    let rows = [
        ("bytes=0-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=-5", Whole),
        ("bytes=0-0,-1", Whole),
    ];
    for (range, expected) in rows {
        assert_eq!(resolve(Some(range), None, TAG, 0), expected, "{range}");
    }
}

#[test]
fn if_range_holds_only_for_the_same_strong_tag() {
    let rows = [
        (None, "\"tag\"", Single(0..1)),
        (Some("\"tag\""), "\"tag\"", Single(0..1)),
        (Some(" \"tag\" "), "\"tag\"", Single(0..1)),
        (Some("\"other\""), "\"tag\"", Whole),
        (Some("W/\"tag\""), "\"tag\"", Whole),
        (Some("W/\"tag\""), "W/\"tag\"", Whole),
        (Some("\"tag\", \"other\""), "\"tag\"", Whole),
        (Some("Tue, 15 Nov 1994 12:45:26 GMT"), "\"tag\"", Whole),
        (Some("*"), "\"tag\"", Whole),
        (Some(""), "\"tag\"", Whole),
    ];
    for (if_range, etag, expected) in rows {
        assert_eq!(resolve(Some("bytes=0-0"), if_range, etag, 10), expected, "{if_range:?}");
    }
    assert_eq!(resolve(Some("bytes=10-"), Some("\"other\""), TAG, 10), Whole);
}

#[test]
fn sixteen_ranges_are_served_and_seventeen_are_not() {
    let header = |count: u64| {
        let members: Vec<_> = (0..count).map(|n| format!("{}-{}", n * 10, n * 10 + 1)).collect();
        format!("bytes={}", members.join(","))
    };
    let Multi(ranges) = resolve(Some(&header(16)), None, TAG, 10_000) else {
        panic!("16 ranges are allowed")
    };
    assert_eq!((ranges.len(), ranges[15].clone()), (16, 150..152));
    assert_eq!(resolve(Some(&header(17)), None, TAG, 10_000), Whole);
}

#[test]
fn content_range_is_written_inclusive() {
    assert_eq!(content_range(&(0..500), 1234), "bytes 0-499/1234");
    assert_eq!(unsatisfied_range(47_022), "bytes */47022");
}

/// Puts a multipart body together as a server does.
fn assemble(multipart: &Multipart, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (head, range) in multipart.parts() {
        out.extend_from_slice(&head);
        out.extend(range.map(|at| body[usize::try_from(at).unwrap()]));
    }
    out.extend_from_slice(&multipart.tail());
    out
}

#[test]
fn a_multipart_body_is_framed_as_the_standard_shows() {
    let part_type = HeaderValue::from_static("application/octet-stream");
    let multipart = Multipart::new(vec![0..2, 8..10], 10, part_type, 0xABC);
    let boundary = "00000000000000000000000000000abc";
    assert_eq!(multipart.content_type(), format!("multipart/byteranges; boundary={boundary}"));
    let body = assemble(&multipart, b"0123456789");
    let expected = format!(
        "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
         \r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 8-9/10\r\n\r\n89\
         \r\n--{boundary}--\r\n"
    );
    assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    assert_eq!(multipart.content_length(), expected.len() as u64);
}

/// A member of a range set, with small numbers.
#[derive(Debug, Clone)]
enum Member {
    Closed(u64, u64),
    Open(u64),
    Suffix(u64),
}

impl Member {
    fn text(&self) -> String {
        match self {
            Self::Closed(first, last) => format!("{first}-{last}"),
            Self::Open(first) => format!("{first}-"),
            Self::Suffix(suffix) => format!("-{suffix}"),
        }
    }

    fn names(&self, at: u64, length: u64) -> bool {
        match *self {
            Self::Closed(first, last) => first <= at && at <= last,
            Self::Open(first) => first <= at,
            Self::Suffix(suffix) => length - at <= suffix,
        }
    }
}

fn member() -> impl Strategy<Value = Member> {
    let number = || prop_oneof![4 => 0_u64..64, 1 => Just(u64::MAX)];
    prop_oneof![
        (number(), number()).prop_map(|(one, other)| Member::Closed(one.min(other), one.max(other))),
        number().prop_map(Member::Open),
        number().prop_map(Member::Suffix),
    ]
}

proptest! {
    #[test]
    fn selected_bytes_are_those_that_the_header_names(members in vec(member(), 1..6), length in 0_u64..48) {
        let header = members.iter().map(Member::text).collect::<Vec<_>>().join(", ");
        let hits = |at: u64| members.iter().filter(|member| member.names(at, length)).count();
        let expected: Vec<u64> = (0..length).filter(|at| hits(*at) > 0).collect();
        let mut parts = match resolve(Some(&format!("bytes={header}")), None, TAG, length) {
            Whole => {
                prop_assert!(length == 0 || (0..length).any(|at| hits(at) > 1), "whole for {}", header);
                return Ok(());
            }
            Unsatisfiable => vec![],
            Single(part) => vec![part],
            Multi(parts) => {
                prop_assert!(parts.len() > 1);
                parts
            }
        };
        prop_assert!(parts.iter().all(|part| !part.is_empty()));
        parts.sort_by_key(|part| part.start);
        prop_assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_announced_length_is_what_is_sent(cuts in vec(1_u64..50, 4..12), seed in any::<u128>()) {
        let body: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut at = 0;
        let mut edges = cuts.iter().map(|cut| { at += cut; at });
        let ranges: Vec<_> = std::iter::from_fn(|| Some(edges.next()?..edges.next()?)).collect();
        let multipart = Multipart::new(ranges, 1000, HeaderValue::from_static("text/plain"), seed);
        prop_assert_eq!(assemble(&multipart, &body).len() as u64, multipart.content_length());
    }

    #[test]
    fn no_header_makes_it_panic(header in "\\PC*", tail in "[0-9,\\- ]{0,40}", length in any::<u64>()) {
        for header in [header, format!("bytes={tail}")] {
            let parts = match resolve(Some(&header), None, TAG, length) {
                Single(part) => vec![part],
                Multi(parts) => parts,
                Whole | Unsatisfiable => vec![],
            };
            prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
        }
    }
}
