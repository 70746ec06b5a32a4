//! What is sent for a document: which form, which encoding, under which entity tag.
//!
//! A document is rewritten once, and each representation is built once and kept, so that a hit is a lookup and
//! one write. Representations differ in their entity tags (facts §8): a cache between the client and the gate
//! must not take the abbreviated form for the full one.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use zstd::stream::Encoder;

/// The media type by which npm clients ask for the abbreviated packument.
pub const ABBREVIATED_TYPE: &str = "application/vnd.npm.install-v1+json";

/// Bodies below this many bytes are not compressed: they fit one packet anyway.
const MIN_COMPRESSED: usize = 1024;

/// gzip level. Measured with zlib-ng on a generated 5 MB packument, time per byte and size: level 1 1.4 ns, 17 %;
/// 3 2.8 ns, 12.5 %; 4 3.5 ns, 11.1 %; 5 4.3 ns, 10.7 %; 6 6.5 ns, 10.0 %; 9 12.7 ns, 9.5 %. A document is compressed
/// again after every change, and beyond 4 each percent costs more than a link inside of a building saves.
const LEVEL: u32 = 4;
/// zstd level. Measured on the abbreviated packuments of ten real packages, size beside gzip at its level and time per byte:
/// level 1 90 %, 0.5 ns; 3 92 %, 0.7 ns; 6 89 %, 1.8 ns; 9 87 % (`benches/README.md`, with brotli, which is not made).
const ZSTD_LEVEL: i32 = 1;

/// How many bytes of the SHA-256 make the entity tag; 18 need no padding in base64.
const TAG_BYTES: usize = 18;

/// Which form of a packument. Other documents have only the full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the service sends it.
    Full,
    /// Only what an install needs, see [`super::packument::abbreviate`].
    Abbreviated,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878; pnpm takes it.
    Zstd,
}

/// A rewritten document in one form, with the hash of its body.
#[derive(Debug, Clone)]
pub struct Variant {
    body: Bytes,
    digest: String,
    form: Form,
    content_type: HeaderValue,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Representation {
    /// The encoded body.
    pub body: Bytes,
    /// A strong entity tag: hash of the unencoded body, form and encoding.
    pub etag: HeaderValue,
    /// `Content-Type`.
    pub content_type: HeaderValue,
    /// How `body` is encoded; may be identity although another was asked for.
    pub encoding: Encoding,
    /// Length of the body before encoding, in bytes.
    pub identity_length: usize,
}

/// A field of a request, its lines joined: they are one list (RFC 9110 §5.3).
pub fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let first = lines.next()?;
    Some(lines.fold(first, |list, line| Cow::Owned(format!("{list}, {line}"))))
}

/// Which form an `Accept` header asks for (RFC 9110 §12.5.1).
///
/// The abbreviated one if it is named and weighs at least as much as `application/json` does; a wildcard alone
/// gets the full one, as from the public registry.
pub fn negotiate_form(accept: Option<&str>) -> Form {
    let Some(accept) = accept else { return Form::Full };
    let abbreviated = weight(accept, &[ABBREVIATED_TYPE]).unwrap_or(0);
    let full = weight(accept, &["application/json"]).or_else(|| weight(accept, &["application/*"]));
    let full = full.or_else(|| weight(accept, &["*/*"])).unwrap_or(0);
    if abbreviated > 0 && abbreviated >= full { Form::Abbreviated } else { Form::Full }
}

/// Which encoding an `Accept-Encoding` header asks for (RFC 9110 §12.5.3).
///
/// zstd if it is named and no other is preferred, else gzip if it is acceptable and identity is not preferred by name. If
/// none is acceptable the answer is still identity: the standard allows it, and a client is served better by it than by
/// 406.
pub fn negotiate_encoding(accept_encoding: Option<&str>) -> Encoding {
    let Some(accept) = accept_encoding else { return Encoding::Identity };
    let gzip = weight(accept, &["gzip", "x-gzip"]).or_else(|| weight(accept, &["*"])).unwrap_or(0);
    let identity = weight(accept, &["identity"]).unwrap_or(0);
    let zstd = weight(accept, &["zstd"]).unwrap_or(0);
    match zstd.max(gzip) {
        0 => Encoding::Identity,
        best if best < identity => Encoding::Identity,
        best if best == zstd => Encoding::Zstd,
        _ => Encoding::Gzip,
    }
}

/// The highest weight, in thousandths, that a list gives to one of `names`; `None` if it has none of them.
/// Parameters other than `q` are ignored.
fn weight(list: &str, names: &[&str]) -> Option<u16> {
    let weights = list.split(',').filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next()?;
        names.iter().any(|n| n.eq_ignore_ascii_case(name)).then(|| parts.find_map(q_value).unwrap_or(1000))
    });
    weights.max()
}

