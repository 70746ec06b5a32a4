//! What lies in `deploy/` and `config/` fits the program: names of metrics, alerts and their runbook, dashboards,
//! examples. Reads files only; `tests/it/metrics.rs` holds the README's table to what `/metrics` tells.

#![allow(clippy::unwrap_used, reason = "a file that is not there or cannot be read fails its test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

const ALERTS: &str = "deploy/prometheus/rules/alerts.yml";
const RECORDING: &str = "deploy/prometheus/rules/recording.yml";
const RULE_TESTS: &str = "deploy/prometheus/tests/alerts.yml";
const RUNBOOK: &str = "deploy/runbook.md";
const DASHBOARDS: &str = "deploy/grafana/dashboards";
const CHART: &str = "deploy/helm/feedgate";

/// Files below `folder` whose name ends so, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.to_str().unwrap().ends_with(ending) {
                found.push(entry);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {folder}");
    found
}

fn yaml(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let read = |path: PathBuf| {
        let dashboard = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path, dashboard)
    };
    files(DASHBOARDS, ".json").into_iter().map(read).collect()
}

/// The rules of a file.
fn rules(path: &str) -> Vec<Value> {
    let groups = yaml(path)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("`{key}` is missing in {value}"))
}

/// All strings under the key `expr`, however deep.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if key == "expr" => found.push(text.to_owned()),
                    _ => expressions(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// The metrics of this project that an expression names: no label has such a name.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(move |c| !word(c));
    words.filter(|word| {
        word.starts_with("feedgate_") || word.starts_with("process_") || word.contains(":feedgate_")
    })
}

