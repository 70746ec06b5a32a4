//! `POST /admin/v1/explain`: what the gate would do with a request now, and why.
//!
//! A POST, since the body may have the credential of the caller who wonders; it is hashed and goes nowhere.

use std::{collections::BTreeMap, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    exchange::{Answer, Request},
    problem::Problem,
    router::Route,
};
use crate::{
    config::changes::FeedName,
    handler::{ExplainError, Explainer, Question},
};

/// What is wondered about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// A URL, a path, `package` or `package@version`.
    what: String,
    /// `organisation/feed` or `organisation/project/feed`, for a package.
    feed: Option<String>,
    #[serde(default)]
    method: Option<String>,
    /// More headers of the request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The `Authorization` that the client sends; none for an anonymous one.
    authorization: Option<String>,
    address: Option<IpAddr>,
}

/// The route of explanations.
pub(super) fn routes(explainer: &Explainer) -> Vec<Route> {
    vec![Route::waiting(Method::POST, "/admin/v1/explain", explainer, explain)]
}

/// What would happen to somebody who asks for a package without a credential.
pub(super) async fn explained(
    explainer: &Explainer,
    what: String,
    feed: Option<String>,
) -> Result<Value, Problem> {
    let feed = feed.as_deref().map(read_feed).transpose()?;
    let question = Question { what, feed, method: Method::GET, headers: HeaderMap::new(), address: None };
    let all = explainer.explain(question, None).await.map_err(|error| problem(&error))?;
    Ok(json!({ "explained": all }))
}

fn read_feed(text: &str) -> Result<FeedName, Problem> {
    text.parse().map_err(|rule| Problem::invalid(format!("`feed` is `{text}`: it {rule}")))
}

async fn explain(explainer: Explainer, request: Request) -> Result<Answer, Problem> {
    let asked: Asked = request.json()?;
    // The value itself is a secret.
    let secret = |_| Problem::invalid("`authorization` is not a value of a header");
    let authorization =
        asked.authorization.as_deref().map(HeaderValue::from_str).transpose().map_err(secret)?;
    let method = asked.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
    let method =
        method.parse().map_err(|_| Problem::invalid(format!("`method` is `{method}`, which is none")))?;
    let question = Question {
        what: asked.what,
        feed: asked.feed.as_deref().map(read_feed).transpose()?,
        method,
        headers: headers(&asked.headers)?,
        address: asked.address,
    };
    let all = explainer.explain(question, authorization.as_ref()).await.map_err(|error| problem(&error))?;
    Answer::json(&json!({ "explained": all }))
}

fn headers(asked: &BTreeMap<String, String>) -> Result<HeaderMap, Problem> {
    let header = |(name, value): (&String, &String)| {
        let read = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(value).ok());
        read.ok_or_else(|| {
            Problem::invalid(format!("`headers` has `{name}`, whose name or value is none of a header"))
        })
    };
    asked.iter().map(header).collect()
}

fn problem(error: &ExplainError) -> Problem {
    match error {
        ExplainError::Unreadable(_) => Problem::invalid(format!("`what`: {error}")),
        ExplainError::Nowhere(_) => Problem::absent(error.to_string()),
        ExplainError::Slow => Problem::conflict(error.to_string()),
    }
}