/// Reads `q=0.8` as 800; a value that is no weight counts as 0 and what is no `q` parameter as nothing.
fn q_value(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
    Some((value.clamp(0.0, 1.0) * 1000.0).round() as u16)
}

// === impl Encoding ===

impl Encoding {
    /// The value of `Content-Encoding`; `None` if the header is left out.
    pub fn content_encoding(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Zstd => Some(HeaderValue::from_static("zstd")),
        }
    }
}

// === impl Variant ===

impl Variant {
    /// Hashes a rewritten body (about 0.5 ns a byte with SHA instructions; large ones belong on a blocking thread).
    pub fn new(body: Bytes, form: Form, content_type: HeaderValue) -> Self {
        let digest = URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..TAG_BYTES]);
        Self { body, digest, form, content_type }
    }

    /// The hash behind the entity tags: equal for equal bodies, so that a refresh that brought nothing new can keep
    /// the representations that are there.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Builds a representation (gzip: about 3.5 ns a byte, zstd 0.5); a body that is small or does not shrink stays as it is.
    pub fn build(&self, encoding: Encoding) -> Representation {
        // An encoder that fails has no memory; the body is there.
        let compressed = match encoding {
            _ if self.body.len() < MIN_COMPRESSED => None,
            Encoding::Identity => None,
            Encoding::Gzip => gzip(&self.body).ok(),
            Encoding::Zstd => zstd(&self.body).ok(),
        };
        let compressed = compressed.filter(|compressed| compressed.len() < self.body.len());
        let encoding = if compressed.is_some() { encoding } else { Encoding::Identity };
        Representation {
            body: compressed.unwrap_or_else(|| self.body.clone()),
            etag: self.etag(encoding),
            content_type: self.content_type.clone(),
            encoding,
            identity_length: self.body.len(),
        }
    }

    fn etag(&self, encoding: Encoding) -> HeaderValue {
        let form = match self.form {
            Form::Full => "",
            Form::Abbreviated => "-a",
        };
        let encoding = match encoding {
            Encoding::Identity => "",
            Encoding::Gzip => "-g",
            Encoding::Zstd => "-z",
        };
        let tag = format!("\"{}{form}{encoding}\"", self.digest);
        // Base64 and two letters are always a valid header value; a weak empty tag would match nothing.
        HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"\""))
    }
}

fn gzip(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 6), Compression::new(LEVEL));
    encoder.write_all(body)?;
    encoder.finish().map(shrunk)
}

/// In pieces, and not in room for a body that does not shrink.
fn zstd(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(Vec::with_capacity(body.len() / 6), ZSTD_LEVEL)?;
    encoder.set_pledged_src_size(Some(body.len() as u64))?;
    encoder.write_all(body)?;
    encoder.finish().map(shrunk)
}

