//! Where results go: standard output, as text for people or as one JSON value for programs. Errors go to standard error
//! in the same form.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use serde_json::Value;

/// The form of results.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

// === impl Output ===

impl Output {
    /// JSON or text.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are for programs: no progress is shown then.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: the value itself, or the text that is made of it.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn show(self, value: &Value, text: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        if self.json { self.print(&format!("{value:#}\n")) } else { self.print(&text(value)) }
    }

    /// Prints a text that has no other form. A reader that has seen enough (`| head`) is no error.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn print(self, text: &str) -> anyhow::Result<()> {
        self.print_on(text).map(drop)
    }

    /// The same of a text to which more will come: whether somebody still reads.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn print_on(self, text: &str) -> anyhow::Result<bool> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => written.context("standard output").map(|()| true),
        }
    }

    /// Tells why a command failed, on standard error: as one line of JSON, or the text for people.
    pub fn complain(self, value: &Value, text: &str) {
        let line = if self.json { &value.to_string() } else { text };
        // Nothing is left to be done when even standard error is gone.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
