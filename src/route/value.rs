//! Values in paths: GUIDs, names and versions, each with the rule that a malformed one breaks.
//!
//! REST routes take a name or a GUID (seeds 000 to 002), so both are read here. A text in the form of a GUID counts
//! as one, also where a package could be called so: the service reads it in the same way. Ids with letters
//! beyond ASCII are not refused but passed through: NuGet's own rule lets them be, though none was seen (facts §4.4).

use std::fmt;

use uuid::Uuid;

use super::{Subject, place::Unread};
use crate::ident::{NpmName, NugetId, NugetVersion};

/// A thing named by its name or by its GUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named<N> {
    Name(N),
    /// Lower case.
    Guid(String),
}

/// Length of a GUID as the service writes it, with hyphens.
const HYPHENATED: usize = 36;
/// Lengths of all GUIDs that .NET reads where it expects one: bare digits, hyphens, braces.
const GUIDS: [usize; 3] = [32, HYPHENATED, 38];
/// As much of a value as a refusal repeats, in characters.
const SHOWN: usize = 80;

// === impl Named ===

impl<N: fmt::Display> fmt::Display for Named<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

impl Named<NpmName> {
    /// What a write to the package changes; one named by a GUID may be any.
    pub(super) fn npm_subject(self) -> Subject {
        match self {
            Self::Name(name) => Subject::Npm(name),
            Self::Guid(_) => Subject::Feed,
        }
    }
}

impl Named<NugetId> {
    /// What a write to the package changes; one named by a GUID may be any.
    pub(super) fn nuget_subject(self) -> Subject {
        match self {
            Self::Name(id) => Subject::Nuget(id),
            Self::Guid(_) => Subject::Feed,
        }
    }
}

/// The GUID, lower case, when `text` has the form that the service writes.
pub(super) fn guid(text: &str) -> Option<String> {
    let guid = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED)?;
    Some(guid.hyphenated().to_string())
}

/// The GUID that must stand where `thing` is expected, in any spelling of .NET, written as the service does.
pub(super) fn required_guid(thing: &str, text: &str) -> Result<String, Unread> {
    let guid = Uuid::try_parse(text).ok().filter(|_| GUIDS.contains(&text.len()));
    let guid = guid.ok_or_else(|| malformed(thing, text, "a GUID"))?;
    Ok(guid.hyphenated().to_string())
}

/// A NuGet package by name or GUID.
pub(super) fn nuget_package(text: &str) -> Result<Named<NugetId>, Unread> {
    guid(text).map_or_else(|| nuget_id(text).map(Named::Name), |guid| Ok(Named::Guid(guid)))
}

/// A NuGet id.
pub(super) fn nuget_id(text: &str) -> Result<NugetId, Unread> {
    NugetId::parse(text)
        .map_err(|error| if text.is_ascii() { Unread::Malformed(error.to_string()) } else { Unread::Unknown })
}

/// A version of a NuGet package by name or GUID.
pub(super) fn nuget_package_version(text: &str) -> Result<Named<NugetVersion>, Unread> {
    // Asked first: `12345678-9abc-…` reads as the version 12345678.0.0 with labels, too.
    guid(text).map_or_else(|| nuget_version(text).map(Named::Name), |guid| Ok(Named::Guid(guid)))
}

/// A NuGet version, normalised.
pub(super) fn nuget_version(text: &str) -> Result<NugetVersion, Unread> {
    NugetVersion::parse(text).map_err(|error| Unread::Malformed(error.to_string()))
}

/// An npm package by name or GUID; `scope` with one `@` or two.
pub(super) fn npm_package(scope: Option<&str>, name: &str) -> Result<Named<NpmName>, Unread> {
    let whole = match (scope, guid(name)) {
        (None, Some(guid)) => return Ok(Named::Guid(guid)),
        (None, None) => name.to_owned(),
        // "Scope of the package, preceded by an @-symbol", says the seed, and its template has one already.
        (Some(scope), _) => {
            let once = scope.strip_prefix('@').unwrap_or(scope);
            format!("@{}/{name}", once.strip_prefix('@').unwrap_or(once))
        }
    };
    npm_name(&whole).map(Named::Name)
}

/// An npm name.
pub(super) fn npm_name(text: &str) -> Result<NpmName, Unread> {
    NpmName::parse(text).map_err(|error| Unread::Malformed(error.to_string()))
}

