//! Which packages an operator means: a name with `*`, and the versions of it.
//!
//! `@evil/*`, `event-stream@3.3.6`, `left-pad@<1.3.0 || >=2.0.0-0 <2.1.0`. Both protocols share one notation and one
//! order of versions: the numbers first (a missing one is 0, so `1.0` is `1.0.0.0`), then a version with labels before
//! the one without (semver.org 2.0.0 §11, which NuGet follows). Ranges are comparators, joined by spaces (all must
//! hold) and `||` (one of them must); `^`, `~` and `x` are left out, since npm and NuGet read them differently.

use std::{cmp::Ordering, fmt, str::FromStr};

/// The longest selector, in bytes.
const MAX_SELECTOR: usize = 512;
/// Most numbers of a version that count: NuGet has four.
const NUMBERS: usize = 4;

/// A name with `*` for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

/// Packages: a name pattern, and the versions of them; all versions if none are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    written: String,
    name: NamePattern,
    /// Alternatives of comparators; empty for all versions.
    versions: Vec<Vec<Comparator>>,
}

/// The place of a version in the order of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank {
    numbers: [u64; NUMBERS],
    labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparator {
    relation: Relation,
    rank: Rank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// A part of a pre-release label; numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Number(u64),
    Word(String),
}

// === impl NamePattern ===

