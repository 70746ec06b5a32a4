//! NuGet package ids and versions, normalised (facts §4.4).
//!
//! Two spellings of one version (`1.0`, `1.00.0.0+build`) become one value here, so that they are one key. There
//! is no order between versions: the gate never has to choose the newer one, the service's documents do.

use std::{fmt, sync::Arc};

/// The longest id, in characters (facts §4.4).
const MAX_NUGET_ID: usize = 100;
/// The longest version that is read, in bytes; far above what the service stores, it only bounds the work.
const MAX_NUGET_VERSION: usize = 256;

/// A NuGet package id, lower-cased.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NugetId(Arc<str>);

/// Why a text is not a [`NugetId`]: the text, cut to 120 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NuGet id {0:?} is not 1 to 100 ASCII letters, digits, `_`, `-` and inner `.`")]
pub struct NugetIdError(String);

/// A NuGet version in its normalised, lower-cased form (facts §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NugetVersion(Arc<str>);

/// Why a text is not a [`NugetVersion`]: the text, cut to 120 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NuGet version {0:?} is not `number[.number[.number[.number]]][-labels][+labels]`")]
pub struct NugetVersionError(String);

// === impl NugetId ===

impl NugetId {
    /// Checks a percent-decoded id and lower-cases it.
    ///
    /// Characters outside ASCII are refused before lower-casing, since some of them (the Kelvin sign) have an
    /// ASCII letter as their lower case and would meet another package.
    ///
    /// # Errors
    /// When the id is empty, longer than 100 characters, begins or ends with `.`, or has another character than
    /// ASCII letters, digits, `_`, `-` and `.`.
    pub fn parse(text: &str) -> Result<Self, NugetIdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let sound = (1..=MAX_NUGET_ID).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('.')
            && !text.ends_with('.');
        if !sound {
            return Err(NugetIdError(clip(text)));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The id, lower-cased.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NugetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl NugetVersion ===

impl NugetVersion {
    /// Checks a percent-decoded version and normalises it: numbers lose leading zeros, there are at least three
    /// of them, a fourth is kept only when it is not 0, build metadata is dropped, labels are lower-cased
    /// (facts §4.4).
    ///
    /// # Errors
    /// When there is no number or more than four, a number does not fit .NET's `int` (2147483647), a label is
    /// empty or has another character than ASCII letters, digits and `-`, or the text is longer than 256 bytes.
    pub fn parse(text: &str) -> Result<Self, NugetVersionError> {
        let normalised = normalise(text).ok_or_else(|| NugetVersionError(clip(text)))?;
        Ok(Self(normalised.into()))
    }

    /// The normalised version.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NugetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

fn normalise(text: &str) -> Option<String> {
    if text.len() > MAX_NUGET_VERSION {
        return None;
    }
    let (version, metadata) = optional_part(text, '+');
    let (numbers, labels) = optional_part(version, '-');
    if ![metadata, labels].into_iter().flatten().all(are_labels) {
        return None;
    }
    let mut normalised = normalise_numbers(numbers)?;
    if let Some(labels) = labels {
        normalised.push('-');
        normalised.push_str(&labels.to_ascii_lowercase());
    }
    Some(normalised)
}

/// Everything before the first `separator`, and what follows it if it is there.
fn optional_part(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn are_labels(text: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.split('.').all(is_label)
}

fn normalise_numbers(text: &str) -> Option<String> {
    let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    if numbers.len() > 4 {
        return None;
    }
    let part = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let revision = Some(part(3)).filter(|n| *n != 0).map_or(String::new(), |n| format!(".{n}"));
    Some(format!("{}.{}.{}{revision}", part(0), part(1), part(2)))
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| i32::try_from(*n).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::{NugetId, NugetVersion};

    #[test]
    fn an_id_is_lower_cased_and_stays_ascii() {
        let longest = "a".repeat(100);
        let good = [
            ("Newtonsoft.Json", "newtonsoft.json"),
            ("jQuery", "jquery"),
            ("My_Company-Tool.2", "my_company-tool.2"),
            ("a", "a"),
            ("-", "-"),
            (longest.as_str(), longest.as_str()),
        ];
        for (text, id) in good {
            assert_eq!(NugetId::parse(text).unwrap().as_str(), id);
        }
        let too_long = "a".repeat(101);
        let bad = [
            "",
            ".",
            "..",
            ".a",
            "a.",
            "a b",
            "a/b",
            "a\\b",
            "a%2fb",
            "a\0",
            "Äpfel",
            "\u{212A}elvin",
            "a+b",
        ];
        for text in bad.into_iter().chain([too_long.as_str()]) {
            assert!(NugetId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_is_normalised_by_the_rules_of_nuget() {
        let rows = [
            ("1.0.0", "1.0.0"),
            ("1", "1.0.0"),
            ("1.0", "1.0.0"),
            ("1.00", "1.0.0"),
            ("1.01.1", "1.1.1"),
            ("1.00.0.1", "1.0.0.1"),
            ("01.02.03", "1.2.3"),
            ("01.02.03.04", "1.2.3.4"),
            ("1.0.0.0", "1.0.0"),
            ("1.0.0.00", "1.0.0"),
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.0", "1.2.3"),
            ("1.2.3.0400", "1.2.3.400"),
            ("0", "0.0.0"),
            ("0.0.0.0", "0.0.0"),
            ("0.0.0.1", "0.0.0.1"),
            ("10.20.30", "10.20.30"),
            ("100.0", "100.0.0"),
            ("2147483647.0.0", "2147483647.0.0"),
            ("0000000000001.0.0", "1.0.0"),
            ("1.0.0-alpha", "1.0.0-alpha"),
            ("1.0.0-ALPHA", "1.0.0-alpha"),
            ("1.0.0-Beta.2", "1.0.0-beta.2"),
            ("1.0-RC1", "1.0.0-rc1"),
            ("1-rc", "1.0.0-rc"),
            ("1.0.0.0-beta", "1.0.0-beta"),
            ("1.0.0.5-beta", "1.0.0.5-beta"),
            ("1.0.0-01", "1.0.0-01"),
            ("1.0.0-beta.007", "1.0.0-beta.007"),
            ("1.0.0--", "1.0.0--"),
            ("1.0.0-a-b-c", "1.0.0-a-b-c"),
            ("1.0.0-x.Y.z.92", "1.0.0-x.y.z.92"),
            ("1.0.0+build", "1.0.0"),
            ("1.0.0+Build.5", "1.0.0"),
            ("1.0.0+sha-0a1b", "1.0.0"),
            ("1.0.0-rc.1+build.1", "1.0.0-rc.1"),
            ("1.0.0.0-RC.1+b-1", "1.0.0-rc.1"),
            ("1.0.0+a-b", "1.0.0"),
            ("2.0.0-ci.20260102T030405Z", "2.0.0-ci.20260102t030405z"),
            ("13.0.3", "13.0.3"),
            ("4.3.0-preview1-24530-04", "4.3.0-preview1-24530-04"),
        ];
        for (text, normalised) in rows {
            assert_eq!(NugetVersion::parse(text).unwrap().to_string(), normalised, "{text}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let too_long = format!("1.0.0-{}", "a".repeat(256));
        let rows = [
            "",
            ".",
            "1.",
            ".1",
            "1..0",
            "1.0.0.0.0",
            "v1.0.0",
            "a",
            "1.a",
            "-1.0",
            "+1.0",
            "1.+0.0",
            "1.0.0-",
            "1.0.0+",
            "1.0.0-+b",
            "1.0.0-a..b",
            "1.0.0-a.",
            "1.0.0-.a",
            "1.0.0-a_b",
            "1.0.0-ä",
            "1.0.0+a+b",
            "1.0.0+a..b",
            "1 .0",
            " 1.0.0",
            "1.0.0\n",
            "1.0.0/..",
            "1,0",
            "2147483648.0.0",
            "99999999999999999999",
            "١.٠",
            "index",
            "latest",
            "*",
            "[1.0,2.0)",
            too_long.as_str(),
        ];
        for text in rows {
            assert!(NugetVersion::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(
            text in r"[0-9]{1,11}(\.[0-9]{1,11}){0,4}(-[0-9A-Za-z.-]{1,12})?(\+[0-9A-Za-z.-]{1,8})?"
        ) {
            if let Ok(once) = NugetVersion::parse(&text) {
                prop_assert_eq!(NugetVersion::parse(once.as_str()), Ok(once));
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic_and_an_id_stays_as_it_is(text in ".{0,120}") {
            let _ = NugetVersion::parse(&text);
            if let Ok(id) = NugetId::parse(&text) {
                prop_assert_eq!(NugetId::parse(id.as_str()), Ok(id));
            }
        }
    }
}
