//! The whole domain of statuses, and what refusals show.

use std::{
    collections::VecDeque,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::{
    config::upstream::Upstream as Settings,
    ident::Name,
    upstream::{BodyStream, Service},
};

const ID: &str = "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";

struct Script(VecDeque<Bytes>);

/// A byte every twenty seconds, for ever.
struct Drip;

#[async_trait]
impl BodyStream for Script {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        Ok(self.0.pop_front())
    }
}

#[async_trait]
impl BodyStream for Drip {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok(Some(Bytes::from_static(b"x")))
    }
}

fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> UpstreamResponse {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::try_from(*value).unwrap());
    }
    UpstreamResponse {
        status: StatusCode::from_u16(status).unwrap(),
        reason: None,
        headers: map,
        body: Box::new(Script(VecDeque::from([Bytes::copy_from_slice(body.as_bytes())]))),
    }
}

async fn step(expect: Expect, response: UpstreamResponse) -> Result<Step, UpstreamError> {
    let sites = Sites::new(&Settings::default());
    let org = Name::parse("contoso").unwrap();
    let from = Target::Service { service: Service::Pkgs, org, path: "/x".into() };
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    classify(Context { sites: &sites, from: &from, expect, now }, response).await
}

async fn refused(expect: Expect, response: UpstreamResponse) -> Refused {
    match step(expect, response).await {
        Ok(Step::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

fn kind(step: &Result<Step, UpstreamError>) -> String {
    match step {
        Ok(Step::Refused(refused)) => {
            let name = match refused {
                Refused::Unauthorized(_) => "unauthorized",
                Refused::Forbidden(_) => "forbidden",
                Refused::NotFound(_) => "not found",
                Refused::Busy { .. } => "busy",
                Refused::Rejected(_) => "rejected",
                Refused::Failed(_) => "failed",
            };
            format!("{name} {}", refused.refusal().status.as_u16())
        }
        Ok(Step::Success(_)) => "success".into(),
        Ok(Step::Blob(_)) => "blob".into(),
        Ok(Step::Hop(_)) => "hop".into(),
        Err(error) => format!("{error}"),
    }
}

/// What each status must mean, spelled out once more and by other means than the code.
fn expected(expect: Expect, status: u16) -> String {
    let any = expect == Expect::Any;
    match status {
        200 => "success".into(),
        203 | 401 => "unauthorized 401".into(),
        204..=206 | 201 | 202 | 207..=299 if any => "success".into(),
        301 | 302 | 303 | 307 | 308 => "blob".into(),
        403 => "forbidden 403".into(),
        404 | 410 => format!("not found {status}"),
        429 | 503 => format!("busy {status}"),
        s if s / 100 == 4 => format!("rejected {status}"),
        s if s / 100 == 5 => format!("failed {status}"),
        _ => "failed 502".into(),
    }
}

#[tokio::test]
async fn every_status_has_one_meaning_for_each_expectation() {
    let location = format!("https://avsblobprod1.vsblob.vsassets.io/b-12ab/{ID}.blob?sig=x");
    for expect in [Expect::Json, Expect::Xml, Expect::Bytes, Expect::Any] {
        for status in (100..=599).chain([600, 999]) {
            let step = step(expect, response(status, &[("location", &location)], "")).await;
            assert_eq!(kind(&step), expected(expect, status), "{expect:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_told_by_its_location() {
    let rows = [
        ("https://avsblobprod1.vsblob.vsassets.io/b-1/x.blob?sig=s", "blob"),
        ("https://pkgs.dev.azure.com/contoso/_packaging/f", "hop"),
        ("https://spsprodweu1.vssps.visualstudio.com/_signin?reply_to=s", "unauthorized 401"),
        (
            "https://evil.example/x?sig=s",
            "redirect refused: https://evil.example is not a host that downloads may come from",
        ),
        ("", "redirect refused: location is not a URL"),
    ];
    for (location, expected) in rows {
        let step = step(Expect::Bytes, response(303, &[("location", location)], "moved")).await;
        assert_eq!(kind(&step), expected, "{location}");
    }
    let none = step(Expect::Bytes, response(302, &[], "")).await;
    assert_eq!(kind(&none), "failed 502");
}

#[tokio::test]
async fn html_where_package_data_is_due_is_a_sign_in_page() {
    let html = [("content-type", "Text/HTML; charset=utf-8")];
    for (expect, expected) in [
        (Expect::Json, "unauthorized 401"),
        (Expect::Xml, "unauthorized 401"),
        (Expect::Bytes, "unauthorized 401"),
        (Expect::Any, "success"),
    ] {
        assert_eq!(kind(&step(expect, response(200, &html, "<html>")).await), expected, "{expect:?}");
    }
    let shown = refused(Expect::Json, response(203, &html, "<html>secret")).await;
    let refusal = shown.refusal();
    assert!(!String::from_utf8_lossy(&refusal.body).contains("secret"));
    assert_eq!(refusal.headers[header::CONTENT_TYPE], "application/json; charset=utf-8");
}

#[tokio::test]
async fn a_401_carries_the_services_challenges_or_the_standard_three_on_lines_of_their_own() {
    let challenges = |refused: &Refused| {
        let values = refused.refusal().headers.get_all(header::WWW_AUTHENTICATE).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = [
        ("www-authenticate", "Bearer authorization_uri=https://login.windows.net/t"),
        ("www-authenticate", "TFS-Federated"),
    ];
    for status in [401, 203] {
        let with = refused(Expect::Json, response(status, &own, "")).await;
        assert_eq!(challenges(&with), own.map(|(_, value)| value), "{status}");
        let without = refused(Expect::Json, response(status, &[], "")).await;
        assert_eq!(challenges(&without), CHALLENGES, "{status}");
    }
}

#[tokio::test]
async fn a_refusal_shows_the_listed_headers_and_a_bounded_body() {
    let headers = [
        ("content-type", "application/json"),
        ("x-vss-resourcetenant", "t"),
        ("x-vss-authorizationendpoint", "https://vssps.dev.azure.com/contoso/"),
        ("x-vss-e2eid", "e"),
        ("activityid", "a"),
        ("x-tfs-session", "hidden"),
        ("retry-after", "5"),
        ("location", "https://hidden/"),
    ];
    let mut answer = response(404, &headers, &"x".repeat(MAX_REFUSAL + 1));
    answer.reason = Some("Not Found - The feed doesn't exist".into());
    let shown = refused(Expect::Json, answer).await;
    let refusal = shown.refusal();
    assert_eq!(refusal.reason.as_deref(), Some("Not Found - The feed doesn't exist"));
    assert_eq!(refusal.body.len(), MAX_REFUSAL);
    let mut names: Vec<_> = refusal.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let expected =
        ["activityid", "content-type", "x-vss-authorizationendpoint", "x-vss-e2eid", "x-vss-resourcetenant"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_500_that_speaks_of_load_is_busy_and_no_other() {
    let blocked =
        "Request was blocked due to exceeding usage of resource 'Concurrency' in namespace 'IPAddress'";
    let waiters = "Maximum waiter thread limit 500 is reached";
    let json = format!("{{\"message\":\"TF400733: {blocked}\"}}");
    let rows = [
        (500, None, json.as_str(), "busy 500"),
        (500, Some(waiters), "", "busy 500"),
        (500, Some("Internal Server Error"), "oops", "failed 500"),
        (502, None, blocked, "failed 502"),
        (400, None, blocked, "rejected 400"),
    ];
    for (status, reason, body, expected) in rows {
        let mut answer = response(status, &[], body);
        answer.reason = reason.map(str::to_owned);
        let step = step(Expect::Json, answer).await;
        assert_eq!(kind(&step), expected, "{status} {reason:?} {body}");
    }
}

#[tokio::test]
async fn retry_after_is_seconds_or_a_date_and_never_more_than_an_hour() {
    let rows = [
        (Some("17"), Some(17)),
        (Some("0"), Some(0)),
        (Some("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30)),
        (Some("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0)),
        (Some("99999999"), Some(3600)),
        (Some("-1"), None),
        (Some("soon"), None),
        (None, None),
    ];
    for (value, expected) in rows {
        let headers: Vec<_> = value.map(|value| ("retry-after", value)).into_iter().collect();
        match refused(Expect::Json, response(429, &headers, "")).await {
            Refused::Busy { retry_after, .. } => {
                assert_eq!(retry_after, expected.map(Duration::from_secs), "{value:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_trouble_of_the_service_counts_as_an_outage() {
    let refusal = || own(StatusCode::BAD_GATEWAY, "x");
    assert!(Refused::Failed(refusal()).is_outage());
    assert!(Refused::Busy { retry_after: None, refusal: refusal() }.is_outage());
    for refused in [
        Refused::Unauthorized(refusal()),
        Refused::Forbidden(refusal()),
        Refused::NotFound(refusal()),
        Refused::Rejected(refusal()),
    ] {
        assert!(!refused.is_outage(), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_or_redirect_that_drips_is_shown_as_far_as_it_came() {
    let dripping = |status, headers: &[(&'static str, &str)]| UpstreamResponse {
        body: Box::new(Drip),
        ..response(status, headers, "")
    };
    let start = tokio::time::Instant::now();
    for status in [400, 401, 403, 404, 500, 502, 503] {
        refused(Expect::Json, dripping(status, &[])).await;
    }
    let location = format!("https://avsblobprod1.vsblob.vsassets.io/b-12ab/{ID}.blob?sig=1");
    let onward = step(Expect::Bytes, dripping(303, &[("location", &location)])).await;
    assert_eq!(kind(&onward), "blob");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
