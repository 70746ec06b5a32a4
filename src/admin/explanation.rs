//! An explanation as text, for the command line and the status page.

use std::fmt::Write as _;

use serde_json::Value;

/// What `explain` answers, as lines.
pub fn explanation_text(explained: &Value) -> String {
    let all = explained["explained"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(it: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut text = format!("{} {}\n", word(&it["method"]), word(&it["path"]));
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:12} {value}");
    };
    line("now", would(&it["would"]));
    if !it["unreachable"].is_null() {
        line("unreachable", would(&it["unreachable"]));
    }
    line("route", word(&it["route"]));
    if it["key"].is_string() {
        line("key", word(&it["key"]));
    }
    for spelling in it["spellings"].as_array().into_iter().flatten() {
        line("same as", word(spelling));
    }
    if let Some(feed) = it["feed"].as_object() {
        line("feed", format!("{} ({})", word(&feed["key"]), word(&feed["identity"])));
    }
    let caller = &it["caller"];
    let denied = caller["denied_with"].as_u64().map(|status| format!(" with {status}"));
    let drilled = if caller["drilled"] == true { ", drilled" } else { "" };
    line(
        "caller",
        format!(
            "{} ({}): {}{}{drilled}",
            word(&caller["id"]),
            word(&caller["credential"]),
            caller["standing"].as_str().unwrap_or("of no feed"),
            denied.unwrap_or_default()
        ),
    );
    line("stored", stored(&it["stored"]));
    if let Some(freshness) = it["freshness"].as_object() {
        let followed = freshness["followed"].as_str().map_or(String::new(), |key| format!(" and {key}"));
        line(
            "freshness",
            format!(
                "{} s, then {} s behind the answer, {} s when the service fails ({}{followed})",
                freshness["fresh"],
                freshness["stale_while_revalidate"],
                freshness["stale_if_error"],
                word(&freshness["setting"])
            ),
        );
    }
    if it["guard"].is_object() {
        line("guard", word(&it["guard"]["text"]));
    }
    line("service", service(&it["service"]));
    text
}

fn would(would: &Value) -> String {
    let asks: Vec<_> = would["asks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = would["action"].as_str().unwrap_or("?").replace('_', " ");
    if let Some(code) = would["code"].as_str() {
        let _ = write!(text, " with {} ({code})", would["status"]);
    }
    if !asks.is_empty() {
        let _ = write!(text, ", asking the service for: {}", asks.join(", "));
    }
    let _ = write!(text, ": {}", would["why"].as_str().unwrap_or_default());
    if let Some(queue) = would["queue"].as_str() {
        let _ = write!(text, "; it waits: {queue}");
    }
    if would["open"] == true {
        text.push_str("; what the service answers may change that");
    }
    text
}

fn stored(stored: &Value) -> String {
    if stored.is_null() {
        return "nothing".to_owned();
    }
    let state = stored["state"].as_str().filter(|state| *state != "current");
    let state = state.map_or(String::new(), |state| format!(" ({state} by a write)"));
    let bytes =
        stored["length"].as_u64().map_or("unknown length".to_owned(), |length| format!("{length} bytes"));
    let age = stored["age"].as_u64().map_or(String::new(), |age| format!(", {age} s old"));
    let id = stored["storage_id"].as_str().map_or(String::new(), |id| format!(", {id}"));
    let place = match stored["tier"].as_str() {
        Some(tier) => format!("in {tier}"),
        None => "whose blob is not there".to_owned(),
    };
    let what = stored["what"].as_str().unwrap_or("?");
    format!("{what} of {bytes}{age}, {place}{id}{state}")
}

fn service(service: &Value) -> String {
    let own = if service["own_mode"] == true { "the feed's own" } else { "the default" };
    let mut text = format!(
        "{} host, mode {} ({own}), {} of {} in flight",
        service["host"].as_str().unwrap_or("?"),
        service["mode"].as_str().unwrap_or("?"),
        service["in_flight"],
        service["in_flight_limit"],
    );
    for (fact, words) in [
        ("dead", "breaker open"),
        ("suspected", "busy or slow a moment ago"),
        ("no_word", "gave no word on the caller a moment ago"),
        ("tight", "nothing is fetched behind answers"),
    ] {
        if service["trouble"].as_array().is_some_and(|trouble| trouble.iter().any(|one| one == fact)) {
            let _ = write!(text, ", {words}");
        }
    }
    if service["pause"].as_f64().is_some_and(|pause| pause > 0.0) {
        let _ = write!(text, ", paused for {} s", service["pause"]);
    }
    text
}
