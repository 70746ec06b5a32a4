//! The status page on the admin listener: what [`super::stats`] says, for people with a browser.
//!
//! Made here as a whole: no scripts, no assets from elsewhere, and a Content-Security-Policy that allows none. `/search`
//! shows what is stored of a package, `/explain` what would happen to a request for it, `/purge` asks before it drops
//! anything. The [guard](super::guard) holds for these
//! as for the API: the token, the origin of what changes something.

mod html;
mod overview;
mod store;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Method, StatusCode, header};
use sha2::{Digest as _, Sha256};

use self::html::Html;
use super::{
    exchange::{Answer, Request},
    problem::Problem,
    router::Route,
    stats::Stats,
};
use crate::handler::Explainer;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("style.css");
/// The overview is read again after so long.
const AGAIN: &str = "<meta http-equiv=\"refresh\" content=\"30\">";

/// The routes of the pages.
pub(super) fn routes(stats: &Stats, explainer: &Explainer) -> Vec<Route> {
    vec![
        Route::waiting(Method::GET, "/", stats, |stats, _| async move {
            shown(overview::page(&stats).await, AGAIN)
        }),
        Route::waiting(Method::GET, "/search", &stats.handler, |handler, request: Request| async move {
            shown(store::search(&handler, &request).await, "")
        }),
        Route::waiting(Method::GET, "/explain", explainer, |explainer, request: Request| async move {
            shown(store::explain(&explainer, &request).await, "")
        }),
        Route::waiting(Method::GET, "/purge", &stats.handler, |handler, request: Request| async move {
            shown(store::ask(&handler, &request).await, "")
        }),
        Route::waiting(Method::POST, "/purge", &stats.handler, |handler, request: Request| async move {
            shown(store::purge(&handler, &request).await, "")
        }),
    ]
}

/// A page of what is in its middle, or of why there is nothing.
fn shown(main: Result<Html, Problem>, head: &'static str) -> Result<Answer, Problem> {
    let (main, status) = match main {
        Ok(main) => (main, StatusCode::OK),
        Err(problem) => {
            let mut main = Html::default();
            main.raw("<section><h2>That did not work</h2><p>").text(&problem.detail).raw("</p></section>");
            (main, problem.status)
        }
    };
    let mut page = Html::default();
    page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>feedgate</title>");
    page.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">").raw(head);
    page.raw("<link rel=\"icon\" href=\"data:,\"><style>").raw(STYLE).raw("</style></head><body>");
    page.part(&main).raw("</body></html>\n");
    let mut answer = Answer::text(HTML, page.into_text())
        .with_status(status)
        .with_header(header::CACHE_CONTROL, "no-store")
        .with_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .with_header(header::X_FRAME_OPTIONS, "DENY")
        .with_header(header::REFERRER_POLICY, "same-origin");
    let policy = HeaderValue::from_str(&policy()).map_err(|error| Problem::internal(&error))?;
    answer.headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

/// Nothing is allowed but this very style, the empty icon and forms to the gate itself.
fn policy() -> String {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// What every page begins with: the name, states, and the search.
fn begin(states: &[(&'static str, String)], wanted: &store::Wanted) -> Html {
    let mut html = Html::default();
    html.raw("<header><h1><a href=\"/\">feedgate</a></h1>");
    for (class, state) in states {
        html.raw("<span class=\"pill ").raw(class).raw("\">").text(state).raw("</span>");
    }
    html.raw("<form action=\"/search\" role=\"search\"><input type=\"search\" name=\"package\" required maxlength=\"512\"");
    html.raw(" placeholder=\"left-pad, @scope/*\" aria-label=\"Package\" value=\"").text(&wanted.package);
    html.raw("\"><input type=\"text\" name=\"feed\" maxlength=\"512\" placeholder=\"any feed\" aria-label=\"Feed\" value=\"");
    html.text(&wanted.feed).raw("\"><button>Search</button></form></header><main>");
    html
}
