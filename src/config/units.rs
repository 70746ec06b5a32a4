//! Values with their unit written: `64MiB`, `30s`. A bare number never means bytes or seconds.

use std::time::Duration;

/// Factors of sizes, largest first.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Factors of durations in milliseconds, largest first.
const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The rule that a size must follow, for error messages.
pub const SIZE_RULE: &str = "must be a whole number with a unit: B, KiB, MiB, GiB or TiB";
/// The rule that a duration must follow, for error messages.
pub const SPAN_RULE: &str = "must be a whole number with a unit: ms, s, m, h or d";

/// Reads a size in bytes such as `64MiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// Reads a duration such as `30s`.
pub fn parse_span(text: &str) -> Option<Duration> {
    parse(text, &SPANS).map(Duration::from_millis)
}

/// Writes a size with the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    format(bytes, &SIZES)
}

/// Writes a duration with the largest unit that divides it (down to milliseconds).
pub fn format_span(span: Duration) -> String {
    format(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), &SPANS)
}

/// Writes a size for people, with one decimal, rounded down.
pub fn rough_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Writes seconds for people: the two largest units.
pub fn rough_span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d {}h", hours % 24),
        () if hours > 0 => format!("{hours}h {}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn format(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |factor: u64| value >= factor && value.is_multiple_of(factor);
    let smallest = units.iter().min_by_key(|(_, factor)| *factor);
    let unit = units.iter().find(|(_, factor)| fits(*factor)).or(smallest);
    unit.map_or_else(String::new, |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::{format_size, format_span, parse_size, parse_span};
    use std::time::Duration;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0B", "1B", "1KiB", "1536B", "64MiB", "20GiB", "3TiB"] {
            assert_eq!(parse_size(text).map(format_size).as_deref(), Some(text));
        }
        for text in ["0ms", "1500ms", "30s", "90s", "5m", "7d", "25h"] {
            assert_eq!(parse_span(text).map(format_span).as_deref(), Some(text));
        }
        assert_eq!(parse_span("2m"), Some(Duration::from_secs(120)));
    }

    #[test]
    fn a_number_without_unit_or_past_the_range_is_refused() {
        for text in ["", "10", "MiB", "-1s", "1.5s", "1 s", "1mb", "99999999999TiB"] {
            assert_eq!((parse_size(text), parse_span(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn what_people_read_is_rounded_down() {
        for (bytes, text) in [(0, "0 B"), (1024, "1.0 KiB"), (1_048_575, "1023.9 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(super::rough_size(bytes), text);
        }
        for (seconds, text) in [(0, "0s"), (61, "1m 1s"), (7_260, "2h 1m"), (176_400, "2d 1h")] {
            assert_eq!(super::rough_span(seconds), text);
        }
    }
}
