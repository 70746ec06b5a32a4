//! Guards against bad packages: what is kept from builds although the service has it, and why.
//!
//! Pure: rules come from the configuration, `now` and what is known of a version's age come in, an [`Objection`] that
//! explains itself comes out. Documents are filtered by the same rules as downloads (`packument`, `nuget`, `odata`), so a
//! client never resolves to a version that it would then be refused. A document that cannot be read for that is refused
//! as a whole: a guard that a malformed document gets round is none. Left out: what is *in* a package, signatures,
//! licences; and documents for operators (REST), which tell the truth about the feed.

mod npm_search;
mod nuget;
mod odata;
mod packument;

use std::{
    borrow::Cow,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, SystemTime},
};

use crate::{
    config::{Guard, Guarded, Pin, changes::FeedName, units::format_span},
    ident::{NamePattern, Selector},
    route::Protocol,
};

pub use self::{
    npm_search::filter_npm_search,
    nuget::{filter_registration, filter_search, filter_version_list, pages, registered, version_list},
    odata::filter_feed,
    packument::{filter_packument, versions_of},
};

/// A version, and when it was released as the document that names it tells.
pub type Release = (String, Option<SystemTime>);

/// Why nobody can say what a document would let through, so that it must not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(Cow<'static, str>);

/// All rules of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    rules: Vec<Guard>,
    /// What tells each guard from others.
    stamps: Vec<u64>,
    pins: Vec<Pin>,
}

/// The rules for one name in one feed.
#[derive(Debug)]
pub struct Policy<'a> {
    name: &'a str,
    protocol: Protocol,
    guards: Vec<&'a Guard>,
    stamps: Vec<u64>,
    /// Pins of the name, when none of them is for this feed.
    elsewhere: Option<&'a Pin>,
}

/// Why a package is kept from a build. Its text is for the client: it names the thing and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// The name may come from other feeds only.
    Pinned {
        /// The package.
        name: String,
        /// The pattern that has its name.
        pattern: String,
        /// The feeds, as the configuration names them.
        feeds: String,
    },
    /// It is on the list of what is refused.
    Denied {
        /// The package, with its version unless all are refused.
        package: String,
        /// The selector that means it.
        selector: String,
    },
    /// It is not on the list of what is allowed.
    NotAllowed {
        /// The package, with its version unless none is allowed.
        package: String,
    },
    /// The version is too young.
    Young {
        /// The package and its version.
        package: String,
        /// How old it must be.
        least: Duration,
        /// How much of that is left.
        left: Duration,
    },
    /// Nothing is known of the version's age, or of which package is meant.
    Unknown {
        /// What was asked for.
        package: String,
    },
    /// The document cannot be read, so nothing can be left out of it.
    Unreadable {
        /// Which, by its key.
        document: String,
        /// Why.
        why: Unreadable,
    },
}

// === impl Unreadable ===

impl Unreadable {
    fn new(why: impl Into<Cow<'static, str>>) -> Self {
        Self(why.into())
    }

    /// The document is of another kind.
    pub fn not_json() -> Self {
        Self::new("is no JSON")
    }
}

// === impl Guards ===

impl Guards {
    /// The rules of the configuration.
    pub fn new(guards: Vec<Guard>, pins: Vec<Pin>) -> Self {
        let stamp = |guard: &Guard| {
            let mut hasher = DefaultHasher::new();
            format!("{guard:?}").hash(&mut hasher);
            hasher.finish()
        };
        Self { stamps: guards.iter().map(stamp).collect(), rules: guards, pins }
    }

    /// Whether there are no rules at all.
    pub fn are_off(&self) -> bool {
        self.rules.is_empty() && self.pins.is_empty()
    }

    /// All feeds that the rules name.
    pub fn feeds(&self) -> impl Iterator<Item = &FeedName> {
        let guards = self.rules.iter().flat_map(|guard| &guard.feeds);
        guards.chain(self.pins.iter().flat_map(|pin| &pin.feeds))
    }

