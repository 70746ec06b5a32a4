//! Names of organisations, projects, feeds and views: compared without case, shown as they were written.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The longest name that is accepted, in bytes. The service's own limits are lower (64 characters for a
/// project); a percent-encoded name of that many four-byte characters still fits.
const MAX_NAME: usize = 256;

/// A name or a GUID of an organisation, project, feed or view, percent-decoded.
///
/// The service compares these without case, so equality and hashing use the lower-cased form, while
/// [`Name::as_str`] keeps the spelling of the request (it is what goes upstream).
#[derive(Clone)]
pub struct Name {
    written: Arc<str>,
    folded: Arc<str>,
}

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("name is empty")]
    Empty,
    /// The text is longer than 256 bytes.
    #[error("name has {0} bytes, the limit is 256")]
    TooLong(usize),
    /// The text holds a character that no name of the service can have.
    #[error("name `{0}` has a character that is not allowed ({1:?})")]
    Character(String, char),
}

/// Which feed, and through which of its views, a request speaks of.
///
/// Any of the parts may be a name or a GUID; two spellings of one feed are two values until the gate has
/// learned that they are one (facts §2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedRef {
    /// The organisation (account).
    pub org: Name,
    /// The project, for project-scoped feeds.
    pub project: Option<Name>,
    /// The feed.
    pub feed: Name,
    /// The view, written `feed@view` in a path; `None` is the feed itself.
    pub view: Option<Name>,
}

// === impl Name ===

impl Name {
    /// Checks a percent-decoded text.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong(text.len()));
        }
        let bad =
            |c: &char| c.is_control() || matches!(c, '/' | '\\' | '?' | '#' | '%' | '@' | '"' | '<' | '>');
        if let Some(c) = text.chars().find(bad) {
            return Err(NameError::Character(text.to_owned(), c));
        }
        if text == "." || text == ".." {
            return Err(NameError::Character(text.to_owned(), '.'));
        }
        Ok(Self { written: text.into(), folded: text.to_lowercase().into() })
    }

    /// The spelling of the request.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The lower-cased form by which names are compared.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether the name has the form of a GUID.
    pub fn is_guid(&self) -> bool {
        uuid::Uuid::try_parse(&self.folded).is_ok()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded.hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.written, f)
    }
}

// === impl FeedRef ===

impl FeedRef {
    /// The canonical text of this spelling, for keys and logs: `org/project|-/feed[@view]`, lower case.
    pub fn key(&self) -> String {
        let project = self.project.as_ref().map_or("-", Name::folded);
        let mut key = format!("{}/{project}/{}", self.org.folded(), self.feed.folded());
        if let Some(view) = &self.view {
            key.push('@');
            key.push_str(view.folded());
        }
        key
    }
}
