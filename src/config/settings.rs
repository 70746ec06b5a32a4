//! The effective configuration, for printing: every key with its value, from the file, the environment or the default.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use toml::Table;

/// The key of a program with its arguments, which may hold what nobody else is to see.
const COMMAND: &str = "credential_command";
/// What stands for such arguments.
const REDACTED: &str = "***";

/// One key with its value, as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Path of the table, e.g. `metadata.packument`.
    pub table: String,
    /// The key in it.
    pub key: String,
    /// The value as TOML.
    pub value: String,
}

/// Every key, in the order of reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

// === impl Setting ===

impl Setting {
    /// Table and key, e.g. `store.capacity`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    /// The value as JSON.
    pub fn to_json(&self) -> Value {
        // Every value was written as TOML by the reader of its key.
        let value: Option<Table> = format!("v = {}", self.value).parse().ok();
        json!(value.and_then(|mut table| table.remove("v")))
    }

    /// The same as others than the file's owner may see it: of a command only the program.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let value = match self.to_json() {
            Value::Array(words) if self.key == COMMAND && words.len() > 1 => {
                json!([words[0], REDACTED]).to_string()
            }
            _ => self.value.clone(),
        };
        Self { value, ..self.clone() }
    }
}

// === impl Settings ===

impl Settings {
    /// One more key.
    pub(super) fn push(&mut self, setting: Setting) {
        self.0.push(setting);
    }

    /// Every key.
    pub fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.0.iter()
    }

    /// The same as others than the file's owner may see it.
    #[must_use]
    pub fn redacted(&self) -> Self {
        Self(self.iter().map(Setting::redacted).collect())
    }

    /// JSON: an object for each table, by its path, such as `metadata.packument`.
    pub fn to_json(&self) -> Value {
        let mut tables = Map::new();
        for setting in &self.0 {
            let table = tables.entry(setting.table.clone()).or_insert_with(|| json!({}));
            table[&setting.key] = setting.to_json();
        }
        Value::Object(tables)
    }

    /// Reads what [`Settings::to_json`] wrote; what is nothing of the kind is left out.
    pub fn from_json(tables: &Value) -> Self {
        let mut settings = Self::default();
        for (table, keys) in tables.as_object().into_iter().flatten() {
            for (key, value) in keys.as_object().into_iter().flatten() {
                let Ok(value) = serde_json::from_value::<toml::Value>(value.clone()) else { continue };
                settings.push(Setting { table: table.clone(), key: key.clone(), value: value.to_string() });
            }
        }
        settings
    }

    /// A TOML file with every key.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for setting in &self.0 {
            if setting.table != table {
                table = &setting.table;
                let gap = if text.is_empty() { "" } else { "\n" };
                // One of an array of tables has its number behind its name.
                let _ = match table.split_once('[') {
                    Some((array, _)) => writeln!(text, "{gap}[[{array}]]"),
                    None => writeln!(text, "{gap}[{table}]"),
                };
            }
            let _ = writeln!(text, "{} = {}", setting.key, setting.value);
        }
        text
    }
}

impl<'a> IntoIterator for &'a Settings {
    type Item = &'a Setting;
    type IntoIter = std::slice::Iter<'a, Setting>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Settings;
    use crate::config::Config;

    const TEXT: &str = "[[organisation]]\nname = \"a\"\ncredential_command = [\"az\", \"--secret\", \"planted\"]\n\
                        [[organisation]]\nname = \"b\"\ncredential_command = [\"alone\"]\n";

    #[test]
    fn of_a_command_only_the_program_is_shown() {
        let settings = Config::parse(TEXT, &BTreeMap::new()).unwrap().settings;
        assert!(settings.to_toml().contains("planted"));
        let shown = settings.redacted().to_json();
        assert_eq!(shown["organisation[0]"]["credential_command"].to_string(), r#"["az","***"]"#);
        assert_eq!(shown["organisation[1]"]["credential_command"].to_string(), r#"["alone"]"#);
        assert!(!shown.to_string().contains("planted"));
    }

    #[test]
    fn what_is_written_as_json_reads_back() {
        let settings = Config::parse(TEXT, &BTreeMap::new()).unwrap().settings;
        assert_eq!(Settings::from_json(&settings.to_json()), settings);
        assert_eq!(
            Settings::from_json(&serde_json::json!({ "a": 1, "b": { "c": null } })),
            Settings::default()
        );
    }
}