    /// The rules for packages called `name`; `is_here` tells whether a configured feed is the one that is asked, `None`
    /// where nobody knows. Then a guard of that feed holds, and a pin keeps its names from it.
    pub fn policy<'a>(
        &'a self,
        name: &'a str,
        protocol: Protocol,
        is_here: impl Fn(&FeedName) -> Option<bool>,
    ) -> Policy<'a> {
        let guards = self.rules.iter().zip(&self.stamps);
        let guards = guards.filter(|(guard, _)| holds(guard, protocol, &is_here));
        let pins: Vec<_> = self
            .pins
            .iter()
            .filter(|pin| covers(pin.protocol, protocol) && pattern(pin, name).is_some())
            .collect();
        let here = pins.iter().any(|pin| is_home(pin, &is_here));
        let (guards, stamps) = guards.unzip();
        Policy { name, protocol, guards, stamps, elsewhere: pins.first().copied().filter(|_| !here) }
    }

    /// Whether a package may be refused of which nothing but the protocol is known.
    pub fn concern(&self, protocol: Protocol, is_here: impl Fn(&FeedName) -> Option<bool>) -> bool {
        self.rules.iter().any(|guard| holds(guard, protocol, &is_here))
            || self.pins.iter().any(|pin| covers(pin.protocol, protocol) && !is_home(pin, &is_here))
    }
}

// === impl Policy ===

impl Policy<'_> {
    /// Whether nothing is refused.
    pub fn is_free(&self) -> bool {
        self.guards.is_empty() && self.elsewhere.is_none()
    }

    /// Whether the age of versions matters.
    pub fn asks_age(&self) -> bool {
        let exempts = |selector: &Selector| selector.is_whole() && selector.concerns(self.name, self.fold());
        self.guards.iter().any(|guard| !guard.min_release_age.is_zero() && !guard.exempt.iter().any(exempts))
    }

    /// The objection to the whole package, whatever the version.
    pub fn to_name(&self) -> Option<Objection> {
        let package = || self.name.to_owned();
        if let Some(pin) = self.elsewhere {
            let pattern = pattern(pin, self.name).map(ToString::to_string).unwrap_or_default();
            let feeds = pin.feeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Some(Objection::Pinned { name: package(), pattern, feeds });
        }
        let denied = |selector: &&Selector| selector.is_whole() && selector.concerns(self.name, true);
        self.guards.iter().find_map(|guard| {
            if let Some(selector) = guard.deny.iter().find(denied) {
                return Some(Objection::Denied { package: package(), selector: selector.to_string() });
            }
            let concerned = |selector: &Selector| selector.concerns(self.name, self.fold());
            let allowed = guard.allow.is_empty() || guard.allow.iter().any(concerned);
            (!allowed).then(|| Objection::NotAllowed { package: package() })
        })
    }

    /// The objection to one version; `released` is since when it counts, if that is known.
    pub fn to_version(
        &self,
        version: &str,
        released: Option<SystemTime>,
        now: SystemTime,
    ) -> Option<Objection> {
        let package = || format!("{}@{version}", self.name);
        let meant = |selector: &&Selector| selector.matches(self.name, version, self.fold());
        let listed = self.guards.iter().find_map(|guard| {
            let denied = |selector: &&Selector| selector.may_match(self.name, version, true);
            if let Some(selector) = guard.deny.iter().find(denied) {
                return Some(Objection::Denied { package: package(), selector: selector.to_string() });
            }
            let allowed = guard.allow.is_empty() || guard.allow.iter().any(|one| meant(&one));
            (!allowed).then(|| Objection::NotAllowed { package: package() })
        });
        listed.or_else(|| {
            let aged = self.guards.iter().filter(|guard| !guard.exempt.iter().any(|one| meant(&one)));
            let least = aged.map(|guard| guard.min_release_age).max().filter(|least| !least.is_zero())?;
            let Some(released) = released else { return Some(Objection::Unknown { package: package() }) };
            let left = least.checked_sub(now.duration_since(released).unwrap_or_default());
            let left = left.filter(|left| !left.is_zero())?;
            Some(Objection::Young { package: package(), least, left })
        })
    }

    /// Whether a version may be refused of which nothing is known.
    pub fn judges_versions(&self) -> bool {
        self.to_version("", None, SystemTime::UNIX_EPOCH).is_some()
    }

    /// What tells one answer under these rules from one under others, for what is kept of answers; `None` without rules.
    /// It changes with the minute where ages matter.
    pub fn stamp(&self, now: SystemTime) -> Option<u64> {
        if self.is_free() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        self.stamps.hash(&mut hasher);
        self.name.hash(&mut hasher);
        if self.asks_age() {
            let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            (since.as_secs() / 60).hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// Whether names in another case are what a rule lets through. npm's `JSONStream` and `jsonstream` are two packages
    /// (facts §4.4), and no host of it promises that it tells all names apart: so what is denied or pinned is meant in any
    /// case, and what is allowed or exempt as it is written.
    fn fold(&self) -> bool {
        self.protocol == Protocol::Nuget
    }
}

// === impl Objection ===

impl Objection {
    /// What kind of rule it is, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pinned { .. } => "pinned",
            Self::Denied { .. } => "denied",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Young { .. } => "young",
            Self::Unknown { .. } => "unknown",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Every kind.
    pub const REASONS: [&'static str; 6] =
        ["pinned", "denied", "not_allowed", "young", "unknown", "unreadable"];
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { name, pattern, feeds } => {
                write!(f, "{name} is not taken from this feed: a pin keeps {pattern} to {feeds}")
            }
            Self::Denied { package, selector } => {
                write!(f, "{package} is refused by a guard: it is on the list of what is denied ({selector})")
            }
            Self::NotAllowed { package } => {
                write!(f, "{package} is refused by a guard: it is not on the list of what is allowed")
            }
            Self::Young { package, least, left } => {
                let left = format_span(Duration::from_secs(left.as_secs().max(1)));
                write!(
                    f,
                    "{package} is refused by a guard: versions must be {} old, {left} are left",
                    format_span(*least)
                )
            }
            Self::Unknown { package } => {
                write!(f, "{package} is refused by a guard: it is not known what or how old it is")
            }
            Self::Unreadable { document, why } => {
                write!(
                    f,
                    "{document} is refused by a guard, which cannot read what the service sent: it {why}"
                )
            }
        }
    }
}

