//! Reads one table of the configuration file key by key, and remembers every mistake on the way.
//!
//! A serde struct stops at the first mistake; an operator wants them all. Each read names the key and the
//! default, so that the effective configuration can be printed from what was read.

use std::{fmt::Display, path::PathBuf, str::FromStr, time::Duration};

use toml::{Table, Value};

use super::{
    settings::{Setting, Settings},
    units,
};

/// Longest duration: a point in time that far away can still be counted with.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// How much of a value a mistake shows, in characters.
const LONGEST_SHOWN: usize = 120;

/// Words of keys whose values nobody but the gate may see.
const SECRETS: [&str; 7] =
    ["credential", "token", "password", "secret", "authorization", "api_key", "trace.headers"];

/// One mistake: which key, what it says, what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, e.g. `store.capacity`.
    pub key: String,
    /// The value given, as TOML.
    pub value: String,
    /// The rule that it breaks.
    pub rule: String,
}

/// What reading found: mistakes, and the values in force.
#[derive(Debug, Default)]
pub struct Findings {
    /// Every mistake.
    pub problems: Vec<Problem>,
    /// Every key that exists, in the order of reading.
    pub settings: Settings,
}

/// One table being read; keys that were not asked for are mistakes ([`Keys::finish`]).
pub struct Keys<'a> {
    path: String,
    table: Table,
    findings: &'a mut Findings,
}

// === impl Problem ===

impl Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.may_tell() { self.value.as_str() } else { "***" };
        write!(f, "`{}` {}, got {value}", self.key, self.rule)
    }
}

impl Problem {
    /// Whether the value may be repeated. What is written where a secret is asked for, or as a key that is none, may well
    /// be one: only names of variables and paths of files, which belong there, are told from that.
    fn may_tell(&self) -> bool {
        let key = self.key.rsplit(['.', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let is_variable = || {
            let name = self.value.trim_matches('"');
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        match key.as_str() {
            "env" => is_variable(),
            "file" => true,
            _ => {
                let path = self.key.to_ascii_lowercase();
                let last = path.rsplit('.').next().unwrap_or_default();
                last == "tokens" || !SECRETS.iter().any(|word| path.contains(word))
            }
        }
    }
}

// === impl Keys ===

impl<'a> Keys<'a> {
    /// Takes the table `name` out of `root`; an absent one is empty.
    pub fn take(root: &mut Table, name: &str, findings: &'a mut Findings) -> Self {
        let table = match root.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let rule = "must be a table".to_owned();
                findings.problems.push(Problem { key: name.to_owned(), value: shorten(&other), rule });
                Table::new()
            }
        };
        Self { path: name.to_owned(), table, findings }
    }

    /// Reads every table of the array `name` out of `root`; an absent one is empty.
    pub fn each<T>(
        root: &mut Table,
        name: &str,
        findings: &mut Findings,
        mut read: impl FnMut(Keys<'_>) -> Option<T>,
    ) -> Vec<T> {
        let values = match root.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => vec![other],
        };
        let mut tables = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{name}[{index}]");
            if let Value::Table(table) = value {
                tables.extend(read(Keys { path, table, findings }));
            } else {
                let rule = format!("must be a table, written below [[{name}]]");
                findings.problems.push(Problem { key: path, value: shorten(&value), rule });
            }
        }
        tables
    }

    /// The same of tables that each have a value of `key` of their own; `id` is where it was read to.
    pub fn each_once<T, I: PartialEq + Display>(
        root: &mut Table,
        name: &str,
        findings: &mut Findings,
        (key, id): (&str, fn(&T) -> &I),
        mut read: impl FnMut(Keys<'_>) -> Option<T>,
    ) -> Vec<T> {
        let mut paths = Vec::new();
        let all = Self::each(root, name, findings, |keys| {
            let path = format!("{}.{key}", keys.path);
            read(keys).inspect(|_| paths.push(path))
        });
        for (index, (one, path)) in all.iter().zip(paths).enumerate() {
            if all[..index].iter().any(|other| id(other) == id(one)) {
                let (value, rule) = (id(one).to_string(), "is there twice".to_owned());
                findings.problems.push(Problem { key: path, value, rule });
            }
        }
        all
    }

    /// A value that has no default; `None`, and a mistake, when it is missing or breaks the rule.
    pub fn required<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (given, parsed) = match self.table.remove(key) {
            None => ("nothing".to_owned(), Err("must be given".to_owned())),
            Some(Value::String(text)) => (Value::String(text.clone()).to_string(), parse(&text)),
            Some(other) => (shorten(&other), Err("must be a string".to_owned())),
        };
        match parsed {
            Ok(value) => {
                let setting = Setting { table: self.path.clone(), key: key.to_owned(), value: given };
                self.findings.settings.push(setting);
                Some(value)
            }
            Err(rule) => {
                self.problem(key, given, rule);
                None
            }
        }
    }

    /// A size in bytes, at least `least`.
    pub fn size(&mut self, key: &str, default: u64, least: u64) -> u64 {
        let rule = format!("{}, at least {}", units::SIZE_RULE, units::format_size(least));
        let parse = |text: &str| units::parse_size(text).filter(|size| *size >= least).ok_or(rule);
        self.text(key, default, |size| units::format_size(*size), parse)
    }

