//! The record of a stored response, as it lies in the database.
//!
//! Version 1, integers big-endian; a text is its length in four bytes and its bytes, an optional thing a byte 0, or a
//! byte 1 and the thing; a list its length in two bytes and its members:
//!
//! ```text
//! | ver | requested | received | status | [reason] | [body's id] | selecting: name, [value] … | headers: name, value … |
//! ```
//!
//! Times are milliseconds since 1970. Bytes that do not read exactly like this are no record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Kept;
use crate::{
    ident::StorageId,
    policy::{Selecting, Stored},
};

const VERSION: u8 = 1;
/// Length of a storage id in bytes.
const ID: usize = 33;

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

// === impl Kept ===

impl Kept {
    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        let Self { head, body } = self;
        let mut bytes = vec![VERSION];
        for time in [head.requested_at, head.received_at] {
            let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            bytes.extend(u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes());
        }
        bytes.extend(head.status.as_u16().to_be_bytes());
        optional(&mut bytes, head.reason.as_ref(), |bytes, reason| text(bytes, reason.as_bytes()));
        optional(&mut bytes, body.as_ref(), |bytes, id| bytes.extend(id.as_bytes()));
        count(&mut bytes, head.selecting.len());
        for (name, value) in &head.selecting {
            text(&mut bytes, name.as_str().as_bytes());
            optional(&mut bytes, value.as_ref(), |bytes, value| text(bytes, value));
        }
        count(&mut bytes, head.headers.len());
        for (name, value) in &head.headers {
            text(&mut bytes, name.as_str().as_bytes());
            text(&mut bytes, value.as_bytes());
        }
        bytes
    }

    /// Reads what [`Kept::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        if rest.take(1)? != [VERSION] {
            return None;
        }
        let (requested_at, received_at) = (rest.time()?, rest.time()?);
        let status = StatusCode::from_u16(rest.number()?).ok()?;
        let reason = rest.optional(|rest| String::from_utf8(rest.text()?.to_vec()).ok())?;
        let body = rest.optional(|rest| StorageId::from_bytes(rest.take(ID)?))?;
        let mut selecting = Selecting::new();
        for _ in 0..rest.number()? {
            let name = HeaderName::from_bytes(rest.text()?).ok()?;
            selecting.push((name, rest.optional(|rest| Some(rest.text()?.to_vec()))?));
        }
        let mut headers = HeaderMap::new();
        for _ in 0..rest.number()? {
            let name = HeaderName::from_bytes(rest.text()?).ok()?;
            headers.append(name, HeaderValue::from_bytes(rest.text()?).ok()?);
        }
        let head = Stored { status, reason, headers, selecting, requested_at, received_at };
        rest.0.is_empty().then_some(Self { head, body })
    }
}

/// When the response of a record came, in milliseconds since 1970; 0 of what is no record.
pub(super) fn received(record: &[u8]) -> u64 {
    let mut rest = Rest(record);
    let mut read = || {
        rest.take(1).filter(|version| *version == [VERSION])?;
        rest.take(8)?;
        Some(u64::from_be_bytes(rest.take(8)?.try_into().ok()?))
    };
    read().unwrap_or_default()
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(text);
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

fn optional<T>(bytes: &mut Vec<u8>, value: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    bytes.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(bytes, value);
    }
}

// === impl Rest ===

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        self.take(usize::try_from(length).ok()?)
    }

    fn time(&mut self) -> Option<SystemTime> {
        let millis = u64::from_be_bytes(self.take(8)?.try_into().ok()?);
        UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }

    /// The outer `None` is a record that cannot be read.
    #[expect(clippy::option_option, reason = "an optional thing that may be unreadable")]
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.take(1)? {
            [0] => Some(None),
            [1] => read(self).map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, HeaderMap, HeaderValue, Kept, StatusCode, StorageId, Stored, UNIX_EPOCH};

    fn kept(body: Option<StorageId>) -> Kept {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("1"));
        headers.append("a", HeaderValue::from_bytes(b"\xFC").unwrap());
        let head = Stored {
            status: StatusCode::from_u16(599).unwrap(),
            reason: Some("R".to_owned()),
            headers,
            selecting: vec![("b".parse().unwrap(), Some(b"2".to_vec())), ("c".parse().unwrap(), None)],
            requested_at: UNIX_EPOCH + Duration::from_millis(1),
            received_at: UNIX_EPOCH + Duration::from_millis(2),
        };
        Kept { head, body }
    }

    #[test]
    fn version_1_reads_and_writes_its_golden_bytes() {
        let mut golden = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 87];
        golden.extend([1, 0, 0, 0, 1, b'R', 1]);
        golden.extend([0xBB; 32]);
        golden.extend([0, 0, 2]);
        golden.extend([0, 0, 0, 1, b'b', 1, 0, 0, 0, 1, b'2', 0, 0, 0, 1, b'c', 0, 0, 2]);
        golden.extend([0, 0, 0, 1, b'a', 0, 0, 0, 1, b'1', 0, 0, 0, 1, b'a', 0, 0, 0, 1, 0xFC]);
        let kept = kept(Some(StorageId::of_file([0xBB; 32])));
        assert_eq!(kept.encode(), golden);
        assert_eq!(Kept::decode(&golden), Some(kept));
    }

    #[test]
    fn anything_else_is_no_record() {
        let good = kept(None).encode();
        assert_eq!(Kept::decode(&good), Some(kept(None)));
        for length in 0..good.len() {
            assert_eq!(Kept::decode(&good[..length]), None, "cut to {length}");
        }
        assert_eq!(Kept::decode(&[&good[..], &[0]].concat()), None, "a byte too many");
        assert_eq!(Kept::decode(&[&[2], &good[1..]].concat()), None, "another version");
    }
}
