//! One spelling of a feed for another, in the URLs of a document.
//!
//! The service's npm and v2 documents repeat in their URLs the feed as it was asked for (facts §3.1, §4.3): by name or
//! GUID, with or without a view, in any case. One stored copy serves all spellings, and a client that keeps what it
//! reads (a lockfile) must find its own. Only a whole spelling is replaced, where it stands behind the organisation's
//! host; a feed that is named otherwise is left as it is.

use super::{
    hosts::Org,
    text::{Reader, Syntax},
};

/// A path separator that is escaped, so that it is none.
const ESCAPED_SLASH: u16 = 0x100 | b'/' as u16;

/// Which spelling is written for which.
#[derive(Debug, Clone)]
pub(super) struct Respelling {
    from: Spelling,
    /// The organisation that is written.
    pub(super) org: String,
    /// What is written behind it.
    pub(super) path: String,
}

/// `{org}` and `[/{project}]/_packaging/{feed}[@{view}]`, unescaped and in lower case.
#[derive(Debug, Clone)]
struct Spelling {
    org: Vec<u16>,
    path: Vec<u16>,
}

// === impl Respelling ===

impl Respelling {
    /// `to` for `from`, each `{org}[/{project}]/_packaging/{feed}[@{view}]`, percent-encoded; `None` when there is
    /// nothing to do.
    pub(super) fn new(from: &str, to: &str) -> Option<Self> {
        let ((from_org, from_path), (org, path)) = (from.split_once('/')?, to.split_once('/')?);
        if from == to || from_org.is_empty() || org.is_empty() {
            return None;
        }
        let from = Spelling { org: unescaped(from_org), path: unescaped(&format!("/{from_path}")) };
        Some(Self { from, org: written(org), path: written(&format!("/{path}")) })
    }

    /// Where a URL goes on behind the spelling, if that is what stands at `org` and from `rest` on.
    pub(super) fn find<S: Syntax>(&self, body: &[u8], org: &Org, rest: usize) -> Option<usize> {
        let same = match org {
            Org::Named(name) => unescaped(name) == self.from.org,
            Org::Written(range) => {
                let mut reader = Reader::<S>::new(body, range.start);
                take(&mut reader, &self.from.org) && reader.position() == range.end
            }
        };
        if !same {
            return None;
        }
        let mut reader = Reader::<S>::new(body, rest);
        (take(&mut reader, &self.from.path) && reader.at_boundary()).then(|| reader.position())
    }
}

fn take<S: Syntax>(reader: &mut Reader<'_, S>, expected: &[u16]) -> bool {
    expected.iter().all(|want| next(|| reader.next()) == Some(*want))
}

/// The next character, percent escapes resolved and letters in lower case.
fn next(mut read: impl FnMut() -> Option<u8>) -> Option<u16> {
    let byte = read()?;
    if byte != b'%' {
        return Some(byte.to_ascii_lowercase().into());
    }
    let mut digit = || char::from(read()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = digit()? << 4 | digit()?;
    Some(if byte == b'/' { ESCAPED_SLASH } else { byte.to_ascii_lowercase().into() })
}

fn unescaped(text: &str) -> Vec<u16> {
    let mut bytes = text.bytes();
    std::iter::from_fn(|| next(|| bytes.next())).collect()
}

/// The text as it can stand in JSON, in XML and between quotes of either kind.
fn written(text: &str) -> String {
    let plain = |b: &u8| {
        b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'<' | b'>' | b'&' | b'?' | b'#')
    };
    let escaped = |byte: u8| {
        if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escaped).collect()
}
