//! Text to HTML that cannot be broken out of: only what is written in this program goes in as it is.
//!
//! [`Html::raw`] takes literals, [`Html::text`] escapes everything else, for text and for quoted attributes alike.

use std::fmt::{Display, Write as _};

/// A growing piece of HTML.
#[derive(Default)]
pub(super) struct Html(String);

/// A column of a table.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

// === impl Html ===

impl Html {
    /// Markup of this program's own.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Anything else.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        let mut plain = String::new();
        // Writing to a string cannot fail.
        let _ = write!(plain, "{text}");
        for letter in plain.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                letter if is_misleading(letter) => self.0.push('\u{fffd}'),
                letter => self.0.push(letter),
            }
        }
        self
    }

    /// A part that was made before.
    pub(super) fn part(&mut self, part: &Self) -> &mut Self {
        self.0.push_str(&part.0);
        self
    }

    /// A heading and a table below it, which scrolls by itself where it is too wide; a word instead when it is empty.
    pub(super) fn table(
        &mut self,
        heading: &'static str,
        columns: &[Column],
        rows: &[Vec<String>],
    ) -> &mut Self {
        self.raw("<section><h2>").raw(heading).raw("</h2>");
        if rows.is_empty() {
            return self.raw("<p class=\"none\">None.</p></section>");
        }
        self.raw("<div class=\"wide\"><table><thead><tr>");
        for column in columns {
            match column {
                Column::Left(name) => self.raw("<th scope=\"col\">").raw(name),
                Column::Right(name) => self.raw("<th scope=\"col\" class=\"number\">").raw(name),
            };
            self.raw("</th>");
        }
        self.raw("</tr></thead><tbody>");
        for row in rows {
            self.raw("<tr>");
            for (column, cell) in columns.iter().zip(row) {
                // Where there is no room for columns, the name stands beside its cell.
                match column {
                    Column::Left(name) => self.raw("<td data-name=\"").raw(name),
                    Column::Right(name) => self.raw("<td class=\"number\" data-name=\"").raw(name),
                };
                self.raw("\">").text(cell).raw("</td>");
            }
            self.raw("</tr>");
        }
        self.raw("</tbody></table></div></section>")
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Control characters, and those that turn the direction of what is around them.
fn is_misleading(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{Column, Html};

    #[test]
    fn nothing_but_literals_becomes_markup() {
        let mut html = Html::default();
        let rows =
            [vec!["<img src=x onerror=alert(1)>".to_owned(), "\" onload='x' & \u{202e}\u{7}".to_owned()]];
        html.table("T", &[Column::Left("a"), Column::Right("b")], &rows);
        let text = html.into_text();
        assert!(text.contains("<td data-name=\"a\">&lt;img src=x onerror=alert(1)&gt;</td>"), "{text}");
        assert!(text.contains("&quot; onload=&#39;x&#39; &amp; \u{fffd}\u{fffd}</td>"), "{text}");
    }
}
