//! npm package names: checked, never changed.
//!
//! The rules are those that the public registry has ever enforced, not those for new names: packages with
//! capitals or with one of `~!'()*` exist and are still asked for. Case is kept, since `JSONStream` and
//! `jsonstream` are two packages (facts §4.4).

use std::{fmt, sync::Arc};

/// The longest name of the registry, in bytes, scope included.
const MAX_NPM_NAME: usize = 214;
/// Characters besides ASCII letters and digits: what JavaScript's `encodeURIComponent` leaves alone, which is
/// the registry's own test. None of them needs an escape in a path.
const MARKS: &str = "-_.~!'()*";
/// Names that the registry keeps for itself.
const RESERVED: [&str; 2] = ["node_modules", "favicon.ico"];

/// An npm package name, `name` or `@scope/name`; case is kept (facts §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NpmName(Arc<str>);

/// Why a text is not an [`NpmName`]: the text, cut to 80 characters, and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("npm name {0:?} is not valid: {1}")]
pub struct NpmNameError(String, &'static str);

// === impl NpmName ===

impl NpmName {
    /// Checks a percent-decoded name.
    ///
    /// # Errors
    /// When the name is empty or longer than 214 bytes, has a part that is empty or begins with `.`, begins with
    /// `_` (the registry's data base keeps those names), is reserved, or has a character that is not an ASCII
    /// letter or digit or one of `-_.~!'()*`.
    pub fn parse(text: &str) -> Result<Self, NpmNameError> {
        check(text).map_err(|rule| NpmNameError(text.chars().take(80).collect(), rule))?;
        Ok(Self(text.into()))
    }

    /// The whole name, `name` or `@scope/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope without its `@`.
    pub fn scope(&self) -> Option<&str> {
        split(&self.0).0
    }

    /// The name without its scope: what a tarball's file name begins with.
    pub fn bare(&self) -> &str {
        split(&self.0).1
    }

    /// The name as one path segment, `name` or `@scope%2fname`, the spelling of the npm client.
    pub fn path_segment(&self) -> String {
        self.0.replace('/', "%2f")
    }
}

impl fmt::Display for NpmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scope (without `@`) and the rest. A text that begins with `@` and has no `/` counts as a scope without a name.
fn split(name: &str) -> (Option<&str>, &str) {
    match name.strip_prefix('@') {
        Some(scoped) => {
            let (scope, bare) = scoped.split_once('/').unwrap_or((scoped, ""));
            (Some(scope), bare)
        }
        None => (None, name),
    }
}

fn check(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_NPM_NAME {
        return Err("it is longer than 214 bytes");
    }
    if name.starts_with('_') {
        return Err("it begins with an underscore");
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err("it is reserved");
    }
    let (scope, bare) = split(name);
    scope.map_or(Ok(()), check_part)?;
    check_part(bare)
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("a part of it is empty");
    }
    if part.starts_with('.') {
        return Err("a part of it begins with a dot");
    }
    if !part.chars().all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c)) {
        return Err("it has a character that is not allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::NpmName;

    #[test]
    fn a_name_is_split_at_its_scope_and_keeps_its_case() {
        let rows = [
            ("left-pad", None, "left-pad", "left-pad"),
            ("JSONStream", None, "JSONStream", "JSONStream"),
            ("@types/node", Some("types"), "node", "@types%2fnode"),
            ("@Scope/_Private.js", Some("Scope"), "_Private.js", "@Scope%2f_Private.js"),
            ("-", None, "-", "-"),
            ("0.0.0", None, "0.0.0", "0.0.0"),
            ("a..b", None, "a..b", "a..b"),
            ("~old!'name(1)*", None, "~old!'name(1)*", "~old!'name(1)*"),
        ];
        for (text, scope, bare, segment) in rows {
            let name = NpmName::parse(text).unwrap();
            assert_eq!((name.scope(), name.bare()), (scope, bare), "{text}");
            assert_eq!(name.path_segment(), segment);
            assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
        }
        assert_ne!(NpmName::parse("JSONStream"), NpmName::parse("jsonstream"));
    }

    #[test]
    fn a_name_that_the_registry_never_had_is_refused_with_the_rule() {
        let too_long = "a".repeat(215);
        let rows = [
            ("", "empty"),
            ("@", "empty"),
            ("@scope", "empty"),
            ("@scope/", "empty"),
            ("@/name", "empty"),
            (".", "dot"),
            ("..", "dot"),
            (".hidden", "dot"),
            ("@scope/..", "dot"),
            ("@../name", "dot"),
            ("_session", "underscore"),
            ("node_modules", "reserved"),
            ("Favicon.ico", "reserved"),
            ("a/b", "character"),
            ("@a/b/c", "character"),
            ("a\\b", "character"),
            ("a b", "character"),
            ("a%2fb", "character"),
            ("a@1.0.0", "character"),
            ("a\0", "character"),
            ("a\n", "character"),
            ("a?b", "character"),
            ("a#b", "character"),
            ("naïve", "character"),
            (too_long.as_str(), "longer"),
        ];
        for (text, rule) in rows {
            let error = NpmName::parse(text).unwrap_err().to_string();
            assert!(error.contains(rule), "{text}: {error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
        assert!(NpmName::parse(&too_long[1..]).is_ok());
    }
}
