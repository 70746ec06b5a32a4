//! [`Azure`]: redirects, refusals and downloads against a scripted service.

use std::{
    io::Write,
    time::{Duration, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, StatusCode};
use prometheus::Registry;

use super::{
    anybody, get,
    server::{Act, Server, answer, ok, see_other},
    settings, shared, whole,
};
use crate::{
    clock::Clock,
    redact::SignedUrl,
    upstream::{Answer, Azure, Expect, Located, Refused, Resumes, UpstreamError, UpstreamRequest, body},
};

const ID: &str = "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";

fn azure(server: &Server) -> Azure {
    let clock = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    Azure::new(shared(server), &settings(server), clock, Resumes::new(&Registry::new()).unwrap())
}

fn request() -> UpstreamRequest {
    let mut request = get("/_packaging/f/nuget/v3/flat2/a/1.0.0/a.1.0.0.nupkg");
    request.authorization = Some(HeaderValue::from_static("Basic eDp5"));
    for (name, value) in
        [("accept", "*/*"), ("accept-encoding", "br"), ("cookie", "c"), ("range", "bytes=1-")]
    {
        request.headers.insert(name, HeaderValue::from_static(value));
    }
    request
}

fn blob_url(server: &str) -> String {
    format!("{server}/b-4712e0ed/{ID}.blob?sv=1&sig=a%2Bb")
}

fn signed(server: &Server) -> SignedUrl {
    SignedUrl::new(blob_url(&server.url()).parse().unwrap())
}

fn gzipped(content: &str) -> Act {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    Act::Answer([head.into_bytes(), packed].concat())
}

fn has(request: &str, header: &str) -> bool {
    request.to_lowercase().contains(&format!("\r\n{header}: "))
}

#[tokio::test]
async fn a_package_is_located_through_the_service_and_fetched_without_a_credential() {
    let server = Server::start_with(|url| {
        let flat2 = format!("{url}/contoso/_packaging/guid/nuget/v3/flat2/a");
        vec![vec![see_other(&flat2), see_other(&blob_url(url)), ok("bytes")]]
    })
    .await;
    let azure = azure(&server);
    let Located::Redirect(location) = azure.locate(request()).await.unwrap() else { panic!("no redirect") };
    assert_eq!(location.storage_id.map(|id| id.to_string()).as_deref(), Some(ID));
    let bytes = whole(azure.download(&location.url, None, anybody()).await.unwrap()).await.unwrap();
    assert_eq!(bytes, "bytes");

    let requests = server.requests();
    for hop in &requests[..2] {
        assert!(has(hop, "authorization"), "{hop}");
        assert!(hop.to_lowercase().contains("\r\naccept: application/octet-stream\r\n"), "{hop}");
        assert!(hop.to_lowercase().contains("\r\naccept-encoding: identity\r\n"), "{hop}");
    }
    assert!(requests[1].starts_with("GET /contoso/_packaging/guid/"), "{}", requests[1]);
    let blob = &requests[2];
    assert!(blob.starts_with(&format!("GET /b-4712e0ed/{ID}.blob?sv=1&sig=a%2Bb HTTP/1.1\r\n")), "{blob}");
    let mut lines: Vec<_> = blob.trim_end().split("\r\n").skip(1).map(str::to_lowercase).collect();
    lines.sort();
    assert_eq!(lines, ["accept: application/octet-stream", &format!("host: {}", server.authority())]);
    assert_eq!(server.connections(), 1, "the bodies of redirects are read, so the connection is kept");
}

#[tokio::test]
async fn a_package_may_also_come_directly_or_be_refused() {
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(vec![vec![ok("bytes"), answer(unauthorized)]]).await;
    let azure = azure(&server);
    let Located::Direct(response) = azure.locate(request()).await.unwrap() else { panic!("not direct") };
    assert_eq!(whole(response).await.unwrap(), "bytes");
    let refused = azure.locate(request()).await.unwrap();
    assert!(matches!(refused, Located::Refused(Refused::Unauthorized(_))), "{refused:?}");
}

#[tokio::test]
async fn redirects_without_end_are_given_up() {
    let server = Server::start_with(|url| vec![vec![see_other(&format!("{url}/contoso/again")); 20]]).await;
    let error = azure(&server).locate(request()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Redirect(_)), "{error}");
    assert_eq!(server.requests().len(), 6, "the first request and five redirects");
}

