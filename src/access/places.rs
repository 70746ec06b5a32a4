//! Places that rules name: an organisation or a feed, and whether a request is for one of them.
//!
//! A feed has many spellings, and only what was learned of them tells whether two are one (facts §2). A rule on who may
//! do what must not be passed by in another spelling, so "not known" is an answer of its own here.

use std::{fmt, str::FromStr};

use crate::ident::{FeedRef, Name};

/// Hexadecimal digits of a GUID.
const GUID_DIGITS: usize = 32;

/// Whether two spellings are one feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// They are.
    Yes,
    /// They are not.
    No,
    /// One of them is by what may be a GUID whose name is not known, or is written as another reader would cut it.
    Unknown,
}

/// Where a gate token is good: `organisation`, `organisation/feed` or `organisation/project/feed`. In each part `*`
/// stands for any characters; such a scope is for feeds as clients spell them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    text: String,
    org: Pattern,
    feed: Option<(Option<Pattern>, Pattern)>,
    /// The feed, when no part has a `*`.
    literal: Option<FeedRef>,
}

/// A part of a scope, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(String);

/// Whether `one` and `other` are the same feed, views aside; `identity` tells what is known of a spelling.
pub fn same_feed(one: &FeedRef, other: &FeedRef, identity: impl Fn(&FeedRef) -> Option<String>) -> Same {
    if one.org != other.org {
        return Same::No;
    }
    let [one, other] = [one, other].map(whole);
    if one.spelling() == other.spelling() {
        return Same::Yes;
    }
    match (identity(&one), identity(&other)) {
        (Some(one), Some(other)) => return if one == other { Same::Yes } else { Same::No },
        // A feed's GUID is the last part of its identity, and names one feed of the organisation.
        (Some(known), None) if other.feed.is_guid() => return same_guid(&known, &other.feed),
        (None, Some(known)) if one.feed.is_guid() => return same_guid(&known, &one.feed),
        _ => {}
    }
    if [&one.feed, &other.feed].into_iter().any(may_be_guid) {
        return Same::Unknown;
    }
    let projects = match (&one.project, &other.project) {
        (None, None) => Same::Yes,
        (Some(one), Some(other)) => same_name(one, other),
        _ => Same::No,
    };
    let parts = [same_name(&one.feed, &other.feed), projects];
    if parts.contains(&Same::No) { Same::No } else { Same::Unknown }
}

fn same_name(one: &Name, other: &Name) -> Same {
    if one == other {
        return Same::Yes;
    }
    let guids = one.is_guid() && other.is_guid();
    let may_be_guids = may_be_guid(one) || may_be_guid(other);
    if !guids && may_be_guids || may_be_read_as_one(bare(one), bare(other)) {
        Same::Unknown
    } else {
        Same::No
    }
}

/// Whether somebody who makes more letters one than [`Name`] does (by their width, accents, ligatures, or since they are
/// not seen) may read the same in both: what stands before the first letter beyond ASCII, and behind the last, agrees as
/// far as both have it.
fn may_be_read_as_one(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one == other;
    }
    let ends = |text: &str| {
        let bytes = text.as_bytes();
        let start = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(|byte| !byte.is_ascii()).map_or(0, |at| at + 1);
        (bytes[..start].to_vec(), bytes[end..].to_vec())
    };
    let ((start, end), (other_start, other_end)) = (ends(one), ends(other));
    let same = |(one, other): (&u8, &u8)| one == other;
    start.iter().zip(&other_start).all(same) && end.iter().rev().zip(other_end.iter().rev()).all(same)
}

/// Whether somebody reads a GUID in `name`. .NET reads 32 digits, with hyphens, in braces or parentheses, and in
/// hexadecimal groups; the service was not seen to take other forms than its own, nor to refuse them.
fn may_be_guid(name: &Name) -> bool {
    let (hexadecimal, punctuation): (Vec<char>, Vec<char>) =
        name.folded().chars().partition(char::is_ascii_hexdigit);
    let is_written_so = |letter: &char| matches!(letter, '-' | '{' | '}' | '(' | ')' | ',' | 'x' | ' ');
    hexadecimal.len() >= GUID_DIGITS && punctuation.iter().all(is_written_so)
}

