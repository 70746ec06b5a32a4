//! Limits and decoding of bodies that are needed whole.

use std::{collections::VecDeque, io::Write};

use async_trait::async_trait;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, StatusCode};

use super::*;

struct Script(VecDeque<Result<Bytes, UpstreamError>>);

#[async_trait]
impl BodyStream for Script {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        self.0.pop_front().transpose()
    }
}

fn body(parts: &[&[u8]]) -> Box<dyn BodyStream> {
    Box::new(Script(parts.iter().map(|part| Ok(Bytes::copy_from_slice(part))).collect()))
}

fn broken(part: &[u8]) -> Box<dyn BodyStream> {
    let error = UpstreamError::Broken { host: "h".into(), reason: "r".into() };
    Box::new(Script(VecDeque::from([Ok(Bytes::copy_from_slice(part)), Err(error)])))
}

fn coded(coding: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))])
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

async fn document(coding: &'static str, bytes: &[u8], limit: u64) -> Result<Bytes, UpstreamError> {
    let body = body(&[bytes]);
    let response = UpstreamResponse { status: StatusCode::OK, reason: None, headers: coded(coding), body };
    read_document(response, limit).await
}

#[tokio::test]
async fn a_body_is_taken_up_to_the_limit_and_not_beyond() {
    for parts in [&[&b"abcdef"[..]][..], &[b"abc", b"def"], &[b"ab", b"cd", b"ef"]] {
        assert_eq!(read_to_end(body(parts), 6).await.unwrap(), "abcdef");
        let error = read_to_end(body(parts), 5).await.unwrap_err();
        assert!(matches!(error, UpstreamError::TooLarge { limit: 5 }), "{parts:?}");
    }
    assert_eq!(read_to_end(body(&[]), 0).await.unwrap(), "");
    assert!(matches!(read_to_end(broken(b"abc"), 6).await, Err(UpstreamError::Broken { .. })));
}

#[tokio::test]
async fn gzip_is_decoded_inline_and_off_thread() {
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for content in [&b""[..], b"{}", &noise] {
        let packed = gzip(content);
        assert_eq!(document("GZip", &packed, 1 << 20).await.unwrap(), content);
    }
    assert!(gzip(&noise).len() > DECODE_INLINE, "the last row goes off the thread");
}

#[tokio::test]
async fn a_body_that_unfolds_beyond_the_limit_is_too_large() {
    let packed = gzip(&vec![0; 1 << 20]);
    assert!(packed.len() < 1 << 14);
    let error = document("gzip", &packed, (1 << 20) - 1).await.unwrap_err();
    assert!(matches!(error, UpstreamError::TooLarge { .. }));
    assert_eq!(document("gzip", &packed, 1 << 20).await.unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn a_bomb_is_stopped_long_before_the_limit() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 64 << 20]).unwrap();
    let packed = encoder.finish().unwrap();
    let error = document("gzip", &packed, 1 << 30).await.map(|content| content.len()).unwrap_err();
    assert!(matches!(&error, UpstreamError::Encoding(reason) if reason.contains("100 times")), "{error}");
    let (content, _) = unfold(&packed, 1 << 30);
    assert!((content.len() as u64) < 2 * UNFOLDS_FREELY, "{}", content.len());
}

#[tokio::test]
async fn an_unknown_coding_and_a_damaged_body_are_errors() {
    let packed = gzip(b"content");
    let cut = &packed[..packed.len() - 1];
    let trailing = [&packed[..], b"x"].concat();
    let rows = [
        ("br", &b"x"[..]),
        ("deflate", b"x"),
        ("gzip, br", &packed),
        ("gzip", b"x"),
        ("gzip", b""),
        ("gzip", cut),
        ("gzip", &trailing),
    ];
    for (coding, bytes) in rows {
        let error = document(coding, bytes, 100).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Encoding(_)), "{coding} {bytes:?}: {error}");
    }
    assert_eq!(document("identity", b"x", 100).await.unwrap(), "x");
}

#[tokio::test]
async fn some_of_a_refusal_is_kept_whatever_happens_to_the_rest() {
    const AMPLE: Duration = Duration::from_secs(60);
    let packed = gzip(b"refused");
    let plain = HeaderMap::new();
    assert_eq!(read_some(body(&[b"abc", b"def"]), &plain, 4, AMPLE).await, "abcd");
    assert_eq!(read_some(broken(b"abc"), &plain, 4, AMPLE).await, "abc");
    assert_eq!(read_some(body(&[&packed]), &coded("gzip"), 64, AMPLE).await, "refused");
    assert_eq!(read_some(body(&[b"x"]), &coded("br"), 64, AMPLE).await, "");
    assert_eq!(read_some(body(&[]), &plain, 0, AMPLE).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_looked_into_is_still_whole_for_its_reader() {
    let patience = Duration::from_secs(1);
    let respond = |body, headers| UpstreamResponse { status: StatusCode::OK, reason: None, headers, body };
    let packed = gzip(b"refused");
    let rows = [
        (&[&b"abc"[..], b"def"][..], HeaderMap::new(), 4, "abcd"),
        (&[&packed], coded("gzip"), 64, "refused"),
    ];
    for (parts, headers, limit, text) in rows {
        let mut response = respond(body(parts), headers);
        assert_eq!(peek(&mut response, limit, patience).await, text);
        assert_eq!(read_to_end(response.body, 1 << 10).await.unwrap(), parts.concat());
    }
    let mut response = respond(broken(b"abc"), HeaderMap::new());
    assert_eq!(peek(&mut response, 64, patience).await, "abc");
    assert_eq!(response.body.next().await.unwrap().unwrap(), "abc");
    for _ in 0..2 {
        assert!(response.body.next().await.is_err(), "a broken body stays broken");
    }
    let mut silent = respond(Box::new(Silent), HeaderMap::new());
    assert_eq!(peek(&mut silent, 64, patience).await, "");
}

struct Silent;

#[async_trait]
impl BodyStream for Silent {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        std::future::pending().await
    }
}