/// A version of an npm package by name or GUID; "dist-tags are not currently supported" (seed 000).
pub(super) fn npm_package_version(text: &str) -> Result<Named<&str>, Unread> {
    match guid(text) {
        Some(guid) => Ok(Named::Guid(guid)),
        None if is_npm_version(text) => Ok(Named::Name(text)),
        None => Err(malformed("npm version", text, "`number.number.number[-labels][+labels]` or a GUID")),
    }
}

/// Whether `text` is a version as npm writes them: three numbers, then labels (semver.org, items 2, 9, 10).
pub(super) fn is_npm_version(text: &str) -> bool {
    let (version, metadata) = text.split_once('+').map_or((text, None), |(text, after)| (text, Some(after)));
    let (numbers, labels) =
        version.split_once('-').map_or((version, None), |(text, after)| (text, Some(after)));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_label =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && labels.into_iter().chain(metadata).all(|labels| labels.split('.').all(is_label))
}

/// Whether `text` can be a dist-tag: what npm doesn't read as a range of versions, made of characters that need no
/// escape in a path, and none of the words that the registry begins with `-`, `_` or `.`.
pub(super) fn is_npm_tag(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.!'()".contains(&b);
    let word = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(allowed);
    word && !is_npm_range(text)
}

/// Whether npm reads a word as versions: `1`, `1.x`, `v2.0.0`, `x` (node-semver, "X-Ranges").
fn is_npm_range(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let is_part = |part: &str| {
        matches!(part, "x" | "X") || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    is_npm_version(text) || (text.split('.').count() <= 3 && text.split('.').all(is_part))
}

fn malformed(thing: &str, text: &str, rule: &str) -> Unread {
    let shown: String = text.chars().take(SHOWN).collect();
    Unread::Malformed(format!("{thing} {shown:?} is not {rule}"))
}

#[cfg(test)]
mod tests {
    use super::{guid, is_npm_tag, is_npm_version, npm_package, required_guid};

    const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

    #[test]
    fn versions_tags_and_ranges_of_npm_are_told_apart() {
        let versions = ["1.0.0", "0.0.0-0", "1.2.3-beta.1+x.y", "10.20.30", "1.0.0--", "01.0.0"];
        let tags = ["latest", "next-11", "beta", "2018-beta", "1.0-rc", "xyz", "vnext", "v", "release_1.x"];
        let neither = [
            "",
            "1",
            "1.2",
            "1.x",
            "x",
            "X.1",
            "1.X.x",
            "v1",
            "v1.2.3",
            "v1.2.3-a",
            "^1.0.0",
            "~1.2",
            ">=1",
            "*",
            "=1.0.0",
            "1.0.0 - 2",
            "a b",
            "-rev",
            "_x",
            ".x",
            "a||b",
            "näxt",
            "1.0.0+",
            "~",
            "a/b",
            "a%",
            "@a",
        ];
        let rows = versions.map(|text| (text, 'v')).into_iter().chain(tags.map(|text| (text, 't')));
        for (text, kind) in rows.chain(neither.map(|text| (text, '-'))) {
            let read = if is_npm_version(text) {
                'v'
            } else if is_npm_tag(text) {
                't'
            } else {
                '-'
            };
            assert_eq!(read, kind, "{text}");
        }
    }

    #[test]
    fn only_a_guid_that_must_be_one_may_be_without_hyphens() {
        let digits = GUID.replace('-', "");
        for text in [GUID, &GUID.to_uppercase(), &digits, &format!("{{{GUID}}}")] {
            assert_eq!(required_guid("id", text).as_deref(), Ok(GUID));
        }
        assert_eq!(guid(&GUID.to_uppercase()).as_deref(), Some(GUID));
        for text in [&digits, &format!("urn:uuid:{GUID}"), &GUID[1..], "a", ""] {
            assert_eq!(guid(text), None, "{text}");
        }
        for text in [&format!("urn:uuid:{GUID}"), &GUID[1..], "a", ""] {
            assert!(required_guid("id", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scope_has_one_at_sign_whether_it_came_with_one_or_two() {
        for scope in ["@s", "@@s"] {
            assert_eq!(npm_package(Some(scope), "n").unwrap().to_string(), "@s/n");
        }
        for scope in ["@", "@@", "@@@s", "@.s", "@s t", "@ä"] {
            assert!(npm_package(Some(scope), "n").is_err(), "{scope}");
        }
    }
}
