//! npm version ranges as advisories write them: comparators, `||` and `*`.
//!
//! No caret, tilde, hyphen or partial versions: whoever writes an advisory in a test can say it in comparators.

use super::version::compare;

const OPERATORS: [&str; 5] = [">=", "<=", ">", "<", "="];

/// Whether the version lies in the range, such as `>=1.0.0 <1.3.0 || 2.0.0`. Prereleases count like any version.
pub(crate) fn contains(range: &str, version: &str) -> bool {
    range.split("||").any(|alternative| {
        let mut alternative = alternative.to_owned();
        for operator in OPERATORS {
            alternative = alternative.replace(&format!("{operator} "), operator);
        }
        alternative.split_whitespace().all(|comparator| accepts(comparator, version))
    })
}

fn accepts(comparator: &str, version: &str) -> bool {
    let operator = OPERATORS.into_iter().find(|operator| comparator.starts_with(operator)).unwrap_or("");
    let order = compare(version, &comparator[operator.len()..]);
    match operator {
        ">=" => order.is_ge(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        _ => comparator == "*" || order.is_eq(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_the_versions_between_their_ends() {
        let rows = [
            ("*", "1.0.0", true),
            ("", "1.0.0", true),
            ("<1.3.0", "1.2.9", true),
            ("< 1.3.0", "1.3.0", false),
            ("<=1.3.0", "1.3.0", true),
            (">=1.0.0 <2.0.0", "1.9.0", true),
            (">=1.0.0 <2.0.0", "2.0.0", false),
            (">1.0.0-rc.1", "1.0.0", true),
            ("1.0.0 || =2.0.0", "2.0.0", true),
            ("1.0.0 || 2.0.0", "1.5.0", false),
        ];
        for (range, version, expected) in rows {
            assert_eq!(contains(range, version), expected, "{version} in {range}");
        }
    }
}
