//! JSON and YAML as one tree of texts, tables and lists, each with its line.
//!
//! Numbers, booleans and null are texts as they are written: no reader here counts with one.

use granit_parser::{Event, Parser};
use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{ObjectPropName, Value as Json},
    common::Ranged as _,
    parse_to_ast,
};

use super::Mistake;

/// Deepest nesting of YAML; lockfiles have five levels. JSON's parser has a bound of its own, 512.
const MAX_DEPTH: usize = 64;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    /// What.
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// A scalar.
    Text(String),
    /// Keys and values, in the order of the file.
    Table(Vec<(String, Node)>),
    /// Values.
    List(Vec<Node>),
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

// === impl Node ===

impl Node {
    /// Reads JSON (RFC 8259).
    pub(super) fn of_json(text: &str) -> Result<Self, Mistake> {
        Self::of_json_with(text, false)
    }

    /// Reads JSON with comments and trailing commas.
    pub(super) fn of_relaxed_json(text: &str) -> Result<Self, Mistake> {
        Self::of_json_with(text, true)
    }

    fn of_json_with(text: &str, relaxed: bool) -> Result<Self, Mistake> {
        let options = ParseOptions {
            allow_comments: relaxed,
            allow_trailing_commas: relaxed,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
            .map_err(|error| Mistake::at(error.line_display(), format!("is not JSON: {}", error.kind())))?;
        let lines = Lines::of(text);
        parsed.value.map(|value| Self::from_json(value, &lines)).ok_or_else(|| Mistake::at(1, "is empty"))
    }

    fn from_json(value: Json<'_>, lines: &Lines) -> Self {
        let line = lines.at(value.range().start);
        let value = match value {
            Json::StringLit(text) => Value::Text(text.value.into_owned()),
            Json::NumberLit(number) => Value::Text(number.value.to_owned()),
            Json::BooleanLit(flag) => Value::Text(flag.value.to_string()),
            Json::NullKeyword(_) => Value::Text("null".to_owned()),
            Json::Array(list) => {
                Value::List(list.elements.into_iter().map(|one| Self::from_json(one, lines)).collect())
            }
            Json::Object(table) => {
                let entry =
                    |name: ObjectPropName<'_>, value| (name.into_string(), Self::from_json(value, lines));
                Value::Table(table.properties.into_iter().map(|one| entry(one.name, one.value)).collect())
            }
        };
        Self { line, value }
    }

    /// Reads every document of a YAML text.
    pub(super) fn of_yaml(text: &str) -> Result<Vec<Self>, Mistake> {
        let mut growing = Growing::default();
        // Whether comments are events depends on what else of the program uses the parser.
        let options = granit_parser::options! { emit_comments: false };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| {
                Mistake::at(error.marker().line(), format!("is not YAML: {}", error.info()))
            })?;
            growing.take(event, span.start.line())?;
        }
        Ok(growing.documents)
    }

    /// Its entries, where it is a table.
    pub(super) fn table(&self) -> Result<&[(String, Node)], Mistake> {
        match &self.value {
            Value::Table(entries) => Ok(entries),
            Value::Text(_) | Value::List(_) => Err(Mistake::at(self.line, "must be a table")),
        }
    }

    /// Its values, where it is a list.
    pub(super) fn list(&self) -> Result<&[Node], Mistake> {
        match &self.value {
            Value::List(values) => Ok(values),
            Value::Text(_) | Value::Table(_) => Err(Mistake::at(self.line, "must be a list")),
        }
    }

    /// Its text, where it is one.
    pub(super) fn text(&self) -> Result<&str, Mistake> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Table(_) | Value::List(_) => Err(Mistake::at(self.line, "must be a text")),
        }
    }

    /// The value of `key`, where it is a table that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            Value::Text(_) | Value::List(_) => None,
        }
    }

    /// The text at `key`, if there is one.
    pub(super) fn text_at(&self, key: &str) -> Result<Option<&str>, Mistake> {
        let named = |Mistake { line, rule }| Mistake::at(line, format!("`{key}` {rule}"));
        self.get(key).map(Self::text).transpose().map_err(named)
    }

    /// The table at `key`, if there is one.
    pub(super) fn table_at(&self, key: &str) -> Result<&[(String, Node)], Mistake> {
        self.get(key).map_or(Ok(&[]), |node| {
            node.table().map_err(|Mistake { line, rule }| Mistake::at(line, format!("`{key}` {rule}")))
        })
    }

    /// Whether `true` is at `key`.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| matches!(&node.value, Value::Text(text) if text == "true"))
    }
}

/// A tree that grows by YAML's events.
#[derive(Default)]
struct Growing {
    documents: Vec<Node>,
    /// The tables and lists that are open.
    open: Vec<Open>,
}

struct Open {
    line: usize,
    value: Value,
    /// The key whose value comes next.
    key: Option<String>,
}

// === impl Growing ===

impl Growing {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, _, 0, None) => self.put(Node { line, value: Value::Text(text.into_owned()) }),
            Event::SequenceStart(_, 0, None) => self.begin(line, Value::List(Vec::new())),
            Event::MappingStart(_, 0, None) => self.begin(line, Value::Table(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { line, value, .. }) => self.put(Node { line, value }),
                None => Ok(()),
            },
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Comment(..) => Ok(()),
            _ => Err(Mistake::at(line, "has an anchor, an alias or a tag, which no package manager writes")),
        }
    }

    fn begin(&mut self, line: usize, value: Value) -> Result<(), Mistake> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Mistake::at(line, format!("is nested more than {MAX_DEPTH} levels deep")));
        }
        self.open.push(Open { line, value, key: None });
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), Mistake> {
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open { value: Value::List(list), .. }) => list.push(node),
            Some(Open { value: Value::Table(entries), key, .. }) => {
                if let Some(name) = key.take() {
                    entries.push((name, node));
                } else {
                    let name =
                        node.text().map_err(|_| Mistake::at(node.line, "has a key that is no text"))?;
                    *key = Some(name.to_owned());
                }
            }
            Some(Open { value: Value::Text(_), .. }) => {}
        }
        Ok(())
    }
}

// === impl Lines ===

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).collect())
    }

    pub(super) fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}
