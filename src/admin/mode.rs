//! `GET` and `PUT /admin/v1/mode`: which modes are in force, and another one until the end of the gate.
//!
//! `PUT` takes `{"feed": "org/feed", "mode": "offline"}`. `feed` may be `null` or missing for the feeds without a mode
//! of their own; `mode` may be `null` for a feed, which then has none any more. Both answer with the modes in force. What
//! is set here is not written to the configuration.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Answer;
use crate::{
    config::{Mode, changes::FeedName},
    handler::Modes,
};

/// The only path.
pub(super) const PATH: &str = "/admin/v1/mode";

const JSON: &str = "application/json; charset=utf-8";
const PROBLEM: &str = "application/problem+json";

/// A switch that was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Switch {
    Default(Mode),
    Feed(FeedName, Option<Mode>),
}

/// Shows the modes, or switches one.
pub(super) fn answer(modes: &Modes, method: &Method, body: &[u8]) -> Answer {
    match *method {
        Method::GET | Method::HEAD => {}
        Method::PUT => match switch(body) {
            Ok(Switch::Default(mode)) => modes.set_default(mode),
            Ok(Switch::Feed(name, mode)) => modes.set_feed(name, mode),
            Err(detail) => return problem(StatusCode::BAD_REQUEST, &detail),
        },
        _ => return problem(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and PUT"),
    }
    (StatusCode::OK, JSON, shown(modes))
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

fn shown(modes: &Modes) -> String {
    let feeds = modes.feeds();
    let feeds: Vec<_> =
        feeds.iter().map(|one| json!({ "feed": one.name.to_string(), "mode": one.mode.as_str() })).collect();
    format!("{}\n", json!({ "feed": null, "mode": modes.default_mode().as_str(), "feeds": feeds }))
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "code": "mode", "detail": detail,
    });
    (status, PROBLEM, format!("{body}\n"))
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use prometheus::Registry;

    use super::answer;
    use crate::{config::Outage, handler::Modes};

    fn put(modes: &Modes, body: &str) -> (StatusCode, serde_json::Value) {
        let (status, _, text) = answer(modes, &Method::PUT, body.as_bytes());
        (status, serde_json::from_str(&text).unwrap())
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
            let (status, now) = put(&modes, body);
            assert_eq!((status, now["mode"].as_str()), (StatusCode::OK, Some(mode)), "{body}");
            assert_eq!(now["feeds"].to_string(), feeds, "{body}");
            let (_, _, shown) = answer(&modes, &Method::GET, b"");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), now);
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
            let (status, problem) = put(&modes, body);
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            assert!(problem["detail"].as_str().unwrap().contains(part), "{body}: {problem}");
        }
        assert_eq!(answer(&modes, &Method::POST, b"").0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!((modes.default_mode(), modes.feeds().len()), (crate::config::Mode::Fallback, 0));
    }
}