/// The metrics that the README's table names, with the series that a histogram makes.
fn documented() -> BTreeSet<String> {
    let readme = fs::read_to_string("README.md").unwrap();
    let rows =
        readme.lines().filter(|line| line.starts_with("| `feedgate_") || line.starts_with("| `process_"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let series = names.iter().flat_map(|name| {
        let parts =
            if name.ends_with("_duration_seconds") { &["", "_bucket", "_sum", "_count"][..] } else { &[""] };
        parts.iter().map(move |part| format!("{name}{part}"))
    });
    series.collect()
}

fn recorded() -> BTreeSet<String> {
    rules(RECORDING).iter().map(|rule| text(rule, "record").to_owned()).collect()
}

#[test]
fn rules_and_dashboards_name_metrics_that_there_are() {
    let known: BTreeSet<_> = documented().union(&recorded()).cloned().collect();
    let mut used = BTreeMap::new();
    for (path, value) in
        [ALERTS, RECORDING].map(|path| (PathBuf::from(path), yaml(path))).into_iter().chain(dashboards())
    {
        let mut found = Vec::new();
        expressions(&value, &mut found);
        assert!(found.len() > 10, "{}: {} expressions", path.display(), found.len());
        for expression in &found {
            let metrics: Vec<_> = metrics_in(expression).map(ToOwned::to_owned).collect();
            let others = ["up{", "ALERTS{", "vector("].iter().any(|other| expression.contains(other));
            assert!(!metrics.is_empty() || others, "{}: no metric in {expression}", path.display());
            used.extend(metrics.into_iter().map(|metric| (metric, path.clone())));
        }
    }
    let unknown: Vec<_> = used.iter().filter(|(metric, _)| !known.contains(*metric)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let idle: Vec<_> = recorded().into_iter().filter(|name| !used.contains_key(name)).collect();
    assert!(idle.is_empty(), "recorded and not used: {idle:?}");
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_its_tests() {
    let runbook = fs::read_to_string(RUNBOOK).unwrap();
    let sections: BTreeMap<_, _> = runbook
        .split("\n### ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .map(|(title, body)| (title, body.split("\n## ").next().unwrap()))
        .collect();
    let tests = yaml(RULE_TESTS);
    let alerts = rules(ALERTS);
    let named: BTreeSet<_> = alerts.iter().map(|alert| text(alert, "alert")).collect();
    assert_eq!(sections.keys().copied().collect::<BTreeSet<_>>(), named);
    for alert in &alerts {
        let name = text(alert, "alert");
        let anchor = format!("{RUNBOOK}#{}", name.to_lowercase());
        assert_eq!(text(&alert["annotations"], "runbook"), anchor);
        assert!(text(&alert["annotations"], "summary").contains("{{"), "{name}: whose?");
        assert!(["critical", "warning", "info"].contains(&text(&alert["labels"], "severity")), "{name}");
        for part in ["**Meaning.** ", "\n**First look.** ", "\n**Remedy.** "] {
            assert!(sections[name].contains(part), "{name} has no {part}");
        }
        let cases = tests["tests"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|test| test["alert_rule_test"].as_array().unwrap());
        let cases: Vec<_> = cases.filter(|case| text(case, "alertname") == name).collect();
        let fires = |case: &&&Value| !case["exp_alerts"].as_array().unwrap().is_empty();
        assert!(
            cases.iter().any(|case| fires(&case)) && !cases.iter().all(|case| fires(&case)),
            "{name}: {cases:?}"
        );
    }
}

#[test]
fn the_runbook_and_the_examples_name_keys_and_metrics_that_there_are() {
    let runbook = fs::read_to_string(RUNBOOK).unwrap();
    let known: BTreeSet<_> = documented().union(&recorded()).cloned().collect();
    let unknown: Vec<_> = metrics_in(&runbook).filter(|metric| !known.contains(*metric)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let defaults: toml::Table = toml::from_str(&fs::read_to_string("config/feedgate.toml").unwrap()).unwrap();
    let quoted = runbook.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once('.'));
    let keys: Vec<_> = quoted.filter(|(section, _)| defaults.contains_key(*section)).collect();
    assert!(keys.len() > 10, "{keys:?}");
    for (section, key) in keys {
        assert!(defaults[section].get(key).is_some(), "the runbook names {section}.{key}");
    }
}

#[test]
fn dashboards_are_sound() {
    let mut uids = BTreeSet::new();
    for (path, dashboard) in dashboards() {
        let name = path.display();
        assert!(uids.insert(text(&dashboard, "uid").to_owned()), "{name}: uid");
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert!(
            variables.iter().any(|it| text(it, "name") == "datasource" && text(it, "type") == "datasource")
        );
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: ids");
        for panel in panels.iter().filter(|panel| text(panel, "type") != "row") {
            let title = text(panel, "title");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{name}: {title}");
            assert_eq!(text(&panel["datasource"], "uid"), "${datasource}", "{name}: {title}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{name}: {title}");
            for target in targets {
                assert_eq!(text(&target["datasource"], "uid"), "${datasource}", "{name}: {title}");
                assert!(text(target, "expr").contains("$instance"), "{name}: {title} shows other gates");
            }
            let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{name}: {title}");
        }
    }
}

fn assert_valid(configuration: &Path) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_feedgate"));
    let checked = check.args(["check", "--config"]).arg(configuration).output().unwrap();
    assert!(
        checked.status.success(),
        "{}: {}",
        configuration.display(),
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn every_example_of_a_configuration_is_valid() {
    for path in files("config", ".toml") {
        assert_valid(&path);
    }
}

#[test]
fn every_yaml_file_is_one() {
    let templates = Path::new(CHART).join("templates");
    let all = files("deploy", ".yml").into_iter().chain(files("deploy", ".yaml"));
    for path in all.filter(|path| !path.starts_with(&templates)) {
        assert!(yaml(&path).is_object(), "{}", path.display());
    }
}

#[test]
fn what_compose_mounts_and_builds_is_there() {
    let compose = yaml("deploy/compose.yml");
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["gate", "prometheus", "alertmanager", "grafana"]);
    for (name, service) in services {
        let image = text(service, "image");
        assert!(
            name == "gate" || image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest"),
            "{name}: {image}"
        );
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let named = compose["volumes"].get(source).is_some();
            assert!(named || Path::new("deploy").join(source).exists(), "{name}: {source}");
        }
    }
    let dockerfile = text(&services["gate"]["build"], "dockerfile");
    let dockerfile = fs::read_to_string(dockerfile).unwrap();
    for line in [
        "USER 65532:65532",
        "CMD [\"/usr/local/bin/feedgate\", \"healthcheck\"]",
        "ENTRYPOINT [\"/usr/local/bin/feedgate\"]",
    ] {
        assert!(dockerfile.contains(line), "{line}");
    }
    let provisioned = yaml("deploy/grafana/provisioning/dashboards/feedgate.yml");
    let path = text(&provisioned["providers"][0]["options"], "path");
    assert!(services["grafana"]["volumes"].to_string().contains(&format!("./grafana/dashboards:{path}:ro")));
}

/// The paths below `.Values` that a template names.
fn values_in(template: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '.');
    template.split(".Values.").skip(1).map(move |rest| rest.split(ends).next().unwrap())
}

/// What of `value` breaks a schema, by the keywords that the chart's has; another one is a breach, too, so that none is
/// overlooked.
fn breaches(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let number = |rule: &Value| rule.as_u64().unwrap();
    let keywords = schema.as_object().unwrap();
    let mut found = Vec::new();
    for (keyword, rule) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "properties" | "additionalProperties" => true,
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_a(kind, value)),
                kind => is_a(kind, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "required" => {
                rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= number(rule)),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= number(rule)),
            "minimum" => value.as_i64().is_none_or(|value| value >= rule.as_i64().unwrap()),
            "maximum" => value.as_u64().is_none_or(|value| value <= number(rule)),
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(breaches(rule, item, &format!("{place}[{index}]")));
                }
                true
            }
            _ => false,
        };
        found.extend((!holds).then(|| format!("{place}: {keyword} {rule}, and not {value}")));
    }
    for (key, field) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        match (keywords.get("properties").and_then(|it| it.get(key)), keywords.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                found.extend(breaches(schema, field, &place));
            }
            (None, Some(Value::Bool(false))) => found.push(format!("{place}: is not known")),
            (None, _) => {}
        }
    }
    found
}

