//! What the service and a blob host get to see of a request.

use super::*;
use crate::{
    config::upstream::Upstream,
    ident::Name,
    redact::SignedUrl,
    throttle::{Asker, Client, Priority},
    upstream::Service,
};

const CLIENT: [(&str, &str); 14] = [
    ("accept", "application/json"),
    ("accept-encoding", "br, GZIP"),
    ("accept-language", "de"),
    ("authorization", "Basic client"),
    ("cookie", "a=b"),
    ("host", "gate"),
    ("if-none-match", "\"gate\""),
    ("npm-command", "ci"),
    ("range", "bytes=1-"),
    ("sec-fetch-mode", "cors"),
    ("user-agent", "npm/11"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-nuget-client-version", "7.0"),
    ("x-nuget-session-id", "s"),
];

fn request(target: Target) -> UpstreamRequest {
    let mut request = UpstreamRequest::get(target, Asker::always(Client::new(1), Priority::Document));
    for (name, value) in CLIENT {
        request.headers.insert(name, HeaderValue::from_static(value));
    }
    request.authorization = Some(HeaderValue::from_static("Basic checked"));
    request
}

fn service(path: &str) -> Target {
    Target::Service { service: Service::Pkgs, org: Name::parse("contoso").unwrap(), path: path.to_owned() }
}

fn blob(url: &str) -> Target {
    Target::Blob(SignedUrl::new(url.parse().unwrap()))
}

fn outgoing(request: &UpstreamRequest) -> Result<Outgoing, UpstreamError> {
    Outgoing::new(request, &Sites::new(&Upstream::default()))
}

fn lines(outgoing: &Outgoing) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<_> = outgoing.headers.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_service_gets_the_allow_list_and_the_checked_credential() {
    let outgoing = outgoing(&request(service("/_packaging/f/npm/registry/@a%2fb?x=%20"))).unwrap();
    assert_eq!(outgoing.path, "/contoso/_packaging/f/npm/registry/@a%2fb?x=%20");
    let expected = [
        "accept-encoding: gzip",
        "accept: application/json",
        "authorization: Basic checked",
        "host: pkgs.dev.azure.com",
        concat!("user-agent: npm/11 feedgate/", env!("CARGO_PKG_VERSION")),
        "x-nuget-client-version: 7.0",
        "x-nuget-session-id: s",
        "x-tfs-fedauthredirect: Suppress",
    ];
    assert_eq!(lines(&outgoing), expected);
}

#[test]
fn a_blob_host_gets_accept_and_range_only() {
    let target = blob("https://avsblobprod1.vsblob.vsassets.io/b-1/x.blob?sig=a%2Bb");
    let outgoing = outgoing(&request(target)).unwrap();
    assert_eq!(outgoing.path, "/b-1/x.blob?sig=a%2Bb");
    let expected = ["accept: application/json", "host: avsblobprod1.vsblob.vsassets.io", "range: bytes=1-"];
    assert_eq!(lines(&outgoing), expected);
}

#[test]
fn a_blob_host_off_the_allow_list_is_not_asked() {
    let error = outgoing(&request(blob("https://evil.example/b-1/x.blob?sig=secret"))).err();
    assert!(matches!(error, Some(UpstreamError::Redirect(text)) if !text.contains("secret")));
}

#[test]
fn a_path_that_cannot_be_sent_or_leaves_the_organisation_is_refused() {
    let bad = ["", "x", "/a b", "/a\r\nb", "/ä", "/a#b", "/../x", "/a/%2E./x", "/a/.", "/a\\..\\x"];
    for path in bad {
        let error = outgoing(&request(service(path))).err();
        assert!(matches!(error, Some(UpstreamError::Request(_))), "{path}");
    }
    for path in ["/", "/a..b/...", "/a?x=../y"] {
        assert!(outgoing(&request(service(path))).is_ok(), "{path}");
    }
}

#[test]
fn an_unusable_user_agent_is_left_out() {
    let token = USER_AGENT_TOKEN;
    let long = "x".repeat(MAX_USER_AGENT + 1);
    for client in ["", long.as_str()] {
        assert_eq!(user_agent(Some(&HeaderValue::try_from(client).unwrap())), token);
    }
    assert_eq!(user_agent(None), token);
    assert_eq!(user_agent(Some(&HeaderValue::from_bytes(b"\xff").unwrap())), token);
}

#[test]
fn debug_shows_neither_credentials_nor_signatures() {
    let text = format!("{:?}", request(blob("https://b.example/x?sig=secret")));
    assert!(!text.contains("Basic") && !text.contains("secret"), "{text}");
}
