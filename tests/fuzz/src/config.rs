//! Any text is a configuration, or a list of mistakes of which each names its key and its rule.
//!
//! Input: a file; behind a NUL perhaps lines `NAME=value` of the environment. A configuration that is shown
//! (`feedgate check`) reads back as the same one.

use std::collections::BTreeMap;

use feedgate::config::{Config, ConfigError};

/// The longest part of a value that a mistake repeats, in bytes: up to the three names of a feed.
const LONGEST_VALUE: usize = 1000;

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment: BTreeMap<String, String> =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    match Config::parse(text, &environment) {
        Ok(loaded) => {
            assert!(loaded.settings.to_json().is_object());
            let shown = loaded.settings.to_toml();
            // Variables that hold secrets are asked for by name again; those that set keys are in the text.
            let named = environment.into_iter().filter(|(name, _)| !name.starts_with("FEEDGATE_"));
            let again = Config::parse(&shown, &named.collect());
            let again = again.unwrap_or_else(|error| panic!("{error}\n{shown}"));
            assert_eq!(again.config, loaded.config, "{shown}");
            assert_eq!(again.settings.to_toml(), shown);
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.rule.is_empty() && problem.value.len() <= LONGEST_VALUE, "{problem}");
                assert!(!problem.key.is_empty() || text.contains("\"\"") || text.contains("''"), "{problem}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