#[tokio::test]
async fn a_redirect_elsewhere_is_not_followed() {
    let trap = Server::start(vec![vec![ok("trap")]]).await;
    let location = format!("{}/b-1/x.blob?sig=secret", trap.url());
    let server = Server::start(vec![vec![see_other(&location)]]).await;
    let error = azure(&server).locate(request()).await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Redirect(text) if !text.contains("secret")), "{error}");
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_document_is_asked_for_with_gzip_and_read_decoded() {
    let content = format!("[{}0]", "0,".repeat(100));
    let server = Server::start(vec![vec![gzipped(&content), gzipped(&content)]]).await;
    let azure = azure(&server);
    for (limit, expected) in [(203, Some(content.as_bytes())), (202, None)] {
        let Answer::Success(response) = azure.document(request(), Expect::Json).await.unwrap() else {
            panic!("refused")
        };
        let document = body::read_document(response, limit).await;
        assert_eq!(document.ok().as_deref(), expected, "{limit}");
    }
    assert!(server.requests()[0].to_lowercase().contains("\r\naccept-encoding: gzip\r\n"));
}

#[tokio::test]
async fn a_document_that_is_kept_as_a_blob_is_fetched_from_there() {
    let server = Server::start_with(|url| vec![vec![see_other(&blob_url(url)), ok("<package/>")]]).await;
    let answer = azure(&server).document(request(), Expect::Xml).await.unwrap();
    let Answer::Success(response) = answer else { panic!("refused") };
    assert_eq!(whole(response).await.unwrap(), "<package/>");
    assert!(!has(&server.requests()[1], "authorization"));
}

#[tokio::test]
async fn a_refused_document_is_shown_with_its_text() {
    let text =
        "{\"message\":\"TF400733: Request was blocked due to exceeding usage of resource 'Concurrency'\"}";
    let raw = format!("HTTP/1.1 500 Oops\r\nRetry-After: 3\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let server = Server::start(vec![vec![answer(&raw)]]).await;
    match azure(&server).document(request(), Expect::Json).await.unwrap() {
        Answer::Refused(Refused::Busy { retry_after, refusal }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(3)));
            assert_eq!(refusal.reason.as_deref(), Some("Oops"));
            assert_eq!(refusal.body, text);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_download_is_whole_or_the_part_that_was_asked_for() {
    let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/5\r\nContent-Length: 2\r\n\r\nyt";
    let server = Server::start(vec![vec![answer(part), ok("bytes"), answer(part)]]).await;
    let azure = azure(&server);
    let range = || Some(HeaderValue::from_static("bytes=1-2"));
    for (range, expected) in [(range(), 206), (range(), 200)] {
        let response = azure.download(&signed(&server), range, anybody()).await.unwrap();
        assert_eq!(response.status.as_u16(), expected);
        whole(response).await.unwrap();
    }
    assert!(server.requests()[0].to_lowercase().contains("\r\nrange: bytes=1-2\r\n"));
    let unasked = azure.download(&signed(&server), None, anybody()).await.unwrap_err();
    assert!(matches!(unasked, UpstreamError::Download { status: StatusCode::PARTIAL_CONTENT, .. }));
}

#[tokio::test]
async fn a_blob_host_that_refuses_the_url_is_told_apart_from_one_in_trouble() {
    let rows =
        [(403, true), (404, true), (400, false), (302, false), (416, false), (500, false), (503, false)];
    let raw = |status| answer(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    let server = Server::start(vec![rows.iter().map(|(status, _)| raw(*status)).collect()]).await;
    let azure = azure(&server);
    for (status, link) in rows {
        let error = azure.download(&signed(&server), None, anybody()).await.unwrap_err();
        assert_eq!(matches!(error, UpstreamError::Link { .. }), link, "{status}: {error}");
        assert_eq!(matches!(error, UpstreamError::Download { .. }), !link, "{status}: {error}");
        assert!(!format!("{error} {error:?}").contains("sig="), "{error}");
    }
}

#[tokio::test]
async fn azure_can_be_shared_by_tasks() {
    fn shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let server = Server::start(vec![vec![ok("a")], vec![ok("a")]]).await;
    let azure = azure(&server);
    shareable(&azure);
    let other = azure.clone();
    let task = tokio::spawn(async move { other.document(request(), Expect::Any).await.is_ok() });
    assert!(azure.document(request(), Expect::Any).await.is_ok());
    assert!(task.await.unwrap());
}