    /// A duration, at least `least` and at most a hundred years.
    pub fn span(&mut self, key: &str, default: Duration, least: Duration) -> Duration {
        let [lowest, highest] = [least, LONGEST].map(units::format_span);
        let rule = format!("{}, at least {lowest} and at most {highest}", units::SPAN_RULE);
        let within = |span: &Duration| (least..=LONGEST).contains(span);
        let parse = |text: &str| units::parse_span(text).filter(within).ok_or(rule);
        self.text(key, default, |span| units::format_span(*span), parse)
    }

    /// A value that is written as a string and knows how to read itself.
    pub fn parsed<T>(&mut self, key: &str, default: T) -> T
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        self.text(key, default, T::to_string, |text| text.parse().map_err(|e: T::Err| e.to_string()))
    }

    /// A path; never empty.
    pub fn path(&mut self, key: &str, default: PathBuf) -> PathBuf {
        let parse = |text: &str| {
            if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(PathBuf::from(text)) }
        };
        self.text(key, default, |path| path.display().to_string(), parse)
    }

    /// A string-like value that may be left empty for "none".
    pub fn optional<T>(&mut self, key: &str, default: Option<T>) -> Option<T>
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        let write = |value: &Option<T>| value.as_ref().map_or_else(String::new, T::to_string);
        let parse = |text: &str| {
            if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|e: T::Err| e.to_string()) }
        };
        self.text(key, default, write, parse)
    }

    /// A list of string-like values.
    pub fn list<T>(&mut self, key: &str, default: Vec<T>) -> Vec<T>
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        let values: Vec<T> = match self.table.remove(key) {
            None => default,
            Some(Value::Array(values)) => {
                let (good, bad): (Vec<_>, Vec<_>) = values.iter().map(element).partition(Result::is_ok);
                for (value, rule) in bad.into_iter().filter_map(Result::err) {
                    self.problem(key, value, rule);
                }
                good.into_iter().filter_map(Result::ok).collect()
            }
            Some(other) => {
                self.problem(key, shorten(&other), "must be a list of strings".to_owned());
                Vec::new()
            }
        };
        let shown: Vec<_> = values.iter().map(|value| Value::String(value.to_string())).collect();
        self.setting(key, &Value::Array(shown));
        values
    }

    /// A whole number within `range`.
    pub fn count(&mut self, key: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> usize {
        let given = self.table.remove(key);
        let number = match &given {
            None => Some(default),
            Some(Value::Integer(number)) => usize::try_from(*number).ok().filter(|n| range.contains(n)),
            Some(_) => None,
        };
        if number.is_none() {
            let rule = format!("must be a whole number from {} to {}", range.start(), range.end());
            self.problem(key, given.map_or_else(String::new, |value| value.to_string()), rule);
        }
        let number = number.unwrap_or(default);
        self.setting(key, &Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
        number
    }

    /// The table `name` inside this one.
    pub fn inner(&mut self, name: &str) -> Keys<'_> {
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problem(name, shorten(&other), "must be a table".to_owned());
                Table::new()
            }
        };
        Keys { path: format!("{}.{name}", self.path), table, findings: self.findings }
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for (key, value) in self.table {
            let key = format!("{}.{key}", self.path);
            self.findings.problems.push(Problem {
                key,
                value: shorten(&value),
                rule: "is not a known key".into(),
            });
        }
    }

    fn text<T>(
        &mut self,
        key: &str,
        default: T,
        write: impl Fn(&T) -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let read = match self.table.remove(key) {
            None => Ok(default),
            Some(Value::String(text)) => {
                parse(&text).map_err(|rule| (default, Value::String(text).to_string(), rule))
            }
            Some(other) => Err((default, shorten(&other), "must be a string".to_owned())),
        };
        let value = read.unwrap_or_else(|(default, given, rule)| {
            self.problem(key, given, rule);
            default
        });
        self.setting(key, &Value::String(write(&value)));
        value
    }

    /// Reports a mistake of `key`; of a long value only the start. A password in a URL is not told: it may be the
    /// mistake.
    pub fn problem(&mut self, key: &str, value: String, rule: String) {
        let mut value = match (value.find("://"), value.rfind('@')) {
            (Some(start), Some(end)) if start < end => format!("{}***{}", &value[..start + 3], &value[end..]),
            _ => value,
        };
        if let Some((end, _)) = value.char_indices().nth(LONGEST_SHOWN) {
            value.truncate(end);
        }
        self.findings.problems.push(Problem { key: format!("{}.{key}", self.path), value, rule });
    }

    fn setting(&mut self, key: &str, value: &Value) {
        let setting = Setting { table: self.path.clone(), key: key.to_owned(), value: value.to_string() };
        self.findings.settings.push(setting);
    }
}

fn element<T>(value: &Value) -> Result<T, (String, String)>
where
    T: FromStr,
    T::Err: Display,
{
    let text = value.as_str().ok_or_else(|| (shorten(value), "must hold strings only".to_owned()))?;
    text.parse().map_err(|error: T::Err| (value.to_string(), error.to_string()))
}

pub(super) fn shorten(value: &Value) -> String {
    value.to_string().chars().take(LONGEST_SHOWN).collect()
}
