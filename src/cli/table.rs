//! Tables for people: columns as wide as their widest cell, numbers to the right.
//!
//! What comes from outside (package names, keys) is printed without its control characters, so that nothing that is
//! stored can steer a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use crate::config::units;

/// A table that grows line by line.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns whose cells stand to the right.
    right: &'static [usize],
}

// === impl Table ===

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str], right: &'static [usize]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], right }
    }

    /// One more line.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Whether there is nothing but headings.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let (gap, width) = (if column == 0 { "" } else { "  " }, widths[column]);
                // Writing to a string cannot fail.
                let _ = if self.right.contains(&column) {
                    write!(line, "{gap}{cell:>width$}")
                } else {
                    write!(line, "{gap}{cell:width$}")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A value as a cell: `-` for none.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A number of bytes as a cell.
pub(super) fn size(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), units::rough_size)
}

/// A number of seconds as a cell.
pub(super) fn span(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), units::rough_span)
}

/// The same without what could steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Table, size};

    #[test]
    fn cells_stand_below_their_headings_and_steer_nothing() {
        let mut table = Table::new(&["name", "bytes"], &[1]);
        assert!(table.is_empty());
        table.row(["a\u{1b}[2J".to_owned(), size(&json!(1536))]);
        table.row(["é".to_owned(), size(&json!(7))]);
        assert_eq!(table.text(), "name     bytes\na\u{fffd}[2J  1.5 KiB\né          7 B\n");
        assert!(!table.is_empty());
    }
}
