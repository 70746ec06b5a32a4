//! `npm audit` through the gate: by the service, by another registry, by nobody.

use std::io::Write as _;

use feedgate::{app::Gate, config::AuditSettings};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::scripted::{Act, Client, Reply, Seen, Service, answer, config, json as page, start};

const BULK: &str = "/contoso/_packaging/main/npm/registry/-/npm/v1/security/advisories/bulk";
const QUICK: &str = "/contoso/_packaging/main/npm/registry/-/npm/v1/security/audits/quick";
/// Where the gate sends a question of the first kind on another registry.
const AT_REGISTRY: &str = "/npm/-/npm/v1/security/advisories/bulk";
const AUTHORIZATION: &str = "Authorization: Basic YW55OnNlY3JldA==\r\n";

/// A gate between a service and, if need be, another registry.
struct Stage {
    service: Service,
    registry: Service,
    gate: Gate,
    _folder: tempfile::TempDir,
}

// === impl Stage ===

impl Stage {
    /// `service` and `registry` answer audits; everything else of the service is a feed that lets all read.
    async fn new(service: Act, registry: Option<Act>) -> Self {
        let reads = |seen: &Seen| seen.line.starts_with("GET");
        let open = page(r#"{"version":"3.0.0","resources":[]}"#);
        let service =
            Service::start(move |seen| if reads(seen) { open.clone() } else { service.clone() }).await;
        let configured = registry.is_some();
        let registry = Service::start(move |_| registry.clone().unwrap_or(Act::Silence)).await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(service.address, folder.path());
        config.audit = AuditSettings {
            upstream: configured.then(|| format!("http://{}/npm/", registry.address).parse().unwrap()),
            private_scopes: vec!["@contoso".parse().unwrap()],
            private_names: vec!["secret-tool".parse().unwrap()],
        };
        Self { service, registry, gate: start(config).await, _folder: folder }
    }

    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let mut request =
            format!("POST {path} HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {length}\r\n{headers}\r\n")
                .into_bytes();
        request.extend_from_slice(body);
        self.send(&request).await
    }

    async fn send(&self, request: &[u8]) -> Reply {
        let mut client = Client::connect(self.gate.address()).await;
        client.send(request).await;
        client.read("POST").await.expect("an answer")
    }

