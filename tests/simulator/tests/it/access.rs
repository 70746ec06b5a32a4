//! Who may read what, and how refusals look.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Scope, SignIn, Simulator};

use super::common::{contoso, start};

async fn read(simulator: &Simulator, feed: &str, credential: Option<&str>) -> Response {
    let headers: Vec<_> = credential.iter().map(|value| ("Authorization", *value)).collect();
    client::get(&format!("{}left-pad", simulator.npm_url(feed)), &headers).await.unwrap()
}

#[tokio::test]
async fn every_credential_gets_what_it_may() {
    let simulator = start().await;
    let basic = |pat: &str| Some(client::basic("someone", pat));
    let rows = [
        (None, "contoso/main", 401),
        (None, "contoso/open", 200),
        (None, "contoso/nowhere", 401),
        (basic("alice-pat"), "contoso/main", 200),
        (Some(client::basic("", "alice-pat")), "contoso/main", 200),
        (basic("wrong"), "contoso/main", 401),
        (basic("wrong"), "contoso/open", 401),
        (basic("carol-pat"), "contoso/main", 403),
        (basic("dave-pat"), "contoso/main", 401),
        (basic("erin-pat"), "contoso/main", 403),
        (basic("erin-pat"), "contoso/open", 200),
        (Some("Bearer robot-token".to_owned()), "contoso/main", 200),
        (Some("Bearer alice-pat".to_owned()), "contoso/main", 401),
        (Some("Nonsense".to_owned()), "contoso/main", 401),
    ];
    for (credential, feed, expected) in rows {
        let response = read(&simulator, feed, credential.as_deref()).await;
        assert_eq!(response.status, expected, "{credential:?} {feed}");
    }
}

#[tokio::test]
async fn a_401_has_three_challenges_and_the_headers_of_the_hosted_service() {
    let simulator = start().await;
    let response = read(&simulator, "contoso/main", None).await;
    let challenges = response.header_all("www-authenticate");
    assert_eq!(challenges.len(), 3);
    assert!(challenges[0].starts_with("Bearer authorization_uri=https://login.windows.net/"));
    assert!(challenges[1].starts_with("Basic realm="));
    assert_eq!(challenges[2], "TFS-Federated");
    assert!(response.header("x-vss-resourcetenant").is_some());
    assert!(response.header("x-vss-authorizationendpoint").is_some());
    assert_eq!(response.json()["typeKey"], "UnauthorizedRequestException");
}

#[tokio::test]
async fn a_scope_can_change_while_the_service_runs() {
    let simulator = start().await;
    let alice = client::basic("any", "alice-pat");
    assert_eq!(read(&simulator, "contoso/main", Some(&alice)).await.status, 200);
    simulator.set_scope("alice", Scope::Expired);
    assert_eq!(read(&simulator, "contoso/main", Some(&alice)).await.status, 401);
    simulator.set_public("contoso/main", true);
    assert_eq!(read(&simulator, "contoso/main", None).await.status, 200);
}

#[tokio::test]
async fn the_log_names_credentials_and_never_shows_them() {
    let simulator = start().await;
    read(&simulator, "contoso/main", Some(&client::basic("any", "alice-pat"))).await;
    read(&simulator, "contoso/main", Some("Bearer robot-token")).await;
    read(&simulator, "contoso/main", Some("Bearer stranger")).await;
    read(&simulator, "contoso/main", None).await;
    let shown: Vec<_> =
        simulator.requests().iter().map(|logged| logged.header("authorization").map(str::to_owned)).collect();
    let expected = [Some("Basic alice"), Some("Bearer robot"), Some("Bearer ?"), None];
    assert_eq!(shown, expected.map(|text| text.map(str::to_owned)));
}

#[tokio::test]
async fn a_bad_credential_on_apis_gets_the_sign_in_page_unless_suppressed() {
    for (sign_in, expected) in [(SignIn::Page203, 203), (SignIn::Redirect302, 302)] {
        let simulator = contoso().sign_in(sign_in).start().await.unwrap();
        let url = format!("{}/contoso/_apis/packaging/Feeds/main", simulator.feeds_url());
        let bad = client::basic("any", "dave-pat");
        let response = client::get(&url, &[("Authorization", &bad)]).await.unwrap();
        assert_eq!(response.status, expected);
        assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
        let location = response.header("location").unwrap_or_default();
        assert_eq!(
            location.contains(".vssps.visualstudio.com/_signin?realm="),
            expected == 302,
            "{location}"
        );
        let suppress = [("Authorization", bad.as_str()), ("X-TFS-FedAuthRedirect", "Suppress")];
        assert_eq!(client::get(&url, &suppress).await.unwrap().status, 401);
        assert_eq!(client::get(&url, &[]).await.unwrap().status, 401);
    }
}

#[tokio::test]
async fn the_feeds_host_knows_feeds_by_name_and_guid() {
    let simulator = start().await;
    let alice = client::basic("any", "alice-pat");
    let get = async |path: &str| {
        let url = format!("{}{path}", simulator.feeds_url());
        client::get(&url, &[("Authorization", &alice)]).await.unwrap()
    };
    let guid = simulator.feed_guid("contoso/main").to_string();
    for feed in ["main", "MAIN", guid.as_str()] {
        let response = get(&format!("/contoso/_apis/packaging/Feeds/{feed}?api-version=6.0-preview.1")).await;
        assert_eq!(response.json()["id"], guid);
        assert_eq!(
            response.header("content-type"),
            Some("application/json; charset=utf-8; api-version=6.0-preview.1")
        );
    }
    assert_eq!(get("/contoso/_apis/packaging/feeds").await.json()["count"], 3);
    let project = get("/contoso/web/_apis/packaging/feeds").await.json();
    assert_eq!(project["value"][0]["project"]["name"], "web");
    assert_eq!(get("/contoso/_apis/packaging/feeds/nowhere").await.status, 404);
}
