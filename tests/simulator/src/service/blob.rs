//! The blob host (facts §3.5): bytes behind signed URLs, ranges, and no patience with credentials.

use bytes::Bytes;

use super::Service;
use super::reply::Reply;
use super::signature::BadSignature;
use crate::clock;
use crate::content::seed::Seed;
use crate::wire::request::Request;

const VERSION: &str = "2019-07-07";

/// What a `Range` header asks for, as offsets into a body.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { first: usize, last: usize },
    Unsatisfiable,
}

pub(crate) async fn answer(service: &Service, request: &Request) -> Reply {
    let request_id = service.next_ids().activity.to_string();
    let reply = match refusal(service, request) {
        Some((status, code, message)) => refuse(status, code, message, &request_id),
        None => serve(service, request, &request_id).await,
    };
    reply
        .header("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")
        .header("x-ms-request-id", request_id)
        .header("x-ms-version", VERSION)
        .header("Access-Control-Allow-Origin", "*")
        .header("X-Cache", "TCP_HIT")
        .header("Date", clock::http_date(clock::now()))
}

/// Credentials are looked at first: an `Authorization` header spoils even a good signature.
fn refusal(service: &Service, request: &Request) -> Option<(u16, &'static str, &'static str)> {
    if request.header("authorization").is_some() {
        let text = "Authentication information is not given in the correct format. Check the value of Authorization header.";
        return Some((400, "InvalidAuthenticationInfo", text));
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        let text = "The resource doesn't support specified Http Verb.";
        return Some((405, "UnsupportedHttpVerb", text));
    }
    let text = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.";
    match service.signer.check(request) {
        Ok(()) => None,
        Err(BadSignature::Missing | BadSignature::Wrong | BadSignature::Expired) => {
            Some((403, "AuthenticationFailed", text))
        }
    }
}

fn refuse(status: u16, code: &'static str, message: &'static str, request_id: &str) -> Reply {
    let time = clock::iso(clock::now());
    let body = format!(
        "\u{FEFF}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}\n\
         RequestId:{request_id}\nTime:{time}</Message></Error>"
    );
    Reply::new(status, "application/xml", body).reason(message).header("x-ms-error-code", code)
}

async fn serve(service: &Service, request: &Request, request_id: &str) -> Reply {
    let name = request.path.rsplit('/').next().unwrap_or_default();
    let storage_id = name.trim_end_matches(".blob").to_ascii_uppercase();
    let Some(artifact) = service.offered(&storage_id) else {
        return refuse(404, "BlobNotFound", "The specified blob does not exist.", request_id);
    };
    let (bytes, _) = artifact.load().await;
    let tag = etag(&storage_id);
    if request.header("if-none-match").is_some_and(|value| value == tag) {
        return Reply::empty(304).header("ETag", tag);
    }
    let wanted = match request.header("if-range") {
        Some(value) if value != tag => Range::Whole,
        _ => Range::parse(request.header("range"), bytes.len()),
    };
    let reply = match wanted {
        Range::Whole => Reply::new(200, "application/octet-stream", bytes),
        Range::Part { first, last } => part(&bytes, first, last),
        Range::Unsatisfiable => {
            let message = "The range specified is invalid for the current size of the resource.";
            let reply = refuse(416, "InvalidRange", message, request_id);
            return reply.header("Content-Range", format!("bytes */{}", bytes.len()));
        }
    };
    describe(reply, request, tag)
}

fn part(bytes: &Bytes, first: usize, last: usize) -> Reply {
    Reply::new(206, "application/octet-stream", bytes.slice(first..=last))
        .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
}

fn describe(reply: Reply, request: &Request, tag: String) -> Reply {
    let mut reply = reply
        .header("Accept-Ranges", "bytes")
        .header("ETag", tag)
        .header("Last-Modified", clock::http_date(crate::world::FIRST_INGESTION))
        .header("x-ms-creation-time", clock::http_date(crate::world::FIRST_INGESTION))
        .header("x-ms-lease-status", "unlocked")
        .header("x-ms-lease-state", "available")
        .header("x-ms-blob-type", "BlockBlob")
        .header("x-ms-server-encrypted", "true");
    for (parameter, header) in [("rscl", "Content-Language"), ("rscd", "Content-Disposition")] {
        if let Some(value) = request.parameter(parameter) {
            reply = reply.header(header, value);
        }
    }
    reply
}

/// A storage ETag: not a hash of the content, but stable for it here.
fn etag(storage_id: &str) -> String {
    let digits = Seed(0).noise(storage_id).next() & 0x0FFF_FFFF_FFFF;
    format!("\"0x8D{digits:012X}\"")
}

// === impl Range ===

impl Range {
    /// One range of bytes (RFC 9110 §14.1.2). Several ranges or another unit: the whole body.
    fn parse(header: Option<&str>, length: usize) -> Self {
        let Some((first, last)) = header.and_then(|value| value.strip_prefix("bytes=")?.split_once('-'))
        else {
            return Self::Whole;
        };
        let number = |text: &str| text.trim().parse::<usize>();
        match (number(first), number(last)) {
            (Ok(first), Ok(last)) if last < first => Self::Whole,
            (Ok(first), _) if first >= length => Self::Unsatisfiable,
            (Ok(first), Ok(last)) => Self::Part { first, last: last.min(length - 1) },
            (Ok(first), Err(_)) if last.is_empty() => Self::Part { first, last: length - 1 },
            (Err(_), Ok(0)) if first.is_empty() => Self::Unsatisfiable,
            (Err(_), Ok(_)) if first.is_empty() && length == 0 => Self::Unsatisfiable,
            (Err(_), Ok(suffix)) if first.is_empty() => {
                Self::Part { first: length.saturating_sub(suffix), last: length - 1 }
            }
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let rows = [
            (None, Range::Whole),
            (Some("bytes=0-3"), Range::Part { first: 0, last: 3 }),
            (Some("bytes=4-"), Range::Part { first: 4, last: 9 }),
            (Some("bytes=-3"), Range::Part { first: 7, last: 9 }),
            (Some("bytes=-30"), Range::Part { first: 0, last: 9 }),
            (Some("bytes=5-99"), Range::Part { first: 5, last: 9 }),
            (Some("bytes=10-"), Range::Unsatisfiable),
            (Some("bytes=-0"), Range::Unsatisfiable),
            (Some("bytes=3-1"), Range::Whole),
            (Some("bytes=0-1,3-4"), Range::Whole),
            (Some("pages=0-1"), Range::Whole),
        ];
        for (header, expected) in rows {
            assert_eq!(Range::parse(header, 10), expected, "{header:?}");
        }
    }
}
