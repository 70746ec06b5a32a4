//! The blob host.

use std::time::Duration;

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Simulator, ViolationKind};

use super::common::{contoso, get, start};

async fn blob_url(simulator: &Simulator) -> String {
    let url = format!("{}left-pad/-/left-pad-1.3.0.tgz", simulator.npm_url("contoso/main"));
    get(&url).await.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn a_blob_has_the_headers_of_the_storage_service() {
    let simulator = start().await;
    let url = blob_url(&simulator).await;
    let head = client::send("HEAD", &url, &[], b"").await.unwrap();
    let (bytes, _) = simulator.npm_file("contoso/main", "left-pad", "1.3.0");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
    assert_eq!(head.header("content-type"), Some("application/octet-stream"));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    assert_eq!(head.header("content-disposition"), Some("attachment; filename=\"left-pad-1.3.0.tgz\""));
    assert!(head.header("etag").unwrap().starts_with("\"0x8D"));
    assert!(head.header("content-language").unwrap().starts_with("x-e2eid-"));
    assert_eq!(head.header("cache-control"), None);
    assert!(simulator.blob_downloads().is_empty(), "a HEAD is no download");
}

#[tokio::test]
async fn ranges_are_served() {
    let simulator = start().await;
    let url = blob_url(&simulator).await;
    let (bytes, _) = simulator.npm_file("contoso/main", "left-pad", "1.3.0");
    let part = client::get(&url, &[("Range", "bytes=10-19")]).await.unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &bytes[10..20]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 10-19/{}", bytes.len()).as_str()));
    let beyond = client::get(&url, &[("Range", "bytes=999999-")]).await.unwrap();
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{}", bytes.len()).as_str()));
}

#[tokio::test]
async fn a_credential_is_refused_and_recorded() {
    let simulator = start().await;
    let url = blob_url(&simulator).await;
    let credential = client::basic("any", "alice-pat");
    let headers = [("Authorization", credential.as_str()), ("Cookie", "a=b"), ("X-Custom", "1")];
    let refused = client::get(&url, &headers).await.unwrap();
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("Authentication information is not given in the correct format."));
    let kinds: Vec<_> =
        simulator.violations().into_iter().map(|violation| (violation.header, violation.kind)).collect();
    let expected = [
        ("authorization".to_owned(), ViolationKind::CredentialAtBlobHost),
        ("cookie".to_owned(), ViolationKind::CredentialAtBlobHost),
        ("x-custom".to_owned(), ViolationKind::StrangeHeaderAtBlobHost),
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn only_a_good_signature_opens_a_blob() {
    let simulator = start().await;
    let url = blob_url(&simulator).await;
    let open = async |url: &str| -> Response { client::get(url, &[]).await.unwrap() };
    assert_eq!(open(&url).await.status, 200);
    let spoilt = [
        url.split('?').next().unwrap().to_owned(),
        url.replace("&sig=", "&sig=x"),
        url.replace("&se=2", "&se=3"),
        url.replace("/b-", "/b-0"),
    ];
    for url in spoilt {
        let refused = open(&url).await;
        assert_eq!(refused.status, 403, "{url}");
        assert!(
            refused.reason.starts_with("Server failed to authenticate the request."),
            "{}",
            refused.reason
        );
    }
    simulator.expire_signatures();
    assert_eq!(open(&url).await.status, 403);
    assert_eq!(open(&blob_url(&simulator).await).await.status, 200);
}

#[tokio::test]
async fn a_lifetime_of_nothing_expires_at_once() {
    let simulator = contoso().signature_lifetime(Duration::ZERO).start().await.unwrap();
    let url = blob_url(&simulator).await;
    assert_eq!(client::get(&url, &[]).await.unwrap().status, 403);
    simulator.set_signature_lifetime(Duration::from_secs(60));
    assert_eq!(client::get(&blob_url(&simulator).await, &[]).await.unwrap().status, 200);
}
