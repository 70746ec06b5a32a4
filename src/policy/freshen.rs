//! Which headers are stored, and which a validation brings up to date (RFC 9111 §3.1, §3.2, §4.3.4).

use http::{HeaderMap, HeaderName, header};

use super::Directives;

/// Fields that speak of one connection or of one proxy (RFC 9110 §7.6.1, RFC 9111 §3.1), besides those that
/// `Connection` names.
const ONE_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Fields that describe the stored bytes: a response without a body does not change them. The tag is the one that
/// the origin was asked about.
const OF_THE_BODY: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    header::ETAG,
];

/// The fields of a message that are meant for its final recipient.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let values = headers.get_all(header::CONNECTION).iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named = members.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    without(headers, &named.chain(ONE_HOP).collect::<Vec<HeaderName>>())
}

/// The fields of a response that may be stored: not those of one hop, not the length (the body knows it), not those
/// that `no-cache` and `private` name.
pub fn storable(headers: &HeaderMap) -> HeaderMap {
    let directives = Directives::of_response(headers);
    let named = directives.fields("no-cache").chain(directives.fields("private"));
    without(&end_to_end(headers), &named.chain([header::CONTENT_LENGTH]).collect::<Vec<_>>())
}

/// The headers of a stored response after a 304 with the headers `validation`.
pub fn freshen(stored: &HeaderMap, validation: &HeaderMap) -> HeaderMap {
    let mut fresh = stored.clone();
    let new = storable(validation);
    // An age is of the response that it came with.
    fresh.remove(header::AGE);
    let changes = |name: &&HeaderName| !OF_THE_BODY.contains(name);
    for name in new.keys().filter(changes) {
        fresh.remove(name);
        for value in new.get_all(name) {
            fresh.append(name.clone(), value.clone());
        }
    }
    fresh
}

fn without(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut rest = headers.clone();
    for name in names {
        rest.remove(name);
    }
    rest
}