impl NamePattern {
    /// Whether `name` is meant; `fold` tells whether in any case.
    pub fn matches(&self, name: &str, fold: bool) -> bool {
        if fold {
            wildcard(&self.0.to_ascii_lowercase(), &name.to_ascii_lowercase())
        } else {
            wildcard(&self.0, name)
        }
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '|' | '<' | '>' | '=');
        let bare = text.strip_prefix('@').unwrap_or(text);
        if bare.is_empty() || text.len() > MAX_SELECTOR || bare.contains('@') || !bare.chars().all(plain) {
            return Err("must be a package name such as `left-pad`, `@scope/*` or `Contoso.*`".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Selector ===

impl Selector {
    /// Whether packages called `name` may be meant.
    pub fn concerns(&self, name: &str, fold: bool) -> bool {
        self.name.matches(name, fold)
    }

    /// Whether this version of `name` is meant. One that cannot be read is in no range.
    pub fn matches(&self, name: &str, version: &str, fold: bool) -> bool {
        self.concerns(name, fold) && (self.is_whole() || self.has(version).unwrap_or(false))
    }

    /// Whether this version of `name` may be meant: one that cannot be read may be in any range.
    pub fn may_match(&self, name: &str, version: &str, fold: bool) -> bool {
        self.concerns(name, fold) && (self.is_whole() || self.has(version).unwrap_or(true))
    }

    /// Whether every version is meant.
    pub fn is_whole(&self) -> bool {
        self.versions.is_empty()
    }

    /// `None` for a version that cannot be read.
    fn has(&self, version: &str) -> Option<bool> {
        let rank = Rank::of(version)?;
        Some(self.versions.iter().any(|all| all.iter().all(|one| one.holds(&rank))))
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.get(1..).and_then(|rest| rest.find('@')).map(|at| at + 1);
        let (name, range) = at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
        let versions = range.map_or(Ok(Vec::new()), |range| {
            range.split("||").map(comparators).collect::<Option<Vec<_>>>().ok_or_else(|| {
                "must name versions as comparators, such as `left-pad@1.2.0` or `left-pad@>=1.0.0 <1.3.0 || 2.0.0`"
                    .to_owned()
            })
        })?;
        Ok(Self { written: text.to_owned(), name: name.parse()?, versions })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

// === impl Rank ===

impl Rank {
    /// The rank of a version of npm or NuGet; `None` for what is none. Build metadata does not count.
    pub fn of(version: &str) -> Option<Self> {
        let version = version.trim().trim_start_matches(['v', '=']);
        let version = version.split('+').next().unwrap_or_default();
        let (release, labels) =
            version.split_once('-').map_or((version, None), |(release, labels)| (release, Some(labels)));
        let mut numbers = [0; NUMBERS];
        for (index, part) in release.split('.').enumerate() {
            *numbers.get_mut(index)? = number(part)?;
        }
        let labels = labels.map_or(Some(Vec::new()), |labels| labels.split('.').map(Label::of).collect())?;
        Some(Self { numbers, labels })
    }

    /// Whether it has labels.
    pub fn is_prerelease(&self) -> bool {
        !self.labels.is_empty()
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let released = self.labels.is_empty().cmp(&other.labels.is_empty());
        self.numbers.cmp(&other.numbers).then(released).then_with(|| self.labels.cmp(&other.labels))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// === impl Comparator ===

impl Comparator {
    fn of(text: &str) -> Option<Self> {
        const RELATIONS: [(&str, Relation); 5] = [
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Less),
            (">", Relation::More),
            ("=", Relation::Equal),
        ];
        let found = RELATIONS.iter().find_map(|(sign, relation)| Some((text.strip_prefix(sign)?, *relation)));
        let (version, relation) = found.unwrap_or((text, Relation::Equal));
        Some(Self { relation, rank: Rank::of(version)? })
    }

    fn holds(&self, rank: &Rank) -> bool {
        match self.relation {
            Relation::Less => rank < &self.rank,
            Relation::AtMost => rank <= &self.rank,
            Relation::Equal => rank == &self.rank,
            Relation::AtLeast => rank >= &self.rank,
            Relation::More => rank > &self.rank,
        }
    }
}

// === impl Label ===

impl Label {
    /// NuGet compares words without case, and semver.org too is written in lower case.
    fn of(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if text.is_empty() || !text.bytes().all(allowed) {
            return None;
        }
        Some(number(text).map_or_else(|| Self::Word(text.to_ascii_lowercase()), Self::Number))
    }
}

fn comparators(text: &str) -> Option<Vec<Comparator>> {
    let all: Option<Vec<_>> = text.split_whitespace().map(Comparator::of).collect();
    all.filter(|all| !all.is_empty())
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Whether `text` is `pattern` with each `*` for some run of characters. Linear in memory, never recursive.
fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NamePattern, Rank, Selector};

    #[test]
    fn versions_are_in_the_order_of_both_protocols() {
        let rising = [
            "0.0.1-0",
            "0.0.1",
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.0.1",
            "1.2.0",
            "1.10.0",
            "2.0",
        ];
        let ranks: Vec<_> = rising.iter().map(|version| Rank::of(version).unwrap()).collect();
        assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]), "{ranks:?}");
        for (one, other) in [("1.0", "1.0.0.0"), ("1.0.0+build", "1.0.0"), ("1.0.0-RC", "1.0.0-rc")] {
            assert_eq!(Rank::of(one), Rank::of(other), "{one} {other}");
        }
        for none in ["", "1..0", "1.0.0.0.0", "x", "1.0-", "1.0.0-a..b", "99999999999999999999"] {
            assert_eq!(Rank::of(none), None, "{none}");
        }
    }

    #[test]
    fn a_selector_means_what_it_says() {
        for (selector, name, version, fold, meant) in [
            ("left-pad", "left-pad", "1.0.0", false, true),
            ("left-pad", "Left-Pad", "1.0.0", false, false),
            ("Contoso.*", "contoso.utility", "1.0.0", true, true),
            ("@evil/*", "@evil/x", "1.0.0", false, true),
            ("@evil/*", "evil", "1.0.0", false, false),
            ("*-shim*", "a-shim-b", "1.0.0", false, true),
            ("event-stream@3.3.6", "event-stream", "3.3.6", false, true),
            ("event-stream@3.3.6", "event-stream", "3.3.5", false, false),
            ("@a/b@<1.3.0 || >=2.0.0-0 <2.1.0", "@a/b", "1.2.9", false, true),
            ("@a/b@<1.3.0 || >=2.0.0-0 <2.1.0", "@a/b", "1.3.0", false, false),
            ("@a/b@<1.3.0 || >=2.0.0-0 <2.1.0", "@a/b", "2.0.0-rc.1", false, true),
            ("a@1.0", "a", "1.0.0.0", true, true),
        ] {
            let parsed: Selector = selector.parse().unwrap();
            assert_eq!(parsed.matches(name, version, fold), meant, "{selector} {name}@{version}");
            assert_eq!(parsed.may_match(name, version, fold), meant, "{selector} {name}@{version}");
            assert_eq!(parsed.to_string(), selector);
        }
        for unread in ["", "v", "not-a-version"] {
            let of = |selector: &str| selector.parse::<Selector>().unwrap();
            let (range, whole, other) = (of("a@<1.3.0"), of("a"), of("b@<1.3.0"));
            assert!(!range.matches("a", unread, false) && range.may_match("a", unread, false));
            assert!(whole.matches("a", unread, false) && !other.may_match("a", unread, false));
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in
            ["", "@", "a b", "a@", "a@^1.0.0", "a@1.x", "a@>=", "a@1 || ", "a%2fb", "a\"b", "@a/b@c@d"]
        {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
        assert!("@scope/*".parse::<NamePattern>().is_ok() && "a@1".parse::<NamePattern>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(pattern in ".{0,60}", name in ".{0,60}", version in ".{0,40}") {
            if let Ok(selector) = pattern.parse::<Selector>() {
                selector.matches(&name, &version, true);
            }
            Rank::of(&version);
        }

        #[test]
        fn the_order_is_total(a in "[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(-[a-c0-9]{1,2}(\\.[a-c0-9]{1,2}){0,2})?",
                              b in "[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(-[a-c0-9]{1,2}(\\.[a-c0-9]{1,2}){0,2})?") {
            let (a, b) = (Rank::of(&a).unwrap(), Rank::of(&b).unwrap());
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        }
    }
}
