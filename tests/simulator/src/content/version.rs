//! Ordering and normal forms of version texts: enough to choose `latest` and to sort a registration.
//!
//! Not a validator: a text that is no version sorts somewhere, it is never refused.

use std::cmp::Ordering;

/// SemVer 2.0 §11 precedence; also used for NuGet, whose fourth number simply counts as one more part.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let (left_core, left_labels) = split(left);
    let (right_core, right_labels) = split(right);
    compare_core(left_core, right_core).then_with(|| match (left_labels, right_labels) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => compare_labels(left, right),
    })
}

/// Whether the version carries a prerelease label.
pub(crate) fn is_prerelease(version: &str) -> bool {
    split(version).1.is_some()
}

/// NuGet's normalised, lower-case form as it stands in URLs (facts §4.4).
pub(crate) fn nuget_normalised(version: &str) -> String {
    nuget_displayed(version).to_ascii_lowercase()
}

/// NuGet's normalised form with the label as its author spells it (facts §4.4): at least three numbers without
/// leading zeros, a fourth only if it is not zero, no build metadata.
pub(crate) fn nuget_displayed(version: &str) -> String {
    let (core, labels) = split(version);
    let mut numbers: Vec<&str> = core.split('.').map(strip_zeros).collect();
    numbers.resize(numbers.len().max(3), "0");
    if numbers.len() == 4 && numbers[3] == "0" {
        numbers.truncate(3);
    }
    let core = numbers.join(".");
    labels.map_or(core.clone(), |labels| format!("{core}-{labels}"))
}

fn split(version: &str) -> (&str, Option<&str>) {
    let version = version.split('+').next().unwrap_or_default();
    version.split_once('-').map_or((version, None), |(core, labels)| (core, Some(labels)))
}

fn compare_core(left: &str, right: &str) -> Ordering {
    let number = |part: Option<&str>| part.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    (0..4)
        .map(|_| number(left.next()).cmp(&number(right.next())))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn compare_labels(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => compare_label(left, right),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn compare_label(left: &str, right: &str) -> Ordering {
    match (left.parse::<u64>(), right.parse::<u64>()) {
        (Ok(left), Ok(right)) => left.cmp(&right),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => left.cmp(right),
    }
}

fn strip_zeros(number: &str) -> &str {
    let stripped = number.trim_start_matches('0');
    if stripped.is_empty() { "0" } else { stripped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_precedence() {
        let sorted =
            ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.0.0.1", "1.2.0", "1.10.0"];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn nuget_versions_are_normalised() {
        let rows = [("1.0", "1.0.0"), ("1.01.1", "1.1.1"), ("1.0.0.0", "1.0.0"), ("1.2.3.4", "1.2.3.4")];
        let more = [("1.0.0-RC.1+build", "1.0.0-rc.1"), ("2", "2.0.0")];
        for (given, expected) in rows.into_iter().chain(more) {
            assert_eq!(nuget_normalised(given), expected);
        }
        assert_eq!(nuget_displayed("1.0-RC.1+build"), "1.0.0-RC.1");
    }
}
