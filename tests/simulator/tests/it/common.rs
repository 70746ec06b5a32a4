//! The organisation that most tests talk to.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Builder, Feed, NpmPackage, NpmVersion, Organisation, Scope, Simulator, Token};

/// `contoso` with a private feed `main`, a public one `open` and a project-scoped one `web/site`, all with the same
/// left-pad; alice reads, bob publishes.
pub(crate) fn contoso() -> Builder {
    let left_pad = NpmPackage::new("left-pad")
        .version("1.2.0", NpmVersion::new().promoted_to("release"))
        .version("1.3.0", NpmVersion::new().size(20_000).dependency("is-odd", "^3.0.0"))
        .version("2.0.0-rc.1", NpmVersion::new().deprecated("too early"));
    let ui = NpmPackage::new("@contoso/ui").version("0.1.0", NpmVersion::new().bin("ui"));
    let feeds = [
        Feed::new("main").npm(left_pad.clone()).npm(ui.clone()),
        Feed::new("open").public().npm(left_pad.clone()).npm(ui),
        Feed::new("site").project("web").npm(left_pad),
    ];
    let tokens = [
        Token::pat("alice-pat").label("alice"),
        Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite),
        Token::pat("carol-pat").label("carol").scope(Scope::ReadForbidden),
        Token::pat("dave-pat").label("dave").scope(Scope::Expired),
        Token::pat("erin-pat").label("erin").only("open"),
        Token::bearer("robot-token").label("robot"),
    ];
    let contoso = feeds.into_iter().fold(Organisation::new("contoso"), Organisation::feed);
    let contoso = tokens.into_iter().fold(contoso, Organisation::token);
    Simulator::builder().seed(7).organisation(contoso)
}

pub(crate) async fn start() -> Simulator {
    contoso().start().await.unwrap()
}

/// GETs with alice's token.
pub(crate) async fn get(url: &str) -> Response {
    client::get(url, &[("Authorization", &client::basic("any", "alice-pat"))]).await.unwrap()
}

/// Follows one redirect as the service wants it: without the credential.
pub(crate) async fn download(url: &str) -> Response {
    let redirect = get(url).await;
    assert_eq!(redirect.status, 303, "{}", redirect.text());
    client::get(redirect.header("location").unwrap(), &[]).await.unwrap()
}