    /// What the registry and the service were asked in bodies.
    fn asked(&self) -> (Vec<Seen>, Vec<Seen>) {
        (self.registry.asked("/-/npm/v1/security/"), self.service.asked("/-/npm/v1/security/"))
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_asked_with_the_callers_credential_and_its_report_passed_on() {
    let report = json!({ "left-pad": [{ "id": 1, "severity": "high" }] });
    let stage = Stage::new(page(&report.to_string()), None).await;
    let question = json!({ "left-pad": ["1.0.0"], "@contoso/x": ["2.0.0"] });
    let headers = format!("{AUTHORIZATION}Content-Type: application/json\r\nContent-Encoding: gzip\r\n");
    let reply = stage.post(BULK, &headers, &gzip(question.to_string().as_bytes())).await;
    assert_eq!((reply.status, parsed(&reply.body)), (200, report));
    assert_eq!(
        (reply.header("x-feedgate-audit"), reply.header("cache-control")),
        (Some("service"), Some("private, no-store"))
    );
    let (_, asked) = stage.asked();
    assert_eq!((asked.len(), parsed(&asked[0].body)), (1, question));
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    assert_eq!(asked[0].header("content-encoding"), None);
    assert!(AUTHORIZATION.contains(asked[0].header("authorization").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_report_there_is_an_error_that_says_what_to_do_and_never_an_empty_200() {
    let plain = |status: &str| answer(status, "Content-Type: application/json\r\n", r#"{"message":"no"}"#);
    let rows = [
        (plain("404 Not Found"), 404, "audit_unavailable"),
        (plain("400 Bad Request"), 404, "audit_unavailable"),
        (plain("405 Method Not Allowed"), 404, "audit_unavailable"),
        (plain("500 Internal Server Error"), 502, "audit_unavailable"),
        (plain("503 Service Unavailable"), 502, "audit_unavailable"),
        (answer("200 OK", "Content-Type: application/json\r\n", ""), 502, "audit_unavailable"),
        (answer("200 OK", "Content-Type: application/json\r\n", "{\"a\":"), 502, "audit_unavailable"),
        (Act::Close(Vec::new()), 502, "audit_unavailable"),
    ];
    for registry in [None, Some(plain("503 Service Unavailable"))] {
        for (act, status, code) in rows.clone() {
            let stage = Stage::new(act, registry.clone()).await;
            let reply = stage.post(BULK, AUTHORIZATION, br#"{"left-pad":["1.0.0"]}"#).await;
            let problem = parsed(&reply.body);
            assert_eq!((reply.status, problem["code"].as_str()), (status, Some(code)), "{}", reply.text());
            assert!(problem["error"].as_str().unwrap().contains("audit.upstream"));
            assert_eq!(stage.asked().0.len(), usize::from(registry.is_some()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_caller_and_a_plea_to_wait_are_passed_on() {
    for (status, headers) in
        [("403 Forbidden", ""), ("401 Unauthorized", ""), ("429 Slow Down", "Retry-After: 3\r\n")]
    {
        let stage = Stage::new(answer(status, headers, "no"), None).await;
        let reply = stage.post(QUICK, AUTHORIZATION, b"{}").await;
        assert_eq!(reply.status.to_string(), status[..3]);
        assert_eq!(reply.header("www-authenticate").is_some(), status.starts_with("401"));
        assert_eq!(reply.header("retry-after").is_some(), status.starts_with("429"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_registry_hears_of_public_packages_only_and_of_no_credential() {
    let report = json!({ "left-pad": [] });
    let stage = Stage::new(Act::Silence, Some(page(&report.to_string()))).await;
    let question = json!({ "left-pad": ["1.0.0"], "@contoso/x": ["2.0.0"], "secret-tool": ["1.0.0"] });
    let reply = stage.post(BULK, AUTHORIZATION, question.to_string().as_bytes()).await;
    assert_eq!((reply.status, parsed(&reply.body)), (200, report));
    assert_eq!(reply.header("x-feedgate-audit"), Some("asked=1; withheld=2"));
    let (asked, service) = stage.asked();
    assert_eq!((asked.len(), service.len(), asked[0].path()), (1, 0, AT_REGISTRY));
    assert_eq!(parsed(&asked[0].body), json!({ "left-pad": ["1.0.0"] }));
    for secret in ["authorization", "contoso", "secret", "cookie", "YW55"] {
        assert!(
            !asked[0].head.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()),
            "{}",
            asked[0].head
        );
    }
    assert_eq!(asked[0].header("host"), Some(stage.registry.address.to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_private_packages_alone_is_not_asked() {
    let stage = Stage::new(Act::Silence, Some(Act::Silence)).await;
    let reply = stage.post(BULK, AUTHORIZATION, br#"{"@contoso/x":["2.0.0"]}"#).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "{}"));
    assert_eq!(reply.header("x-feedgate-audit"), Some("asked=0; withheld=1"));
    let tree = br#"{"name":"our-shop","dependencies":{"@contoso/x":{"version":"1.0.0"}}}"#;
    let reply = stage.post(QUICK, AUTHORIZATION, tree).await;
    assert_eq!((reply.status, &parsed(&reply.body)["metadata"]["totalDependencies"]), (200, &json!(0)));
    let (registry, service) = stage.asked();
    assert_eq!((registry.len(), service.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_stands_in_for_a_registry_that_fails_and_hears_the_whole_question() {
    let gone = answer("404 Not Found", "", "");
    let stage = Stage::new(page(r#"{"a":[]}"#), Some(gone)).await;
    let question = br#"{"a":["1.0.0"],"@contoso/x":["2.0.0"]}"#;
    let reply = stage.post(BULK, AUTHORIZATION, question).await;
    assert_eq!((reply.status, reply.header("x-feedgate-audit")), (200, Some("service")));
    let (registry, service) = stage.asked();
    assert_eq!((registry.len(), service.len()), (1, 1));
    assert_eq!(service[0].body, question);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_no_open_relay_to_the_other_registry() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let stage = Stage::new(answer("404 Not Found", "", "{}"), Some(page("{}"))).await;
        stage.service.play(move |_| answer(status, "", "{}"));
        let reply = stage.post(BULK, "", br#"{"a":["1.0.0"]}"#).await;
        assert_eq!(reply.status.to_string(), status[..3]);
        assert_eq!(stage.asked().0.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_unusable_are_refused_before_anybody_is_asked() {
    let stage = Stage::new(page("{}"), Some(page("{}"))).await;
    let head = format!("POST {BULK} HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 16777217\r\n\r\n");
    let announced = stage.send(head.as_bytes()).await;
    assert_eq!((announced.status, &parsed(&announced.body)["code"]), (413, &json!("too_large")));
    let bomb = gzip(&vec![b' '; (16 << 20) + 1]);
    let large =
        gzip(&(0..=16_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect::<Vec<_>>());
    let coded = |coding: &str| format!("{AUTHORIZATION}Content-Encoding: {coding}\r\n");
    let rows: [(&str, &[u8], u16); 6] = [
        ("gzip", &large, 413),
        ("gzip", &bomb, 400),
        ("gzip", b"no gzip", 400),
        ("br", b"{}", 400),
        ("identity", b"[]", 400),
        ("identity", b"{\"a\":", 400),
    ];
    for (coding, body, status) in rows {
        let reply = stage.post(BULK, &coded(coding), body).await;
        assert_eq!(reply.status, status, "{coding}: {}", reply.text());
    }
    let mut chunked =
        format!("POST {BULK} HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n1000001\r\n")
            .into_bytes();
    chunked.extend(vec![b' '; (16 << 20) + 1]);
    assert_eq!(stage.send(&chunked).await.status, 413);
    assert_eq!(stage.asked().0.len() + stage.asked().1.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_it_is_told_to_go_on_and_other_methods_are_refused() {
    let stage = Stage::new(page("{}"), None).await;
    let mut client = Client::connect(stage.gate.address()).await;
    let head = format!(
        "POST {BULK} HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n{AUTHORIZATION}\r\n"
    );
    client.send(head).await;
    assert_eq!(client.read("POST").await.unwrap().status, 100);
    client.send("{}").await;
    assert_eq!(client.read("POST").await.unwrap().status, 200);
    let mut client = Client::connect(stage.gate.address()).await;
    for method in ["GET", "PUT", "DELETE"] {
        client.send(format!("{method} {BULK} HTTP/1.1\r\nHost: gate.test\r\n\r\n")).await;
        let reply = client.read(method).await.unwrap();
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{method}");
    }
}
