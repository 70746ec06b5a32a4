//! The file beside the code shows every default, and every mistake is named.

use std::collections::BTreeMap;

use super::{Config, ConfigError};

const SHOWN: &str = include_str!("../../config/feedgate.toml");

/// The variables that the shown tables name.
fn shown_environment() -> BTreeMap<String, String> {
    let names = ["FEEDGATE_PAT_CONTOSO", "FEEDGATE_MIRROR"];
    names.into_iter().map(|name| (name.to_owned(), "secret".to_owned())).collect()
}

fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, &BTreeMap::new()) {
        Err(ConfigError::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected mistakes, got {other:?}"),
    }
}

#[test]
fn the_shown_file_has_every_key_with_its_default() {
    let shown = Config::parse(SHOWN, &BTreeMap::new()).unwrap();
    let defaults = Config::parse("", &BTreeMap::new()).unwrap();
    assert_eq!(shown.config, Config::default());
    assert_eq!(shown.settings.to_toml(), defaults.settings.to_toml());
    let table: toml::Table = SHOWN.parse().unwrap();
    for setting in &defaults.settings {
        let path = setting.table.split('.').chain([setting.key.as_str()]);
        let mut found = Some(&toml::Value::Table(table.clone())).cloned();
        for part in path {
            found = found.and_then(|value| value.get(part).cloned());
        }
        assert!(found.is_some(), "config/feedgate.toml lacks {}.{}", setting.table, setting.key);
    }
}

/// The lines of the tables that are shown in comments, without their `# `.
fn commented_tables() -> String {
    let blocks = SHOWN.split("\n\n").filter(|block| block.contains("\n# [["));
    let tables = blocks.map(|block| {
        let start = block.find("\n# [[").unwrap_or_default();
        block[start..]
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    });
    tables.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tables_that_are_shown_in_comments_are_valid_and_read_back() {
    // With a credential of the gate's own and a listener for the network, somebody must be kept out.
    let tables = commented_tables().replace("access = \"open\"", "access = \"gateway\"");
    let tables = format!("access.networks = [\"10.0.0.0/8\"]\n{tables}");
    let loaded = Config::parse(&tables, &shown_environment()).unwrap();
    assert_eq!((loaded.config.upstream.servers.len(), loaded.config.changes.len()), (1, 1));
    assert_eq!((loaded.config.feeds.len(), loaded.config.listeners.len()), (1, 1));
    let again = Config::parse(&loaded.settings.to_toml(), &shown_environment()).unwrap();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn the_effective_configuration_reads_back() {
    let loaded = Config::parse("[store]\ncapacity = \"5GiB\"\n", &BTreeMap::new()).unwrap();
    let again = Config::parse(&loaded.settings.to_toml(), &BTreeMap::new()).unwrap();
    assert_eq!(again.config, loaded.config);
    assert_eq!(again.config.store.capacity, 5 << 30);
}

#[test]
fn every_mistake_is_reported_with_key_value_and_rule() {
    let text = "[listen]\naddress = \"nowhere\"\nport = 1\n[store]\ncapacity = 12\n[metadata.packument]\nfresh = \"soon\"\n\
                [throttle]\napi_in_flight = 0\n[odd]\nx = 1\n[log]\nlevel = \"loud\"\n";
    let problems = problems(text);
    for part in [
        "`listen.address`",
        "`listen.port` is not a known key, got 1",
        "`store.capacity` must be a string, got 12",
        "`metadata.packument.fresh` must be a whole number with a unit",
        "`throttle.api_in_flight` must be a whole number from 1 to 10000, got 0",
        "`odd` is not a known table",
        "`log.level` must be one of error, warn, info, debug, trace, got \"loud\"",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
    }
    assert_eq!(problems.len(), 7);
}

#[test]
fn a_secret_in_a_place_where_it_should_not_be_is_not_repeated() {
    let text = "[admin]\ntoken = \"planted1\"\ntoken_env = \"planted2\"\n[credentials]\na = \"planted3\"\n\
                [[organisation]]\nname = \"a\"\ncredential = \"planted4\"\ncredential_file = \"/run/told\"\n\
                credential_command = [\"az\", \"planted5\"]\n[[organisation]]\nname = \"b\"\n\
                credential_env = \"TOLD\"\npassword = { x = \"planted6\" }\ncredential_command = \"planted7\"\n\
                [trace]\nheaders = \"api-key=planted8\"\n[upstream]\nproxy = \"http://user:planted9@proxy\"\n";
    let environment = [("FEEDGATE_ADMIN__PASSWORD".to_owned(), "planted0".to_owned())].into();
    let problems = Config::parse(text, &environment).unwrap_err().to_string();
    assert_eq!(problems.lines().count(), 11, "{problems}");
    assert!(!problems.contains("planted"), "{problems}");
    assert!(problems.contains("got \"TOLD\""), "{problems}");
}

#[test]
fn a_variable_with_an_empty_part_is_a_mistake() {
    for name in ["FEEDGATE___STORE", "FEEDGATE_STORE__", "FEEDGATE_STORE____CAPACITY"] {
        let environment = BTreeMap::from([(name.to_owned(), "5GiB".to_owned())]);
        let error = Config::parse("", &environment).unwrap_err().to_string();
        assert_eq!(error, format!("`{name}` has a part without a name, got 5GiB"));
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = [
        ("FEEDGATE_STORE__CAPACITY", "2GiB"),
        ("FEEDGATE_THROTTLE__API_IN_FLIGHT", "7"),
        ("FEEDGATE_METADATA__PACKUMENT__FRESH", "9s"),
        ("FEEDGATE_CONFIG", "ignored.toml"),
        ("OTHER", "1"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = Config::parse("[store]\ncapacity = \"5GiB\"\n", &environment).unwrap().config;
    assert_eq!(config.store.capacity, 2 << 30);
    assert_eq!(config.throttle.api_in_flight, 7);
    assert_eq!(config.metadata.packument.fresh.as_secs(), 9);
}

#[test]
fn the_environment_does_not_hide_mistakes_of_the_file() {
    let environment = [("FEEDGATE_STORE__CAPACITY".to_owned(), "2GiB".to_owned())].into();
    let error = Config::parse("store = 5\n", &environment).unwrap_err().to_string();
    assert_eq!(error, "`store` must be a table, got 5");
}

#[test]
fn every_bad_member_of_a_list_is_reported() {
    let problems = problems("[upstream]\nblob_hosts = [\"*\", 7, \"good.example.com\", \"http://a/b\"]\n");
    assert_eq!(problems.len(), 3, "{problems:#?}");
}

#[test]
fn a_duration_that_no_clock_can_count_with_is_refused() {
    let problems =
        problems("[outage]\ncooldown = \"99999999999d\"\n[upstream]\nconnect_timeout = \"36501d\"\n");
    assert!(problems.len() == 2 && problems.iter().all(|it| it.contains("at most 36500d")), "{problems:#?}");
}
