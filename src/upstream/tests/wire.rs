//! HTTP on the wire: connections that are kept, broken, cut short, or silent.

use http::{HeaderValue, Method, StatusCode, header};
use tokio::net::TcpListener;

use super::{
    AMPLE, SHORT, drained, get, http,
    server::{Act, Server, answer, ok},
    settings, text, whole,
};
use crate::{
    config::upstream::Upstream as Settings,
    redact::SignedUrl,
    upstream::{Http, Phase, Service, Target, Upstream, UpstreamError, UpstreamRequest},
};

async fn fails(script: Vec<Act>) -> UpstreamError {
    let server = Server::start(vec![script]).await;
    text(&http(&server), "/x").await.unwrap_err()
}

#[tokio::test]
async fn a_connection_is_kept_after_a_whole_body() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let server = Server::start(vec![vec![ok("one"), answer(chunked), ok("")]]).await;
    let http = http(&server);
    for expected in ["one", "abcde", ""] {
        assert_eq!(text(&http, "/x").await.unwrap(), expected);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_whose_body_was_not_read_to_its_end_is_not_kept() {
    let server = Server::start(vec![vec![ok("one"), ok("wrong")], vec![ok("two")]]).await;
    let http = http(&server);
    drop(http.fetch(&get("/x")).await.unwrap());
    assert_eq!(text(&http, "/x").await.unwrap(), "two");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_ended_is_replaced_once() {
    for end in [Act::Reset, Act::Close] {
        let server = Server::start(vec![vec![ok("one"), end.clone()], vec![ok("two")]]).await;
        let kept = http(&server);
        assert_eq!(text(&kept, "/x").await.unwrap(), "one");
        assert_eq!(text(&kept, "/x").await.unwrap(), "two", "{end:?}");
        assert_eq!(server.connections(), 2);

        let server =
            Server::start(vec![vec![ok("one"), end.clone()], vec![end.clone()], vec![ok("no")]]).await;
        let kept = http(&server);
        assert_eq!(text(&kept, "/x").await.unwrap(), "one");
        let error = text(&kept, "/x").await.unwrap_err();
        assert!(matches!(error, UpstreamError::Broken { .. }), "{end:?}: {error}");
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn a_new_connection_that_ends_is_not_tried_again() {
    for end in [Act::Reset, Act::Close] {
        let server = Server::start(vec![vec![end.clone()], vec![ok("no")]]).await;
        let error = text(&http(&server), "/x").await.unwrap_err();
        assert!(matches!(error, UpstreamError::Broken { .. }), "{end:?}: {error}");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn nonsense_on_a_kept_connection_is_not_asked_for_again() {
    let server = Server::start(vec![vec![ok("one"), answer("nonsense\r\n\r\n")], vec![ok("no")]]).await;
    let http = http(&server);
    text(&http, "/x").await.unwrap();
    assert!(matches!(text(&http, "/x").await, Err(UpstreamError::Broken { .. })));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_request_that_is_not_idempotent_is_sent_once() {
    let server = Server::start(vec![vec![ok("one"), Act::Close], vec![ok("no")]]).await;
    let http = http(&server);
    text(&http, "/x").await.unwrap();
    let mut post = get("/x");
    post.method = Method::POST;
    assert!(matches!(http.fetch(&post).await, Err(UpstreamError::Broken { .. })));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_and_never_a_short_body() {
    let short = fails(vec![answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcd")]).await;
    assert!(matches!(short, UpstreamError::Length { announced: 10, received: 4, .. }), "{short}");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let rows = [
        format!("{chunked}4\r\nabcd\r\n"),
        format!("{chunked}8\r\nabcd"),
        format!("{chunked}4\r\nabcd\r\n0\r\n"),
        format!("{chunked}x\r\nabcd\r\n0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\n\r\nabcd".to_owned(),
        "HTTP/1.0 200 OK\r\n\r\nabcd".to_owned(),
    ];
    for raw in rows {
        let error = fails(vec![answer(&raw)]).await;
        assert!(matches!(error, UpstreamError::Broken { .. }), "{raw:?}: {error}");
    }
}

type Asked = Box<dyn Fn(&Server) -> UpstreamRequest>;

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_taken_where_nothing_is_lost_by_a_break() {
    fn blob(server: &Server, hashed: bool) -> UpstreamRequest {
        let url = SignedUrl::new(format!("{}/b-1/x.blob?sig=1", server.url()).parse().unwrap());
        UpstreamRequest { hashed, ..UpstreamRequest::get(Target::Blob(url), super::anybody()) }
    }
    fn document() -> UpstreamRequest {
        UpstreamRequest { whole: true, ..get("/x") }
    }
    let json = "Content-Type: application/json\r\n";
    let rows: [(&str, &str, Asked, bool); 9] = [
        ("429 Too Many Requests", "Retry-After: 2\r\n", Box::new(|_| get("/x")), true),
        ("404 Not Found", "", Box::new(|_| document()), true),
        ("303 See Other", "Location: /y\r\n", Box::new(|_| get("/x")), true),
        ("200 OK", json, Box::new(|_| document()), true),
        ("200 OK", json, Box::new(|_| get("/x")), false),
        ("200 OK", "Content-Type: text/xml\r\n", Box::new(|_| document()), false),
        ("200 OK", "", Box::new(|server| blob(server, true)), true),
        ("200 OK", "", Box::new(|server| blob(server, false)), false),
        ("206 Partial Content", "", Box::new(|server| blob(server, true)), true),
    ];
    for (status, fields, request, taken) in rows {
        for version in ["1.0", "1.1"] {
            let raw = format!("HTTP/{version} {status}\r\n{fields}\r\n{{}}");
            let server = Server::start(vec![vec![answer(&raw)]]).await;
            let request = request(&server);
            match http(&server).fetch(&request).await {
                Ok(response) => {
                    assert!(taken, "{raw}");
                    assert_eq!(response.headers.contains_key(header::RETRY_AFTER), status.starts_with("429"));
                    assert_eq!(whole(response).await.unwrap(), "{}", "{raw}");
                }
                Err(error) => {
                    assert!(!taken && matches!(error, UpstreamError::Broken { .. }), "{raw}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn bytes_beyond_the_length_are_not_delivered_and_end_the_connection() {
    let long = answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcdefgh");
    let server = Server::start(vec![vec![long, ok("wrong")], vec![ok("two")]]).await;
    let http = http(&server);
    assert_eq!(text(&http, "/x").await.unwrap(), "abcd");
    assert_eq!(text(&http, "/x").await.unwrap(), "two");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn what_is_not_http_is_an_error_that_does_not_quote_it() {
    let nine = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9);
    let rows = [
        "SSH-2.0-secret\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nsecret",
        "HTTP/1.1 303 See Other\r\nLocation: https://b/?sig=secret\r\nbad header\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: secret\r\n\r\n",
        &nine,
    ];
    for raw in rows {
        let error = fails(vec![answer(raw), Act::Hang]).await;
        assert!(matches!(error, UpstreamError::Broken { .. }), "{raw:?}: {error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn informational_heads_are_skipped() {
    let raw = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
               HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = Server::start(vec![vec![answer(raw), ok("two")]]).await;
    let http = http(&server);
    assert_eq!(text(&http, "/x").await.unwrap(), "ok");
    assert_eq!(text(&http, "/x").await.unwrap(), "two");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_end_at_their_head_and_keep_the_connection() {
    let rows = [
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::OPTIONS, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let script = rows.iter().map(|(_, raw)| answer(raw)).collect();
    let server = Server::start(vec![script]).await;
    let http = http(&server);
    for (method, raw) in rows {
        let mut request = get("/x");
        request.method = method;
        let response = http.fetch(&request).await.unwrap();
        assert_eq!(whole(response).await.unwrap(), "", "{raw}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_head_comes_through_with_its_reason_and_without_what_is_not_for_others() {
    let raw = "HTTP/1.1 404 Not Found - The feed 'x' doesn't exist. (DevOps Activity ID: 1)\r\n\
               Content-Length: 0\r\nActivityId: 1\r\nSet-Cookie: a=b\r\nX-VSS-UserData: me\r\n\
               Connection: keep-alive, X-Once\r\nX-Once: 1\r\nKeep-Alive: timeout=5\r\n\
               WWW-Authenticate: Bearer\r\nWWW-Authenticate: TFS-Federated\r\n\r\n";
    let server = Server::start(vec![vec![answer(raw), ok("")]]).await;
    let http = http(&server);
    let response = http.fetch(&get("/x")).await.unwrap();
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    let reason = response.reason.as_deref();
    assert_eq!(reason, Some("Not Found - The feed 'x' doesn't exist. (DevOps Activity ID: 1)"));
    let mut names: Vec<_> = response.headers.keys().map(header::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["activityid", "content-length", "www-authenticate"]);
    assert_eq!(response.headers.get_all(header::WWW_AUTHENTICATE).iter().count(), 2);
    assert_eq!(http.fetch(&get("/x")).await.unwrap().reason, None);
}

#[tokio::test]
async fn the_request_on_the_wire_is_built_from_the_allow_list() {
    let server = Server::start(vec![vec![ok("")]]).await;
    let mut request = get("/_packaging/f/npm/registry/@a%2fb?q=%20");
    for (name, value) in [("accept", "a/b"), ("cookie", "c=d"), ("sec-fetch-mode", "cors"), ("host", "gate")]
    {
        request.headers.insert(name, HeaderValue::from_static(value));
    }
    request.authorization = Some(HeaderValue::from_static("Basic eDp5"));
    http(&server).fetch(&request).await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let mut lines: Vec<_> = server.requests()[0].trim_end().split("\r\n").map(str::to_lowercase).collect();
    lines[1..].sort();
    let expected = [
        "get /contoso/_packaging/f/npm/registry/@a%2fb?q=%20 http/1.1".to_owned(),
        "accept-encoding: identity".to_owned(),
        "accept: a/b".to_owned(),
        "authorization: basic edp5".to_owned(),
        format!("host: {}", server.authority()),
        format!("user-agent: feedgate/{version}"),
        "x-tfs-fedauthredirect: suppress".to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_silent_service_runs_into_the_limit_of_its_phase() {
    let phase = |error: &UpstreamError| match error {
        UpstreamError::Timeout { phase, .. } => Some(*phase),
        _ => None,
    };
    let server = Server::start(vec![vec![Act::Hang]]).await;
    let impatient = Settings { first_byte_timeout: SHORT, ..settings(&server) };
    let error = text(&Http::new(&impatient).unwrap(), "/x").await.unwrap_err();
    assert_eq!(phase(&error), Some(Phase::FirstByte), "{error}");

    let half = answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    let server = Server::start(vec![vec![half, Act::Hang], vec![Act::Hang]]).await;
    let impatient = Settings { idle_timeout: SHORT, ..settings(&server) };
    let mut response = Http::new(&impatient).unwrap().fetch(&get("/x")).await.unwrap();
    let (received, end) = drained(&mut *response.body).await;
    assert_eq!((received, phase(&end.unwrap_err())), (3, Some(Phase::Idle)));
    assert!(response.body.next().await.is_err(), "a failed body never ends well");

    // A TLS client that is never answered waits in its handshake.
    let tls = server.url().replace("http:", "https:") + "/{org}";
    let impatient = Settings { connect_timeout: SHORT, pkgs: tls.parse().unwrap(), ..settings(&server) };
    let error = text(&Http::new(&impatient).unwrap(), "/x").await.unwrap_err();
    assert_eq!(phase(&error), Some(Phase::Connect), "{error}");
}

#[tokio::test]
async fn the_time_in_which_nobody_reads_is_not_the_services() {
    const LENGTH: usize = 4 << 20;
    let large = answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{}", "x".repeat(LENGTH)));
    let server = Server::start(vec![vec![large]]).await;
    let strict = Settings { idle_timeout: SHORT, min_rate: 1 << 20, ..settings(&server) };
    let mut response = Http::new(&strict).unwrap().fetch(&get("/x")).await.unwrap();
    for _ in 0..5 {
        assert!(response.body.next().await.unwrap().is_some());
        // By far too slow for that rate, were it the service.
        tokio::time::sleep(2 * SHORT).await;
    }
    assert!(drained(&mut *response.body).await.1.is_ok());
}

#[tokio::test]
async fn an_address_that_refuses_is_passed_over_for_the_next() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = dead.local_addr().unwrap();
    drop(dead);
    let server = Server::start(vec![vec![ok("one")]]).await;
    let http = http(&server);
    let name = || ("localhost".to_owned(), server.address().port());
    http.egress.resolver.remember(name(), [refusing, server.address()].into());
    assert_eq!(text(&http, "/x").await.unwrap(), "one");

    http.egress.resolver.remember(name(), [refusing, refusing].into());
    let error = text(&http, "/x").await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Connect { host, .. } if *host == server.authority()), "{error}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_address_out_of_reach_is_refused_by_host_address_and_rule() {
    let server = Server::start(vec![vec![ok("one")]]).await;
    // A spelling that only the resolver takes for an address.
    let url = format!("{}/{{org}}", server.url().replace("localhost", "127.1"));
    let named = Settings { pkgs: url.parse().unwrap(), ..settings(&server) };
    let error = text(&Http::new(&named).unwrap(), "/x").await.unwrap_err().to_string();
    for part in ["127.1:", "127.0.0.1 is loopback", "`upstream.private_networks`"] {
        assert!(error.contains(part), "{part} not in: {error}");
    }
    assert_eq!(server.connections(), 0);
    let listed = Settings { private_networks: vec!["127.0.0.0/8".parse().unwrap()], ..named };
    assert_eq!(text(&Http::new(&listed).unwrap(), "/x").await.unwrap(), "one");
}

/// Settings with `server` as a proxy that wants a credential, for two hosts that only it could find.
fn through(server: &Server) -> Settings {
    let text = format!(
        "[upstream]\npkgs = \"http://one.invalid/{{org}}\"\nfeeds = \"http://two.invalid:81/{{org}}\"\n\
         proxy = \"{}\"\nproxy_credential_env = \"PROXY\"\n",
        server.url()
    );
    let environment = [("PROXY".to_owned(), "gate:planted".to_owned())].into();
    crate::config::Config::parse(&text, &environment).unwrap().config.upstream
}

#[tokio::test]
async fn what_a_proxy_says_is_the_error_and_its_credential_is_not() {
    let rows = [
        (
            answer("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            "does not take the gate's credential (407)",
        ),
        (
            answer("HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n<html>"),
            "does not let the gate connect to this host (403)",
        ),
        (answer("HTTP/1.0 503 Nope\r\n\r\n"), "answered with status 503"),
        (answer("SSH-2.0-x\r\n"), "gave no answer that is HTTP"),
        (answer("HTTP/1.1 200 OK\r\n\r\nmore"), "gave no answer that is HTTP"),
        (answer("HTTP/1.1 200 OK\r\n"), "gave no answer that is HTTP"),
        (
            answer(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000))),
            "gave no answer that is HTTP",
        ),
        (Act::Close, "gave no answer that is HTTP"),
        (Act::Hang, "gave no connection in time"),
    ];
    for (act, expected) in rows {
        let impatient = matches!(act, Act::Hang);
        let server = Server::start(vec![vec![act]]).await;
        let connect_timeout = if impatient { SHORT } else { AMPLE };
        let settings = Settings { connect_timeout, ..through(&server) };
        let error = text(&Http::new(&settings).unwrap(), "/x").await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Connect { host, .. } if host == "one.invalid"), "{error}");
        let (error, credential) = (error.to_string(), "Proxy-Authorization: Basic Z2F0ZTpwbGFudGVk\r\n");
        assert!(error.contains(&format!("proxy {} {expected}", server.authority())), "{error}");
        assert!(!error.contains("planted") && !error.contains("Z2F0"), "{error}");
        if !impatient {
            let asked = server.requests().concat();
            assert!(
                asked.starts_with("CONNECT one.invalid:80 HTTP/1.1\r\nHost: one.invalid:80\r\n"),
                "{asked}"
            );
            assert!(asked.contains(credential), "{asked}");
        }
    }
}

#[tokio::test]
async fn a_tunnel_is_kept_for_its_host_and_no_other() {
    let tunnel = || answer("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n");
    let server =
        Server::start(vec![vec![tunnel(), ok("one"), ok("three")], vec![tunnel(), ok("two"), ok("four")]])
            .await;
    let http = Http::new(&through(&server)).unwrap();
    let to = |service| {
        UpstreamRequest::get(
            Target::Service {
                service,
                org: crate::ident::Name::parse("contoso").unwrap(),
                path: "/x".to_owned(),
            },
            super::anybody(),
        )
    };
    let hosts = [Service::Pkgs, Service::Feeds, Service::Pkgs, Service::Feeds];
    for (service, expected) in hosts.into_iter().zip(["one", "two", "three", "four"]) {
        assert_eq!(whole(http.fetch(&to(service)).await.unwrap()).await.unwrap(), expected);
    }
    assert_eq!(server.connections(), 2);
    let inside: Vec<_> =
        server.requests().into_iter().filter(|request| !request.starts_with("CONNECT")).collect();
    assert!(
        inside.iter().all(|request| !request.to_lowercase().contains("proxy-authorization")),
        "{inside:?}"
    );
}

#[tokio::test]
async fn a_head_that_is_too_large_is_an_error_that_says_so() {
    let head = |fields: &str| answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n"));
    let fields = |count: usize| "X: 1\r\n".repeat(count);
    let long = |bytes: usize| format!("X: {}\r\n", "x".repeat(bytes));
    for taken in [fields(127), long(65_000)] {
        let server = Server::start(vec![vec![head(&taken)]]).await;
        assert_eq!(text(&http(&server), "/x").await.unwrap(), "");
    }
    let endless = answer(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(3 << 20)));
    let rows = [
        (head(&fields(128)), "129 fields"),
        (head(&fields(300)), "more fields or bytes"),
        (head(&long(66_000)), "at most 65536"),
        (endless, "more fields or bytes"),
    ];
    for (act, expected) in rows {
        let error = fails(vec![act]).await;
        assert!(matches!(&error, UpstreamError::Head { reason, .. } if reason.contains(expected)), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_connect_error() {
    let server = Server::start(vec![]).await;
    let nowhere = "http://no-such-host.invalid/{org}".parse().unwrap();
    let settings = Settings { pkgs: nowhere, connect_timeout: AMPLE, ..settings(&server) };
    let error = text(&Http::new(&settings).unwrap(), "/x").await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Connect { reason, .. } if reason.contains("lookup")), "{error}");
}