fn shrunk(mut bytes: Vec<u8>) -> Bytes {
    bytes.shrink_to_fit();
    bytes.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;
    use flate2::read::GzDecoder;
    use http::{HeaderMap, HeaderValue};

    use super::{Encoding, Form, Variant, joined, negotiate_encoding, negotiate_form};

    fn variant(body: &[u8], form: Form) -> Variant {
        Variant::new(Bytes::copy_from_slice(body), form, HeaderValue::from_static("application/json"))
    }

    #[test]
    fn the_form_follows_the_accept_header() {
        use Form::{Abbreviated, Full};
        let rows = [
            (Some("application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"), Abbreviated),
            (Some("application/vnd.npm.install-v1+json"), Abbreviated),
            (Some("Application/VND.npm.install-v1+JSON;q=0.1"), Abbreviated),
            (Some("application/json, application/vnd.npm.install-v1+json"), Abbreviated),
            (Some("application/json;q=0.9, application/vnd.npm.install-v1+json;q=0.5"), Full),
            (Some("application/vnd.npm.install-v1+json;q=0, */*;q=0"), Full),
            (Some("application/vnd.npm.install-v1+json;q=0.5, */*"), Full),
            (Some("application/vnd.npm.install-v1+json;q=nonsense"), Full),
            (Some("application/json"), Full),
            (Some("application/*"), Full),
            (Some("*/*"), Full),
            (Some(""), Full),
            (None, Full),
        ];
        for (accept, expected) in rows {
            assert_eq!(negotiate_form(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn lines_of_a_field_are_one_list() {
        let mut headers = HeaderMap::new();
        let name = http::header::ACCEPT_ENCODING;
        assert_eq!(joined(&headers, &name), None);
        for (line, expected) in
            [(&b"br"[..], Encoding::Identity), (b"gzip", Encoding::Gzip), (b"\xff", Encoding::Gzip)]
        {
            headers.append(&name, HeaderValue::from_bytes(line).unwrap());
            assert_eq!(negotiate_encoding(joined(&headers, &name).as_deref()), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_encoding_follows_the_accept_encoding_header() {
        use Encoding::{Gzip, Identity, Zstd};
        let rows = [
            (Some("zstd,gzip,deflate"), Zstd),
            (Some("gzip, Zstd"), Zstd),
            (Some("zstd"), Zstd),
            (Some("gzip;q=0.5, zstd;q=0.6, *"), Zstd),
            (Some("zstd;q=0.5, gzip"), Gzip),
            (Some("zstd;q=0, gzip;q=0.1"), Gzip),
            (Some("zstd;q=0"), Identity),
            (Some("identity, zstd;q=0.9"), Identity),
            (Some("zstd;q=0.5, gzip;q=0, *"), Zstd),
            (Some("gzip"), Gzip),
            (Some("gzip, deflate, br"), Gzip),
            (Some("X-GZIP;q=0.2"), Gzip),
            (Some("*"), Gzip),
            (Some("identity;q=0, *;q=0.1"), Gzip),
            (Some("gzip;q=0"), Identity),
            (Some("gzip;q=0.000, *"), Identity),
            (Some("*;q=0"), Identity),
            (Some("identity, gzip;q=0.5"), Identity),
            (Some("br"), Identity),
            (Some("identity;q=0"), Identity),
            (Some("gzip ; Q = 2"), Gzip),
            (Some("gzip;q=-1"), Identity),
            (Some(""), Identity),
            (None, Identity),
        ];
        for (accept, expected) in rows {
            assert_eq!(negotiate_encoding(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn an_encoding_gives_the_same_document_and_another_tag() {
        let body = b"{\"dist-tags\":{\"latest\":\"1.0.0\"}}".repeat(100);
        let variant = variant(&body, Form::Full);
        let [plain, gzip, zstd] =
            [Encoding::Identity, Encoding::Gzip, Encoding::Zstd].map(|it| variant.build(it));
        for (packed, encoding, name) in [(&gzip, Encoding::Gzip, "gzip"), (&zstd, Encoding::Zstd, "zstd")] {
            assert_eq!((packed.encoding, packed.identity_length), (encoding, body.len()));
            assert!(packed.body.len() < body.len());
            assert_eq!(packed.encoding.content_encoding().unwrap(), name);
        }
        let mut unpacked = Vec::new();
        GzDecoder::new(&gzip.body[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, body);
        assert_eq!(zstd::stream::decode_all(&zstd.body[..]).unwrap(), body);
        assert_eq!(plain.body, body);
        assert!(plain.etag != gzip.etag && plain.etag != zstd.etag && gzip.etag != zstd.etag);
        assert_eq!(plain.encoding.content_encoding(), None);
    }

    #[test]
    fn small_and_incompressible_bodies_stay_as_they_are() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let incompressible: Vec<u8> = (0..4096).map(|_| noise()).collect();
        for body in [&b"{}"[..], &[b' '; 1023], &incompressible] {
            for encoding in [Encoding::Gzip, Encoding::Zstd] {
                let built = variant(body, Form::Full).build(encoding);
                assert_eq!((built.encoding, &built.body[..]), (Encoding::Identity, body));
                assert_eq!(built.etag, variant(body, Form::Full).build(Encoding::Identity).etag);
            }
        }
        assert_eq!(variant(&[b' '; 1024], Form::Full).build(Encoding::Gzip).encoding, Encoding::Gzip);
    }

    #[test]
    fn a_tag_tells_bodies_and_forms_apart_and_nothing_else() {
        let tag = |body: &[u8], form| variant(body, form).build(Encoding::Identity).etag;
        assert_eq!(tag(b"{}", Form::Full), tag(b"{}", Form::Full));
        assert_ne!(tag(b"{}", Form::Full), tag(b"[]", Form::Full));
        assert_ne!(tag(b"{}", Form::Full), tag(b"{}", Form::Abbreviated));
        assert_eq!(variant(b"{}", Form::Full).digest(), variant(b"{}", Form::Abbreviated).digest());
        let text = tag(b"{}", Form::Abbreviated);
        let text = text.to_str().unwrap();
        assert!(text.starts_with('"') && text.ends_with("-a\"") && text.len() == 28, "{text}");
    }
}
