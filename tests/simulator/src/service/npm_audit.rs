//! `npm audit` (facts §3): the bulk route of today's npm and the two older ones, from advisories that a test registered.
//!
//! The real service has answered 400 and 404 here, and newer documents say that it forwards to the public registry.
//! So the routes are there only if the builder says so, and the shapes are those of the public registry.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::reply::Reply;
use super::visit::Visit;
use crate::content::range;

/// A known weakness of a package.
#[derive(Clone, Debug)]
pub(crate) struct Advisory {
    pub(crate) name: String,
    /// The versions that have it, see [`range::contains`].
    pub(crate) range: String,
    pub(crate) title: String,
}

/// The two shapes of question and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    /// `advisories/bulk`: names with versions; advisories by name.
    Bulk,
    /// `audits` and `audits/quick`: a lockfile's tree; a report.
    Tree,
}

/// Answers a POST on an audit route.
pub(crate) fn answer(visit: &Visit<'_>, audit: Audit) -> Result<Reply, Refusal> {
    if !visit.service.settings.audit {
        return Err(Refusal::NoRoute);
    }
    if visit.request.method != "POST" {
        return Err(Refusal::Method);
    }
    let gzip = visit.request.header("content-encoding").is_some_and(|value| value.contains("gzip"));
    let question =
        read(&visit.request.body, gzip).ok_or_else(|| malformed("the body is not a JSON object"))?;
    let advisories = visit.service.advisories.read();
    let answer = match audit {
        Audit::Bulk => bulk(&question, &advisories),
        Audit::Tree => report(&question, &advisories),
    };
    Ok(Reply::new(200, "application/json", answer.to_string()))
}

fn read(body: &Bytes, gzip: bool) -> Option<Map<String, Value>> {
    if !gzip {
        return serde_json::from_slice(body).ok();
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(&body[..]).read_to_end(&mut plain).ok()?;
    serde_json::from_slice(&plain).ok()
}

fn bulk(question: &Map<String, Value>, advisories: &[Advisory]) -> Value {
    let mut answer = Map::new();
    for (name, versions) in question {
        let versions: Vec<&str> =
            versions.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found: Vec<Value> = concerning(advisories, name, &versions).collect();
        if !found.is_empty() {
            answer.insert(name.clone(), Value::Array(found));
        }
    }
    Value::Object(answer)
}

fn report(question: &Map<String, Value>, advisories: &[Advisory]) -> Value {
    let mut installed = Vec::new();
    collect(question.get("dependencies"), &mut installed);
    let mut found = Map::new();
    for (name, version) in &installed {
        for mut advisory in concerning(advisories, name, &[version]) {
            advisory["module_name"] = json!(name);
            advisory["findings"] = json!([{ "version": version, "paths": [name] }]);
            found.insert(advisory["id"].to_string(), advisory);
        }
    }
    json!({
        "actions": [],
        "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": found.len(), "critical": 0 },
            "dependencies": installed.len(),
            "devDependencies": 0,
            "optionalDependencies": 0,
            "totalDependencies": installed.len(),
        },
        "advisories": found,
    })
}

/// Name and version of everything in a lockfile's tree.
fn collect<'a>(dependencies: Option<&'a Value>, installed: &mut Vec<(&'a str, &'a str)>) {
    for (name, own) in dependencies.and_then(Value::as_object).into_iter().flatten() {
        installed.extend(own["version"].as_str().map(|version| (name.as_str(), version)));
        collect(own.get("dependencies"), installed);
    }
}

/// The advisories that concern any of the versions, in the registry's form.
fn concerning<'a>(
    advisories: &'a [Advisory],
    name: &'a str,
    versions: &'a [&str],
) -> impl Iterator<Item = Value> + 'a {
    let numbered = (1001..).zip(advisories);
    numbered.filter_map(move |(id, advisory)| {
        let concerned = versions.iter().any(|version| range::contains(&advisory.range, version));
        (advisory.name == name && concerned).then(|| {
            json!({
                "id": id,
                "url": format!("https://advisories.example.com/{id}"),
                "title": advisory.title,
                "severity": "high",
                "vulnerable_versions": advisory.range,
                "cwe": [],
                "cvss": { "score": 0, "vectorString": null },
            })
        })
    })
}

fn malformed(message: &str) -> Refusal {
    Refusal::Refused { status: 400, message: message.to_owned(), type_key: "JsonReaderException" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advisories() -> [Advisory; 1] {
        let [name, range, title] = ["left-pad", "<1.3.0", "pads the wrong side"].map(str::to_owned);
        [Advisory { name, range, title }]
    }

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_bulk_answer_names_concerned_packages_only() {
        let rows = [
            (json!({ "left-pad": ["1.2.0", "1.3.0"], "other": ["1.0.0"] }), vec!["left-pad"]),
            (json!({ "left-pad": ["1.3.0"] }), vec![]),
            (json!({ "left-pad": [] }), vec![]),
            (json!({}), vec![]),
        ];
        for (question, expected) in rows {
            let answer = bulk(&object(&question), &advisories());
            let names: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
            assert_eq!(names, expected, "{question}");
        }
    }

    #[test]
    fn a_report_finds_nested_dependencies() {
        let tree = json!({ "dependencies": {
            "app": { "version": "1.0.0", "dependencies": { "left-pad": { "version": "1.2.0" } } },
        } });
        let report = report(&object(&tree), &advisories());
        assert_eq!(report["metadata"]["vulnerabilities"]["high"], 1);
        assert_eq!(report["metadata"]["totalDependencies"], 2);
        assert_eq!(report["advisories"]["1001"]["findings"][0]["version"], "1.2.0");
    }
}