fn covers(guarded: Guarded, protocol: Protocol) -> bool {
    match guarded {
        Guarded::All => true,
        Guarded::Npm => protocol == Protocol::Npm,
        Guarded::Nuget => protocol == Protocol::Nuget,
    }
}

/// Whether `guard` is for the feed that is asked.
fn holds(guard: &Guard, protocol: Protocol, is_here: impl Fn(&FeedName) -> Option<bool>) -> bool {
    let here = || guard.feeds.iter().any(|feed| is_here(feed) != Some(false));
    covers(guard.protocol, protocol) && (guard.feeds.is_empty() || here())
}

/// Whether `pin` lets its names come from the feed that is asked.
fn is_home(pin: &Pin, is_here: impl Fn(&FeedName) -> Option<bool>) -> bool {
    pin.feeds.iter().any(|feed| is_here(feed) == Some(true))
}

fn pattern<'a>(pin: &'a Pin, name: &str) -> Option<&'a NamePattern> {
    pin.names.iter().find(|pattern| pattern.matches(name, true))
}

/// A time as the service writes it: RFC 3339, at times without the zone (facts §5.3), which is UTC then.
fn told(text: &str) -> Option<SystemTime> {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let parsed = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339));
    parsed.ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Guards, Objection, told};
    use crate::{
        config::{Guard, Guarded, Pin},
        route::Protocol,
    };

    const DAY: Duration = Duration::from_secs(86_400);

    fn guard(deny: &[&str], allow: &[&str], days: u32) -> Guard {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Guard {
            feeds: Vec::new(),
            protocol: Guarded::All,
            deny: read(deny),
            allow: read(allow),
            min_release_age: DAY * days,
            exempt: read(&["@contoso/*"]),
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + DAY * 20_000
    }

    #[test]
    fn lists_and_ages_are_held_to() {
        let guards = Guards::new(vec![guard(&["evil", "left-pad@<1.3.0"], &[], 3)], Vec::new());
        let ask = |name: &str, version: &str, days: Option<u32>| {
            let policy = guards.policy(name, Protocol::Npm, |_| Some(false));
            let released = days.map(|days| now() - DAY * days);
            policy.to_name().or_else(|| policy.to_version(version, released, now()))
        };
        let reason = |objection: Option<Objection>| objection.map(|objection| objection.reason());
        for (name, version, days, expected) in [
            ("evil", "1.0.0", Some(9), Some("denied")),
            ("left-pad", "1.2.0", Some(9), Some("denied")),
            ("left-pad", "1.3.0", Some(9), None),
            ("left-pad", "1.3.0", Some(2), Some("young")),
            ("left-pad", "1.3.0", None, Some("unknown")),
            ("@contoso/a", "1.0.0", Some(0), None),
        ] {
            assert_eq!(reason(ask(name, version, days)), expected, "{name}@{version} {days:?}");
        }
        let text = ask("left-pad", "1.3.0", Some(2)).unwrap().to_string();
        assert_eq!(text, "left-pad@1.3.0 is refused by a guard: versions must be 3d old, 1d are left");
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        let guards = Guards::new(vec![guard(&[], &["Contoso.*@>=2.0.0"], 0)], Vec::new());
        let policy = |name| guards.policy(name, Protocol::Nuget, |_| Some(false));
        assert_eq!(policy("other").to_name().unwrap().reason(), "not_allowed");
        assert_eq!(policy("contoso.utility").to_name(), None);
        let version = |text: &str| policy("contoso.utility").to_version(text, None, now());
        assert_eq!(version("1.9.0").unwrap().reason(), "not_allowed");
        assert_eq!(version("2.0.0"), None);
    }

    #[test]
    fn what_refuses_a_name_means_it_in_any_case_and_what_lets_it_through_as_it_is_written() {
        let pin = Pin {
            names: vec!["@contoso/*".parse().unwrap()],
            feeds: vec!["contoso/main".parse().unwrap()],
            protocol: Guarded::Npm,
        };
        let guards = Guards::new(vec![guard(&["evil", "left-pad@<1.3.0"], &[], 3)], vec![pin]);
        let reason = |guards: &Guards, name: &str, version: &str, days| {
            let policy = guards.policy(name, Protocol::Npm, |_| Some(false));
            let released = Some(now() - DAY * days);
            let objection = policy.to_name().or_else(|| policy.to_version(version, released, now()));
            objection.map(|objection| objection.reason())
        };
        assert_eq!(reason(&guards, "Evil", "1.0.0", 9), Some("denied"));
        assert_eq!(reason(&guards, "LEFT-pad", "1.2.0", 9), Some("denied"));
        assert_eq!(reason(&guards, "LEFT-pad", "1.3.0", 9), None);
        assert_eq!(reason(&guards, "@Contoso/own", "1.0.0", 9), Some("pinned"));
        let aged = Guards::new(vec![guard(&[], &["@contoso/*", "a"], 3)], Vec::new());
        assert_eq!(reason(&aged, "@contoso/own", "1.0.0", 0), None);
        assert_eq!(reason(&aged, "@Contoso/own", "1.0.0", 9), Some("not_allowed"));
        let exempt = Guards::new(vec![guard(&[], &[], 3)], Vec::new());
        assert_eq!(reason(&exempt, "@contoso/own", "1.0.0", 0), None);
        assert_eq!(reason(&exempt, "@Contoso/own", "1.0.0", 0), Some("young"));
    }

    #[test]
    fn a_pinned_name_comes_from_its_feeds_only() {
        let pin = Pin {
            names: vec!["@contoso/*".parse().unwrap()],
            feeds: vec!["contoso/main".parse().unwrap()],
            protocol: Guarded::Npm,
        };
        let guards = Guards::new(Vec::new(), vec![pin]);
        let asked = |protocol, here| guards.policy("@contoso/a", protocol, |_| here).to_name();
        assert_eq!(asked(Protocol::Npm, Some(true)), None);
        assert_eq!(asked(Protocol::Nuget, Some(false)), None);
        assert_eq!(asked(Protocol::Npm, None), asked(Protocol::Npm, Some(false)));
        let text = asked(Protocol::Npm, Some(false)).unwrap().to_string();
        assert_eq!(text, "@contoso/a is not taken from this feed: a pin keeps @contoso/* to contoso/main");
        assert!(guards.policy("free", Protocol::Npm, |_| Some(false)).is_free());
        let concern = |protocol, here| guards.concern(protocol, |_| here);
        assert!(concern(Protocol::Npm, Some(false)) && concern(Protocol::Npm, None));
        assert!(!concern(Protocol::Npm, Some(true)) && !concern(Protocol::Nuget, Some(false)));
    }

    #[test]
    fn a_guard_of_a_feed_holds_there_and_where_nobody_knows() {
        let own = Guard { feeds: vec!["contoso/main".parse().unwrap()], ..guard(&["evil"], &[], 0) };
        let guards = Guards::new(vec![own], Vec::new());
        for (here, refused) in [(Some(true), true), (None, true), (Some(false), false)] {
            assert_eq!(guards.policy("evil", Protocol::Npm, |_| here).to_name().is_some(), refused);
            assert_eq!(guards.concern(Protocol::Npm, |_| here), refused);
        }
    }

    #[test]
    fn a_version_that_cannot_be_read_is_denied_and_neither_allowed_nor_exempt() {
        let reason = |deny: &[&str], allow: &[&str], days| {
            let guards = Guards::new(vec![guard(deny, allow, days)], Vec::new());
            let policy = guards.policy("left-pad", Protocol::Npm, |_| None);
            assert_eq!(policy.judges_versions(), policy.to_version("", None, now()).is_some());
            policy.to_version("v?", None, now()).map(|objection| objection.reason())
        };
        assert_eq!(reason(&["left-pad@<1.0.0"], &[], 0), Some("denied"));
        assert_eq!(reason(&["evil@<1.0.0"], &[], 0), None);
        assert_eq!(reason(&[], &["left-pad@1.3.0"], 0), Some("not_allowed"));
        assert_eq!(reason(&[], &["left-pad"], 0), None);
        assert_eq!(reason(&[], &["left-pad"], 3), Some("unknown"));
    }

    #[test]
    fn an_answer_is_kept_for_its_rules_and_where_ages_matter_for_a_minute() {
        let aged = Guards::new(vec![guard(&[], &[], 3)], Vec::new());
        let listed = Guards::new(vec![guard(&["evil"], &[], 0)], Vec::new());
        let stamp = |guards: &Guards, now| guards.policy("a", Protocol::Npm, |_| Some(false)).stamp(now);
        let (soon, later) = (now() + Duration::from_secs(59), now() + Duration::from_secs(60));
        assert_eq!(stamp(&aged, now()), stamp(&aged, soon));
        assert_ne!(stamp(&aged, now()), stamp(&aged, later));
        assert_eq!(stamp(&listed, now()), stamp(&listed, later));
        assert_eq!(stamp(&Guards::default(), now()), None);
        let asks = |guards: &Guards, name| guards.policy(name, Protocol::Npm, |_| Some(false)).asks_age();
        assert!(asks(&aged, "a") && !asks(&listed, "a") && !asks(&aged, "@contoso/exempt"));
    }

    #[test]
    fn times_of_the_service_are_read_with_and_without_a_zone() {
        let expected = UNIX_EPOCH + Duration::from_secs(1_577_836_800);
        for text in ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.0000000", "2020-01-01T01:00:00+01:00"] {
            assert_eq!(told(text), Some(expected), "{text}");
        }
        assert_eq!((told("yesterday"), told("")), (None, None));
    }
}
