//! `GET` and `PUT /admin/v1/mode`: which modes are in force, and another one until the end of the gate.
//!
//! `PUT` takes `{"feed": "org/feed", "mode": "offline"}`. `feed` may be `null` or missing for the feeds without a mode
//! of their own; `mode` may be `null` for a feed, which then has none any more. Both answer with the modes in force. What
//! is set here is not written to the configuration.

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    exchange::{Answer, Request},
    problem::Problem,
    router::Route,
};
use crate::{
    config::{Mode, changes::FeedName},
    handler::Modes,
};

const PATH: &str = "/admin/v1/mode";

/// A switch that was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Switch {
    Default(Mode),
    Feed(FeedName, Option<Mode>),
}

/// The routes of modes.
pub(super) fn routes(modes: &Modes) -> Vec<Route> {
    vec![
        Route::new(Method::GET, PATH, modes, |modes, _| Answer::json(&shown(&modes))),
        Route::new(Method::PUT, PATH, modes, |modes, request| set(&modes, request)),
    ]
}

fn set(modes: &Modes, request: &Request) -> Result<Answer, Problem> {
    match switch(request.bytes()).map_err(Problem::invalid)? {
        Switch::Default(mode) => modes.set_default(mode),
        Switch::Feed(name, mode) => modes.set_feed(name, mode),
    }
    Answer::json(&shown(modes))
}

fn switch(body: &[u8]) -> Result<Switch, String> {
    let asked: Map<String, Value> = serde_json::from_slice(body).map_err(|_| {
        "the body must be a JSON object such as {\"feed\": null, \"mode\": \"offline\"}".to_owned()
    })?;
    if let Some(key) = asked.keys().find(|key| !["feed", "mode"].contains(&key.as_str())) {
        return Err(format!("`{key}` is not known; there are `feed` and `mode`"));
    }
    let mode = match asked.get("mode") {
        Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.parse::<Mode>().map_err(|rule| format!("`mode` {rule}"))?),
        Some(_) | None => return Err("`mode` must be given as a string".to_owned()),
    };
    match (asked.get("feed"), mode) {
        (None | Some(Value::Null), Some(mode)) => Ok(Switch::Default(mode)),
        (None | Some(Value::Null), None) => Err("`mode` may be null for a feed only".to_owned()),
        (Some(Value::String(name)), mode) => {
            let name = name.parse().map_err(|rule| format!("`feed` {rule}"))?;
            Ok(Switch::Feed(name, mode))
        }
        (Some(_), _) => Err("`feed` must be a string or null".to_owned()),
    }
}

fn shown(modes: &Modes) -> Value {
    let feeds = modes.feeds();
    let feeds: Vec<_> =
        feeds.iter().map(|one| json!({ "feed": one.name.to_string(), "mode": one.mode.as_str() })).collect();
    json!({ "feed": null, "mode": modes.default_mode().as_str(), "feeds": feeds })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{Method, StatusCode};
    use prometheus::Registry;
    use serde_json::Value;

    use super::{set, shown};
    use crate::{
        admin::{
            exchange::{Answer, Body, Content, Request},
            problem::Problem,
        },
        config::Outage,
        handler::Modes,
    };

    fn request(body: &str) -> Request {
        let body = Body::Whole(body.to_owned().into());
        Request { method: Method::PUT, parameters: BTreeMap::new(), query: String::new(), body }
    }

    fn value(answer: Result<Answer, Problem>) -> Value {
        let Content::Whole(body) = answer.unwrap().body else { panic!("a stream") };
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn modes_are_switched_and_shown() {
        let modes = Modes::new(&Outage::default(), &[], &Registry::new()).unwrap();
        for (body, mode, feeds) in [
            (r#"{"feed":null,"mode":"offline"}"#, "offline", "[]"),
            (r#"{"mode":"strict"}"#, "strict", "[]"),
            (r#"{"feed":"a/b","mode":"offline"}"#, "strict", r#"[{"feed":"a/b","mode":"offline"}]"#),
            (r#"{"feed":"A/B","mode":"strict"}"#, "strict", r#"[{"feed":"A/B","mode":"strict"}]"#),
            (r#"{"feed":"a/b","mode":null}"#, "strict", "[]"),
        ] {
            let now = value(set(&modes, &request(body)));
            assert_eq!(now["mode"].as_str(), Some(mode), "{body}");
            assert_eq!(now["feeds"].to_string(), feeds, "{body}");
            assert_eq!(shown(&modes), now);
        }
    }

    #[test]
    fn a_mistake_is_told_and_switches_nothing() {
        let modes = Modes::new(&Outage::default(), &[], &Registry::new()).unwrap();
        for (body, part) in [
            ("", "must be a JSON object"),
            ("[1]", "must be a JSON object"),
            ("{}", "`mode` must be given"),
            (r#"{"mode":1}"#, "`mode` must be given"),
            (r#"{"mode":"off"}"#, "`mode` must be one of fallback, offline, strict"),
            (r#"{"mode":null}"#, "for a feed only"),
            (r#"{"feed":"main","mode":"offline"}"#, "`feed` must be `organisation/feed`"),
            (r#"{"feed":7,"mode":"offline"}"#, "`feed` must be a string"),
            (r#"{"feeds":"a/b","mode":"offline"}"#, "`feeds` is not known"),
        ] {
            let problem = set(&modes, &request(body)).err().unwrap();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{body}");
            assert!(problem.detail.contains(part), "{body}: {problem:?}");
        }
        assert_eq!((modes.default_mode(), modes.feeds().len()), (crate::config::Mode::Fallback, 0));
    }
}
