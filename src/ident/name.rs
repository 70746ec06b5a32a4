//! Names of organisations, projects, feeds and views: compared without case, shown as they were written.
//!
//! Only the characters that would change a path or a key are refused; whether such a feed exists is for the
//! service to say.

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
/// [`Name::as_str`] keeps the spelling of the request (it is what goes upstream). Letters are folded only where
/// upper and lower case are a pair: `K` (U+212A, the Kelvin sign) is not `k`. Two names that the service tells apart are
/// therefore never equal here; two that it takes for one may be two, which costs a second copy and no more.
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
/// learned that they are one (facts §2). What was learned is kept beside the spelling: the spelling goes upstream,
/// the identity makes keys.
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
    /// Made once: a request asks for it many times.
    spelling: Arc<str>,
    /// The key of the feed by GUIDs, once learned.
    identity: Option<Arc<str>>,
}

// === impl Name ===

impl Name {
    /// Checks a percent-decoded text.
    ///
    /// # Errors
    /// When the text is empty, longer than 256 bytes, `.` or `..`, or has a control character or one of
    /// `/ \\ ? # % @ " < >`.
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
        Ok(Self { written: text.into(), folded: text.chars().map(fold).collect::<String>().into() })
    }

    /// The spelling of the request.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The lower-cased form by which names are compared.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether the name has the form of a GUID, in the hyphenated spelling of the service's own URLs. The
    /// other spellings that .NET reads (32 digits, braces) count as names, since a feed may be called so.
    pub fn is_guid(&self) -> bool {
        const HYPHENATED: usize = 36;
        self.folded.len() == HYPHENATED && uuid::Uuid::try_parse(&self.folded).is_ok()
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

/// The lower case of `c` if the two are a pair, else `c`.
fn fold(c: char) -> char {
    let lower = only(c.to_lowercase());
    lower.filter(|lower| only(lower.to_uppercase()) == Some(c)).unwrap_or(c)
}

fn only(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

// === impl FeedRef ===

impl FeedRef {
    /// A feed as a path spells it.
    pub fn new(org: Name, project: Option<Name>, feed: Name, view: Option<Name>) -> Self {
        let spelling = spelling(&org, project.as_ref(), &feed, view.as_ref()).into();
        Self { org, project, feed, view, spelling, identity: None }
    }

    /// The same spelling with the key that `identity`, the feed by its GUIDs, has.
    #[must_use]
    pub fn identified(mut self, identity: &str) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// Whether the key is one that every spelling of the feed has: it was learned, or all parts are GUIDs.
    pub fn is_identified(&self) -> bool {
        let mut parts = self.project.iter().chain([&self.feed]).chain(&self.view);
        self.identity.is_some() || parts.all(Name::is_guid)
    }

    /// The key for everything that is kept of the feed, and for logs: `org/project|-/feed[@view]`, lower case, of
    /// the identity when it is known and of the spelling otherwise.
    pub fn key(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.spelling)
    }

    /// The key of the feed without its view: what is written to a feed shows in its views.
    pub fn whole_key(&self) -> &str {
        let key = self.key();
        key.split_once('@').map_or(key, |(whole, _)| whole)
    }

    /// The canonical text of this spelling: `org/project|-/feed[@view]`, lower case.
    ///
    /// No name holds `/`, `@` or `%`, and a project that is called `-` is written `%2d`: different feeds have
    /// different keys.
    pub fn spelling(&self) -> &str {
        &self.spelling
    }
}

fn spelling(org: &Name, project: Option<&Name>, feed: &Name, view: Option<&Name>) -> String {
    let project = match project.map(Name::folded) {
        None => "-",
        Some("-") => "%2d",
        Some(project) => project,
    };
    let mut key = format!("{}/{project}/{}", org.folded(), feed.folded());
    if let Some(view) = view {
        key.push('@');
        key.push_str(view.folded());
    }
    key
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{FeedRef, Name, NameError};

    const GUID: &str = "0F1D6E4A-5B3C-4D2E-9A8B-7C6D5E4F3A2B";

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn feed(org: &str, project: Option<&str>, feed: &str, view: Option<&str>) -> FeedRef {
        FeedRef::new(name(org), project.map(name), name(feed), view.map(name))
    }

    #[test]
    fn names_are_one_whatever_their_case_and_keep_their_spelling() {
        let spellings: HashSet<Name> = ["Contoso", "contoso", "CONTOSO"].into_iter().map(name).collect();
        assert_eq!(spellings.len(), 1);
        assert_eq!(name("ÄRGER"), name("ärger"));
        let written = name("My Feed");
        assert_eq!((written.as_str(), written.folded()), ("My Feed", "my feed"));
        assert_eq!((written.to_string(), format!("{written:?}")), ("My Feed".into(), "\"My Feed\"".into()));
    }

    #[test]
    fn letters_without_a_pair_are_not_folded_onto_others() {
        for (one, other) in [("\u{212A}", "k"), ("\u{1E9E}", "ß"), ("İ", "i"), ("ﬁ", "fi"), ("ς", "σ")]
        {
            assert_ne!(name(one), name(other));
        }
        assert_eq!(name(name("\u{212A}ÄİX").folded()).folded(), "\u{212A}äİx");
    }

    #[test]
    fn a_text_that_could_change_a_path_or_a_key_is_no_name() {
        let bad = "/\\?#%@\"<>\0\n\u{7f}\u{85}".chars();
        for c in bad {
            let text = format!("a{c}b");
            assert_eq!(Name::parse(&text).unwrap_err(), NameError::Character(text, c));
        }
        for text in [".", ".."] {
            assert_eq!(Name::parse(text).unwrap_err(), NameError::Character(text.into(), '.'));
        }
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(&"é".repeat(129)), Err(NameError::TooLong(258)));
        assert!(Name::parse(&"é".repeat(128)).is_ok());
    }

    #[test]
    fn only_the_hyphenated_form_counts_as_a_guid() {
        assert!(name(GUID).is_guid());
        let digits = GUID.replace('-', "");
        for text in ["feed", &digits, &format!("{{{GUID}}}"), &GUID[1..]] {
            assert!(!name(text).is_guid(), "{text}");
        }
    }

    #[test]
    fn spellings_of_one_feed_have_one_key_and_other_feeds_have_others() {
        let rows = [
            (feed("Org", None, "Feed", None), "org/-/feed"),
            (feed("ORG", Some("My Project"), "FEED", Some("Release")), "org/my project/feed@release"),
            (feed("org", Some("-"), "feed", None), "org/%2d/feed"),
            (feed("org", None, "-", Some("-")), "org/-/-@-"),
        ];
        for (feed, key) in &rows {
            assert_eq!(&feed.key(), key);
        }
        assert_eq!(rows.iter().map(|(feed, _)| feed.key()).collect::<HashSet<_>>().len(), rows.len());
    }
}