/// Whether a value is of a type as schemas name it.
fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("type {other}"),
    }
}

#[test]
fn the_charts_values_keep_to_their_schema_and_wrong_ones_do_not() {
    let schema = fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let values = yaml(format!("{CHART}/values.yaml"));
    assert_eq!(breaches(&schema, &values, ""), Vec::<String>::new());
    for (place, wrong, expected) in [
        ("/replicas", json!(-1), ".replicas: minimum"),
        ("/replicas", json!("1"), ".replicas: type"),
        ("/image/repository", json!(""), ".image.repository: minLength"),
        ("/image/pullPolicy", json!("Sometimes"), ".image.pullPolicy: enum"),
        ("/store/size", json!("20GB"), ".store.size: pattern"),
        ("/store", json!({ "size": "20Gi" }), ".store: required"),
        ("/service/port", json!(65536), ".service.port: maximum"),
        ("/service/annotations", json!({ "a": 1 }), ".service.annotations.a: type"),
        ("/networkPolicy/egressPorts", json!([]), ".networkPolicy.egressPorts: minItems"),
        ("/networkPolicy/egressPorts", json!([443, 0]), ".networkPolicy.egressPorts[1]: minimum"),
        ("/admin", json!({ "secret": "x" }), ".admin.secret: is not known"),
    ] {
        let mut values = values.clone();
        *values.pointer_mut(place).unwrap() = wrong;
        let found = breaches(&schema, &values, "");
        assert!(found.len() == 1 && found[0].starts_with(expected), "{place}: {found:?}");
    }
}

#[test]
fn the_chart_fits_its_values_and_the_program() {
    let chart = yaml(format!("{CHART}/Chart.yaml"));
    assert_eq!(text(&chart, "appVersion"), env!("CARGO_PKG_VERSION"));
    let values = yaml(format!("{CHART}/values.yaml"));
    let schema = fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut described = keys(&schema["properties"]);
    described.remove("global");
    assert_eq!(keys(&values), described);
    for section in
        keys(&values).iter().filter(|section| schema["properties"][section]["properties"].is_object())
    {
        assert_eq!(keys(&values[section]), keys(&schema["properties"][section]["properties"]), "{section}");
    }
    let mut used = BTreeSet::new();
    for path in files(&format!("{CHART}/templates"), "") {
        let template = fs::read_to_string(&path).unwrap();
        assert_eq!(template.matches("{{").count(), template.matches("}}").count(), "{}", path.display());
        used.extend(values_in(&template).map(ToOwned::to_owned));
    }
    assert!(used.len() > 15, "{used:?}");
    for path in &used {
        let found = path.split('.').try_fold(&values, |value, key| value.get(key));
        assert!(found.is_some(), "the templates name .Values.{path}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("feedgate.toml");
    fs::write(&file, text(&values, "config")).unwrap();
    assert_valid(&file);
}

#[test]
fn metrics_are_found_in_expressions() {
    let expression = "sum by (job) (rate(feedgate_a_total{kind=~\"x|y\"}[5m])) / a:feedgate_b:rate5m > up";
    assert_eq!(metrics_in(expression).collect::<Vec<_>>(), ["feedgate_a_total", "a:feedgate_b:rate5m"]);
}