/// What front ends on Windows leave of a name.
fn bare(name: &Name) -> &str {
    name.folded().trim().trim_end_matches(['.', ' '])
}

fn same_guid(identity: &str, guid: &Name) -> Same {
    if identity.rsplit('/').next() == Some(guid.folded()) { Same::Yes } else { Same::No }
}

/// Without its view.
fn whole(feed: &FeedRef) -> FeedRef {
    FeedRef::new(feed.org.clone(), feed.project.clone(), feed.feed.clone(), None)
}

// === impl Scope ===

impl Scope {
    /// Whether a request is within: for `feed`, or for something of `org` that is no feed's.
    pub fn covers(
        &self,
        org: &Name,
        feed: Option<&FeedRef>,
        identity: impl Fn(&FeedRef) -> Option<String>,
    ) -> bool {
        if !self.org.fits(org) {
            return false;
        }
        let Some((project, name)) = &self.feed else { return true };
        let Some(feed) = feed else { return false };
        let in_project = match (project, &feed.project) {
            (None, None) => true,
            (Some(project), Some(own)) => project.fits(own),
            (None, Some(_)) | (Some(_), None) => false,
        };
        in_project && name.fits(&feed.feed)
            || self.literal.as_ref().is_some_and(|own| same_feed(own, feed, identity) == Same::Yes)
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('/').collect();
        let pattern = |part: &str| {
            // A star may stand where a letter may.
            Name::parse(&part.replace('*', "x")).map_err(|error| error.to_string())?;
            Name::parse(part).map(|name| Pattern(name.folded().to_owned())).map_err(|error| error.to_string())
        };
        let (org, feed) = match parts[..] {
            [org] => (pattern(org)?, None),
            [org, feed] => (pattern(org)?, Some((None, pattern(feed)?))),
            [org, project, feed] => (pattern(org)?, Some((Some(pattern(project)?), pattern(feed)?))),
            _ => {
                let rule = "must be `organisation`, `organisation/feed` or `organisation/project/feed`";
                return Err(rule.to_owned());
            }
        };
        let literal = feed.as_ref().filter(|_| !text.contains('*')).and_then(|(project, name)| {
            let name_of = |pattern: &Pattern| Name::parse(&pattern.0).ok();
            let project = project.as_ref().map(name_of);
            Some(FeedRef::new(name_of(&org)?, project.flatten(), name_of(name)?, None))
        });
        Ok(Self { text: text.to_owned(), org, feed, literal })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl Pattern ===

impl Pattern {
    fn fits(&self, name: &Name) -> bool {
        if self.0 != "*" && self.0.contains('*') && may_be_guid(name) {
            // Of which feed it is that says nothing.
            return false;
        }
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.folded().strip_prefix(first) else { return false };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Same, Scope, same_feed};
    use crate::ident::{FeedRef, Name};

    const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";
    const OTHER: &str = "1f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

    fn feed(text: &str) -> FeedRef {
        let name = |text: &str| Name::parse(text).unwrap();
        match text.split('/').collect::<Vec<_>>()[..] {
            [org, feed] => FeedRef::new(name(org), None, name(feed), None),
            [org, project, feed] => FeedRef::new(name(org), Some(name(project)), name(feed), None),
            _ => panic!("{text}"),
        }
    }

    /// Only `contoso/main` and `contoso/web/team` were ever asked for by name.
    fn identity(feed: &FeedRef) -> Option<String> {
        match feed.spelling() {
            "contoso/-/main" => Some(format!("contoso/-/{GUID}")),
            "contoso/web/team" => Some(format!("contoso/{OTHER}/{OTHER}")),
            _ => None,
        }
    }

    #[test]
    fn a_spelling_that_is_not_known_is_neither_the_feed_nor_another() {
        for (one, other, same) in [
            ("contoso/main", "Contoso/MAIN", Same::Yes),
            ("contoso/main", &format!("contoso/{GUID}"), Same::Yes),
            ("contoso/main", &format!("contoso/{OTHER}"), Same::No),
            ("contoso/main", "contoso/other", Same::No),
            ("contoso/main", "contoso/web/main", Same::No),
            ("contoso/main", "fabrikam/main", Same::No),
            ("contoso/main", "contoso/web/team", Same::No),
            ("contoso/other", &format!("contoso/{GUID}"), Same::Unknown),
            ("contoso/web/other", &format!("contoso/{GUID}/other"), Same::Unknown),
            ("contoso/web/team", &format!("contoso/{GUID}/team"), Same::Unknown),
            // As others write a GUID, or a name: the service may read it so, or not.
            ("contoso/main", &format!("contoso/{}", GUID.replace('-', "")), Same::Unknown),
            ("contoso/main", &format!("contoso/{}", OTHER.replace('-', "")), Same::Unknown),
            ("contoso/other", &format!("contoso/{}", OTHER.replace('-', "")), Same::Unknown),
            ("contoso/other", &format!("contoso/{{{GUID}}}"), Same::Unknown),
            ("contoso/other", &format!("contoso/({GUID})"), Same::Unknown),
            ("contoso/web/other", &format!("contoso/{{{GUID}}}/other"), Same::Unknown),
            ("contoso/other", "contoso/other. ", Same::Unknown),
            ("contoso/web/other", "contoso/web /other", Same::Unknown),
            // As a database may compare them.
            ("contoso/other", "contoso/ｏｔｈｅｒ", Same::Unknown),
            ("contoso/other", "contoso/oth\u{e9}r", Same::Unknown),
            ("contoso/other", "contoso/ot\u{200d}her", Same::Unknown),
            ("contoso/other", "contoso/other\u{301}", Same::Unknown),
            ("contoso/web/\u{fb01}", "contoso/web/fi", Same::Unknown),
            ("contoso/other", "contoso/m\u{fc}ller", Same::No),
            ("contoso/main", "contoso/main-\u{e4}", Same::Unknown),
            ("contoso/main", "contoso/\u{e4}-main-x", Same::No),
            ("contoso/other", &format!("contoso/{}", &GUID.replace('-', "")[1..]), Same::No),
        ] {
            assert_eq!(same_feed(&feed(one), &feed(other), identity), same, "{one} {other}");
            assert_eq!(same_feed(&feed(other), &feed(one), identity), same, "{other} {one}");
        }
    }

    #[test]
    fn a_scope_covers_what_it_names_and_nothing_that_is_not_known() {
        let guid = format!("contoso/{GUID}");
        for (scope, place, covered) in [
            ("contoso", "contoso/main", true),
            ("Contoso", "contoso/web/main", true),
            ("contoso", "fabrikam/main", false),
            ("contoso/main", "contoso/Main", true),
            ("contoso/main", &guid, true),
            ("contoso/other", &guid, false),
            ("contoso/main", "contoso/web/main", false),
            ("contoso/web/main", "contoso/web/main", true),
            ("contoso/web/main", "contoso/main", false),
            ("contoso/*", "contoso/main", true),
            ("contoso/*", "contoso/web/main", false),
            ("contoso/*/*", "contoso/web/main", true),
            ("contoso/team-*-x", "contoso/team-a-x", true),
            ("contoso/team-*-x", "contoso/team-a-y", false),
            ("contoso/*a*a", "contoso/a", false),
            ("contoso/m*n", "contoso/man", true),
            ("con*", "contoso/main", true),
            ("contoso/*", &guid, true),
            ("contoso/0*", &guid, false),
            ("contoso/web/*", &format!("contoso/web/{GUID}"), true),
            ("contoso/0*/*", &format!("contoso/{GUID}/main"), false),
        ] {
            let covers =
                scope.parse::<Scope>().unwrap().covers(&feed(place).org, Some(&feed(place)), identity);
            assert_eq!(covers, covered, "{scope} {place}");
        }
        let org = Name::parse("contoso").unwrap();
        assert!("contoso".parse::<Scope>().unwrap().covers(&org, None, identity));
        assert!(!"contoso/*".parse::<Scope>().unwrap().covers(&org, None, identity));
        for bad in ["", "a/b/c/d", "a//b", "a/b@c", "a/../b", "/"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }
}
