//! `yarn.lock` of Yarn 1: its own format, which looks like YAML and is none.
//!
//! ```text
//! "@scope/a@^1.0.0", "@scope/a@^1.1.0":
//!   version "1.1.0"
//!   resolved "https://…/a-1.1.0.tgz#{sha1}"
//!   integrity sha512-…
//!   dependencies:
//!     b "^2.0.0"
//! ```

use std::borrow::Cow;

use super::{Entry, Found, Mistake, clip, split_spec};

/// An entry while its lines are read.
struct Open<'t> {
    line: usize,
    name: String,
    range: String,
    version: Option<Cow<'t, str>>,
    resolved: Option<Cow<'t, str>>,
    integrity: Option<Cow<'t, str>>,
}

/// Reads the file.
pub(super) fn read(text: &str) -> Result<Found, Mistake> {
    let mut found = Found::default();
    let mut open: Option<Open<'_>> = None;
    for (line, content) in text.lines().enumerate().map(|(index, content)| (index + 1, content)) {
        let bare = content.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        match content.len() - bare.len() {
            0 => {
                if let Some(whole) = open.replace(header(line, content)?) {
                    whole.close(&mut found)?;
                }
            }
            2 => {
                let open = open.as_mut().ok_or_else(|| Mistake::at(line, "is a field of no package"))?;
                open.field(line, bare)?;
            }
            // What a package depends on has entries of its own.
            _ => {}
        }
    }
    if let Some(whole) = open {
        whole.close(&mut found)?;
    }
    Ok(found)
}

/// Reads the patterns that an entry answers; the first tells the name.
fn header(line: usize, content: &str) -> Result<Open<'_>, Mistake> {
    let refuse = || Mistake::at(line, format!("{:?} is not `name@range[, name@range…]:`", clip(content)));
    let patterns = content.trim_end().strip_suffix(':').ok_or_else(refuse)?;
    let first = if patterns.starts_with('"') {
        let end = 1 + patterns.get(1..).and_then(|rest| rest.find('"')).ok_or_else(refuse)?;
        patterns.get(1..end)
    } else {
        patterns.split(',').next()
    };
    let (name, range) = first.and_then(split_spec).ok_or_else(refuse)?;
    // `alias@npm:name@range`
    let (name, range) = range.strip_prefix("npm:").and_then(split_spec).unwrap_or((name, range));
    let (name, range) = (name.to_owned(), range.to_owned());
    Ok(Open { line, name, range, version: None, resolved: None, integrity: None })
}

// === impl Open ===

impl<'t> Open<'t> {
    fn field(&mut self, line: usize, content: &'t str) -> Result<(), Mistake> {
        let Some((key, value)) = content.split_once(' ') else { return Ok(()) };
        let place = match key {
            "version" => &mut self.version,
            "resolved" => &mut self.resolved,
            "integrity" => &mut self.integrity,
            _ => return Ok(()),
        };
        *place = Some(unquoted(line, value.trim())?);
        Ok(())
    }

    fn close(self, found: &mut Found) -> Result<(), Mistake> {
        let Self { line, name, range, version, resolved, integrity } = self;
        let version = version.ok_or_else(|| Mistake::at(line, format!("{} has no version", clip(&name))))?;
        // Links and folders have nothing that they were resolved to.
        let from = resolved.as_deref().or_else(|| range.contains(':').then_some(range.as_str()));
        let entry = Entry { resolved: from, integrity: integrity.as_deref(), optional: false };
        found.npm(line, &name, &version, entry)
    }
}

/// A value with or without quotes, in which JSON's escapes hold.
fn unquoted(line: usize, value: &str) -> Result<Cow<'_, str>, Mistake> {
    if !value.starts_with('"') {
        return Ok(value.into());
    }
    let text: String = serde_json::from_str(value)
        .map_err(|_| Mistake::at(line, format!("{:?} is not a text in quotes", clip(value))))?;
    Ok(text.into())
}
